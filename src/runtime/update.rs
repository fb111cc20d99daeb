//! `update`: other limits for a container that is there.
//!
//! They come from a file, or from options; what is not given stays as it is. The configuration kept beside the record
//! is changed too, so that a later update knows what holds.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::options::{Flag, Given, option};
use super::status::Status;
use super::store::{Entry, Locked, replace};
use super::{Command, Context, Error, Outcome};
use crate::bundle::MAX_CONFIG_BYTES;
use crate::cgroup::Hierarchies;
use crate::oci::runtime::LinuxResources;
use crate::sys::named;

static FLAGS: [Flag; 19] = [
    option("resources", Some('r'), "FILE", "read the limits from a linux.resources object; - is standard input"),
    option("blkio-weight", None, "N", "block I/O weight, 10 to 1000"),
    option("cpu-period", None, "USEC", "CFS period"),
    option("cpu-quota", None, "USEC", "CFS quota in a period"),
    option("cpu-burst", None, "USEC", "CFS quota that can be saved up"),
    option("cpu-share", None, "N", "CPU shares, relative to other containers"),
    option("cpu-rt-period", None, "USEC", "real-time period"),
    option("cpu-rt-runtime", None, "USEC", "real-time runtime in a period"),
    option("cpuset-cpus", None, "CPUS", "the processors to use"),
    option("cpuset-mems", None, "NODES", "the memory nodes to use"),
    option("memory", None, "BYTES", "memory limit; -1 for none"),
    option("cpu-idle", None, "0|1", "whether the group is SCHED_IDLE"),
    option("memory-reservation", None, "BYTES", "memory soft limit"),
    option("memory-swap", None, "BYTES", "limit of memory and swap together; -1 for none"),
    option("pids-limit", None, "N", "the most processes and threads"),
    option("l3-cache-schema", None, "SCHEMA", "Intel RDT: L3 cache schema"),
    option("mem-bw-schema", None, "SCHEMA", "Intel RDT: memory bandwidth schema"),
    option("kernel-memory", None, "BYTES", "").hidden(),
    option("kernel-memory-tcp", None, "BYTES", "").hidden(),
];

/// `update`.
pub const COMMAND: Command =
    Command { flags: &FLAGS, ..Command::new("update", "change the limits of a container", run) };

/// Where an option's number goes.
const NUMBERS: [(&str, &str, &str); 8] = [
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("pids-limit", "pids", "limit"),
];

/// Where an option's amount of memory goes.
const AMOUNTS: [(&str, &str); 3] =
    [("memory", "limit"), ("memory-swap", "swap"), ("memory-reservation", "reservation")];

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let mut container = context.locked(given)?;
    if container.entry.status() == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let mut wanted = match given.path("resources") {
        Some(path) => read(&path)?,
        None => from_options(given)?,
    };
    fix(&mut wanted);
    let kernel = given.has("kernel-memory") || given.has("kernel-memory-tcp");
    if kernel || ["kernel", "kernelTCP"].iter().any(|key| !wanted["memory"][key].is_null()) {
        context.log.warn("Kernel memory settings are ignored and will be removed");
    }
    resctrl(given, &container.entry)?;
    apply(&mut container, &wanted)?;
    Ok(0)
}

/// Reads the limits from a file or from standard input.
fn read(path: &Path) -> Result<Value, Error> {
    let mut json = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(MAX_CONFIG_BYTES).read_to_end(&mut json),
        _ => std::fs::File::open(path).and_then(|file| file.take(MAX_CONFIG_BYTES).read_to_end(&mut json)),
    };
    named(read, || format!("read({path:?})")).map_err(Error::sys("read the limits"))?;
    serde_json::from_slice(&json).map_err(|source| Error::Json { what: "the limits", path: path.to_owned(), source })
}

fn from_options(given: &Given) -> Result<Value, Error> {
    let mut wanted = json!({});
    for (flag, part, key) in NUMBERS {
        if let Some(number) = given.parsed::<i64>(flag)? {
            wanted[part][key] = number.into();
        }
    }
    for (flag, key) in AMOUNTS {
        if let Some(text) = given.text(flag)? {
            let why = || super::options::wrong(flag, text.as_ref(), "it is no number of bytes");
            wanted["memory"][key] = bytes(text).ok_or_else(why)?.into();
        }
    }
    if let Some(weight) = given.parsed::<u16>("blkio-weight")?.filter(|weight| *weight != 0) {
        wanted["blockIO"]["weight"] = weight.into();
    }
    for (flag, key) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(text) = given.text(flag)? {
            wanted["cpu"][key] = text.into();
        }
    }
    Ok(wanted)
}

/// An amount of memory: a number with a unit of 1024s, or -1 for no limit.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim_start().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let amount = number.parse::<f64>().ok()? * 1024_f64.powi(power);
    (amount < i64::MAX as f64).then_some(amount as i64)
}

