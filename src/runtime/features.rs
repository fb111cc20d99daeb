//! `features`: what this runtime understands, as features.md of the runtime specification has it.

use serde_json::{Value, json};

use super::options::Given;
use super::{Command, Context, OCI_VERSION, Outcome, say};
use crate::engine::linux::option_names;
use crate::engine::wasm::grant::Grants;
use crate::oci::CAPABILITIES;
use crate::sys::seccomp::{Flags, knows};

/// `features`.
pub const COMMAND: Command =
    Command { words: "", count: (0, 0), ..Command::new("features", "show what this runtime understands", run) };

fn run(_: &Context<'_>, _: &Given) -> Outcome {
    let json = serde_json::to_string_pretty(&features()).expect("plain data");
    say(&format!("{json}\n"))?;
    Ok(0)
}

/// The versions of WASI whose programs run, chosen by their bytes.
const WASI: &str = "preview 1, 0.2, 0.3";

fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": option_names(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": CAPABILITIES.as_slice(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": seccomp(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {
                "modes": [
                    "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "wherry.wasm": WASI,
            "wherry.wasm.grants": Grants::words().map(|word| word.name).collect::<Vec<_>>().join(","),
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    })
}

fn seccomp() -> Value {
    let flags = [
        ("SECCOMP_FILTER_FLAG_TSYNC", Flags::TSYNC),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Flags::SPEC_ALLOW),
        ("SECCOMP_FILTER_FLAG_LOG", Flags::LOG),
    ];
    let supported: Vec<&str> = flags.iter().filter(|(_, flag)| knows(*flag)).map(|(name, _)| *name).collect();
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        "knownFlags": flags.map(|(name, _)| name),
        "supportedFlags": supported,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_are_in_the_specifications_form() {
        let features = features();
        let typed: crate::oci::runtime::Features = serde_json::from_value(features.clone()).unwrap();
        assert_eq!(typed.oci_version_max(), OCI_VERSION);
        assert_eq!(features["linux"]["capabilities"][21], "CAP_SYS_ADMIN");
    }
}
