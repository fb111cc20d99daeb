#!/bin/sh
# One image with everything that a layer can say, pushed in every form that a registry holds:  trips.sh REGISTRY WORKSHOP
#   trips:gzip  trips:schema2  trips:plain  trips:zstd
# What umoci makes of it is in WORKSHOP/bundle/rootfs, the image itself in WORKSHOP/layout:gzip.
set -eu
registry=$1 work=$2
image=$work/layout:gzip
busybox=$(command -v busybox)
attribute() { python3 -c 'import os, sys; os.setxattr(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), follow_symlinks=False)' "$@"; }

umoci init --layout "$work/layout"
umoci new --image "$image"
umoci unpack --image "$image" "$work/first" >/dev/null
root=$work/first/rootfs
data=$root/data
mkdir -p "$root/bin" "$root/etc" "$data/deep/er" "$data/shared" "$data/hidden/below" "$data/empty"
cp "$busybox" "$root/bin/busybox"
for applet in sh echo cat grep; do ln "$root/bin/busybox" "$root/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada:/:/bin/sh\n' >"$root/etc/passwd"

echo foreign >"$data/foreign" && chown 1234:5678 "$data/foreign" && chmod 640 "$data/foreign"
echo far >"$data/far" && chown 2000000:4000000 "$data/far"
cp "$busybox" "$data/busybox-capped" && attribute "$data/busybox-capped" security.capability 0100000200200000000000000000000000000000
echo noted >"$data/noted" && attribute "$data/noted" user.note 6120623d630a00
attribute "$data/deep" user.folder 31
echo setuid >"$data/setuid" && chown 0:50 "$data/setuid" && chmod 6755 "$data/setuid"
chmod 1777 "$data/shared" && chown 7:8 "$data/deep/er"
echo one >"$data/one" && ln "$data/one" "$data/deep/two" && ln "$data/one" "$data/deep/er/three"
ln -s /etc/passwd "$data/absolute" && ln -s ../../one "$data/deep/er/relative" && ln -s nowhere "$data/dangling"
mkfifo "$data/fifo" && mknod "$data/null" c 1 3 && mknod "$data/block" b 7 0
truncate -s 300000 "$data/hole" && echo end >>"$data/hole"
: >"$data/nothing"
echo long >"$data/$(printf '%0200d' 7)"
echo 'ü' >"$data/näme with  spaces"
touch -h -d '2001-02-03 04:05:06.789' "$data/foreign" "$data/dangling" && touch -d 1960-01-01 "$data/far"
for name in gone changed hidden/old hidden/below/older becomes-a-folder; do echo below >"$data/$name"; done
mkdir "$data/gone-folder" && echo below >"$data/gone-folder/file"
umoci repack --image "$image" --refresh-bundle "$work/first"

rm -r "$data/gone" "$data/gone-folder" "$data/becomes-a-folder"
mkdir "$data/becomes-a-folder" && echo above >"$data/becomes-a-folder/file" && echo above >"$data/changed" && chmod 4711 "$data/one"
umoci repack --image "$image" --refresh-bundle "$work/first"
mkdir "$work/opaque" && echo above >"$work/opaque/new"
umoci insert --image "$image" --opaque "$work/opaque" /data/hidden
# Each of these is a step of the history without a layer.
umoci config --image "$image" --config.env PATH=/bin --config.cmd sh --history.comment 'no layer'
umoci config --image "$image" --config.label org.example.story=trips --config.exposedports 80/tcp --config.stopsignal SIGINT
umoci unpack --image "$image" "$work/bundle" >/dev/null
rm -r "$work/first"

push() { skopeo copy -q --preserve-digests --dest-tls-verify=false "$1" "docker://$registry/trips:$2"; }
push "oci:$image" gzip
skopeo copy -q --format v2s2 "oci:$image" "dir:$work/schema2" && push "dir:$work/schema2" schema2
skopeo copy -q --dest-decompress "oci:$image" "dir:$work/plain" && push "dir:$work/plain" plain
skopeo copy -q --dest-compress --dest-compress-format zstd "dir:$work/plain" "dir:$work/zstd" && push "dir:$work/zstd" zstd
rm -r "$work/schema2" "$work/plain" "$work/zstd" "$work/opaque"
