#!/usr/bin/env bash
# How soon Python runs from an image of which nothing is here: the image pulled and unpacked, or its files fetched as they are
# read. On links of several rates. As root; needs docker-registry, skopeo, tc, and releases of wherry and of this experiment.
#
#   benches/lazy/run.sh [ROUNDS]      WHERRY=/path/to/wherry LAZY=/path/to/lazy
set -euo pipefail
rounds=${1:-3}
WHERRY=$(realpath "$WHERRY") LAZY=$(realpath "$LAZY")
PATH=$PATH:/usr/sbin:/sbin
if [ -z "${BENCH_INSIDE:-}" ]; then
    exec unshare --mount --net --propagation private env BENCH_INSIDE=1 "$0" "$@"
fi
ip link set lo up
work=$(mktemp -d -p /var/tmp)
registry=
cleanup() {
    umount -l "$work/mnt" 2>/dev/null || true
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# The layer: every file, and every 4 MiB of a large one, a gzip member of its own.
python3 - "$work" <<'PY'
import gzip, hashlib, io, json, os, sys, tarfile
work = sys.argv[1]
PART = 4 << 20
paths = ["/usr/bin/python3", os.path.realpath("/usr/bin/python3")]
size = 0
for top in ("/usr/lib/" + os.path.basename(os.path.realpath("/usr/bin/python3")), "/usr/lib/python3", "/usr/lib/x86_64-linux-gnu"):
    for base, dirs, names in os.walk(top):
        dirs.sort()
        for name in sorted(names):
            path = os.path.join(base, name)
            length = os.lstat(path).st_size
            if length < 24 << 20 and size + length < 520 << 20:
                size += length
                paths.append(path)
links = [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")]
blob, plain, toc, at = open(work + "/blob", "wb"), hashlib.sha256(), [], 0
digest = hashlib.sha256()
def member(data):
    global at
    packed = gzip.compress(data, 6, mtime=0)
    blob.write(packed)
    digest.update(packed)
    plain.update(data)
    at += len(packed)
    return at - len(packed), len(packed)
def header(info):
    return info.tobuf(tarfile.PAX_FORMAT)
made = set()
def parents(path):
    parent = os.path.dirname(path)
    if parent and parent not in made:
        parents(parent)
        made.add(parent)
        info = tarfile.TarInfo(parent)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        member(header(info))
        toc.append({"name": parent, "type": "dir", "mode": 0o755})
for name, target in links + [(p.lstrip("/"), None) for p in sorted(set(paths))]:
    parents(name)
    info = tarfile.TarInfo(name)
    if target is None and os.path.islink("/" + name):
        target = os.readlink("/" + name)
    if target is not None:
        info.type, info.linkname = tarfile.SYMTYPE, target
        member(header(info))
        toc.append({"name": name, "type": "symlink", "mode": 0o777, "target": target})
        continue
    data = open("/" + name, "rb").read()
    info.size, info.mode = len(data), os.stat("/" + name).st_mode & 0o777
    member(header(info))
    parts = [member(data[n:n + PART]) for n in range(0, len(data), PART)]
    if len(data) % 512:
        member(b"\0" * (512 - len(data) % 512))
    toc.append({"name": name, "type": "file", "mode": info.mode, "size": len(data), "part": PART, "parts": parts})
member(b"\0" * 1024)
blob.close()
layout = work + "/layout/blobs/sha256/"
os.makedirs(layout)
def put(data, kind):
    name = hashlib.sha256(data).hexdigest()
    open(layout + name, "wb").write(data)
    return {"mediaType": kind, "digest": "sha256:" + name, "size": len(data)}
os.rename(work + "/blob", layout + digest.hexdigest())
layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + digest.hexdigest(), "size": at}
config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + plain.hexdigest()]}}).encode(), "application/vnd.oci.image.config.v1+json")
manifest = put(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]}).encode(), "application/vnd.oci.image.manifest.v1+json")
manifest["annotations"] = {"org.opencontainers.image.ref.name": "x"}
json.dump({"schemaVersion": 2, "manifests": [manifest]}, open(work + "/layout/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(work + "/layout/oci-layout", "w"))
packed = gzip.compress(json.dumps(toc).encode())
open(work + "/toc", "wb").write(packed)
open(work + "/names", "w").write(layer["digest"] + " sha256:" + hashlib.sha256(packed).hexdigest() + "\n")
print(f"{len(toc)} entries, {size >> 20} MiB, {at >> 20} MiB compressed, table of contents {len(packed) >> 10} KiB")
PY
read -r blob toc <"$work/names"

host=127.0.0.1:5000
cat >"$work/registry.yml" <<EOF
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "$host"}
EOF
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry=$!
curl -fs --retry 50 --retry-delay 0 --retry-connrefused --retry-max-time 20 -o /dev/null "http://$host/v2/"
skopeo copy -q --dest-tls-verify=false "oci:$work/layout:x" "docker://$host/bench:x"
place=$(curl -fsi -X POST "http://$host/v2/bench/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
curl -fs -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$work/toc" "$place&digest=$toc"

program=(python3 -c 'import json, ssl, sqlite3, http.client, asyncio')
now() { date +%s%N; }
whole() {
    rm -rf "$work/root" "$work/run"
    begin=$(now)
    "$WHERRY" --root "$work/root" --run-root "$work/run" pull -q "$host/bench:x" >/dev/null
    chroot "$work"/root/layers/*/diff "${program[@]}"
    echo "whole $((($(now) - begin) / 1000000))"
}
lazy() {
    mkdir -p "$work/mnt"
    begin=$(now)
    "$LAZY" "$host" "/v2/bench/blobs/$blob" "/v2/bench/blobs/$toc" "$work/mnt" >/dev/null 2>"$work/lazy.log" &
    pid=$!
    until mountpoint -q "$work/mnt"; do sleep 0.002; done
    chroot "$work/mnt" "${program[@]}"
    echo "lazy $((($(now) - begin) / 1000000))"
    # The second time: what a program pays for reading through it, with all of it fetched.
    begin=$(now)
    chroot "$work/mnt" "${program[@]}"
    echo "lazy-again $((($(now) - begin) / 1000000))"
    umount "$work/mnt"
    wait "$pid" || true
}
for rate in ${RATES:-none 1000mbit 100mbit 20mbit}; do
    tc qdisc del dev lo root 2>/dev/null || true
    [ "$rate" = none ] || tc qdisc add dev lo root tbf rate "$rate" burst 256k latency 100ms
    for _ in $(seq "$rounds"); do whole; lazy; done >"$work/times"
    for way in whole lazy lazy-again; do
        sed -n "s/^$way //p" "$work/times" | sort -n | awk -v rate="$rate" -v way="$way" '{ t[NR] = $1 } END { printf "%-9s %-10s %6d ms\n", rate, way, t[int((NR + 1) / 2)] }'
    done
done
cat "$work/lazy.log"
