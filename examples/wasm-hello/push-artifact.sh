#!/bin/sh
# Pushes a module as a CNCF Wasm OCI artifact, by the distribution API itself:  push-artifact.sh MODULE REGISTRY REPOSITORY TAG
# The artifact has no file system: its one layer is the module, its config names the world that it expects.
set -eu
module=$1 registry=$2 repository=$3 tag=$4
base=http://$registry/v2/$repository

digest() { echo "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }
size() { wc -c <"$1" | tr -d ' '; }

# A blob goes up in two requests: ask for an upload session, then send all of it there.
push_blob() {
    location=$(curl -fsS -X POST -D - -o /dev/null "$base/blobs/uploads/" |
        tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    case $location in /*) location=http://$registry$location ;; esac
    case $location in *\?*) location="$location&" ;; *) location="$location?" ;; esac
    curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$1" \
        -o /dev/null "${location}digest=$(digest "$1")"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/config" <<EOF
{"created":"2026-01-01T00:00:00Z","architecture":"wasm","os":"wasip1","layerDigests":["$(digest "$module")"]}
EOF
cat >"$work/manifest" <<EOF
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.wasm.config.v0+json","digest":"$(digest "$work/config")","size":$(size "$work/config")},
 "layers":[{"mediaType":"application/wasm","digest":"$(digest "$module")","size":$(size "$module")}]}
EOF
push_blob "$module"
push_blob "$work/config"
curl -fsS -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
    --data-binary "@$work/manifest" -o /dev/null "$base/manifests/$tag"
