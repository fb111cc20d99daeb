//! Real programs as guests: those of `tests/guests`, compiled when first asked for and kept until their sources
//! change. Any number of processes may ask at once: one builds, the others wait.
//!
//! It uses nothing else of the support, so that `cargo run --example guest` can be made of it, for benches and people.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use wasi_preview1_component_adapter_provider as adapter;
use wit_component::ComponentEncoder;

/// Which WASI a guest is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of preview 1.
    P1,
    /// A component of 0.2.
    P2,
    /// A component of 0.3. Its sources say so: there is no other difference to 0.2.
    P3,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::P1 => "wasm32-wasip1",
            Self::P2 | Self::P3 => "wasm32-wasip2",
        }
    }
}

/// `tests/guests/rust/NAME`.
pub fn rust(name: &str, target: Target) -> PathBuf {
    built(&format!("rust/{name}"), target)
}

/// `tests/guests/NAME.c`; as a component, by the adapter of preview 1.
pub fn c(name: &str, target: Target) -> PathBuf {
    built(&format!("{name}.c"), target)
}

/// `tests/guests/go/NAME`, a module of preview 1.
pub fn go(name: &str) -> PathBuf {
    built(&format!("go/{name}"), Target::P1)
}

/// `tests/guests/python/NAME`, a component of 0.2.
pub fn python(name: &str) -> PathBuf {
    built(&format!("python/{name}"), Target::P2)
}

/// `tests/guests/js/NAME.js`, a component of 0.2.
pub fn js(name: &str) -> PathBuf {
    built(&format!("js/{name}"), Target::P2)
}

/// The guest built from `source`, a path below `tests/guests`.
fn built(source: &str, target: Target) -> PathBuf {
    let (guests, kept) = (sources(), kept());
    let stem = format!("{}.{:?}", source.replace('/', "-"), target).to_lowercase();
    let output = kept.join(format!("{stem}.{}.wasm", &digest(&guests, source)[..16]));
    let lock = File::create(kept.join(format!("{stem}.lock"))).unwrap();
    lock.lock().expect("one builds, the others wait");
    if !output.exists() {
        let part = kept.join(format!("{stem}.part"));
        match target {
            // The adapter makes the component: the compiler has done its work.
            Target::P2 | Target::P3 if source.ends_with(".c") => {
                fs::copy(built(source, Target::P1), &part).unwrap();
            }
            _ => compile(&guests, &kept, source, target, &part),
        }
        if target != Target::P1 {
            let bytes = component(fs::read(&part).unwrap());
            fs::write(&part, bytes).unwrap();
        }
        fs::rename(&part, &output).unwrap();
    }
    output
}

fn compile(guests: &Path, kept: &Path, source: &str, target: Target, output: &Path) {
    let built = Command::new(guests.join("build"))
        .current_dir(guests)
        .args([source.as_ref(), output.as_os_str(), target.name().as_ref()])
        .env("GUESTS", kept)
        // What cargo told this process is about wherry.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("tests/guests/build starts");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "tests/guests/build {source}: {}{said}", String::from_utf8_lossy(&built.stdout));
}

/// Makes a component of a module, unless it is one already.
fn component(bytes: Vec<u8>) -> Vec<u8> {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    if bytes.starts_with(COMPONENT) {
        return bytes;
    }
    let name = adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
    // An export `_start` that is a function: only then is it a command of preview 1.
    let adapted = if bytes.windows(8).any(|part| part == b"\x06_start\0") {
        adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER
    } else {
        adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER
    };
    ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|encoder| encoder.adapter(name, adapted))
        .and_then(|mut encoder| encoder.encode())
        .expect("the module becomes a component")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")
}

/// `guests` in the build directory, where this program is two folders deep.
fn kept() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let kept = exe.ancestors().nth(3).expect("a build directory").join("guests");
    fs::create_dir_all(&kept).unwrap();
    kept
}

/// A name for everything that the guest is built from.
fn digest(guests: &Path, source: &str) -> String {
    let mut files = vec![guests.join("build")];
    let mut add = |path: PathBuf| if path.is_dir() { collect(&path, &mut files) } else { files.push(path) };
    match source.split_once('/') {
        // One folder for all, with what they share.
        Some(("js", _)) => add(guests.join("js")),
        _ => add(guests.join(source)),
    }
    if source.starts_with("rust/") {
        add(guests.join("rust/Cargo.toml"));
        add(guests.join("rust/Cargo.lock"));
    }
    if source.starts_with("python/") {
        add(guests.join("python/requirements.txt"));
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.strip_prefix(guests).unwrap().as_os_str().as_encoded_bytes());
        hash.update(fs::read(&file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display())));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, into) } else { into.push(path) }
    }
}
