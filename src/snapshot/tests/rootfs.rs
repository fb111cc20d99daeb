//! Root filesystems, as mounts that the kernel made and as copies.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::craft::{Block, Scene, Tar, describe, tree};
use crate::snapshot::Rootfs;
use crate::sys::mount::{self, Recipe};

fn t() -> Tar {
    Tar::new()
}

/// Where a mount that is attached nowhere can be looked at.
pub fn inside(mount: &impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    Path::new("/proc/self/fd").join(mount.as_fd().as_raw_fd().to_string()).join(".")
}

/// Layers that use every mark.
fn marked() -> [Tar; 3] {
    let base = t()
        .dir("a")
        .file("a/x", "1")
        .file("a/y", "1")
        .dir("b")
        .file("b/x", "1")
        .file("c", "1")
        .dir("d")
        .file("d/x", "1");
    let middle =
        t().dir("a").file("a/.wh.x", "").dir("b").file("b/.wh..wh..opq", "").file("b/z", "2").file(".wh.c", "");
    let top = t().file(".wh.d", "").dir("d").file("d/new", "3").link("a/linked", "a/y").symlink("s", "c");
    [base.end(), middle.end(), top.end()]
}

const MERGED: [&str; 9] = ["", "a", "a/linked", "a/y", "b", "b/z", "d", "d/new", "s"];

#[test]
fn an_overlay_shows_the_layers_and_takes_writes() {
    let scene = Scene::new();
    let chain = scene.run(&marked()).unwrap();
    let container = scene.dir.path().join("container");
    fs::create_dir(&container).unwrap();
    let rootfs = scene.store.rootfs(&chain, &container).unwrap();
    assert!(matches!(rootfs, Rootfs::Overlay { .. }), "these tests need overlayfs");
    let mounted = rootfs.recipe().detached(false).unwrap();
    let at = inside(&mounted);
    assert_eq!(tree(&at).keys().collect::<Vec<_>>(), MERGED);
    fs::write(at.join("b/written"), "w").unwrap();
    fs::remove_file(at.join("a/y")).unwrap();
    assert!(container.join("upper/b/written").is_file());
    assert!(chain.dirs()[0].join("a/y").is_file(), "a layer changed");
    drop(mounted);
    rootfs.remove(&container).unwrap();
    assert_eq!(fs::read_dir(&container).unwrap().count(), 0);
    rootfs.remove(&container).unwrap();
}

