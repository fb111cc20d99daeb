"""The image of the benches: an OCI layout of 8 gzip layers of this system's own files, 20,000 entries, 600 MB, about 200 MB compressed.

    python3 benches/images.py DIRECTORY

Tags: `big` has 8 layers, `next` the first 7 of them and another one, `one` a single small one. The same files make the same bytes.
"""
import gzip
import hashlib
import json
import os
import random
import shutil
import sys
import tarfile

TOPS = ("/usr/lib", "/usr/share", "/usr/include", "/usr/bin", "/usr/libexec")
LAYERS, ENTRIES, BYTES = 8, 20_000, 600_000_000
LARGEST = 24 << 20
# So many entries of each layer are kept for the large programs that fill it up.
FEW = 30
# What other systems' packages put there.
FOREIGN = ("google-cloud-sdk", "jvm", "local")
SMALL = (600, 9_000_000)


def directories():
    """Directories and the files in them that may be taken, each file once however many names it has."""
    seen = set()
    for top in TOPS:
        for base, below, names in os.walk(top):
            below[:] = sorted(name for name in below if name not in FOREIGN)
            files = []
            for name in sorted(names):
                path = os.path.join(base, name)
                status = os.lstat(path)
                taken = os.path.islink(path) or (os.path.isfile(path) and status.st_size <= LARGEST and status.st_ino not in seen)
                if taken:
                    seen.add(status.st_ino)
                    files.append((path, status.st_size))
            if files:
                yield files


def parents(path):
    while (path := os.path.dirname(path)) != "/":
        yield path


class Layer:
    """Files of one layer, and the directories that lead there."""

    def __init__(self, entries, size):
        self.entries, self.size = entries, size
        self.paths = set()

    def add(self, files):
        """Takes what fits of files; whether they were more than fit."""
        for path, size in files:
            new = {path, *parents(path)} - self.paths
            if len(self.paths) + len(new) > self.entries or size > self.size:
                return True
            self.paths |= new
            self.size -= size
        return False

    def write(self, path):
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(self.paths):
                tar.add(name, recursive=False)


def fill(layer, ahead, large):
    """Fills a layer with directories, whole ones as a package would bring, and what is then left of its bytes with programs."""
    while ahead and not layer.add(ahead.pop()):
        pass
    layer.entries += FEW
    for file in list(large):
        if not layer.add([file]):
            large.remove(file)


def main(out):
    ahead = list(directories())
    random.Random(7).shuffle(ahead)
    is_large = lambda path, size: size > 2 << 20 and (".so" in path or os.access(path, os.X_OK))
    large = [file for files in ahead for file in files if is_large(*file)]
    ahead = [[file for file in files if file[1] <= 2 << 20] for files in ahead]
    layers = [Layer(ENTRIES // LAYERS - FEW, BYTES // LAYERS) for _ in range(LAYERS + 1)]
    for layer in layers:
        fill(layer, ahead, large)
    small = Layer(*SMALL)
    fill(small, ahead, [])
    write(out, layers, small)


def write(out, layers, small):
    blobs = os.path.join(out, "blobs/sha256")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(blobs)

    def blob(data, kind):
        name = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, name), "wb") as file:
            file.write(data)
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + name, "size": len(data)}

    def document(value, kind):
        return blob(json.dumps(value).encode(), kind)

    def made(layer):
        path = os.path.join(out, "layer.tar")
        layer.write(path)
        with open(path, "rb") as file:
            data = file.read()
        os.remove(path)
        return blob(gzip.compress(data, 6, mtime=0), "layer.v1.tar+gzip"), "sha256:" + hashlib.sha256(data).hexdigest(), len(data)

    def image(tag, parts):
        rootfs = {"type": "layers", "diff_ids": [diff for _, diff, _ in parts]}
        config = document({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]}, "rootfs": rootfs}, "config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                    "layers": [layer for layer, _, _ in parts]}
        return document(manifest, "manifest.v1+json") | {"annotations": {"org.opencontainers.image.ref.name": tag}}

    *parts, last = [made(layer) for layer in layers]
    index = [image("big", parts), image("next", [*parts[:-1], last]), image("one", [made(small)])]
    with open(os.path.join(out, "index.json"), "w") as file:
        json.dump({"schemaVersion": 2, "manifests": index}, file)
    entries = sum(len(layer.paths) for layer in layers[:-1])
    unpacked, packed = (sum(sizes) / 1e6 for sizes in ([size for _, _, size in parts], [layer["size"] for layer, _, _ in parts]))
    print(f"{entries} entries, {unpacked:.0f} MB as tar, {packed:.0f} MB compressed", file=sys.stderr)
    # Written last: whoever finds it finds all.
    with open(os.path.join(out, "oci-layout"), "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


main(sys.argv[1])
