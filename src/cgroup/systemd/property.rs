//! `linux.resources` and annotations as properties of a scope: what systemd knows about a limit it neither undoes nor
//! shows wrongly. The limits themselves are all written as control files, too: some it has no property for, and some it
//! applies late.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};

use super::text;
use super::wire::Value;
use crate::cgroup::device::{self, Allowed};
use crate::cgroup::limit::{swap_v2, weight_of_shares};
use crate::cgroup::{Error, Version};

/// No limit, in systemd's terms.
const INFINITY: u64 = u64::MAX;
/// The kernel's period, in microseconds, where none is given.
const PERIOD: u64 = 100_000;
/// systemd counts quotas in hundredths of a processor, so in this many microseconds of a second.
const QUOTA_STEP: u64 = 10_000;
/// Since when systemd knows idle groups, and what to do with the others when one process is killed for want of memory.
const IDLE_SINCE: u32 = 252;
const OOM_POLICY_SINCE: u32 = 253;
/// The highest number in a set of processors or memory nodes that is taken.
const MAX_CPU: u32 = 8191;

/// The name of a property and its value.
pub(super) type Property = (String, Value);

/// The form in which methods take properties: `a(sv)`.
pub(super) fn argument(properties: Vec<Property>) -> Value {
    let each = |(name, value): Property| Value::Struct(vec![Value::Str(name), Value::Variant(Box::new(value))]);
    Value::Array("(sv)".into(), properties.into_iter().map(each).collect())
}

/// Whether the properties depend on how new systemd is.
pub(super) fn asks_version(resources: &LinuxResources) -> bool {
    let unified = resources.unified().as_ref();
    let key = |key: &str| unified.is_some_and(|files| files.contains_key(key));
    resources.cpu().as_ref().is_some_and(|cpu| cpu.idle() == Some(1)) || key("cpu.idle") || key("memory.oom.group")
}

/// What a scope is made with.
pub(super) fn of_scope(description: &str, slice: &str, pid: u32, version: Version) -> Vec<Property> {
    let on = |name: &str| (name.to_owned(), Value::Bool(true));
    let io = if version == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
    vec![
        ("Description".into(), Value::str(description)),
        ("Slice".into(), Value::str(slice)),
        // All below is ours, and systemd leaves it alone.
        on("Delegate"),
        ("PIDs".into(), Value::Array("u".into(), vec![Value::U32(pid)])),
        on("MemoryAccounting"),
        on("CPUAccounting"),
        on(io),
        on("TasksAccounting"),
        // Without it the container would be stopped before other things at a shutdown, in an order that nobody asked for.
        ("DefaultDependencies".into(), Value::Bool(false)),
    ]
}

/// The properties that resources mean; `systemd` is its version, if that was asked.
pub(super) fn of_resources(
    resources: &LinuxResources,
    version: Version,
    systemd: Option<u32>,
) -> Result<Vec<Property>, Error> {
    let mut list = List { version, systemd: systemd.unwrap_or(0), properties: Vec::new() };
    if let Some(memory) = resources.memory() {
        list.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        list.cpu(cpu)?;
    }
    if let Some(pids) = resources.pids() {
        let tasks = match pids.limit() {
            limit if limit < 0 => INFINITY,
            limit => limit.max(1).cast_unsigned(),
        };
        list.add("TasksMax", Value::U64(tasks));
    }
    let weight = resources.block_io().as_ref().and_then(|io| io.weight()).filter(|weight| *weight != 0);
    if let (Some(weight), Version::V1) = (weight, version) {
        list.add("BlockIOWeight", Value::U64(weight.into()));
    }
    list.unified(resources)?;
    Ok(list.properties)
}

/// The properties that a list of device rules means.
pub(super) fn of_devices(rules: &[LinuxDeviceCgroup], version: Version) -> Result<Vec<Property>, Error> {
    let entry = |(path, access): (String, String)| Value::Struct(vec![Value::Str(path), Value::Str(access)]);
    let allow = |list: Vec<(String, String)>| {
        ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), list.into_iter().map(entry).collect()))
    };
    let policy = |policy| ("DevicePolicy".to_owned(), Value::str(policy));
    // An empty list takes back what an earlier one allowed; the next one adds.
    let only = |list| vec![allow(Vec::new()), policy("strict"), allow(list)];
    Ok(match (device::allowed(rules)?, version) {
        (Allowed::Only(list), _) => only(list),
        // On v2 our program stays, whatever systemd's own does; with this policy there is none.
        (Allowed::All | Allowed::AllBut, Version::V2) => vec![allow(Vec::new()), policy("auto")],
        // On v1 that policy would take the group away.
        (Allowed::All, Version::V1) => {
            only(vec![("char-*".to_owned(), "rwm".to_owned()), ("block-*".to_owned(), "rwm".to_owned())])
        }
        // Nothing, until the group's own rules are written: better too little than too much if systemd does it again.
        (Allowed::AllBut, Version::V1) => only(Vec::new()),
    })
}

