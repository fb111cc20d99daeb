//! `wherry save` and `load`: archives that other tools read and write too, and those that are refused.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::oci::path;
use crate::support::{Wherry, handmade, images, tool};

fn manifest_of(wherry: &Wherry, image: &str) -> String {
    wherry.ok(["image", "inspect", "-f", "{{.Descriptor.digest}}", image])
}

#[test]
fn what_is_saved_is_loaded_again_digest_for_digest() {
    for image in [images::busybox(), images::busybox_zstd(), images::deep(), images::index(), images::wasm_artifact()] {
        let (one, other) = (Wherry::with(&image), Wherry::new());
        let archive = one.folder("out").join("image.tar");
        one.ok(["save", "-o", path(&archive), &image]);
        let again = one.folder("out").join("again.tar");
        one.ok(["save", "-o", path(&again), &image]);
        assert!(fs::read(&archive).unwrap() == fs::read(&again).unwrap(), "the same image makes the same bytes");
        assert_eq!(other.ok(["load", "-i", path(&archive)]), format!("Loaded image: {image}"));
        assert_eq!(manifest_of(&other, &image), manifest_of(&one, &image), "{image}");
        if image == images::busybox() {
            assert_eq!(other.ok(["run", "--rm", "--pull", "never", &image, "echo", "loaded"]), "loaded");
        }
    }
}

#[test]
fn several_images_and_compressed_archives_through_a_pipe() {
    let (image, other) = (images::busybox(), images::deep());
    let wherry = Wherry::with(&image);
    wherry.ok(["pull", "-q", &other]);
    wherry.ok(["tag", &image, "second:name"]);
    let archive = wherry.folder("out").join("all.tar");
    wherry.ok(["save", "-o", path(&archive), &image, &other, "second:name"]);
    let listed = tool("tar", &["-tf", path(&archive)]);
    let mut members: Vec<&str> = listed.lines().collect();
    members.sort_unstable();
    let count = members.len();
    members.dedup();
    assert_eq!(members.len(), count, "each blob once");
    for compressor in ["gzip", "zstd", "cat"] {
        let fresh = Wherry::new();
        let script = format!("{compressor} < {} | \"$@\" load", path(&archive));
        let command = fresh.command(["load"]);
        let program = command.get_program().to_owned();
        let said = {
            let mut shell = Command::new("sh");
            fresh.lend_environment(&mut shell);
            shell.args(["-c", &script, "sh"]).arg(program);
            let globals: Vec<_> = command.get_args().take_while(|a| *a != "load").map(ToOwned::to_owned).collect();
            let output = shell.args(globals).output().unwrap();
            assert!(output.status.success(), "{compressor}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        for name in [&image, &other, "second:name"] {
            assert!(said.contains(&format!("Loaded image: {name}\n")), "{compressor}: {said}");
        }
        assert_eq!(fresh.ok(["run", "--rm", "second:name", "echo", "here"]), "here");
    }
    let xz = wherry.folder("out").join("all.tar.xz");
    tool("sh", &["-c", &format!("xz -0 < {} > {}", path(&archive), path(&xz))]);
    Wherry::new().call(["load", "-i", path(&xz)]).expect(1).complains(&["xz"]);
}

#[test]
fn archives_of_older_dockers_are_loaded() {
    let fresh = Wherry::new();
    let dir = fresh.folder("in");
    // Before 25: a directory for each layer, a link where two images share one.
    let layer = handmade::tar(&[("hello", b"world")]);
    let id = handmade::digest(&layer);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [id, id]}});
    let config = config.to_string();
    let name = handmade::digest(config.as_bytes()).replace("sha256:", "") + ".json";
    let old = dir.join("old");
    fs::create_dir_all(old.join("aaaa")).unwrap();
    fs::create_dir_all(old.join("bbbb")).unwrap();
    fs::write(old.join("aaaa/layer.tar"), &layer).unwrap();
    fs::write(old.join("aaaa/VERSION"), "1.0").unwrap();
    fs::write(old.join("aaaa/json"), "{}").unwrap();
    std::os::unix::fs::symlink("../aaaa/layer.tar", old.join("bbbb/layer.tar")).unwrap();
    fs::write(old.join(&name), &config).unwrap();
    let list =
        json!([{"Config": name, "RepoTags": ["old:1", "old:2"], "Layers": ["aaaa/layer.tar", "bbbb/layer.tar"]}]);
    fs::write(old.join("manifest.json"), list.to_string()).unwrap();
    let archive = dir.join("old.tar");
    tool("tar", &["-C", path(&old), "-cf", path(&archive), "aaaa", "bbbb", &name, "manifest.json"]);
    assert_eq!(fresh.ok(["load", "-i", path(&archive)]), "Loaded image: old:1\nLoaded image: old:2");
    assert_eq!(fresh.ok(["images", "-q", "--no-trunc", "old:1"]), handmade::digest(config.as_bytes()));
}

