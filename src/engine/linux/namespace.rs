//! The namespaces of a container: which are made with it, which are joined by their paths, and in what order.
//!
//! ```text
//!  parent                                    child
//!  join what it may of net, ipc, uts, pid,
//!    time, cgroup; make time                 (born in them)
//!  clone3(CLONE_NEW…)                        born in the new ones
//!  go back to its own
//!                                            join the user namespace; then what the parent was refused;
//!                                            then the mount namespace
//! ```
//!
//! The parent joins, because a namespace of the host can be entered only with rights over it, and a child that is
//! born into a new user namespace has none left. What the parent may not enter belongs to the user namespace
//! that the child joins, and has to wait for that. The parent has one thread, so that nobody else is moved.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Error;
use super::time::TimeOffsets;
use crate::oci::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};
use crate::sys::process::{enter, ns};
use crate::sys::time::ForChildren;
use crate::sys::{self, named};

/// What the specification says about namespaces, understood.
#[derive(Default)]
pub(super) struct Namespaces {
    /// `ns::*` of those that are made at the clone.
    pub at_clone: u64,
    /// Whether a network namespace is made, whose loopback has to be brought up.
    pub network: bool,
    /// Whether a cgroup namespace is made. It is, once the process is in its cgroup: that becomes its root.
    pub cgroup: bool,
    /// Whether a time namespace is made, which only children of who makes it are in.
    pub time: bool,
    /// Those that are joined.
    pub join: Vec<Join>,
    /// The ids of a user namespace that is made.
    pub user: Option<Maps>,
    /// The clocks of a time namespace that is made.
    pub clocks: TimeOffsets,
}

/// One namespace that is joined.
pub(super) struct Join {
    pub flag: u64,
    path: PathBuf,
    fd: OwnedFd,
}

/// How users and groups of a new user namespace are users and groups outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Users.
    pub users: Vec<LinuxIdMapping>,
    /// Groups.
    pub groups: Vec<LinuxIdMapping>,
}

/// The flag and the name below `/proc/PID/ns` of a type.
pub(super) fn flag(typ: LinuxNamespaceType) -> (u64, &'static str) {
    match typ {
        LinuxNamespaceType::Mount => (ns::MOUNT, "mnt"),
        LinuxNamespaceType::Cgroup => (ns::CGROUP, "cgroup"),
        LinuxNamespaceType::Uts => (ns::UTS, "uts"),
        LinuxNamespaceType::Ipc => (ns::IPC, "ipc"),
        LinuxNamespaceType::User => (ns::USER, "user"),
        LinuxNamespaceType::Pid => (ns::PID, "pid"),
        LinuxNamespaceType::Network => (ns::NETWORK, "net"),
        LinuxNamespaceType::Time => (ns::TIME, "time"),
    }
}

/// Whether `path` is the namespace of this type that we are in ourselves; `None` when that cannot be told.
pub fn is_ours(typ: LinuxNamespaceType, path: &Path) -> Option<bool> {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    Some(id(path)? == id(&Path::new("/proc/self/ns").join(flag(typ).1))?)
}