#[test]
fn a_read_only_overlay_takes_no_writes() {
    let scene = Scene::new();
    let chain = scene.run(&marked()).unwrap();
    let rootfs = scene.store.rootfs(&chain, scene.dir.path()).unwrap();
    let mounted = rootfs.recipe().detached(true).unwrap();
    let refused = fs::write(inside(&mounted).join("x"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn the_container_sees_the_root_of_the_top_layer() {
    let scene = Scene::new();
    let chain =
        scene.run(&[t().block(Block::new(b'5', ".").mode(0o750).owner(1, 2)).end(), t().file("f", "").end()]).unwrap();
    let rootfs = scene.store.rootfs(&chain, scene.dir.path()).unwrap();
    let mounted = rootfs.recipe().detached(false).unwrap();
    assert!(describe(&inside(&mounted)).starts_with("dir 750 1:2 @978307200."));
}

#[test]
fn a_record_survives_serialisation() {
    let scene = Scene::new();
    let chain = scene.run(&marked()).unwrap();
    let rootfs = scene.store.rootfs(&chain, scene.dir.path()).unwrap();
    let json = serde_json::to_string(&rootfs).unwrap();
    assert_eq!(serde_json::from_str::<Rootfs>(&json).unwrap(), rootfs);
    assert!(json.starts_with(r#"{"kind":"overlay","layers":"#), "{json}");
}

/// Directories with one file each, as layers; their names are as long as names get.
fn many_layers(dir: &Path, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|n| {
            let layer = dir.join(format!("{n:0>250}"));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(n.to_string()), "").unwrap();
            layer
        })
        .collect()
}

fn overlay(dir: &Path, lower: Vec<PathBuf>) -> Recipe {
    let [upper, work] = ["upper", "work"].map(|name| dir.join(name));
    fs::create_dir_all(&upper).unwrap();
    fs::create_dir_all(&work).unwrap();
    Recipe::Overlay { lower, upper: Some(upper), work: Some(work), userxattr: false }
}

#[test]
fn five_hundred_layers_mount() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = overlay(dir.path(), many_layers(dir.path(), mount::MAX_LOWER));
    let mounted = recipe.detached(false).unwrap();
    assert_eq!(fs::read_dir(inside(&mounted)).unwrap().count(), mount::MAX_LOWER);
    fs::write(inside(&mounted).join("new"), "").unwrap();
}

#[test]
fn one_layer_more_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let lower = vec![dir.path().to_owned(); mount::MAX_LOWER + 1];
    let error = overlay(dir.path(), lower).detached(false).unwrap_err();
    assert!(error.call.contains("limit is 500"), "{}", error.call);
}

#[test]
fn more_layers_than_the_kernel_stacks_are_copied() {
    let scene = Scene::new();
    let tars: Vec<Tar> = (0..=mount::MAX_LOWER).map(|n| t().dir("d").file(&format!("d/{n}"), "").end()).collect();
    let chain = scene.run(&tars).unwrap();
    let rootfs = scene.store.rootfs(&chain, scene.dir.path()).unwrap();
    let Rootfs::Copy { dir } = &rootfs else { panic!("{rootfs:?}") };
    assert_eq!(fs::read_dir(dir.join("d")).unwrap().count(), tars.len());
    let mounted = rootfs.recipe().detached(true).unwrap();
    assert!(inside(&mounted).join("d/0").is_file());
}

#[test]
fn a_copy_is_what_an_overlay_shows() {
    let scene = Scene::new();
    let chain = scene.run(&marked()).unwrap();
    let overlay = scene.store.rootfs(&chain, scene.dir.path()).unwrap();
    let mounted = overlay.recipe().detached(true).unwrap();
    let copied = scene.dir.path().join("copied");
    fs::create_dir(&copied).unwrap();
    let rootfs = scene.store.copied_rootfs(&chain, &copied, scene.store.marks().unwrap()).unwrap();
    let Rootfs::Copy { dir } = &rootfs else { panic!("{rootfs:?}") };
    let mut shown = tree(&inside(&mounted));
    // Overlayfs shows its own mark of the root's merging, and what is opaque.
    shown.values_mut().for_each(|line| *line = line.replace(" trusted.overlay.opaque=y", ""));
    assert_eq!(tree(dir), shown);
    rootfs.remove(&copied).unwrap();
    assert_eq!(fs::read_dir(&copied).unwrap().count(), 0);
}

#[test]
fn a_store_without_overlay_unpacks_and_copies_the_same() {
    let scene = Scene::new();
    let store_record = scene.dir.path().join("layers/store.json");
    fs::write(store_record, r#"{"version":1,"marks":"plain"}"#).unwrap();
    let chain = scene.run(&marked()).unwrap();
    let rootfs = scene.store.rootfs(&chain, scene.dir.path()).unwrap();
    let Rootfs::Copy { dir } = &rootfs else { panic!("{rootfs:?}") };
    assert_eq!(tree(dir).keys().collect::<Vec<_>>(), MERGED);
    assert!(describe(&dir.join("a/linked")).starts_with("file \"1\" x2"));
}

#[test]
fn a_store_of_the_future_is_left_alone() {
    let scene = Scene::new();
    fs::write(scene.dir.path().join("layers/store.json"), r#"{"version":2,"marks":"trusted"}"#).unwrap();
    let message = scene.refusal(&[t().end()]);
    assert!(message.contains("has version 2"), "{message}");
}
