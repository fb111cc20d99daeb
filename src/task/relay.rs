//! The client's side of an attached container: the user's streams to frames and back.
//!
//! One thread, one poll(2). Nothing here blocks but the user's own output: the socket's writes are
//! buffered, so that a program that reads and writes gigabytes at once cannot lock up with us.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::wire::{self, Kind, Parsed};
use super::{ATTACH, Error, Launched};
use crate::sys::{self, process, pty};

/// The signals that a user's shell or terminal sends and the program should get.
const PROXIED: [i32; 7] = [1, 2, 3, 10, 12, 15, 28]; // HUP INT QUIT USR1 USR2 TERM WINCH

/// SIGWINCH, signal(7).
const WINDOW_CHANGED: i32 = 28;

/// The third of these in a row means that the user has lost patience, as with Docker.
const ENOUGH: usize = 3;

/// The keys that leave a container running: Ctrl-P Ctrl-Q.
const DETACH_KEYS: [u8; 2] = [0x10, 0x11];

/// How a client takes part.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    /// Whether the user's input is sent.
    pub stdin: bool,
    /// Whether the container has a terminal, and the user too.
    pub terminal: bool,
}

/// Why the relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The program ended with this status.
    Exited(u8),
    /// The user left it running.
    Detached,
    /// The user has had enough, and the program does not end.
    Impatient,
}

struct Relay<'a> {
    launched: &'a mut Launched,
    outgoing: Vec<u8>,
    stdin: bool,
    keys: Option<usize>,
    interrupts: usize,
}

/// Has the supervisor whose socket is in `run` signal its program, for who may not do that directly.
pub fn signal(run: &Path, number: i32) -> Result<(), Error> {
    let mut frame = Vec::new();
    wire::put(&mut frame, Kind::Signal, &[number as u8]);
    let sent = sys::socket::connect(&run.join(ATTACH))
        .and_then(|mut socket| sys::named(socket.write_all(&frame), || format!("write({} bytes)", frame.len())));
    sent.map_err(|source| Error::Sys { what: "reach the container's supervisor", source })
}

/// Connects this process's streams to the container until it ends or the user leaves.
pub fn relay(launched: &mut Launched, attachment: Attachment) -> Result<End, Error> {
    let failed = |what| move |source| Error::Sys { what, source };
    let _raw = match attachment.terminal && attachment.stdin {
        true => Some(pty::RawMode::enter(io::stdin().as_fd()).map_err(failed("put the terminal into raw mode"))?),
        false => None,
    };
    let signals = process::signal_fd(&PROXIED).map_err(failed("watch for signals"))?;
    let nonblocking = launched.socket.set_nonblocking(true);
    sys::named(nonblocking, || "fcntl(O_NONBLOCK)".into()).map_err(failed("reach the supervisor"))?;
    let keys = (attachment.terminal && attachment.stdin).then_some(0);
    let mut relay = Relay { launched, outgoing: Vec::new(), stdin: attachment.stdin, keys, interrupts: 0 };
    if attachment.terminal {
        relay.send_size();
    }
    relay.run(signals.as_fd()).map_err(|source| Error::Sys { what: "relay the container's streams", source })
}

