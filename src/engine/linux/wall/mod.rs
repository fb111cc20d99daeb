//! The second wall: what a process that hosts a WebAssembly program may still do, should the program ever get out of
//! the engine.
//!
//! ```text
//!   root filesystem      empty, read-only, but for the directories given
//!   namespaces           all of its own
//!   capabilities         none, in all sets
//!   no_new_privs         yes
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
use crate::engine::wasm::grant::network::Ports;
use crate::engine::wasm::{Invocation, Program};
use crate::oci::runtime::LinuxSeccomp;
use crate::sys::landlock::{self, BIND_TCP, CONNECT_TCP, Ruleset, access};
use crate::sys::{self, caps, named};

/// The least Landlock that is used: before it no file could be moved from one directory to another.
const LEAST_ABI: u32 = 2;

/// The most ports that Landlock is told one by one; of more it is not asked.
const MAX_PORTS: usize = 1_000;
/// The port of name servers.
const DNS: u16 = 53;

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
#[derive(Clone, Debug)]
pub struct Wall {
    directories: Vec<(PathBuf, bool)>,
    /// The TCP ports that may be connected to and listened at; `None` for too many to list.
    ports: [Option<Vec<u16>>; 2],
    needs: Needs,
}

impl Wall {
    /// The walls around `program` with what it was given.
    pub fn around(program: &Program, invocation: &Invocation) -> Self {
        let directories = invocation.preopens.iter().map(|preopen| (preopen.host.clone(), preopen.readonly));
        let network = &invocation.grants.network;
        // Names are resolved over TCP as well, by who looks them up.
        let resolver = network.has_names().then_some(DNS..=DNS);
        let ports = [few(network.connect_ports().chain(resolver)), few(network.listen_ports())];
        let files = !invocation.preopens.is_empty();
        let stores = !invocation.grants.given.stores.is_empty();
        let needs = Needs { files, stores, network: network.is_granted(), server: program.serves() };
        Self { directories: directories.collect(), ports, needs }
    }

    /// The walls of a process that needs nothing.
    fn bare() -> Self {
        Self { directories: Vec::new(), ports: [Some(Vec::new()), Some(Vec::new())], needs: Needs::default() }
    }

    /// Gives up what of files, sockets and processes was not granted, where the kernel has Landlock.
    pub fn shut_out(&self) -> Result<(), Error> {
        let failed = |source| Error::Sys { what: "shut the program out of what it was not given", source };
        sys::seccomp::set_no_new_privs().map_err(failed)?;
        let abi = landlock::abi();
        if abi < LEAST_ABI {
            return Ok(());
        }
        let both = [CONNECT_TCP, BIND_TCP];
        let listed = both.iter().zip(&self.ports).filter_map(|(right, ports)| Some((*right, ports.as_ref()?)));
        let network = listed.clone().fold(0, |all, (right, _)| all | right);
        let rules = Ruleset::new(abi, network).map_err(failed)?;
        for (right, port) in listed.flat_map(|(right, ports)| ports.iter().map(move |port| (right, *port))) {
            rules.allow_port(right, port).map_err(failed)?;
        }
        for (path, readonly) in &self.directories {
            let directory = handle(path).map_err(failed)?;
            rules.allow_beneath(directory.as_fd(), rights(*readonly)).map_err(failed)?;
        }
        rules.enforce().map_err(failed)
    }

    /// Gives up all system calls but those that the engine makes for a program with these grants.
    pub fn filter(&self) -> Result<(), Error> {
        let (family, arch) = Family::native().zip(native()).ok_or(Error::Processor)?;
        load(&profile(self.needs, arch), family)
    }
}

/// The walls around the process that compiles programs, which is single-threaded still: it keeps its open files, memory
/// and threads.
pub fn around_compiler() -> Result<(), Error> {
    let (family, arch) = Family::native().zip(native()).ok_or(Error::Processor)?;
    // First, for how many there are is told by a file.
    give_up_capabilities()?;
    Wall::bare().shut_out()?;
    load(&profile::compiler_profile(arch), family)
}

fn load(profile: &LinuxSeccomp, family: Family) -> Result<(), Error> {
    let filter = seccomp::compile(profile, family)?;
    let loaded = sys::seccomp::load(filter.program(), sys::seccomp::Flags::TSYNC);
    loaded.map(drop).map_err(|source| Error::Sys { what: "load the engine's seccomp filter", source })
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

/// Each port of `ranges`; `None` when there are more than [`MAX_PORTS`].
fn few(ranges: impl Iterator<Item = Ports>) -> Option<Vec<u16>> {
    let ports: Vec<u16> = ranges.flatten().take(MAX_PORTS + 1).collect();
    (ports.len() <= MAX_PORTS).then_some(ports)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_as_long_as_they_are_few() {
        assert_eq!(few([80..=81, 443..=443].into_iter()), Some(vec![80, 81, 443]));
        assert_eq!(few(std::iter::empty()), Some(Vec::new()));
        assert_eq!(few([0..=u16::MAX].into_iter()), None);
    }
}
