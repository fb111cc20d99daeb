//! Advisory file locks, as guards. The kernel drops a lock with its holder, so a killed process
//! leaves none behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::{Result, named};

/// A lock on a file, held until this is dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the only hold on `path`, which is created when missing.
    pub fn exclusive(path: &Path) -> Result<Self> {
        let file = open(path)?;
        named(file.lock(), || format!("flock({path:?}, LOCK_EX)"))?;
        Ok(Self { _file: file })
    }

    /// Waits for a hold on `path` that others may share.
    pub fn shared(path: &Path) -> Result<Self> {
        let file = open(path)?;
        named(file.lock_shared(), || format!("flock({path:?}, LOCK_SH)"))?;
        Ok(Self { _file: file })
    }

    /// The only hold on `path`, or `None` while another process has one.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => named(Err(error), || format!("flock({path:?}, LOCK_EX | LOCK_NB)")),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    named(file, || format!("open({path:?}, O_RDWR | O_CREAT)"))
}
