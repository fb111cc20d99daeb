//! Control groups: limiting, measuring, freezing and killing one container's processes, on v1, v2 and hybrid
//! machines.
//!
//! One container has one group of the same path in every hierarchy that it needs:
//!
//! ```text
//! /sys/fs/cgroup/wherry/<id>                       unified: born into (CLONE_INTO_CGROUP), frozen, killed
//! /sys/fs/cgroup/{cpu,memory,pids,…}/wherry/<id>   v1: entered by a write to tasks
//! ```
//!
//! The order of a start, and why: limits are written before anybody is inside, so that no instruction of the
//! container runs without them. A child born into the unified group costs nothing, and neither does one that enters
//! its v1 groups by itself ([`Entrance`]). To put *another* process there, as systemd's groups need, takes a write to
//! `cgroup.procs`, the first of which waits for an RCU grace period (13–15 ms; 0.15 ms each right after it).
//!
//! On v1 a container joins cpu, cpuacct, memory, pids, devices, freezer and blkio, asked for or not: the device
//! rules make one attach unavoidable, and for the ~1 ms of the others we can always measure, freeze and
//! update it. cpuset, hugetlb, net_cls, net_prio and rdma are joined only when the resources ask for them: a new
//! cpuset is empty and would have to be copied together from its parents.
//!
//! A group that we made is ours, with all below it; no other is ever changed, but for switching on controllers
//! in `cgroup.subtree_control` on the way down, and for filling in a v1 cpuset that is empty there.
//!
//! systemd can make the groups instead ([`Manager`]); what they are then used for is the same.
//!
//! A [`Cgroup`] is plain data: kept in a state file it is the same group again in another process.
//!
//! Not here: the cgroup namespace and mount of the container (the engine).

mod control;
mod device;
mod error;
mod file;
mod group;
mod hierarchy;
mod limit;
mod oom;
mod place;
mod rdt;
mod stats;
mod systemd;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

pub use self::error::Error;
use self::error::refused;
use self::group::Group;
use self::hierarchy::Own;
pub use self::hierarchy::{Hierarchies, Hierarchy, Version};
use self::limit::Setting;
pub use self::oom::OomWatch;
use self::place::Place;
pub use self::place::delegated;
pub use self::rdt::{CmtStats, L3CacheInfo, MbmStats, MemBwInfo, Rdt, RdtStats, rdt_available};
pub use self::stats::{
    Blkio, BlkioEntry, Charge, Cpu, Cpuset, HugePages, Io, Memory, Pids, Pressure, Rdma, Stats, Waiting,
};

pub use self::systemd::Bus;
use self::systemd::{Orders, Unit};
use crate::sys::{self, named};

/// Controllers that every container joins, where they are.
const ALWAYS: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "blkio"];

/// How long killed processes may take to be gone. An exit can be slow (gigabytes to unmap), but not this slow.
const KILL_TIME: Duration = Duration::from_secs(10);
/// How long an emptied group may refuse to be removed: its last process counts until it has been reaped.
const REMOVE_TIME: Duration = Duration::from_secs(5);
/// How often a group is looked through for processes that were forked while the others moved into another hierarchy.
const MOVES: usize = 100;

/// Who makes the groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manager {
    /// We do, in the file system.
    Cgroupfs,
    /// systemd does.
    Systemd(Bus),
}

impl Manager {
    /// The `cgroupsPath` of a container that has none.
    pub fn default_path(&self, id: &str) -> PathBuf {
        match self {
            Self::Cgroupfs => id.into(),
            Self::Systemd(_) => format!(":wherry:{id}").into(),
        }
    }
}

/// One container's group, in all hierarchies that it is in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cgroup {
    groups: Vec<Group>,
    /// The scope that systemd makes it as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    /// What waits for the first process: systemd makes no scope without one.
    #[serde(skip)]
    orders: Mutex<Option<Orders>>,
    /// The device rules that are still to be set.
    #[serde(skip)]
    rules: Mutex<Option<Vec<LinuxDeviceCgroup>>>,
}

/// The v1 groups of one container, open to be entered by who has this.
///
/// Whoever puts *another* process into a v1 group waits, under a global lock, for a grace period of the kernel
/// (7–15 ms). A thread that moves itself does not: it can neither end nor fork meanwhile.
#[derive(Debug)]
pub struct Entrance(Vec<(PathBuf, OwnedFd)>);

