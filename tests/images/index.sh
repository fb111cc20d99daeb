#!/bin/sh
# Two indexes over images that are in the registry already:  index.sh REGISTRY WORKSHOP
#   index:latest   busybox for the machine's Linux, the guest for wasi/wasm
#   index:foreign  busybox, said to be for platforms that nobody here has
set -eu
registry=$1 work=$2
type=application/vnd.oci.image.manifest.v1+json
machine=$(uname -m)
case $machine in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; esac

skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$registry/busybox:latest" "docker://$registry/index:linux"
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false --override-os wasi --override-arch wasm \
    "docker://$registry/guest:wasm" "docker://$registry/index:wasm"

entry() { # TAG OS ARCHITECTURE
    curl -fsS -H "Accept: $type" -o "$work/manifest" "http://$registry/v2/index/manifests/$1"
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%s,"platform":{"os":"%s","architecture":"%s"}}' \
        "$type" "$(sha256sum "$work/manifest" | cut -d' ' -f1)" "$(stat -c %s "$work/manifest")" "$2" "$3"
}
index() { # TAG ENTRIES
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}' "$2" >"$work/index"
    curl -fsS -X PUT -H 'Content-Type: application/vnd.oci.image.index.v1+json' --data-binary "@$work/index" \
        -o /dev/null "http://$registry/v2/index/manifests/$1"
}
index latest "$(entry linux linux "$machine"),$(entry wasm wasi wasm)"
index foreign "$(entry linux linux s390x),$(entry linux plan9 386)"