/// The properties that annotations of the container name: `org.systemd.property.TimeoutStopSec: "uint64 5"`.
pub(super) fn of_annotations(annotations: &HashMap<String, String>) -> Result<Vec<Property>, Error> {
    let mut properties = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix("org.systemd.property.") else { continue };
        let bad = |reason| Error::BadAnnotation { key: key.clone(), value: value.clone(), reason };
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(bad("a property's name is made of letters"));
        }
        let parsed = text::parse(value).map_err(bad)?;
        properties.push(
            match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
                Some(stem) => (format!("{stem}USec"), text::microseconds(&parsed).map_err(bad)?),
                None => (name.to_owned(), parsed),
            },
        );
    }
    properties.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(properties)
}

/// The quota that systemd's hundredths of a processor allow: no less than what was asked. What is written as a control
/// file must not differ, or it would change whenever systemd looks at its units.
pub(in crate::cgroup) fn rounded(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    let Some(mut cpu) = resources.cpu().clone() else { return resources };
    if let Some(quota) = cpu.quota().filter(|quota| *quota > 0) {
        let period = period(&cpu);
        let quota = u128::from(quota_per_second(quota, period)) * u128::from(period) / 1_000_000;
        cpu.set_quota(i64::try_from(quota).ok().or(cpu.quota()));
        resources.set_cpu(Some(cpu));
    }
    resources
}

fn period(cpu: &LinuxCpu) -> u64 {
    cpu.period().filter(|period| *period != 0).unwrap_or(PERIOD)
}

fn quota_per_second(quota: i64, period: u64) -> u64 {
    let exact = u128::from(quota.cast_unsigned()) * 1_000_000 / u128::from(period);
    u64::try_from(exact).unwrap_or(INFINITY - QUOTA_STEP).next_multiple_of(QUOTA_STEP)
}

struct List {
    version: Version,
    systemd: u32,
    properties: Vec<Property>,
}

