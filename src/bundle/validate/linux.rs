//! `linux`: namespaces and all that needs one, devices, what is hidden, and the rarer settings.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::process::numbers;
use super::{
    Check, Facts, Namespaces, absolute, bare, is_file_name, mount, path, quoted, refuse, resource, sysctl, text,
};
use crate::oci::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIntelRdt, LinuxMemoryPolicy, LinuxNamespace, LinuxNamespaceType,
    LinuxNetDevice, LinuxSeccomp, LinuxTimeOffset, MemoryPolicyFlagType, MemoryPolicyModeType,
};

/// The largest numbers of a device: a device number has 12 and 20 bits (linux/kdev_t.h); of a larger one the kernel
/// would take the lower bits, and make another device.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

/// The longest name of a network interface: `IFNAMSIZ` of linux/if.h, with the NUL.
const MAX_INTERFACE_NAME: usize = 15;

/// What a root filesystem's propagation may be; runc takes both sorts.
const PROPAGATION: [&str; 8] =
    ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];

pub(super) fn check(linux: &Linux, namespaces: Namespaces<'_>, facts: &Facts<'_>) -> Check {
    user_namespace(linux, namespaces)?;
    time_offsets(linux.time_offsets().as_ref(), namespaces)?;
    cgroups_path(linux.cgroups_path().as_deref(), facts)?;
    if let Some(resources) = linux.resources() {
        resource::check(resources)?;
    }
    if let Some(sysctls) = linux.sysctl() {
        sysctl::check(sysctls, namespaces)?;
    }
    linux.devices().iter().flatten().enumerate().try_for_each(|(i, device)| self::device(device, i))?;
    net_devices(linux.net_devices().as_ref(), namespaces, facts)?;
    hidden(linux, namespaces)?;
    match linux.rootfs_propagation().as_deref() {
        Some(word) if !PROPAGATION.contains(&word) => {
            return refuse("linux.rootfsPropagation", format!("{} is none of {PROPAGATION:?}", quoted(word)));
        }
        _ => {}
    }
    text(linux.mount_label().as_deref().unwrap_or_default(), || "linux.mountLabel".into())?;
    linux.seccomp().as_ref().map_or(Ok(()), seccomp)?;
    linux.intel_rdt().as_ref().map_or(Ok(()), intel_rdt)?;
    linux.memory_policy().as_ref().map_or(Ok(()), memory_policy)
}

pub(super) fn namespaces(list: &[LinuxNamespace]) -> Check {
    let mut seen = HashSet::new();
    for (i, namespace) in list.iter().enumerate() {
        if !seen.insert(namespace.typ()) {
            return refuse(format!("linux.namespaces[{i}].type"), format!("{} is there twice", word(namespace.typ())));
        }
        if let Some(path) = namespace.path() {
            absolute(path, || format!("linux.namespaces[{i}].path"))?;
        }
    }
    Ok(())
}

/// The specification's word, which is not always the kernel's.
fn word(typ: LinuxNamespaceType) -> String {
    match typ {
        LinuxNamespaceType::Mount => "mount".into(),
        LinuxNamespaceType::Network => "network".into(),
        other => other.to_string(),
    }
}

/// Mappings go with a user namespace. containerd and CRI-O give them also with one that is joined.
fn user_namespace(linux: &Linux, namespaces: Namespaces<'_>) -> Check {
    for (field, list) in [("linux.uidMappings", linux.uid_mappings()), ("linux.gidMappings", linux.gid_mappings())] {
        match list {
            Some(_) if !namespaces.has(LinuxNamespaceType::User) => {
                return refuse(field, "needs a user namespace in linux.namespaces");
            }
            Some(list) => {
                mount::mappings(list, field)?;
                // The container is made by its root. runc demands the same.
                if namespaces.makes(LinuxNamespaceType::User) && !mount::maps(list, 0) {
                    return refuse(field, "does not map 0, the container's root");
                }
            }
            None if namespaces.makes(LinuxNamespaceType::User) => {
                return refuse(field, "is missing, and the user namespace is a new one");
            }
            None => {}
        }
    }
    Ok(())
}

