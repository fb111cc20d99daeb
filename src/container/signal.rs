//! `kill`, `stop` and `wait`: signals by handle, and ends that are waited for, not polled for.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Container, Error, Status, Store};
use crate::error::{Failure, Kind};
use crate::sys;
use crate::sys::process::{self, Identity};

/// The signals of Linux by name, for the processors that we know (signal(7)).
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The signal that cannot be refused.
const KILL: i32 = 9;

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
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = || match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(RTMIN),
        (_, Some("")) => Some(RTMAX),
        (Some(plus), _) => Some(RTMIN + plus.strip_prefix('+')?.parse::<i32>().ok()?),
        (_, Some(minus)) => Some(RTMAX - minus.strip_prefix('-')?.parse::<i32>().ok()?),
        _ => None,
    };
    let named = || SIGNALS.iter().find(|(name, _)| *name == bare).map(|(_, number)| *number);
    let number = text.parse().ok().or_else(named).or_else(real_time);
    number.filter(|n| (1..=RTMAX).contains(n)).ok_or_else(|| InvalidSignal { text: text.to_owned() })
}

impl Store {
    /// Sends a signal to the container's program.
    pub fn kill(&self, container: &Container, signal: i32) -> Result<(), Error> {
        let Status::Running { process, .. } = &container.status else {
            return Err(container.wrong("kill", None));
        };
        let failed = |source| Error::Sys { what: "signal the container", source };
        match process.open().map_err(failed)? {
            Some(pidfd) if process::signal(pidfd.as_fd(), signal).map_err(failed)? => Ok(()),
            _ => Err(self.find(&container.record.id)?.wrong("kill", None)),
        }
    }

    /// Asks the container to end, and after `grace` makes it; without a limit it may take its time.
    pub fn stop(&self, container: &Container, signal: Option<i32>, grace: Option<Duration>) -> Result<(), Error> {
        let Status::Running { supervisor, .. } = &container.status else { return Ok(()) };
        let own = Some(container.record.config.stop_signal.as_str()).filter(|s| !s.is_empty());
        let signal = signal.or(own.and_then(|s| number(s).ok())).unwrap_or(15);
        let Some(handle) = handle(*supervisor)? else { return Ok(()) };
        self.kill_if_running(container, signal)?;
        if !ends_within(&handle, grace)? {
            self.kill_if_running(container, KILL)?;
            ends_within(&handle, None)?;
        }
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
        match crate::task::State::settled(&container.directory)? {
            Some(crate::task::State::Exited(exit)) => Ok(exit.code),
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

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_by_name_and_number() {
        for (text, expected) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGUSR1", 10),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "0", "65", "-9", "SIGNOPE", "RTMIN+99", "RTMIN3"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
