//! `$NOTIFY_SOCKET`: a container tells systemd that it is ready (sd_notify(3)).
//!
//! systemd believes only the processes of the service, by their pids, and those of a container are none of them to it.
//! So the container gets a socket of ours, in a directory that is bound into it at `/run/notify`, and what comes
//! there is said again from outside, with the pid to watch.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::Error;
use crate::oci::runtime::{MountBuilder, Spec};
use crate::sys::process::Identity;
use crate::sys::{named, socket};

/// Where the socket's directory is in the container.
const INSIDE: &str = "/run/notify";
/// The socket's name.
const NAME: &str = "notify.sock";
/// The longest message of sd_notify that is read; systemd reads as much.
const MAX_MESSAGE: usize = 4096;
/// How long systemd may take to have read all that was said.
const BARRIER_TIME: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The two sockets.
#[derive(Debug)]
pub struct Notify {
    /// Whom the container's messages are for.
    host: OsString,
    /// The directory that the container sees.
    directory: PathBuf,
    /// Where it speaks to us, once we listen.
    socket: Option<UnixDatagram>,
}

impl Notify {
    /// What there is to be relayed for the container with this directory.
    pub fn wanted(directory: &Path) -> Option<Self> {
        let host = std::env::var_os("NOTIFY_SOCKET").filter(|host| !host.is_empty())?;
        Some(Self { host, directory: directory.join("notify"), socket: None })
    }

    /// Has the container see the directory, and its program know of it.
    pub fn amend(&self, spec: &mut Spec) {
        let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        let builder = MountBuilder::default().destination(INSIDE).typ("bind").source(self.directory.clone());
        let mount = builder.options(options).build().expect("complete");
        spec.set_mounts(Some(spec.mounts().iter().flatten().cloned().chain([mount]).collect()));
        super::launch::add_env(spec, [format!("NOTIFY_SOCKET={INSIDE}/{NAME}")]);
    }

    /// Makes the directory that the container is shown.
    pub fn make_directory(&self) -> Result<(), Error> {
        let made = std::fs::DirBuilder::new().mode(0o755).create(&self.directory);
        named(made, || format!("mkdir({:?})", self.directory)).map_err(Error::sys("make the notify socket"))
    }

    /// Listens to the container, whatever its user.
    pub fn listen(&mut self) -> Result<(), Error> {
        let path = self.directory.join(NAME);
        let failed = || Error::sys("make the notify socket");
        let socket = socket::datagrams(&path).map_err(failed())?;
        let open = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777));
        named(open, || format!("chmod({path:?}, 0777)")).map_err(failed())?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Waits until the container says that it is ready, and says so on; or until it ends.
    pub fn wait(mut self, init: Identity) -> Result<(), Error> {
        let Some(handle) = init.open().map_err(Error::sys("watch the container"))? else { return Ok(()) };
        while let Some(socket) = &self.socket {
            let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(&handle, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => named(polled, || "poll()".into()).map_err(Error::sys("watch the notify socket"))?,
            };
            let [spoke, ended] = fds.map(|fd| !fd.revents().is_empty());
            if spoke {
                self.relay(init.pid)?;
            } else if ended {
                break;
            }
        }
        Ok(())
    }

    /// The container's socket, as long as it has something to say.
    pub fn socket(&self) -> Option<&UnixDatagram> {
        self.socket.as_ref()
    }

    /// Reads one message and says on what it means. After READY there is nothing more to say.
    pub fn relay(&mut self, pid: i32) -> Result<(), Error> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut message = [0; MAX_MESSAGE];
        let count = named(socket.recv(&mut message), || "recv()".into()).map_err(Error::sys("hear the container"))?;
        let ready = message[..count].split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY="));
        if let Some(ready) = ready {
            self.say(ready, pid).map_err(Error::sys("tell $NOTIFY_SOCKET"))?;
            self.socket = None;
        }
        Ok(())
    }

    fn say(&self, ready: &[u8], pid: i32) -> crate::sys::Result<()> {
        let host = named(self.connect(), || format!("connect({:?})", self.host))?;
        let ready = [ready, b"\n"].concat();
        let said = host.send(&ready).and_then(|_| host.send(format!("MAINPID={pid}\n").as_bytes()));
        named(said, || "send(READY, MAINPID)".into())?;
        // Until systemd has closed the pipe it has not looked at the messages before (sd_notify_barrier(3)).
        let (read, write) = named(std::io::pipe(), || "pipe()".into())?;
        socket::send_with_fds(&host, b"BARRIER=1", &[write.as_fd()])?;
        drop(write);
        named(poll(&mut [PollFd::new(&read, PollFlags::empty())], Some(&BARRIER_TIME)), || "poll(barrier)".into())?;
        Ok(())
    }

    /// The host's socket: a path, or a name after an `@`.
    fn connect(&self) -> std::io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        match self.host.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(&self.host)?,
        }
        Ok(socket)
    }
}

impl Notify {
    /// Whether the container was made to see the directory.
    pub fn has_directory(&self) -> bool {
        self.directory.is_dir()
    }
}
