# What the benches of images share; read by pull.sh, push.sh and archive.sh, which have said `title` before.
#
#   WHERRY=/path/to/wherry          another binary than the release
#   PEERS=/path/to/root             a root filesystem with docker, dockerd, containerd, ctr, podman, skopeo (debootstrap of a newer Debian);
#                                   without, this system's podman and skopeo are the peers
#   IMAGE_DIR=target/bench-image    where the image is kept: 8 gzip layers of this system's own files, see images.py
#   SETTLE=2                        seconds of rest before each cold run
#   DOCKERD_OPTS                    more flags for dockerd
#
# All of it runs in namespaces of its own: daemons end and mounts go with them, and the directory of the work is removed from outside, where
# nothing is mounted in it. Of the host's /dev the peers get single nodes, never the directory. Everybody works on one new ext4 with a journal,
# in a file of 12 GB at most: without one, ext4 passes over each inode that was freed in the last minutes, and who comes after a removal pays for it.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

if [ -z "${BENCH_WORK:-}" ]; then
    work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
    trap 'rm -rf --one-file-system "$work" "$work.ext4"' EXIT
    truncate -s 12G "$work.ext4"
    # Inodes are made now, and not by the kernel beside what is measured.
    mkfs.ext4 -q -i 40000 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$work.ext4"
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc env BENCH_WORK="$work" "$0" "$@"
    exit
fi
work=$BENCH_WORK
mount -o loop "$work.ext4" "$work"
losetup --direct-io=on "$(findmnt -no SOURCE "$work")" || true
target=$(rustc -vV | sed -n 's/^host: //p')
WHERRY=$(realpath "${WHERRY:-${CARGO_TARGET_DIR:-target}/$target/release/wherry}")
[ -x "$WHERRY" ] || { echo "no $WHERRY: run .ci/release first" >&2; exit 1; }
settle=${SETTLE:-2}
image_dir=${IMAGE_DIR:-target/bench-image}
[ -f "$image_dir/oci-layout" ] || python3 benches/images.py "$image_dir"
mkdir "$work/image"
mount --bind "$image_dir" "$work/image"
oci=oci:$work/image

# ---- a registry on the loopback, with nothing in it ----

while port=$((20000 + RANDOM % 10000)); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break; done
host=127.0.0.1:$port
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
http: {addr: "$host"}
YML
registry_pid=
empty_registry() {
    if [ -n "$registry_pid" ]; then
        kill "$registry_pid"
        wait "$registry_pid" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$work/registry"
    docker-registry serve "$work/registry.yml" >>"$work/registry.log" 2>&1 &
    registry_pid=$!
    curl -fs --retry 50 --retry-delay 0 --retry-connrefused --retry-max-time 20 -o /dev/null "http://$host/v2/"
}

# ---- the peers, who see the directory of the work at its own path ----

peers=$work/peers
in_peers=()
[ -z "${PEERS:-}" ] || in_peers=(chroot "$peers")
wherry=("$WHERRY" --root "$work/wherry" --run-root "$work/wherry-run")
skopeo=("${in_peers[@]}" skopeo)
podman=("${in_peers[@]}" podman --root "$work/podman" --runroot "$work/podman-run" --storage-driver overlay)
docker=("${in_peers[@]}" docker -H "unix://$work/docker.sock")
ctr=("${in_peers[@]}" ctr -a "$work/containerd.sock" -n bench)
dockerd_pid= containerd_pid=

enter_peers() {
    mkdir -p "$peers" "$work/peers-upper" "$work/peers-work"
    mount -t overlay overlay -o "lowerdir=$PEERS,upperdir=$work/peers-upper,workdir=$work/peers-work" "$peers"
    mount -t proc proc "$peers/proc"
    mount -t sysfs sysfs "$peers/sys"
    # What a daemon wants to see of cgroups, before it stores images and does nothing else.
    mount -t cgroup2 cgroup2 "$peers/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$peers/dev"
    for node in null zero full random urandom tty fuse; do
        [ -c "/dev/$node" ] || continue
        touch "$peers/dev/$node"
        mount --bind "/dev/$node" "$peers/dev/$node"
    done
    mkdir -p "$peers/dev/shm" "$peers$work"
    mount -t tmpfs tmpfs "$peers/dev/shm"
    mount -t tmpfs tmpfs "$peers/run"
    mount --bind "$work" "$peers$work"
    mount --bind "$work/image" "$peers$work/image"
}

