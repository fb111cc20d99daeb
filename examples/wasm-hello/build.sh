#!/bin/sh
# Compiles the Wasm example and wraps it as an ordinary image for the platform wasi/wasm:  build.sh LAYOUT:TAG
# The module itself is left beside the layout, as hello.wasm.
set -eu
image=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
module=$(dirname -- "${image%:*}")/hello.wasm

clang --target=wasm32-wasi -O2 -o "$module" "$here/hello.c"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Without root, umoci records the file as root's all the same.
[ "$(id -u)" = 0 ] && rootless='' || rootless=--rootless

[ -d "${image%:*}" ] || umoci init --layout "${image%:*}"
umoci new --image "$image"
umoci unpack $rootless --image "$image" "$work/bundle" >/dev/null
install -m 755 "$module" "$work/bundle/rootfs/hello.wasm"
umoci repack --image "$image" "$work/bundle"
umoci config --image "$image" --os wasi --architecture wasm \
    --config.entrypoint /hello.wasm --config.cmd world
