//! What every stage of a child has in common: how it ends, how it speaks with who made it, and what it does to
//! itself first.

use std::os::fd::OwnedFd;

use rustix::process::Signal;

use super::handshake::{self, Failed, ToInit};
use crate::cgroup::Entrance;
use crate::sys::{self, named};

/// What ends a stage: a failure to tell, or the silence of who made it.
pub(super) enum End {
    Failed(Failed),
    Alone,
}

impl End {
    /// The exit status of a child that ends this way.
    pub fn status(&self) -> i32 {
        match self {
            Self::Failed(failed) => failed.status.unwrap_or(125).into(),
            Self::Alone => 125,
        }
    }
}

impl From<Failed> for End {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

pub(super) type Done<T = ()> = Result<T, End>;

/// Gives a failed call its intent.
pub(super) fn step<T>(result: sys::Result<T>, what: &str) -> Done<T> {
    result.map_err(|error| End::Failed(Failed::at(what, &error)))
}

/// Waits for one message; anything else means that nobody wants this container any more.
pub(super) fn wait_for(socket: &OwnedFd, wanted: &ToInit) -> Done {
    match handshake::receive::<ToInit>(socket)? {
        Some((got, _)) if got == *wanted => Ok(()),
        _ => Err(End::Alone),
    }
}

/// Begins a session, with the signals that a program expects, and dies with the parent from now on.
pub(super) fn begin() -> Done {
    sys::process::default_signals();
    step(named(rustix::process::setsid(), || "setsid()".into()), "begin a session")?;
    die_with_parent(true)
}

/// Whether the end of the parent is the end of this process.
pub(super) fn die_with_parent(die: bool) -> Done {
    let set = rustix::process::set_parent_process_death_signal(die.then_some(Signal::KILL));
    step(named(set, || format!("prctl(PR_SET_PDEATHSIG, {die})")), "bind its life to its maker's")
}

/// Whoever gets to see this process before its program runs must not get at its memory or files.
pub(super) fn hide() -> Done {
    step(sys::process::hide(), "hide from the container")
}

/// Enters the cgroups that a process enters by itself.
pub(super) fn enter_cgroup(entrance: Option<&Entrance>) -> Done {
    entrance.map_or(Ok(()), |entrance| step(entrance.enter(), "enter the cgroup"))
}