impl Entrance {
    /// Moves the calling thread, which has to be the only one of its process.
    pub fn enter(&self) -> sys::Result<()> {
        self.0.iter().try_for_each(|(path, file)| {
            named(rustix::io::write(file, b"0"), || format!("write({path:?}, \"0\")")).map(drop)
        })
    }
}

impl Cgroup {
    /// Makes the group `path`, such as `/wherry/<id>`, and sets its limits. On failure nothing stays behind. A
    /// group that exists already is taken over if nobody is in it. A relative path starts at the caller's own group on
    /// v1, and beside it on v2.
    pub fn create(hierarchies: &Hierarchies, path: &Path, resources: &LinuxResources) -> Result<Self, Error> {
        let cgroup = Self::prepare(hierarchies, path, resources)?;
        match cgroup.settle() {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                drop(cgroup.remove());
                Err(error)
            }
        }
    }

    /// Like [`Self::create`], but that on v2 the device rules are left to [`Self::settle`].
    pub fn prepare(hierarchies: &Hierarchies, path: &Path, resources: &LinuxResources) -> Result<Self, Error> {
        let settings = limit::plan(resources, hierarchies)?;
        let (place, unified) = (Place::new(path)?, hierarchies.is_unified());
        let cgroup = Self::locate(hierarchies, joined(&settings), |hierarchy| place.dir(hierarchy, unified))?;
        let fresh = cgroup.make()?;
        let rules = resources.devices().as_deref().unwrap_or_default();
        let limited = cgroup.set_up(&settings).and_then(|()| match cgroup.device_group() {
            Some(group) if group.hierarchy.version == Version::V2 && fresh => {
                *cgroup.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules.to_vec());
                Ok(())
            }
            _ => cgroup.restrict_devices(rules, fresh),
        });
        match limited {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                // The first failure is the one to report; what could not be undone shows in the next create.
                drop(cgroup.remove());
                Err(error)
            }
        }
    }

    /// Sets the device rules that [`Self::prepare`] has left: a program that the kernel has to verify, for which nobody who
    /// only makes mounts and nodes in the group has to wait. It has to be called before anything else runs there.
    pub fn settle(&self) -> Result<(), Error> {
        match self.rules.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(rules) => self.restrict_devices(&rules, true),
            None => Ok(()),
        }
    }

    /// Like [`Self::prepare`], by the manager of choice. For systemd the path is `slice:prefix:name`, the container's
    /// annotations may set properties of its scope, and the scope is made when the first process is attached: until then
    /// there is no [`Self::dir_fd`].
    pub fn prepare_by(
        manager: &Manager,
        hierarchies: &Hierarchies,
        path: &Path,
        resources: &LinuxResources,
        annotations: &HashMap<String, String>,
    ) -> Result<Self, Error> {
        let Manager::Systemd(bus) = manager else { return Self::prepare(hierarchies, path, resources) };
        let resources = &systemd::rounded(resources);
        let settings = limit::plan(resources, hierarchies)?;
        let unit = Unit::plan(hierarchies, bus, path)?;
        let mut cgroup =
            Self::locate(hierarchies, joined(&settings), |hierarchy| Ok(hierarchy.mount.join(&unit.group)))?;
        cgroup.orders = Mutex::new(Some(unit.orders(resources, settings, annotations)?));
        cgroup.unit = Some(unit);
        Ok(cgroup)
    }

    /// The group `path`, made earlier. One that was made by a relative path is to be kept as data instead.
    pub fn open(hierarchies: &Hierarchies, path: &Path) -> Result<Self, Error> {
        let (place, unified) = (Place::new(path)?, hierarchies.is_unified());
        let mut cgroup = Self::locate(hierarchies, |_| true, |hierarchy| place.dir(hierarchy, unified))?;
        cgroup.groups.retain(|group| group.dir.is_dir());
        Ok(cgroup)
    }

    fn locate(
        hierarchies: &Hierarchies,
        wanted: impl Fn(&str) -> bool,
        dir: impl Fn(&Hierarchy) -> Result<PathBuf, Error>,
    ) -> Result<Self, Error> {
        let joins = |hierarchy: &&Hierarchy| {
            hierarchy.version == Version::V2 || hierarchy.controllers.iter().any(|controller| wanted(controller))
        };
        let group = |hierarchy: &Hierarchy| Ok(Group::new(hierarchy.clone(), dir(hierarchy)?));
        let groups = hierarchies.list.iter().filter(joins).map(group).collect::<Result<_, Error>>()?;
        Ok(Self { groups, unit: None, orders: Mutex::new(None), rules: Mutex::new(None) })
    }

    /// The same container's group elsewhere: each hierarchy's directory as `dir` has it.
    fn moved(&self, dir: impl Fn(&Group) -> PathBuf) -> Self {
        let groups = self.groups.iter().map(|group| Group::new(group.hierarchy.clone(), dir(group))).collect();
        Self { groups, unit: self.unit.clone(), orders: Mutex::new(None), rules: Mutex::new(None) }
    }

    /// Whether the group exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.groups.iter().any(|group| group.dir.is_dir())
    }

    /// The group's directory for each controller; for the unified hierarchy under the empty name.
    pub fn paths(&self) -> BTreeMap<&str, &Path> {
        let mut paths = BTreeMap::new();
        for group in &self.groups {
            match group.hierarchy.version {
                Version::V2 => drop(paths.insert("", group.dir.as_path())),
                Version::V1 => paths.extend(group.hierarchy.controllers.iter().map(|name| (&**name, &*group.dir))),
            }
        }
        paths
    }

    /// A group below this one: in the hierarchies of the given controllers, in the others this one; in all if none
    /// is given. It has to exist before somebody can be attached.
    pub fn below(&self, controllers: &[&str], path: &Path) -> Result<Self, Error> {
        let below = place::names(path)?;
        if let Some(unknown) = controllers.iter().find(|name| self.group_of(name).is_none()) {
            let (field, controller) = ("a group below".to_owned(), (*unknown).to_owned());
            return Err(Error::NoController { field, controller });
        }
        let goes = |group: &Group| controllers.is_empty() || controllers.iter().any(|name| group.has(name));
        Ok(self.moved(|group| if goes(group) { group.dir.join(&below) } else { group.dir.clone() }))
    }

    /// Where a process of the container is: it may have gone to a group below. A v2 group that has handed on
    /// controllers takes nobody itself, so whoever comes later goes where init is.
    pub fn of(&self, pid: i32) -> Result<Self, Error> {
        let own = Own::of(pid)?;
        let inside = |group: &Group| own.group(&group.hierarchy).filter(|dir| dir.starts_with(&group.dir));
        Ok(self.moved(|group| inside(group).unwrap_or_else(|| group.dir.clone())))
    }

    /// A handle on the unified group, to be given to clone3(2) with CLONE_INTO_CGROUP. None on v1 machines, and
    /// where only systemd can put a process into the group.
    pub fn dir_fd(&self) -> Result<Option<BorrowedFd<'_>>, Error> {
        let by_systemd = self.unit.as_ref().is_some_and(Unit::is_of_user) || self.orders().is_some();
        let Some(group) = self.unified().filter(|_| !by_systemd) else { return Ok(None) };
        group.handle().map(Some).map_err(|source| Error::Read { path: group.dir.clone(), source })
    }

    /// The way in for a child of one thread, where v1 hierarchies make the way from outside a slow one. `None` where
    /// there is nothing to it: the child is born inside, or systemd puts it there.
    pub fn entrance(&self) -> Result<Option<Entrance>, Error> {
        let legacy = self.groups.iter().filter(|group| group.hierarchy.version == Version::V1);
        let files: Vec<_> = match self.unit {
            None => legacy.map(Group::tasks).collect::<Result<_, _>>()?,
            Some(_) => Vec::new(),
        };
        Ok((!files.is_empty()).then_some(Entrance(files)))
    }

    /// Puts a process into the group, in every hierarchy. Where systemd makes the group, it does so around the first
    /// one.
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        self.settle()?;
        let orders = self.orders().take();
        match (&self.unit, orders) {
            (Some(unit), Some(orders)) => self.begin(unit, orders, pid),
            (Some(unit), None) if unit.is_of_user() => {
                let below = |group: &Group| {
                    let path = group.dir.strip_prefix(group.hierarchy.mount.join(&unit.group));
                    path.unwrap_or(Path::new("")).to_owned()
                };
                unit.attach(&self.main().map(below).unwrap_or_default(), pid)
            }
            _ => self.groups.iter().try_for_each(|group| group.attach(pid)),
        }
    }

    /// Puts a process that was born into [`Self::dir_fd`] also into the v1 hierarchies. Nothing to do on v2.
    pub fn attach_rest(&self, pid: i32) -> Result<(), Error> {
        let rest = |group: &&Group| group.hierarchy.version == Version::V1;
        self.groups.iter().filter(rest).try_for_each(|group| group.attach(pid))
    }

    /// Has the container's root manage groups of its own below this one: the unified group is then the user's
    /// (runtime-spec, config-linux, "Cgroup ownership"). v1 groups are nobody's but root's.
    pub fn give_to(&self, uid: u32) -> Result<(), Error> {
        self.unified().map_or(Ok(()), |group| group.give_to(uid))
    }

    /// The processes in the group and in all groups below, in no order.
    pub fn procs(&self) -> Result<Vec<i32>, Error> {
        self.main().map_or(Ok(Vec::new()), Group::procs)
    }

    /// Sets other limits on a living group; absent fields stay as they are, a list of devices replaces the one
    /// before. A v1 hierarchy that nobody needed before is joined with all processes, and is then part of the group: what
    /// was kept of it has to be kept anew.
    pub fn update(&mut self, hierarchies: &Hierarchies, resources: &LinuxResources) -> Result<(), Error> {
        let mut resources = self.complete(resources)?;
        if self.unit.is_some() {
            resources = systemd::rounded(&resources);
        }
        let resources = &resources;
        let settings = limit::plan(resources, hierarchies)?;
        self.check_usage(resources)?;
        self.tell_systemd(resources)?;
        self.join(hierarchies, &settings)?;
        limit::apply(self, &settings)?;
        match resources.devices().as_deref() {
            Some(rules) if !rules.is_empty() => self.restrict_devices(rules, false),
            _ => Ok(()),
        }
    }

    /// What the group uses now.
    pub fn stats(&self) -> Result<Stats, Error> {
        stats::read(|controller| self.dir_of(controller))
    }

    /// Watches for processes that the kernel kills because the group's memory is full; None where memory is not
    /// counted.
    pub fn oom(&self) -> Result<Option<OomWatch>, Error> {
        match self.dir_of("memory").map(|(version, dir)| OomWatch::new(version, dir)) {
            // A v2 group that does not have the controller has none of its files.
            Some(Err(Error::Read { source, .. })) if file::is_missing(&source) => Ok(None),
            other => other.transpose(),
        }
    }

    /// Stops every process of the group; returns when all have stopped.
    pub fn freeze(&self) -> Result<(), Error> {
        self.freezer()?.set_frozen(true)
    }

    /// Lets a frozen group go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.freezer()?.set_frozen(false)
    }

    /// Whether the group has been frozen, and not by way of a group above.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        self.freezer()?.is_frozen()
    }

    /// Sends a signal to every process of the group, once; what they fork meanwhile may be missed.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.main().map_or(Ok(()), |group| group.signal(signal))
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
        // A scope that has not begun is nothing to systemd.
        if let Some(unit) = self.unit.as_ref().filter(|_| self.orders().is_none()) {
            unit.stop()?;
        }
        let deadline = Instant::now() + REMOVE_TIME;
        self.groups.iter().try_for_each(|group| group.remove(deadline))
    }

    fn orders(&self) -> std::sync::MutexGuard<'_, Option<Orders>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has systemd make the scope around a process, then does what it has no property for.
    fn begin(&self, unit: &Unit, orders: Orders, pid: i32) -> Result<(), Error> {
        let (settings, rules) = unit.start(orders, pid)?;
        let done = self.fill_in(&settings, &rules, pid);
        if done.is_err() {
            // The first failure is the one to report.
            drop(self.remove());
        }
        done
    }

    /// Brings the groups of a new scope to what was ordered; on v1 also those that systemd does not know.
    fn fill_in(&self, settings: &[Setting], rules: &[LinuxDeviceCgroup], pid: i32) -> Result<(), Error> {
        self.groups.iter().try_for_each(|group| group.make_dir().map(drop))?;
        self.set_up(settings)?;
        self.restrict_devices(rules, false)?;
        self.attach_rest(pid)
    }

    /// Has systemd know of other limits. While it changes a v1 group's devices, none can be used, which nobody sees
    /// who is frozen.
    fn tell_systemd(&self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let devices = resources.devices().as_ref().is_some_and(|rules| !rules.is_empty());
        let freezer = self.group_of("freezer").filter(|_| devices);
        let Some(freezer) = freezer.filter(|group| group.is_frozen().is_ok_and(|frozen| !frozen)) else {
            return unit.set(resources);
        };
        freezer.set_frozen(true)?;
        let told = unit.set(resources);
        freezer.set_frozen(false)?;
        told
    }

    /// Makes all directories; true if all are new. On failure those that are new go again.
    fn make(&self) -> Result<bool, Error> {
        let mut fresh = Vec::new();
        for group in &self.groups {
            match group.make() {
                Ok(true) => fresh.push(group),
                Ok(false) => {}
                Err(error) => {
                    // The first failure is the one to report.
                    fresh.iter().for_each(|group| drop(group.remove(Instant::now())));
                    return Err(error);
                }
            }
        }
        Ok(fresh.len() == self.groups.len())
    }

    fn set_up(&self, settings: &[Setting]) -> Result<(), Error> {
        self.groups.iter().try_for_each(|group| group.prepare(settings))?;
        limit::apply(self, settings)?;
        self.groups.iter().try_for_each(Group::finish)
    }

    /// Joins the v1 hierarchies that settings need and the group is not in.
    fn join(&mut self, hierarchies: &Hierarchies, settings: &[Setting]) -> Result<(), Error> {
        for setting in settings.iter().filter(|setting| setting.controller != "cgroup") {
            if self.group_of(&setting.controller).is_some() {
                continue;
            }
            let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|known| *known == setting.controller);
            let hierarchy = hierarchies.list.iter().find(has).ok_or_else(|| setting.no_controller())?;
            let model = self.groups.iter().find(|group| group.hierarchy.version == Version::V1);
            let below = model.and_then(|group| group.dir.strip_prefix(&group.hierarchy.mount).ok());
            let below = below.ok_or_else(|| setting.no_controller())?;
            let group = Group::new(hierarchy.clone(), hierarchy.mount.join(below));
            group.make()?;
            group.prepare(settings)?;
            group.finish()?;
            self.move_into(&group)?;
            self.groups.push(group);
        }
        Ok(())
    }

    /// Puts everybody into a group of another hierarchy, also those who are being forked.
    fn move_into(&self, group: &Group) -> Result<(), Error> {
        for _ in 0..MOVES {
            let inside = group.procs()?;
            let outside: Vec<i32> = self.procs()?.into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() {
                break;
            }
            for pid in outside {
                match group.attach(pid) {
                    // It has ended, or (EINVAL) is not quite born: the next look tells.
                    Err(Error::Attach { source, .. }) if matches!(source.errno(), Some(libc::ESRCH | libc::EINVAL)) => {
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// A period alone leaves the quota as it is; v2 has both in one file, so there it is filled in.
    fn complete(&self, resources: &LinuxResources) -> Result<LinuxResources, Error> {
        let mut resources = resources.clone();
        let Some(mut cpu) = resources.cpu().clone() else { return Ok(resources) };
        let group = self.group_of("cpu").filter(|group| group.hierarchy.version == Version::V2);
        if let (Some(group), Some(_), None | Some(0)) = (group, cpu.period(), cpu.quota()) {
            let now = group.read("cpu.max")?;
            let quota = now.split_whitespace().next().and_then(|quota| quota.parse().ok());
            cpu.set_quota(Some(quota.unwrap_or(-1)));
            resources.set_cpu(Some(cpu));
        }
        Ok(resources)
    }

    /// The spec's `checkBeforeUpdate`: no limit below what is used now, which would only get processes killed.
    fn check_usage(&self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(memory) = resources.memory().filter(|memory| memory.check_before_update() == Some(true)) else {
            return Ok(());
        };
        let Some(used) = self.stats()?.memory else { return Ok(()) };
        for (field, limit) in [("memory.swap", memory.swap()), ("memory.limit", memory.limit())] {
            let Some(limit) = limit.filter(|limit| *limit > 0) else { continue };
            if used.usage >= limit.cast_unsigned() {
                let (field, value) = (format!("linux.resources.{field}"), limit.to_string());
                return Err(Error::BadLimit { field, value, reason: "no less than that is used now" });
            }
        }
        Ok(())
    }

    fn restrict_devices(&self, rules: &[LinuxDeviceCgroup], fresh: bool) -> Result<(), Error> {
        self.device_group().map_or(Ok(()), |group| device::restrict(group, rules, fresh))
    }

    fn device_group(&self) -> Option<&Group> {
        self.group_of("devices").or_else(|| self.unified())
    }

    fn freezer(&self) -> Result<&Group, Error> {
        self.group_of("freezer").or_else(|| self.main()).ok_or(Error::NotMounted)
    }

    /// The group that says who is in the container: the unified one, else any, as all are joined.
    fn main(&self) -> Option<&Group> {
        self.groups.first()
    }

    fn unified(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.hierarchy.version == Version::V2)
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

/// Which controllers' v1 hierarchies a group with these settings is in.
fn joined(settings: &[Setting]) -> impl Fn(&str) -> bool {
    |controller| ALWAYS.contains(&controller) || settings.iter().any(|setting| setting.controller == controller)
}

#[cfg(test)]
mod tests;
