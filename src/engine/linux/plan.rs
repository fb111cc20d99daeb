//! What the init stage will do, decided from the specification before there is a child: the child then
//! only performs. What this engine does not do is refused here, by field.

use std::ffi::CString;
use std::path::PathBuf;

use super::mounts::{Context, Step, User};
use super::seccomp::{self, Family, Filter};
use super::{Error, Request};
use crate::oci::capability_number;
use crate::oci::runtime::{Capabilities, LinuxIdMapping, LinuxNamespaceType, PosixRlimitType, Process, Spec};
use crate::sys::caps::Set;

pub(super) struct Plan {
    pub namespaces: Namespaces,
    pub rootfs: PathBuf,
    pub readonly_root: bool,
    pub mounts: Vec<Step>,
    pub masked: Vec<PathBuf>,
    pub readonly: Vec<PathBuf>,
    pub sysctls: Vec<(String, String)>,
    pub hostname: Option<String>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: u32,
    pub caps: Caps,
    pub no_new_privileges: bool,
    pub filter: Option<Filter>,
    pub rlimits: Vec<(PosixRlimitType, u64, u64)>,
    pub oom_score_adj: Option<i32>,
    pub cwd: PathBuf,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
}

/// The namespaces that are made for the container.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Namespaces {
    /// `CLONE_NEW*` of those made at the clone.
    pub at_clone: u64,
    /// Whether there is a network namespace, whose loopback has to be brought up.
    pub network: bool,
    /// Whether there is a cgroup namespace. It is made after the process has entered its cgroup, which
    /// becomes the namespace's root.
    pub cgroup: bool,
}

/// The five capability sets.
#[derive(Clone, Copy, Default)]
pub(super) struct Caps {
    pub bounding: Set,
    pub effective: Set,
    pub permitted: Set,
    pub inheritable: Set,
    pub ambient: Set,
}

impl Plan {
    pub fn new(request: &Request<'_>) -> Result<Self, Error> {
        let spec = request.bundle.spec();
        let process = spec.process().as_ref().ok_or_else(|| unsupported("process", "is missing"))?;
        let linux = spec.linux().clone().unwrap_or_default();
        refuse_unknown(spec)?;
        Ok(Self {
            namespaces: namespaces(spec)?,
            rootfs: request.bundle.rootfs(),
            readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            mounts: mounts(request)?,
            masked: linux.masked_paths().iter().flatten().map(PathBuf::from).collect(),
            readonly: linux.readonly_paths().iter().flatten().map(PathBuf::from).collect(),
            sysctls: linux.sysctl().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            hostname: spec.hostname().clone(),
            uid: process.user().uid(),
            gid: process.user().gid(),
            groups: process.user().additional_gids().clone().unwrap_or_default(),
            umask: process.user().umask().unwrap_or(0o022),
            caps: caps(process),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter: filter(spec)?,
            rlimits: process.rlimits().iter().flatten().map(|r| (r.typ(), r.soft(), r.hard())).collect(),
            oom_score_adj: process.oom_score_adj(),
            cwd: process.cwd().clone(),
            args: c_strings("process.args", process.args().iter().flatten())?,
            env: c_strings("process.env", process.env().iter().flatten())?,
        })
    }

    pub fn clone_flags(&self) -> u64 {
        self.namespaces.at_clone
    }
}

fn mounts(request: &Request<'_>) -> Result<Vec<Step>, Error> {
    let (spec, rootfs) = (request.bundle.spec(), request.bundle.rootfs());
    let linux = spec.linux().as_ref();
    let namespace = |typ| linux?.namespaces().iter().flatten().find(|namespace| namespace.typ() == typ);
    let maps = |maps: &'_ Option<Vec<LinuxIdMapping>>| maps.as_deref().unwrap_or_default().to_vec();
    let (users, groups) = linux.map(|l| (maps(l.uid_mappings()), maps(l.gid_mappings()))).unwrap_or_default();
    let context = Context {
        bundle: request.bundle.directory(),
        rootfs: &rootfs,
        label: None,
        user: match namespace(LinuxNamespaceType::User).map(|user| user.path().as_deref()) {
            None => User::Ours,
            Some(None) => User::New { users: &users, groups: &groups },
            Some(Some(path)) => User::Joined(path),
        },
        cgroup_namespace: namespace(LinuxNamespaceType::Cgroup).is_some(),
        receives: false,
    };
    spec.mounts().iter().flatten().map(|mount| Step::parse(mount, &context)).collect()
}

