//! Telling when the kernel kills for want of memory.
//!
//! A file descriptor that becomes readable, for the supervisor's epoll: on v2 an inotify watch of memory.events, on v1 an
//! eventfd registered for memory.oom_control. It may become readable without a kill (other events, the group's
//! removal), so the count is what counts.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::{Error, Version, file};
use crate::sys::{self, named};

/// Enough for any batch of inotify events of one watched file, and for an eventfd's eight bytes.
const EVENTS: usize = 4096;

/// A watch on one group.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    /// The file with the line `oom_kill N`.
    counter: PathBuf,
}

impl OomWatch {
    pub(super) fn new(version: Version, dir: &Path) -> Result<Self, Error> {
        let (counter, fd) = match version {
            Version::V1 => (dir.join("memory.oom_control"), register(dir)),
            Version::V2 => (dir.join("memory.events"), watch(&dir.join("memory.events"))),
        };
        match fd {
            Ok(fd) => Ok(Self { fd, counter }),
            Err(source) => Err(Error::Read { path: counter, source }),
        }
    }

    /// How many processes of the group, and of groups below, have been killed so far. None when the group is
    /// gone. Makes the descriptor unreadable until the next event.
    pub fn kills(&self) -> Result<Option<u64>, Error> {
        match rustix::io::read(&self.fd, &mut [0; EVENTS]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => {
                let source = sys::Error { call: format!("read({})", self.fd.as_raw_fd()), source: errno.into() };
                return Err(Error::Read { path: self.counter.clone(), source });
            }
        }
        match file::read_if_there(&self.counter) {
            Ok(text) => Ok(text.map(|text| file::field(&text, "oom_kill").unwrap_or(0))),
            Err(source) => Err(Error::Read { path: self.counter.clone(), source }),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn watch(path: &Path) -> sys::Result<OwnedFd> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let fd = named(inotify::init(flags), || "inotify_init1(IN_CLOEXEC | IN_NONBLOCK)".into())?;
    named(inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY), || {
        format!("inotify_add_watch({path:?}, IN_MODIFY)")
    })?;
    Ok(fd)
}

/// v1's way: `<eventfd> <control file>` written to cgroup.event_control.
fn register(dir: &Path) -> sys::Result<OwnedFd> {
    let fd = named(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK), || "eventfd2(0)".into())?;
    let path = dir.join("memory.oom_control");
    let control = named(std::fs::File::open(&path), || format!("open({path:?}, O_RDONLY)"))?;
    let order = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    file::write(&dir.join("cgroup.event_control"), &order)?;
    Ok(fd)
}