fn time_offsets(offsets: Option<&HashMap<String, LinuxTimeOffset>>, namespaces: Namespaces<'_>) -> Check {
    const FIELD: &str = "linux.timeOffsets";
    let Some(offsets) = offsets.filter(|offsets| !offsets.is_empty()) else { return Ok(()) };
    if !namespaces.has(LinuxNamespaceType::Time) {
        return refuse(FIELD, "needs a time namespace in linux.namespaces");
    }
    if !namespaces.makes(LinuxNamespaceType::Time) {
        return refuse(FIELD, "cannot be set for a time namespace that is joined");
    }
    if let Some(clock) = offsets.keys().filter(|clock| *clock != "monotonic" && *clock != "boottime").min() {
        return refuse(format!("{FIELD}.{}", bare(clock)), "is none of the clocks monotonic and boottime");
    }
    for clock in ["boottime", "monotonic"] {
        match offsets.get(clock).and_then(|offset| offset.nanosecs()) {
            Some(nanoseconds) if nanoseconds >= 1_000_000_000 => {
                return refuse(format!("{FIELD}.{clock}.nanosecs"), format!("{nanoseconds} is a second or more"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A path below the hierarchies' mount points, or systemd's three words.
fn cgroups_path(value: Option<&Path>, facts: &Facts<'_>) -> Check {
    const FIELD: &str = "linux.cgroupsPath";
    let Some(value) = value.filter(|value| !value.as_os_str().is_empty()) else { return Ok(()) };
    path(value, || FIELD.into())?;
    let value = value.to_string_lossy();
    if value.split('/').any(|name| name == "..") {
        return refuse(FIELD, format!("{} has \"..\"", quoted(&value)));
    }
    if facts.systemd_cgroup && value.split(':').count() != 3 {
        return refuse(FIELD, format!("{} is not of the form slice:prefix:name", quoted(&value)));
    }
    Ok(())
}

fn device(device: &LinuxDevice, i: usize) -> Check {
    let field = |name: &str| format!("linux.devices[{i}].{name}");
    absolute(device.path(), || field("path"))?;
    if device.typ() == LinuxDeviceType::A {
        return refuse(field("type"), "\"a\" is no device");
    }
    if device.typ() == LinuxDeviceType::P {
        return Ok(());
    }
    for (name, number, most) in [("major", device.major(), MAX_MAJOR), ("minor", device.minor(), MAX_MINOR)] {
        if !(0..=most).contains(&number) {
            return refuse(field(name), format!("{number} is not between 0 and {most}"));
        }
    }
    Ok(())
}

fn net_devices(
    devices: Option<&HashMap<String, LinuxNetDevice>>,
    namespaces: Namespaces<'_>,
    facts: &Facts<'_>,
) -> Check {
    const FIELD: &str = "linux.netDevices";
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else { return Ok(()) };
    if !namespaces.apart(LinuxNamespaceType::Network) {
        return refuse(FIELD, "needs a network namespace of the container's own");
    }
    if facts.rootless {
        return refuse(FIELD, "needs root: the devices are the host's");
    }
    let mut names: Vec<&String> = devices.keys().collect();
    names.sort_unstable();
    let mut inside = HashSet::new();
    for name in names {
        if !is_interface_name(name) {
            return refuse(format!("{FIELD}.{}", bare(name)), "is no name of a network interface");
        }
        let new = devices[name].name().as_ref().filter(|new| !new.is_empty()).unwrap_or(name);
        if !is_interface_name(new) {
            let problem = format!("{} is no name of a network interface", quoted(new));
            return refuse(format!("{FIELD}.{name}.name"), problem);
        }
        // A name with %d stands for the next one that is free.
        if !inside.insert(new) && !new.contains('%') {
            return refuse(format!("{FIELD}.{name}.name"), format!("{new:?} is there twice"));
        }
    }
    Ok(())
}

/// `dev_valid_name` of net/core/dev.c.
pub(super) fn is_interface_name(name: &str) -> bool {
    // isspace() of the kernel; 0xa0 is a space to it, but part of a longer character here.
    let odd = |c: char| c == ':' || c.is_ascii_whitespace() || c == '\u{b}';
    is_file_name(name) && name.len() <= MAX_INTERFACE_NAME && !name.contains(odd)
}

fn hidden(linux: &Linux, namespaces: Namespaces<'_>) -> Check {
    for (field, paths) in [("linux.maskedPaths", linux.masked_paths()), ("linux.readonlyPaths", linux.readonly_paths())]
    {
        let paths = paths.as_deref().unwrap_or_default();
        if !paths.is_empty() && !namespaces.has(LinuxNamespaceType::Mount) {
            return refuse(field, "are the host's: the container has no mount namespace of its own");
        }
        paths.iter().enumerate().try_for_each(|(i, path)| absolute(Path::new(path), || format!("{field}[{i}]")))?;
    }
    Ok(())
}

/// The rules themselves are for the compiler of the filter.
fn seccomp(seccomp: &LinuxSeccomp) -> Check {
    match seccomp.listener_path() {
        Some(socket) => path(socket, || "linux.seccomp.listenerPath".into()),
        None if seccomp.listener_metadata().is_some() => {
            refuse("linux.seccomp.listenerMetadata", "is for a listener, and there is no listenerPath")
        }
        None => Ok(()),
    }
}

/// Names and lines of resctrl's files. `/` is its root, the default group.
fn intel_rdt(rdt: &LinuxIntelRdt) -> Check {
    let field = |name: &str| format!("linux.intelRdt.{name}");
    match rdt.clos_id().as_deref() {
        None | Some("" | "/") => {}
        Some(name) if is_file_name(name) => {}
        Some(name) => return refuse(field("closID"), format!("{} is no name of a group", quoted(name))),
    }
    text(rdt.l3_cache_schema().as_deref().unwrap_or_default(), || field("l3CacheSchema"))?;
    match rdt.mem_bw_schema().as_deref().filter(|line| !line.is_empty()) {
        Some(line) if !line.starts_with("MB:") || line.contains(['\n', '\0']) => {
            return refuse(field("memBwSchema"), format!("{} is no line that begins with \"MB:\"", quoted(line)));
        }
        _ => {}
    }
    let lines = rdt.schemata().iter().flatten();
    match lines.enumerate().find(|(_, line)| line.contains(['\n', '\0'])) {
        Some((i, _)) => refuse(field(&format!("schemata[{i}]")), "is more than a line"),
        None => Ok(()),
    }
}

/// set_mempolicy(2).
fn memory_policy(policy: &LinuxMemoryPolicy) -> Check {
    use MemoryPolicyFlagType as F;
    use MemoryPolicyModeType as M;
    let mode = policy.mode();
    let nodes = numbers(policy.nodes().as_deref().unwrap_or_default(), "linux.memoryPolicy.nodes")?;
    match mode {
        M::MpolDefault | M::MpolLocal if nodes > 0 => {
            return refuse("linux.memoryPolicy.nodes", format!("{mode} has none"));
        }
        M::MpolBind | M::MpolInterleave | M::MpolPreferredMany | M::MpolWeightedInterleave if nodes == 0 => {
            return refuse("linux.memoryPolicy.nodes", format!("is empty, and {mode} needs one"));
        }
        _ => {}
    }
    let has = |flag| policy.flags().iter().flatten().any(|f| *f == flag);
    if has(F::MpolFStaticNodes) && has(F::MpolFRelativeNodes) {
        return refuse("linux.memoryPolicy.flags", "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    if has(F::MpolFNumaBalancing) && !matches!(mode, M::MpolBind | M::MpolPreferredMany) {
        return refuse("linux.memoryPolicy.flags", format!("MPOL_F_NUMA_BALANCING does not go with {mode}"));
    }
    Ok(())
}
