//! A stranger's `config.json` → the specification, or one line that names the field at fault.
//!
//! What is well formed takes one pass of `serde_json` over the bytes. Only when that fails is the text read a second
//! time: for what the `oci-spec` crate types more narrowly than the specification and its other readers do ([`relax`]),
//! and for where the fault is. A reader written in Go, as all others are, takes an empty string or list for one that is
//! not there; [`tidy`] does the same, so that nothing further in has to know.
//!
//! Unknown properties are ignored, as the specification demands. A key twice in one object is refused, as nobody can
//! know which of them is meant; beside a fault that [`relax`] puts right the last one counts, as in Go.

use serde::Deserialize;
use serde_json::Value;

use crate::oci::runtime::{Capability, LinuxSchedulerFlag, Spec};

/// The longest message that is passed on: it may quote what the file says, and that may be anything.
const MAX_MESSAGE: usize = 400;

/// A specification, and what was left out of it because this build does not know it.
pub(super) type Parsed = (Spec, Vec<String>);

/// Where a file is no specification, and why. The field is empty where the text is no JSON object at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub field: String,
    pub problem: String,
}

pub(super) fn parse(json: &[u8]) -> Result<Parsed, Mistake> {
    // serde takes a list for a structure too: a specification is an object.
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(Mistake::new("", "is no JSON object"));
    }
    match serde_json::from_slice(json) {
        Ok(spec) => Ok((tidy(spec), Vec::new())),
        Err(_) => parse_relaxed(json),
    }
}

fn parse_relaxed(json: &[u8]) -> Result<Parsed, Mistake> {
    let strict = locate(json);
    let Ok(mut value) = serde_json::from_slice::<Value>(json) else { return Err(strict) };
    let before = value.clone();
    let ignored = relax(&mut value);
    if value == before {
        return Err(strict);
    }
    match serde_path_to_error::deserialize::<_, Spec>(value) {
        Ok(spec) => Ok((tidy(spec), ignored)),
        // The same field again is better told with its line and column.
        Err(error) if error.path().to_string() == strict.field => Err(strict),
        Err(error) => Err(Mistake::new(&error.path().to_string(), &error.inner().to_string())),
    }
}

/// Finds the fault of a text that is no specification.
fn locate(json: &[u8]) -> Mistake {
    let mut reader = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, Spec>(&mut reader) {
        Err(error) => Mistake::new(&error.path().to_string(), &error.inner().to_string()),
        Ok(_) => {
            let problem = reader.end().err().map_or_else(|| "cannot be read".into(), |error| error.to_string());
            Mistake::new("", &problem)
        }
    }
}

impl Mistake {
    fn new(path: &str, problem: &str) -> Self {
        // "." is the whole document, "?" what the parser had not come to know.
        let field = path.trim_end_matches(['.', '?']);
        Self { field: one_line(field), problem: one_line(problem) }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colon = if self.field.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.field, self.problem)
    }
}

/// Makes one line of moderate length of a text that may quote a stranger's: log files have one entry a line, and a
/// terminal obeys control characters. The end is kept, for it has the place.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let length = text.chars().count();
    if length <= MAX_MESSAGE {
        return text;
    }
    let half = MAX_MESSAGE / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(length - half).collect();
    format!("{head}…{tail}")
}

/// Rewrites what the specification allows and the `oci-spec` crate (0.10) does not. Returns what was left out.
fn relax(spec: &mut Value) -> Vec<String> {
    drop_nulls(spec);
    drop_other_systems(spec);
    if let Some(process) = spec.get_mut("process") {
        relax_process(process);
    }
    if let Some(linux) = spec.get_mut("linux") {
        relax_linux(linux);
    }
    drop_unknown_capabilities(spec)
}

/// In Go `null` is the zero value of whatever was expected, and its encoder writes it for lists that were never made.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What other operating systems are told is nothing to fail for. The crate also has two lists that the specification
/// never had.
fn drop_other_systems(spec: &mut Value) {
    if let Value::Object(spec) = spec {
        for section in ["solaris", "windows", "vm", "zos", "freebsd", "uidMappings", "gidMappings"] {
            spec.remove(section);
        }
    }
}

fn relax_process(process: &mut Value) {
    if let Value::Object(process) = process {
        // Required by the crate only; without one the process is root (config-schema.json).
        process.entry("user").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    for flag in process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut).into_iter().flatten() {
        relax_scheduler_flag(flag);
    }
    for list in ["/execCPUAffinity/initial", "/execCPUAffinity/final"] {
        relax_processors(process.pointer_mut(list));
    }
    if let Some(Value::Object(affinity)) = process.get_mut("execCPUAffinity") {
        affinity.retain(|_, list| list != "");
    }
}

