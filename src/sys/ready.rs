//! Waiting until a descriptor can be read or written.

#![expect(unsafe_code, reason = "registering a descriptor with the event loop is unsafe in tokio")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Whether a read of `file` would return at once: with data, with the end or with an error.
pub fn is_readable(file: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // When asking fails, the read itself says what is wrong.
    poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&now)).map_or(true, |ready| ready > 0)
}

/// Waits until `file` can take a byte, for a descriptor that was set non-blocking.
pub fn wait_writable(file: impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(&file, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits, within an event loop, until a file can be read. Clones share one registration.
#[derive(Clone, Debug)]
pub struct Watch {
    file: Arc<File>,
    /// `None` for what epoll does not take, which is what is always ready: regular files.
    registered: Arc<OnceLock<Option<AsyncFd<Arc<File>>>>>,
}

impl Watch {
    /// A watch on `file`, which registers with the event loop at the first wait that is needed.
    pub fn new(file: &Arc<File>) -> Self {
        Self { file: file.clone(), registered: Arc::default() }
    }

    /// Returns when [`is_readable`] would say so.
    pub async fn readable(&self) {
        while !is_readable(&*self.file) {
            let Some(fd) = self.registered() else { return };
            let Ok(mut guard) = fd.readable().await else { return };
            // What epoll told may be of the past: ask it to tell again, unless there is something now.
            if !is_readable(&*self.file) {
                guard.clear_ready();
            }
        }
    }

    /// The same for a caller that polls. Only the last caller of all clones is woken.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        while !is_readable(&*self.file) {
            let Some(fd) = self.registered() else { break };
            let Ok(mut guard) = ready!(fd.poll_read_ready(context)) else { break };
            if !is_readable(&*self.file) {
                guard.clear_ready();
            }
        }
        Poll::Ready(())
    }

    fn registered(&self) -> Option<&AsyncFd<Arc<File>>> {
        self.registered.get_or_init(|| register(self.file.clone())).as_ref()
    }
}

fn register(file: Arc<File>) -> Option<AsyncFd<Arc<File>>> {
    // SAFETY: an Arc<File> gives the same descriptor at every call, and the AsyncFd holds the Arc, so the
    // descriptor stays open and ours for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.ok()
}
