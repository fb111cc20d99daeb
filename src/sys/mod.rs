//! The kernel: every system call that is not plain file I/O, and all of the project's `unsafe`.
//!
//! No policy and no nouns of wherry live here. A call that fails reads like its strace line
//! ([`Error`]); what it was for is said by the room that made it. Paths are handles wherever somebody
//! else can change what a path means.

#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
pub mod caps;
#[cfg(target_os = "linux")]
pub mod command;
#[cfg(unix)]
pub mod dir;
pub mod disk;
#[cfg(unix)]
pub mod ending;
#[cfg(unix)]
pub mod hidden;
#[cfg(target_os = "linux")]
pub mod idmap;
#[cfg(target_os = "linux")]
pub mod landlock;
pub mod lease;
pub mod lock;
#[cfg(target_os = "linux")]
pub mod mount;
#[cfg(target_os = "linux")]
pub mod netlink;
pub mod positioned;
pub mod private_dir;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod procfs;
#[cfg(target_os = "linux")]
pub mod pty;
#[cfg(unix)]
pub mod ready;
#[cfg(target_os = "linux")]
pub mod regex;
#[cfg(target_os = "linux")]
pub mod schedule;
#[cfg(target_os = "linux")]
pub mod seccomp;
#[cfg(unix)]
pub mod shared;
#[cfg(target_os = "linux")]
pub mod signal;
#[cfg(target_os = "linux")]
pub mod socket;
#[cfg(target_os = "linux")]
pub mod subid;
#[cfg(target_os = "linux")]
pub mod time;
pub mod tree;
#[cfg(target_os = "linux")]
pub mod user;
pub mod wasm_code;

use std::io;

use crate::error::{Failure, Kind};

/// A system call that failed, as strace would show it: `mkdirat(5, "etc", 0755): File exists`.
#[derive(Debug, thiserror::Error)]
#[error("{call}")]
pub struct Error {
    /// The call and its telling arguments.
    pub call: String,
    /// What the kernel answered.
    pub source: io::Error,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The errno, where the failure came from the kernel.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// Gives a failed call its strace line. The line is built only on failure.
pub fn named<T, E: Into<io::Error>>(result: std::result::Result<T, E>, call: impl FnOnce() -> String) -> Result<T> {
    result.map_err(|error| Error { call: call(), source: error.into() })
}
