#!/usr/bin/env bash
# wherry's runtime command line beside crun, runc and a bare floor, in turn: start-up, peak memory, system calls.
#
#   benches/oci.sh [ROUNDS]            after .ci/release; as root, on a machine that does nothing else
#   CGROUPS="2 1"                      which versions of cgroups to measure with
#   WHERRY= CRUN= RUNC= STRACE=        other programs than the release, and those on the PATH
#   FLOOR=/path/to/oci-floor           another build of benches/oci-floor.rs
#
# All runtimes run the same bundle, made by oci-floor: busybox `true` in all namespaces with Docker's seccomp profile,
# capabilities, mounts and masks. Only the cgroup's name differs. A runtime that is not there is left out.
#
# Each version of cgroups is a mount namespace of its own, where /sys/fs/cgroup shows nothing of the other: crun refuses both at
# once. A crun before 1.9 needs CAP_SYS_RESOURCE for its device program on v2.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-50}
PATH=$PATH:/usr/sbin:/sbin

if [ -z "${BENCH_VERSION:-}" ]; then
    target=$(rustc -vV | sed -n 's/^host: //p')
    release=$(realpath -m "${CARGO_TARGET_DIR:-target}/$target/release")
    [ -n "${FLOOR:-}" ] || { .ci/release --quiet --example oci-floor >/dev/null; FLOOR=$release/examples/oci-floor; }
    WHERRY=${WHERRY:-$release/wherry}
    BENCH_WORK=$(mktemp -d)
    trap 'rm -rf "$BENCH_WORK"' EXIT
    rustc --edition 2024 -O -C panic=abort -C target-feature=+crt-static -C relocation-model=static \
        -o "$BENCH_WORK/interleave" benches/interleave.rs
    export FLOOR WHERRY BENCH_WORK
    for version in ${CGROUPS:-2 1}; do
        BENCH_VERSION=$version unshare --mount --propagation private "$0" "$rounds"
    done
    exit
fi

if [ "$BENCH_VERSION" = 2 ]; then
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
elif mountpoint -q /sys/fs/cgroup/unified; then
    umount /sys/fs/cgroup/unified
fi

work=$BENCH_WORK/v$BENCH_VERSION
rootfs=$work/rootfs
remove_groups() { find /sys/fs/cgroup -depth -type d -path '*/wherry-bench*' -exec rmdir {} + 2>/dev/null || true; }
trap remove_groups EXIT
step() { printf '\n## %s\n\n' "$*"; }

mkdir -p "$rootfs"/{bin,dev,etc,proc,sys}
cp "$(command -v busybox)" "$rootfs/bin/busybox"
ln -s busybox "$rootfs/bin/true"
touch "$rootfs"/etc/{hostname,hosts,resolv.conf}

# What each contender is called, and how: `runtime_NAME` is the command line without its verb.
names=(floor)
bundle() { mkdir -p "$work/$1" && "$FLOOR" bundle "$work/$1" "$rootfs" "/wherry-bench/$1"; }
contender() { # NAME PROGRAM ARG…
    command -v "$2" >/dev/null || { echo "no $2: $1 is left out" >&2; return 0; }
    bundle "$1"
    declare -ga "runtime_$1=($(printf '%q ' "${@:2}" --root "$work/$1/state"))"
    names+=("$1")
}
bundle floor
if "$WHERRY" oci --help >/dev/null 2>&1; then contender wherry "$WHERRY" oci; else echo "no $WHERRY oci: left out" >&2; fi
contender crun "${CRUN:-crun}" --cgroup-manager cgroupfs
contender runc "${RUNC:-runc}"

# Prints the command line of one whole container, an argument a line.
run() {
    local -n command="runtime_$1"
    case $1 in
    floor) printf '%s\n' "$FLOOR" run "$work/floor" "$rootfs" /wherry-bench/floor /bin/true ;;
    *) printf '%s\n' "${command[@]}" run --bundle "$work/$1" bench ;;
    esac
}
steps() {
    local -n command="runtime_$1"
    printf '%s\n' "${command[@]}" create --bundle "$work/$1" bench ++ "${command[@]}" start bench ++ "${command[@]}" delete bench
}
runtime_floor=()
interleave() { # WHAT NAME…
    local what=$1 name words=()
    for name in "${@:2}"; do
        mapfile -t line < <("$what" "$name")
        words+=(+++ "$name" "${line[@]}")
    done
    "$BENCH_WORK/interleave" "$rounds" "${words[@]}"
}

echo
echo "# cgroup v$BENCH_VERSION: $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg), $rounds rounds"
for name in "${names[@]}"; do
    # Once alone, where a failure can be read.
    mapfile -t line < <(run "$name")
    "${line[@]}"
    [ "$name" = floor ] || echo "$name: $("${line[0]}" --version | head -1), $(stat -Lc %s "$(command -v "${line[0]}")" | numfmt --to=iec) bytes"
done

step "run, from start to exit"
interleave run "${names[@]}"
if [ ${#names[@]} -gt 1 ]; then
    step "create, start, delete: three processes, and between the last two the program's own end"
    interleave steps "${names[@]:1}"
fi

strace=${STRACE:-strace}
command -v "$strace" >/dev/null || { echo "no $strace: system calls are not counted" >&2; exit 0; }
step "System calls of one run, the program's included"
printf '| | all | processes, threads | execve | mounts | files opened | read, written | seccomp, prctl, capset |\n|---|---|---|---|---|---|---|---|\n'
for name in "${names[@]}"; do
    mapfile -t line < <(run "$name")
    "$strace" -f -c -o "$work/calls" "${line[@]}"
    awk -v name="$name" '
        /^[ 0-9.]+ [a-z_0-9]+$/ { calls[$NF] = $4 }
        function sum(list,   words, n, i, s) { n = split(list, words); for (i = 1; i <= n; i++) s += calls[words[i]]; return s + 0 }
        END {
            printf "| %s | %d | %d | %d | %d | %d | %d | %d |\n", name, calls["total"],
                1 + sum("clone clone3 fork vfork"), sum("execve execveat"),
                sum("mount umount2 move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr pivot_root"),
                sum("open openat openat2 creat"), sum("read write pread64 pwrite64 readv writev"),
                sum("seccomp prctl capset")
        }' "$work/calls"
done