#[test]
fn an_image_without_a_name_has_its_id() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let archive = wherry.folder("out").join("image.tar");
    let id = wherry.ok(["images", "-q", "--no-trunc"]);
    wherry.ok(["save", "-o", path(&archive), &id]);
    let fresh = Wherry::new();
    assert_eq!(fresh.ok(["load", "-i", path(&archive)]), format!("Loaded image ID: {id}"));
    let table = fresh.ok(["images"]);
    assert!(table.lines().nth(1).unwrap().starts_with("<none>       <none>    "), "{table}");
    assert_eq!(fresh.ok(["run", "--rm", &id[7..19], "echo", "nameless"]), "nameless");
    fresh.ok(["tag", &id, "now:named"]);
    assert_eq!(fresh.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]), "now:named");
    // The same as a directory, which umoci has changed meanwhile.
    let layout = wherry.folder("layout");
    tool("tar", &["-C", path(&layout), "-xf", path(&archive)]);
    let image = format!("{}:x", path(&layout));
    let from = format!("oci-archive:{}", path(&archive));
    tool("skopeo", &["copy", "-q", &from, &format!("oci:{image}")]);
    tool("umoci", &["config", "--image", &image, "--config.env", "UMOCI=1"]);
    let said = fresh.ok(["load", "-i", path(&layout)]);
    let ids: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Loaded image ID: ")).collect();
    assert!(ids.iter().any(|id| fresh.ok(["run", "--rm", id, "sh", "-c", "echo $UMOCI"]) == "1"), "{said}");
    wherry.call(["save", "nobody"]).expect(1).complains(&["No such image", "nobody"]);
}

