#!/bin/sh
# save, load and commit of one image, in turns with other tools:  benches/archive.sh WHERRY [FOLDER] [ROUNDS]
#   makes an image of 4 gzip layers from this machine's /usr, about 200 MB, then in each round
#     save   wherry save -o FILE · podman save (docker-archive) · skopeo copy to an oci-archive
#     load   wherry load -i FILE · podman load, each into an empty store, layers unpacked
#   docker takes part if `docker version` finds a daemon. Prints the best of all rounds in seconds; what is cached stays so.
set -eu
wherry=${1:?the binary to measure} work=${2:-$(mktemp -d)} rounds=${3:-3}
mkdir -p "$work"
now() { date +%s.%N; }
best() { sort -n "$work/$1.times" | head -1; }

# timed NAME COMMAND…
timed() {
    name=$1; shift
    start=$(now)
    "$@" >/dev/null 2>"$work/error" || { echo "$name failed:"; cat "$work/error"; exit 1; }
    awk -v a="$start" -v b="$(now)" 'BEGIN { printf "%.2f\n", b - a }' >>"$work/$name.times"
}

export WHERRY_ROOT="$work/wherry" WHERRY_RUN_ROOT="$work/run"
# A short path: podman insists on one for its sockets.
runroot=$(mktemp -d /tmp/bench-XXXXXX)
podman_() { podman --root "$work/podman" --runroot "$runroot" --storage-driver overlay "$@"; }
empty() { rm -rf "$WHERRY_ROOT" "$WHERRY_RUN_ROOT"; podman_ rmi -af >/dev/null 2>&1 || true; }
trap 'empty; podman_ system reset -f >/dev/null 2>&1 || true; rm -rf "$work" "$runroot"' EXIT

image=$work/layout:bench
umoci init --layout "$work/layout"
umoci new --image "$image"
for part in share lib/python3 include lib/x86_64-linux-gnu; do
    [ -d "/usr/$part" ] || continue
    tar -C /usr -cf - "$part" 2>/dev/null | head -c 160000000 >"$work/part.tar"
    rm -rf "$work/part" && mkdir "$work/part"
    tar -C "$work/part" -xf "$work/part.tar" 2>/dev/null || true # cut off in the middle of a file
    umoci insert --image "$image" "$work/part" "/$part"
done
rm -rf "$work/part" "$work/part.tar"
skopeo copy -q "oci:$image" "oci-archive:$work/image.tar:bench/archive:1"
ls -l "$work/image.tar" | awk '{ print "image:", int($5 / 1000000), "MB" }'

rm -f "$work"/*.times
for _ in $(seq "$rounds"); do
    empty
    timed load-wherry "$wherry" load -i "$work/image.tar"
    timed load-podman podman_ load -q -i "$work/image.tar"
    timed save-wherry "$wherry" save -o "$work/w.tar" bench/archive:1
    rm -f "$work/p.tar" "$work/s.tar"
    timed save-podman podman_ save -q -o "$work/p.tar" "$(podman_ images -q | head -1)"
    timed save-skopeo skopeo copy -q "oci:$image" "oci-archive:$work/s.tar:x"
    if docker version >/dev/null 2>&1; then
        docker rmi -f bench/archive:1 >/dev/null 2>&1 || true
        timed load-docker docker load -i "$work/w.tar"
        timed save-docker docker save -o "$work/d.tar" bench/archive:1
    fi
done
for times in "$work"/*.times; do
    name=$(basename "$times" .times)
    echo "$name $(best "$name")"
done
