//! Freezing, killing and removing a group, with all that is below it.
//!
//! v2 has a file for each order and an event for each state. v1 has neither for killing, and freezes process by process,
//! so there somebody has to look again and again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::group::Group;
use super::{Error, KILL_TIME, REMOVE_TIME, Version, file, refused};
use crate::sys;

/// How long a group's processes may take to freeze: longer means one is stuck in the kernel.
const FREEZE_TIME: Duration = Duration::from_secs(10);
/// First and longest pause of a wait for which v1 has no event.
const PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// Waits a little longer each time, for states of which v1 sends no event.
struct Backoff {
    pause: Duration,
    deadline: Instant,
}

impl Backoff {
    fn until(deadline: Instant) -> Self {
        Self { pause: PAUSE.0, deadline }
    }

    /// Pauses; false when the time is over.
    fn pause(&mut self) -> bool {
        if Instant::now() >= self.deadline {
            return false;
        }
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
        true
    }
}

impl Group {
    pub(super) fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let deadline = Instant::now() + FREEZE_TIME;
        match self.hierarchy.version {
            Version::V1 => self.set_frozen_v1(frozen, deadline),
            Version::V2 => self.set_frozen_v2(frozen, deadline),
        }
    }

    fn control(&self, verb: &'static str, name: &str, value: &str) -> Result<(), Error> {
        let control = |path: PathBuf, source| Error::Control { verb, path, source };
        self.write(name, value).map_err(|source| refused(&self.dir, source, control))
    }

    /// Whether the group itself has been ordered to freeze; groups above it do not count.
    pub(super) fn is_frozen(&self) -> Result<bool, Error> {
        let file = if self.hierarchy.version == Version::V2 { "cgroup.freeze" } else { "freezer.self_freezing" };
        Ok(self.read(file)?.trim() == "1")
    }

    fn set_frozen_v2(&self, frozen: bool, deadline: Instant) -> Result<(), Error> {
        self.control(if frozen { "freeze" } else { "thaw" }, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        let wanted = if frozen { "frozen" } else { "thawed" };
        wait_event(&self.dir, deadline, wanted, FREEZE_TIME, |events| {
            file::field(events, "frozen") == Some(u64::from(frozen))
        })
    }

    /// v1 freezes process by process: while one forks, the state can stay FREEZING until it is written again.
    fn set_frozen_v1(&self, frozen: bool, deadline: Instant) -> Result<(), Error> {
        let (verb, word, state) = if frozen { ("freeze", "FROZEN", "frozen") } else { ("thaw", "THAWED", "thawed") };
        let mut backoff = Backoff::until(deadline);
        loop {
            self.control(verb, "freezer.state", word)?;
            if self.read("freezer.state")?.trim() == word {
                return Ok(());
            }
            if !backoff.pause() {
                // A half-frozen container helps nobody.
                self.control("thaw", "freezer.state", "THAWED")?;
                return Err(Error::Timeout { path: self.dir.clone(), state, after: FREEZE_TIME });
            }
        }
    }

    /// Orders every group of a v1 tree to thaw.
    pub(super) fn thaw_all(&self) -> Result<(), Error> {
        for dir in self.tree()? {
            match file::write(&dir.join("freezer.state"), "THAWED") {
                Err(source) if !file::is_missing(&source) => {
                    return Err(refused(&dir, source, |path, source| Error::Control { verb: "thaw", path, source }));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until a v2 group has no living process; on v1 those who kill have waited.
    pub(super) fn wait_gone(&self, deadline: Instant) -> Result<(), Error> {
        match self.hierarchy.version {
            Version::V1 => Ok(()),
            Version::V2 => wait_event(&self.dir, deadline, "empty", KILL_TIME, |events| {
                file::field(events, "populated") == Some(0)
            }),
        }
    }

    /// Kernel 5.14's cgroup.kill: all of them, also those being forked at this moment. False where it is missing.
    pub(super) fn kill_at_once(&self) -> Result<bool, Error> {
        match self.write("cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(error) if file::is_missing(&error) => Ok(false),
            Err(source) => {
                Err(refused(&self.dir, source, |path, source| Error::Control { verb: "kill", path, source }))
            }
        }
    }

    /// Kills whoever is found until nobody is. A fork bomb is outrun by freezing it first.
    pub(super) fn kill_one_by_one(&self, deadline: Instant) -> Result<(), Error> {
        let freezes = self.hierarchy.version == Version::V2 || self.has("freezer");
        let mut backoff = Backoff::until(deadline);
        while !self.procs()?.is_empty() {
            let frozen = freezes && self.set_frozen(true).is_ok();
            self.signal(Signal::KILL)?;
            if frozen {
                self.set_frozen(false)?;
            }
            if !self.procs()?.is_empty() && !backoff.pause() {
                return Err(Error::Timeout { path: self.dir.clone(), state: "empty", after: KILL_TIME });
            }
        }
        Ok(())
    }

    /// Sends a signal to everybody who is in the group now.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.procs()?.into_iter().try_for_each(|pid| self.signal_process(pid, signal))
    }

    /// Signals a process only if it still is in the group once a handle on it is held: its number may have
    /// gone to somebody else in between.
    fn signal_process(&self, pid: i32, signal: Signal) -> Result<(), Error> {
        let failed = |call: &str, errno: Errno| Error::Control {
            verb: "signal",
            path: self.dir.clone(),
            source: sys::Error { call: format!("{call}({pid})"), source: errno.into() },
        };
        let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
        let handle = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(failed("pidfd_open", errno)),
        };
        if !self.procs()?.contains(&pid) {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(failed("pidfd_send_signal", errno)),
        }
    }

    /// Removes the group with all below it; that nothing is below is the rule, and takes one call.
    pub(super) fn remove(&self, deadline: Instant) -> Result<(), Error> {
        if std::fs::remove_dir(&self.dir).is_ok() {
            return Ok(());
        }
        self.tree()?.iter().rev().try_for_each(|dir| self.remove_one(dir, deadline))
    }

    fn remove_one(&self, dir: &Path, deadline: Instant) -> Result<(), Error> {
        let mut backoff = Backoff::until(deadline);
        loop {
            match std::fs::remove_dir(dir) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                // A process on its way out still counts.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && self.wait_empty(dir, &mut backoff)? => {}
                Err(source) => {
                    let source = sys::Error { call: format!("rmdir({dir:?})"), source };
                    return Err(refused(dir, source, |path, source| Error::Remove { path, source }));
                }
            }
        }
    }

    /// Waits until rmdir is worth another try; false when the time is over.
    fn wait_empty(&self, dir: &Path, backoff: &mut Backoff) -> Result<bool, Error> {
        if self.hierarchy.version == Version::V2 {
            let gone = |events: &str| file::field(events, "populated") == Some(0);
            match wait_event(dir, backoff.deadline, "empty", REMOVE_TIME, gone) {
                Ok(()) => {}
                Err(Error::Timeout { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(backoff.pause())
    }
}

/// Waits for cgroup.events of a v2 group to say what is wanted; every change of it wakes a poll.
fn wait_event(
    dir: &Path,
    deadline: Instant,
    state: &'static str,
    after: Duration,
    done: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    use std::io::{Read, Seek};
    let path = dir.join("cgroup.events");
    let failed = |source, call: &str| Error::Read {
        path: path.clone(),
        source: sys::Error { call: format!("{call}({path:?})"), source },
    };
    let mut events = match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed(error, "open"))?,
    };
    loop {
        let mut text = String::new();
        match events.rewind().and_then(|()| events.read_to_string(&mut text)) {
            // Somebody has removed the group: systemd does as soon as it is empty.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            other => other.map_err(|error| failed(error, "read"))?,
        };
        if done(&text) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout { path: dir.into(), state, after });
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&events, PollFlags::PRI)];
        poll(&mut fds, Some(&timeout)).map_err(|errno| failed(errno.into(), "poll"))?;
    }
}
