//! Control groups: limiting, measuring, freezing and killing one container's processes, on v1, v2 and hybrid
//! machines.
//!
//! One container has one group of the same path in every hierarchy that it needs:
//!
//! ```text
//! /sys/fs/cgroup/wherry/<id>                       unified: born into (CLONE_INTO_CGROUP), frozen, killed
//! /sys/fs/cgroup/{cpu,memory,pids,…}/wherry/<id>   v1: attached by a write to cgroup.procs
//! ```
//!
//! The order of a start, and why: limits are written before anybody is inside, so that no instruction of the
//! container runs without them. A child born into the unified group costs nothing. The first write to a
//! `cgroup.procs` waits for an RCU grace period (13–15 ms; more such writes right after it take 0.15 ms each), so the
//! parent does all of them in one go ([`Cgroup::attach_rest`]) while the child sets up its mounts.
//!
//! On v1 a container joins cpu, cpuacct, memory, pids, devices, freezer and blkio, asked for or not: the device
//! rules make one attach unavoidable, and for the ~1 ms of the others we can always measure, freeze and
//! update it. cpuset, hugetlb, net_cls, net_prio and rdma are joined only when the resources ask for them: a new
//! cpuset is empty and would have to be copied together from its parents.
//!
//! A group that we made is ours, with all below it; no other is ever changed, but for switching on controllers
//! in `cgroup.subtree_control` on the way down.
//!
//! Not here: systemd's way of making groups, and the cgroup namespace and mount of the container (the engine).

mod device;
mod file;
mod hierarchy;
mod limit;
mod oom;
mod stats;

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

pub use self::hierarchy::{Hierarchies, Hierarchy, Version, warm_up};
use self::limit::Setting;
pub use self::oom::OomWatch;
pub use self::stats::{Cpu, Io, Memory, Pids, Stats};
use crate::error::{Failure, Kind};
use crate::sys::{self, named};

/// Controllers that every container joins, where they are.
const ALWAYS: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "blkio"];
/// What the unified hierarchy calls them.
const ALWAYS_UNIFIED: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// How long a group's processes may take to freeze: longer means one is stuck in the kernel.
const FREEZE_TIME: Duration = Duration::from_secs(10);
/// How long killed processes may take to be gone. An exit can be slow (gigabytes to unmap), but not this slow.
const KILL_TIME: Duration = Duration::from_secs(10);
/// How long an emptied group may refuse to be removed: its last process counts until it has been reaped.
const REMOVE_TIME: Duration = Duration::from_secs(5);
/// First and longest pause of a wait for which v1 has no event.
const PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));
/// Deeper trees of groups are not made by sane containers; the walk through one is bounded.
const MAX_DEPTH: usize = 64;

