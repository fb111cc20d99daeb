#!/bin/sh
# The distribution's kernel for virtual machines, unpacked and not installed:  kernel.sh DIRECTORY
#   DIRECTORY/vmlinuz        the kernel
#   DIRECTORY/{loop,…}.ko    the modules that the tests need
# Debian calls it linux-image-cloud-amd64 and Ubuntu linux-image-virtual; both names stand for the package of a version,
# and on Ubuntu the modules are in one more.
set -eu
place=$1
command -v apt-get >/dev/null || { echo "no apt-get here to fetch a kernel with" >&2; exit 1; }

# The packages of the newest version, by the meta package's dependencies.
packages() {
    for meta in linux-image-cloud-amd64 linux-image-virtual; do
        apt-cache depends --recurse --important --no-recommends "$meta" 2>/dev/null |
            grep -E '^linux-(image|modules)-[0-9]' && return
    done
    return 1
}

download=$(mktemp -d "$place.XXXXXX")
trap 'rm -rf "$download"' EXIT
cd "$download"
fetch() { found=$(packages) && apt-get -o APT::Sandbox::User=root download -qq $found; }
# The lists of packages may be missing, or name a version that has been replaced.
fetch 2>/dev/null || { apt-get update -qq && fetch; }
for package in *.deb; do dpkg -x "$package" tree; done

mkdir made
cp tree/boot/vmlinuz-* made/vmlinuz
for module in loop; do
    file=$(find tree -name "$module.ko*")
    case $file in
        *.ko) cp "$file" made ;;
        *.xz) xz -dc "$file" >"made/$module.ko" ;;
        *.zst) zstd -qdc "$file" >"made/$module.ko" ;;
        # It is built in.
        '') ;;
        *) echo "cannot unpack $file" >&2; exit 1 ;;
    esac
done
mv made "$place"
