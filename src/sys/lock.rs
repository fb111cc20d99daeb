//! Advisory file locks, as guards. The kernel drops a lock with its holder, so a killed process
//! leaves none behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::{Result, named};

/// A lock on a file, held until this is dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Waits for the only hold on `path`, which is created when missing.
    pub fn exclusive(path: &Path) -> Result<Self> {
        let file = open(path)?;
        named(file.lock(), || format!("flock({path:?}, LOCK_EX)"))?;
        Ok(Self { file })
    }

    /// Waits for a hold on `path` that others may share.
    pub fn shared(path: &Path) -> Result<Self> {
        let file = open(path)?;
        named(file.lock_shared(), || format!("flock({path:?}, LOCK_SH)"))?;
        Ok(Self { file })
    }

    /// Waits for the only hold on the directory `path`, which exists. It may have been removed, and another one made in
    /// its place, by the time that this returns: [`Self::is`] tells.
    #[cfg(unix)]
    pub fn directory(path: &Path) -> Result<Self> {
        let directory = named(File::open(path), || format!("open({path:?}, O_RDONLY)"))?;
        named(directory.lock(), || format!("flock({path:?}, LOCK_EX)"))?;
        Ok(Self { file: directory })
    }

    /// Whether somebody has a hold on the directory `path`.
    #[cfg(unix)]
    pub fn directory_is_held(path: &Path) -> Result<bool> {
        let directory = named(File::open(path), || format!("open({path:?}, O_RDONLY)"))?;
        match directory.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => named(Err(error), || format!("flock({path:?}, LOCK_SH | LOCK_NB)")),
        }
    }

    /// Whether the locked file is what `path` names now.
    #[cfg(unix)]
    pub fn is(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let same = |here: &std::fs::Metadata, there: &std::fs::Metadata| {
            (here.dev(), here.ino()) == (there.dev(), there.ino())
        };
        matches!((self.file.metadata(), path.symlink_metadata()), (Ok(here), Ok(there)) if same(&here, &there))
    }

    /// Whether the locked file is what `path` names now. Elsewhere a file that is open keeps its name.
    #[cfg(not(unix))]
    pub fn is(&self, path: &Path) -> bool {
        path.exists()
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The only hold on `path`, or `None` while another process has one.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => named(Err(error), || format!("flock({path:?}, LOCK_EX | LOCK_NB)")),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // A fork child that has the file open too would otherwise hold the lock on. It cannot fail for a file that is
        // locked, and if it did the close would do the same.
        crate::error::tolerate(self.file.unlock());
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    named(file, || format!("open({path:?}, O_RDWR | O_CREAT)"))
}
