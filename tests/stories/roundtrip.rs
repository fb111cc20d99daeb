//! Images go round between wherry and other tools: one makes it, wherry takes it, runs it and gives it on, the other takes
//! it again. At every step the digests of the manifest, of the configuration and of the layers are the same, and at the end
//! of each way the files are what umoci makes of them.
//!
//! Podman keeps layers unpacked and packs them anew, so its round begins with what it has pushed or saved. A Docker archive has no
//! manifest: there the configuration and the layers are compared. Docker, containerd and the newer tools go the same
//! ways by hand, see docs/conformance.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::oci::path;
use crate::support::podman::Podman;
use crate::support::{Wherry, handmade, images, registry, tool};

/// What an image is, wherever it is.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Facts {
    /// Of the manifest or the index; what has none says nothing.
    manifest: Option<String>,
    config: String,
    diff_ids: Vec<String>,
}

impl Facts {
    /// What is behind a manifest's digest, or behind an index's for the platform that `index` names.
    fn behind(digest: &str, platform: &str, blob: &dyn Fn(&str) -> Vec<u8>) -> Self {
        let read = |digest: &str| -> Value {
            let bytes = blob(digest);
            assert_eq!(handmade::digest(&bytes), digest);
            serde_json::from_slice(&bytes).unwrap()
        };
        let mut manifest = read(digest);
        if let Some(entries) = manifest["manifests"].as_array() {
            let entry = entries.iter().find(|entry| entry["platform"]["os"] == platform).expect("this platform");
            manifest = read(entry["digest"].as_str().unwrap());
        }
        let config = manifest["config"]["digest"].as_str().unwrap().to_owned();
        let diff_ids = match &read(&config)["rootfs"]["diff_ids"] {
            // An artifact's layers are what they are.
            Value::Null => {
                manifest["layers"].as_array().unwrap().iter().map(|layer| string(&layer["digest"])).collect()
            }
            diff_ids => strings(diff_ids),
        };
        Self { manifest: Some(digest.to_owned()), config, diff_ids }
    }

    fn in_registry(name: &str, platform: &str) -> Self {
        let (repository, tag) = name.split_once('/').unwrap().1.rsplit_once(':').unwrap();
        let top = handmade::digest(&handmade::get(repository, "manifests", tag));
        Self::behind(&top, platform, &|digest| {
            let kind = ["blobs", "manifests"].into_iter().find(|kind| handmade::has(repository, kind, digest));
            handmade::get(repository, kind.expect("it is there"), digest)
        })
    }

    fn in_layout(dir: &Path, platform: &str) -> Self {
        let index: Value = serde_json::from_slice(&handmade::read(&dir.join("index.json"))).unwrap();
        let digests: BTreeSet<String> =
            index["manifests"].as_array().unwrap().iter().map(|entry| string(&entry["digest"])).collect();
        assert_eq!(digests.len(), 1, "{index}");
        Self::behind(digests.first().unwrap(), platform, &|digest| {
            handmade::read(&dir.join("blobs").join(digest.replace(':', "/")))
        })
    }

    /// A Docker archive, unpacked.
    fn in_docker_archive(dir: &Path) -> Self {
        let list: Value = serde_json::from_slice(&handmade::read(&dir.join("manifest.json"))).unwrap();
        let config = handmade::read(&dir.join(list[0]["Config"].as_str().unwrap()));
        let parsed: Value = serde_json::from_slice(&config).unwrap();
        Self { manifest: None, config: handmade::digest(&config), diff_ids: strings(&parsed["rootfs"]["diff_ids"]) }
    }

    fn in_wherry(wherry: &Wherry, image: &str) -> Self {
        let format = "{{.Descriptor.digest}} {{.Id}} {{json .RootFS.Layers}}";
        Self::said(&wherry.ok(["image", "inspect", "-f", format, image]))
    }

    fn in_podman(podman: &Podman, image: &str) -> Self {
        Self::said(&podman.ok(&["image", "inspect", "-f", "{{.Digest}} sha256:{{.Id}} {{json .RootFS.Layers}}", image]))
    }

    fn said(line: &str) -> Self {
        let [manifest, config, diff_ids] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().expect("three words");
        Self {
            manifest: Some(manifest.to_owned()),
            config: config.to_owned(),
            diff_ids: strings(&serde_json::from_str(diff_ids).unwrap()),
        }
    }

    fn without_manifest(mut self) -> Self {
        self.manifest = None;
        self
    }
}

fn string(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().map(|values| values.iter().map(string).collect()).unwrap_or_default()
}

