#!/usr/bin/env bash
# Requests per second of a WebAssembly server under wherry beside `wasmtime serve` of the same version, the same component
# and an instance for each request, measured in turn; medians and their ratio.
#
#   benches/serve.sh [ROUNDS [SECONDS]]   after .ci/release; as root, on a machine that does nothing else
#   WHERRY=/path/to/wherry                another binary than the release
#   WASMTIME=/path/to/wasmtime            the command line of wasmtime 48.0.8 (cargo install wasmtime-cli --version 48.0.8)
#   WRK=wrk                               the load (apt-get install wrk); may be several words
#   GUESTS="two.wasm three.wasm"          the components of WASI 0.2 and 0.3; by default those of tests/guests
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-7} seconds=${2:-5}
target=$(rustc -vV | sed -n 's/^host: //p')
WHERRY=$(realpath "${WHERRY:-${CARGO_TARGET_DIR:-target}/$target/release/wherry}")
WASMTIME=${WASMTIME:-wasmtime} WRK=${WRK:-wrk}
[ -x "$WHERRY" ] || { echo "no $WHERRY: run .ci/release first" >&2; exit 1; }
guest() { cargo run --quiet --example guest -- "$@"; }
[ -n "${GUESTS:-}" ] || GUESTS="$(guest rust/http2 p2) $(guest rust/http3 p3)"

work=$(mktemp -d)
pids=()
wherry() { "$WHERRY" --root "$work/root" --run-root "$work/run" "$@"; }
cleanup() {
    wherry ps -aq | while read -r id; do wherry rm -f "$id" >/dev/null; done
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
free_port() {
    local port
    while port=$((20000 + RANDOM)); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break; done
    echo "$port"
}
answers() { for _ in $(seq 200); do curl -sf -o /dev/null "http://127.0.0.1:$1/" && return; sleep 0.05; done; return 1; }
# RATE P99 in milliseconds, of one run.
load() {
    $WRK -t2 -c"$1" -d"${seconds}s" --latency "http://127.0.0.1:$2/" | awk '
        function ms(t) { return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }
        $1 == "99%" { p99 = ms($2) } $1 == "Requests/sec:" { rate = $2 } /Non-2xx|Socket errors/ { bad = 1 }
        END { if (bad) print "wrk met errors" > "/dev/stderr"; print rate, p99 }'
}
median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

printf '| guest | connections | wherry, requests/s | wasmtime serve | ratio | wherry, p99 ms | wasmtime serve |\n|---|---|---|---|---|---|---|\n'
number=0
for component in $GUESTS; do
    number=$((number + 1))
    ours=$(free_port)
    wherry run -d --name "bench-$number" -p "127.0.0.1:$ours:8080" "$component" >/dev/null
    theirs=$(free_port)
    "$WASMTIME" serve -Scli --addr "127.0.0.1:$theirs" --max-instance-reuse-count 1 "$component" >/dev/null 2>&1 &
    pids+=($!)
    answers "$ours" && answers "$theirs"
    for connections in 8 64; do
        for who in ours theirs; do : >"$work/$who"; load "$connections" "${!who}" >/dev/null; done
        for _ in $(seq "$rounds"); do
            for who in ours theirs; do load "$connections" "${!who}" >>"$work/$who"; done
        done
        column() { cut -d' ' -f"$2" "$work/$1" | median; }
        awk -v name="WASI 0.$((number + 1))" -v c="$connections" -v a="$(column ours 1)" -v b="$(column theirs 1)" \
            -v x="$(column ours 2)" -v y="$(column theirs 2)" \
            'BEGIN { printf "| %s | %d | %d | %d | %.2f | %.1f | %.1f |\n", name, c, a, b, a / b, x, y }'
    done
    wherry rm -f "bench-$number" >/dev/null
done