start_daemons() {
    "${in_peers[@]}" containerd --root "$work/containerd" --state "$work/containerd-state" -a "$work/containerd.sock" >"$work/containerd.log" 2>&1 &
    containerd_pid=$!
    "${in_peers[@]}" dockerd --data-root "$work/docker" --exec-root "$work/docker-run" -H "unix://$work/docker.sock" --pidfile "$work/docker.pid" \
        --bridge none --iptables=false --ip6tables=false ${DOCKERD_OPTS:-} >"$work/dockerd.log" 2>&1 &
    dockerd_pid=$!
    for _ in $(seq 100); do "${docker[@]}" version >/dev/null 2>&1 && return; sleep 0.2; done
    tail -5 "$work/dockerd.log" >&2
    exit 1
}

if [ -n "${PEERS:-}" ]; then
    enter_peers
    start_daemons
fi

# ---- measuring ----

now() { date +%s%N; }
# Clock ticks of a process and of what it waited for.
ticks() { awk '{ print $14 + $15 + $16 + $17 }' "/proc/$1/stat" 2>/dev/null || echo 0; }
daemon_of() {
    case $1 in
    docker*) echo "$dockerd_pid" ;;
    ctr*) echo "$containerd_pid" ;;
    esac
}

# measured CASE CONTENDER COMMAND…: one line of milliseconds, KiB at most in one process, and seconds of processor time, daemon included.
# With SYNCED=1 the milliseconds are those until what was written is on the disk, too.
measured() {
    local case=$1 contender=$2 begin end daemon before=0 after=0 peak=0
    shift 2
    daemon=$(daemon_of "$contender")
    if [ -n "$daemon" ]; then
        echo 5 >"/proc/$daemon/clear_refs"
        before=$(ticks "$daemon")
    fi
    begin=$(now)
    /usr/bin/time -q -o "$work/time" -f '%M %U %S' "$@" >"$work/said" 2>&1 </dev/null || { echo "$contender, $case, failed:"; tail -5 "$work/said"; exit 1; }
    [ -z "${SYNCED:-}" ] || sync -f "$work"
    end=$(now)
    if [ -n "$daemon" ]; then
        after=$(ticks "$daemon")
        peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$daemon/status")
    fi
    awk -v "case=$case" -v "name=$contender" -v ms="$(((end - begin) / 1000))" -v ticks=$((after - before)) -v peak="$peak" '
        { printf "%s %s %.1f %d %.2f\n", case, name, ms / 1000, ($1 > peak ? $1 : peak), $2 + $3 + ticks / 100 }' "$work/time" >>"$work/measured"
}

# table CASE TITLE: medians, best and worst, and what the medians are of the fastest peer's; a contender in FLOORS is no peer.
table() {
    printf '\n## %s\n\n' "$2"
    grep "^$1 " "$work/measured" | sort -k2,2 -k3,3n | awk -v floors=" ${FLOORS:-} " '
        { n[$2]++; t[$2, n[$2]] = $3; if ($4 > m[$2]) m[$2] = $4; c[$2] += $5 }
        END {
            for (name in n) {
                median[name] = n[name] % 2 ? t[name, (n[name] + 1) / 2] : (t[name, n[name] / 2] + t[name, n[name] / 2 + 1]) / 2
                if (name !~ /^wherry/ && !index(floors, " " name " ") && (!best || median[name] < best)) best = median[name]
            }
            printf "%-16s %10s %10s %10s %9s %9s %9s\n", "", "median ms", "min", "max", "× peer", "peak MB", "cpu s"
            for (name in n)
                printf "%-16s %10.1f %10.1f %10.1f %8.2f %9.1f %9.2f\n", name, median[name], t[name, 1], t[name, n[name]], \
                    best ? median[name] / best : 0, m[name] / 1024, c[name] / n[name] | "sort -k2,2n"
        }'
}

machine() { echo "$("$WHERRY" --version), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg), $1 rounds, $(date -u +%FT%TZ)"; }