/// Without a memory limit there is none of memory and swap either.
fn fix(wanted: &mut Value) {
    if wanted["memory"]["limit"] == -1 && wanted["memory"]["swap"].is_null() {
        wanted["memory"]["swap"] = (-1).into();
    }
    if let Some(fields) = wanted.as_object_mut() {
        // Looking at what is not there has put it there.
        fields.retain(|_, value| !value.is_null());
    }
}

/// Sets the limits and writes them down.
fn apply(container: &mut Locked, wanted: &Value) -> Result<(), Error> {
    let path = container.entry.config();
    let json = |source| Error::Json { what: "its configuration", path: path.clone(), source };
    let text = named(std::fs::read(&path), || format!("read({path:?})")).map_err(Error::sys("read its limits"))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(json)?;
    let known = &mut config["linux"]["resources"];
    merge(known, wanted);
    let resources: LinuxResources = serde_json::from_value(together(known, wanted)).map_err(|source| Error::Json {
        what: "the limits",
        path: container.entry.directory.clone(),
        source,
    })?;
    let group = container.entry.record.cgroup.as_mut().and_then(|place| place.group.as_mut());
    let group = group.ok_or_else(|| Error::refuse("update", "the container has no cgroup"))?;
    group.update(Hierarchies::detect()?, &resources)?;
    container.save().map_err(Error::sys("keep its state"))?;
    replace(&path, config.to_string().as_bytes()).map_err(Error::sys("keep its limits"))
}

/// Lays `more` over `value`: objects are merged, all else is replaced.
fn merge(value: &mut Value, more: &Value) {
    match (value, more) {
        (Value::Object(fields), Value::Object(more)) => {
            for (key, more) in more {
                merge(fields.entry(key).or_insert(Value::Null), more);
            }
        }
        (value, more) => *value = more.clone(),
    }
}

/// What is to be set: what was asked for, and the other half of what the kernel takes as one.
fn together(known: &Value, wanted: &Value) -> Value {
    let mut all = wanted.clone();
    for (part, pair) in [("cpu", ["quota", "period"]), ("memory", ["limit", "swap"])] {
        let Some(fields) = all.get_mut(part).and_then(Value::as_object_mut) else { continue };
        if pair.iter().any(|key| fields.contains_key(*key)) {
            for key in pair {
                complete(fields, key, &known[part][key]);
            }
        }
    }
    // Devices are not a limit, and other programs may have added some to the group meanwhile.
    if let Some(fields) = all.as_object_mut() {
        fields.remove("devices");
    }
    all
}

fn complete(fields: &mut Map<String, Value>, key: &str, known: &Value) {
    if !known.is_null() && !fields.contains_key(key) {
        fields.insert(key.to_owned(), known.clone());
    }
}

/// Intel's resource director is changed in the group that the specification put the container into.
fn resctrl(given: &Given, entry: &Entry) -> Result<(), Error> {
    let mut lines = Vec::new();
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if let Some(schema) = given.text(flag)? {
            let what = format!("--{flag}");
            let none = || Error::refuse(what, "the container has no linux.intelRdt to change");
            lines.push((entry.record.rdt.as_ref().ok_or_else(none)?, schema.to_owned()));
        }
    }
    lines.into_iter().try_for_each(|(rdt, schema)| Ok(rdt.set(&[schema])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units_of_1024() {
        for (text, amount) in [
            ("0", 0),
            ("1024", 1024),
            ("1k", 1024),
            ("1.5K", 1536),
            ("2mb", 2 << 20),
            ("3 GiB", 3 << 30),
            ("1b", 1),
            ("-1", -1),
        ] {
            assert_eq!(bytes(text), Some(amount), "{text}");
        }
        for bad in ["", "-2", "k", "1x", "1.2.3", "99999999999999999999"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_half_is_completed_from_what_holds() {
        let mut known = json!({"cpu": {"quota": 5, "period": 10}, "memory": {"swap": 7}, "pids": {"limit": 3}});
        let wanted = json!({"cpu": {"period": 20}, "devices": []});
        merge(&mut known, &wanted);
        assert_eq!(known["cpu"], json!({"quota": 5, "period": 20}));
        assert_eq!(together(&known, &wanted), json!({"cpu": {"quota": 5, "period": 20}}));
    }

    #[test]
    fn no_limit_of_memory_is_none_of_swap() {
        let mut wanted = json!({"memory": {"limit": -1}});
        fix(&mut wanted);
        assert_eq!(wanted, json!({"memory": {"limit": -1, "swap": -1}}));
        let mut nothing = json!({});
        fix(&mut nothing);
        assert_eq!(nothing, json!({}));
    }
}
