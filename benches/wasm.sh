#!/usr/bin/env bash
# What a WebAssembly program gets out of the machine: files and computing, beside the same program run natively and by
# wasmtime's own command line.
#
#   benches/wasm.sh [ROUNDS]           after .ci/release; as root, on a machine that does nothing else
#   WHERRY=/path/to/wherry             another binary than the release
#   WASMTIME=/path/to/wasmtime         another than that of the PATH; without one it is left out. Of the same version!
#
# The program is tests/guests/rust/work, as a module of preview 1 and as a component of 0.2; for 0.3 its files are those of
# tests/guests/rust/probe3, through streams. All of them are compiled before anything is measured.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-10}
target=$(rustc -vV | sed -n 's/^host: //p')
WHERRY=$(realpath "${WHERRY:-${CARGO_TARGET_DIR:-target}/$target/release/wherry}")
WASMTIME=${WASMTIME:-$(command -v wasmtime || true)}
[ -x "$WHERRY" ] || { echo "no $WHERRY: run .ci/release first" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/data"
rustc --edition 2024 -O -C panic=abort -C target-feature=+crt-static -C relocation-model=static \
    -o "$work/interleave" benches/interleave.rs
(cd tests/guests/rust && CARGO_TARGET_DIR="$work/native" cargo build --quiet --release --locked --package work)
native=$work/native/release/work
guest() { cargo run --quiet --example guest -- rust "$@"; }
p1=$(guest work p1) p2=$(guest work p2) p3=$(guest probe3 p3)

wherry=("$WHERRY" --root "$work/root" --run-root "$work/run" run --rm)
declare -A compiled
for app in "$p1" "$p2" "$p3"; do
    "${wherry[@]}" "$app" exit 0
    [ -z "$WASMTIME" ] && continue
    compiled[$app]=$work/$(basename "$app" .wasm).cwasm
    "$WASMTIME" compile "$app" -o "${compiled[$app]}"
done

# NAME APP ARG…: both engines with one program.
engines() {
    local name=$1 app=$2
    shift 2
    contenders+=(+++ "wherry, $name" "${wherry[@]}" -v "$work/data:$work/data" "$app" "$@")
    [ -z "$WASMTIME" ] ||
        contenders+=(+++ "wasmtime, $name" "$WASMTIME" run --allow-precompiled --dir "$work/data" "${compiled[$app]}" "$@")
}
measure() {
    printf '\n## %s\n\n' "$1"
    "$work/interleave" "$rounds" "${contenders[@]}"
}

echo "$("$WHERRY" --version), ${WASMTIME:+$("$WASMTIME" --version), }$(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg), $rounds rounds"
for what in big small; do
    contenders=(+++ native "$native" files "$work/data" "$what")
    engines "preview 1" "$p1" files "$work/data" "$what"
    engines 0.2 "$p2" files "$work/data" "$what"
    engines 0.3 "$p3" files "$work/data" "$what"
    measure "Files: $what"
done
contenders=(+++ native "$native" cpu)
engines "preview 1" "$p1" cpu
engines 0.2 "$p2" cpu
measure "Computing: a hash, planets, JSON"
