//! Staying with a program in the foreground: signals go to it, its terminal is the user's, its end is ours.
//!
//! One poll over the signals, the terminal's two directions and the notify socket. A program without a terminal has our
//! own standard streams, so that there is nothing to relay.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::WaitOptions;

use super::error::Error;
use super::notify::Notify;
use crate::engine::linux::Running;
use crate::error::tolerate;
use crate::sys::process::{next_signal, signal, signal_fd};
use crate::sys::signal::REAL_TIME;
use crate::sys::{self, named, pty};

/// The signals that are not passed on: those that cannot be caught, those that a process sends itself when it
/// fails, and SIGURG, which nobody means for us.
const OWN: [i32; 9] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGURG,
];
/// What is read at once.
const CHUNK: usize = 32 << 10;

/// A handle on every signal that may have to be passed on. From here on they wait until [`stay`] reads them.
pub fn signals() -> Result<OwnedFd, Error> {
    let ordinary = (1..=libc::SIGSYS).filter(|number| !OWN.contains(number));
    let all: Vec<i32> = ordinary.chain(REAL_TIME).collect();
    signal_fd(&all).map_err(Error::sys("watch for signals"))
}

/// The size of the user's terminal. A user without one has none to give.
pub fn size() -> Option<pty::Size> {
    [pty::size(io::stdin()), pty::size(io::stdout()), pty::size(io::stderr())].into_iter().find_map(Result::ok)
}

struct Stay {
    running: Running,
    signals: OwnedFd,
    notify: Option<Notify>,
    /// The user's input, as long as there is some and the program has a terminal.
    input: bool,
    /// What was read of it and not yet taken.
    pending: Vec<u8>,
}

/// Stays until the program ends; its exit status.
pub fn stay(running: Running, signals: OwnedFd, notify: Option<Notify>) -> Result<u8, Error> {
    let terminal = running.console.is_some();
    let _raw = match terminal && rustix::termios::isatty(io::stdin()) {
        true => Some(pty::RawMode::enter(io::stdin().as_fd()).map_err(Error::sys("put the terminal into raw mode"))?),
        false => None,
    };
    let mut stay = Stay { running, signals, notify, input: terminal, pending: Vec::new() };
    stay.resize();
    stay.run().map_err(Error::sys("stay with the program"))
}

impl Stay {
    fn run(&mut self) -> sys::Result<u8> {
        if let Some(console) = &self.running.console {
            named(rustix::io::ioctl_fionbio(console, true), || "ioctl(FIONBIO)".into())?;
        }
        // It may have ended before its signal could be waited for.
        if let Some(status) = self.reap()? {
            return self.finish(status);
        }
        loop {
            let ready = self.wait()?;
            if ready.output {
                self.output()?;
            }
            if ready.input {
                self.read_input();
            }
            self.write_input();
            if ready.notify {
                self.notify();
            }
            while let Some(number) = ready.signal.then(|| next_signal(self.signals.as_fd())).flatten() {
                if let Some(status) = self.heed(number)? {
                    return self.finish(status);
                }
            }
        }
    }

    fn wait(&self) -> sys::Result<Ready> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut add = |fd, flags| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            fds.len() - 1
        };
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !self.pending.is_empty());
        let console = self.running.console.as_ref().map(|console| add(console.as_fd(), interest));
        let input = (self.input && self.pending.is_empty()).then(|| add(stdin.as_fd(), PollFlags::IN));
        let notify = self.notify.as_ref().and_then(Notify::socket).map(|socket| add(socket.as_fd(), PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => named(Err(error), || "poll()".into())?,
        }
        let ready = |at: Option<usize>| at.is_some_and(|at| !(fds[at].revents() - PollFlags::OUT).is_empty());
        Ok(Ready { signal: ready(Some(0)), output: ready(console), input: ready(input), notify: ready(notify) })
    }

    /// Passes a signal on, or finds out what the end of a child means; the program's status when it has ended.
    fn heed(&mut self, number: i32) -> sys::Result<Option<u8>> {
        match number {
            libc::SIGCHLD => return self.reap(),
            libc::SIGWINCH if self.running.console.is_some() => self.resize(),
            number => drop(signal(self.running.child.pidfd.as_fd(), number)?),
        }
        Ok(None)
    }

    /// Lets the kernel forget every child that has ended; with a subreaper there are others than the program.
    fn reap(&self) -> sys::Result<Option<u8>> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.running.child.pid => {
                    let signal = status.terminating_signal().map(|signal| 128 + signal);
                    return Ok(Some(status.exit_status().or(signal).unwrap_or(255) as u8));
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(Errno::CHILD) => return Ok(None),
                Err(error) => named(Err(error), || "wait4(-1, WNOHANG)".into())?,
            }
        }
    }

    /// Gives the program's terminal the size of the user's.
    fn resize(&self) {
        if let (Some(console), Some(size)) = (&self.running.console, size()) {
            tolerate(pty::set_size(console, size));
        }
    }

    /// Writes what the program has said; true if it was something.
    fn output(&mut self) -> sys::Result<bool> {
        let Some(console) = &self.running.console else { return Ok(false) };
        let mut chunk = [0; CHUNK];
        match rustix::io::read(console, &mut chunk[..]) {
            // EIO: the last process with the terminal open has closed it.
            Ok(0) | Err(Errno::IO) => {
                self.running.console = None;
                self.input = false;
                Ok(false)
            }
            Ok(count) => write_all(&chunk[..count]).map(|()| true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => named(Err(error), || "read(terminal)".into()),
        }
    }

    fn read_input(&mut self) {
        let mut chunk = [0; CHUNK];
        match rustix::io::read(io::stdin(), &mut chunk[..]) {
            Ok(count) if count > 0 => self.pending.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The end of the user's input is not that of the terminal.
            _ => self.input = false,
        }
    }

    fn write_input(&mut self) {
        let Some(console) = self.running.console.as_ref().filter(|_| !self.pending.is_empty()) else { return };
        match rustix::io::write(console, &self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody has the terminal open any more.
            Err(_) => self.pending.clear(),
        }
    }

    /// What could not be told to the host's socket is not the program's fault, and it runs on.
    fn notify(&mut self) {
        let pid = self.running.child.pid.as_raw_nonzero().get();
        if let Some(Err(_)) = self.notify.as_mut().map(|notify| notify.relay(pid)) {
            self.notify = None;
        }
    }

    /// Writes what the terminal still holds. Somebody else may keep it open, so nothing is waited for.
    fn finish(&mut self, status: u8) -> sys::Result<u8> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        while let Some(console) = &self.running.console {
            let mut fds = [PollFd::new(console, PollFlags::IN)];
            let waits = poll(&mut fds, Some(&NOW)).is_ok_and(|count| count > 0);
            if !waits || !self.output()? {
                break;
            }
        }
        Ok(status)
    }
}

struct Ready {
    signal: bool,
    output: bool,
    input: bool,
    notify: bool,
}

/// Writes to the user. When nobody reads any more, the program still runs on.
fn write_all(bytes: &[u8]) -> sys::Result<()> {
    use io::Write;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => named(other, || format!("write({} bytes)", bytes.len())),
    }
}
