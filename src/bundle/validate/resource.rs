//! `linux.resources`: what no version of cgroups can express. What one of them cannot is for the cgroup room, which
//! knows the machine's.

use std::collections::HashMap;

use super::linux::is_interface_name;
use super::{Check, bare, is_file_name, quoted, refuse, text};
use crate::oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxNetwork,
    LinuxRdma, LinuxResources,
};

/// `MAX_SWAPPINESS` of linux/swap.h.
const MAX_SWAPPINESS: u64 = 200;

pub(super) fn check(resources: &LinuxResources) -> Check {
    resources.devices().iter().flatten().enumerate().try_for_each(|(i, rule)| device(rule, i))?;
    resources.memory().as_ref().map_or(Ok(()), memory)?;
    resources.cpu().as_ref().map_or(Ok(()), cpu)?;
    resources.block_io().as_ref().map_or(Ok(()), block_io)?;
    resources.hugepage_limits().iter().flatten().enumerate().try_for_each(|(i, limit)| huge_pages(limit, i))?;
    resources.network().as_ref().map_or(Ok(()), network)?;
    resources.rdma().as_ref().map_or(Ok(()), rdma)?;
    resources.unified().as_ref().map_or(Ok(()), unified)
}

fn field(name: &str) -> String {
    format!("linux.resources.{name}")
}

fn device(rule: &LinuxDeviceCgroup, i: usize) -> Check {
    let field = |name: &str| field(&format!("devices[{i}].{name}"));
    if let Some(LinuxDeviceType::U | LinuxDeviceType::P) = rule.typ() {
        return refuse(field("type"), "is none of \"a\", \"b\" and \"c\"");
    }
    for (name, number) in [("major", rule.major()), ("minor", rule.minor())] {
        match number {
            Some(number) if number < -1 => {
                return refuse(field(name), format!("{number} is neither a number nor -1, for all"));
            }
            _ => {}
        }
    }
    match rule.access().as_deref() {
        None | Some("") => refuse(field("access"), "is empty"),
        Some(access) if access.chars().all(|c| "rwm".contains(c)) => Ok(()),
        Some(access) => refuse(field("access"), format!("{} is not made of r, w and m", quoted(access))),
    }
}

fn memory(memory: &LinuxMemory) -> Check {
    let limits = [
        ("limit", memory.limit()),
        ("reservation", memory.reservation()),
        ("swap", memory.swap()),
        ("kernelTCP", memory.kernel_tcp()),
    ];
    for (name, limit) in limits {
        if let Some(bytes) = limit.filter(|bytes| *bytes < -1) {
            return refuse(field(&format!("memory.{name}")), format!("{bytes} is neither a size nor -1, for no limit"));
        }
    }
    match memory.swappiness() {
        Some(value) if value > MAX_SWAPPINESS => {
            refuse(field("memory.swappiness"), format!("{value} is more than {MAX_SWAPPINESS}"))
        }
        _ => Ok(()),
    }
}

fn cpu(cpu: &LinuxCpu) -> Check {
    text(cpu.cpus().as_deref().unwrap_or_default(), || field("cpu.cpus"))?;
    text(cpu.mems().as_deref().unwrap_or_default(), || field("cpu.mems"))?;
    match cpu.idle() {
        Some(idle) if idle != 0 && idle != 1 => return refuse(field("cpu.idle"), format!("{idle} is neither 0 nor 1")),
        _ => {}
    }
    let positive = |limit: Option<i64>| limit.filter(|limit| *limit > 0).map(i64::cast_unsigned);
    match (cpu.burst(), positive(cpu.quota())) {
        (Some(burst), Some(quota)) if burst > quota => {
            return refuse(field("cpu.burst"), format!("{burst} is more than the quota, {quota}"));
        }
        _ => {}
    }
    match (positive(cpu.realtime_runtime()), cpu.realtime_period()) {
        (Some(runtime), Some(period)) if period != 0 && runtime > period => {
            refuse(field("cpu.realtimeRuntime"), format!("{runtime} is more than the period, {period}"))
        }
        _ => Ok(()),
    }
}

fn block_io(io: &LinuxBlockIo) -> Check {
    for (i, device) in io.weight_device().iter().flatten().enumerate() {
        let name = format!("blockIO.weightDevice[{i}]");
        node(&name, device.major(), device.minor())?;
        if device.weight().is_none() && device.leaf_weight().is_none() {
            return refuse(field(&name), "has neither weight nor leafWeight");
        }
    }
    let throttles = [
        ("throttleReadBpsDevice", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", io.throttle_write_iops_device()),
    ];
    for (name, list) in throttles {
        for (i, device) in list.iter().flatten().enumerate() {
            node(&format!("blockIO.{name}[{i}]"), device.major(), device.minor())?;
        }
    }
    Ok(())
}

fn node(name: &str, major: i64, minor: i64) -> Check {
    for (part, number) in [("major", major), ("minor", minor)] {
        if number < 0 {
            return refuse(field(&format!("{name}.{part}")), format!("{number} is negative"));
        }
    }
    Ok(())
}

/// `2MB`: as the kernel names the files of the sizes it has (config-schema.json).
fn huge_pages(limit: &LinuxHugepageLimit, i: usize) -> Check {
    let size = limit.page_size();
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit)).unwrap_or_default();
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let problem = format!("{} is no size such as 2MB", quoted(size));
        return refuse(field(&format!("hugepageLimits[{i}].pageSize")), problem);
    }
    match limit.limit() {
        bytes if bytes < 0 => refuse(field(&format!("hugepageLimits[{i}].limit")), format!("{bytes} is negative")),
        _ => Ok(()),
    }
}

fn network(network: &LinuxNetwork) -> Check {
    for (i, priority) in network.priorities().iter().flatten().enumerate() {
        if !is_interface_name(priority.name()) {
            let problem = format!("{} is no name of a network interface", quoted(priority.name()));
            return refuse(field(&format!("network.priorities[{i}].name")), problem);
        }
    }
    Ok(())
}

fn rdma(devices: &HashMap<String, LinuxRdma>) -> Check {
    let mut names: Vec<&String> = devices.keys().collect();
    names.sort_unstable();
    for name in names {
        let field = field(&format!("rdma.{}", bare(name)));
        if !is_file_name(name) || name.contains(char::is_whitespace) {
            return refuse(field, "is no name of a device");
        }
        if devices[name].hca_handles().is_none() && devices[name].hca_objects().is_none() {
            return refuse(field, "has neither hcaHandles nor hcaObjects");
        }
    }
    Ok(())
}

/// Files of the container's own cgroup directory, and of no other.
fn unified(files: &HashMap<String, String>) -> Check {
    match files.keys().filter(|name| !is_file_name(name)).min() {
        Some(name) => refuse(field(&format!("unified.{}", bare(name))), "is no name of a file in a cgroup"),
        None => Ok(()),
    }
}
