//! Debian's podman with a store of its own, which is gone with the test.

use tempfile::TempDir;

use super::oci::path;
use super::tool;

/// A podman that shares nothing with any other.
pub struct Podman {
    /// Its run directory must have a short name.
    store: TempDir,
}

impl Podman {
    /// An empty one.
    pub fn new() -> Self {
        Self { store: tempfile::tempdir_in("/tmp").unwrap() }
    }

    /// Runs a command that must succeed; its standard output without the last line's end.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let (root, run) = (self.store.path().join("root"), self.store.path().join("run"));
        let globals = ["--root", path(&root), "--runroot", path(&run), "--storage-driver", "vfs"];
        tool("podman", &[&globals, arguments].concat())
    }
}
