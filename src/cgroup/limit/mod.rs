//! The runtime spec's `linux.resources` as writes to control files: pure, but for the writing itself.
//!
//! Where v1 and v2 differ in meaning, not only in a file's name, v2 gets what runc and crun give it: swap is counted
//! without memory, shares become weights, `-1` becomes `max`. What one of the two cannot express is an error with the
//! field's name, never ignored; the exceptions are `kernel`, `kernelTCP` and `useHierarchy`, which current kernels
//! and the spec itself have retired, and which runc ignores too.

mod cpu;
mod io;
mod memory;

use std::borrow::Cow;

use oci_spec::runtime::LinuxResources;

pub(super) use self::cpu::weight_of_shares;
pub(super) use self::memory::swap_v2;
use super::group::Group;
use super::{Cgroup, Error, Hierarchies, Version, file, refused};
use crate::sys;

/// What to do where the kernel has none of a setting's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Fail,
    /// The kernel's default is what was asked for, or another setting covers it.
    Skip,
}

/// A control file and what goes into it.
type Spelling = (Cow<'static, str>, String);

/// One value for one control file: of several spellings the first whose file is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Cow<'static, str>,
    field: String,
    spellings: Vec<Spelling>,
    missing: Missing,
}

impl Setting {
    /// The error of a machine without the setting's controller.
    pub(super) fn no_controller(&self) -> Error {
        Error::NoController { field: self.field.clone(), controller: self.controller.to_string() }
    }

    /// Writes the value.
    fn apply(&self, group: &Group) -> Result<(), Error> {
        for (name, value) in &self.spellings {
            match group.write(name, value) {
                Err(error) if file::is_missing(&error) => {}
                Err(source) => return Err(self.failed(group, value, source)),
                Ok(()) => return Ok(()),
            }
        }
        if self.missing == Missing::Skip { Ok(()) } else { Err(self.no_file()) }
    }

    fn failed(&self, group: &Group, value: &str, source: sys::Error) -> Error {
        let limit = |_, source| Error::Limit { field: self.field.clone(), value: value.to_owned(), source };
        refused(&group.dir, source, limit)
    }

    fn no_file(&self) -> Error {
        let names: Vec<&str> = self.spellings.iter().map(|(name, _)| &**name).collect();
        let (field, controller) = (self.field.clone(), self.controller.to_string());
        Error::NoFile { field, controller, file: names.join(" or ") }
    }
}

/// Writes all settings. Some bound each other (memory and memory with swap, quota and burst) so that the right
/// order depends on the values before: what the kernel calls invalid is tried once more after the others.
pub(super) fn apply(cgroup: &Cgroup, settings: &[Setting]) -> Result<(), Error> {
    let mut again = Vec::new();
    for setting in settings {
        let group = cgroup.group_of(&setting.controller).ok_or_else(|| setting.no_controller())?;
        match setting.apply(group) {
            Err(Error::Limit { source, .. }) if source.errno() == Some(libc::EINVAL) => again.push((setting, group)),
            other => other?,
        }
    }
    again.into_iter().try_for_each(|(setting, group)| setting.apply(group))
}

/// Collects the settings of one `linux.resources`.
struct Plan<'a> {
    hierarchies: &'a Hierarchies,
    settings: Vec<Setting>,
}

/// The writes that `resources` mean on this machine.
pub(super) fn plan(resources: &LinuxResources, hierarchies: &Hierarchies) -> Result<Vec<Setting>, Error> {
    let mut plan = Plan { hierarchies, settings: Vec::new() };
    if let Some(memory) = resources.memory() {
        plan.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        plan.cpu(cpu)?;
        plan.cpuset(cpu)?;
    }
    if let Some(pids) = resources.pids() {
        plan.pids(pids.limit())?;
    }
    if let Some(io) = resources.block_io() {
        plan.io(io)?;
    }
    plan.huge_pages(resources)?;
    plan.network(resources)?;
    plan.rdma(resources)?;
    plan.unified(resources)?;
    Ok(plan.settings)
}

fn field(name: &str) -> String {
    format!("linux.resources.{name}")
}

fn bad(name: &str, value: impl ToString, reason: &'static str) -> Error {
    Error::BadLimit { field: field(name), value: value.to_string(), reason }
}

const ONLY_V1: &str = "cgroup v2 has no such limit";
const NEGATIVE: &str = "only -1, for no limit, may be negative";

