//! Isolating one process by namespaces, a root filesystem of its own, capabilities, seccomp and cgroups.
//!
//! ```text
//!  supervisor (single-threaded)            init (its fork, in the new namespaces)
//!  ────────────────────────────            ──────────────────────────────────────
//!  plan: all that can be decided
//!  clone3 ──────────────────────────────▶  root, mounts, devices, console
//!  put it into its cgroup                   ┆
//!  Joined ──────────────────────────────▶  cgroup namespace, pivot_root, masks, limits,
//!                                           user, capabilities, seccomp
//!         ◀────────────────────── Ready    waits at the gate
//!  Start  ──────────────────────────────▶  execve / Wasm
//!         ◀─── end of file: it runs; Failed { step, call, errno }: it does not
//! ```
//!
//! The child needs no second execution of our binary: the supervisor runs from a handle that cannot
//! be written ([`crate::sys::process::sealed_self`]), is single-threaded, and decides everything before
//! the clone, so that what the child does is mostly system calls.

pub mod console;
pub mod device;
mod handshake;
pub mod hook;
mod init;
pub mod label;
mod mounts;
pub mod netdevice;
mod plan;
pub mod schedule;
pub mod seccomp;
pub mod sysctl;
pub mod time;

use std::os::fd::{AsFd, OwnedFd};

pub use handshake::Failed;
use handshake::{FromInit, ToInit};
pub use mounts::option_names;
use plan::Plan;
use rustix::process::Signal;

use super::wasm;
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::error::{Failure, Kind, tolerate};
use crate::sys;
use crate::sys::process::Child;

/// What to make.
pub struct Request<'a> {
    /// The specification.
    pub bundle: &'a Bundle,
    /// A detached mount that becomes the root filesystem; without one, the bundle's directory is it.
    pub root: Option<OwnedFd>,
    /// The program's standard streams; with a terminal they are not used.
    pub stdio: Stdio,
    /// The Wasm program to run in place of the specification's.
    pub wasm: Option<wasm::Compiled>,
    /// The cgroup to be in; `None` only where an ordinary user has been delegated none.
    pub cgroup: Option<&'a Cgroup>,
}

/// The three standard streams of the program.
pub enum Stdio {
    /// Files, in the order of their numbers.
    Files([OwnedFd; 3]),
    /// A terminal in the container's own devpts, of this size.
    Terminal(sys::pty::Size),
}

/// A process that is isolated and waits at its gate.
pub struct Created {
    child: Child,
    socket: OwnedFd,
    console: Option<OwnedFd>,
}

/// A process whose program runs.
pub struct Running {
    /// The process.
    pub child: Child,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
}

/// Why no process was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification asks for what this engine does not do.
    #[error("{field} of the runtime specification: {problem}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What is the matter with it.
        problem: String,
    },
    /// The supervisor's side of the making failed.
    #[error("cannot {what}")]
    Sys {
        /// What was being done.
        what: &'static str,
        /// The call that failed.
        source: sys::Error,
    },
    /// The cgroup refused the process.
    #[error("cannot put the process into its cgroup")]
    Cgroup(#[from] crate::cgroup::Error),
    /// The seccomp profile cannot be compiled.
    #[error("cannot compile the seccomp profile")]
    Seccomp(#[from] seccomp::Error),
    /// The Wasm program cannot be loaded.
    #[error(transparent)]
    Wasm(#[from] wasm::Error),
    /// The init stage failed.
    #[error(transparent)]
    Init(#[from] Failed),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::Sys { source, .. } => source.kind(),
            Self::Cgroup(source) => source.kind(),
            Self::Seccomp(source) => source.kind(),
            Self::Wasm(source) => source.kind(),
            Self::Init(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Cgroup(source) => source.hint(),
            Self::Wasm(source) => source.hint(),
            Self::Init(source) => source.hint(),
            _ => None,
        }
    }
}

/// Makes the isolated process and takes it to its gate.
pub fn create(request: Request<'_>) -> Result<Created, Error> {
    let (ours, theirs) =
        sys::socket::packet_pair().map_err(|source| Error::Sys { what: "reach the init stage", source })?;
    let mut plan = Plan::new(&request)?;
    for mount in &mut plan.mounts {
        mount.prepare().map_err(|source| Error::Sys { what: "prepare a mount", source })?;
    }
    let cgroup = request.cgroup;
    let into = cgroup.map(Cgroup::dir_fd).transpose()?.flatten();
    let flags = plan.clone_flags();
    let child = sys::process::clone(flags, into.as_ref().map(AsFd::as_fd), || init::main(plan, request, theirs));
    let child = child.map_err(|source| Error::Sys { what: "clone the container's init process", source })?;
    let mut created = Created { child, socket: ours, console: None };
    match created.reach_gate(cgroup, into.is_some()) {
        Ok(()) => Ok(created),
        Err(error) => {
            created.abandon();
            Err(error)
        }
    }
}

impl Created {
    /// Puts the child into its cgroup while it makes its mounts, and waits until it is at its gate.
    fn reach_gate(&mut self, cgroup: Option<&Cgroup>, born_inside: bool) -> Result<(), Error> {
        let pid = self.child.pid.as_raw_nonzero().get();
        match cgroup {
            Some(cgroup) if born_inside => cgroup.attach_rest(pid)?,
            Some(cgroup) => cgroup.attach(pid)?,
            None => {}
        }
        handshake::send(&self.socket, &ToInit::Joined, &[])?;
        loop {
            match handshake::receive(&self.socket)? {
                Some((FromInit::Console, fd)) => self.console = fd,
                Some((FromInit::Ready, _)) => return Ok(()),
                Some((FromInit::Failed(failed), _)) => return Err(failed.into()),
                None => return Err(Failed::vanished().into()),
            }
        }
    }

    /// The process, waiting.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Opens the gate and sees the program run.
    pub fn start(self) -> Result<Running, Error> {
        let started =
            handshake::send(&self.socket, &ToInit::Start, &[]).and_then(|()| handshake::receive(&self.socket));
        match started {
            Ok(None) => Ok(Running { child: self.child, console: self.console }),
            Ok(Some((FromInit::Failed(failed), _))) => {
                self.abandon();
                Err(failed.into())
            }
            Ok(Some(_)) => {
                self.abandon();
                Err(Failed::vanished().into())
            }
            Err(failed) => {
                self.abandon();
                Err(failed.into())
            }
        }
    }

    /// Ends and reaps a process that will not become a container.
    fn abandon(&self) {
        // It is killed by a handle to our own unreaped child, which cannot fail but by being dead.
        let child = self.child.pidfd.as_fd();
        tolerate(sys::process::signal(child, Signal::KILL.as_raw()).and_then(|_| sys::process::reap(child)));
    }
}
