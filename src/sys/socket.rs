//! Unix sockets: a pair whose one end a child gets, passing open files, and listening at a path of
//! any length. And listening on a port.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, socketpair,
};

use super::{Result, named};

/// The most files that one message passes.
pub const MAX_FDS: usize = 40;

/// A pair of connected sockets that keep messages apart.
pub fn packet_pair() -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    named(pair, || "socketpair(AF_UNIX, SOCK_SEQPACKET)".into())
}

/// Sends `bytes`, at least one, with `fds` attached, as one message.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "at most {MAX_FDS} files in a message");
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    named(sent, || format!("sendmsg({} bytes, {} fds)", bytes.len(), fds.len()))?;
    Ok(())
}

/// Receives up to `buffer.len()` bytes and the files that came with them.
pub fn receive_with_fds(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let got = rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC);
    let got = named(got, || "recvmsg()".into())?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((got.bytes, fds))
}

/// Listens at `path`, however long it is: a socket address holds 108 bytes, so a longer path is
/// reached by a handle to its directory.
pub fn listen(path: &Path) -> Result<UnixListener> {
    by_short_path(path, |short| UnixListener::bind(short), "bind")
}

/// Listens on a TCP port; on an address of IPv6 for IPv6 alone. Port 0 is any that is free.
pub fn listen_tcp(address: SocketAddr) -> Result<OwnedFd> {
    use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let made = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = named(made, || format!("socket({family:?}, SOCK_STREAM)"))?;
    // The connections of a server that has ended do not keep its port (TIME_WAIT).
    named(set_socket_reuseaddr(&socket, true), || "setsockopt(SO_REUSEADDR)".into())?;
    if address.is_ipv6() {
        named(set_ipv6_v6only(&socket, true), || "setsockopt(IPV6_V6ONLY)".into())?;
    }
    named(rustix::net::bind(&socket, &address), || format!("bind({address})"))?;
    named(rustix::net::listen(&socket, TCP_BACKLOG), || format!("listen({address})"))?;
    Ok(socket)
}

/// The address at which a socket listens.
pub fn tcp_address(socket: impl AsFd) -> Result<SocketAddr> {
    let address = rustix::net::getsockname(socket).and_then(SocketAddr::try_from);
    named(address, || "getsockname()".into())
}

/// How many connections may wait to be accepted, as far as net.core.somaxconn lets them.
const TCP_BACKLOG: i32 = 4096;

/// Connects to the socket at `path`.
pub fn connect(path: &Path) -> Result<UnixStream> {
    by_short_path(path, |short| UnixStream::connect(short), "connect")
}

/// Listens at `name` in a directory, for connections that keep messages apart.
pub fn listen_packets(directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let socket = packet_socket()?;
    let address = short_address(directory, name)?;
    named(rustix::net::bind(&socket, &address), || format!("bind({name:?})"))?;
    named(rustix::net::listen(&socket, PACKET_BACKLOG), || format!("listen({name:?})"))?;
    Ok(socket)
}

/// Connects to who listens at `name` in a directory.
pub fn connect_packets(directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let socket = packet_socket()?;
    let address = short_address(directory, name)?;
    named(rustix::net::connect(&socket, &address), || format!("connect({name:?})"))?;
    Ok(socket)
}

/// Whether somebody listens at `name` in a directory; also somebody who is stopped, and has as many connections waiting
/// as can wait.
pub fn is_listened_to(directory: BorrowedFd<'_>, name: &str) -> Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let socket = named(socket, || "socket(AF_UNIX, SOCK_SEQPACKET)".into())?;
    let address = short_address(directory, name)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(false),
        error => named(error, || format!("connect({name:?})")).map(|()| false),
    }
}

/// The next connection.
pub fn accept(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    loop {
        match rustix::net::accept_with(socket, SocketFlags::CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break named(other, || "accept4()".into()),
        }
    }
}

/// How many connections may wait: whoever is not the first finds that the gate was opened already.
const PACKET_BACKLOG: i32 = 8;

fn packet_socket() -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    named(socket, || "socket(AF_UNIX, SOCK_SEQPACKET)".into())
}

fn short_address(directory: BorrowedFd<'_>, name: &str) -> Result<rustix::net::SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&directory));
    named(rustix::net::SocketAddrUnix::new(path.as_str()), || format!("sockaddr_un({path:?})"))
}

/// Receives datagrams at `path`, however long it is.
pub fn datagrams(path: &Path) -> Result<UnixDatagram> {
    by_short_path(path, |short| UnixDatagram::bind(short), "bind")
}

fn by_short_path<T>(path: &Path, call: impl Fn(&Path) -> std::io::Result<T>, name: &str) -> Result<T> {
    let line = || format!("{name}({path:?})");
    if path.as_os_str().len() < 100 {
        return named(call(path), line);
    }
    let directory = named(std::fs::File::open(path.parent().unwrap_or(path)), line)?;
    let short = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory.as_fd()));
    named(call(&Path::new(&short).join(path.file_name().unwrap_or_default())), line)
}
