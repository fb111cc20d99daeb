//! A Wasm program in the foreground, without a container: no record, no supervisor, no directory and no log. Its
//! streams are the caller's own, and when it has ended nothing is left of it.
//!
//! It has the same two walls as one in a container, for it is made by the same engine from the same kind of bundle,
//! which is in memory. Its process is bound to this one: if this is killed, so is the program.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::intent::Asked;
use super::{Config, Error, HostConfig, Places, granted, publish};
use crate::bundle::{self, Bundle};
use crate::engine::linux::{self, Options, Request, Stdio};
use crate::engine::{Engine, wasm};
use crate::sys::process::{self, Child};
use crate::sys::{self, named};

/// What is passed on to the program: what a terminal or a service manager sends, and what users define themselves.
const PASSED_ON: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGWINCH,
];

/// A program to run, and what it is given.
pub struct Direct {
    /// What it is called in messages.
    pub name: String,
    /// Its bytes.
    pub program: Program,
    /// What it sees.
    pub config: Config,
    /// What the host gives.
    pub host_config: HostConfig,
}

/// Where a program's bytes are.
pub enum Program {
    /// In a file, whose compiled form may be known already.
    File(File),
    /// Here.
    Bytes(wasm::Source),
}

impl Places {
    /// Runs the program to its end; its exit status.
    pub fn run(&self, direct: &Direct) -> Result<u8, Error> {
        let limit = direct.host_config.grants()?.limit;
        let compiled = match &direct.program {
            Program::File(file) => self.compiled(file, &direct.name, &limit)?,
            Program::Bytes(source) => self.compiled_of(source, &direct.name, &limit)?,
        };
        let mut host_config = direct.host_config.clone();
        granted::settle(&mut host_config, Engine::Wasm)?;
        publish::check(&host_config, &direct.config, Engine::Wasm, compiled.serves(), &direct.name)?;
        let asked = Asked {
            config: &direct.config,
            host_config: &host_config,
            engine: Engine::Wasm,
            namespaces: granted::namespaces(&host_config),
        };
        let intent = self.intent(&asked, Vec::new(), None)?;
        // The directory is only what relative paths in the bundle would begin at, and there are none.
        let bundle = Bundle::unwritten(Path::new("/"), bundle::spec(&intent));
        let (sockets, _) = publish::open(&host_config, &direct.config)?;
        let signals = process::signal_fd(&PASSED_ON).map_err(failed("watch for signals"))?;
        let request = Request {
            bundle: &bundle,
            id: "direct",
            root: None,
            stdio: Stdio::Inherit,
            wasm: Some(compiled),
            cgroup: None,
            options: Options { sockets, ..Options::default() },
            made: &|_| Ok(()),
        };
        let running = linux::create(request).map_err(|source| Error::Run { program: direct.name.clone(), source })?;
        stay(&running.child, signals.as_fd()).map_err(failed("stay with the program"))
    }
}

fn failed(what: &'static str) -> impl Fn(sys::Error) -> Error {
    move |source| Error::Sys { what, source }
}

/// Passes signals on until the program has ended; its exit status.
fn stay(child: &Child, signals: BorrowedFd<'_>) -> sys::Result<u8> {
    let pidfd = child.pidfd.as_fd();
    loop {
        let mut fds =
            [PollFd::from_borrowed_fd(pidfd, PollFlags::IN), PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => named(Err(error), || "poll()".into())?,
        }
        let ended = !fds[0].revents().is_empty();
        while let Some(number) = process::next_signal(signals) {
            pass_on(pidfd, number)?;
        }
        if ended {
            return process::reap(pidfd);
        }
    }
}

/// A program that is the first of its pid namespace has no default action for what a terminal's suspend key sends:
/// it is stopped, and so are we, until the shell lets us go on.
fn pass_on(pidfd: BorrowedFd<'_>, number: i32) -> sys::Result<()> {
    if number != libc::SIGTSTP {
        return process::signal(pidfd, number).map(drop);
    }
    process::signal(pidfd, libc::SIGSTOP)?;
    let stopped = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
    named(stopped, || "kill(getpid(), SIGSTOP)".into())
}
