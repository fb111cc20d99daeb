//! Which file a program was read from, and that it is still as it was: what the kernel says of the file, without
//! reading it.
//!
//! Nobody but root, by the clock, can write to a file and keep its time of change. But times have a grain: a file
//! that changes twice within one looks as if it had not the second time. What was changed just now is therefore not
//! remembered (the "racy" entries of git's index).
//!
//! Code depends on more than its program, so the identity also names this binary and this boot: another build, or
//! another processor, finds nothing here and goes by the program's bytes.

use std::fs::File;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

/// The coarsest grain of a filesystem's times (FAT's).
const GRAIN: Duration = Duration::from_secs(2);

/// A file as it was when this was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(super) digest: [u8; 32],
    /// Whether every change from then on shows.
    settled: bool,
}

impl Identity {
    /// The identity of a regular file; `None` where the kernel gives none that could be relied upon.
    #[cfg(target_os = "linux")]
    pub fn of(file: &File) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let (file, binary) = (file.metadata().ok()?, std::fs::metadata("/proc/self/exe").ok()?);
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let mut hasher = Sha256::new_with_prefix(boot);
        for file in [&file, &binary] {
            hasher.update(file.dev().to_le_bytes());
            for number in [file.ino(), file.size()] {
                hasher.update(number.to_le_bytes());
            }
            for time in [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()] {
                hasher.update(time.to_le_bytes());
            }
        }
        let changed = Duration::new(file.ctime().try_into().ok()?, file.ctime_nsec().try_into().ok()?);
        let age = SystemTime::UNIX_EPOCH.checked_add(changed)?.elapsed();
        let settled = age.is_ok_and(|age| age > GRAIN);
        file.is_file().then(|| Self { digest: hasher.finalize().into(), settled })
    }

    /// The identity of a regular file; `None` where the kernel gives none that could be relied upon.

    #[cfg(not(target_os = "linux"))]
    pub fn of(_file: &File) -> Option<Self> {
        None
    }

    /// Whether every change to the file since shows.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }
}