/// What an image is for: how it is run, and for which system it is picked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum For {
    Linux,
    Wasm,
    /// An index of both.
    Both,
}

impl For {
    /// The system whose entry of an index is looked at.
    fn system(self) -> &'static str {
        match self {
            Self::Wasm => "wasi",
            Self::Linux | Self::Both => "linux",
        }
    }
}

/// The forms in which the registry has images that skopeo has put there.
fn forms() -> Vec<(String, For)> {
    let mut forms: Vec<_> = images::trips().into_iter().map(|image| (image, For::Linux)).collect();
    forms.push((images::index(), For::Both));
    forms.push((images::wasm(), For::Wasm));
    forms.push((images::wasm_artifact(), For::Wasm));
    forms
}

/// Everything about a file that an image can say, a line each, of `bin` and `data` below a directory.
const TREE: &str = r"
import os, stat, sys, hashlib
os.chdir(sys.argv[1])
first = {}
for top in ('bin', 'data'):
    for at, folders, files in [('', [top], [])] + list(os.walk(top)):
        for name in folders + files:
            path = os.path.join(at, name)
            s = os.lstat(path)
            what = os.readlink(path) if stat.S_ISLNK(s.st_mode) else hashlib.sha256(open(path, 'rb').read()).hexdigest() if stat.S_ISREG(s.st_mode) else s.st_rdev
            same = first.setdefault(s.st_ino, path) if not stat.S_ISDIR(s.st_mode) else path
            attributes = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in sorted(os.listxattr(path, follow_symlinks=False))]
            print(ascii(path), oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, what, s.st_nlink * (not stat.S_ISDIR(s.st_mode)), ascii(same), attributes)
";

/// Sorted, because the order in which hard links are found is nobody's.
fn tree(root: &Path) -> Vec<String> {
    let text = tool("python3", &["-c", TREE, path(root)]);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn assert_same_files(root: &Path, what: &str) {
    assert_same(&tree(root), &tree(&images::trips_rootfs()), what);
}

/// The same in podman's store, whose copies have directories of today and nothing from before 1970.
#[track_caller]
fn assert_same_files_in_podman(podman: &Podman, image: &str, what: &str) {
    let timeless = |root: &Path| -> Vec<String> {
        let without = |line: String| {
            line.split(' ').enumerate().filter(|(at, _)| *at != 4).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        };
        let time = |line: &String| line.contains(" 0o4") || line.starts_with("'data/far'");
        tree(root).into_iter().map(|line| if time(&line) { without(line) } else { line }).collect()
    };
    let mounted = podman.ok(&["image", "mount", image]);
    assert_same(&timeless(Path::new(&mounted)), &timeless(&images::trips_rootfs()), what);
    podman.ok(&["image", "umount", image]);
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String], what: &str) {
    let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    assert!(expected.len() > 30, "{expected:?}");
    assert_eq!(only(found, expected), only(expected, found), "{what}");
}

/// One image on its way.
struct Trip<'a> {
    wherry: Wherry,
    what: String,
    image: &'a str,
    kind: For,
}

impl<'a> Trip<'a> {
    fn new(peer: &str, image: &'a str, kind: For) -> Self {
        let what = format!("{peer}: {image}");
        Self { wherry: Wherry::new(), what, image, kind }
    }

    /// Pulled, and what is there is what the registry has.
    fn pulled(&self) -> Facts {
        let facts = Facts::in_registry(self.image, self.kind.system());
        self.wherry.ok(["pull", "-q", self.image]);
        if self.kind == For::Both {
            self.wherry.ok(["pull", "-q", "--platform", "wasi/wasm", self.image]);
        }
        self.assert_here(self.image, &facts);
        facts
    }

    /// Loaded; the name or the id that it has here.
    fn loaded(&self, from: &Path, facts: &Facts) -> String {
        let said = self.wherry.ok(["load", "-i", path(from)]);
        let (_, name) = said.rsplit_once(": ").unwrap_or_else(|| panic!("{}: {said}", self.what));
        self.assert_here(name, facts);
        name.to_owned()
    }

    fn assert_here(&self, name: &str, facts: &Facts) {
        let mut here = Facts::in_wherry(&self.wherry, name);
        // That of an index shows when it goes on: what is here is one platform's.
        if facts.manifest.is_none() || self.kind == For::Both {
            here.manifest.clone_from(&facts.manifest);
        }
        assert_eq!(here, *facts, "{}: here", self.what);
    }