impl Relay<'_> {
    fn run(&mut self, signals: BorrowedFd<'_>) -> sys::Result<End> {
        loop {
            if let Some(end) = self.deliver()? {
                return Ok(end);
            }
            let [socket, signal, input] = self.wait(signals)?;
            if socket && !self.receive()? {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the container's supervisor is gone");
                return Err(sys::Error { call: "read()".into(), source });
            }
            while let Some(number) = signal.then(|| process::next_signal(signals)).flatten() {
                if self.forward(number) {
                    return Ok(End::Impatient);
                }
            }
            if input && self.read_input()? {
                return Ok(End::Detached);
            }
            self.flush()?;
        }
    }

    /// Waits for the socket, a signal or input; input is not asked for while there is some to be sent.
    fn wait(&self, signals: BorrowedFd<'_>) -> sys::Result<[bool; 3]> {
        let stdin = io::stdin();
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !self.outgoing.is_empty());
        let mut fds =
            vec![PollFd::new(&self.launched.socket, interest), PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        if self.stdin && self.outgoing.is_empty() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => sys::named(Err(error), || "poll()".into())?,
        }
        let ready = |at: usize, flags| fds.get(at).is_some_and(|fd: &PollFd<'_>| fd.revents().intersects(flags));
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok([ready(0, readable), ready(1, readable), ready(2, readable | PollFlags::NVAL)])
    }

    /// Reads what the supervisor sent; false when it is gone.
    fn receive(&mut self) -> sys::Result<bool> {
        let mut chunk = [0; wire::MAX_PAYLOAD];
        match (&self.launched.socket).read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.launched.received.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => sys::named(Err(error), || "read()".into()),
        }
    }

    /// Writes every whole frame to where it belongs.
    fn deliver(&mut self) -> sys::Result<Option<End>> {
        let mut taken = 0;
        let end = loop {
            match wire::parse(&self.launched.received[taken..]) {
                Parsed::Frame(kind, payload, length) => {
                    taken += length;
                    match kind {
                        Kind::Stdout => write_all(&mut io::stdout().lock(), payload)?,
                        Kind::Stderr => write_all(&mut io::stderr().lock(), payload)?,
                        Kind::Exited => break Some(End::Exited(payload.first().copied().unwrap_or(255))),
                        _ => {}
                    }
                }
                Parsed::Incomplete => break None,
                Parsed::Invalid => {
                    let source = io::Error::new(io::ErrorKind::InvalidData, "not a frame");
                    return Err(sys::Error { call: "read()".into(), source });
                }
            }
        };
        self.launched.received.drain(..taken);
        Ok(end)
    }

    /// Sends a signal on; true when it is the last that the user has patience for.
    fn forward(&mut self, number: i32) -> bool {
        if number == WINDOW_CHANGED {
            self.send_size();
            return false;
        }
        self.interrupts += usize::from(matches!(number, 2 | 15));
        wire::put(&mut self.outgoing, Kind::Signal, &[number as u8]);
        self.interrupts >= ENOUGH
    }

    fn send_size(&mut self) {
        if let Ok(size) = pty::size(io::stdout()) {
            let payload = [size.rows.to_be_bytes(), size.columns.to_be_bytes()].concat();
            wire::put(&mut self.outgoing, Kind::Resize, &payload);
        }
    }

    /// Takes the user's input; true when that was to leave.
    fn read_input(&mut self) -> sys::Result<bool> {
        let mut chunk = [0; wire::MAX_PAYLOAD];
        let count = match rustix::io::read(io::stdin(), &mut chunk[..]) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // The terminal hung up, or there is no standard input at all: it has ended.
            Err(_) => 0,
        };
        if count == 0 {
            self.stdin = false;
            wire::put(&mut self.outgoing, Kind::StdinEnd, &[]);
            return Ok(false);
        }
        let input = &chunk[..count];
        let leave = self.keys.is_some() && input.iter().any(|byte| self.is_last_key(*byte));
        wire::put(&mut self.outgoing, Kind::Stdin, input);
        Ok(leave)
    }

    fn is_last_key(&mut self, byte: u8) -> bool {
        let pressed = self.keys.unwrap_or(0);
        let next = if byte == DETACH_KEYS[pressed] { pressed + 1 } else { usize::from(byte == DETACH_KEYS[0]) };
        self.keys = Some(next % DETACH_KEYS.len());
        next == DETACH_KEYS.len()
    }

    fn flush(&mut self) -> sys::Result<()> {
        while !self.outgoing.is_empty() {
            match (&self.launched.socket).write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The program's end is on its way to us; nobody is left to read this.
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.outgoing.clear();
                    self.stdin = false;
                }
                Err(error) => return sys::named(Err(error), || "write()".into()),
            }
        }
        Ok(())
    }
}

/// Writes to the user. When nobody reads any more, the container still runs on and has its log.
fn write_all(to: &mut impl Write, bytes: &[u8]) -> sys::Result<()> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => sys::named(other, || format!("write({} bytes)", bytes.len())),
    }
}
