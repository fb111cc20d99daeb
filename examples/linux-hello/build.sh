#!/bin/sh
# Builds the Linux example image into an OCI image layout:  build.sh LAYOUT:TAG
# Two layers, made by umoci from the host's static busybox: nothing is fetched.
set -eu
image=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
busybox=$(command -v busybox)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Without root, umoci records the files as root's all the same.
[ "$(id -u)" = 0 ] && rootless='' || rootless=--rootless

[ -d "${image%:*}" ] || umoci init --layout "${image%:*}"
umoci new --image "$image"
umoci unpack $rootless --image "$image" "$work/bundle" >/dev/null
rootfs=$work/bundle/rootfs

mkdir -p "$rootfs/bin" "$rootfs/etc" "$rootfs/root" "$rootfs/tmp"
chmod 1777 "$rootfs/tmp"
cp "$busybox" "$rootfs/bin/busybox"
for applet in $("$busybox" --list); do
    [ -e "$rootfs/bin/$applet" ] || ln -s busybox "$rootfs/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$rootfs/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$rootfs/etc/group"
umoci repack --image "$image" --refresh-bundle "$work/bundle"

install -m 755 "$here/hello.sh" "$rootfs/bin/hello"
umoci repack --image "$image" "$work/bundle"
umoci config --image "$image" --config.env PATH=/bin --config.entrypoint /bin/hello --config.cmd world