    /// It runs, and its files are those that it was made of.
    fn runs(&self, name: &str) {
        let run = |platform: &str, command: &[&str]| {
            let options = ["run", "--rm", "--network", "none", "--pull", "never", "--platform", platform, name];
            self.wherry.ok([&options, command].concat())
        };
        match self.kind {
            For::Wasm => assert_eq!(run("wasi/wasm", &["args", "guest"]), "args\nguest", "{}", self.what),
            For::Both => {
                assert_eq!(run("linux", &["echo", "native"]), "native", "{}", self.what);
                assert_eq!(run("wasi/wasm", &["args", "guest"]), "args\nguest", "{}", self.what);
            }
            For::Linux => {
                let capable =
                    ["run", "-u", "1000", "--network", "none", "--name", "traveller", "--pull", "never", name];
                let seen =
                    self.wherry
                        .ok([&capable[..], &["/data/busybox-capped", "grep", "CapEff", "/proc/self/status"]].concat());
                assert_eq!(seen, "CapEff:\t0000000000002000", "{}: the file's capability", self.what);
                self.exported();
            }
        }
    }

    fn exported(&self) {
        let folder = self.wherry.folder("exported");
        let archive = self.wherry.folder("out").join("exported.tar");
        self.wherry.ok(["export", "-o", path(&archive), "traveller"]);
        self.wherry.ok(["rm", "traveller"]);
        let options = ["--numeric-owner", "--xattrs", "--xattrs-include=*"];
        tool("tar", &[&options, &["-xpf", path(&archive), "-C", path(&folder)][..]].concat());
        assert_same_files(&folder, &self.what);
    }

    /// Pushed under another name, where it is what it was; that name.
    fn pushed(&self, name: &str, facts: &Facts) -> String {
        let unique = self.wherry.root().file_name().unwrap().to_str().unwrap().to_lowercase();
        let copy = format!("{}/trips/{unique}:again", registry::registry().host);
        self.wherry.ok(["push", "-q", name, &copy]);
        let there = Facts::in_registry(&copy, self.kind.system());
        assert_eq!(there.without_unless(facts), *facts, "{}: pushed", self.what);
        copy
    }

    /// Saved; the archive, and the same unpacked.
    fn saved(&self, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
        let archive = self.wherry.folder("out").join("saved.tar");
        self.wherry.ok(["save", "-o", path(&archive), name]);
        (archive.clone(), self.unpacked("saved", &archive))
    }

    fn unpacked(&self, name: &str, archive: &Path) -> std::path::PathBuf {
        let folder = self.wherry.folder(name);
        tool("tar", &["-C", path(&folder), "-xf", path(archive)]);
        folder
    }
}

impl Facts {
    /// Compared with what has no manifest, it has none.
    fn without_unless(self, other: &Self) -> Self {
        if other.manifest.is_none() { self.without_manifest() } else { self }
    }
}

/// skopeo takes it as a layout, and what it has then is compared.
fn skopeo_takes(trip: &Trip<'_>, from: &str, facts: &Facts) {
    let layout = trip.wherry.folder("theirs").join("layout");
    let all: &[&str] = if trip.kind == For::Both { &["--all"] } else { &[] };
    let to = format!("oci:{}:x", path(&layout));
    let plain = ["copy", "-q", "--preserve-digests", "--src-tls-verify=false", "--dest-oci-accept-uncompressed-layers"];
    tool("skopeo", &[&plain, all, &[from, &to]].concat());
    assert_eq!(Facts::in_layout(&layout, trip.kind.system()), *facts, "{}: with skopeo again", trip.what);
    fs::remove_dir_all(layout).unwrap();
}

