#!/bin/sh
# busybox in three layers, pushed with gzip and with zstd layers:  busybox.sh REGISTRY WORKSHOP
#   1  every applet as a link, users, a file of 2 MB, setuid and sticky bits
#   2  files for the third to hide
#   3  deletes /data/gone, hides all of /opaque but what it brings, replaces /data/changed
set -eu
registry=$1 work=$2
image=$work/layout:base
busybox=$(command -v busybox)

umoci init --layout "$work/layout"
umoci new --image "$image"
umoci unpack --image "$image" "$work/bundle" >/dev/null
root=$work/bundle/rootfs

mkdir -p "$root/bin" "$root/etc" "$root/root" "$root/home/ada" "$root/tmp" "$root/data" "$root/opaque" "$root/usr/bin"
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ -e "$root/bin/$applet" ] || ln "$root/bin/busybox" "$root/bin/$applet"
done
cat >"$root/etc/passwd" <<'EOF'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
ada:x:1000:1000:Ada:/home/ada:/bin/sh
EOF
cat >"$root/etc/group" <<'EOF'
root:x:0:
daemon:x:1:
ada:x:1000:
staff:x:50:ada
video:x:44:ada,root
EOF
chown 1000:1000 "$root/home/ada"
chmod 1777 "$root/tmp"
echo 'not a program' >"$root/etc/not-executable"
printf '#!/bin/no-such-interpreter\n' >"$root/usr/bin/orphan-script" && chmod 755 "$root/usr/bin/orphan-script"
cp "$busybox" "$root/usr/bin/setuid-id" && chmod 4755 "$root/usr/bin/setuid-id"
head -c 2000000 /dev/zero >"$root/data/zeroes"
umoci repack --image "$image" --refresh-bundle "$work/bundle"

for name in keep gone changed; do echo "$name of layer 2" >"$root/data/$name"; done
echo 'of layer 2' >"$root/opaque/old"
mkdir "$root/opaque/folder" && echo 'of layer 2' >"$root/opaque/folder/deep"
umoci repack --image "$image" --refresh-bundle "$work/bundle"

rm "$root/data/gone"
echo 'changed of layer 3' >"$root/data/changed"
umoci repack --image "$image" --refresh-bundle "$work/bundle"
mkdir "$work/opaque" && echo 'of layer 3' >"$work/opaque/new"
umoci insert --image "$image" --opaque "$work/opaque" /opaque
umoci config --image "$image" --config.env PATH=/bin:/usr/bin --config.env GREETING=hello --config.cmd sh \
    --config.label org.example.story=busybox
rm -rf "$work/bundle"

skopeo copy -q --dest-tls-verify=false "oci:$image" "docker://$registry/busybox:latest"

# skopeo would answer with the gzip layers that it knows to be in the registry, so the zstd ones go up by hand.
skopeo copy -q --dest-decompress "oci:$image" "dir:$work/plain"
skopeo copy -q --dest-compress --dest-compress-format zstd "dir:$work/plain" "dir:$work/zstd"
base=http://$registry/v2/busybox
for blob in "$work"/zstd/*; do
    name=$(basename "$blob")
    [ ${#name} = 64 ] || continue
    session=$(curl -fsS -X POST -D - -o /dev/null "$base/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$blob" -o /dev/null "$session&digest=sha256:$name"
done
curl -fsS -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary "@$work/zstd/manifest.json" \
    -o /dev/null "$base/manifests/zstd"
