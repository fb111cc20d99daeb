//! Which devices a container has and may use.

use std::path::PathBuf;

use super::spec::Intent;
use crate::oci::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

/// A device of the host that a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where, in the container.
    pub path: PathBuf,
    /// Whether it is one of blocks, and not of characters.
    pub block: bool,
    /// The number of its driver.
    pub major: u32,
    /// Its number among those of the driver.
    pub minor: u32,
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What may be done: some of `rwm`.
    pub access: String,
}

/// A rule for devices that need not be there: `c 13:* rw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Devices of blocks or of characters; of both, if not said.
    pub block: Option<bool>,
    /// The number of the driver; all, if not said.
    pub major: Option<u32>,
    /// The number among those of the driver; all, if not said.
    pub minor: Option<u32>,
    /// What may be done: some of `rwm`.
    pub access: String,
}

/// The nodes to be made.
pub(super) fn nodes(intent: &Intent) -> Vec<LinuxDevice> {
    let node = |device: &Device| {
        let kind = if device.block { LinuxDeviceType::B } else { LinuxDeviceType::C };
        let builder = LinuxDeviceBuilder::default().path(device.path.clone()).typ(kind);
        let builder = builder.major(device.major).minor(device.minor);
        builder.file_mode(device.mode).uid(device.uid).gid(device.gid).build().expect("complete")
    };
    intent.devices.iter().map(node).collect()
}

/// Docker's rules: nothing but making nodes, and the harmless devices; then what was asked for. All, if privileged.
pub(super) fn rules(intent: &Intent) -> Vec<LinuxDeviceCgroup> {
    if intent.privileged {
        return vec![rule(true, LinuxDeviceType::A, (None, None), "rwm")];
    }
    const CHARACTERS: [(i64, i64); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, (None, None), "rwm"),
        rule(true, LinuxDeviceType::C, (None, None), "m"),
        rule(true, LinuxDeviceType::B, (None, None), "m"),
        rule(true, LinuxDeviceType::C, (Some(136), None), "rwm"),
    ];
    let harmless = |(major, minor)| rule(true, LinuxDeviceType::C, (Some(major), Some(minor)), "rwm");
    rules.extend(CHARACTERS.map(harmless));
    let kind = |block| if block { LinuxDeviceType::B } else { LinuxDeviceType::C };
    rules.extend(intent.devices.iter().map(|device| {
        let number = (Some(device.major.into()), Some(device.minor.into()));
        rule(true, kind(device.block), number, &device.access)
    }));
    rules.extend(intent.device_rules.iter().map(|asked| {
        let number = (asked.major.map(Into::into), asked.minor.map(Into::into));
        rule(true, asked.block.map_or(LinuxDeviceType::A, kind), number, &asked.access)
    }));
    rules
}

fn rule(allow: bool, typ: LinuxDeviceType, node: (Option<i64>, Option<i64>), access: &str) -> LinuxDeviceCgroup {
    let builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ).access(access);
    let mut rule = builder.build().expect("complete");
    rule.set_major(node.0).set_minor(node.1);
    rule
}
