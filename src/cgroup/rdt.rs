//! Shares of the last-level cache and of memory bandwidth: `linux.intelRdt`, by the resctrl file system
//! (runtime-spec, config-linux, "IntelRdt"; Documentation/filesystems/resctrl.rst).
//!
//! ```text
//! /sys/fs/resctrl/                    closID "/": everybody who is in no other group
//! /sys/fs/resctrl/<closID or id>/     schemata: what the group may use; tasks: who is in it
//!     mon_groups/<id>/                enableMonitoring: one container counted for itself
//! ```
//!
//! A group that the container's id names is ours, if we made it. One that a closID names may be others' too: it is
//! never removed, and never changed but by `schemata`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use super::file::Made;
use super::{Error, file, hierarchy};
use crate::sys;

const USUAL_MOUNT: &str = "/sys/fs/resctrl";
/// What the kernel keeps at these names itself.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_data", "mon_groups"];

/// A container's group in resctrl: plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rdt {
    mount: PathBuf,
    group: PathBuf,
    /// The container's own counters.
    monitor: Option<PathBuf>,
    /// Whether the group goes with the container.
    owned: bool,
}

/// Whether this machine has resctrl, mounted.
pub fn rdt_available() -> Result<bool, Error> {
    Ok(mount()?.is_some())
}

/// Where resctrl is mounted, if it is.
fn mount() -> Result<Option<PathBuf>, Error> {
    /// RDTGROUP_SUPER_MAGIC of linux/magic.h.
    const MAGIC: u64 = 0x0765_5821;
    let usual = Path::new(USUAL_MOUNT);
    match rustix::fs::statfs(usual) {
        Ok(found) if found.f_type as u64 == MAGIC => Ok(Some(usual.into())),
        // The kernel makes the directory on machines that have it; without one there is no mount elsewhere either.
        Err(_) => Ok(None),
        Ok(_) => hierarchy::mount_of("resctrl"),
    }
}

impl Rdt {
    /// Makes what `linux.intelRdt` asks for, for the container `id`. Nobody is in it yet.
    pub fn create(config: &LinuxIntelRdt, id: &str) -> Result<Self, Error> {
        let mount = mount()?.ok_or(Error::NoRdt)?;
        let (rdt, made) = Self::make(&mount, config, id)?;
        let set = rdt.check(config, made).and_then(|()| rdt.write(config, made)).and_then(|()| rdt.make_monitor());
        match set {
            Ok(()) => Ok(rdt),
            Err(error) => {
                // What was new goes again; the first failure is the one to report.
                drop(Self { owned: made == Made::Fresh, ..rdt }.remove());
                Err(error)
            }
        }
    }

    /// Makes the group's directory, or finds it.
    fn make(mount: &Path, config: &LinuxIntelRdt, id: &str) -> Result<(Self, Made), Error> {
        let named = config.clos_id().as_deref().filter(|name| !name.is_empty());
        let name = named.unwrap_or(id);
        let group = if named == Some("/") { mount.to_owned() } else { mount.join(checked(name)?) };
        let made = match named {
            Some(_) if schemas(config).is_empty() && !group.is_dir() => {
                let reason = "without a schema the group has to be there already";
                return Err(bad("closID", name, reason));
            }
            _ => file::make_dir(&group).map_err(|source| failed(mount, "make", &group, source))?,
        };
        let monitor = match config.enable_monitoring() {
            Some(true) => Some(group.join("mon_groups").join(checked(id)?)),
            _ => None,
        };
        let owned = named.is_none() && made == Made::Fresh;
        Ok((Self { mount: mount.to_owned(), group, monitor, owned }, made))
    }

