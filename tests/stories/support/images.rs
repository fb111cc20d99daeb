//! The images of the stories, by name. Each is built and pushed by a script of `tests/images`, once, when it is first
//! asked for: by umoci and skopeo, so that our reading is never tried on our own writing only.

use std::fs::{self, File};
use std::process::Command;

use super::registry::registry;
use super::repository;

/// busybox with users, in three layers that also replace, delete and hide files of each other.
pub fn busybox() -> String {
    built("busybox", "busybox:latest")
}

/// The same with zstd layers.
pub fn busybox_zstd() -> String {
    built("busybox", "busybox:zstd")
}

/// busybox below five hundred small layers.
pub fn deep() -> String {
    built("deep", "deep:latest")
}

/// A real Debian in several layers, of more than 100 MB.
pub fn debian() -> String {
    built("debian", "debian:latest")
}

/// The test guest as an ordinary image for `wasi/wasm`.
pub fn wasm() -> String {
    built("wasm", "guest:wasm")
}

/// The test guest as a CNCF Wasm artifact.
pub fn wasm_artifact() -> String {
    built("wasm", "guest:artifact")
}

/// An image of which every name exists, but none for the platform of any machine.
pub fn foreign() -> String {
    both();
    built("index", "index:foreign")
}

/// One name for both: the native image on Linux, the guest for `wasi/wasm`.
pub fn index() -> String {
    both();
    built("index", "index:latest")
}

/// The image that says all that an image can, in each of its forms.
pub fn trips() -> Vec<String> {
    ["gzip", "schema2", "plain", "zstd"].map(|form| built("trips", &format!("trips:{form}"))).into()
}

/// Its files, as umoci has unpacked them.
pub fn trips_rootfs() -> std::path::PathBuf {
    trips();
    registry().workshop.join("trips/bundle/rootfs")
}

/// The test guest as a file.
pub fn guest_module() -> std::path::PathBuf {
    built("wasm", "guest:wasm");
    registry().workshop.join("wasm/guest.wasm")
}

/// What the indexes point to.
fn both() {
    busybox();
    wasm();
}

fn built(script: &str, name: &str) -> String {
    let registry = registry();
    let done = registry.workshop.join(format!("{script}.done"));
    let lock = File::create(registry.workshop.join(format!("{script}.lock"))).unwrap();
    lock.lock().expect("one builds, the others wait");
    if !done.exists() {
        let place = registry.workshop.join(script);
        if place.exists() {
            fs::remove_dir_all(&place).unwrap();
        }
        fs::create_dir_all(&place).unwrap();
        let file = repository(&format!("tests/images/{script}.sh"));
        let output = Command::new("sh").arg(&file).arg(&registry.host).arg(&place).output().expect("sh starts");
        assert!(
            output.status.success(),
            "{} failed: {}{}",
            file.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        File::create(done).unwrap();
    }
    format!("{}/{name}", registry.host)
}
