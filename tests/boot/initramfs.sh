#!/bin/sh
# The machine's file tree and the archive that the kernel unpacks:  initramfs.sh WHERRY KERNEL BUNDLES ARCHIVE
# busybox, the libraries of a dynamic wherry, a root filesystem for containers, the modules and what is in this folder.
set -eu
wherry=$1 kernel=$2 bundles=$3 archive=$4
here=$(dirname "$0")
busybox=$(command -v busybox)
root=$(mktemp -d "$archive.XXXXXX")
trap 'rm -rf "$root"' EXIT

# DIRECTORY gets a busybox with all of its applets.
applets() {
    mkdir -p "$1"
    cp "$busybox" "$1/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/$applet"
    done
}

applets "$root/bin"
for folder in proc sys dev run tmp etc new; do mkdir "$root/$folder"; done
strip -o "$root/bin/wherry" "$wherry"
# A static binary has none.
for library in $(ldd "$wherry" | grep -o '/[^ ]*' || true); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
mkdir "$root/modules"
cp "$kernel"/*.ko "$root/modules/" 2>/dev/null || true
cp -R "$bundles" "$root/bundles"
cp "$here/init" "$root/init"
cp -R "$here/cases" "$here/check.sh" "$root/"
printf 'root:x:0:0:root:/:/bin/sh\nada:x:1000:1000:Ada:/:/bin/sh\n' >"$root/etc/passwd"

applets "$root/rootfs/bin"
for folder in proc sys dev tmp etc; do mkdir "$root/rootfs/$folder"; done
cp "$root/etc/passwd" "$root/rootfs/etc/"

cd "$root"
find . | busybox cpio -o -H newc -R 0:0 >"$archive" 2>/dev/null