    /// Whether the machine has what the schemas are about, and a group that was there has them already.
    fn check(&self, config: &LinuxIntelRdt, made: Made) -> Result<(), Error> {
        let schemas =
            [("l3CacheSchema", "L3", config.l3_cache_schema()), ("memBwSchema", "MB", config.mem_bw_schema())];
        for (field, resource, schema) in schemas {
            let Some(schema) = schema.as_deref().filter(|schema| !schema.is_empty()) else { continue };
            if schema.contains('\n') || !schema.starts_with(&format!("{resource}:")) {
                let reason = if resource == "L3" { "it is one line, L3:…" } else { "it is one line, MB:…" };
                return Err(bad(field, schema, reason));
            }
            if !self.mount.join("info").join(resource).is_dir() {
                return Err(bad(field, schema, "this machine's resctrl has no such resource"));
            }
            if made == Made::There && config.clos_id().is_some() && !within(schema, &self.read("schemata")?) {
                return Err(bad(field, schema, "the group of that closID exists, and has another schema"));
            }
        }
        match config.schemata().iter().flatten().find(|line| line.contains('\n')) {
            Some(line) => Err(bad("schemata", line, "each is one line")),
            None => Ok(()),
        }
    }

    /// Writes the schemas: all into a group of our own, into another's only `schemata`.
    fn write(&self, config: &LinuxIntelRdt, made: Made) -> Result<(), Error> {
        let ours = made == Made::Fresh || config.clos_id().is_none();
        let lines = if ours { schemas(config) } else { config.schemata().clone().unwrap_or_default() };
        self.set(&lines)
    }

    /// Sets other schemas, one a line: `L3:0=ff;1=c0`.
    pub fn set(&self, lines: &[String]) -> Result<(), Error> {
        let text: String = lines.iter().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
        if text.is_empty() {
            return Ok(());
        }
        let path = self.group.join("schemata");
        file::write(&path, &text).map_err(|source| failed(&self.mount, "change", &path, source))
    }

    fn make_monitor(&self) -> Result<(), Error> {
        let Some(monitor) = &self.monitor else { return Ok(()) };
        match file::make_dir(monitor).map_err(|source| failed(&self.mount, "make", monitor, source))? {
            Made::Fresh | Made::There => Ok(()),
            Made::NoParent => Err(bad("enableMonitoring", "true", "this machine's resctrl cannot monitor")),
        }
    }

    /// Puts a process into the group.
    pub fn attach(&self, pid: i32) -> Result<(), Error> {
        for dir in [Some(&self.group), self.monitor.as_ref()].into_iter().flatten() {
            let path = dir.join("tasks");
            let done = file::write(&path, &pid.to_string());
            done.map_err(|source| failed(&self.mount, "put a process into", &path, source))?;
        }
        Ok(())
    }

    /// Removes what goes with the container.
    pub fn remove(&self) -> Result<(), Error> {
        let goes = if self.owned { Some(&self.group) } else { self.monitor.as_ref() };
        let Some(dir) = goes else { return Ok(()) };
        match std::fs::remove_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let source = sys::Error { call: format!("rmdir({dir:?})"), source: error };
                Err(failed(&self.mount, "remove", dir, source))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, name: &str) -> Result<String, Error> {
        read(&self.group.join(name))
    }

    /// What the group may use, and what its processes do.
    pub fn stats(&self) -> Result<RdtStats, Error> {
        let (root, own) = (read(&self.mount.join("schemata"))?, self.read("schemata")?);
        let line = |text: &str, resource: &str| {
            text.lines().map(str::trim).find(|line| line.starts_with(resource)).map(str::to_owned)
        };
        let info = self.mount.join("info");
        let (l3, mb) = (info.join("L3"), info.join("MB"));
        let (has_l3, has_mb) = (l3.is_dir(), mb.is_dir());
        let mut stats =
            RdtStats { schemata: own.lines().map(|line| line.trim().to_owned()).collect(), ..RdtStats::default() };
        if has_l3 {
            let (min_cbm_bits, num_closids) = (number(&l3.join("min_cbm_bits"))?, number(&l3.join("num_closids"))?);
            let cbm_mask = read(&l3.join("cbm_mask"))?.trim().to_owned();
            stats.l3_cache_info = Some(L3CacheInfo { cbm_mask, min_cbm_bits, num_closids });
            stats.l3_cache_schema_root = line(&root, "L3");
            stats.l3_cache_schema = line(&own, "L3");
        }
        if has_mb {
            stats.mem_bw_info = Some(MemBwInfo {
                bandwidth_gran: number(&mb.join("bandwidth_gran"))?,
                delay_linear: number(&mb.join("delay_linear"))?,
                min_bandwidth: number(&mb.join("min_bandwidth"))?,
                num_closids: number(&mb.join("num_closids"))?,
            });
            stats.mem_bw_schema_root = line(&root, "MB");
            stats.mem_bw_schema = line(&own, "MB");
        }
        self.monitor_stats(&mut stats)?;
        Ok(stats)
    }

