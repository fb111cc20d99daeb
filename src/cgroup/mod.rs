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
mod error;
mod file;
mod group;
mod hierarchy;
mod limit;
mod oom;
mod stats;

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};

pub use self::error::Error;
use self::error::refused;
use self::group::Group;
pub use self::hierarchy::{Hierarchies, Hierarchy, Version, warm_up};
use self::limit::Setting;
pub use self::oom::OomWatch;
pub use self::stats::{Cpu, Io, Memory, Pids, Stats};
use crate::sys::named;

/// Controllers that every container joins, where they are.
const ALWAYS: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "blkio"];

/// How long killed processes may take to be gone. An exit can be slow (gigabytes to unmap), but not this slow.
const KILL_TIME: Duration = Duration::from_secs(10);
/// How long an emptied group may refuse to be removed: its last process counts until it has been reaped.
const REMOVE_TIME: Duration = Duration::from_secs(5);

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

#[cfg(test)]
mod tests;
