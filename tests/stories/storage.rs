//! Blobs that are not kept once their layers are unpacked: nothing is lost by it but disk space.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::handmade::{self, Handmade, IMAGE_CONFIG, TAR, tar};
use crate::support::random::{Random, points};
use crate::support::registry::{private_registry, registry};
use crate::support::{Wherry, images, tool};

const DROP: &str = "[storage]\nkeep-blobs = false\n";

/// How many moments are tried, unless the variable says another number.
const POINTS: usize = 12;

fn blobs(wherry: &Wherry) -> Vec<PathBuf> {
    let blobs = fs::read_dir(wherry.root().join("content/blobs/sha256")).unwrap();
    let mut blobs: Vec<PathBuf> = blobs.map(|entry| entry.unwrap().path()).collect();
    blobs.sort();
    blobs
}

/// How many blobs are no documents.
fn archives(wherry: &Wherry) -> usize {
    blobs(wherry).iter().filter(|path| fs::read(path).unwrap().first() != Some(&b'{')).count()
}

fn bytes(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[track_caller]
fn clean(wherry: &Wherry) {
    wherry.call(["system", "check"]).expect(0).prints(&["no damage"]);
}

fn sql(wherry: &Wherry, statement: &str) {
    assert!(Command::new("sqlite3").arg(wherry.root().join("db.sqlite")).arg(statement).status().unwrap().success());
}

fn dropping(image: &str) -> Wherry {
    let wherry = Wherry::new();
    wherry.configure(DROP);
    wherry.ok(["pull", "-q", image]);
    wherry
}

/// A registry of its own that this wherry may push to.
fn other_registry(wherry: &Wherry) -> String {
    let host = private_registry("me", "s3cret");
    wherry.ok(["login", "-u", "me", "-p", "s3cret", &host]);
    host
}

fn digest(output: &str) -> String {
    output.split_whitespace().find(|word| word.starts_with("sha256:")).expect("a digest").to_owned()
}

#[test]
fn what_is_not_kept_is_not_missed_and_fetched_again_for_a_push_and_a_save() {
    let image = images::busybox();
    let (wherry, keeping) = (dropping(&image), Wherry::with(&image));
    let layers = archives(&keeping);
    assert!(archives(&wherry) == 0 && layers > 2);
    clean(&wherry);
    wherry.call(["system", "check", "--quick"]).expect(0);
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
    assert_eq!(wherry.ok(["images"]), keeping.ok(["images"]));
    let kept = bytes(&keeping.root().join("content/blobs/sha256"));
    let left = bytes(&wherry.root().join("content/blobs/sha256"));
    println!("busybox: {kept} bytes of blobs kept, {left} left");
    assert!(left * 20 < kept);

    let again = wherry.call(["pull", &image]).expect(0);
    again.prints(&["Image is up to date"]);
    assert_eq!(archives(&wherry), 0);

    let host = other_registry(&wherry);
    let name = format!("{host}/app:1");
    wherry.ok(["tag", &image, &name]);
    let pushed = wherry.ok(["push", &name]);
    let expected = keeping.ok(["image", "inspect", "--format", "{{index .RepoDigests 0}}", &image]);
    assert!(expected.ends_with(&digest(&pushed)), "{expected} {pushed}");
    assert_eq!(archives(&wherry), 0, "they go again");

    let archive = |wherry: &Wherry| wherry.folder("out").join("image.tar");
    for wherry in [&wherry, &keeping] {
        wherry.ok(["save", "-o", archive(wherry).to_str().unwrap(), &image]);
    }
    assert!(fs::read(archive(&wherry)).unwrap() == fs::read(archive(&keeping)).unwrap(), "the archives differ");
    assert_eq!(archives(&wherry), 0);
    clean(&wherry);

    // An image that is made on top needs them for its own push.
    wherry.ok(["create", "--name", "base", &image, "true"]);
    wherry.ok(["run", "--name", "more", &image, "touch", "/new"]);
    let made = format!("{host}/made:1");
    wherry.ok(["commit", "more", &made]);
    assert_eq!(archives(&wherry), 1, "what was made here is nowhere else");
    wherry.ok(["push", "-q", &made]);
    clean(&wherry);
    keeping.ok(["login", "-u", "me", "-p", "s3cret", &host]);
    assert_eq!(keeping.ok(["run", "--rm", "-q", &made, "ls", "/new"]), "/new");

    // Kept again, if that is said.
    wherry.ok(["pull", "-q", "--keep-blobs", &image]);
    assert_eq!(archives(&wherry), layers + 1);
    wherry.ok(["save", "-o", archive(&wherry).to_str().unwrap(), &image]);
    assert_eq!(archives(&wherry), layers + 1);
    clean(&wherry);
}

#[test]
fn without_its_registry_what_was_not_kept_is_told_and_the_image_still_runs() {
    let image = images::busybox();
    let wherry = dropping(&image);
    // As if its registry had gone: the names of one that nobody listens at.
    wherry.ok(["tag", &image, "localhost:1/gone:1"]);
    wherry.ok(["rmi", &image]);
    sql(&wherry, "UPDATE dropped SET origin = 'localhost:1/gone'");
    let host = other_registry(&wherry);
    let name = format!("{host}/app:1");
    wherry.ok(["tag", "localhost:1/gone:1", &name]);
    for words in [vec!["push", &name], vec!["save", "-o", "/dev/null", "localhost:1/gone:1"]] {
        let said = wherry.call(words).expect(1);
        said.complains(&["was not kept once it was unpacked", "localhost:1/gone", "--keep-blobs"]);
    }
    assert_eq!(wherry.ok(["run", "--rm", &name, "echo", "whole"]), "whole");
    clean(&wherry);
}

#[test]
fn a_layer_without_its_blob_is_still_held_against_what_it_was() {
    let image = images::busybox();
    let wherry = dropping(&image);
    let layers = fs::read_dir(wherry.root().join("layers")).unwrap().map(|entry| entry.unwrap().path());
    let layer = layers.into_iter().find(|layer| layer.join("diff/bin/busybox").exists()).unwrap();
    let passwd = layer.join("diff/etc/passwd");
    let (right, times) = (fs::read(&passwd).unwrap(), fs::metadata(&passwd).unwrap().modified().unwrap());
    let mut wrong = right.clone();
    wrong[3] ^= 1;
    fs::write(&passwd, &wrong).unwrap();
    fs::File::options().write(true).open(&passwd).unwrap().set_modified(times).unwrap();
    wherry.call(["system", "check"]).expect(1).prints(&["layer sha256:", "not what they were"]);
    wherry.call(["system", "check", "--repair"]).expect(0).prints(&["repaired"]);
    assert_eq!(fs::read(&passwd).unwrap(), right);
    assert_eq!(archives(&wherry), 0);
    clean(&wherry);
    // Without the layer the blob is missed.
    fs::remove_dir_all(&layer).unwrap();
    wherry.call(["system", "check"]).expect(1).prints(&["blob sha256:", "not there"]);
    wherry.ok(["pull", "-q", &image]);
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
    clean(&wherry);
}

#[test]
fn programs_for_webassembly_and_what_another_image_has_not_unpacked_are_kept() {
    let program = images::wasm_artifact();
    let wherry = dropping(&program);
    assert_eq!(archives(&wherry), 1);
    assert_eq!(wherry.ok(["run", "--rm", &program, "args"]).lines().count(), 1);
    wherry.ok(["pull", "-q", &images::busybox()]);
    wherry.ok(["pull", "-q", &images::busybox_zstd()]);
    wherry.ok(["rmi", &images::busybox()]);
    assert_eq!(wherry.ok(["run", "--rm", &images::busybox_zstd(), "echo", "whole"]), "whole");
    clean(&wherry);
}

#[test]
fn killed_at_any_moment_of_a_pull_that_keeps_no_blobs_nothing_is_lost() {
    let image = images::busybox();
    let wherry = dropping(&image);
    let points = points(POINTS);
    let mut random = Random::new(points as u64);
    let timed = || {
        wherry.ok(["rmi", &image]);
        let begun = Instant::now();
        wherry.ok(["pull", "-q", &image]);
        begun.elapsed()
    };
    let longest = timed();
    let mut cut_short = 0;
    for point in 0..points {
        // Every other time nothing but the drop is left to be done.
        let drop_only = point % 2 == 0;
        match drop_only {
            true => drop(wherry.ok(["pull", "-q", "--keep-blobs", &image])),
            false => drop(wherry.ok(["rmi", &image])),
        }
        let within = if drop_only { longest / 4 } else { longest };
        let moment = Duration::from_micros(random.below(within.as_micros() as u64 + 1));
        let mut command = wherry.command(["pull", "-q", &image]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(moment); // the moment is what this test is about
        child.kill().unwrap();
        cut_short += usize::from(!child.wait().unwrap().success());
        let check = wherry.call(["system", "check"]);
        assert!(check.status == 0 && check.stdout.contains("no damage"), "killed after {moment:?}: {check}");
        wherry.ok(["pull", "-q", &image]);
        assert_eq!(archives(&wherry), 0, "killed after {moment:?}");
        assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
    }
    println!("{cut_short} of {points} pulls were cut short");
    assert!(cut_short * 3 >= points, "only {cut_short} of {points}");
}

#[test]
fn what_vouches_for_an_image_of_an_index_stays_with_it() {
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let image = Handmade::image(platform, &["/x"], vec![(TAR, tar(&[("x", b"attested")]))])
        .push_entry("storage/attested", platform);
    let statement = vec![("application/vnd.in-toto+json", b"{\"predicate\":{}}".to_vec())];
    let mut attestation =
        Handmade::image("unknown/unknown", &[], statement).push_entry("storage/attested", "unknown/unknown");
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"],
    });
    let name = handmade::push_index("storage/attested", "1", &[image, attestation]);
    let index = handmade::digest(&handmade::get("storage/attested", "manifests", "1"));

    let wherry = Wherry::with(&images::busybox());
    let archive = wherry.folder("out").join("attested.tar");
    let to = format!("oci-archive:{}:localhost/attested:1", archive.display());
    tool(
        "skopeo",
        &["copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", &format!("docker://{name}"), &to],
    );
    wherry.ok(["load", "-q", "-i", archive.to_str().unwrap()]);
    // A collection comes along.
    wherry.ok(["rmi", &images::busybox()]);
    let check = wherry.call(["system", "check"]).expect(0);
    assert!(!check.stdout.contains("note: "), "{check}");
    let copy = name.replace("storage/attested", "storage/attested-copy");
    wherry.ok(["tag", "localhost/attested:1", &copy]);
    let pushed = wherry.call(["push", &copy]).expect(0);
    assert_eq!(digest(&pushed.stdout), index, "{pushed}");
    wherry.ok(["rmi", "localhost/attested:1", &copy]);
    assert_eq!(blobs(&wherry).len(), 0);
}

