#!/bin/sh
# A Debian of more than 100 MB, made by debootstrap, in four layers:  debian.sh REGISTRY WORKSHOP
# The bootstrapped tree is kept beside the workshop: it takes a minute and does not depend on this script.
set -eu
registry=$1 work=$2
image=$work/layout:latest
cache=$(dirname "$(dirname "$work")")/debian-bookworm.tar
PATH=$PATH:/usr/sbin:/sbin

if [ ! -f "$cache" ]; then
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f $keyring ] && check="--keyring=$keyring" || check=--no-check-gpg
    debootstrap --variant=minbase "$check" bookworm "$work/tree" >"$work/debootstrap.log" 2>&1 ||
        { tail -5 "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work"/tree/var/cache/apt/archives/*.deb "$work"/tree/var/lib/apt/lists/*
    tar -C "$work/tree" --xattrs --numeric-owner -cf "$cache.part" .
    mv "$cache.part" "$cache"
    rm -rf "$work/tree"
fi
[ "$(stat -c %s "$cache")" -gt 100000000 ] || { echo "the tree has less than 100 MB" >&2; exit 1; }

umoci init --layout "$work/layout"
umoci new --image "$image"
umoci unpack --image "$image" "$work/bundle" >/dev/null
root=$work/bundle/rootfs
extract() { tar -C "$root" --xattrs --numeric-owner -xf "$cache" "$@"; }

extract --exclude './usr/share/*' --exclude './var/*' --exclude './dev/*'
umoci repack --image "$image" --refresh-bundle "$work/bundle"
extract ./usr/share
umoci repack --image "$image" --refresh-bundle "$work/bundle"
extract ./var ./dev
umoci repack --image "$image" --refresh-bundle "$work/bundle"
rm -rf "$root/usr/share/doc" "$root/usr/share/locale"
umoci repack --image "$image" "$work/bundle"
umoci config --image "$image" --config.cmd bash \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
rm -rf "$work/bundle"

skopeo copy -q --dest-tls-verify=false "oci:$image" "docker://$registry/debian:latest"
rm -rf "$work/layout"
