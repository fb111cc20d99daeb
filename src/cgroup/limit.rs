//! The runtime spec's `linux.resources` as writes to control files: pure, but for the writing itself.
//!
//! Where v1 and v2 differ in meaning, not only in a file's name, v2 gets what runc and crun give it: swap is counted
//! without memory, shares become weights, `-1` becomes `max`. What one of the two cannot express is an error with the
//! field's name, never ignored; the exceptions are `kernel` and `useHierarchy`, which current kernels
//! and the spec itself have retired.

use std::borrow::Cow;
use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice};

use super::group::Group;
use super::{Cgroup, Error, Hierarchies, Version, file, refused};
use crate::sys;

/// v1's shares and what a v2 weight may be (sched/core.c, cgroup-v2.rst).
const SHARES: (u64, u64) = (2, 262_144);
const WEIGHTS: (u64, u64) = (1, 10_000);
/// v1's block I/O weights (blk-cgroup, bfq).
const IO_WEIGHTS: (u64, u64) = (10, 1000);

/// What to do where the kernel has none of a setting's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Fail,
    /// The kernel's default is what was asked for, or another setting covers it.
    Skip,
}

/// One value for one control file: of several spellings the first whose file is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Cow<'static, str>,
    field: String,
    spellings: Vec<(Cow<'static, str>, String)>,
    missing: Missing,
}

impl Setting {
    /// The error of a machine without the setting's controller.
    pub(super) fn no_controller(&self) -> Error {
        Error::NoController { field: self.field.clone(), controller: self.controller.to_string() }
    }

    /// Writes the value.
    pub(super) fn apply(&self, group: &Group) -> Result<(), Error> {
        let mut outcome = Ok(());
        for (name, value) in &self.spellings {
            outcome = group.write(name, value).map_err(|source| (value, source));
            match &outcome {
                Err((_, error)) if file::is_missing(error) => {}
                _ => break,
            }
        }
        match outcome {
            Err((_, error)) if file::is_missing(&error) && self.missing == Missing::Skip => Ok(()),
            Err((value, source)) => Err(self.failed(&group.dir, value, source)),
            Ok(()) => Ok(()),
        }
    }

    fn failed(&self, dir: &Path, value: &str, source: sys::Error) -> Error {
        refused(dir, source, |_, source| Error::Limit { field: self.field.clone(), value: value.to_owned(), source })
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

/// A number of bytes or tasks as v2 writes it. The spec's 0 means "not set", -1 "no limit".
fn amount(name: &str, value: Option<i64>) -> Result<Option<String>, Error> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some("max".into())),
        Some(value) if value < 0 => Err(bad(name, value, NEGATIVE)),
        Some(value) => Ok(Some(value.to_string())),
    }
}

/// The same for v1, which writes -1 for no limit.
fn amount_v1(name: &str, value: Option<i64>) -> Result<Option<String>, Error> {
    Ok(amount(name, value)?.map(|text| if text == "max" { "-1".into() } else { text }))
}

