#!/usr/bin/env bash
# Images as files: save and load of a large image, in turn with docker, podman, skopeo and containerd's ctr.
#
#   benches/archive.sh [ROUNDS]     after .ci/release; as root, on a machine that does nothing else; see images.sh for the variables
#
# What an archive has in it differs, and so does the work. wherry and ctr write blobs as they were pulled, one archive for both formats;
# docker and `podman save` make the layers' archives again and leave them uncompressed; podman's and skopeo's oci-archive are compressed
# (podman compresses again, skopeo copies). Load means that the image can be run then: layers are unpacked; skopeo only copies into a
# directory. `synced` counts until it is on the disk, which wherry sees to by itself; the floors are cp and tar, and the same synced.
source "$(dirname "$0")/images.sh"
rounds=${1:-5}
name=bench.example/bench:big
archive=$work/out.tar

save_wherry() { measured "$1" wherry "${wherry[@]}" save -o "$archive" "$name"; }
save_docker() { measured "$1" docker "${docker[@]}" save -o "$archive" "$name"; }
save_podman() { measured "$1" podman "${podman[@]}" save -q -o "$archive" "$name"; }
save_podman_oci() { measured "$1" podman_oci "${podman[@]}" save -q --format oci-archive -o "$archive" "$name"; }
save_skopeo_oci() { measured "$1" skopeo_oci "${skopeo[@]}" copy -q "$oci:big" "oci-archive:$archive:$name"; }
save_skopeo() { measured "$1" skopeo "${skopeo[@]}" copy -q "$oci:big" "docker-archive:$archive:$name"; }
save_ctr() { measured "$1" ctr "${ctr[@]}" images export "$archive" "$name"; }
save_cp() { measured "$1" cp cp -r "$work/image/blobs" "$archive"; }

# load_X CASE FILE, into a store that has nothing of it.
clear_wherry() { rm -rf --one-file-system "$work/wherry" "$work/wherry-run"; }
load_wherry() { measured "$1" wherry "${wherry[@]}" load -q -i "$2"; }
clear_docker() { "${docker[@]}" rmi -f "$name"; }
load_docker() { measured "$1" docker "${docker[@]}" load -q -i "$2"; }
clear_podman() { "${podman[@]}" rmi -af; }
load_podman() { measured "$1" podman "${podman[@]}" load -q -i "$2"; }
clear_ctr() { "${ctr[@]}" images rm --sync "$name"; "${ctr[@]}" content prune references; }
load_ctr() { measured "$1" ctr "${ctr[@]}" images import "$2"; }
clear_skopeo() { rm -rf --one-file-system "$work/copied"; }
load_skopeo() { measured "$1" skopeo "${skopeo[@]}" copy -q "${1#load-}-archive:$2" "dir:$work/copied"; }
clear_tar() { rm -rf --one-file-system "$work/unpacked"; }
load_tar() { measured "$1" tar bash -c "$unpack" tar "$2"; }
unpack='
    mkdir -p '"$work"'/unpacked/archive
    cd '"$work"'/unpacked
    tar -C archive -xf "$1"
    layers=$(jq -r ".[0].Layers[]" archive/manifest.json 2>/dev/null || find archive/blobs -size +1M)
    printf "%s\n" $layers | sed "s|^archive/||" | xargs -P 2 -I {} sh -c "mkdir -p unpacked/{}.d; tar -C unpacked/{}.d -xf archive/{}"'

contenders=(wherry) oci_savers=(wherry) docker_savers=(wherry skopeo)
if command -v podman >/dev/null; then
    contenders+=(podman)
    oci_savers+=(podman_oci)
    docker_savers+=(podman)
fi
oci_savers+=(skopeo_oci)
if [ -n "${PEERS:-}" ]; then
    contenders+=(docker ctr)
    docker_savers+=(docker)
    oci_savers+=(ctr)
fi
savers=("${oci_savers[@]}" "${docker_savers[@]:1}" cp)

# The archives that all of them load: of blobs as they are, which wherry makes because docker wants its own list beside the index, and of
# layers without compression, as docker saves them.
skopeo copy -q "$oci:big" "oci-archive:$archive:$name"
"${wherry[@]}" load -q -i "$archive" >/dev/null
"${wherry[@]}" save -o "$work/oci.tar" "$name"
skopeo copy -q "$oci:big" "docker-archive:$work/docker.tar:$name"

cleared() {
    "clear_$1" >/dev/null 2>&1 || true
    sync -f "$work"
    sleep "$settle"
}

machine "$rounds"
for _ in $(seq "$rounds"); do
    for format in docker oci; do
        for contender in "${contenders[@]}" skopeo tar; do
            cleared "$contender"
            SYNCED=1 "load_$contender" "load-$format" "$work/$format.tar"
        done
    done
    clear_skopeo
    clear_tar
    for synced in "" 1; do
        for contender in "${savers[@]}"; do
            rm -rf --one-file-system "$archive"
            sync -f "$work"
            sleep 1
            SYNCED=$synced "save_$contender" "save$synced"
        done
    done
done
FLOORS="cp" table save 'save, until the command has ended'
FLOORS="cp" table save1 'save, until it is on the disk'
FLOORS="tar skopeo" table load-oci "load of an OCI archive of $(($(stat -c %s "$work/oci.tar") / 1000000)) MB, until it is on the disk"
FLOORS="tar skopeo" table load-docker "load of a Docker archive of $(($(stat -c %s "$work/docker.tar") / 1000000)) MB, until it is on the disk"
