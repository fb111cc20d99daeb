//! Where the policy is, and what it names: files of this machine, read whole and bounded.
//!
//! The first place that holds something is the one in force; the others are not looked at, and nothing is merged.
//! A file that is there and cannot be read is an error, never a reason to go on to the next.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::policy::{Material, Policy};

/// The most bytes of a policy, a key or a file of certificates. Sigstore's own trusted root has 7 kB.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// A policy and the file that it is in.
#[derive(Debug)]
pub struct InForce {
    /// The file; `None` if there is none, so that anything is accepted.
    pub path: Option<PathBuf>,
    /// What it says.
    pub policy: Policy,
}

/// The path of the policy that is in force: the first that there is anything at.
pub(super) fn in_force(places: &[PathBuf]) -> Option<&Path> {
    // What cannot even be looked at may be there.
    let absent = |path: &&PathBuf| path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    places.iter().find(|path| !absent(path)).map(PathBuf::as_path)
}

/// A whole file, of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES { Err(Error::FileSize { path: path.to_owned() }) } else { Ok(bytes) }
}

impl Material {
    /// The bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Path(path) => read(path),
            Self::Data(data) => Ok(data.clone()),
        }
    }
}

impl std::fmt::Display for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Data(_) => f.write_str("(in the policy)"),
        }
    }
}

/// Keeps other changes of the policy at `path` waiting, until this is dropped: each reads what the one before it wrote.
pub(super) fn hold(path: &Path) -> Result<File> {
    let (_, directory) = real(path);
    let held = std::fs::create_dir_all(&directory).and_then(|()| lock(&directory));
    held.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// The directory itself is locked, so that no file is left beside the policy.
#[cfg(unix)]
fn lock(directory: &Path) -> std::io::Result<File> {
    let directory = File::open(directory)?;
    directory.lock()?;
    Ok(directory)
}

#[cfg(not(unix))]
fn lock(directory: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(directory.join(".policy.lock"))?;
    file.lock()?;
    Ok(file)
}

/// Where the policy really is, and in which directory: a link to it stays one.
fn real(path: &Path) -> (PathBuf, PathBuf) {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    (path, directory)
}

/// Puts `bytes` where `path` is, wholly or not at all, with the mode that the file had.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let (path, directory) = &real(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        std::fs::create_dir_all(directory)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        if let Ok(old) = path.metadata() {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // It is ours or was never made; the failure is told.
        crate::error::tolerate(std::fs::remove_file(&temporary));
        Error::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_with_anything_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a.json", "b.json"].map(|name| folder.path().join(name));
        let places = [first.clone(), second.clone()];
        assert_eq!(in_force(&places), None);
        std::fs::write(&second, "2").unwrap();
        assert_eq!(in_force(&places), Some(second.as_path()));
        // A link that leads nowhere is a policy that cannot be read, not none.
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", &first).unwrap();
            assert_eq!(in_force(&places), Some(first.as_path()));
            assert!(matches!(read(&first), Err(Error::Read { .. })));
        }
    }

    #[test]
    fn the_limit_of_a_file_is_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        std::fs::write(&path, vec![b' '; MAX_FILE_BYTES as usize]).unwrap();
        assert!(read(&path).is_ok());
        std::fs::write(&path, vec![b' '; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(matches!(read(&path), Err(Error::FileSize { .. })));
    }
}
