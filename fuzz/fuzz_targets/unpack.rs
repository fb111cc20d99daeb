//! A chain of two layers of any bytes: whatever they say, nothing outside of the store changes.
//! Run it as root, or archives with devices and owners are refused before they get anywhere.

#![no_main]

use std::fs::{self, File};

use libfuzzer_sys::fuzz_target;
use wherry::oci::{Compression, Descriptor, Digest, Layer, LayerFormat};
use wherry::snapshot::{Source, Store};

fuzz_target!(|parts: (&[u8], &[u8])| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a scratch directory");
    let canary = dir.path().join("canary");
    fs::write(&canary, "untouched").expect("a canary");
    let store = Store::open(&dir.path().join("layers")).expect("a store");
    let layers = [layer(parts.0), layer(parts.1)];
    let blob = |layer: &Layer| dir.path().join(layer.blob.digest.hex());
    for (layer, bytes) in layers.iter().zip([parts.0, parts.1]) {
        fs::write(blob(layer), bytes).expect("a blob");
    }
    let open = |layer: &Layer| {
        let bytes = Box::new(File::open(blob(layer)).expect("the blob"));
        Ok(Source { bytes, size: layer.blob.size })
    };
    if let Ok(chain) = store.unpack_from(&open, &layers, &()) {
        drop(store.rootfs(&chain, dir.path()));
    }
    assert_eq!(fs::read(&canary).expect("the canary"), b"untouched");
    let names = fs::read_dir(dir.path()).expect("the scratch directory").count();
    assert!(names <= 7, "something appeared beside the store");
});

fn layer(bytes: &[u8]) -> Layer {
    let diff_id = Digest::sha256(bytes);
    let blob = Descriptor::new("application/vnd.oci.image.layer.v1.tar".into(), diff_id.clone(), bytes.len() as u64);
    Layer { blob, format: LayerFormat::Tar(Compression::None), diff_id }
}
