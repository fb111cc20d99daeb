#!/usr/bin/env bash
# Start-up time and idle memory of wherry beside podman, crun and plain wasmtime, measured in turn.
#
#   benches/start.sh [ROUNDS]          after .ci/release; as root, on a machine that does nothing else
#   WHERRY=/path/to/wherry             another binary than the release
#   FLOOR=/path/to/wasmtime-floor      another build of benches/wasmtime-floor.rs
#   WASMTIME=/path/to/wasmtime         wasmtime's own command line, of the same version
#
# Podman and crun (apt-get install podman crun) must be made to run where cgroups are "hybrid" and root may not raise limits:
# - crun refuses a /sys/fs/cgroup that shows v1 and v2 at once, so everything runs in a mount namespace of its own in
#   which v2 is hidden, wherry too. With CGROUPS=2 it sees nothing but v2; then crun needs CAP_SYS_RESOURCE for its device program.
# - podman's default limits are above the hard ones: --ulimit gives it lower ones.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-20}
PATH=$PATH:/usr/sbin:/sbin

if [ -z "${BENCH_INSIDE:-}" ]; then
    exec unshare --mount --propagation private env BENCH_INSIDE=1 "$0" "$@"
fi
if [ "${CGROUPS:-1}" = 2 ]; then
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
elif mountpoint -q /sys/fs/cgroup/unified; then
    umount /sys/fs/cgroup/unified
fi

target=$(rustc -vV | sed -n 's/^host: //p')
release=${CARGO_TARGET_DIR:-target}/$target/release
WHERRY=$(realpath "${WHERRY:-$release/wherry}")
[ -x "$WHERRY" ] || { echo "no $WHERRY: run .ci/release first" >&2; exit 1; }

work=$(mktemp -d)
pids=()
cleanup() {
    wherry ps -aq | while read -r id; do wherry rm -f "$id" >/dev/null; done
    podman_ rm -fa -t 0 >/dev/null 2>&1 || true
    crun --root "$work/crun" delete -f bench >/dev/null 2>&1 || true
    [ -z "${mounted:-}" ] || podman_ umount -af >/dev/null 2>&1 || true
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    find /sys/fs/cgroup -depth -type d -path '*/wherry-bench*' -exec rmdir {} + 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
wherry() { "$WHERRY" --root "$work/root" --run-root "$work/run" "$@"; }
podman=(podman --root "$work/podman" --runroot "$work/podman-run" --cgroup-manager cgroupfs --events-backend file)
podman_() { "${podman[@]}" "$@"; }
podman_flags=(--network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --cgroup-parent /wherry-bench)


step() { printf '\n## %s\n\n' "$*"; }
interleave() { "$work/interleave" "$rounds" "$@"; }
rustc --edition 2024 -O -C panic=abort -C target-feature=+crt-static -C relocation-model=static \
    -o "$work/interleave" benches/interleave.rs

# The same image in every store.
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
examples/linux-hello/build.sh "$work/layout:linux"
examples/wasm-hello/build.sh "$work/layout:wasm"
for tag in linux wasm; do
    skopeo copy -q --dest-tls-verify=false "oci:$work/layout:$tag" "docker://127.0.0.1:$port/hello:$tag"
done
linux=localhost:$port/hello:linux wasm=localhost:$port/hello:wasm
wherry pull -q "$linux" >/dev/null
wherry pull -q "$wasm" >/dev/null

echo "wherry $("$WHERRY" --version), $(stat -c %s "$WHERRY" | numfmt --to=iec) bytes, cgroup v${CGROUPS:-1}, $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg), $rounds rounds"
wherry_run=("$WHERRY" --root "$work/root" --run-root "$work/run" run --rm --network none)
contenders=()
if command -v podman >/dev/null; then
    podman_ pull -q --tls-verify=false "$linux" >/dev/null
    contenders+=(+++ "podman run" "${podman[@]}" run --rm "${podman_flags[@]}" --entrypoint /bin/true "$linux")
    # What podman hands to crun is what crun is measured with.
    id=$(podman_ create "${podman_flags[@]}" --entrypoint /bin/true "$linux")
    podman_ init "$id" >/dev/null
    config=$(find "$work/podman" -path "*$id/userdata/config.json")
    podman_ mount "$id" >"$work/mounted" && mounted=1
    mkdir "$work/bundle"
    jq --arg root "$(cat "$work/mounted")" '.root.path = $root | del(.hooks, .annotations, .linux.cgroupsPath)
        | .mounts |= map(select(.type != "bind" or (.source | startswith("/sys"))))
        | .linux.namespaces |= map(del(.path)) | .linux.cgroupsPath = "/wherry-bench/crun"' "$config" >"$work/bundle/config.json"
fi
contenders+=(+++ "wherry run" "${wherry_run[@]}" --entrypoint /bin/true "$linux")
[ -z "${mounted:-}" ] ||
    contenders+=(+++ "crun run (engine only)" crun --root "$work/crun" --cgroup-manager cgroupfs run -b "$work/bundle" bench)
step "run --rm --network none IMAGE true, from start to exit"
interleave "${contenders[@]}"

step "A Wasm hello, compiled before"
contenders=()
floor=${FLOOR:-}
if [ -n "$floor" ]; then
    "$floor" compile "$work/hello.wasm" "$work/hello.cwasm"
    contenders+=(+++ "wasmtime, precompiled" "$floor" run "$work/hello.cwasm")
fi
if [ -n "${WASMTIME:-}" ]; then
    "$WASMTIME" compile -o "$work/cli.cwasm" "$work/hello.wasm"
    contenders+=(+++ "wasmtime run" "$WASMTIME" run --allow-precompiled "$work/cli.cwasm")
fi
# What changed just now is not remembered: let the images and the file settle, and be seen once.
sleep 3
wherry run "$work/hello.wasm" >/dev/null
wherry run --rm "$wasm" >/dev/null
contenders+=(+++ "wherry run hello.wasm" "${wherry_run[@]}" "$work/hello.wasm"
    +++ "wherry run IMAGE" "${wherry_run[@]}" "$wasm")
interleave "${contenders[@]}"

step "Idle: what each running container adds, KiB of one of ten"
memory() { # NAME PID…
    local name=$1
    shift
    for pid in "$@"; do cat "/proc/$pid/smaps_rollup"; done | awk -v name="$name" -v n=$# '
        /^Rss:/ { rss += $2 } /^Pss:/ { pss += $2 } /^Private_/ { own += $2 }
        END { printf "| %s | %d | %d | %d |\n", name, rss / n, pss / n, own / n }'
}
parent() { awk '/^PPid:/ { print $2 }' "/proc/$1/status"; }
printf '| | RSS | PSS | private |\n|---|---|---|---|\n'
supervisors=() monitors=()
for number in 1 2 3 4 5 6 7 8 9 10; do
    wherry run -d --name "idle$number" --network none --entrypoint sleep "$linux" 1000 >/dev/null
    supervisors+=("$(parent "$(wherry inspect "idle$number" | jq .[0].State.Pid)")")
    [ -z "${mounted:-}" ] || {
        podman_ run -d --name "idle$number" "${podman_flags[@]}" --entrypoint '["sleep","1000"]' "$linux" >/dev/null
        monitors+=("$(parent "$(podman_ inspect "idle$number" | jq .[0].State.Pid)")")
    }
done
memory "wherry's supervisor" "${supervisors[@]}"
[ -z "${mounted:-}" ] || memory "podman's conmon" "${monitors[@]}"
