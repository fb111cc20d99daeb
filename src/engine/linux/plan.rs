//! What the init stage will do, decided from the specification before there is a child: the child then
//! only performs. What this engine does not do is refused here, by field.

use std::path::PathBuf;

use rustix::mount::MountPropagationFlags;

use super::device::Devices;
use super::hook::Hooks;
use super::label;
use super::mounts::{Context, Step, User};
use super::namespace::Namespaces;
use super::netdevice::NetDevices;
use super::process::{ProcessPlan, unsupported};
use super::sysctl::{Own, Sysctls};
use super::{About, Error, Request, Stdio};
use crate::engine::{is_bind, is_granted};
use crate::oci::runtime::{ContainerState, Linux, LinuxIdMapping, LinuxNamespaceType, Mount, Process, State};
use crate::sys::process::ns;

pub(super) struct Plan {
    pub namespaces: Namespaces,
    pub rootfs: PathBuf,
    pub readonly_root: bool,
    pub propagation: MountPropagationFlags,
    pub mounts: Vec<Step>,
    pub label: Option<String>,
    pub masked: Vec<PathBuf>,
    pub readonly: Vec<PathBuf>,
    pub devices: Devices,
    pub net_devices: NetDevices,
    pub sysctls: Sysctls,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub hooks: Hooks,
    /// Who the hooks are told about.
    pub about: State,
    /// Whether the maker has hooks to run once the mounts are made.
    pub asks_for_hooks: bool,
    pub process: ProcessPlan,
    /// Whether a Wasm program will run: its root filesystem is empty but for the binds.
    pub hosts_wasm: bool,
}

impl Plan {
    pub fn new(request: &Request<'_>) -> Result<Self, Error> {
        let spec = request.bundle.spec();
        let about = About { id: request.id, bundle: request.bundle.directory(), spec };
        let process = spec.process().clone().unwrap_or_else(no_process);
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = Namespaces::read(spec)?;
        let propagation = propagation(linux.rootfs_propagation().as_deref())?;
        let hosts_wasm = request.wasm.is_some();
        let paths = |paths: &Option<Vec<String>>| match paths {
            Some(paths) if !hosts_wasm => paths.iter().map(PathBuf::from).collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            rootfs: request.bundle.rootfs(),
            readonly_root: hosts_wasm || spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            propagation,
            mounts: mounts(request, receives(propagation))?,
            label: label(&linux).map(str::to_owned),
            masked: paths(linux.masked_paths()),
            readonly: paths(linux.readonly_paths()),
            devices: Devices::plan(&linux)?,
            net_devices: NetDevices::plan(linux.net_devices().as_ref(), namespaces.has(ns::NETWORK))?,
            sysctls: Sysctls::plan(linux.sysctl().as_ref(), Own::look(&linux))?,
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
            hooks: Hooks::plan(spec.hooks().as_ref())?,
            about: about.state(ContainerState::Creating, None),
            asks_for_hooks: false,
            process: ProcessPlan::new(&process, spec, hosts_wasm)?,
            namespaces,
            hosts_wasm,
        })
    }
}

/// What is made of a container that has no program yet: only its start is refused (runtime-spec config.md, "Process").
fn no_process() -> Process {
    let mut process = Process::default();
    process.set_args(None).set_env(None).set_capabilities(None).set_rlimits(None);
    process
}

fn mounts(request: &Request<'_>, receives: bool) -> Result<Vec<Step>, Error> {
    let (spec, rootfs) = (request.bundle.spec(), request.bundle.rootfs());
    let linux = spec.linux().as_ref();
    let namespace = |typ| linux?.namespaces().iter().flatten().find(|namespace| namespace.typ() == typ);
    let maps = |maps: &'_ Option<Vec<LinuxIdMapping>>| maps.as_deref().unwrap_or_default().to_vec();
    let (users, groups) = linux.map(|l| (maps(l.uid_mappings()), maps(l.gid_mappings()))).unwrap_or_default();
    let context = Context {
        bundle: request.bundle.directory(),
        rootfs: &rootfs,
        label: linux.and_then(label),
        user: match namespace(LinuxNamespaceType::User).map(|user| user.path().as_deref()) {
            None => User::Ours,
            Some(None) => User::New { users: &users, groups: &groups },
            Some(Some(path)) => User::Joined(path),
        },
        cgroup_namespace: namespace(LinuxNamespaceType::Cgroup).is_some(),
        receives,
    };
    let wanted = |mount: &&Mount| request.wasm.is_none() || is_for_wasm(mount, request);
    spec.mounts().iter().flatten().filter(wanted).map(|mount| Step::parse(mount, &context)).collect()
}

/// Whether a program that sees nothing but its binds needs this mount: a terminal is made in a devpts.
fn is_for_wasm(mount: &Mount, request: &Request<'_>) -> bool {
    match mount.typ().as_deref() {
        Some("devpts") => matches!(request.stdio, Stdio::Terminal(_)),
        _ => is_bind(mount) && is_granted(mount),
    }
}

/// The label of the container's files. Without SELinux a filesystem takes none.
fn label(linux: &Linux) -> Option<&str> {
    linux.mount_label().as_deref().filter(|label| !label.is_empty() && label::selinux_is_on())
}

/// Whether what is mounted on the host later is to be seen in the container.
pub(super) fn receives(propagation: MountPropagationFlags) -> bool {
    propagation.intersects(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::SHARED)
}

/// How mounts that come and go in the container's root, and in the host's directory behind it, are seen on the
/// other side; on neither by default.
fn propagation(name: Option<&str>) -> Result<MountPropagationFlags, Error> {
    use MountPropagationFlags as P;
    Ok(match name.unwrap_or("") {
        "" | "private" => P::PRIVATE,
        "rprivate" => P::PRIVATE | P::REC,
        "shared" => P::SHARED,
        "rshared" => P::SHARED | P::REC,
        "slave" => P::DOWNSTREAM,
        "rslave" => P::DOWNSTREAM | P::REC,
        "unbindable" => P::UNBINDABLE,
        "runbindable" => P::UNBINDABLE | P::REC,
        other => return Err(unsupported("linux.rootfsPropagation", format!("is {other:?}, which is no propagation"))),
    })
}
