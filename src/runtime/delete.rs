//! `delete`: everything that a container has is given back. Also what a failed or ended `create` and `run` do.
//!
//! A container that was left half-made by a killed command has a record, and perhaps a cgroup. As long as there is no
//! process in the record the cgroup may be somebody else's, whose path is the same: it is removed if it is empty, and
//! nobody in it is killed.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::options::{Flag, Given, switch};
use super::status::Status;
use super::store::{Entry, Locked, Record};
use super::{Command, Context, Error, Outcome, cgroup, hooks, id, kill, matching, warn_of};
use crate::cgroup::Cgroup;
use crate::sys::named;

/// How long a killed process may take to be gone; as long as runc waits.
const KILL_TIME: Duration = Duration::from_secs(10);

static FLAGS: [Flag; 2] = [
    switch("force", Some('f'), "kill the container first if it still runs; one that does not exist is no error"),
    switch("regex", Some('r'), "delete every container whose id matches the expression given"),
];

/// `delete`.
pub const COMMAND: Command =
    Command { flags: &FLAGS, ..Command::new("delete", "remove what a stopped container still holds", run) };

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let force = given.has("force");
    if given.has("regex") {
        for entry in matching(context, given)? {
            delete(context, &entry.record.id, force)?;
        }
    } else {
        delete(context, &id(given)?, force)?;
    }
    Ok(0)
}

fn delete(context: &Context<'_>, id: &str, force: bool) -> Result<(), Error> {
    let entry = match context.store.load(id) {
        Err(Error::NotExist) => return absent(context, id, force),
        loaded => loaded?,
    };
    if force {
        // Before the lock: a create that waits for a hook ends only when its process does.
        end(&entry)?;
    }
    let container = match context.store.lock(id) {
        Err(Error::NotExist) => return absent(context, id, force),
        locked => locked?,
    };
    match container.entry.status() {
        _ if force => {}
        Status::Stopped | Status::Created => {}
        status => return Err(Error::NotStopped { id: id.to_owned(), status }),
    }
    destroy(context, container)
}

/// There is no record: at most the directory of one that was never written.
fn absent(context: &Context<'_>, id: &str, force: bool) -> Result<(), Error> {
    context.store.sweep(id)?;
    if force { Ok(()) } else { Err(Error::NotExist) }
}

/// Ends whatever of the container still runs and gives back all that it has. It does not exist afterwards.
pub fn destroy(context: &Context<'_>, container: Locked) -> Result<(), Error> {
    let entry = &container.entry;
    end(entry)?;
    remove_cgroup(entry)?;
    entry.record.rdt.as_ref().map_or(Ok(()), |rdt| rdt.remove())?;
    if entry.record.init().is_some() && entry.record.poststop {
        warn_of(context.log, hooks::poststop(entry));
    }
    container.remove()
}

/// Kills the container's first process, and waits until it is gone.
fn end(entry: &Entry) -> Result<(), Error> {
    let Some(init) = entry.record.init() else { return Ok(()) };
    let Some(handle) = init.open().map_err(Error::sys("find its process"))? else { return Ok(()) };
    match kill::send(entry, libc::SIGKILL, false) {
        Err(Error::NotRunning) => {}
        sent => sent?,
    }
    let limit = Timespec { tv_sec: KILL_TIME.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&handle.as_fd(), PollFlags::IN)], Some(&limit));
    match named(ended, || "poll(pidfd)".into()).map_err(Error::sys("wait for its end"))? {
        0 => Err(Error::refuse("kill", "container init still running")),
        _ => Ok(()),
    }
}

fn remove_cgroup(entry: &Entry) -> Result<(), Error> {
    let record = &entry.record;
    cgroup::with(entry, |group| remove_group(record, group)).map(drop)
}

fn remove_group(record: &Record, group: &Cgroup) -> Result<(), Error> {
    if record.init().is_some() && !record.own_pids {
        // What the first process has left behind does not end with it.
        group.kill()?;
    }
    if record.init().is_none() && !cgroup::is_deserted(group)? {
        return Ok(());
    }
    Ok(group.remove()?)
}
