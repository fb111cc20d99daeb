//! One container's group in one hierarchy: making it, filling it, freezing, killing and removing what is below.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::limit::Setting;
use super::{Error, Hierarchy, KILL_TIME, REMOVE_TIME, Version, file, refused};
use crate::sys;

/// What statistics want of the unified hierarchy.
const ALWAYS_UNIFIED: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// How long a group's processes may take to freeze: longer means one is stuck in the kernel.
const FREEZE_TIME: Duration = Duration::from_secs(10);
/// First and longest pause of a wait for which v1 has no event.
const PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));
/// Deeper trees of groups are not made by sane containers; the walk through one is bounded.
const MAX_DEPTH: usize = 64;

/// A group in one hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) hierarchy: Hierarchy,
    pub(super) dir: PathBuf,
}

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
    /// Makes the directories down to the group, each level handing on the controllers that the group needs.
    pub(super) fn make(&self, settings: &[Setting]) -> Result<(), Error> {
        let below = self.dir.strip_prefix(&self.hierarchy.mount).unwrap_or(&self.dir);
        let mut dir = self.hierarchy.mount.clone();
        for name in below.components() {
            self.hand_on(&dir, settings)?;
            let parent = dir.clone();
            dir.push(name);
            let fresh = file::make_dir(&dir)
                .map_err(|source| refused(&dir, source, |path, source| Error::Create { path, source }))?;
            if fresh && self.has("cpuset") && self.hierarchy.version == Version::V1 {
                inherit_cpuset(&parent, &dir)?;
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.hierarchy.controllers.iter().any(|known| known == controller)
    }

    /// Switches on, for the children of a v2 group, what the limits need, and what statistics want.
    fn hand_on(&self, dir: &Path, settings: &[Setting]) -> Result<(), Error> {
        if self.hierarchy.version == Version::V1 {
            return Ok(());
        }
        let path = dir.join("cgroup.subtree_control");
        let on = file::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let missing =
            |controller: &&str| self.has(controller) && !on.split_whitespace().any(|known| known == *controller);
        let mut needed: Vec<&str> =
            settings.iter().map(|setting| setting.controller.as_ref()).filter(missing).collect();
        needed.sort_unstable();
        needed.dedup();
        for controller in &needed {
            file::write(&path, &format!("+{controller}")).map_err(|source| {
                refused(dir, source, |path, source| Error::Enable {
                    controller: (*controller).to_owned(),
                    path,
                    source,
                })
            })?;
        }
        for controller in ALWAYS_UNIFIED.iter().copied().filter(missing).filter(|wanted| !needed.contains(wanted)) {
            // Without it only its statistics are missing, and a group that may not have it is no failure.
            if file::write(&path, &format!("+{controller}")).is_err() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn attach(&self, pid: i32) -> Result<(), Error> {
        let attach = |path: PathBuf, source| Error::Attach { pid, path, source };
        file::write(&self.dir.join("cgroup.procs"), &pid.to_string())
            .map_err(|source| refused(&self.dir, source, attach))
    }

    /// The group's directory and all below it, children after their parents.
    fn tree(&self) -> Result<Vec<PathBuf>, Error> {
        let mut found = vec![(self.dir.clone(), 0)];
        let mut next = 0;
        while let Some((dir, depth)) = found.get(next).cloned() {
            next += 1;
            match std::fs::read_dir(&dir) {
                Ok(entries) if depth < MAX_DEPTH => {
                    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                    found.extend(dirs.map(|entry| (entry.path(), depth + 1)));
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    let source = sys::Error { call: format!("open({dir:?}, O_DIRECTORY)"), source };
                    return Err(Error::Read { path: dir, source });
                }
            }
        }
        Ok(found.into_iter().map(|(dir, _)| dir).collect())
    }

    pub(super) fn procs(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        for dir in self.tree()? {
            let path = dir.join("cgroup.procs");
            match file::read_if_there(&path) {
                Ok(text) => {
                    pids.extend(text.iter().flat_map(|text| text.lines()).filter_map(|pid| pid.parse::<i32>().ok()))
                }
                // A threaded group names its processes only at its root, which the walk has passed.
                Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Ok(pids)
    }

    pub(super) fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let deadline = Instant::now() + FREEZE_TIME;
        match self.hierarchy.version {
            Version::V1 => self.set_frozen_v1(frozen, deadline),
            Version::V2 => self.set_frozen_v2(frozen, deadline),
        }
    }

    fn control(&self, verb: &'static str, name: &str, value: &str) -> Result<(), Error> {
        let control = |path: PathBuf, source| Error::Control { verb, path, source };
        file::write(&self.dir.join(name), value).map_err(|source| refused(&self.dir, source, control))
    }

    fn set_frozen_v2(&self, frozen: bool, deadline: Instant) -> Result<(), Error> {
        self.control(if frozen { "freeze" } else { "thaw" }, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        let wanted = if frozen { "frozen" } else { "thawed" };
        self.wait_event(deadline, wanted, FREEZE_TIME, |events| {
            file::field(events, "frozen") == Some(u64::from(frozen))
        })
    }

    /// v1 freezes process by process: while one forks, the state can stay FREEZING until it is written again.
    fn set_frozen_v1(&self, frozen: bool, deadline: Instant) -> Result<(), Error> {
        let (verb, word, state) = if frozen { ("freeze", "FROZEN", "frozen") } else { ("thaw", "THAWED", "thawed") };
        let path = self.dir.join("freezer.state");
        let mut backoff = Backoff::until(deadline);
        loop {
            self.control(verb, "freezer.state", word)?;
            let now = file::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            if now.trim() == word {
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

    /// Waits for cgroup.events of a v2 group to say what is wanted; every change of it wakes a poll.
    fn wait_event(
        &self,
        deadline: Instant,
        state: &'static str,
        after: Duration,
        done: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        use std::io::{Read, Seek};
        let path = self.dir.join("cgroup.events");
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
            events.rewind().and_then(|()| events.read_to_string(&mut text)).map_err(|error| failed(error, "read"))?;
            if done(&text) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout { path: self.dir.clone(), state, after });
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&events, PollFlags::PRI)];
            poll(&mut fds, Some(&timeout)).map_err(|errno| failed(errno.into(), "poll"))?;
        }
    }

    /// Waits until a v2 group has no living process; on v1 those who kill have waited.
    pub(super) fn wait_gone(&self, deadline: Instant) -> Result<(), Error> {
        match self.hierarchy.version {
            Version::V1 => Ok(()),
            Version::V2 => {
                self.wait_event(deadline, "empty", KILL_TIME, |events| file::field(events, "populated") == Some(0))
            }
        }
    }

    /// Kernel 5.14's cgroup.kill: all of them, also those being forked at this moment. False where it is missing.
    pub(super) fn kill_at_once(&self) -> Result<bool, Error> {
        match file::write(&self.dir.join("cgroup.kill"), "1") {
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
            for pid in self.procs()? {
                self.kill_process(pid)?;
            }
            if frozen {
                self.set_frozen(false)?;
            }
            if !self.procs()?.is_empty() && !backoff.pause() {
                return Err(Error::Timeout { path: self.dir.clone(), state: "empty", after: KILL_TIME });
            }
        }
        Ok(())
    }

    /// Kills a process only if it still is in the group once a handle on it is held: its number may have
    /// gone to somebody else in between.
    fn kill_process(&self, pid: i32) -> Result<(), Error> {
        let failed = |call: &str, errno: rustix::io::Errno| Error::Control {
            verb: "kill",
            path: self.dir.clone(),
            source: sys::Error { call: format!("{call}({pid})"), source: errno.into() },
        };
        let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
        let handle = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(failed("pidfd_open", errno)),
        };
        if !self.procs()?.contains(&pid) {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(failed("pidfd_send_signal", errno)),
        }
    }

    pub(super) fn remove(&self, deadline: Instant) -> Result<(), Error> {
        for dir in self.tree()?.iter().rev() {
            self.remove_one(dir, deadline)?;
        }
        Ok(())
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
            let group = Self { hierarchy: self.hierarchy.clone(), dir: dir.into() };
            let gone = |events: &str| file::field(events, "populated") == Some(0);
            match group.wait_event(backoff.deadline, "empty", REMOVE_TIME, gone) {
                Ok(()) => {}
                Err(Error::Timeout { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(backoff.pause())
    }
}

/// A new v1 cpuset is empty, and an empty one takes no process: it gets what its parent has.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let path = parent.join(name);
        let value = file::read(&path).map_err(|source| Error::Read { path, source })?;
        let create = |path: PathBuf, source| Error::Create { path, source };
        file::write(&child.join(name), value.trim()).map_err(|source| refused(child, source, create))?;
    }
    Ok(())
}
