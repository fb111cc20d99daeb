#!/usr/bin/env bash
# A cold pull of a large image, a pull with nothing new, and a small image, beside docker, podman, containerd and skopeo, in turn.
#
#   benches/pull.sh [ROUNDS]        after .ci/release; as root, on a machine that does nothing else; see images.sh for the variables
#
# The floors are what no engine can go below: the bytes fetched and hashed (`fetch`), and inflated, hashed and unpacked by igzip and tar, two
# layers at a time (`unpack`).
source "$(dirname "$0")/images.sh"
rounds=${1:-5}
empty_registry
for tag in big one; do
    skopeo copy -q --dest-tls-verify=false "$oci:$tag" "docker://$host/bench:$tag"
done
big=$host/bench:big small=$host/bench:one

# ---- contenders: `pull_X CASE IMAGE` is measured, `clear_X` comes before it ----

clear_wherry() { rm -rf --one-file-system "$work/wherry" "$work/wherry-run"; }
pull_wherry() { measured "$1" wherry "${wherry[@]}" pull -q "$2"; }
clear_podman() { "${podman[@]}" rmi -af; }
pull_podman() { measured "$1" podman "${podman[@]}" pull -q --tls-verify=false "$2"; }
clear_skopeo() { rm -rf --one-file-system "$work/copied"; }
pull_skopeo() { measured "$1" skopeo "${skopeo[@]}" copy -q --src-tls-verify=false "docker://$2" "dir:$work/copied"; }
clear_docker() { "${docker[@]}" rmi -f "$big" "$small"; }
pull_docker() { measured "$1" docker "${docker[@]}" pull -q "$2"; }
clear_ctr() { "${ctr[@]}" images rm --sync "$big" "$small"; "${ctr[@]}" content prune references; }
pull_ctr() { measured "$1" ctr "${ctr[@]}" images pull --plain-http "$2"; }

manifest_type='Accept: application/vnd.oci.image.manifest.v1+json'
layers="curl -fs -H '$manifest_type' http://$host/v2/bench/manifests/big | jq -r '.layers[].digest'"
fetch="$layers | xargs -P 3 -I {} sh -c 'curl -fs http://$host/v2/bench/blobs/{} | sha256sum'"
clear_fetch() { :; }
pull_fetch() { measured "$1" fetch bash -c "$fetch"; }
unpack="$layers | xargs -P 2 -I {} bash -c '
        mkdir $work/floor/{}
        curl -fs http://$host/v2/bench/blobs/{} | tee >(sha256sum >/dev/null) | ${INFLATE:-igzip} -dc | tee >(sha256sum >/dev/null) | tar -C $work/floor/{} -x
        wait'
    sync -f $work/floor"
clear_unpack() { rm -rf --one-file-system "$work/floor"; mkdir "$work/floor"; }
pull_unpack() { measured "$1" unpack bash -c "$unpack"; }

engines=(wherry)
command -v podman >/dev/null && engines+=(podman)
[ -n "${PEERS:-}" ] && engines+=(docker ctr)
floors=(skopeo fetch)
command -v "${INFLATE:-igzip}" >/dev/null && floors+=(unpack)

# compare CASE IMAGE REST CONTENDERS…: cold pulls in turn, with so many seconds of rest before each.
compare() {
    for _ in $(seq "$rounds"); do
        for contender in "${@:4}"; do
            "clear_$contender" >/dev/null 2>&1 || true
            sync -f "$work"
            sleep "$3"
            "pull_$contender" "$1" "$2"
        done
    done
}

machine "$rounds"
compare cold "$big" "$settle" "${engines[@]}" "${floors[@]}"
FLOORS="${floors[*]}" table cold 'cold pull, 8 layers; in "× peer" the fastest engine is 1'
for _ in $(seq "$rounds"); do
    for contender in "${engines[@]}"; do "pull_$contender" again "$big"; done
done
table again 'pull with nothing new'
compare one "$small" 1 "${engines[@]}"
table one 'cold pull, one small layer'
if command -v strace >/dev/null; then
    printf '\n## system calls of a cold pull\n\n'
    clear_wherry
    strace -f -c -o "$work/strace" "${wherry[@]}" pull -q "$big" >/dev/null 2>&1
    head -16 "$work/strace"
fi
