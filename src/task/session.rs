//! A further program in a running container, which the supervisor executes for a client and stays the parent of.
//!
//! It has streams of its own, which are that client's and are not in the container's log. A client that goes away leaves
//! it running, its input at an end and its output unheard, as with Docker.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags};

use super::streams::{Heard, Input, Outputs, Plumbing, hear, obey, waits};
use super::wire::{self, Kind};
use super::{Error, Execution, StartFailure};
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::engine::linux::{self, About, Exec, Options, Running, user};
use crate::error::tolerate;
use crate::log::Stream;
use crate::oci::CAPABILITIES;
use crate::oci::runtime::{Capabilities, LinuxCapabilitiesBuilder, Process, Spec, UserBuilder};
use crate::sys;
use crate::sys::process::{self, Identity};

/// The exit status that stands for a program that could not be executed, where its failure names none.
const CANNOT_EXECUTE: u8 = 126;

/// The most that can be left in a stream: the largest capacity of a pipe that an ordinary user may set (pipe(7)).
const MAX_LEFT: usize = 1 << 20;

/// A program that was executed for a client.
pub(super) struct Session {
    /// Its name among events.
    pub id: String,
    running: Running,
    outputs: Outputs,
    input: Option<Input>,
}

impl Session {
    /// Executes it in the container of `directory`, whose first process is `init`.
    pub fn start(
        execution: &Execution,
        directory: &Path,
        init: Identity,
        cgroup: Option<&Cgroup>,
    ) -> Result<Self, StartFailure> {
        let failed = |what| move |source| StartFailure::of(&Error::Sys { what, source }, CANNOT_EXECUTE);
        let bundle = Bundle::read(directory).map_err(|error| StartFailure::of(&error, CANNOT_EXECUTE))?;
        let process = process(execution, bundle.spec(), init)?;
        let plumbing = Plumbing::lay(execution.terminal, execution.stdin).map_err(failed("make its streams"))?;
        let group = cgroup.map(|cgroup| cgroup.of(init.pid)).transpose();
        let id = directory.file_name().unwrap_or_default().to_string_lossy();
        let running = linux::exec(Exec {
            init,
            about: About { id: &id, bundle: bundle.directory(), spec: bundle.spec() },
            process: &process,
            stdio: plumbing.inner,
            cgroup: group.map_err(|error| StartFailure::of(&error, CANNOT_EXECUTE))?.as_ref(),
            options: Options { keyring: false, ..Options::default() },
            made: &|_| Ok(()),
        });
        let running = running.map_err(|error| match &error {
            linux::Error::Init(why) => StartFailure::of(&error, why.status.unwrap_or(CANNOT_EXECUTE)),
            _ => StartFailure::of(&error, CANNOT_EXECUTE),
        })?;
        let (outputs, input) = plumbing.outer.connect(&running).map_err(failed("connect its terminal"))?;
        Ok(Self { id: execution.id.clone(), running, outputs, input })
    }

    /// Adds what is to be waited for; no output while there is no room for it.
    pub fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>, room: bool) {
        fds.push(PollFd::new(&self.running.child.pidfd, PollFlags::IN));
        if room {
            fds.extend(self.outputs.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)));
        }
        let input = self.input.as_ref().and_then(Input::wants);
        fds.extend(input.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
    }

    /// Whether its client is heard: not while the program has not taken what was sent before.
    pub fn hears(&self) -> bool {
        self.input.as_ref().is_none_or(|input| !input.is_full())
    }

    /// Moves bytes both ways; the exit status once it has ended and all that it wrote has been read.
    pub fn pump(&mut self, frames: &mut Vec<u8>, room: bool) -> Option<u8> {
        if self.input.as_mut().is_some_and(|input| !input.pump()) {
            self.input = None;
        }
        // Before its output is looked at: what it wrote before its end is there then.
        let ended = waits(&self.running.child.pidfd);
        if room || ended {
            self.outputs.retain(|(stream, fd)| read_once(*stream, fd.as_fd(), frames));
        }
        if !ended {
            return None;
        }
        self.drain(frames);
        Some(process::reap(self.running.child.pidfd.as_fd()).unwrap_or(255))
    }

    /// Ends with the container, which has killed it.
    pub fn finish(&mut self, frames: &mut Vec<u8>) -> u8 {
        // It is dead in a pid namespace that ended and in a group that was killed. Where there is neither, it is not.
        tolerate(process::signal(self.running.child.pidfd.as_fd(), libc::SIGKILL));
        let code = process::reap(self.running.child.pidfd.as_fd()).unwrap_or(255);
        self.drain(frames);
        code
    }

    /// Reads what is left. Somebody else may still have its streams open and write to them, so nothing is waited for, and
    /// no more is read than can have been there.
    fn drain(&mut self, frames: &mut Vec<u8>) {
        for (stream, fd) in std::mem::take(&mut self.outputs) {
            let mut left = MAX_LEFT / wire::MAX_PAYLOAD;
            while left > 0 && waits(&fd) && read_once(stream, fd.as_fd(), frames) {
                left -= 1;
            }
        }
    }

    /// Does what its client asks for.
    pub fn obey(&mut self, kind: Kind, payload: &[u8]) {
        obey(&self.running, &mut self.input, kind, payload);
    }

    /// Nobody will write to it any more.
    pub fn end_input(&mut self) {
        if let Some(input) = &mut self.input {
            input.end();
        }
    }
}

/// Reads once; false when nothing more will come.
fn read_once(stream: Stream, fd: BorrowedFd<'_>, frames: &mut Vec<u8>) -> bool {
    let mut chunk = [0; wire::MAX_PAYLOAD];
    match hear(fd, &mut chunk) {
        Heard::Bytes(count) => {
            let kind = if stream == Stream::Stdout { Kind::Stdout } else { Kind::Stderr };
            wire::put(frames, kind, &chunk[..count]);
            true
        }
        Heard::Nothing => true,
        Heard::End => false,
    }
}

/// The program and its rights: the container's, but for what was asked for.
fn process(execution: &Execution, spec: &Spec, init: Identity) -> Result<Process, StartFailure> {
    let mut process = spec.process().clone().unwrap_or_default();
    process
        .set_args(Some(execution.args.clone()))
        .set_env(Some(execution.env.clone()))
        .set_terminal(Some(execution.terminal.is_some()));
    if let Some(cwd) = &execution.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(typed) = &execution.user {
        let root = root(init).map_err(|source| {
            StartFailure::of(&Error::Sys { what: "look into the container's root filesystem", source }, CANNOT_EXECUTE)
        })?;
        let who =
            user::resolve(Some(root.as_fd()), typed).map_err(|error| StartFailure::of(&error, CANNOT_EXECUTE))?.user;
        let user = UserBuilder::default().uid(who.uid).gid(who.gid).additional_gids(who.groups).build();
        process.set_user(user.expect("complete"));
    }
    if execution.privileged {
        let all: Capabilities = CAPABILITIES.into_iter().collect();
        let sets = LinuxCapabilitiesBuilder::default().bounding(all.clone()).effective(all.clone()).permitted(all);
        let none = Capabilities::default;
        process.set_capabilities(Some(sets.inheritable(none()).ambient(none()).build().expect("complete")));
    }
    Ok(process)
}

/// The container's root directory, through its first process.
fn root(init: Identity) -> sys::Result<OwnedFd> {
    let path = format!("/proc/{}/root", init.pid);
    let root = rustix::fs::openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    sys::named(root, || format!("openat({path:?}, O_PATH)"))
}
