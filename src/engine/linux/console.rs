//! Handing what a container's process is held by to whoever asked for it: the master of its terminal over a console
//! socket, its pidfd over a pidfd socket; and the streams to the user whom they are for.
//!
//! Both sockets take one message with one descriptor, as shims and monitors expect it: they refuse a second of
//! either. The bytes beside it name the descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Uid};
use rustix::io::Errno;

use super::Error;
use crate::oci::runtime::Process;
use crate::sys::dir::{Device, file_info};
use crate::sys::pty::Size;
use crate::sys::{self, named, socket};

/// The name that a master goes by. The receiver may show it, and opens nothing by it.
const MASTER: &str = "/dev/ptmx";

/// Whose pidfd it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The container's first process.
    Init,
    /// A process that joined the container.
    Exec,
}

/// The size that `process.consoleSize` asks for; none where a side of it is nothing.
pub fn size(process: &Process) -> Result<Option<Size>, Error> {
    let Some(asked) = process.console_size() else { return Ok(None) };
    let side = |length: u64| {
        u16::try_from(length).map_err(|_| Error::Unsupported {
            field: "process.consoleSize",
            problem: format!("{length} is more than the {} that a terminal can have", u16::MAX),
        })
    };
    let size = Size { rows: side(asked.height())?, columns: side(asked.width())? };
    Ok((size.rows != 0 && size.columns != 0).then_some(size))
}

/// Sends the master of a terminal over the connected console socket.
pub fn send_master(socket: impl AsFd, master: BorrowedFd<'_>) -> sys::Result<()> {
    socket::send_with_fds(socket, MASTER.as_bytes(), &[master])
}

/// Sends a pidfd over the connected pidfd socket.
pub fn send_pidfd(socket: impl AsFd, pidfd: BorrowedFd<'_>, role: Role) -> sys::Result<()> {
    let name = match role {
        Role::Init => "standard",
        Role::Exec => "setns",
    };
    socket::send_with_fds(socket, name.as_bytes(), &[pidfd])
}

/// Gives the standard streams of this process to the user `uid`, who could not open them again by `/dev/stdout`
/// otherwise. The null device stays whose it is, and so does what may not be given away.
pub fn give_streams(uid: u32) -> sys::Result<()> {
    const NULL: Device = Device { major: 1, minor: 3 };
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let info = file_info(stream)?;
        if info.uid == uid || (info.kind == FileType::CharacterDevice && info.device == NULL) {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
            // In a user namespace somebody else may own it, and some files have no owner to set.
            Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            given => named(given, || format!("fchown({}, {uid}, -1)", stream.as_raw_fd()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::oci::runtime::ProcessBuilder;

    fn asked(height: u64, width: u64) -> Result<Option<Size>, Error> {
        let size = crate::oci::runtime::BoxBuilder::default().height(height).width(width).build().unwrap();
        super::size(&ProcessBuilder::default().console_size(size).build().unwrap())
    }

    #[test]
    fn a_size_is_whole_or_none() {
        assert_eq!(size(&Process::default()).unwrap(), None);
        assert_eq!(asked(0, 80).unwrap(), None);
        assert_eq!(asked(25, 65535).unwrap(), Some(Size { rows: 25, columns: 65535 }));
        assert!(asked(65536, 80).unwrap_err().to_string().contains("65536"));
    }

    #[test]
    fn a_master_arrives_alone_and_under_its_name_and_works() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let devpts = rustix::fs::open("/dev/pts", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let master = sys::pty::open_master(devpts.as_fd()).unwrap();
        let peer = sys::pty::open_peer(master.as_fd()).unwrap();
        send_master(&ours, master.as_fd()).unwrap();
        drop((ours, master));
        let mut buffer = [0; 64];
        let (count, mut files) = socket::receive_with_fds(&theirs, &mut buffer).unwrap();
        assert_eq!((&buffer[..count], files.len()), (&b"/dev/ptmx"[..], 1));
        let (end, none) = socket::receive_with_fds(&theirs, &mut buffer).unwrap();
        assert_eq!((end, none.len()), (0, 0), "there is no second message");
        let mut received = std::fs::File::from(files.remove(0));
        received.write_all(b"typed\n").unwrap();
        let count = rustix::io::read(&peer, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"typed\n");
    }

    #[test]
    fn a_pidfd_arrives_with_its_role() {
        for (role, name) in [(Role::Init, "standard"), (Role::Exec, "setns")] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
            let pid = rustix::process::Pid::from_child(&child);
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            send_pidfd(&ours, pidfd.as_fd(), role).unwrap();
            let mut buffer = [0; 64];
            let (count, files) = socket::receive_with_fds(&theirs, &mut buffer).unwrap();
            assert_eq!((&buffer[..count], files.len()), (name.as_bytes(), 1));
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", files[0].as_raw_fd())).unwrap();
            assert!(info.contains(&format!("Pid:\t{}\n", child.id())), "{info}");
            child.wait().unwrap();
        }
    }

    #[test]
    fn streams_go_to_the_user_but_for_the_null_device() {
        assert!(sys::ending::alone(|| {
            let file = tempfile::tempfile().unwrap();
            let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
            rustix::stdio::dup2_stdin(&null).unwrap();
            rustix::stdio::dup2_stdout(&file).unwrap();
            let (_, pipe) = std::io::pipe().unwrap();
            rustix::stdio::dup2_stderr(&pipe).unwrap();
            give_streams(7).unwrap();
            let owner = |fd: BorrowedFd<'_>| file_info(fd).unwrap().uid;
            [owner(null.as_fd()), owner(file.as_fd()), owner(pipe.as_fd())] == [0, 7, 7]
        }));
    }
}
