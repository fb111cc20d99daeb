//! Whether the blobs are whole, and what is there besides them.

use super::{Result, Store, io};
use crate::oci::Digest;

impl Store {
    /// Removes a blob that is damaged, so that it can be fetched again.
    pub fn remove_damaged(&self, digest: &Digest) -> Result<()> {
        let path = self.path_of(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes what killed writers left, and unfinished downloads that are too old.
    pub fn tidy(&self) {
        self.sweep();
    }

    /// How many files killed writers left, which the next ingest removes.
    pub fn leftovers(&self) -> Result<usize> {
        let dir = self.root.join("ingest");
        let entries = std::fs::read_dir(&dir).map_err(io("list", &dir))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| super::ingest::is_left_over(path)).count())
    }
}
