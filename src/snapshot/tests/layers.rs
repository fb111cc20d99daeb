//! Layers on top of each other: what one leaves out comes from those below; and the store around them.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use super::craft::{Block, Scene, Tar, chain_of, describe, gzip, layer, tree};
use crate::error::{Failure, Kind};
use crate::oci::{Compression, Digest, Layer, LayerFormat};
use crate::snapshot::{Error, LayerId, Store};

fn t() -> Tar {
    Tar::new()
}

#[test]
fn an_implied_directory_is_like_the_one_below() {
    let scene = Scene::new();
    let below = t()
        .pax(&[("SCHILY.xattr.user.x", b"1"), ("mtime", b"5.25")])
        .block(Block::new(b'5', "tmp").mode(0o1777).owner(3, 4))
        .dir("opt");
    let chain = scene.run(&[below.end(), t().file("opt/x", "").end(), t().file("tmp/f", "x").end()]).unwrap();
    assert_eq!(describe(&chain.dirs()[2].join("tmp")), "dir 1777 3:4 @5.250000000 user.x=1");
}

#[test]
fn a_symlink_below_is_followed_not_hidden() {
    let scene = Scene::new();
    let usrmerge = t().dir("usr").dir("usr/lib").symlink("lib", "usr/lib").end();
    let chain = scene.run(&[usrmerge, t().file("lib/libx.so", "x").end()]).unwrap();
    let tree = tree(&chain.dirs()[1]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "usr", "usr/lib", "usr/lib/libx.so"]);
}

#[test]
fn a_file_below_is_no_parent() {
    let scene = Scene::new();
    let message = scene.refusal(&[t().file("f", "x").end(), t().file("f/g", "x").end()]);
    assert!(message.contains("is a file"), "{message}");
}

#[test]
fn a_directory_that_became_a_file_may_be_told_of_what_was_in_it() {
    let scene = Scene::new();
    let below = t().dir("d").dir("d/e").file("d/e/f", "x").end();
    let chain = scene.run(&[below, t().file("d", "y").file("d/e/.wh.f", "").file("d/.wh.e", "").end()]).unwrap();
    assert!(describe(&chain.dirs()[1].join("d")).starts_with("file \"y\""));
    let message = Scene::new().refusal(&[t().file("f", "x").end(), t().file("f/.wh.g", "").file("f/g", "x").end()]);
    assert!(message.contains("is a file"), "{message}");
}

#[test]
fn what_is_gone_or_hidden_below_does_not_count() {
    let scene = Scene::new();
    let base = t().symlink("a", "b").dir("c").block(Block::new(b'5', "c/d").mode(0o700)).end();
    let gone = t().file(".wh.a", "").dir("c").file("c/.wh..wh..opq", "").end();
    let chain = scene.run(&[base, gone, t().file("a/f", "").file("c/d/f", "").end()]).unwrap();
    assert!(describe(&chain.dirs()[2].join("a")).starts_with("dir 755 0:0 @0."));
    assert!(describe(&chain.dirs()[2].join("c/d")).starts_with("dir 755 0:0 @0."));
}

#[test]
fn a_hard_link_to_a_file_below_copies_it_up() {
    let scene = Scene::new();
    let below = t()
        .dir("bin")
        .pax(&[("SCHILY.xattr.user.x", b"1")])
        .with_data(Block::new(b'0', "bin/a").mode(0o4755).owner(1, 2), b"code");
    let chain = scene.run(&[below.end(), t().link("bin/b", "bin/a").end()]).unwrap();
    let both = "file \"code\" x2 4755 1:2 @978307200.000000000 user.x=1";
    assert_eq!(describe(&chain.dirs()[1].join("bin/a")), both);
    assert_eq!(describe(&chain.dirs()[1].join("bin/b")), both);
    assert!(describe(&chain.dirs()[0].join("bin/a")).starts_with("file \"code\" x1"));
}

#[test]
fn the_root_is_like_the_one_below() {
    let scene = Scene::new();
    let base = t().block(Block::new(b'5', "./").mode(0o751).owner(5, 6)).end();
    let chain = scene.run(&[base, t().file("f", "").end()]).unwrap();
    assert!(describe(&chain.dirs()[1]).starts_with("dir 751 5:6 @978307200."));
}

#[test]
fn a_store_that_hands_on_its_group_keeps_it_to_itself() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let store = scene.dir.path().join("layers");
    std::os::unix::fs::chown(&store, None, Some(50)).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o2755)).unwrap();
    let chain = scene.run(&[t().file("f", "x").dir("d").file("d/f", "x").end()]).unwrap();
    for (path, expected) in [("f", "file \"x\" x1 644 0:0"), ("d", "dir 755 0:0"), ("d/f", "file \"x\" x1 644 0:0")] {
        let described = describe(&chain.dirs()[0].join(path));
        assert!(described.starts_with(expected), "{path}: {described}");
    }
}

