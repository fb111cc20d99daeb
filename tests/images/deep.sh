#!/bin/sh
# busybox below five hundred layers, each with one file of its own and one that all of them write:  deep.sh REGISTRY WORKSHOP
# Written by hand, as an OCI layout: image builders squash or refuse so many.
set -eu
registry=$1 work=$2 layers=500
blobs=$work/layout/blobs/sha256
mkdir -p "$blobs" "$work/tree/bin" "$work/one/many"

# Moves a file to its place by its digest, which it prints.
store() {
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    mv "$1" "$blobs/$digest"
    echo "$digest"
}
descriptor() { printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$1" "$2" "$(stat -c %s "$blobs/$2")"; }

cp "$(command -v busybox)" "$work/tree/bin/busybox"
for applet in sh cat ls true wc; do ln -s busybox "$work/tree/bin/$applet"; done
diff_ids='' descriptors=''
add() {
    diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
    gzip -1 -n "$work/layer.tar"
    blob=$(store "$work/layer.tar.gz")
    diff_ids="$diff_ids${diff_ids:+,}\"sha256:$diff\""
    descriptors="$descriptors${descriptors:+,}$(descriptor application/vnd.oci.image.layer.v1.tar+gzip "$blob")"
}
tar -C "$work/tree" --owner=0 --group=0 -cf "$work/layer.tar" bin
add
number=1
while [ $number -le $layers ]; do
    rm -rf "$work/one/many"/*
    echo $number >"$work/one/many/$number"
    echo $number >"$work/one/last"
    tar -C "$work/one" --owner=0 --group=0 -cf "$work/layer.tar" many last
    add
    number=$((number + 1))
done
machine=$(uname -m)
case $machine in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; esac
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "$machine" "$diff_ids" >"$work/config"
config=$(store "$work/config")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
    "$(descriptor application/vnd.oci.image.config.v1+json "$config")" "$descriptors" >"$work/manifest"
manifest=$(store "$work/manifest")
printf '{"schemaVersion":2,"manifests":[%s]}' "$(descriptor application/vnd.oci.image.manifest.v1+json "$manifest")" \
    >"$work/layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"

skopeo copy -q --dest-tls-verify=false "oci:$work/layout" "docker://$registry/deep:latest"
rm -rf "$work/layout"