impl Plan<'_> {
    fn version(&self, controller: &str, name: &str) -> Result<Version, Error> {
        let missing = || Error::NoController { field: field(name), controller: controller.to_owned() };
        self.hierarchies.version(controller).ok_or_else(missing)
    }

    fn add(&mut self, controller: &'static str, name: &str, file: impl Into<Cow<'static, str>>, value: impl ToString) {
        self.add_any(controller, name, vec![(file.into(), value.to_string())], Missing::Fail);
    }

    fn add_any(
        &mut self,
        controller: &'static str,
        name: &str,
        spellings: Vec<(Cow<'static, str>, String)>,
        missing: Missing,
    ) {
        self.settings.push(Setting { controller: controller.into(), field: field(name), spellings, missing });
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let asked = memory.limit().is_some_and(|limit| limit != 0)
            || memory.swap().is_some_and(|swap| swap != 0)
            || memory.reservation().is_some_and(|reservation| reservation != 0)
            || memory.swappiness().is_some()
            || memory.kernel_tcp().is_some_and(|limit| limit != 0)
            || memory.disable_oom_killer() == Some(true);
        if !asked {
            return Ok(());
        }
        match self.version("memory", "memory")? {
            Version::V1 => self.memory_v1(memory),
            Version::V2 => self.memory_v2(memory),
        }
    }

    fn memory_v1(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        // No limit on memory cannot be had under a limit on memory and swap.
        let swap = memory.swap().filter(|swap| *swap != 0).or(memory.limit().filter(|limit| *limit == -1));
        let amounts = [
            ("memory.limit", "memory.limit_in_bytes", memory.limit(), Missing::Fail),
            ("memory.swap", "memory.memsw.limit_in_bytes", swap, skip_if_unlimited(swap)),
            ("memory.reservation", "memory.soft_limit_in_bytes", memory.reservation(), Missing::Fail),
            ("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp(), Missing::Fail),
        ];
        for (name, file, value, missing) in amounts {
            if let Some(value) = amount_v1(name, value)? {
                self.add_any("memory", name, vec![(file.into(), value)], missing);
            }
        }
        if let Some(swappiness) = memory.swappiness() {
            if swappiness > 100 {
                return Err(bad("memory.swappiness", swappiness, "it is a percentage"));
            }
            self.add("memory", "memory.swappiness", "memory.swappiness", swappiness);
        }
        if memory.disable_oom_killer() == Some(true) {
            self.add("memory", "memory.disableOOMKiller", "memory.oom_control", 1);
        }
        Ok(())
    }

    fn memory_v2(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        if let Some(swappiness) = memory.swappiness() {
            return Err(bad("memory.swappiness", swappiness, ONLY_V1));
        }
        if memory.disable_oom_killer() == Some(true) {
            return Err(bad("memory.disableOOMKiller", true, ONLY_V1));
        }
        if let Some(limit) = memory.kernel_tcp().filter(|limit| *limit != 0) {
            return Err(bad("memory.kernelTCP", limit, ONLY_V1));
        }
        if let Some(value) = amount("memory.limit", memory.limit())? {
            self.add("memory", "memory.limit", "memory.max", value);
        }
        if let Some(value) = swap_v2(memory)? {
            let missing = if value == "max" || value == "0" { Missing::Skip } else { Missing::Fail };
            self.add_any("memory", "memory.swap", vec![("memory.swap.max".into(), value)], missing);
        }
        if let Some(value) = amount("memory.reservation", memory.reservation())? {
            self.add("memory", "memory.reservation", "memory.low", value);
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let set = |value: Option<u64>| value.filter(|value| *value != 0);
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let (shares, period, rt_period) = (set(cpu.shares()), set(cpu.period()), set(cpu.realtime_period()));
        let rt_runtime = cpu.realtime_runtime().filter(|runtime| *runtime != 0);
        let nothing =
            shares.or(period).or(rt_period).or(cpu.burst()).is_none() && quota.or(rt_runtime).or(cpu.idle()).is_none();
        if nothing {
            return Ok(());
        }
        if let Some(quota) = quota.filter(|quota| *quota < -1) {
            return Err(bad("cpu.quota", quota, NEGATIVE));
        }
        let version = self.version("cpu", "cpu")?;
        if let Some(idle) = cpu.idle() {
            self.add("cpu", "cpu.idle", "cpu.idle", idle);
        }
        // An idle group has no weight: the kernel refuses to set one.
        let shares = shares.filter(|_| cpu.idle() != Some(1));
        match version {
            Version::V1 => {
                let values = [
                    ("cpu.shares", "cpu.shares", shares.map(|v| v.to_string())),
                    // A period that shrinks below the quota's share is refused, so it comes first, as the kernel's
                    // defaults are wide.
                    ("cpu.period", "cpu.cfs_period_us", period.map(|v| v.to_string())),
                    ("cpu.quota", "cpu.cfs_quota_us", quota.map(|v| v.to_string())),
                    ("cpu.burst", "cpu.cfs_burst_us", cpu.burst().map(|v| v.to_string())),
                    ("cpu.realtimePeriod", "cpu.rt_period_us", rt_period.map(|v| v.to_string())),
                    ("cpu.realtimeRuntime", "cpu.rt_runtime_us", rt_runtime.map(|v| v.to_string())),
                ];
                for (name, file, value) in values {
                    if let Some(value) = value {
                        self.add("cpu", name, file, value);
                    }
                }
            }
            Version::V2 => {
                if rt_period.is_some() || rt_runtime.is_some() {
                    let value = rt_runtime.unwrap_or_default();
                    return Err(bad("cpu.realtimeRuntime", value, ONLY_V1));
                }
                if let Some(shares) = shares {
                    self.add("cpu", "cpu.shares", "cpu.weight", weight_of_shares(shares));
                }
                if let Some(value) = cpu_max(quota, period) {
                    self.add("cpu", "cpu.quota", "cpu.max", value);
                }
                if let Some(burst) = cpu.burst() {
                    self.add("cpu", "cpu.burst", "cpu.max.burst", burst);
                }
            }
        }
        Ok(())
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let lists = [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())];
        for (name, file, list) in lists {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                self.version("cpuset", name)?;
                self.add("cpuset", name, file, list);
            }
        }
        Ok(())
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

    fn io(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        let version = [("blkio", Version::V1), ("io", Version::V2)]
            .into_iter()
            .find(|(controller, version)| self.hierarchies.version(controller) == Some(*version));
        match version {
            Some((_, Version::V1)) => self.io_v1(io),
            Some((_, Version::V2)) => self.io_v2(io),
            None if *io == LinuxBlockIo::default() => Ok(()),
            None => Err(Error::NoController { field: field("blockIO"), controller: "io".into() }),
        }
    }

    fn io_v1(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        if let Some(weight) = io_weight("blockIO.weight", io.weight())? {
            self.add_any("blkio", "blockIO.weight", either("blkio.weight", "blkio.bfq.weight", &weight), Missing::Fail);
        }
        if let Some(weight) = io_weight("blockIO.leafWeight", io.leaf_weight())? {
            self.add("blkio", "blockIO.leafWeight", "blkio.leaf_weight", weight);
        }
        for device in io.weight_device().iter().flatten() {
            const NAME: &str = "blockIO.weightDevice";
            if let Some(weight) = io_weight(NAME, device.weight())? {
                let line = format!("{} {weight}", number(device));
                let files = either("blkio.weight_device", "blkio.bfq.weight_device", &line);
                self.add_any("blkio", NAME, files, Missing::Fail);
            }
            if let Some(weight) = io_weight(NAME, device.leaf_weight())? {
                self.add("blkio", NAME, "blkio.leaf_weight_device", format!("{} {weight}", number(device)));
            }
        }
        for (name, _, file, devices) in throttles(io) {
            for device in devices {
                self.add("blkio", name, file, format!("{}:{} {}", device.major(), device.minor(), device.rate()));
            }
        }
        Ok(())
    }

    fn io_v2(&mut self, io: &LinuxBlockIo) -> Result<(), Error> {
        if let Some(weight) = io.leaf_weight().filter(|weight| *weight != 0) {
            return Err(bad("blockIO.leafWeight", weight, ONLY_V1));
        }
        if let Some(weight) = io_weight("blockIO.weight", io.weight())? {
            self.weight_v2("blockIO.weight", "default", weight);
        }
        for device in io.weight_device().iter().flatten() {
            if let Some(weight) = io_weight("blockIO.weightDevice", device.weight())? {
                self.weight_v2("blockIO.weightDevice", &number(device), weight);
            }
        }
        for (name, key, _, devices) in throttles(io) {
            for device in devices {
                // v1 takes 0 for no limit, v2 wants the word.
                let rate = if device.rate() == 0 { "max".into() } else { device.rate().to_string() };
                self.add("io", name, "io.max", format!("{}:{} {key}={rate}", device.major(), device.minor()));
            }
        }
        Ok(())
    }

    /// bfq keeps v1's scale; io.weight, of blk-iocost, has one of its own.
    fn weight_v2(&mut self, name: &str, of: &str, weight: u64) {
        let bfq = if of == "default" { weight.to_string() } else { format!("{of} {weight}") };
        let spellings =
            vec![("io.bfq.weight".into(), bfq), ("io.weight".into(), format!("{of} {}", weight_of_io(weight)))];
        self.add_any("io", name, spellings, Missing::Fail);
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
        for (device, limits) in resources.rdma().iter().flatten() {
            self.version("rdma", "rdma")?;
            let max = |limit: Option<u32>| limit.map_or("max".into(), |limit| limit.to_string());
            let (handles, objects) = (max(limits.hca_handles()), max(limits.hca_objects()));
            self.add("rdma", "rdma", "rdma.max", format!("{device} hca_handle={handles} hca_object={objects}"));
        }
        Ok(())
    }

    fn unified(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let mut files: Vec<_> = resources.unified().iter().flatten().collect();
        files.sort_unstable();
        for (file, value) in files {
            let name = format!("unified[{file:?}]");
            let controller = file.split_once('.').map(|(controller, _)| controller.to_owned());
            let Some(controller) = controller.filter(|controller| !controller.is_empty() && !file.contains('/')) else {
                return Err(bad(&name, value, "a key is the name of a control file, like memory.high"));
            };
            let version = match controller.as_str() {
                "cgroup" => self.hierarchies.list.first().map(|hierarchy| hierarchy.version),
                controller => Some(self.version(controller, &name)?),
            };
            if version != Some(Version::V2) {
                return Err(bad(&name, value, "this controller is in a cgroup v1 hierarchy"));
            }
            self.settings.push(Setting {
                controller: controller.into(),
                field: field(&name),
                spellings: vec![(file.clone().into(), value.clone())],
                missing: Missing::Fail,
            });
        }
        Ok(())
    }
}

/// Without swap accounting in the kernel there is no limit on swap: as was asked, if none was asked for.
fn skip_if_unlimited(limit: Option<i64>) -> Missing {
    if limit == Some(-1) { Missing::Skip } else { Missing::Fail }
}

/// The spec's swap is memory and swap together; v2 counts swap alone.
fn swap_v2(memory: &LinuxMemory) -> Result<Option<String>, Error> {
    let limit = memory.limit().unwrap_or(0);
    match memory.swap().unwrap_or(0) {
        // Lifting the limit on memory lifts the one on both, as v1 would.
        0 if limit == -1 => Ok(Some("max".into())),
        0 => Ok(None),
        -1 => Ok(Some("max".into())),
        swap if swap < -1 => Err(bad("memory.swap", swap, NEGATIVE)),
        swap if limit <= 0 => Err(bad("memory.swap", swap, "it needs a limit on memory")),
        swap if swap < limit => Err(bad("memory.swap", swap, "it includes memory and cannot be less than its limit")),
        swap => Ok(Some((swap - limit).to_string())),
    }
}

/// A v2 weight for v1's shares, so that the defaults (1024 and 100) and the ends of both scales meet: the quadratic
/// of runc and crun since 2025. A straight line would make the default 39.
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        shares if shares <= SHARES.0 => WEIGHTS.0,
        shares if shares >= SHARES.1 => WEIGHTS.1,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// `cpu.max`: a quota of "max" without a period, and a period without a quota, leave the other as it is.
fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let quota_text = |quota: i64| if quota == -1 { "max".to_owned() } else { quota.to_string() };
    match (quota, period) {
        (None, None) => None,
        (Some(quota), None) => Some(quota_text(quota)),
        (quota, Some(period)) => Some(format!("{} {period}", quota_text(quota.unwrap_or(-1)))),
    }
}

