//! The typed messages between the supervisor and the init stage, over a socket pair.
//!
//! A message is one packet of JSON. The socket closes when the program is executed, which is how the
//! supervisor knows that it was: a failure always arrives as [`FromInit::Failed`] first.

use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::seccomp::{self, Filter};
use crate::error::{self, Failure, Kind};
use crate::sys;

/// The longest message: a failure names paths, of at most 4096 bytes each.
const MAX_MESSAGE: usize = 16 << 10;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToInit {
    /// The ids of its user namespace are mapped.
    Mapped,
    /// The process is in its cgroup, and written down: it may outlive its maker.
    Joined,
    /// The hooks of the host have run.
    Hooked,
    /// The gate opens.
    Start,
    /// The listener was taken.
    Taken,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromInit {
    /// The master of the terminal comes with this.
    Console,
    /// The mounts are made; the hooks of the host may look at them.
    Mounted,
    /// The gate is opened by this connection, and by no other.
    Starting,
    /// A filter's listener has this number in the child.
    Listener {
        /// The number.
        number: i32,
    },
    /// Everything but the program is in place.
    Ready,
    /// It goes no further.
    Failed(Failed),
}

/// A step of the init stage that failed, as it crossed from the child: the intent, the call, the errno.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{step}{}", if call.is_empty() { String::new() } else { format!(": {call}: {}", std::io::Error::from_raw_os_error(*errno)) })]
pub struct Failed {
    /// What was being done.
    pub step: String,
    /// The call that failed, or nothing when `step` says it all.
    pub call: String,
    /// What the kernel answered.
    pub errno: i32,
    /// The shell's exit status for this failure, when the program itself cannot be run: 126 or 127.
    pub status: Option<u8>,
}

impl Failed {
    pub(super) fn at(step: &str, error: &sys::Error) -> Self {
        let errno = error.errno().unwrap_or(rustix::io::Errno::IO.raw_os_error());
        let call = match error.errno() {
            Some(_) => error.call.clone(),
            None => format!("{}: {}", error.call, error.source),
        };
        Self { step: step.to_owned(), call, errno, status: None }
    }

    pub(super) fn in_words(error: &dyn std::error::Error) -> Self {
        Self { step: error::chain(error), call: String::new(), errno: 0, status: None }
    }

    pub(super) fn in_hook(error: &super::hook::HookFailed) -> Self {
        Self { step: error::chain(error), call: String::new(), errno: 0, status: None }
    }

    pub(super) fn vanished() -> Self {
        let step = "the container's init process ended before the program was started".to_owned();
        Self { step, call: String::new(), errno: 0, status: None }
    }
}

impl Failure for Failed {
    fn kind(&self) -> Kind {
        match self.status {
            Some(127) => Kind::NotFound,
            Some(_) => Kind::PermissionDenied,
            None if self.call.is_empty() => Kind::Internal,
            None => Kind::of_io(&std::io::Error::from_raw_os_error(self.errno)),
        }
    }

    fn hint(&self) -> Option<String> {
        (self.errno == rustix::io::Errno::NOEXEC.raw_os_error())
            .then(|| "the program is for another processor, or a script without a #! line".to_owned())
    }
}

pub(super) fn send<T: Serialize>(socket: &OwnedFd, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), Failed> {
    let packet = serde_json::to_vec(message).expect("messages are plain data");
    sys::socket::send_with_fds(socket, &packet, fds)
        .map_err(|e| Failed::at("speak with the other side of the start", &e))
}

/// Sends a message by nothing but write(2): what comes after the filter is loaded.
pub(super) fn write<T: Serialize>(socket: &OwnedFd, message: &T) -> Result<(), Failed> {
    let packet = serde_json::to_vec(message).expect("messages are plain data");
    let written = sys::named(rustix::io::write(socket, &packet), || format!("write({} bytes)", packet.len()));
    written.map(drop).map_err(|e| Failed::at("speak with the other side of the start", &e))
}

/// Sends a filter after a message.
pub(super) fn send_filter(socket: &OwnedFd, filter: &Filter) -> Result<(), Failed> {
    sys::socket::send_with_fds(socket, &filter.to_bytes(), &[]).map_err(|e| Failed::at("send the seccomp filter", &e))
}

/// The filter that was sent; `None` at the end of file.
pub(super) fn receive_filter(socket: &OwnedFd) -> Result<Option<Filter>, Failed> {
    let mut packet = vec![0; seccomp::MAX_BYTES];
    let received = sys::socket::receive_with_fds(socket, &mut packet);
    let (count, _) = received.map_err(|e| Failed::at("hear of the seccomp filter", &e))?;
    Ok(Filter::from_bytes(&packet[..count]))
}

/// The next message and the file that came with it, or `None` at the end of file.
pub(super) fn receive<T: for<'de> Deserialize<'de>>(socket: &OwnedFd) -> Result<Option<(T, Option<OwnedFd>)>, Failed> {
    let mut packet = [0; MAX_MESSAGE];
    let received = sys::socket::receive_with_fds(socket, &mut packet);
    let (count, fds) = received.map_err(|e| Failed::at("hear the other side of the start", &e))?;
    let message = serde_json::from_slice(&packet[..count]).ok();
    Ok(message.map(|message| (message, fds.into_iter().next())))
}

/// Why the child gave up, if it has said so. What else goes wrong with it then, like speaking to it or moving it into
/// its cgroup, only follows from that.
pub(super) fn why(socket: &OwnedFd) -> Option<Failed> {
    while sys::ready::is_readable(socket) {
        match receive::<FromInit>(socket) {
            Ok(Some((FromInit::Failed(failed), _))) => return Some(failed),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
    None
}
