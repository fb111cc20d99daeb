//! `wherry images` and `wherry rmi`: what is here, and what goes when it is asked to.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Wherry, images};

/// The names in a directory of the data root, lock files and the like left out.
fn names(root: &Path, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).filter(|name| name.len() == 64).collect()
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    let image = images::busybox();
    let (name, tag) = image.rsplit_once(':').unwrap();
    let wherry = Wherry::new();
    assert_eq!(wherry.ok(["images", "-q"]), "");
    assert!(wherry.ok(["images"]).starts_with("REPOSITORY   TAG       IMAGE ID   CREATED   SIZE"));
    wherry.ok(["pull", "-q", &image]);
    let table = wherry.ok(["images"]);
    let id = wherry.ok(["images", "-q"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!((row[0], row[1], row[2]), (name, tag, id.as_str()), "{table}");
    assert!(row[3].ends_with(" ago") && row[4].ends_with('B'), "{table}");
    assert_eq!(wherry.ok(["images", "-q", "--no-trunc"])[..19], format!("sha256:{id}"));
    let line: Value = serde_json::from_str(&wherry.ok(["images", "--format", "json"])).unwrap();
    assert_eq!((&line["Repository"], &line["Tag"], &line["ID"]), (&name.into(), &tag.into(), &id.as_str().into()));
    let digest = line["Digest"].as_str().unwrap();
    assert!(wherry.ok(["images", "--digests"]).contains(digest));
    assert_eq!(wherry.ok(["images", "-q", name]), id);
    assert_eq!(wherry.ok(["images", "-q", &format!("{name}:other")]), "");
}

#[test]
fn what_is_removed_is_gone_to_the_last_byte() {
    let (image, other) = (images::busybox(), images::busybox_zstd());
    let wherry = Wherry::with(&image);
    let one = names(wherry.root(), "content/blobs/sha256");
    wherry.ok(["pull", "-q", &other]);
    let layers = names(wherry.root(), "layers").len();
    let said = wherry.ok(["rmi", &other]);
    assert!(said.starts_with(&format!("Untagged: {other}\nDeleted: sha256:")), "{said}");
    let mut left = names(wherry.root(), "content/blobs/sha256");
    left.sort();
    let mut before = one;
    before.sort();
    assert_eq!(left, before, "the other image's blobs, and nothing else");
    assert!(names(wherry.root(), "layers").len() <= layers);
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
    wherry.ok(["rmi", &wherry.ok(["images", "-q"])]);
    assert_eq!(names(wherry.root(), "content/blobs/sha256"), Vec::<String>::new());
    assert_eq!(names(wherry.root(), "layers"), Vec::<String>::new());
    wherry.call(["rmi", &image]).expect(1).complains(&["no such image", &image]);
}

#[test]
fn an_image_in_use_is_not_removed_from_under_its_container() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok(["create", "--name", "user", &image, "echo", "still here"]);
    wherry.call(["rmi", &image]).expect(1).complains(&["conflict", "must be forced", &id[..12]]).says("");
    wherry.ok(["rmi", "-f", &image]);
    assert_eq!(wherry.ok(["images", "-q"]), "");
    wherry.ok(["start", "user"]);
    assert_eq!(wherry.ok(["wait", "user"]), "0");
    assert_eq!(wherry.ok(["logs", "user"]), "still here");
    wherry.ok(["rm", "user"]);
    let running = wherry.ok(["run", "-d", &image, "sleep", "100"]);
    wherry.call(["rmi", "-f", &image]).expect(1).complains(&["cannot be forced", &running[..12]]);
}