#[test]
fn one_layer_twice_in_a_chain() {
    let scene = Scene::new();
    let chain = scene.run(&[t().file("f", "x").end(), t().file("f", "x").end(), t().file("f", "x").end()]).unwrap();
    assert_eq!(chain.dirs().iter().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn ids_are_the_chain_ids_of_the_specification() {
    let layers = [layer(b"a"), layer(b"b")];
    let expected = Digest::sha256(format!("{} {}", layers[0].diff_id, layers[1].diff_id).as_bytes());
    let ids: Vec<String> = LayerId::of_chain(&layers).iter().map(ToString::to_string).collect();
    assert_eq!(ids, [layers[0].diff_id.to_string(), expected.to_string()]);
}

#[test]
fn a_wasm_layer_becomes_the_entry_point() {
    let scene = Scene::new();
    let module = b"\0asm\x01\0\0\0";
    scene.add_blob(module);
    let wasm = Layer { format: LayerFormat::Wasm, ..layer(module) };
    let chain = scene.unpack_layers(std::slice::from_ref(&wasm)).unwrap();
    assert_eq!(fs::read(chain.dirs()[0].join("app.wasm")).unwrap(), module);
    assert!(describe(&chain.dirs()[0].join("app.wasm")).contains(" 644 0:0"));
    // The same bytes taken for a tar archive are another layer.
    assert_ne!(LayerId::of_chain(&[wasm]), LayerId::of_chain(&[layer(module)]));
}

/// A blob that is compressed; the label says something else.
fn compressed(scene: &Scene, blob: &[u8], tar: &[u8]) -> Layer {
    scene.add_blob(blob);
    let mut layer = layer(blob);
    layer.diff_id = Digest::sha256(tar);
    layer.format = LayerFormat::Tar(Compression::None);
    layer
}

fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn all_compressions_in_several_parts_and_wrongly_labelled() {
    let tar = t().dir("d").file("d/f", "x").end().0;
    let (head, tail) = tar.split_at(700);
    let skippable = [&0x184D_2A53u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc"].concat();
    for blob in [
        tar.clone(),
        gzip(&tar),
        [gzip(head), gzip(b""), gzip(tail)].concat(),
        zstd_frame(&tar),
        [skippable.clone(), zstd_frame(head), skippable, zstd_frame(tail)].concat(),
    ] {
        let scene = Scene::new();
        let chain = scene.unpack_layers(&[compressed(&scene, &blob, &tar)]).unwrap();
        assert!(describe(&chain.dirs()[0].join("d/f")).starts_with("file \"x\""));
    }
}

/// What is wrong with one blob, as message and kind.
fn blob_failure(blob: &[u8], tar: &[u8]) -> (String, Kind) {
    let scene = Scene::new();
    let error = scene.unpack_layers(&[compressed(&scene, blob, tar)]).unwrap_err();
    let layers =
        fs::read_dir(scene.dir.path().join("layers")).unwrap().filter(|e| e.as_ref().unwrap().file_name().len() == 64);
    assert_eq!(layers.count(), 0, "a refused layer is visible");
    (chain_of(&error), error.kind())
}

#[test]
fn other_bytes_than_promised_are_refused_wherever_they_differ() {
    let tar = t().file("f", "x").end().0;
    for wrong in [t().file("f", "y").end().0, [tar.clone(), vec![0; 512]].concat(), tar[..tar.len() - 512].to_vec()] {
        let (message, kind) = blob_failure(&wrong, &tar);
        assert!(message.contains("digest") && kind == Kind::DataLoss, "{message}");
    }
}

#[test]
fn broken_compression_is_data_loss() {
    let tar = t().file("f", &"x".repeat(9000)).end().0;
    let gz = gzip(&tar);
    let zst = zstd_frame(&tar);
    let mut flipped = gz.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for blob in [&gz[..gz.len() / 2], &zst[..zst.len() / 2], &flipped[..], &[&gz[..], b"garbage"].concat()[..]] {
        let (message, kind) = blob_failure(blob, &tar);
        assert_eq!(kind, Kind::DataLoss, "{message}");
    }
}

#[test]
fn foreign_compression_is_named() {
    for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh91AY", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")] {
        let (message, kind) = blob_failure(magic, b"");
        assert!(message.contains(name) && kind == Kind::Unsupported, "{message}");
    }
}

#[test]
fn a_zstd_window_beyond_the_limit_is_refused() {
    let tar = t().file("f", "x").end().0;
    for (log, good) in [(27, true), (28, false)] {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.include_contentsize(false).unwrap();
        // Without the size in its head, a frame asks for the whole window.
        encoder.write_all(&tar).unwrap();
        let blob = encoder.finish().unwrap();
        let scene = Scene::new();
        assert_eq!(scene.unpack_layers(&[compressed(&scene, &blob, &tar)]).is_ok(), good, "window of 2^{log}");
    }
}

#[test]
fn a_missing_blob_is_an_error_and_the_rest_still_works() {
    let scene = Scene::new();
    let tar = t().file("f", "x").end();
    let open = |layer: &Layer| {
        let source = crate::sys::Error { call: "open".into(), source: std::io::ErrorKind::NotFound.into() };
        Err(Error::Store { action: "open", path: layer.blob.digest.hex().into(), source })
    };
    let error = scene.store.unpack_from(&open, &[layer(&tar.0)], &()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    scene.run(&[tar]).unwrap();
}

#[test]
fn layers_below_a_bad_one_are_kept() {
    let scene = Scene::new();
    let good = t().file("f", "x").end();
    let message = scene.refusal(&[good.clone(), t().file("../x", "").end(), t().file("g", "x").end()]);
    assert!(message.starts_with("cannot unpack layer 2"), "{message}");
    let unreadable = |_: &Layer| panic!("the good layer must not be asked for again");
    scene.store.unpack_from(&unreadable, &[layer(&good.0)], &()).unwrap();
}

#[test]
fn leftovers_of_a_crash_are_in_nobodys_way() {
    let scene = Scene::new();
    let tar = t().file("f", "x").end();
    let left = scene.dir.path().join("layers/tmp").join(layer(&tar.0).diff_id.hex()).join("diff/old");
    fs::create_dir_all(&left).unwrap();
    let other = scene.dir.path().join("layers/tmp").join("0".repeat(64)).join("diff");
    fs::create_dir_all(&other).unwrap();
    let chain = scene.run(&[tar]).unwrap();
    assert_eq!(tree(&chain.dirs()[0]).keys().collect::<Vec<_>>(), ["", "f"]);
    drop(chain);
    assert_eq!(scene.store.sweep(|| Ok::<_, Error>(HashSet::new())).unwrap().removed, 1);
    assert_eq!(fs::read_dir(scene.dir.path().join("layers/tmp")).unwrap().count(), 0);
}

#[test]
fn sweeping_keeps_what_is_named_and_what_is_held() {
    let scene = Scene::new();
    let layers = [t().file("f", "x").end(), t().file("g", "x").end()];
    let other = scene.run(&[t().file("other", "x").end()]).unwrap();
    let chain = scene.run(&layers).unwrap();
    let keep = HashSet::from([chain.ids()[0].clone()]);
    let sweep = || scene.store.sweep(|| Ok::<_, Error>(keep.clone())).unwrap();
    let (dirs, unneeded) = (chain.dirs().to_vec(), other.dirs().to_vec());
    drop(other);
    let swept = sweep();
    assert_eq!((swept.removed, swept.busy), (1, false), "beside the chain that is held");
    assert!(dirs[0].is_dir() && dirs[1].is_dir() && !unneeded[0].exists());
    drop(chain);
    assert_eq!(sweep().removed, 1);
    assert!(dirs[0].is_dir() && !dirs[1].exists());
    scene.run(&layers).unwrap();
    // Who only uses what is there does so for a moment, and is waited for; not for ever.
    let moment = scene.run(&layers).unwrap();
    assert!(sweep().busy);
    drop(moment);
    assert!(!sweep().busy);
}

#[test]
fn a_removal_that_was_killed_is_in_no_later_ones_way() {
    let scene = Scene::new();
    let chain = scene.run(&[t().file("f", "x").end()]).unwrap();
    let name = chain.dirs()[0].parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    drop(chain);
    fs::create_dir_all(scene.dir.path().join("layers/tmp").join(name + ".removed/diff")).unwrap();
    assert_eq!(scene.store.sweep(|| Ok::<_, Error>(HashSet::new())).unwrap().removed, 1);
    assert_eq!(fs::read_dir(scene.dir.path().join("layers/tmp")).unwrap().count(), 0);
}

#[test]
fn many_at_once_unpack_each_layer_once() {
    let scene = Scene::new();
    let tars: Vec<Tar> =
        (0..12).map(|n| t().dir("d").file(&format!("d/{n}"), "x").file("e/f", &n.to_string()).end()).collect();
    tars.iter().for_each(|tar| scene.add_blob(&tar.0));
    let layers: Vec<Layer> = tars.iter().map(|tar| layer(&tar.0)).collect();
    let opened = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                // Another store on the same directory locks as another process does.
                let store = Store::open(&scene.dir.path().join("layers")).unwrap();
                let open = |layer: &Layer| {
                    opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Ok(scene.source(layer))
                };
                store.unpack_from(&open, &layers, &()).unwrap();
            });
        }
    });
    assert_eq!(opened.into_inner(), layers.len());
}

#[test]
fn more_layers_than_a_batch() {
    let scene = Scene::new();
    let tars: Vec<Tar> = (0..150).map(|n| t().file("d/f", &n.to_string()).end()).collect();
    let chain = scene.run(&tars).unwrap();
    assert_eq!(chain.dirs().len(), 150);
    assert!(chain.dirs().iter().all(|dir| dir.join("d/f").is_file()));
}

#[test]
fn the_store_is_private() {
    let scene = Scene::new();
    scene.run(&[t().file("f", "x").end()]).unwrap();
    assert!(describe(Path::new(&scene.dir.path().join("layers"))).starts_with("dir 700"));
}
