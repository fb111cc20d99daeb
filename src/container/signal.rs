//! `kill`, `stop` and `wait`: signals by handle, and ends that are waited for, not polled for.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Container, Error, Status, Store};
use crate::error::{Failure, Kind};
use crate::sys;
use crate::sys::process::{self, Identity};
use crate::task;

/// The signal that cannot be refused.
const KILL: i32 = 9;

/// Seconds that a container is given to end, if nobody says otherwise, as Docker has it.
const GRACE: i64 = 10;

/// Text that names no signal.
#[derive(Debug, thiserror::Error)]
#[error("Invalid signal: {text}")]
pub struct InvalidSignal {
    text: String,
}

impl Failure for InvalidSignal {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// The number of a signal: a number, or a name with or without `SIG`, `RTMIN+n` and `RTMAX-n` included.
pub fn number(text: &str) -> Result<i32, InvalidSignal> {
    sys::signal::number(text).ok_or_else(|| InvalidSignal { text: text.to_owned() })
}

impl Store {
    /// Sends a signal to the container's program.
    pub fn kill(&self, container: &Container, signal: i32) -> Result<(), Error> {
        let Status::Running { process, .. } = &container.status else {
            return Err(container.wrong("kill", None));
        };
        let failed = |source| Error::Sys { what: "signal the container", source };
        match process.open().map_err(failed)? {
            Some(pidfd) => match process::signal(pidfd.as_fd(), signal) {
                Ok(true) => {
                    // What stands still takes no signal: Docker lets it go on, too.
                    if matches!(container.status, Status::Running { paused: true, .. }) {
                        self.thaw(container)?;
                    }
                    self.note("kill", container.actor().with("signal", signal));
                    Ok(())
                }
                Ok(false) => Err(self.find(&container.record.id)?.wrong("kill", None)),
                // It is another user of another user namespace than this process's; its supervisor's is the same.
                Err(error) if error.errno() == Some(libc::EPERM) => {
                    Ok(task::signal(&self.run_directory_of(&container.record.id), signal)?)
                }
                Err(error) => Err(failed(error)),
            },
            None => Err(self.find(&container.record.id)?.wrong("kill", None)),
        }
    }

    /// Asks the container to end, and after `seconds` makes it; with less than none it may take its time. What is not said
    /// is the container's own, or usual.
    pub fn stop(&self, container: &Container, signal: Option<i32>, seconds: Option<i64>) -> Result<(), Error> {
        let seconds = seconds.or(container.record.config.stop_timeout).unwrap_or(GRACE);
        let grace = u64::try_from(seconds).ok().map(Duration::from_secs);
        let Status::Running { supervisor, .. } = &container.status else { return Ok(()) };
        let own = Some(container.record.config.stop_signal.as_str()).filter(|s| !s.is_empty());
        let signal = signal.or(own.and_then(|s| number(s).ok())).unwrap_or(15);
        let Some(handle) = handle(*supervisor)? else { return Ok(()) };
        self.kill_if_running(container, signal)?;
        if !ends_within(&handle, grace)? {
            self.kill_if_running(container, KILL)?;
            ends_within(&handle, None)?;
        }
        self.note("stop", container.actor());
        Ok(())
    }

    /// Ends the container at once, and waits until it has.
    pub(super) fn end(&self, container: &Container) -> Result<(), Error> {
        let Status::Running { supervisor, .. } = &container.status else { return Ok(()) };
        let Some(handle) = handle(*supervisor)? else { return Ok(()) };
        self.kill_if_running(container, KILL)?;
        ends_within(&handle, None).map(drop)
    }

    /// Waits for the container's end; its exit status.
    pub fn wait(&self, container: &Container) -> Result<u8, Error> {
        if let Status::Running { supervisor, .. } = &container.status
            && let Some(handle) = handle(*supervisor)?
        {
            ends_within(&handle, None)?;
        }
        match self.state(container)? {
            Some(task::State::Exited(exit)) => Ok(exit.code),
            state => Ok(Status::of(state, true).exit_code()),
        }
    }

    fn kill_if_running(&self, container: &Container, signal: i32) -> Result<(), Error> {
        match self.kill(container, signal) {
            Err(Error::WrongStatus { .. }) => Ok(()),
            other => other,
        }
    }
}

/// The supervisor outlives its container by the moment in which it records the end.
fn handle(supervisor: Identity) -> Result<Option<OwnedFd>, Error> {
    supervisor.open().map_err(|source| Error::Sys { what: "watch the container's supervisor", source })
}

/// Waits for the process behind `pidfd` to end; false when it is still there after `limit`.
fn ends_within(pidfd: &OwnedFd, limit: Option<Duration>) -> Result<bool, Error> {
    let deadline = limit.map(|limit| std::time::Instant::now() + limit);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(std::time::Instant::now()));
        let timeout = left.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: l.subsec_nanos().into() });
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            other => {
                let found = sys::named(other, || "poll(pidfd)".into());
                return found.map(|n| n > 0).map_err(|source| Error::Sys { what: "wait for the container", source });
            }
        }
    }
}