impl Plan<'_> {
    fn version(&self, controller: &str, name: &str) -> Result<Version, Error> {
        let missing = || Error::NoController { field: field(name), controller: controller.to_owned() };
        self.hierarchies.version(controller).ok_or_else(missing)
    }

    fn add(&mut self, controller: &'static str, name: &str, file: impl Into<Cow<'static, str>>, value: impl ToString) {
        self.add_any(controller, name, vec![(file.into(), value.to_string())], Missing::Fail);
    }

    fn add_any(&mut self, controller: &'static str, name: &str, spellings: Vec<Spelling>, missing: Missing) {
        self.settings.push(Setting { controller: controller.into(), field: field(name), spellings, missing });
    }

    fn pids(&mut self, limit: i64) -> Result<(), Error> {
        let value = match limit {
            -1 => "max".into(),
            // A group without any task cannot have been meant; systemd's driver cannot even say 0.
            0 => "1".into(),
            limit if limit < 0 => return Err(bad("pids.limit", limit, NEGATIVE)),
            limit => limit.to_string(),
        };
        // No limit is what a machine without the controller has anyway.
        if value != "max" {
            self.version("pids", "pids.limit")?;
        } else if self.hierarchies.version("pids").is_none() {
            return Ok(());
        }
        self.add("pids", "pids.limit", "pids.max", value);
        Ok(())
    }

    fn huge_pages(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        for page in resources.hugepage_limits().iter().flatten() {
            const NAME: &str = "hugepageLimits";
            let size = page.page_size();
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(bad("hugepageLimits.pageSize", size, "sizes are like 64KB, 2MB, 1GB"));
            }
            let (suffix, limit) = match self.version("hugetlb", NAME)? {
                Version::V1 => ("limit_in_bytes", page.limit().to_string()),
                Version::V2 if page.limit() == -1 => ("max", "max".into()),
                Version::V2 => ("max", page.limit().to_string()),
            };
            self.add("hugetlb", NAME, format!("hugetlb.{size}.{suffix}"), &limit);
            // Reservations are counted apart since kernel 5.7: with faults alone limited, a reservation that cannot
            // be met ends in SIGBUS.
            let reserved = vec![(format!("hugetlb.{size}.rsvd.{suffix}").into(), limit)];
            self.add_any("hugetlb", NAME, reserved, Missing::Skip);
        }
        Ok(())
    }

    fn network(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let Some(network) = resources.network() else { return Ok(()) };
        if let Some(class) = network.class_id().filter(|class| *class != 0) {
            self.version("net_cls", "network.classID")?;
            self.add("net_cls", "network.classID", "net_cls.classid", class);
        }
        for priority in network.priorities().iter().flatten() {
            self.version("net_prio", "network.priorities")?;
            let line = format!("{} {}", priority.name(), priority.priority());
            self.add("net_prio", "network.priorities", "net_prio.ifpriomap", line);
        }
        Ok(())
    }

    fn rdma(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
        devices.sort_unstable_by_key(|(name, _)| *name);
        for (device, limits) in devices {
            self.version("rdma", "rdma")?;
            if device.is_empty() || device.contains(char::is_whitespace) {
                return Err(bad("rdma", device, "a device's name is one word"));
            }
            let limits = [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())];
            let words = limits.iter().filter_map(|(key, limit)| limit.map(|limit| format!(" {key}={limit}")));
            let words: String = words.collect();
            if !words.is_empty() {
                self.add("rdma", "rdma", "rdma.max", format!("{device}{words}"));
            }
        }
        Ok(())
    }

    fn unified(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let mut files: Vec<_> = resources.unified().iter().flatten().collect();
        files.sort_unstable();
        for (file, value) in files {
            let name = format!("unified[{file:?}]");
            let controller = self.unified_controller(&name, file, value)?;
            // One line is one command, and the kernel takes one for each write.
            for line in value.lines().filter(|line| !line.trim().is_empty()) {
                self.settings.push(Setting {
                    controller: controller.clone().into(),
                    field: field(&name),
                    spellings: vec![(file.clone().into(), line.to_owned())],
                    missing: Missing::Fail,
                });
            }
        }
        Ok(())
    }

    /// The controller of a v2 file, which this machine must have on v2.
    fn unified_controller(&self, name: &str, file: &str, value: &str) -> Result<String, Error> {
        let controller = file.split_once('.').map(|(controller, _)| controller);
        let Some(controller) = controller.filter(|controller| !controller.is_empty() && !file.contains('/')) else {
            return Err(bad(name, value, "a key is the name of a control file, like memory.high"));
        };
        let version = match controller {
            "cgroup" => self.hierarchies.list.first().map(|hierarchy| hierarchy.version),
            controller => Some(self.version(controller, name)?),
        };
        if version != Some(Version::V2) {
            return Err(bad(name, value, "this controller is in a cgroup v1 hierarchy"));
        }
        Ok(controller.to_owned())
    }
}

#[cfg(test)]
mod tests;