impl Namespaces {
    pub fn read(spec: &Spec) -> Result<Self, Error> {
        let mut found = Self::default();
        let linux = spec.linux().as_ref();
        for namespace in linux.iter().flat_map(|linux| linux.namespaces().iter().flatten()) {
            match namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) => found.join.push(Join::open(namespace.typ(), path)?),
                None => found.make(namespace.typ()),
            }
        }
        if !found.has(ns::MOUNT) {
            let problem = "has no mount namespace, without which the container's mounts would be the host's".into();
            return Err(Error::Unsupported { field: "linux.namespaces", problem });
        }
        if let Some(linux) = linux {
            let maps = |maps: &Option<Vec<LinuxIdMapping>>| maps.clone().unwrap_or_default();
            found.user = (found.at_clone & ns::USER != 0)
                .then(|| Maps { users: maps(linux.uid_mappings()), groups: maps(linux.gid_mappings()) });
            found.clocks = TimeOffsets::plan(linux.time_offsets().as_ref(), found.time)?;
        }
        Ok(found)
    }

    fn make(&mut self, typ: LinuxNamespaceType) {
        match typ {
            LinuxNamespaceType::Cgroup => self.cgroup = true,
            LinuxNamespaceType::Time => self.time = true,
            typ => self.at_clone |= flag(typ).0,
        }
        self.network |= typ == LinuxNamespaceType::Network;
    }

    /// Whether the container is in another namespace of this type than we are.
    pub fn has(&self, flag: u64) -> bool {
        let made = self.at_clone & flag != 0 || (flag == ns::CGROUP && self.cgroup) || (flag == ns::TIME && self.time);
        made || self.joins(flag)
    }

    /// Whether one of this type is joined.
    pub fn joins(&self, flag: u64) -> bool {
        self.join.iter().any(|join| join.flag == flag)
    }

    /// Whether the container's users are not the host's: by a new user namespace, or one that is joined.
    pub fn users_differ(&self) -> bool {
        self.has(ns::USER)
    }

    /// Whether processes that are there already may see the new one.
    pub fn has_company(&self) -> bool {
        self.at_clone & ns::PID == 0
    }

    /// Enters, in the parent, what the child is to be born in.
    pub fn enter_before_clone(&mut self) -> Result<Away, Error> {
        let mut away = Away::nowhere();
        let own = std::mem::take(&mut self.join);
        let (later, now): (Vec<Join>, Vec<Join>) = own.into_iter().partition(|j| j.flag & (ns::USER | ns::MOUNT) != 0);
        self.join = later;
        for join in now {
            match away.enter(&join) {
                Ok(()) => {}
                // It belongs to the user namespace that the child enters first.
                Err(error) if error.errno() == Some(Errno::PERM.raw_os_error()) && self.has(ns::USER) => {
                    self.join.push(join);
                }
                Err(source) => return Err(away.back_after(join.failed(source))),
            }
        }
        if self.time {
            match self.clocks.apply() {
                Ok(clocks) => away.clocks = Some(clocks),
                Err(source) => return Err(away.back_after(Error::Sys { what: "make a time namespace", source })),
            }
        }
        Ok(away)
    }

    /// Enters, in the child, what the parent could not: the user namespace first, as it gives the rights over the
    /// others, and the mount namespace last, as the others' files are in the one of before.
    pub fn enter_in_child(&self) -> Result<(), (PathBuf, sys::Error)> {
        let rank = |join: &&Join| match join.flag {
            ns::USER => 0,
            ns::MOUNT => 2,
            _ => 1,
        };
        let mut joins: Vec<&Join> = self.join.iter().collect();
        joins.sort_by_key(rank);
        joins
            .into_iter()
            .try_for_each(|join| enter(join.fd.as_fd(), join.flag).map_err(|source| (join.path.clone(), source)))
    }
}

impl Join {
    fn open(typ: LinuxNamespaceType, path: &Path) -> Result<Self, Error> {
        // What is there may be a FIFO, whose other end nobody opens.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let opened = named(opened, || format!("open({path:?})"));
        let what = || format!("join the {} namespace {}", flag(typ).1, path.display());
        let fd = opened.map_err(|source| Error::Setup { what: what(), source })?;
        Ok(Self { flag: flag(typ).0, path: path.to_owned(), fd })
    }

    fn failed(&self, source: sys::Error) -> Error {
        Error::Setup { what: format!("join the namespace {}", self.path.display()), source }
    }
}

/// A process that is in other namespaces than its own for a while, and the way back.
pub(super) struct Away {
    home: Vec<(u64, OwnedFd)>,
    clocks: Option<ForChildren>,
}

impl Away {
    /// In none but its own.
    pub fn nowhere() -> Self {
        Self { home: Vec::new(), clocks: None }
    }

    fn enter(&mut self, join: &Join) -> sys::Result<()> {
        self.enter_fd(join.fd.as_fd(), join.flag)
    }

    /// Enters the namespace `flag` of `fd`.
    pub fn enter_fd(&mut self, fd: std::os::fd::BorrowedFd<'_>, flag: u64) -> sys::Result<()> {
        let name = match flag {
            ns::PID => "pid_for_children",
            ns::TIME => "time_for_children",
            ns::UTS => "uts",
            ns::IPC => "ipc",
            ns::CGROUP => "cgroup",
            _ => "net",
        };
        self.remember(flag, name)?;
        enter(fd, flag)
    }

    fn remember(&mut self, flag: u64, name: &str) -> sys::Result<()> {
        let path = format!("/proc/self/ns/{name}");
        let own = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        self.home.push((flag, named(own, || format!("open({path:?})"))?));
        Ok(())
    }

    /// Back home.
    pub fn back(self) -> Result<(), Error> {
        let returned = self.clocks.map_or(Ok(()), ForChildren::end);
        let returned = returned.and(self.home.into_iter().rev().try_for_each(|(flag, fd)| enter(fd.as_fd(), flag)));
        returned.map_err(|source| Error::Sys { what: "return to our own namespaces", source })
    }

    /// Back home, unless home is not ours: in a user namespace of an ordinary user a supervisor may put its children into
    /// the container's namespaces, and not into the host's again. All that it will have are of that container.
    pub fn back_if_possible(self) -> Result<(), Error> {
        match self.back() {
            Err(Error::Sys { source, .. }) if source.errno() == Some(libc::EPERM) => Ok(()),
            other => other,
        }
    }

    /// Back home after a failure, which is the one to report.
    fn back_after(&mut self, error: Error) -> Error {
        match std::mem::replace(self, Self::nowhere()).back() {
            Ok(()) => error,
            Err(worse) => worse,
        }
    }
}
