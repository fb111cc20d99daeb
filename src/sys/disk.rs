//! How full a filesystem is.

use std::path::Path;

use super::{Result, named};

#[cfg(not(unix))]
use elsewhere as imp;
#[cfg(unix)]
use posix as imp;

/// The room on a filesystem, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub total: u64,
    /// What ordinary processes may still take: what is reserved for root counts as used.
    pub available: u64,
}

impl Room {
    /// The room on the filesystem that holds `path`.
    pub fn of(path: &Path) -> Result<Self> {
        named(imp::room(path), || format!("statvfs({path:?})"))
    }

    /// What is not available.
    pub fn used(self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

#[cfg(unix)]
mod posix {
    use super::{Path, Room};

    pub fn room(path: &Path) -> std::io::Result<Room> {
        let answer = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        Ok(Room { total: bytes(answer.f_blocks), available: bytes(answer.f_bavail) })
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use super::{Path, Room};

    pub fn room(_: &Path) -> std::io::Result<Room> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_has_room_and_what_is_not_there_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::of(dir.path()).unwrap();
        assert!(room.total > 0 && room.used() <= room.total, "{room:?}");
        let error = Room::of(&dir.path().join("none")).unwrap_err();
        assert!(error.call.starts_with("statvfs("), "{error}");
    }
}
