//! Containers that are there for a moment: a file each, which appears whole and is not flushed, since after a power cut
//! nobody looks for what was to be removed at its end.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::{ContainerRow, Db, Error, Result};

/// What begins the name of a file that is being written.
const UNFINISHED: &str = ".";

pub(super) struct Fleeting {
    directory: PathBuf,
}

impl Fleeting {
    pub(super) fn of(db: &Db) -> Self {
        Self { directory: db.beside(".fleeting") }
    }

    /// The file of an id, if it can be one.
    fn path(&self, id: &str) -> Option<PathBuf> {
        let hex = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| self.directory.join(id))
    }

    pub(super) fn put(&self, row: &ContainerRow) -> Result<()> {
        let path = self.path(&row.id).ok_or_else(|| Error::NoContainer { id: row.id.clone() })?;
        let temporary = self.directory.join(format!("{UNFINISHED}{}", row.id));
        let json = serde_json::to_vec(row).expect("a row is plain data");
        let written = match fs::write(&temporary, &json) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.directory).and_then(|()| fs::write(&temporary, &json))
            }
            written => written,
        };
        let written = written.and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| Error::File { intent: "write", path, source })
    }

    pub(super) fn get(&self, id: &str) -> Result<Option<ContainerRow>> {
        let Some(path) = self.path(id) else { return Ok(None) };
        match fs::read(&path) {
            // One that a power cut left half-written was to be removed anyway.
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { intent: "read", path, source }),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<ContainerRow>> {
        let failed = |source| Error::File { intent: "list", path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let rows = names.iter().filter_map(|name| self.get(name.to_str()?).transpose());
        rows.collect()
    }

    /// Removes the container; false if there was none.
    pub(super) fn remove(&self, id: &str) -> Result<bool> {
        let Some(path) = self.path(id) else { return Ok(false) };
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(|source| Error::File { intent: "remove", path, source }),
        }
    }
}