    /// The counters, of each cache that the machine has. Without counters of its own the container has its group's.
    fn monitor_stats(&self, stats: &mut RdtStats) -> Result<(), Error> {
        let features = self.mount.join("info/L3_MON/mon_features");
        let features = file::read_if_there(&features).map_err(|source| Error::Read { path: features, source })?;
        let Some(features) = features else { return Ok(()) };
        let has = |feature: &str| features.lines().any(|known| known == feature);
        let (total, local, occupancy) = (has("mbm_total_bytes"), has("mbm_local_bytes"), has("llc_occupancy"));
        let dir = self.monitor.as_ref().unwrap_or(&self.group).join("mon_data");
        let mut caches: Vec<PathBuf> =
            std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        caches.sort();
        let count = |cache: &Path, name: &str, has: bool| if has { number(&cache.join(name)) } else { Ok(0) };
        for cache in &caches {
            if total || local {
                stats.mbm_stats.push(MbmStats {
                    mbm_total_bytes: count(cache, "mbm_total_bytes", total)?,
                    mbm_local_bytes: count(cache, "mbm_local_bytes", local)?,
                });
            }
            if occupancy {
                stats.cmt_stats.push(CmtStats { llc_occupancy: count(cache, "llc_occupancy", true)? });
            }
        }
        Ok(())
    }
}

/// What a group may use, and what its processes do; under runc's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdtStats {
    /// What the machine's caches are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    /// The schema of those who are in no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema_root: Option<String>,
    /// The group's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// What the machine's memory bandwidth is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    /// The schema of those who are in no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema_root: Option<String>,
    /// The group's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// All of the group's schemas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory traffic, by cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<MbmStats>,
    /// Occupancy, by cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<CmtStats>,
}

/// The machine's last-level caches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct L3CacheInfo {
    /// The bits of a whole cache.
    pub cbm_mask: String,
    /// How few bits a group may have.
    pub min_cbm_bits: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// The machine's memory bandwidth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemBwInfo {
    /// The step of a share.
    pub bandwidth_gran: u64,
    /// Whether the scale is linear.
    pub delay_linear: u64,
    /// The least share.
    pub min_bandwidth: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// Memory traffic through one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MbmStats {
    /// All of it, in bytes.
    pub mbm_total_bytes: u64,
    /// That of the cache's own memory node.
    pub mbm_local_bytes: u64,
}

/// Occupancy of one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CmtStats {
    /// In bytes.
    pub llc_occupancy: u64,
}

/// All lines for the group's schemata, in the order that the specification has.
fn schemas(config: &LinuxIntelRdt) -> Vec<String> {
    let single = [config.l3_cache_schema(), config.mem_bw_schema()];
    let lines = single.into_iter().flatten().chain(config.schemata().iter().flatten());
    lines.filter(|line| !line.is_empty()).cloned().collect()
}

/// Whether a schema is what a schemata file says: the kernel pads numbers and orders caches.
fn within(schema: &str, schemata: &str) -> bool {
    let Some((resource, wanted)) = parse(schema) else { return false };
    let found = schemata.lines().filter_map(parse).find(|(known, _)| *known == resource);
    found.is_some_and(|(_, known)| wanted.iter().all(|(cache, value)| known.get(cache) == Some(value)))
}

/// `L3:0=0ff;1=c0` as the resource, and its value by cache.
fn parse(line: &str) -> Option<(&str, BTreeMap<u32, &str>)> {
    let (resource, values) = line.trim().split_once(':')?;
    let value = |value| {
        let (cache, value): (&str, &str) = str::split_once(value, '=')?;
        Some((cache.trim().parse().ok()?, value.trim().trim_start_matches('0')))
    };
    Some((resource, values.split(';').map(value).collect::<Option<_>>()?))
}

