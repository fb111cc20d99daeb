#!/usr/bin/env bash
# A cold pull of a large image, a pull with nothing new, and a small image, beside docker, podman, containerd and skopeo, in turn.
#
#   benches/pull.sh [ROUNDS]        after .ci/release; as root, on a machine that does nothing else
#   WHERRY=/path/to/wherry          another binary than the release
#   PEERS=/path/to/root             a root filesystem with docker, dockerd, containerd and ctr (debootstrap of a newer Debian)
#   SETTLE=6                        seconds of rest after an image was removed: ext4 is slow to use again what was just freed
#   IMAGE_DIR=target/bench-image    where the image is kept: 8 gzip layers of this system's own files, about 600 MB unpacked
#
# The floors are what no engine can go below: the bytes fetched and hashed, and inflated, hashed and unpacked by igzip and tar,
# two layers at a time. Peers are run where there are any; their daemons get directories of their own and are ended.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} settle=${SETTLE:-6}
PATH=$PATH:/usr/sbin:/sbin

if [ -z "${BENCH_INSIDE:-}" ]; then
    exec unshare --mount --propagation private env BENCH_INSIDE=1 "$0" "$@"
fi
target=$(rustc -vV | sed -n 's/^host: //p')
WHERRY=$(realpath "${WHERRY:-${CARGO_TARGET_DIR:-target}/$target/release/wherry}")
[ -x "$WHERRY" ] || { echo "no $WHERRY: run .ci/release first" >&2; exit 1; }
image_dir=${IMAGE_DIR:-target/bench-image}

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    # What daemons still have mounted goes with this mount namespace. Nothing behind a mount may ever be removed: the peers'
    # root has this system's own /dev in it.
    [ -z "${PEERS:-}" ] || umount -R -l "$work/peers" 2>/dev/null || true
    if grep -q " $work/peers" /proc/self/mounts; then
        echo "$work is left: something is mounted in it" >&2
    else
        rm -rf --one-file-system "$work"
    fi
}
trap cleanup EXIT

# Eight layers of files of this system, as an image layout.
make_image() {
    python3 - "$1" <<'PY'
import gzip, hashlib, json, os, random, sys, tarfile
out = sys.argv[1]
blobs = os.path.join(out, "blobs/sha256")
os.makedirs(blobs, exist_ok=True)
files = []
for top in ("/usr/lib", "/usr/share", "/usr/include"):
    for base, dirs, names in os.walk(top):
        dirs.sort()
        files += [os.path.join(base, n) for n in sorted(names)]
random.Random(7).shuffle(files)
chosen, size = [], 0
for path in files:
    status = os.lstat(path)
    if status.st_size > 24 << 20 or not (os.path.islink(path) or os.path.isfile(path)):
        continue
    chosen.append(path)
    size += status.st_size
    if len(chosen) >= 20000 or size >= 590 << 20:
        break
chosen.sort()
def blob(data):
    name = hashlib.sha256(data).hexdigest()
    open(os.path.join(blobs, name), "wb").write(data)
    return "sha256:" + name, len(data)
layers, diffs = [], []
for part in range(8):
    path = os.path.join(out, "layer.tar")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        made = set()
        for file in chosen[part * len(chosen) // 8:(part + 1) * len(chosen) // 8]:
            parents = []
            parent = os.path.dirname(file)
            while parent not in made and parent != "/":
                made.add(parent)
                parents.append(parent)
                parent = os.path.dirname(parent)
            for parent in reversed(parents):
                tar.add(parent, recursive=False)
            tar.add(file, recursive=False)
    data = open(path, "rb").read()
    os.remove(path)
    diffs.append("sha256:" + hashlib.sha256(data).hexdigest())
    digest, length = blob(gzip.compress(data, 6, mtime=0))
    layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": length})
def image(name, layers, diffs):
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]}, "rootfs": {"type": "layers", "diff_ids": diffs}}
    digest, length = blob(json.dumps(config).encode())
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": length}}
    digest, length = blob(json.dumps(manifest).encode())
    return {"mediaType": manifest["mediaType"], "digest": digest, "size": length,
            "annotations": {"org.opencontainers.image.ref.name": name}}