fn unsupported(field: &'static str, problem: impl Into<String>) -> Error {
    Error::Unsupported { field, problem: problem.into() }
}

/// A field that changes what a container is must not be passed over in silence.
fn refuse_unknown(spec: &Spec) -> Result<(), Error> {
    let linux = spec.linux().clone().unwrap_or_default();
    let process = spec.process().clone().unwrap_or_default();
    let present = [
        ("hooks", spec.hooks().is_some()),
        ("linux.uidMappings", linux.uid_mappings().is_some()),
        ("linux.gidMappings", linux.gid_mappings().is_some()),
        ("linux.devices", linux.devices().as_ref().is_some_and(|d| !d.is_empty())),
        ("linux.rootfsPropagation", linux.rootfs_propagation().is_some()),
        ("linux.mountLabel", linux.mount_label().is_some()),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.netDevices", linux.net_devices().is_some()),
        ("process.apparmorProfile", process.apparmor_profile().is_some()),
        ("process.selinuxLabel", process.selinux_label().is_some()),
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
    ];
    match present.iter().find(|(_, present)| *present) {
        Some((field, _)) => Err(unsupported(field, "is not offered by this version")),
        None => Ok(()),
    }
}

fn namespaces(spec: &Spec) -> Result<Namespaces, Error> {
    let mut namespaces = Namespaces::default();
    for namespace in spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten()) {
        if namespace.path().is_some() {
            return Err(unsupported("linux.namespaces", "joining one by its path is not offered by this version"));
        }
        match namespace.typ() {
            LinuxNamespaceType::Cgroup => namespaces.cgroup = true,
            LinuxNamespaceType::User | LinuxNamespaceType::Time => {
                let problem = format!("{:?} namespaces are not offered by this version", namespace.typ());
                return Err(unsupported("linux.namespaces", problem));
            }
            LinuxNamespaceType::Mount => namespaces.at_clone |= libc_flags::NEWNS,
            LinuxNamespaceType::Uts => namespaces.at_clone |= libc_flags::NEWUTS,
            LinuxNamespaceType::Ipc => namespaces.at_clone |= libc_flags::NEWIPC,
            LinuxNamespaceType::Pid => namespaces.at_clone |= libc_flags::NEWPID,
            LinuxNamespaceType::Network => {
                namespaces.at_clone |= libc_flags::NEWNET;
                namespaces.network = true;
            }
        }
    }
    if namespaces.at_clone & libc_flags::NEWNS == 0 {
        return Err(unsupported("linux.namespaces", "has no mount namespace, without which there is no container"));
    }
    Ok(namespaces)
}

/// linux/sched.h
mod libc_flags {
    pub const NEWNS: u64 = 0x0002_0000;
    pub const NEWUTS: u64 = 0x0400_0000;
    pub const NEWIPC: u64 = 0x0800_0000;
    pub const NEWPID: u64 = 0x2000_0000;
    pub const NEWNET: u64 = 0x4000_0000;
}

fn caps(process: &Process) -> Caps {
    let Some(caps) = process.capabilities() else { return Caps::default() };
    let set = |names: &Option<Capabilities>| {
        Set(names.iter().flatten().fold(0, |bits, capability| bits | 1 << capability_number(*capability)))
    };
    Caps {
        bounding: set(caps.bounding()),
        effective: set(caps.effective()),
        permitted: set(caps.permitted()),
        inheritable: set(caps.inheritable()),
        ambient: set(caps.ambient()),
    }
}

fn filter(spec: &Spec) -> Result<Option<Filter>, Error> {
    let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
    let family =
        Family::native().ok_or_else(|| unsupported("linux.seccomp", "there are no tables for this processor"))?;
    Ok(Some(seccomp::compile(profile, family)?))
}

fn c_strings<'a>(field: &'static str, strings: impl Iterator<Item = &'a String>) -> Result<Vec<CString>, Error> {
    strings.map(|s| CString::new(s.as_str()).map_err(|_| unsupported(field, "holds a NUL byte"))).collect()
}