/// As Docker 28 writes them: its index lists what has a name, its list has all.
#[test]
fn an_image_that_only_dockers_list_has_is_loaded_too() {
    let layer = handmade::tar(&[("hello", b"world")]);
    let config = |author: &str| {
        let diff_ids = [handmade::digest(&layer)];
        let config = json!({"architecture": "amd64", "os": "linux", "author": author, "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        config.to_string().into_bytes()
    };
    let (named, nameless) = (config("one"), config("two"));
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &handmade::digest(bytes)[7..]);
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": handmade::digest(bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &named), "layers": [descriptor("layer.v1.tar", &layer)]});
    let manifest = manifest.to_string().into_bytes();
    let entry = |name: &str| {
        let mut entry = descriptor("manifest.v1+json", &manifest);
        entry["annotations"] = json!({"io.containerd.image.name": format!("docker.io/library/{name}")});
        entry
    };
    let index = json!({"schemaVersion": 2, "manifests": [entry("some:1"), entry("other:1")]});
    let list = json!([
        {"Config": blob(&named), "RepoTags": ["some:1", "other:1"], "Layers": [blob(&layer)]},
        {"Config": blob(&nameless), "RepoTags": null, "Layers": [blob(&layer)]},
    ]);
    let fresh = Wherry::new();
    let archive = fresh.folder("in").join("docker.tar");
    let members = [&layer, &named, &nameless, &manifest].map(|bytes| (blob(bytes), bytes.clone()));
    let mut files: Vec<(&str, Vec<u8>)> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    files.push(("index.json", index.to_string().into_bytes()));
    files.push(("manifest.json", list.to_string().into_bytes()));
    fs::write(&archive, raw_tar(&files)).unwrap();
    let id = handmade::digest(&nameless);
    let said = fresh.ok(["load", "-i", path(&archive)]);
    assert_eq!(said, format!("Loaded image: some:1\nLoaded image: other:1\nLoaded image ID: {id}"));
    assert_eq!(fresh.ok(["images", "-q", "--no-trunc", "-f", "dangling=true"]), id);
    // Two names in the index, with what it notes of each, are one image.
    assert!(fresh.ok(["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).starts_with("Images 2\n"));
}

/// An archive whose members have just these names, whatever they are.
fn raw_tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Makes an archive of files, and gives it to a fresh store, which must refuse it and be as empty as before.
fn refused(files: &[(&str, Vec<u8>)], says: &str) {
    refused_bytes(&raw_tar(files), says);
}

fn refused_bytes(archive: &[u8], says: &str) {
    let fresh = Wherry::new();
    let file = fresh.folder("in").join("bad.tar");
    fs::write(&file, archive).unwrap();
    let call = fresh.call(["load", "-i", path(&file)]);
    assert!(call.stderr.contains(says), "it should say {says:?}: {call}");
    let obeyed = |c: char| c == '\u{202e}' || (c.is_control() && c != '\n');
    assert!(!call.stderr.contains(obeyed), "a terminal would obey {:?}", call.stderr);
    call.expect(1).says("");
    assert_eq!(fresh.ok(["images", "-aq"]), "", "{says}");
    let layers = fs::read_dir(fresh.root().join("layers"));
    let layers = layers.into_iter().flatten().filter(|entry| entry.as_ref().unwrap().file_name().len() == 64).count();
    assert_eq!(layers, 0, "{says}");
    let blobs = fs::read_dir(fresh.root().join("content/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 0, "{says}");
    let canary = fresh.root().parent().unwrap().join("escaped");
    assert!(!canary.exists());
}

#[test]
fn hostile_archives_are_refused_with_the_reason() {
    let layer = handmade::tar(&[("hello", b"world")]);
    let layer_digest = handmade::digest(&layer);
    let config = |diff: &[&str]| {
        json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff}})
            .to_string()
            .into_bytes()
    };
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &handmade::digest(bytes)[7..]);
    let descriptor =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": handmade::digest(bytes), "size": bytes.len()});
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    let manifest = |config: &[u8], layers: &[&[u8]]| {
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers})
            .to_string()
            .into_bytes()
    };
    let index = |entries: &[Value]| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes()
    };
    let good_config = config(&[&layer_digest]);
    let good = manifest(&good_config, &[&layer]);
    let whole = |index: Vec<u8>, more: &[(&'static str, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
        let mut files = vec![("index.json".to_owned(), index)];
        for bytes in [&layer, &good_config, &good] {
            files.push((blob(bytes), bytes.clone()));
        }
        files.extend(more.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())));
        files
    };
    let check = |files: Vec<(String, Vec<u8>)>, says: &str| {
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        refused(&files, says);
    };
    let entry = descriptor(MANIFEST, &good);
    check(whole(index(&[]), &[]), "no images");
    check(whole(b"{".to_vec(), &[]), "index.json cannot be read");
    check(whole(index(std::slice::from_ref(&entry)), &[("../escaped", vec![1])]), "leads out of the archive");
    check(whole(index(std::slice::from_ref(&entry)), &[("/escaped", vec![1])]), "leads out of the archive");
    check(whole(index(std::slice::from_ref(&entry)), &[("a/../../escaped", vec![1])]), "leads out of the archive");
    check(whole(index(std::slice::from_ref(&entry)), &[("blobs/sha256/..", vec![1])]), "leads out of the archive");
    check(whole(index(std::slice::from_ref(&entry)), &[("blobs/sha256/ABC", vec![1])]), "is no blob");
    check(
        whole(index(std::slice::from_ref(&entry)), &[("blobs/md5/d41d8cd98f00b204e9800998ecf8427e", vec![1])]),
        "is no blob",
    );
    check(whole(index(std::slice::from_ref(&entry)), &[("index.json", b"{}".to_vec())]), "there twice");
    check(
        whole(index(std::slice::from_ref(&entry)), &[("manifest.json", vec![b' '; (4 << 20) + 1])]),
        "more than 4194304",
    );
    // A blob that is not what its name says.
    let mut lying = whole(index(std::slice::from_ref(&entry)), &[]);
    lying[1].1[0] ^= 1;
    check(lying, "was damaged or tampered with");
    for missing in 1..4 {
        let mut files = whole(index(std::slice::from_ref(&entry)), &[]);
        files.remove(missing);
        check(files, "is missing");
    }
    let mut wrong_size = entry.clone();
    wrong_size["size"] = json!(1);
    check(whole(index(&[wrong_size]), &[]), "says 1");
    let mut another = entry.clone();
    another["annotations"] = json!({"io.containerd.image.name": format!("x@{}", handmade::digest(b"other"))});
    check(whole(index(&[another]), &[]), "the name of another");
    let list = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": []}]).to_string().into_bytes();
    check(
        whole(index(std::slice::from_ref(&entry)), &[("c.json", b"{}".to_vec()), ("manifest.json", list)]),
        "which no image of index.json has",
    );
    let twice = blob(&layer);
    let mut files = whole(index(std::slice::from_ref(&entry)), &[]);
    files.push((twice, layer.clone()));
    check(files, "there twice");
    check(whole(index(&vec![entry.clone(); 20_000]), &[]), "more than 10000 images");
    let with = |bytes: Vec<u8>, kind: &str, more: Vec<Vec<u8>>| {
        let mut files = whole(index(&[descriptor(kind, &bytes)]), &[]);
        files.push((blob(&bytes), bytes));
        files.extend(more.into_iter().map(|bytes| (blob(&bytes), bytes)));
        files
    };
    let both = json!({"schemaVersion": 2, "config": descriptor(CONFIG, &good_config), "layers": [descriptor(LAYER, &layer)], "manifests": [entry]});
    check(with(both.to_string().into_bytes(), MANIFEST, vec![]), "is refused");
    check(with(both.to_string().into_bytes(), INDEX, vec![]), "is refused");
    check(with(good.clone(), INDEX, vec![]), "is refused");
    check(with(b"not json".to_vec(), MANIFEST, vec![]), "is refused");
    let more_layers = manifest(&good_config, &[&layer, &layer]);
    check(with(more_layers, MANIFEST, vec![]), "layer");
    let other_diff = config(&[&handmade::digest(b"something else")]);
    check(with(manifest(&other_diff, &[&layer]), MANIFEST, vec![other_diff]), "layer 1");
    let no_tar = vec![b'x'; 2048];
    let no_tar_config = config(&[&handmade::digest(&no_tar)]);
    check(with(manifest(&no_tar_config, &[&no_tar]), MANIFEST, vec![no_tar_config, no_tar]), "layer 1");
    // Names that a terminal would obey: of a member, of a layer's entry, of an image.
    let evil = "\u{1b}[2J\u{9b}31m\r\u{202e}";
    let member = (format!("../{evil}"), vec![1]);
    check([whole(index(std::slice::from_ref(&entry)), &[]), vec![member]].concat(), "leads out of the archive");
    let entry_name = raw_tar(&[(&format!("../{evil}"), vec![1])]);
    let entry_config = config(&[&handmade::digest(&entry_name)]);
    check(with(manifest(&entry_config, &[&entry_name]), MANIFEST, vec![entry_config, entry_name]), "layer 1");
    let mut named = entry.clone();
    named["annotations"] = json!({"io.containerd.image.name": evil});
    check(whole(index(&[named]), &[]), "invalid reference");
    let bad_config = b"[]".to_vec();
    check(with(manifest(&bad_config, &[&layer]), MANIFEST, vec![bad_config]), "config");
    // Indexes in indexes.
    let (mut deep, mut all) = (descriptor(MANIFEST, &good), Vec::new());
    for _ in 0..8 {
        let bytes = index(&[deep]);
        deep = descriptor(INDEX, &bytes);
        all.push(bytes);
    }
    let top = all.pop().unwrap();
    check(with(top, INDEX, all), "index of indexes");
    let many = index(&vec![entry.clone(); 1100]);
    check(with(many, INDEX, vec![]), "lists 1100 manifests");
    // Docker's list.
    let docker = |list: Value, files: &[(&str, Vec<u8>)], says: &str| {
        let list = list.to_string().into_bytes();
        refused(&[&[("manifest.json", list)], files].concat(), says);
    };
    let parts = [("c.json", good_config.clone()), ("l.tar", layer.clone())];
    docker(json!([{"Config": "c.json", "RepoTags": ["Upper:1"], "Layers": ["l.tar"]}]), &parts, "lowercase");
    docker(json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["../l.tar"]}]), &parts, "leads out");
    docker(json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["none.tar"]}]), &parts, "none.tar is missing");
    docker(json!([{"Config": "none.json", "RepoTags": ["a:1"], "Layers": []}]), &parts, "none.json is missing");
    docker(json!([{"Config": "l.tar", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]), &parts, "config");
    docker(json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": []}]), &parts, "layer");
    docker(json!({"a": 1}), &parts, "manifest.json cannot be read");
    docker(json!([]), &parts, "no images");
    refused(&[("something", vec![1])], "is missing");
    refused_bytes(b"", "is missing");
    refused_bytes(&[b'x'; 4096], "cannot read the archive");
    let cut = raw_tar(&[("index.json", index(&[entry]))]);
    refused_bytes(&cut[..700], "cut off");
}

#[test]
fn a_link_of_an_archive_leads_to_no_file_of_this_machine() {
    let fresh = Wherry::new();
    let dir = fresh.folder("in");
    std::os::unix::fs::symlink("/etc/passwd", dir.join("l.tar")).unwrap();
    std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": []}}).to_string();
    fs::write(dir.join("c.json"), config).unwrap();
    for (layer, says) in [("l.tar", "not in the archive"), ("loop", "loop is missing")] {
        let list = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": [layer]}]).to_string();
        fs::write(dir.join("manifest.json"), list).unwrap();
        let archive = fresh.folder("out").join("bad.tar");
        tool("tar", &["-C", path(&dir), "-cf", path(&archive), "l.tar", "loop", "c.json", "manifest.json"]);
        fresh.call(["load", "-i", path(&archive)]).expect(1).complains(&[says]);
    }
}
