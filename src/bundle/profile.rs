//! A seccomp profile as Docker's users write them (`--security-opt seccomp=FILE`), for one container's capabilities on
//! this machine: rules that are for other capabilities, architectures or kernels are left out (moby, profiles/seccomp).

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::seccomp::native;
use crate::oci::runtime::{Arch, Capabilities, LinuxSeccomp};

/// The largest profile that is read: Docker's own has 15 KiB.
const MAX_BYTES: usize = 1 << 20;

/// What Docker has beside the specification's words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extra {
    #[serde(default)]
    arch_map: Vec<ArchMap>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

/// For what a rule is, or is not.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// The machine that a profile is read for.
struct Machine<'a> {
    /// As Go calls it, which is how Docker's profiles do.
    arch: &'static str,
    native: Option<Arch>,
    kernel: (u32, u32),
    capabilities: &'a Capabilities,
}

/// The profile that `text` means.
pub fn read(text: &str, capabilities: &Capabilities) -> Result<LinuxSeccomp, Error> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let machine = Machine { arch: go_arch(), native: native(), kernel: version(&release), capabilities };
    read_for(text, &machine).map_err(|problem| Error::Profile { problem })
}

fn read_for(text: &str, machine: &Machine<'_>) -> Result<LinuxSeccomp, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let extra: Extra = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let profile = value.as_object_mut().ok_or("it is no object")?;
    profile.remove("archMap");
    if !extra.arch_map.is_empty() && profile.get("architectures").is_some_and(|list| list != &Value::Null) {
        return Err("architectures and archMap are both given".to_owned());
    }
    if let Some(Value::Array(rules)) = profile.get_mut("syscalls") {
        for rule in rules.iter_mut() {
            flatten_name(rule);
        }
        let mut failed = None;
        rules.retain_mut(|rule| applies(rule, machine).unwrap_or_else(|problem| failed.replace(problem).is_some()));
        if let Some(problem) = failed {
            return Err(problem);
        }
    }
    let mut profile: LinuxSeccomp = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let own = extra.arch_map.into_iter().find(|map| Some(map.architecture) == machine.native);
    if let Some(map) = own {
        let all = [map.architecture].into_iter().chain(map.sub_architectures.unwrap_or_default());
        profile.set_architectures(Some(all.collect()));
    }
    Ok(profile)
}

/// `name`, as old profiles have it, is a list of one.
fn flatten_name(rule: &mut Value) {
    if let Some(rule) = rule.as_object_mut()
        && let Some(name) = rule.remove("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty()))
    {
        rule.entry("names").or_insert_with(|| Value::Array(vec![name]));
    }
}

/// Whether a rule is for this machine; what says so is taken out of it.
fn applies(rule: &mut Value, machine: &Machine<'_>) -> Result<bool, String> {
    let rule = rule.as_object_mut().ok_or("a rule is no object")?;
    rule.remove("comment");
    let mut filter = |name: &str| match rule.remove(name) {
        None | Some(Value::Null) => Ok(Filter::default()),
        Some(filter) => serde_json::from_value::<Filter>(filter).map_err(|error| format!("{name}: {error}")),
    };
    let (includes, excludes) = (filter("includes")?, filter("excludes")?);
    let has = |capability: &String| {
        let bare = capability.strip_prefix("CAP_").unwrap_or(capability);
        bare.parse().is_ok_and(|capability| machine.capabilities.contains(&capability))
    };
    let here = |arch: &String| arch == machine.arch;
    let old = |least: &Option<String>| least.as_ref().is_some_and(|least| machine.kernel < version(least));
    let included = (includes.arches.is_empty() || includes.arches.iter().any(here))
        && includes.caps.iter().all(has)
        && !old(&includes.min_kernel);
    let excluded = excludes.arches.iter().any(here)
        || excludes.caps.iter().any(has)
        || (excludes.min_kernel.is_some() && !old(&excludes.min_kernel));
    Ok(included && !excluded)
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime::Capability;

    fn names(text: &str, capabilities: &[Capability]) -> Result<Vec<String>, String> {
        let capabilities = capabilities.iter().copied().collect();
        let native = Some(Arch::ScmpArchX86_64);
        let machine = Machine { arch: "amd64", native, kernel: (6, 1), capabilities: &capabilities };
        let profile = read_for(text, &machine)?;
        Ok(profile.syscalls().iter().flatten().flat_map(|rule| rule.names()).cloned().collect())
    }

    fn with(filter: &str) -> String {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}}],
                "syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW","comment":"x",{filter}}}]}}"#
        )
    }

    #[test]
    fn rules_are_for_capabilities_architectures_and_kernels() {
        for (filter, applies) in [
            (r#""includes":{}"#, true),
            (r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, true),
            (r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_SYS_BOOT"]}"#, false),
            (r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, false),
            (r#""includes":{"arches":["s390x","amd64"]}"#, true),
            (r#""excludes":{"arches":["amd64"]}"#, false),
            (r#""includes":{"minKernel":"6.1"}"#, true),
            (r#""includes":{"minKernel":"6.10"}"#, false),
            (r#""excludes":{"minKernel":"4.8"}"#, false),
        ] {
            let found = names(&with(filter), &[Capability::SysAdmin]).unwrap();
            assert_eq!(!found.is_empty(), applies, "{filter}");
        }
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let wrong = r#""includes":{"caps":7}"#;
        for bad in ["", "[]", "{}", r#"{"defaultAction":"NO"}"#, &with(wrong)] {
            assert!(names(bad, &[]).is_err(), "{bad}");
        }
        let old = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(names(old, &[]).unwrap(), ["chmod"]);
    }
}
