#!/bin/sh
# The Wasm test guest, as an ordinary image for wasi/wasm and as a CNCF artifact:  wasm.sh REGISTRY WORKSHOP
set -eu
registry=$1 work=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
image=$work/layout:wasm

clang --target=wasm32-wasi -O2 -Wall -Werror -o "$work/guest.wasm" "$here/guest.c"
umoci init --layout "$work/layout"
umoci new --image "$image"
umoci insert --image "$image" "$work/guest.wasm" /guest.wasm
umoci config --image "$image" --os wasi --architecture wasm \
    --config.entrypoint /guest.wasm --config.cmd args --config.env GREETING=hello

skopeo copy -q --dest-tls-verify=false "oci:$image" "docker://$registry/guest:wasm"
"$here/../../examples/wasm-hello/push-artifact.sh" "$work/guest.wasm" "$registry" guest artifact