/// Why something about a control group failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// The path of a group would leave its hierarchy, or is the root.
    #[error("{path:?} is no path for a control group: it must name a group below the root, without \"..\"")]
    BadPath {
        /// The path given.
        path: PathBuf,
    },
    /// A group could not be made.
    #[error("cannot make the control group {path:?}")]
    Create {
        /// Where the group would be.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// This user may not make or change groups here.
    #[error("not permitted to manage the control group {path:?}")]
    NotDelegated {
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// The group has processes in it that this call did not put there.
    #[error("the control group {path:?} exists and {processes} processes are in it")]
    InUse {
        /// The group.
        path: PathBuf,
        /// How many.
        processes: usize,
    },
    /// A limit needs a controller that this machine does not have.
    #[error("{field} needs the cgroup controller {controller}, which is not available")]
    NoController {
        /// The field of `linux.resources`.
        field: String,
        /// The controller.
        controller: String,
    },
    /// A controller exists but cannot be switched on for a group.
    #[error("cannot switch on the cgroup controller {controller} below {path:?}")]
    Enable {
        /// The controller.
        controller: String,
        /// The group whose children would get it.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// A limit makes no sense.
    #[error("{field} is {value}: {reason}")]
    BadLimit {
        /// The field of `linux.resources`.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The kernel refused a limit.
    #[error("cannot set {field} to {value}")]
    Limit {
        /// The field of `linux.resources`.
        field: String,
        /// What was written.
        value: String,
        /// The failed call.
        source: sys::Error,
    },
    /// The device rules could not be installed.
    #[error("cannot restrict the devices of the control group {path:?}")]
    Devices {
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// A process could not be put into a group.
    #[error("cannot put process {pid} into the control group {path:?}")]
    Attach {
        /// The process.
        pid: i32,
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// A group's state could not be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// Freezing, thawing or killing failed.
    #[error("cannot {verb} the control group {path:?}")]
    Control {
        /// What was tried.
        verb: &'static str,
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// Processes did not do in time what they must.
    #[error("the control group {path:?} is not {state} after {} s", .after.as_secs())]
    Timeout {
        /// The group.
        path: PathBuf,
        /// The state waited for.
        state: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// A group could not be removed.
    #[error("cannot remove the control group {path:?}")]
    Remove {
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotMounted | Self::NoController { .. } => Kind::Unsupported,
            Self::BadPath { .. } | Self::BadLimit { .. } => Kind::InvalidArgument,
            Self::NotDelegated { .. } => Kind::PermissionDenied,
            Self::InUse { .. } => Kind::FailedPrecondition,
            Self::Timeout { .. } => Kind::Unavailable,
            Self::Create { source, .. }
            | Self::Enable { source, .. }
            | Self::Limit { source, .. }
            | Self::Devices { source, .. }
            | Self::Attach { source, .. }
            | Self::Read { source, .. }
            | Self::Control { source, .. }
            | Self::Remove { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotDelegated { .. } => Some(
                "without root, run inside a delegated group: systemd-run --user --scope -p Delegate=yes …; \
                 limits then need controllers delegated to user@.service"
                    .into(),
            ),
            Self::Enable { source, .. } if source.errno() == Some(libc::EBUSY) => Some(
                "that group has processes of its own, and a group with processes cannot hand controllers on: \
                 move them into a child group first"
                    .into(),
            ),
            Self::Enable { source, .. } | Self::Attach { source, .. } if source.errno() == Some(libc::EOPNOTSUPP) => {
                Some("a threaded group is on the way: its children cannot hold whole processes".into())
            }
            _ => None,
        }
    }
}

/// A group in one hierarchy.
#[derive(Clone, Debug)]
struct Group {
    hierarchy: Hierarchy,
    dir: PathBuf,
}

/// One container's group, in all hierarchies that it is in.
#[derive(Clone, Debug)]
pub struct Cgroup {
    groups: Vec<Group>,
}

impl Cgroup {
    /// Makes the group `path`, such as `wherry/<id>`, and sets its limits. On failure nothing stays behind. A
    /// group that exists already is taken over if nobody is in it.
    pub fn create(hierarchies: &Hierarchies, path: &Path, resources: &LinuxResources) -> Result<Self, Error> {
        let settings = limit::plan(resources, hierarchies)?;
        let cgroup = Self::locate(hierarchies, path, |controller| {
            ALWAYS.contains(&controller) || settings.iter().any(|setting| setting.controller == controller)
        })?;
        let made = cgroup
            .make(&settings)
            .and_then(|()| cgroup.limit(&settings, resources))
            .and_then(|()| cgroup.restrict_devices(resources.devices().as_deref().unwrap_or_default()));
        match made {
            Ok(()) => Ok(cgroup),
            Err(error @ Error::InUse { .. }) => Err(error),
            Err(error) => {
                // The first failure is the one to report; what could not be undone shows in the next create.
                drop(cgroup.remove());
                Err(error)
            }
        }
    }

    /// The group `path`, made earlier.
    pub fn open(hierarchies: &Hierarchies, path: &Path) -> Result<Self, Error> {
        let mut cgroup = Self::locate(hierarchies, path, |_| true)?;
        cgroup.groups.retain(|group| group.dir.is_dir());
        Ok(cgroup)
    }

    fn locate(hierarchies: &Hierarchies, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let below = relative(path)?;
        let joins = |hierarchy: &&Hierarchy| {
            hierarchy.version == Version::V2 || hierarchy.controllers.iter().any(|controller| wanted(controller))
        };
        let group = |hierarchy: &Hierarchy| Group { hierarchy: hierarchy.clone(), dir: hierarchy.mount.join(&below) };
        Ok(Self { groups: hierarchies.list.iter().filter(joins).map(group).collect() })
    }

    /// Whether the group exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.groups.iter().any(|group| group.dir.is_dir())
    }

    /// A handle on the unified group, to be given to clone3(2) with CLONE_INTO_CGROUP. None on v1 machines.
    pub fn dir_fd(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(group) = self.groups.iter().find(|group| group.hierarchy.version == Version::V2) else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            named(rustix::fs::open(&group.dir, flags, Mode::empty()), || format!("open({:?}, O_DIRECTORY)", group.dir));
        fd.map(Some).map_err(|source| Error::Read { path: group.dir.clone(), source })
    }

    /// Puts a process into the group, in every hierarchy.
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        self.groups.iter().try_for_each(|group| group.attach(pid))
    }

    /// Puts a process that was born into [`Self::dir_fd`] also into the v1 hierarchies. Nothing to do on v2.
    pub fn attach_rest(&self, pid: i32) -> Result<(), Error> {
        let rest = |group: &&Group| group.hierarchy.version == Version::V1;
        self.groups.iter().filter(rest).try_for_each(|group| group.attach(pid))
    }

    /// The processes in the group and in all groups below, in no order.
    pub fn procs(&self) -> Result<Vec<i32>, Error> {
        self.main().map_or(Ok(Vec::new()), Group::procs)
    }

    /// Sets other limits on a living group; absent fields stay as they are, a list of devices replaces the one
    /// before.
    pub fn update(&self, hierarchies: &Hierarchies, resources: &LinuxResources) -> Result<(), Error> {
        let settings = limit::plan(resources, hierarchies)?;
        self.limit(&settings, resources)?;
        match resources.devices().as_deref() {
            Some(rules) if !rules.is_empty() => self.restrict_devices(rules),
            _ => Ok(()),
        }
    }

    /// What the group uses now.
    pub fn stats(&self) -> Result<Stats, Error> {
        stats::read(|controller| self.dir_of(controller))
    }

    /// Watches for processes that the kernel kills because the group's memory is full.
    pub fn oom(&self) -> Result<Option<OomWatch>, Error> {
        self.dir_of("memory").map(|(version, dir)| OomWatch::new(version, dir)).transpose()
    }

    /// Stops every process of the group; returns when all have stopped.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)
    }

    /// Lets a frozen group go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    /// Kills every process of the group, frozen ones too, and waits until none is left. Zombies do not count,
    /// so nobody needs to reap for this to end.
    pub fn kill(&self) -> Result<(), Error> {
        let deadline = Instant::now() + KILL_TIME;
        let mut rest = Vec::new();
        for group in &self.groups {
            if group.hierarchy.version == Version::V1 || !group.kill_at_once()? {
                rest.push(group);
            }
        }
        // What v1 has frozen, also on its own below the group, dies only when it thaws.
        if let Some(group) = self.group_of("freezer").filter(|group| group.hierarchy.version == Version::V1) {
            group.thaw_all()?;
        }
        rest.into_iter().try_for_each(|group| group.kill_one_by_one(deadline))?;
        self.groups.iter().try_for_each(|group| group.wait_gone(deadline))
    }

    /// Removes the group and all groups below. Its processes must be gone, or just going.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + REMOVE_TIME;
        self.groups.iter().try_for_each(|group| group.remove(deadline))
    }

    fn make(&self, settings: &[Setting]) -> Result<(), Error> {
        for group in &self.groups {
            let processes = group.procs()?.len();
            if processes > 0 {
                return Err(Error::InUse { path: group.dir.clone(), processes });
            }
        }
        self.groups.iter().try_for_each(|group| group.make(settings))
    }

    fn limit(&self, settings: &[Setting], resources: &LinuxResources) -> Result<(), Error> {
        self.check_usage(resources)?;
        limit::apply(self, settings)
    }

    /// The spec's `checkBeforeUpdate`: no limit below what is used now, which would only get processes killed.
    fn check_usage(&self, resources: &LinuxResources) -> Result<(), Error> {
        let memory = resources.memory().as_ref().filter(|memory| memory.check_before_update() == Some(true));
        let Some(limit) = memory.and_then(|memory| memory.limit()).filter(|limit| *limit > 0) else { return Ok(()) };
        match self.stats()?.memory {
            Some(memory) if memory.usage > limit.cast_unsigned() => Err(Error::BadLimit {
                field: "linux.resources.memory.limit".into(),
                value: limit.to_string(),
                reason: "more than that is used now",
            }),
            _ => Ok(()),
        }
    }

    fn restrict_devices(&self, rules: &[oci_spec::runtime::LinuxDeviceCgroup]) -> Result<(), Error> {
        let legacy = self.group_of("devices");
        let unified = || self.groups.iter().find(|group| group.hierarchy.version == Version::V2);
        let Some(group) = legacy.or_else(unified) else { return Ok(()) };
        device::restrict(group.hierarchy.version, &group.dir, rules)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let legacy = self.group_of("freezer");
        let Some(group) = legacy.or_else(|| self.main()) else { return Err(Error::NotMounted) };
        group.set_frozen(frozen)
    }

    /// The group that says who is in the container: the unified one, else any, as all are joined.
    fn main(&self) -> Option<&Group> {
        self.groups.first()
    }

    /// The group with a controller; `cgroup` are the files that every v2 group has.
    fn group_of(&self, controller: &str) -> Option<&Group> {
        let unified = |group: &Group| controller == "cgroup" && group.hierarchy.version == Version::V2;
        self.groups.iter().find(|group| group.has(controller) || unified(group))
    }

    fn dir_of(&self, controller: &str) -> Option<(Version, &Path)> {
        let group = self.group_of(controller)?;
        Some((group.hierarchy.version, &group.dir))
    }
}

/// A group's path below its hierarchy's mount.
fn relative(path: &Path) -> Result<PathBuf, Error> {
    let bad = || Error::BadPath { path: path.into() };
    let below: PathBuf = path
        .components()
        .filter(|component| *component != Component::RootDir)
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(bad()),
        })
        .collect::<Result<_, _>>()?;
    if below.as_os_str().is_empty() { Err(bad()) } else { Ok(below) }
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
    fn make(&self, settings: &[Setting]) -> Result<(), Error> {
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

    fn has(&self, controller: &str) -> bool {
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

    fn attach(&self, pid: i32) -> Result<(), Error> {
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

    fn procs(&self) -> Result<Vec<i32>, Error> {
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

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
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
    fn thaw_all(&self) -> Result<(), Error> {
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
    fn wait_gone(&self, deadline: Instant) -> Result<(), Error> {
        match self.hierarchy.version {
            Version::V1 => Ok(()),
            Version::V2 => {
                self.wait_event(deadline, "empty", KILL_TIME, |events| file::field(events, "populated") == Some(0))
            }
        }
    }

    /// Kernel 5.14's cgroup.kill: all of them, also those being forked at this moment. False where it is missing.
    fn kill_at_once(&self) -> Result<bool, Error> {
        match file::write(&self.dir.join("cgroup.kill"), "1") {
            Ok(()) => Ok(true),
            Err(error) if file::is_missing(&error) => Ok(false),
            Err(source) => {
                Err(refused(&self.dir, source, |path, source| Error::Control { verb: "kill", path, source }))
            }
        }
    }

    /// Kills whoever is found until nobody is. A fork bomb is outrun by freezing it first.
    fn kill_one_by_one(&self, deadline: Instant) -> Result<(), Error> {
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

    fn remove(&self, deadline: Instant) -> Result<(), Error> {
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

/// A refusal for want of rights is a matter of delegation; anything else is what `other` makes of it.
fn refused(path: &Path, source: sys::Error, other: impl FnOnce(PathBuf, sys::Error) -> Error) -> Error {
    match source.errno() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Error::NotDelegated { path: path.into(), source },
        _ => other(path.into(), source),
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

#[cfg(test)]
mod tests;
