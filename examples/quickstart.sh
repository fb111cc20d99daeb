#!/usr/bin/env bash
# From nothing to running containers: builds wherry, starts a real registry on the loopback interface, builds a Linux
# and a Wasm image from the sources beside this file, pushes both, pulls and runs them. Everything that it starts or
# writes outside of the build directory is gone when it ends.
#
#   WHERRY=/path/to/wherry    use this binary instead of building one
#   CARGO_TARGET_DIR=…        where cargo builds, as always
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

# As root, so that containers have every user and a cgroup; only those commands are run with it.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
bold='' plain=''
[ ! -t 1 ] || bold=$'\033[1m' plain=$'\033[0m'
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
# A port that nobody listens on.
free_port() {
    local port
    while port=$((20000 + RANDOM)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
# Shows a command, runs it, and compares its exit code with the one it should have.
expect() {
    local want=$1 got=0
    shift
    printf '$ wherry %s\n' "$*"
    as_root "$WHERRY" --root "$work/root" --run-root "$work/run" "$@" || got=$?
    printf '(exit code %s)\n' "$got"
    [ "$got" = "$want" ] || { echo "quickstart: expected exit code $want" >&2; exit 1; }
}

if [ -z "${WHERRY:-}" ]; then
    title "Building wherry"
    .ci/setup
    cargo build --locked
    WHERRY=${CARGO_TARGET_DIR:-target}/debug/wherry
fi
WHERRY=$(realpath "$WHERRY")

work=$(mktemp -d)
registry_pid=
cleanup() {
    [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
    as_root rm -rf "$work"
}
trap cleanup EXIT

title "Starting a registry"
port=$(free_port)
registry=localhost:$port
cat >"$work/registry.yml" <<EOF
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
EOF
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry_pid=$!
curl -fs --retry 50 --retry-delay 0 --retry-connrefused --retry-max-time 20 -o /dev/null "http://$registry/v2/"
echo "docker-registry serves http://$registry"

title "Building and pushing the images"
examples/linux-hello/build.sh "$work/layout:linux"
examples/wasm-hello/build.sh "$work/layout:wasm"
for tag in linux wasm; do
    skopeo copy -q --dest-tls-verify=false "oci:$work/layout:$tag" "docker://$registry/hello:$tag"
done
examples/wasm-hello/push-artifact.sh "$work/hello.wasm" "$registry" hello artifact

title "A Linux image"
expect 0 pull "$registry/hello:linux"
expect 0 run --rm "$registry/hello:linux"
expect 3 run --rm --network none -e EXIT_CODE=3 "$registry/hello:linux" wherry

title "A Wasm image, built like any other image"
expect 0 pull "$registry/hello:wasm"
expect 4 run --rm -e EXIT_CODE=4 "$registry/hello:wasm" wherry

title "The same module as a CNCF Wasm artifact, and as a plain file"
expect 0 run --rm "$registry/hello:artifact" wherry
expect 5 run --rm -e EXIT_CODE=5 "$work/hello.wasm" wherry

title "What is stored"
expect 0 images
echo
echo "quickstart: all done"