#[test]
fn nothing_stays_of_an_image_that_is_refused() {
    let wherry = Wherry::with(&images::wasm());
    let before = blobs(&wherry);
    wherry.call(["pull", "-q", "--platform", "linux/s390x", &images::busybox()]).expect(1);
    assert_eq!(blobs(&wherry), before);
    // The first layer is right, and the second is not what the config says.
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let layers = vec![(TAR, tar(&[("one", b"1")])), (TAR, tar(&[("two", b"2")]))];
    let mut wrong = Handmade::image(platform, &["/one"], layers);
    wrong.config.1["rootfs"]["diff_ids"][1] = handmade::digest(b"another").into();
    let layers = || fs::read_dir(wherry.root().join("layers")).unwrap().count();
    let unpacked = layers();
    wherry.call(["pull", "-q", &wrong.push("storage/wrong", "1")]).expect(1);
    assert_eq!((blobs(&wherry), layers()), (before, unpacked));
    clean(&wherry);
}

#[test]
fn a_layer_with_a_table_of_contents_keeps_it_on_its_way() {
    // As zstd:chunked has it: behind the archive a frame that decoders skip, and annotations that say where.
    let archive = tar(&[("chunked", b"content")]);
    let toc = b"{\"version\":1,\"entries\":[]}";
    let mut layer = zstd::encode_all(&archive[..], 3).unwrap();
    layer.extend([0x50, 0x2a, 0x4d, 0x18]);
    layer.extend((toc.len() as u32).to_le_bytes());
    layer.extend(toc);
    let platform = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "os": "linux", "architecture": platform, "config": {"Entrypoint": ["/chunked"]},
        "rootfs": {"type": "layers", "diff_ids": [handmade::digest(&archive)]},
    });
    let config = config.to_string().into_bytes();
    for blob in [&layer, &config] {
        handmade::push_blob("storage/chunked", blob);
    }
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let position = format!("{}:{}:{}:1", layer.len() - toc.len(), toc.len(), toc.len());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": {"mediaType": IMAGE_CONFIG, "digest": handmade::digest(&config), "size": config.len()},
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
            "digest": handmade::digest(&layer), "size": layer.len(),
            "annotations": {
                "io.github.containers.zstd-chunked.manifest-position": position,
                "io.github.containers.zstd-chunked.manifest-checksum": handmade::digest(toc),
            },
        }],
    });
    let (_, expected, _) = handmade::put_manifest("storage/chunked", "1", manifest_type, &manifest);
    let name = format!("{}/storage/chunked:1", registry().host);
    let wherry = dropping(&name);
    let unpacked = fs::read_dir(wherry.root().join("layers")).unwrap().map(|entry| entry.unwrap().path());
    assert!(unpacked.into_iter().any(|layer| layer.join("diff/chunked").exists()));
    let host = other_registry(&wherry);
    let copy = format!("{host}/chunked:1");
    wherry.ok(["tag", &name, &copy]);
    assert_eq!(digest(&wherry.ok(["push", &copy])), expected);
    let back = Wherry::new();
    back.ok(["login", "-u", "me", "-p", "s3cret", &host]);
    back.ok(["pull", "-q", &copy]);
    let blob = back.root().join("content/blobs/sha256").join(&handmade::digest(&layer)[7..]);
    assert!(fs::read(blob).unwrap() == layer, "with its table of contents");
}