small = min(range(8), key=lambda n: layers[n]["size"])
index = {"schemaVersion": 2, "manifests": [image("big", layers, diffs), image("one", [layers[small]], [diffs[small]])]}
json.dump(index, open(os.path.join(out, "index.json"), "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(os.path.join(out, "oci-layout"), "w"))
print(f"{len(chosen)} files, {size >> 20} MiB, {sum(l['size'] for l in layers) >> 20} MiB compressed", file=sys.stderr)
PY
}
[ -f "$image_dir/oci-layout" ] || make_image "$image_dir"

while port=$((20000 + RANDOM)); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break; done
cat >"$work/registry.yml" <<EOF
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
EOF
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
pids+=($!)
curl -fs --retry 50 --retry-delay 0 --retry-connrefused --retry-max-time 20 -o /dev/null "http://127.0.0.1:$port/v2/"
host=127.0.0.1:$port
for tag in big one; do
    skopeo copy -q --dest-tls-verify=false "oci:$image_dir:$tag" "docker://$host/bench:$tag"
done
big=$host/bench:big small=$host/bench:one

# ---- contenders: `cold_X IMAGE` is timed, `clear_X` comes before it ----

clear_wherry() { rm -rf "$work/root" "$work/run"; }
cold_wherry() { "$WHERRY" --root "$work/root" --run-root "$work/run" pull -q "$1"; }

podman=(podman --root "$work/podman" --runroot "$work/podman-run" --storage-driver overlay)
clear_podman() { "${podman[@]}" rmi -af; }
cold_podman() { "${podman[@]}" pull -q --tls-verify=false "$1"; }

clear_skopeo() { rm -rf "$work/skopeo"; }
cold_skopeo() { skopeo copy -q --src-tls-verify=false "docker://$1" "dir:$work/skopeo"; }

in_peers() { chroot "$work/peers" "$@"; }
clear_docker() { in_peers docker -H "unix:///bench/docker.sock" rmi -f "$big" "$small"; }
cold_docker() { in_peers docker -H "unix:///bench/docker.sock" pull -q "$1"; }
ctr=(ctr -a /bench/containerd.sock -n bench)
clear_ctr() { in_peers "${ctr[@]}" images rm --sync "$big" "$small"; in_peers "${ctr[@]}" content prune references; }
cold_ctr() { in_peers "${ctr[@]}" images pull --plain-http "$1"; }

layers_of() { curl -fs -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$host/v2/bench/manifests/${1##*:}" | jq -r '.layers[].digest'; }
clear_fetch() { :; }
cold_fetch() { layers_of "$1" | xargs -P 3 -I {} sh -c "curl -fs http://$host/v2/bench/blobs/{} | sha256sum"; }
clear_unpack() { rm -rf "$work/floor"; mkdir "$work/floor"; }
cold_unpack() {
    layers_of "$1" | xargs -P 2 -I {} bash -c "
        mkdir $work/floor/{}
        curl -fs http://$host/v2/bench/blobs/{} | tee >(sha256sum >/dev/null) | ${INFLATE:-igzip} -dc | tee >(sha256sum >/dev/null) | tar -C $work/floor/{} -x
        wait"
    sync -f "$work/floor"
}

contenders=(wherry skopeo fetch)
command -v "${INFLATE:-igzip}" >/dev/null && contenders+=(unpack)
command -v podman >/dev/null && contenders+=(podman)
if [ -n "${PEERS:-}" ]; then
    mkdir -p "$work/peers" "$work/daemons"
    mount --rbind "$PEERS" "$work/peers"
    for dir in proc sys dev; do mount --rbind "/$dir" "$work/peers/$dir"; done
    mkdir -p "$work/peers/bench"
    mount --bind "$work/daemons" "$work/peers/bench"
    in_peers containerd --root /bench/containerd --state /bench/containerd-state -a /bench/containerd.sock >"$work/containerd.log" 2>&1 &
    pids+=($!)
    in_peers dockerd --data-root /bench/docker --exec-root /bench/docker-run -H unix:///bench/docker.sock --pidfile /bench/docker.pid \
        --bridge none --iptables=false --ip6tables=false --insecure-registry "$host" ${DOCKERD_OPTS:-} >"$work/dockerd.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do in_peers docker -H unix:///bench/docker.sock version >/dev/null 2>&1 && break; sleep 0.2; done
    contenders+=(docker ctr)
fi

now() { date +%s%N; }
# Times `cold_X IMAGE` for each contender in turn, and prints medians and what they are of wherry's.
compare() {
    local image=$1 keep=$2 rest=$3 contender begin end
    : >"$work/times"
    for _ in $(seq "$rounds"); do
        for contender in "${@:4}"; do
            if [ "$keep" = cold ]; then
                "clear_$contender" >/dev/null 2>&1 || true
                sync
                sleep "$rest"
            fi
            begin=$(now)
            "cold_$contender" "$image" >"$work/said" 2>&1 || { echo "$contender failed:"; tail -5 "$work/said"; exit 1; }
            end=$(now)
            echo "$contender $(((end - begin) / 1000))" >>"$work/times"
        done
    done
    for contender in "${@:4}"; do
        sed -n "s/^$contender //p" "$work/times" | sort -n | awk -v name="$contender" '
            { t[NR] = $1 } END { printf "%-10s median %9.1f ms   min %9.1f   max %9.1f\n", name, t[int((NR + 1) / 2)] / 1000, t[1] / 1000, t[NR] / 1000 }'
    done
}

echo "wherry $("$WHERRY" --version), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg), $rounds rounds"
printf '\n## cold pull, 8 layers\n\n'
compare "$big" cold "$settle" "${contenders[@]}"
printf '\n## pull with nothing new\n\n'
again=()
for contender in "${contenders[@]}"; do case $contender in skopeo | fetch | unpack) ;; *) again+=("$contender") ;; esac; done
for contender in "${again[@]}"; do "cold_$contender" "$big" >/dev/null 2>&1; done
compare "$big" warm 0 "${again[@]}"
printf '\n## cold pull, one small layer (%s MiB)\n\n' "$(($(curl -fs -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$host/v2/bench/manifests/one" | jq '.layers[0].size') >> 20))"
compare "$small" cold 1 "${again[@]}"
printf '\n## memory and system calls of a cold pull\n\n'
clear_wherry
if [ -x /usr/bin/time ]; then
    /usr/bin/time -f 'peak %M KiB, %U s user, %S s system' "$WHERRY" --root "$work/root" --run-root "$work/run" pull -q "$big" 2>&1 >/dev/null | tail -1
fi
if command -v strace >/dev/null; then
    clear_wherry
    strace -f -c -o "$work/strace" "$WHERRY" --root "$work/root" --run-root "$work/run" pull -q "$big" >/dev/null 2>&1
    head -16 "$work/strace"
fi
