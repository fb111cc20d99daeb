//! Groups that systemd makes: a transient scope for each container (`--systemd-cgroup`).
//!
//! ```text
//! slice:prefix:name ──▶ scope prefix-name.scope in slice ──▶ /sys/fs/cgroup/<slices>/prefix-name.scope
//!                          StartTransientUnit(PIDs, limits)     control files that systemd has no property for
//! ```
//!
//! A scope cannot be without a process, so nothing is made before the first one comes: until then a group has
//! [`Orders`]. systemd's bus is spoken by our own small client ([`wire`], [`bus`]): what is needed are six methods and one
//! signal, and the libraries for it bring threads or an async runtime, or many crates.

mod bus;
mod name;
mod property;
mod text;
mod wire;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use serde::{Deserialize, Serialize};

pub use self::bus::Bus;
use self::bus::{Connection, Refusal};
use self::name::Names;
pub(super) use self::property::rounded;
use self::property::{Property, argument};
use self::wire::Value;
use super::limit::Setting;
use super::{Error, Hierarchies, Version};

/// A container's scope: plain data, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    bus: Bus,
    scope: String,
    slice: String,
    container: String,
    version: Version,
    /// The scope's group below the root of each hierarchy.
    pub(super) group: PathBuf,
}

/// What is to be done when the first process comes.
#[derive(Debug)]
pub(super) struct Orders {
    properties: Vec<Property>,
    pub(super) settings: Vec<Setting>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

impl Unit {
    /// Understands what is wanted, and where systemd will make it.
    pub(super) fn plan(hierarchies: &Hierarchies, bus: &Bus, path: &Path) -> Result<Self, Error> {
        let names = Names::parse(path, bus)?;
        let version = if hierarchies.is_unified() { Version::V2 } else { Version::V1 };
        let base = match bus {
            Bus::System => PathBuf::new(),
            Bus::User { .. } if version == Version::V1 => {
                let reason = "a user's systemd has no groups of cgroup v1 to give".to_owned();
                return Err(Error::Systemd { verb: "start", unit: names.scope, reason });
            }
            // A user's systemd is itself in a group somewhere below the machine's.
            Bus::User { .. } => PathBuf::from(Connection::open(bus)?.property("ControlGroup")?.trim_start_matches('/')),
        };
        let group = base.join(names.group()?);
        let Names { scope, slice, container } = names;
        Ok(Self { bus: bus.clone(), scope, slice, container, version, group })
    }

    /// What the scope will be made with.
    pub(super) fn orders(
        &self,
        resources: &LinuxResources,
        settings: Vec<Setting>,
        annotations: &HashMap<String, String>,
    ) -> Result<Orders, Error> {
        let systemd = self.systemd_version(resources)?;
        let rules = resources.devices().clone().unwrap_or_default();
        let mut properties = property::of_annotations(annotations)?;
        properties.extend(property::oom_policy(resources, systemd));
        properties.extend(property::of_resources(resources, self.version, systemd)?);
        properties.extend(property::of_devices(&rules, self.version)?);
        Ok(Orders { properties, settings, rules })
    }

    /// Whether it is a user's systemd, where only that may move processes.
    pub(super) fn is_of_user(&self) -> bool {
        matches!(self.bus, Bus::User { .. })
    }

    /// Makes the scope around a process. A failed one of the same name, which nobody has cleared away, makes room.
    pub(super) fn start(&self, orders: Orders, pid: i32) -> Result<(Vec<Setting>, Vec<LinuxDeviceCgroup>), Error> {
        let description = format!("wherry container {}", self.container);
        let mut properties = property::of_scope(&description, &self.slice, pid.cast_unsigned(), self.version);
        properties.extend(orders.properties);
        let nothing = Value::Array("(sa(sv))".into(), Vec::new());
        let arguments = [Value::str(&self.scope), Value::str("replace"), argument(properties), nothing];
        let mut connection = Connection::open(&self.bus)?;
        let mut started = connection.job("StartTransientUnit", &arguments)?;
        if started.as_ref().is_err_and(|refusal| refusal.is("UnitExists")) {
            self.reset(&mut connection)?;
            started = connection.job("StartTransientUnit", &arguments)?;
        }
        let reason = match started {
            Ok(result) if result == "done" => return Ok((orders.settings, orders.rules)),
            Ok(result) => format!("its job ended as {result:?}"),
            Err(refusal) if refusal.is("UnitExists") => return Err(Error::UnitExists { unit: self.scope.clone() }),
            Err(refusal) => return Err(refusal.into_error("start", &self.scope)),
        };
        self.reset(&mut connection)?;
        Err(Error::Systemd { verb: "start", unit: self.scope.clone(), reason })
    }

    /// Has systemd move a process into the scope's group, or into one below.
    pub(super) fn attach(&self, below: &Path, pid: i32) -> Result<(), Error> {
        let pids = Value::Array("u".into(), vec![Value::U32(pid.cast_unsigned())]);
        let arguments = [Value::str(&self.scope), Value::Str(format!("/{}", below.display())), pids];
        let done = Connection::open(&self.bus)?.call("AttachProcessesToUnit", &arguments)?;
        done.map(drop).map_err(|refusal| refusal.into_error("put a process into", &self.scope))
    }

    /// Tells systemd of other limits.
    pub(super) fn set(&self, resources: &LinuxResources) -> Result<(), Error> {
        let systemd = self.systemd_version(resources)?;
        let mut properties = property::of_resources(resources, self.version, systemd)?;
        if let Some(rules) = resources.devices().as_deref().filter(|rules| !rules.is_empty()) {
            properties.extend(property::of_devices(rules, self.version)?);
        }
        if properties.is_empty() {
            return Ok(());
        }
        // Only until the next boot, as the scope itself.
        let arguments = [Value::str(&self.scope), Value::Bool(true), argument(properties)];
        let mut connection = Connection::open(&self.bus)?;
        let done = connection.call("SetUnitProperties", &arguments)?;
        done.map_err(|refusal| refusal.into_error("change", &self.scope))?;
        // It answers first and changes groups before it looks at the next message: whoever writes control files after
        // this is not overwritten.
        connection.property("Version").map(drop)
    }

    /// Ends the scope, if it is still there: systemd itself ends one that has become empty.
    pub(super) fn stop(&self) -> Result<(), Error> {
        let mut connection = Connection::open(&self.bus)?;
        match connection.job("StopUnit", &[Value::str(&self.scope), Value::str("replace")])? {
            // Whatever the result, what counts is that the group goes, which the caller sees to.
            Ok(_) => {}
            Err(refusal) if refusal.is("NoSuchUnit") => return Ok(()),
            Err(refusal) => return Err(refusal.into_error("stop", &self.scope)),
        }
        self.reset(&mut connection)
    }

    /// Has systemd forget a scope that failed.
    fn reset(&self, connection: &mut Connection) -> Result<(), Error> {
        match connection.call("ResetFailedUnit", &[Value::str(&self.scope)])? {
            // It has been forgotten already, or is not one that failed.
            Ok(_) | Err(Refusal { .. }) => Ok(()),
        }
    }

    /// systemd's version, if something depends on it.
    fn systemd_version(&self, resources: &LinuxResources) -> Result<Option<u32>, Error> {
        if !property::asks_version(resources) {
            return Ok(None);
        }
        Ok(property::version(&Connection::open(&self.bus)?.property("Version")?))
    }
}

#[cfg(test)]
mod tests;
