//! Making a supervisor and giving it its orders.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::wire::{self, Kind, Parsed};
use super::{Error, Orders, SUPERVISE};
use crate::sys::{self, process::sealed_self};

/// The largest orders that a supervisor reads.
const MAX_ORDERS: usize = 1 << 20;

/// A supervisor whose container was started.
pub struct Launched {
    /// Where its frames come from, and where the client's go.
    pub(super) socket: UnixStream,
    /// What came after the news of the start, and is not read yet.
    pub(super) received: Vec<u8>,
}

/// The open files that go to a supervisor with its orders.
#[derive(Debug, Default)]
pub struct Files<'a> {
    /// The root filesystem's mount.
    pub root: Option<BorrowedFd<'a>>,
    /// The compiled Wasm program.
    pub wasm: Option<BorrowedFd<'a>>,
    /// The sockets on which the program is a server, as many as the orders say.
    pub sockets: Vec<BorrowedFd<'a>>,
}

/// The same at their destination.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) root: Option<OwnedFd>,
    pub(super) wasm: Option<OwnedFd>,
    pub(super) sockets: Vec<OwnedFd>,
}

/// A supervisor that has no orders yet. It ends with this process, or when this is dropped.
pub struct Waiting {
    socket: UnixStream,
}

/// Makes a supervisor for the container `id`. It is executed while its orders are still being made.
pub fn prepare(id: &str) -> Result<Waiting, Error> {
    let failed = |what| move |source| Error::Sys { what, source };
    let (ours, theirs) = UnixStream::pair()
        .map_err(|source| sys::Error { call: "socketpair()".into(), source })
        .map_err(failed("reach the supervisor"))?;
    let binary = sealed_self().map_err(failed("protect our own binary"))?;
    let spawned = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()))
        .arg0(SUPERVISE)
        .arg(id)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    spawned
        .map_err(|source| sys::Error { call: format!("execve({SUPERVISE})"), source })
        .map_err(failed("start the supervisor"))?;
    Ok(Waiting { socket: ours })
}

impl Waiting {
    /// Has it follow `orders`, and waits until the container runs or cannot.
    pub fn launch(self, orders: &Orders, files: &Files<'_>) -> Result<Launched, Error> {
        let sent = send(&self.socket, orders, files);
        sent.map_err(|source| Error::Sys { what: "give the supervisor its orders", source })?;
        await_start(self.socket)
    }
}

/// The orders as they are sent: a byte that says which files come with it, a length, the JSON.
fn send(socket: &UnixStream, orders: &Orders, files: &Files<'_>) -> sys::Result<()> {
    let Files { root, wasm, sockets } = files;
    let json = serde_json::to_vec(orders).expect("orders are plain data");
    let which = u8::from(root.is_some()) | u8::from(wasm.is_some()) << 1;
    let fds: Vec<BorrowedFd<'_>> = root.iter().chain(wasm).chain(sockets).copied().collect();
    sys::socket::send_with_fds(socket, &[which], &fds)?;
    let mut message = (json.len() as u32).to_be_bytes().to_vec();
    message.extend(json);
    sys::named((&*socket).write_all(&message), || format!("write({} bytes)", message.len()))
}

/// The orders as the supervisor reads them.
pub(super) fn receive(socket: &UnixStream) -> sys::Result<(Orders, Received)> {
    let mut which = [0];
    let (_, fds) = sys::socket::receive_with_fds(socket, &mut which)?;
    let mut fds = fds.into_iter();
    let root = if which[0] & 1 != 0 { fds.next() } else { None };
    let wasm = if which[0] & 2 != 0 { fds.next() } else { None };
    let mut length = [0; 4];
    sys::named((&*socket).read_exact(&mut length), || "read(4 bytes)".into())?;
    let length = u32::from_be_bytes(length) as usize;
    let mut json = vec![0; length.min(MAX_ORDERS)];
    sys::named((&*socket).read_exact(&mut json), || format!("read({length} bytes)"))?;
    let orders = serde_json::from_slice::<Orders>(&json).map_err(std::io::Error::from);
    let orders = sys::named(orders, || "parse the orders".into())?;
    let sockets: Vec<OwnedFd> = fds.take(orders.sockets).collect();
    let all = if sockets.len() == orders.sockets { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) };
    sys::named::<(), std::io::Error>(all, || format!("receive {} sockets", orders.sockets))?;
    Ok((orders, Received { root, wasm, sockets }))
}

pub(super) fn await_start(socket: UnixStream) -> Result<Launched, Error> {
    let mut received = Vec::new();
    loop {
        match wire::parse(&received) {
            Parsed::Frame(Kind::Started, _, length) => {
                received.drain(..length);
                return Ok(Launched { socket, received });
            }
            Parsed::Frame(Kind::Failed, json, _) => {
                let failure =
                    serde_json::from_slice(json).map_err(|_| Error::Supervisor { what: "sent what is no report" })?;
                return Err(Error::Start(failure));
            }
            Parsed::Frame(..) | Parsed::Invalid => return Err(Error::Supervisor { what: "speaks out of turn" }),
            Parsed::Incomplete => {}
        }
        let mut chunk = [0; 4096];
        let count = sys::named((&socket).read(&mut chunk), || "read()".into());
        match count.map_err(|source| Error::Sys { what: "hear the supervisor", source })? {
            0 => return Err(Error::Supervisor { what: "ended before the container was started" }),
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
}
