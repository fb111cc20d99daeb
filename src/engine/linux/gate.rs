//! The gate of a container that one process makes and another starts: a socket in the container's directory, at
//! which its init listens. It is reached through the directory and not through any namespace.
//!
//! ```text
//!  init                                start (another process)
//!  accept ◀──────────────────────────  connect
//!         ◀──────────────────────────  Start
//!  Starting ─────────────────────────▶  it was this connection
//!  hooks, filter, execve
//!         ── end of file: it runs; Failed: it does not; nothing at all: somebody else was first ─▶
//! ```
//!
//! Who connects and says nothing only wanted to know whether somebody waits ([`waits`]).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::Error;
use super::handshake::{self, Failed, FromInit, ToInit};
use super::listener::{About, Listener};
use super::stage::{Done, End, step};
use crate::sys::process::Identity;
use crate::sys::{self, named};

/// The socket's name in the container's directory.
const SOCKET: &str = "start.sock";

fn open(directory: &Path) -> sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    named(rustix::fs::open(directory, flags, Mode::empty()), || format!("open({directory:?})"))
}

/// Makes the gate in a container's directory; to be handed to [`super::create`].
pub fn listen(directory: &Path) -> Result<OwnedFd, Error> {
    let socket = open(directory).and_then(|directory| sys::socket::listen_packets(directory.as_fd(), SOCKET));
    socket.map_err(|source| Error::Sys { what: "make the container's gate", source })
}

/// Whether an init waits at the gate of this directory.
pub fn waits(directory: &Path) -> bool {
    open(directory).and_then(|directory| sys::socket::is_listened_to(directory.as_fd(), SOCKET)).unwrap_or(false)
}

/// Opens the gate of the container whose init is `init`, and returns when its program runs, or why it does not.
pub fn start(directory: &Path, init: Identity, about: &About<'_>) -> Result<(), Error> {
    let failed = |source| Error::Sys { what: "reach the container's init process", source };
    // Before it is let go: a program may end faster than it is looked up.
    let pidfd = init.open().map_err(failed)?.ok_or(Error::Started)?;
    let place = open(directory).map_err(failed)?;
    let socket = sys::socket::connect_packets(place.as_fd(), SOCKET).map_err(|_| Error::Started)?;
    handshake::send(&socket, &ToInit::Start, &[]).map_err(|_| Error::Started)?;
    match handshake::receive(&socket).ok().flatten() {
        Some((FromInit::Starting, _)) => {}
        Some((FromInit::Failed(failed), _)) => return Err(failed.into()),
        _ => return Err(Error::Started),
    }
    let mut listener = Listener::of(about);
    loop {
        match handshake::receive(&socket)? {
            None => break,
            Some((FromInit::Listener { number }, _)) => {
                super::pass_listener(&socket, pidfd.as_fd(), init.pid, number, listener.take())?;
            }
            Some((FromInit::Failed(failed), _)) => return Err(failed.into()),
            Some(_) => return Err(Failed::vanished().into()),
        }
    }
    // The init has no name for it any more; a failure would leave a socket that nobody answers.
    let gone = rustix::fs::unlinkat(&place, SOCKET, rustix::fs::AtFlags::empty());
    named(gone, || format!("unlinkat({SOCKET:?})")).map_err(|source| Error::Sys { what: "close the gate", source })
}

/// Waits, in the init, until somebody opens the gate; the connection hears how it ends.
pub(super) fn wait(gate: &OwnedFd) -> Done<OwnedFd> {
    loop {
        let connection = step(sys::socket::accept(gate.as_fd()), "wait at the gate")?;
        // Anybody else only looked, or died while it spoke.
        if let Ok(Some((ToInit::Start, _))) = handshake::receive::<ToInit>(&connection) {
            handshake::send(&connection, &FromInit::Starting, &[]).map_err(|_| End::Alone)?;
            return Ok(connection);
        }
    }
}