#[test]
fn skopeo_by_the_registry() {
    let mut count = 0;
    for (image, kind) in forms() {
        let trip = Trip::new("skopeo, registry", &image, kind);
        let facts = trip.pulled();
        trip.runs(&image);
        let copy = trip.pushed(&image, &facts);
        // A configuration that is none of an image it copies as what it is.
        skopeo_takes(&trip, &format!("docker://{copy}"), &facts);
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn skopeo_by_oci_archives() {
    let mut count = 0;
    for (image, kind) in forms() {
        let trip = Trip::new("skopeo, oci-archive", &image, kind);
        let archive = trip.wherry.folder("in").join("image.tar");
        let all: &[&str] = if kind == For::Both { &["--all"] } else { &[] };
        // It writes no other manifest than an OCI one there.
        let kept: &[&str] = if image.contains(":schema2") { &["--format", "oci"] } else { &["--preserve-digests"] };
        let plain = ["copy", "-q", "--src-tls-verify=false", "--dest-oci-accept-uncompressed-layers"];
        let (from, to) = (format!("docker://{image}"), format!("oci-archive:{}:some/name:1", path(&archive)));
        tool("skopeo", &[&plain, kept, all, &[&from, &to]].concat());
        let facts = Facts::in_layout(&trip.unpacked("came", &archive), kind.system());
        let name = trip.loaded(&archive, &facts);
        trip.runs(&name);
        let (saved, layout) = trip.saved(&name);
        assert_eq!(Facts::in_layout(&layout, kind.system()), facts, "{}: saved", trip.what);
        skopeo_takes(&trip, &format!("oci-archive:{}", path(&saved)), &facts);
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn skopeo_by_docker_archives() {
    let mut count = 0;
    // It does not convert zstd.
    for image in images::trips().into_iter().filter(|image| !image.contains(":zstd")) {
        let trip = Trip::new("skopeo, docker-archive", &image, For::Linux);
        let archive = trip.wherry.folder("in").join("image.tar");
        let to = format!("docker-archive:{}:some/name:1", path(&archive));
        tool("skopeo", &["copy", "-q", "--src-tls-verify=false", &format!("docker://{image}"), &to]);
        let facts = Facts::in_docker_archive(&trip.unpacked("came", &archive));
        let name = trip.loaded(&archive, &facts);
        trip.runs(&name);
        let (saved, folder) = trip.saved(&name);
        assert_eq!(Facts::in_docker_archive(&folder), facts, "{}: saved", trip.what);
        let again = trip.wherry.folder("again").join("image.tar");
        let to = format!("docker-archive:{}:some/name:1", path(&again));
        tool("skopeo", &["copy", "-q", &format!("docker-archive:{}", path(&saved)), &to]);
        let taken = Facts::in_docker_archive(&trip.unpacked("taken", &again));
        assert_eq!(taken, facts, "{}: with skopeo again", trip.what);
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn umoci_by_layouts() {
    let mut count = 0;
    for image in images::trips().into_iter().filter(|image| !image.contains(":zstd")) {
        let trip = Trip::new("umoci, layout", &image, For::Linux);
        let layout = trip.wherry.folder("in").join("layout");
        let to = format!("{}:x", path(&layout));
        let options = ["copy", "-q", "--src-tls-verify=false", "--dest-oci-accept-uncompressed-layers"];
        tool("skopeo", &[&options[..], &[&format!("docker://{image}"), &format!("oci:{to}")]].concat());
        // A step of umoci's own, without a layer.
        tool("umoci", &["config", "--image", &to, "--config.label", "by=umoci"]);
        tool("umoci", &["gc", "--layout", path(&layout)]);
        let facts = Facts::in_layout(&layout, "linux");
        let name = trip.loaded(&layout, &facts);
        trip.runs(&name);
        let (_, folder) = trip.saved(&name);
        assert_eq!(Facts::in_layout(&folder, "linux"), facts, "{}: saved", trip.what);
        // It wants a name, and an image that was a directory's has none.
        let index = folder.join("index.json");
        let mut parsed: Value = serde_json::from_slice(&handmade::read(&index)).unwrap();
        parsed["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "x".into();
        fs::write(&index, parsed.to_string()).unwrap();
        let bundle = trip.wherry.folder("taken").join("bundle");
        tool("umoci", &["unpack", "--image", &format!("{}:x", path(&folder)), path(&bundle)]);
        assert_same_files(&bundle.join("rootfs"), &trip.what);
        count += 1;
    }
    assert_eq!(count, 3);
}

/// An image of podman's own making, from one that it has pulled: layers, and steps without one.
fn podman_builds(podman: &Podman, format: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("more"), "more\n").unwrap();
    let from = images::trips().remove(0);
    let steps = format!(
        "FROM {from}\nENV BY=podman\nCOPY more /etc/more\nLABEL a=b\nRUN rm /etc/passwd.old; echo run > /etc/run\nCMD [\"sh\"]\n"
    );
    fs::write(folder.path().join("Containerfile"), steps).unwrap();
    podman.ok(&[
        "build",
        "-q",
        "--tls-verify=false",
        "--isolation",
        "chroot",
        "--format",
        format,
        "-t",
        "made",
        path(folder.path()),
    ]);
}

#[test]
fn podman_by_the_registry() {
    let podman = Podman::new();
    let mut count = 0;
    for format in ["oci", "docker"] {
        podman_builds(&podman, format);
        for compression in ["gzip", "zstd"].into_iter().filter(|one| format == "oci" || *one == "gzip") {
            let image =
                format!("{}/trips/podman-{}:{format}-{compression}", registry::registry().host, std::process::id());
            let manifest = if format == "oci" { "oci" } else { "v2s2" };
            podman.ok(&[
                "push",
                "-q",
                "--tls-verify=false",
                "--format",
                manifest,
                "--compression-format",
                compression,
                "made",
                &image,
            ]);
            let trip = Trip::new("podman, registry", &image, For::Linux);
            let facts = trip.pulled();
            assert_eq!(facts.clone().without_manifest(), Facts::in_podman(&podman, "made").without_manifest());
            trip.runs(&image);
            assert_eq!(trip.wherry.ok(["run", "--rm", &image, "cat", "/etc/run", "/etc/more"]), "run\nmore");
            let copy = trip.pushed(&image, &facts);
            let fresh = Podman::new();
            fresh.ok(&["pull", "-q", "--tls-verify=false", &copy]);
            assert_eq!(Facts::in_podman(&fresh, &copy), facts, "{}: with podman again", trip.what);
            assert_same_files_in_podman(&fresh, &copy, &trip.what);
            count += 1;
        }
    }
    assert_eq!(count, 3);
}

#[test]
fn podman_by_archives() {
    let podman = Podman::new();
    let mut count = 0;
    for (build, format) in [
        ("oci", "oci-archive"),
        ("oci", "oci-archive --uncompressed"),
        ("oci", "docker-archive"),
        ("docker", "docker-archive"),
    ] {
        podman_builds(&podman, build);
        let trip = Trip::new("podman", format, For::Linux);
        let archive = trip.wherry.folder("in").join("image.tar");
        let words: Vec<&str> = format.split(' ').collect();
        podman.ok(&[&["save", "-q", "-o", path(&archive), "--format"], &words[..], &["made"]].concat());
        let came = trip.unpacked("came", &archive);
        let oci = format.starts_with("oci");
        let read = |dir: &Path| if oci { Facts::in_layout(dir, "linux") } else { Facts::in_docker_archive(dir) };
        let facts = read(&came);
        let name = trip.loaded(&archive, &facts);
        trip.runs(&name);
        let (saved, folder) = trip.saved(&name);
        assert_eq!(read(&folder), facts, "{}: saved", trip.what);
        let fresh = Podman::new();
        fresh.ok(&["load", "-q", "-i", path(&saved)]);
        assert_eq!(Facts::in_podman(&fresh, &name).without_unless(&facts), facts, "{}: with podman again", trip.what);
        assert_same_files_in_podman(&fresh, &name, &trip.what);
        count += 1;
    }
    assert_eq!(count, 4);
}

/// What wherry makes itself: by commit, and by import.
#[test]
fn each_takes_what_wherry_makes() {
    let base = images::trips().remove(0);
    let trip = Trip::new("wherry", &base, For::Linux);
    trip.pulled();
    trip.wherry.ok(["run", "--name", "worker", "--network", "none", &base, "sh", "-c", "echo new > /etc/new"]);
    trip.wherry.ok(["commit", "-c", "LABEL a=b", "worker", "made:commit"]);
    import(&trip.wherry, "worker", "made:import");
    let mut count = 0;
    for name in ["made:commit", "made:import"] {
        let facts = Facts::in_wherry(&trip.wherry, name);
        let copy = trip.pushed(name, &facts);
        skopeo_takes(&trip, &format!("docker://{copy}"), &facts);
        let (saved, layout) = trip.saved(name);
        assert_eq!(Facts::in_layout(&layout, "linux"), facts, "{name}: saved");
        skopeo_takes(&trip, &format!("oci-archive:{}", path(&saved)), &facts);
        for way in ["pull", "load"] {
            let podman = Podman::new();
            let theirs = match way {
                "pull" => podman.ok(&["pull", "-q", "--tls-verify=false", &copy]),
                _ => podman.ok(&["load", "-q", "-i", path(&saved)]).rsplit_once(": ").unwrap().1.to_owned(),
            };
            assert_eq!(Facts::in_podman(&podman, &theirs), facts, "{name}: {way}");
            assert_same_files_in_podman(&podman, &theirs, name);
        }
        let bundle = trip.wherry.folder("umoci").join(name.replace(':', "-"));
        tool("umoci", &["unpack", "--image", &format!("{}:{}", path(&layout), &name[5..]), path(&bundle)]);
        assert_same_files(&bundle.join("rootfs"), name);
        count += 5;
        fs::remove_dir_all(layout).unwrap();
    }
    assert_eq!(count, 10);
}

fn import(wherry: &Wherry, container: &str, name: &str) {
    let script = format!("\"$0\" export {container} | \"$0\" import - {name}");
    let mut shell = Command::new("sh");
    wherry.lend_environment(&mut shell);
    let output = shell.args(["-c", &script, env!("CARGO_BIN_EXE_wherry")]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
