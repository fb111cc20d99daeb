//! The streams of a program that the supervisor has made: the program's ends of them, and ours.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::wire::{self, Kind};
use crate::engine::linux::{Running, Stdio};
use crate::error::tolerate;
use crate::log::Stream;
use crate::sys::{self, process, pty};

/// Where the program's output is read, by stream.
pub(super) type Outputs = Vec<(Stream, OwnedFd)>;

/// The program's ends of its streams, and ours.
pub(super) struct Plumbing {
    pub inner: Stdio,
    pub outer: Outer,
}

pub(super) enum Outer {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal { stdin: bool },
}

impl Plumbing {
    /// A terminal of this size, or pipes; the input is empty if it is not wanted.
    pub fn lay(terminal: Option<pty::Size>, stdin: bool) -> sys::Result<Self> {
        if let Some(size) = terminal {
            return Ok(Self { inner: Stdio::Terminal(Some(size)), outer: Outer::Terminal { stdin } });
        }
        let pipe = || sys::named(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC), || "pipe2()".into());
        let (inner_stdin, stdin) = match stdin {
            true => pipe().map(|(read, write)| (read, Some(write)))?,
            false => (OwnedFd::from(sys::named(File::open("/dev/null"), || "open(\"/dev/null\")".into())?), None),
        };
        let (stdout, inner_stdout) = pipe()?;
        let (stderr, inner_stderr) = pipe()?;
        // Only our ends do not block: the flag belongs to the open file, and a program expects streams that do.
        for fd in [Some(&stdout), Some(&stderr), stdin.as_ref()].into_iter().flatten() {
            nonblocking(fd.as_fd())?;
        }
        let inner = Stdio::Files([inner_stdin, inner_stdout, inner_stderr]);
        Ok(Self { inner, outer: Outer::Pipes { stdin, stdout, stderr } })
    }
}

impl Outer {
    /// Our ends, once the program is there and with it its terminal.
    pub fn connect(self, running: &Running) -> sys::Result<(Outputs, Option<Input>)> {
        let input = |fd, terminal| Input { fd, pending: Vec::new(), ending: false, terminal };
        match (self, &running.console) {
            (Self::Pipes { stdin, stdout, stderr }, _) => {
                let outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
                Ok((outputs, stdin.map(|fd| input(fd, false))))
            }
            (Self::Terminal { stdin }, Some(master)) => {
                nonblocking(master.as_fd())?;
                let copy = || sys::named(master.try_clone(), || "dup()".into());
                let stdin = if stdin { Some(input(copy()?, true)) } else { None };
                Ok((vec![(Stream::Stdout, copy()?)], stdin))
            }
            (Self::Terminal { .. }, None) => sys::named(Err(Errno::NOTTY), || "the init stage sent no terminal".into()),
        }
    }
}

/// Does what a client asks of the program that runs, and of its input. The signal, if it was one.
pub(super) fn obey(running: &Running, input: &mut Option<Input>, kind: Kind, payload: &[u8]) -> Option<u8> {
    match (kind, payload, input) {
        (Kind::Stdin, bytes, Some(input)) => input.push(bytes),
        (Kind::StdinEnd, _, Some(input)) => input.end(),
        (Kind::Resize, &[r0, r1, c0, c1], _) => {
            let size = pty::Size { rows: u16::from_be_bytes([r0, r1]), columns: u16::from_be_bytes([c0, c1]) };
            // A program without a terminal has no size, and one that has ended needs none.
            if let Some(console) = &running.console {
                tolerate(pty::set_size(console, size));
            }
        }
        (Kind::Signal, &[number], _) => {
            // It fails only when the program has ended, which the client hears next.
            tolerate(process::signal(running.child.pidfd.as_fd(), number.into()));
            return Some(number);
        }
        _ => {}
    }
    None
}

fn nonblocking(fd: BorrowedFd<'_>) -> sys::Result<()> {
    sys::named(rustix::io::ioctl_fionbio(fd, true), || "ioctl(FIONBIO)".into())
}

/// What one read of a program's output gave.
pub(super) enum Heard {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

/// Reads once from a program's output.
pub(super) fn hear(fd: BorrowedFd<'_>, chunk: &mut [u8; wire::MAX_PAYLOAD]) -> Heard {
    match rustix::io::read(fd, &mut chunk[..]) {
        Ok(0) => Heard::End,
        Ok(count) => Heard::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
        // EIO: the last process with the terminal open has closed it.
        Err(_) => Heard::End,
    }
}

/// Whether there is something to be read now, or for a process whether it has ended.
pub(super) fn waits(fd: &OwnedFd) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&NOW)).is_ok_and(|count| count > 0) && fds[0].revents().contains(PollFlags::IN)
}

/// A program's standard input, and what it has not taken yet.
pub(super) struct Input {
    fd: OwnedFd,
    pending: Vec<u8>,
    ending: bool,
    terminal: bool,
}

impl Input {
    /// Takes what is to be written.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.ending {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// Ends the input once the program has taken all of it. A terminal stays open: it has no end.
    pub fn end(&mut self) {
        self.ending |= !self.terminal;
    }

    /// Whether no more should be read for it: the program has not taken what was sent before.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= wire::MAX_PAYLOAD
    }

    /// What is to be polled for writing.
    pub fn wants(&self) -> Option<BorrowedFd<'_>> {
        (!self.pending.is_empty()).then(|| self.fd.as_fd())
    }

    /// Writes what the program takes; false when its input is at its end.
    pub fn pump(&mut self) -> bool {
        match rustix::io::write(&self.fd, &self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The program has closed its input; what is sent to it goes nowhere.
            Err(_) => return false,
        }
        !(self.ending && self.pending.is_empty())
    }
}
