#!/usr/bin/env bash
# Pushes of a large image to a registry on the loopback, in turn with docker, podman, skopeo and containerd's ctr.
#
#   benches/push.sh [ROUNDS]        after .ci/release; as root, on a machine that does nothing else; see images.sh for the variables
#
# In each round, each contender: into an empty registry; once more, with nothing new; an image of which one layer in eight is new; and
# into another repository of the same registry, from where blobs may be mounted. The floor is the same bytes sent by curl, five at a
# time. Who sends what: wherry, ctr and skopeo the blobs as they are; docker (without its containerd store) and podman keep layers
# unpacked, and make the archives again and compress them, for a registry that has not got them.
source "$(dirname "$0")/images.sh"
rounds=${1:-5}
big=$host/bench:big next=$host/bench:next other=$host/other:big

# ---- contenders: what each does is its array before the names ----

push_wherry() { measured "$1" wherry "${wherry[@]}" push -q "$2"; }
push_podman() { measured "$1" podman "${podman[@]}" push -q --tls-verify=false "$2"; }
push_skopeo() { measured "$1" skopeo "${skopeo[@]}" copy -q --dest-tls-verify=false "$oci:${2##*:}" "docker://$2"; }
push_docker() { measured "$1" docker "${docker[@]}" push -q "$2"; }
push_ctr() { measured "$1" ctr "${ctr[@]}" images push --plain-http "$2"; }
push_curl() { measured "$1" curl bash -c "$floor" curl "$2"; }

# Whoever pulls an image from here knows later which repository its blobs are in.
prepare_wherry() { "${wherry[@]}" pull -q "$big"; "${wherry[@]}" pull -q "$next"; "${wherry[@]}" tag "$big" "$other"; }
prepare_podman() { "${podman[@]}" pull -q --tls-verify=false "$big"; "${podman[@]}" pull -q --tls-verify=false "$next"; "${podman[@]}" tag "$big" "$other"; }
prepare_docker() { "${docker[@]}" pull -q "$big"; "${docker[@]}" pull -q "$next"; "${docker[@]}" tag "$big" "$other"; }
prepare_ctr() { "${ctr[@]}" images pull --plain-http "$big"; "${ctr[@]}" images pull --plain-http "$next"; "${ctr[@]}" images tag "$big" "$other"; }
prepare_skopeo() { :; }

blobs=$work/image/blobs/sha256
manifest_of() { jq -r --arg tag "$1" '.manifests[] | select(.annotations[] == $tag).digest[7:]' "$work/image/index.json"; }
floor='
    repository=http://'$host'/v2/bench
    export repository
    jq -r ".layers[].digest, .config.digest" '"$blobs/$(manifest_of big)"' | xargs -P 5 -I {} sh -c "
        to=\$(curl -fsS -X POST -D - -o /dev/null \$repository/blobs/uploads/ | tr -d \"\\r\" | sed -n \"s/^[Ll]ocation: //p\")
        curl -fsS -o /dev/null -H Expect: -T '"$blobs"'/\$(echo {} | cut -c 8-) \"\$to&digest={}\""
    curl -fsS -o /dev/null -H "Content-Type: application/vnd.oci.image.manifest.v1+json" -T '"$blobs/$(manifest_of big)"' $repository/manifests/big'

contenders=(wherry skopeo)
command -v "podman" >/dev/null && contenders+=(podman)
[ -n "${PEERS:-}" ] && contenders+=(docker ctr)

empty_registry
for tag in big next; do skopeo copy -q --dest-tls-verify=false "$oci:$tag" "docker://$host/bench:$tag"; done
for contender in "${contenders[@]}"; do "prepare_$contender" >"$work/said" 2>&1 || { tail -5 "$work/said"; exit 1; }; done

machine "$rounds"
for _ in $(seq "$rounds"); do
    for contender in "${contenders[@]}" curl; do
        empty_registry
        sync -f "$work"
        sleep "$settle"
        "push_$contender" cold "$big"
        [ "$contender" = curl ] && continue
        "push_$contender" again "$big"
        "push_$contender" next "$next"
        "push_$contender" mount "$other"
    done
done
FLOORS=curl table cold 'into an empty registry, 8 layers'
table again 'nothing new'
table next 'one layer of eight is new'
table mount 'into another repository of the same registry'

# Which requests wherry makes when nothing is new.
printf '\n## requests of a push with nothing new\n\n'
"${wherry[@]}" push -q "$big" >/dev/null
strace -f -qq -s 16 -e trace=sendto,write,writev -o "$work/strace" "${wherry[@]}" push -q "$big" >/dev/null 2>&1
sed -nE 's/.*"(HEAD|GET|POST|PUT|PATCH) .*/\1/p' "$work/strace" | sort | uniq -c
strace -f -qq -e trace=connect -o "$work/strace" "${wherry[@]}" push -q "$big" >/dev/null 2>&1
echo "$(grep -c "htons($port)" "$work/strace") connections"