impl List {
    fn add(&mut self, name: &str, value: Value) {
        self.properties.push((name.to_owned(), value));
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let amount = |value: Option<i64>| {
            value.filter(|value| *value != 0).map(|value| u64::try_from(value).unwrap_or(INFINITY))
        };
        let limit = if self.version == Version::V2 { "MemoryMax" } else { "MemoryLimit" };
        if let Some(value) = amount(memory.limit()) {
            self.add(limit, Value::U64(value));
        }
        if self.version == Version::V1 {
            return Ok(());
        }
        if let Some(value) = amount(memory.reservation()) {
            self.add("MemoryLow", Value::U64(value));
        }
        if let Some(value) = swap_v2(memory)? {
            self.add("MemorySwapMax", Value::U64(value.parse().unwrap_or(INFINITY)));
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        let shares = cpu.shares().filter(|shares| *shares != 0);
        let idle = cpu.idle() == Some(1) && self.idles();
        match (self.version, shares) {
            (Version::V1, Some(shares)) => self.add("CPUShares", Value::U64(shares)),
            (Version::V2, _) if idle => self.add("CPUWeight", Value::U64(0)),
            // A weight that the kernel would refuse beside idle is left out, as for the control files.
            (Version::V2, Some(shares)) if cpu.idle() != Some(1) => {
                self.add("CPUWeight", Value::U64(weight_of_shares(shares)))
            }
            _ => {}
        }
        let quota = cpu.quota().filter(|quota| *quota != 0);
        self.quota(quota, cpu.period().filter(|period| *period != 0));
        self.set("AllowedCPUs", "cpu.cpus", cpu.cpus().as_deref().unwrap_or_default())?;
        self.set("AllowedMemoryNodes", "cpu.mems", cpu.mems().as_deref().unwrap_or_default())
    }

    /// Whether systemd can have a scope idle; by its weight, 0.
    fn idles(&self) -> bool {
        self.version == Version::V2 && self.systemd >= IDLE_SINCE
    }

    fn quota(&mut self, quota: Option<i64>, period: Option<u64>) {
        if let Some(period) = period {
            self.add("CPUQuotaPeriodUSec", Value::U64(period));
        }
        let per_second = match quota {
            Some(quota) if quota > 0 => quota_per_second(quota, period.unwrap_or(PERIOD)),
            _ => INFINITY,
        };
        if quota.is_some() || period.is_some() {
            self.add("CPUQuotaPerSecUSec", Value::U64(per_second));
        }
    }

    fn set(&mut self, name: &str, field: &str, list: &str) -> Result<(), Error> {
        if list.is_empty() {
            return Ok(());
        }
        let field = || format!("linux.resources.{field}");
        let bad = |reason| Error::BadLimit { field: field(), value: list.to_owned(), reason };
        let bits = bits(list).ok_or_else(|| bad("a set is like 0-2,7, with numbers up to 8191"))?;
        self.add(name, Value::Array("y".into(), bits.into_iter().map(Value::Byte).collect()));
        Ok(())
    }

    /// Control files that systemd has a property for. Those that it does not are only written.
    fn unified(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let mut files: Vec<_> = resources.unified().iter().flatten().collect();
        files.sort_unstable();
        for (file, value) in files {
            let value = value.trim();
            let bad = |reason| Error::BadLimit {
                field: format!("linux.resources.unified[{file:?}]"),
                value: value.to_owned(),
                reason,
            };
            let amount = || match value {
                "max" => Ok(INFINITY),
                value => value.parse::<u64>().map_err(|_| bad("it is neither a number nor max")),
            };
            match file.as_str() {
                "cpu.idle" if value == "1" && self.idles() => self.add("CPUWeight", Value::U64(0)),
                "cpu.max" => {
                    let (quota, period) = cpu_max(value).ok_or_else(|| bad("it is like 50000 100000"))?;
                    self.quota(quota, Some(period));
                }
                "cpu.weight" => self.add("CPUWeight", Value::U64(amount()?)),
                "cpuset.cpus" => self.set("AllowedCPUs", "unified", value)?,
                "cpuset.mems" => self.set("AllowedMemoryNodes", "unified", value)?,
                "memory.high" => self.add("MemoryHigh", Value::U64(amount()?)),
                "memory.low" => self.add("MemoryLow", Value::U64(amount()?)),
                "memory.max" => self.add("MemoryMax", Value::U64(amount()?)),
                "memory.min" => self.add("MemoryMin", Value::U64(amount()?)),
                "memory.swap.max" => self.add("MemorySwapMax", Value::U64(amount()?)),
                "pids.max" => self.add("TasksMax", Value::U64(amount()?.max(1))),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `OOMPolicy` can only be set when a scope is made.
pub(super) fn oom_policy(resources: &LinuxResources, systemd: Option<u32>) -> Option<Property> {
    let group = resources.unified().as_ref()?.get("memory.oom.group")?;
    let policy = match group.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    (systemd? >= OOM_POLICY_SINCE).then(|| ("OOMPolicy".to_owned(), Value::str(policy)))
}

fn cpu_max(value: &str) -> Option<(Option<i64>, u64)> {
    let mut words = value.split_whitespace();
    let quota = match words.next()? {
        "max" => None,
        quota => Some(quota.parse().ok()?),
    };
    let period = words.next().map_or(Some(PERIOD), |period| period.parse().ok())?;
    words.next().is_none().then_some((quota, period))
}

/// A set like `0-2,7` as bits, the lowest first.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MAX_CPU {
            return None;
        }
        for bit in first..=last {
            let byte = bit as usize / 8;
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            bits[byte] |= 1 << (bit % 8);
        }
    }
    (!bits.is_empty()).then_some(bits)
}

/// The number at the beginning of systemd's version: `252.38-1~deb12u1`, `v249`.
pub(super) fn version(text: &str) -> Option<u32> {
    let text = text.trim_start_matches('v');
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(version: Version, systemd: u32, json: &str) -> String {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        match of_resources(&resources, version, Some(systemd)) {
            Ok(properties) => {
                let each = properties.iter().map(|(name, value)| match value {
                    Value::U64(INFINITY) => format!("{name}=infinity"),
                    Value::U64(value) => format!("{name}={value}"),
                    other => format!("{name}={other:?}"),
                });
                each.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn resources_become_properties() {
        use Version::{V1, V2};
        let table = [
            ("{}", "", ""),
            (
                r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#,
                "MemoryLimit=100",
                "MemoryMax=100 MemoryLow=50 MemorySwapMax=50",
            ),
            (r#"{"memory":{"limit":-1}}"#, "MemoryLimit=infinity", "MemoryMax=infinity MemorySwapMax=infinity"),
            (r#"{"cpu":{"shares":1024}}"#, "CPUShares=1024", "CPUWeight=100"),
            (r#"{"cpu":{"idle":1,"shares":512}}"#, "CPUShares=512", "CPUWeight=0"),
            (
                r#"{"cpu":{"quota":50000,"period":200000}}"#,
                "CPUQuotaPeriodUSec=200000 CPUQuotaPerSecUSec=250000",
                "CPUQuotaPeriodUSec=200000 CPUQuotaPerSecUSec=250000",
            ),
            (r#"{"cpu":{"quota":1}}"#, "CPUQuotaPerSecUSec=10000", "CPUQuotaPerSecUSec=10000"),
            (r#"{"cpu":{"quota":-1}}"#, "CPUQuotaPerSecUSec=infinity", "CPUQuotaPerSecUSec=infinity"),
            (r#"{"pids":{"limit":0}}"#, "TasksMax=1", "TasksMax=1"),
            (r#"{"pids":{"limit":-1}}"#, "TasksMax=infinity", "TasksMax=infinity"),
            (r#"{"blockIO":{"weight":500}}"#, "BlockIOWeight=500", ""),
        ];
        for (json, v1, v2) in table {
            assert_eq!(listed(V1, 252, json), v1, "{json}");
            assert_eq!(listed(V2, 252, json), v2, "{json}");
        }
        assert_eq!(listed(V2, 249, r#"{"cpu":{"idle":1,"shares":512}}"#), "", "too old to say it");
        assert!(listed(V2, 252, r#"{"memory":{"swap":5}}"#).contains("needs a limit on memory"));
        assert!(listed(V2, 252, r#"{"cpu":{"cpus":"0-9999"}}"#).contains("cpu.cpus is 0-9999"));
    }

    #[test]
    fn control_files_become_properties_where_there_are_some() {
        let unified = |json: &str| listed(Version::V2, 252, &format!(r#"{{"unified":{{{json}}}}}"#));
        assert_eq!(
            unified(r#""memory.high":"max","pids.max":"0","io.max":"8:0 rbps=1""#),
            "MemoryHigh=infinity TasksMax=1"
        );
        assert_eq!(unified(r#""cpu.max":"50000""#), "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=500000");
        assert_eq!(unified(r#""cpu.max":"max 5000""#), "CPUQuotaPeriodUSec=5000 CPUQuotaPerSecUSec=infinity");
        assert!(unified(r#""cpu.max":"1 2 3""#).contains("it is like"));
        assert!(unified(r#""memory.max":"lots""#).contains("neither a number nor max"));
    }

    #[test]
    fn devices_never_become_more_than_was_meant() {
        let policy = |version, json: &str| {
            let properties = of_devices(&serde_json::from_str::<Vec<_>>(json).unwrap(), version).unwrap();
            let Value::Array(_, allowed) = &properties.last().unwrap().1 else { return properties[1].1.clone() };
            Value::U64(allowed.len() as u64)
        };
        assert_eq!(policy(Version::V2, r#"[{"allow":true}]"#), Value::str("auto"));
        assert_eq!(policy(Version::V1, r#"[{"allow":true}]"#), Value::U64(2));
        assert_eq!(policy(Version::V1, r#"[{"allow":true},{"allow":false,"type":"b"}]"#), Value::U64(0));
        assert_eq!(policy(Version::V1, "[]"), policy(Version::V2, "[]"));
    }

    #[test]
    fn sets_become_bits() {
        assert_eq!(bits("0-2,7"), Some(vec![0b1000_0111]));
        assert_eq!(bits(" 8 ,,1"), Some(vec![2, 1]));
        for list in ["", ",", "a", "3-1", "0-8192", "-1"] {
            assert_eq!(bits(list), None, "{list}");
        }
    }

    #[test]
    fn a_quota_is_what_systemd_can_say() {
        let rounded = |json: &str| rounded(&serde_json::from_str(json).unwrap()).cpu().clone().unwrap().quota();
        assert_eq!(rounded(r#"{"cpu":{"quota":50000}}"#), Some(50_000));
        assert_eq!(rounded(r#"{"cpu":{"quota":50001}}"#), Some(51_000));
        assert_eq!(rounded(r#"{"cpu":{"quota":-1}}"#), Some(-1));
    }

    #[test]
    fn annotations_become_properties() {
        let of = |key: &str, value: &str| {
            of_annotations(&HashMap::from([(key.to_owned(), value.to_owned())])).map_err(|error| error.to_string())
        };
        assert_eq!(
            of("org.systemd.property.TimeoutStopSec", "uint64 5").unwrap(),
            [("TimeoutStopUSec".to_owned(), Value::U64(5_000_000))]
        );
        assert_eq!(
            of("org.systemd.property.CollectMode", "'inactive-or-failed'").unwrap(),
            [("CollectMode".to_owned(), Value::str("inactive-or-failed"))]
        );
        assert_eq!(of("org.example.other", "?").unwrap(), []);
        for (key, value) in [("org.systemd.property.X", "1"), ("org.systemd.property.A-B-C", "1")] {
            assert!(of(key, value).unwrap_err().contains("made of letters"));
        }
        assert!(of("org.systemd.property.TimeoutStopSec", "'x'").unwrap_err().contains("seconds"));
    }

    #[test]
    fn versions_of_distributions() {
        assert_eq!(
            [version("252.38-1~deb12u1"), version("v249"), version("257"), version("x")],
            [Some(252), Some(249), Some(257), None]
        );
    }
}
