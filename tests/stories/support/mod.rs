//! What every story stands on: a hermetic wherry, a real registry, real images.

pub mod guests;
pub mod handmade;
pub mod images;
pub mod oci;
pub mod podman;
pub mod process;
pub mod random;
pub mod registry;
pub mod signed;
pub mod signing;
pub mod sigstore;
pub mod standin;
mod wherry;

pub use oci::Oci;
pub use wherry::{Output, Running, Wherry};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a story waits for something that the kernel or another process does by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks until there is something to see. For states that nobody announces; what announces itself is waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A file or folder of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The build's own place for what tests make.
pub fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Copies a program that is to be executed. Another process writes it: ours forks all the time, and a child that has the file
/// open for writing, for a moment, makes it busy.
pub fn copy_program(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp {from:?} {to:?}");
}

/// Runs a program of the system, which must succeed; what it says.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}{text}", String::from_utf8_lossy(&output.stderr));
    text.trim_end().to_owned()
}