/// The crate derives the words from its variants' names, which goes wrong for two of them.
fn relax_scheduler_flag(flag: &mut Value) {
    let known = match flag.as_str() {
        Some("SCHED_FLAG_RESET_ON_FORK") => LinuxSchedulerFlag::SchedResetOnFork,
        Some("SCHED_FLAG_DL_OVERRUN") => LinuxSchedulerFlag::SchedFlagDLOverrun,
        _ => return,
    };
    if let Ok(spelled) = serde_json::to_value(known) {
        *flag = spelled;
    }
}

/// Spaces and empty elements are allowed in a list of processors (config-schema.json), but not by the crate's pattern.
fn relax_processors(list: Option<&mut Value>) {
    if let Some(Value::String(list)) = list {
        let elements: Vec<&str> = list.split(',').map(str::trim).filter(|element| !element.is_empty()).collect();
        *list = elements.join(",");
    }
}

fn relax_linux(linux: &mut Value) {
    for limit in linux.pointer_mut("/resources/hugepageLimits").and_then(Value::as_array_mut).into_iter().flatten() {
        relax_huge_pages(limit);
    }
    if let Value::Object(linux) = linux
        && linux.get("seccomp").is_some_and(is_no_filter)
    {
        linux.remove("seccomp");
    }
}

/// A limit is 64 bits without a sign, in the crate with one. The kernel's largest is below both.
fn relax_huge_pages(entry: &mut Value) {
    if let Some(limit) = entry.get_mut("limit")
        && limit.as_u64().is_some_and(|bytes| i64::try_from(bytes).is_err())
    {
        *limit = i64::MAX.into();
    }
}

/// runc takes a profile with neither a default nor rules for none.
fn is_no_filter(seccomp: &Value) -> bool {
    let empty = |field: &str| match seccomp.get(field) {
        None => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    seccomp.is_object() && empty("defaultAction") && empty("syscalls")
}

/// "Any value which cannot be mapped to a relevant kernel interface … MUST be logged as a warning" (config.md,
/// `capabilities`), so that a newer caller's list does not fail here. A capability that is left out is one less.
fn drop_unknown_capabilities(spec: &mut Value) -> Vec<String> {
    let mut ignored = Vec::new();
    let sets = spec.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for (set, names) in sets.into_iter().flatten() {
        let Value::Array(names) = names else { continue };
        names.retain(|name| {
            let known = !name.is_string() || Capability::deserialize(name).is_ok();
            if !known {
                ignored.push(one_line(&format!("process.capabilities.{set}: {name} is no capability known here")));
            }
            known
        });
    }
    ignored
}

/// Takes what is empty for not there.
fn tidy(mut spec: Spec) -> Spec {
    drop_if(spec.hostname_mut(), String::is_empty);
    drop_if(spec.domainname_mut(), String::is_empty);
    if let Some(process) = spec.process_mut() {
        if process.apparmor_profile().as_deref() == Some("") {
            process.set_apparmor_profile(None);
        }
        if process.selinux_label().as_deref() == Some("") {
            process.set_selinux_label(None);
        }
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        drop_if(mount.typ_mut(), String::is_empty);
        drop_if(mount.source_mut(), |source| source.as_os_str().is_empty());
        drop_if(mount.uid_mappings_mut(), Vec::is_empty);
        drop_if(mount.gid_mappings_mut(), Vec::is_empty);
    }
    if let Some(linux) = spec.linux_mut() {
        tidy_linux(linux);
    }
    spec
}

fn tidy_linux(linux: &mut crate::oci::runtime::Linux) {
    drop_if(linux.uid_mappings_mut(), Vec::is_empty);
    drop_if(linux.gid_mappings_mut(), Vec::is_empty);
    drop_if(linux.devices_mut(), Vec::is_empty);
    drop_if(linux.net_devices_mut(), std::collections::HashMap::is_empty);
    drop_if(linux.time_offsets_mut(), std::collections::HashMap::is_empty);
    drop_if(linux.cgroups_path_mut(), |path| path.as_os_str().is_empty());
    drop_if(linux.rootfs_propagation_mut(), String::is_empty);
    drop_if(linux.mount_label_mut(), String::is_empty);
    for namespace in linux.namespaces_mut().iter_mut().flatten() {
        if namespace.path().as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            namespace.set_path(None);
        }
    }
    for device in linux.net_devices_mut().iter_mut().flat_map(|devices| devices.values_mut()) {
        drop_if(device.name_mut(), String::is_empty);
    }
    if let Some(seccomp) = linux.seccomp_mut() {
        if seccomp.listener_path().as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            seccomp.set_listener_path(None);
        }
        if seccomp.listener_metadata().as_deref() == Some("") {
            seccomp.set_listener_metadata(None);
        }
    }
}

fn drop_if<T>(slot: &mut Option<T>, empty: impl Fn(&T) -> bool) {
    if slot.as_ref().is_some_and(empty) {
        *slot = None;
    }
}

#[cfg(test)]
mod tests;
