//! The second wall: what a process that hosts a WebAssembly program may still do, should the program ever get out of
//! the engine.
//!
//! ```text
//!   what                 in a container             a program run directly
//!   root filesystem      empty, read-only, but for  the host's, to which
//!                        the directories given      Landlock is the door
//!   namespaces           all of its own             the host's
//!   capabilities         none, in all sets          none
//!   no_new_privs         yes                        yes
//!   Landlock             the directories given; TCP only with a grant; no signal and no abstract socket out
//!   seccomp              [`profile`]: a sixth of Docker's
//! ```
//!
//! They go up between the loading of the compiled code, which maps it, and the program's first instruction.

mod profile;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

pub use profile::{Needs, profile};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::seccomp::{self, Family};
use crate::bundle::seccomp::native;
use crate::engine::wasm::{Invocation, Program};
use crate::oci::runtime::LinuxSeccomp;
use crate::sys::landlock::{self, Ruleset, access};
use crate::sys::{self, caps, named};

/// The least Landlock that is used: before it no file could be moved from one directory to another.
const LEAST_ABI: u32 = 2;

/// Why a wall is not up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("cannot {what}")]
    Sys {
        /// What was being done.
        what: &'static str,
        /// The call.
        source: sys::Error,
    },
    /// The profile cannot be compiled.
    #[error("cannot compile the engine's seccomp profile")]
    Seccomp(#[from] seccomp::Error),
    /// There are no tables of system calls for this processor.
    #[error("there is no seccomp profile for this processor; to do without, say --security-opt seccomp=unconfined")]
    Processor,
}

impl crate::error::Failure for Error {
    fn kind(&self) -> crate::error::Kind {
        match self {
            Self::Sys { source, .. } => source.kind(),
            Self::Seccomp(source) => source.kind(),
            Self::Processor => crate::error::Kind::Unsupported,
        }
    }
}

/// What of Landlock this kernel has and is used, for people.
pub fn landlock() -> String {
    match landlock::abi() {
        0 => "missing".to_owned(),
        1 => "ABI 1, which is not used".to_owned(),
        abi => format!("ABI {abi}"),
    }
}

/// The walls of one program.
#[derive(Clone, Debug, Default)]
pub struct Wall {
    directories: Vec<(PathBuf, bool)>,
    needs: Needs,
}

impl Wall {
    /// The walls around `program` with what it was given.
    pub fn around(program: &Program, invocation: &Invocation) -> Self {
        let directories = invocation.preopens.iter().map(|preopen| (preopen.host.clone(), preopen.readonly));
        let network = invocation.grants.network != Default::default();
        let needs = Needs {
            files: !invocation.preopens.is_empty(),
            stores: !invocation.grants.given.stores.is_empty(),
            network,
            server: program.serves(),
        };
        Self { directories: directories.collect(), needs }
    }

    /// All of them, for a process that has done nothing of it yet and is single-threaded.
    pub fn raise(&self, filter: bool) -> Result<(), Error> {
        self.shut_out()?;
        give_up_capabilities()?;
        if filter { self.filter() } else { Ok(()) }
    }

    /// Gives up what of files, sockets and processes was not granted, where the kernel has Landlock.
    pub fn shut_out(&self) -> Result<(), Error> {
        let failed = |source| Error::Sys { what: "shut the program out of what it was not given", source };
        sys::seccomp::set_no_new_privs().map_err(failed)?;
        let abi = landlock::abi();
        if abi < LEAST_ABI {
            return Ok(());
        }
        let rules = Ruleset::new(abi, !self.needs.network).map_err(failed)?;
        for (path, readonly) in &self.directories {
            let directory = handle(path).map_err(failed)?;
            rules.allow_beneath(directory.as_fd(), rights(*readonly)).map_err(failed)?;
        }
        rules.enforce().map_err(failed)
    }

    /// Gives up all system calls but those that the engine makes for a program with these grants.
    pub fn filter(&self) -> Result<(), Error> {
        let (family, arch) = Family::native().zip(native()).ok_or(Error::Processor)?;
        let filter = seccomp::compile(&profile(self.needs, arch), family)?;
        let loaded = sys::seccomp::load(filter.program(), sys::seccomp::Flags::TSYNC);
        loaded.map(drop).map_err(|source| Error::Sys { what: "load the engine's seccomp filter", source })
    }
}

/// The profile that is written for a container with a Wasm program: everything that one can need. What is loaded is
/// what this one needs.
pub fn written() -> Option<LinuxSeccomp> {
    native().map(|arch| profile(Needs::ALL, arch))
}

/// Whether a profile is the one that is written for a Wasm program, and not somebody's own.
pub(super) fn is_ours(profile: &LinuxSeccomp) -> bool {
    written().is_some_and(|written| *profile == written)
}

fn give_up_capabilities() -> Result<(), Error> {
    let failed = |source| Error::Sys { what: "give up all capabilities", source };
    let none = caps::Set::default();
    let (effective, _) = caps::current().map_err(failed)?;
    // Without CAP_SETPCAP the bounding set stays, and means nothing to a process that can execute nothing.
    if effective.has(caps::SETPCAP) {
        caps::bound(none, caps::last().map_err(failed)?).map_err(failed)?;
    }
    caps::set(none, none, none, none).map_err(failed)
}

fn handle(path: &std::path::Path) -> sys::Result<OwnedFd> {
    named(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()), || format!("open({path:?}, O_PATH)"))
}

/// What a directory that was given is good for: no programs and no devices.
fn rights(readonly: bool) -> u64 {
    if readonly {
        access::READ_FILE | access::READ_DIR
    } else {
        (access::FIRST & !access::EXECUTE & !access::MAKE_SPECIAL) | access::REFER | access::TRUNCATE
    }
}