fn checked(name: &str) -> Result<&str, Error> {
    let fine = !name.is_empty() && !RESERVED.contains(&name) && !name.contains(['/', '\0', '\n']);
    if fine { Ok(name) } else { Err(bad("closID", name, "it names no group")) }
}

fn read(path: &Path) -> Result<String, Error> {
    file::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

/// A counter; `Unavailable` and `Error` are what the kernel says for one that it has just begun, or lost.
fn number(path: &Path) -> Result<u64, Error> {
    Ok(read(path)?.trim().parse().unwrap_or(0))
}

fn bad(field: &str, value: &str, reason: &'static str) -> Error {
    Error::BadLimit { field: format!("linux.intelRdt.{field}"), value: value.to_owned(), reason }
}

/// resctrl says in a file of its own why it refused.
fn failed(mount: &Path, verb: &'static str, path: &Path, source: sys::Error) -> Error {
    let status = file::read(&mount.join("info/last_cmd_status")).unwrap_or_default();
    let status = match status.trim() {
        "" | "ok" => String::new(),
        said => format!(" ({said})"),
    };
    Error::Rdt { verb, path: path.into(), status, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for the mount, with the files that the kernel would make.
    fn machine(groups: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let files = [
            ("info/L3/cbm_mask", "fff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n"),
            ("info/last_cmd_status", "mask f00f has non-consecutive 1-bits\n"),
            ("schemata", "    L3:0=fff;1=fff\n    MB:0=100;1=100\n"),
        ];
        files.iter().for_each(|(name, text)| put(name, text));
        for group in groups {
            put(&format!("{group}/schemata"), "    L3:0=00f;1=0c0\n    MB:0= 20;1= 70\n");
            put(&format!("{group}/tasks"), "");
            put(&format!("{group}/mon_data/mon_L3_00/llc_occupancy"), "4096\n");
            put(&format!("{group}/mon_data/mon_L3_00/mbm_total_bytes"), "Unavailable\n");
            std::fs::create_dir_all(dir.path().join(group).join("mon_groups")).unwrap();
        }
        dir
    }

    fn config(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).unwrap()
    }

    fn made(dir: &Path, json: &str) -> Result<Rdt, String> {
        let config = config(json);
        let told = |error: Error| error.to_string();
        let (rdt, made) = Rdt::make(dir, &config, "web").map_err(told)?;
        rdt.check(&config, made)
            .and_then(|()| rdt.write(&config, made))
            .and_then(|()| rdt.make_monitor())
            .map_err(told)?;
        Ok(rdt)
    }

    #[test]
    fn a_group_of_a_closid_is_found_compared_and_never_removed() {
        let dir = machine(&["gold"]);
        let rdt = made(dir.path(), r#"{"closID":"gold"}"#).unwrap();
        rdt.attach(77).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("gold/tasks")).unwrap(), "77");
        rdt.remove().unwrap();
        let same = r#"{"closID":"gold","l3CacheSchema":"L3:1=c0;0=f","memBwSchema":"MB:0=20"}"#;
        made(dir.path(), same).unwrap().remove().unwrap();
        assert!(dir.path().join("gold/schemata").exists());
        for other in ["L3:0=ff", "L3:2=f"] {
            let error = made(dir.path(), &format!(r#"{{"closID":"gold","l3CacheSchema":"{other}"}}"#)).unwrap_err();
            assert!(error.contains("has another schema"), "{error}");
        }
        let error = made(dir.path(), r#"{"closID":"silver"}"#).unwrap_err();
        assert_eq!(error, "linux.intelRdt.closID is silver: without a schema the group has to be there already");
    }

    #[test]
    fn the_root_is_the_default_class() {
        let dir = machine(&[]);
        std::fs::write(dir.path().join("tasks"), "").unwrap();
        let rdt = made(dir.path(), r#"{"closID":"/"}"#).unwrap();
        rdt.attach(5).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("tasks")).unwrap(), "5");
        rdt.remove().unwrap();
        assert!(dir.path().join("tasks").exists());
    }

    #[test]
    fn a_group_of_the_containers_own_goes_with_it() {
        let dir = machine(&[]);
        let rdt = made(dir.path(), "{}").unwrap();
        assert!(dir.path().join("web").is_dir());
        let again: Rdt = serde_json::from_str(&serde_json::to_string(&rdt).unwrap()).unwrap();
        again.remove().unwrap();
        assert!(!dir.path().join("web").exists());
        again.remove().unwrap();
    }

    #[test]
    fn schemas_are_written_in_the_order_of_the_specification() {
        let dir = machine(&["web"]);
        let json = r#"{"memBwSchema":"MB:0=20","l3CacheSchema":"L3:0=f","schemata":["L2:0=1","L2:1=2"]}"#;
        made(dir.path(), json).unwrap();
        let written = std::fs::read_to_string(dir.path().join("web/schemata")).unwrap();
        assert!(written.starts_with("L3:0=f\nMB:0=20\nL2:0=1\nL2:1=2\n"), "{written}");
        // In a group that others may be in, only schemata is an order.
        let dir = machine(&["gold"]);
        made(dir.path(), r#"{"closID":"gold","l3CacheSchema":"L3:0=f","schemata":["L2:0=1"]}"#).unwrap();
        assert!(std::fs::read_to_string(dir.path().join("gold/schemata")).unwrap().starts_with("L2:0=1\n"));
    }

    #[test]
    fn a_monitored_container_has_counters_of_its_own() {
        let dir = machine(&["gold"]);
        let rdt = made(dir.path(), r#"{"closID":"gold","enableMonitoring":true}"#).unwrap();
        let monitor = dir.path().join("gold/mon_groups/web");
        assert!(monitor.is_dir());
        rdt.remove().unwrap();
        assert!(!monitor.exists() && dir.path().join("gold").exists());
    }

    #[test]
    fn nonsense_is_refused_by_field() {
        let dir = machine(&["gold"]);
        for (json, expected) in [
            (r#"{"closID":".."}"#, "closID is .."),
            (r#"{"closID":"a/b","schemata":["L3:0=1"]}"#, "closID is a/b"),
            (r#"{"closID":"info"}"#, "closID is info"),
            (r#"{"l3CacheSchema":"MB:0=1"}"#, "l3CacheSchema is MB:0=1: it is one line, L3:…"),
            (r#"{"memBwSchema":"MB:0=1\nL3:0=1"}"#, "memBwSchema is MB:0=1"),
            (r#"{"schemata":["L3:0=1\nMB:0=1"]}"#, "schemata is L3:0=1"),
        ] {
            let error = made(dir.path(), json).unwrap_err();
            assert!(error.starts_with(&format!("linux.intelRdt.{expected}")), "{json}: {error}");
        }
        std::fs::remove_dir_all(dir.path().join("info/MB")).unwrap();
        assert!(made(dir.path(), r#"{"memBwSchema":"MB:0=1"}"#).unwrap_err().contains("no such resource"));
        std::fs::remove_file(dir.path().join("gold/schemata")).unwrap();
        let error = made(dir.path(), r#"{"closID":"gold","schemata":["L3:0=f00f"]}"#).unwrap_err();
        assert!(error.contains("non-consecutive"), "{error}");
    }

    #[test]
    fn statistics_have_runcs_names() {
        let dir = machine(&["gold"]);
        let stats = made(dir.path(), r#"{"closID":"gold"}"#).unwrap().stats().unwrap();
        let expected = serde_json::json!({
            "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=fff;1=fff",
            "l3_cache_schema": "L3:0=00f;1=0c0",
            "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0= 20;1= 70",
            "schemata": ["L3:0=00f;1=0c0", "MB:0= 20;1= 70"],
            "mbm_stats": [{"mbm_total_bytes": 0, "mbm_local_bytes": 0}],
            "cmt_stats": [{"llc_occupancy": 4096}],
        });
        assert_eq!(serde_json::to_value(stats).unwrap(), expected);
    }

    #[test]
    fn a_machine_without_resctrl_says_so() {
        if rdt_available().unwrap() {
            return;
        }
        let error = Rdt::create(&config("{}"), "web").unwrap_err();
        assert_eq!(error.to_string(), "linux.intelRdt needs a mounted resctrl, which this machine does not have");
    }
}