fn io_weight(name: &str, weight: Option<u16>) -> Result<Option<u64>, Error> {
    match weight.map(u64::from).filter(|weight| *weight != 0) {
        Some(weight) if !(IO_WEIGHTS.0..=IO_WEIGHTS.1).contains(&weight) => {
            Err(bad(name, weight, "weights are 10 to 1000"))
        }
        weight => Ok(weight),
    }
}

/// 10 to 1000 spread over 1 to 10000.
fn weight_of_io(weight: u64) -> u64 {
    let span = |(low, high): (u64, u64)| high - low;
    WEIGHTS.0 + (weight - IO_WEIGHTS.0) * span(WEIGHTS) / span(IO_WEIGHTS)
}

fn number(device: &LinuxWeightDevice) -> String {
    format!("{}:{}", device.major(), device.minor())
}

fn either(first: &'static str, second: &'static str, value: &impl ToString) -> Vec<(Cow<'static, str>, String)> {
    vec![(first.into(), value.to_string()), (second.into(), value.to_string())]
}

type Throttle<'a> = (&'static str, &'static str, &'static str, &'a [LinuxThrottleDevice]);

/// Each throttle's field, its key in io.max, its file on v1.
fn throttles(io: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        (
            "blockIO.throttleReadBpsDevice",
            "rbps",
            "blkio.throttle.read_bps_device",
            io.throttle_read_bps_device().as_deref().unwrap_or_default(),
        ),
        (
            "blockIO.throttleWriteBpsDevice",
            "wbps",
            "blkio.throttle.write_bps_device",
            io.throttle_write_bps_device().as_deref().unwrap_or_default(),
        ),
        (
            "blockIO.throttleReadIOPSDevice",
            "riops",
            "blkio.throttle.read_iops_device",
            io.throttle_read_iops_device().as_deref().unwrap_or_default(),
        ),
        (
            "blockIO.throttleWriteIOPSDevice",
            "wiops",
            "blkio.throttle.write_iops_device",
            io.throttle_write_iops_device().as_deref().unwrap_or_default(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchy;

    fn machine(version: Version) -> Hierarchies {
        let controllers = match version {
            Version::V1 => "cpu cpuacct cpuset memory pids blkio devices freezer hugetlb net_cls net_prio rdma",
            Version::V2 => "cpu cpuset memory pids io hugetlb rdma",
        };
        let controllers = controllers.split(' ').map(str::to_owned).collect();
        Hierarchies { list: vec![Hierarchy { version, mount: "/sys/fs/cgroup".into(), controllers }] }
    }

    fn written(version: Version, json: &str) -> Result<Vec<String>, String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let settings = plan(&resources, &machine(version)).map_err(|error| error.to_string())?;
        let line = |setting: &Setting| {
            let each: Vec<String> = setting.spellings.iter().map(|(file, value)| format!("{file}={value}")).collect();
            each.join(" or ")
        };
        Ok(settings.iter().map(line).collect())
    }

    #[test]
    fn each_field_has_its_file_in_both_versions() {
        use Version::{V1, V2};
        let table: [(&str, &[&str], &[&str]); 17] = [
            ("{}", &[], &[]),
            (r#"{"memory":{"limit":0,"swap":0}}"#, &[], &[]),
            (
                r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#,
                &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=150", "memory.soft_limit_in_bytes=50"],
                &["memory.max=100", "memory.swap.max=50", "memory.low=50"],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
                &["memory.max=max", "memory.swap.max=max"],
            ),
            (
                r#"{"memory":{"limit":100,"swap":-1}}"#,
                &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=-1"],
                &["memory.max=100", "memory.swap.max=max"],
            ),
            (r#"{"cpu":{"shares":1024}}"#, &["cpu.shares=1024"], &["cpu.weight=100"]),
            (
                r#"{"cpu":{"quota":50000,"period":100000,"burst":100}}"#,
                &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=100"],
                &["cpu.max=50000 100000", "cpu.max.burst=100"],
            ),
            (r#"{"cpu":{"quota":-1}}"#, &["cpu.cfs_quota_us=-1"], &["cpu.max=max"]),
            (r#"{"cpu":{"period":5000}}"#, &["cpu.cfs_period_us=5000"], &["cpu.max=max 5000"]),
            (r#"{"cpu":{"idle":1,"shares":512}}"#, &["cpu.idle=1"], &["cpu.idle=1"]),
            (
                r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#,
                &["cpuset.cpus=0-1", "cpuset.mems=0"],
                &["cpuset.cpus=0-1", "cpuset.mems=0"],
            ),
            (r#"{"pids":{"limit":32}}"#, &["pids.max=32"], &["pids.max=32"]),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"], &["pids.max=max"]),
            (r#"{"pids":{"limit":0}}"#, &["pids.max=1"], &["pids.max=1"]),
            (
                r#"{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1000}]}}"#,
                &[
                    "blkio.weight=10 or blkio.bfq.weight=10",
                    "blkio.weight_device=8:0 1000 or blkio.bfq.weight_device=8:0 1000",
                ],
                &["io.bfq.weight=10 or io.weight=default 1", "io.bfq.weight=8:0 1000 or io.weight=8:0 10000"],
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#,
                &["blkio.throttle.read_bps_device=8:0 7", "blkio.throttle.write_iops_device=8:16 0"],
                &["io.max=8:0 rbps=7", "io.max=8:16 wiops=max"],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"rdma":{"mlx5_1":{"hcaHandles":3}}}"#,
                &[
                    "hugetlb.2MB.limit_in_bytes=4194304",
                    "hugetlb.2MB.rsvd.limit_in_bytes=4194304",
                    "rdma.max=mlx5_1 hca_handle=3 hca_object=max",
                ],
                &[
                    "hugetlb.2MB.max=4194304",
                    "hugetlb.2MB.rsvd.max=4194304",
                    "rdma.max=mlx5_1 hca_handle=3 hca_object=max",
                ],
            ),
        ];
        for (json, v1, v2) in table {
            assert_eq!(written(V1, json).unwrap(), v1, "{json}");
            assert_eq!(written(V2, json).unwrap(), v2, "{json}");
        }
    }

    #[test]
    fn what_only_one_version_has() {
        let v1 = |json| written(Version::V1, json);
        let v2 = |json| written(Version::V2, json);
        let network = r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}"#;
        assert_eq!(v1(network).unwrap(), ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"]);
        assert_eq!(
            v2(network).unwrap_err(),
            "linux.resources.network.classID needs the cgroup controller net_cls, which is not available"
        );
        let unified = r#"{"unified":{"memory.high":"100","cgroup.max.depth":"3"}}"#;
        assert_eq!(v2(unified).unwrap(), ["cgroup.max.depth=3", "memory.high=100"]);
        assert!(v1(unified).unwrap_err().contains("cgroup v1 hierarchy"));
        let swappiness = r#"{"memory":{"swappiness":60}}"#;
        assert_eq!(v1(swappiness).unwrap(), ["memory.swappiness=60"]);
        assert_eq!(v2(swappiness).unwrap_err(), "linux.resources.memory.swappiness is 60: cgroup v2 has no such limit");
    }

    #[test]
    fn nonsense_is_refused_by_field() {
        for (json, expected) in [
            (r#"{"memory":{"limit":-2}}"#, "linux.resources.memory.limit is -2"),
            (r#"{"memory":{"swap":100}}"#, "linux.resources.memory.swap is 100: it needs a limit on memory"),
            (r#"{"memory":{"limit":100,"swap":50}}"#, "linux.resources.memory.swap is 50: it includes memory"),
            (r#"{"cpu":{"quota":-5}}"#, "linux.resources.cpu.quota is -5"),
            (r#"{"cpu":{"realtimeRuntime":5}}"#, "linux.resources.cpu.realtimeRuntime is 5"),
            (r#"{"pids":{"limit":-7}}"#, "linux.resources.pids.limit is -7"),
            (r#"{"blockIO":{"weight":9}}"#, "linux.resources.blockIO.weight is 9"),
            (r#"{"blockIO":{"weight":1001}}"#, "linux.resources.blockIO.weight is 1001"),
            (
                r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
                "linux.resources.hugepageLimits.pageSize is ../x",
            ),
            (r#"{"unified":{"a/../../memory.max":"1"}}"#, "linux.resources.unified"),
            (r#"{"unified":{"nodot":"1"}}"#, "linux.resources.unified"),
        ] {
            let error = written(Version::V2, json).unwrap_err();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }

    #[test]
    fn shares_and_weights_meet_at_the_ends_and_the_defaults() {
        let table = [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, weight) in table {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert!((3..262_144).step_by(101).map(weight_of_shares).is_sorted());
        assert_eq!((weight_of_io(10), weight_of_io(1000)), (1, 10_000));
    }
}
