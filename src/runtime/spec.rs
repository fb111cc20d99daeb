//! `spec`: a configuration to begin with.

use serde::Serialize;
use serde_json::{Value, json};

use super::options::{Flag, Given, option, switch};
use super::{Command, Context, Error, OCI_VERSION, Outcome};
use crate::cgroup::Hierarchies;
use crate::sys::named;

static FLAGS: [Flag; 3] = [
    option("bundle", Some('b'), "DIR", "the bundle's directory (default: the current one)"),
    option("file", Some('f'), "FILE", "the file to write (default: config.json in the bundle)"),
    switch("rootless", None, "for a container that an ordinary user runs"),
];

/// `spec`.
pub const COMMAND: Command = Command {
    words: "",
    count: (0, 0),
    flags: &FLAGS,
    ..Command::new("spec", "write a configuration to begin with", run)
};

fn run(_: &Context<'_>, given: &Given) -> Outcome {
    let directory = given.path("bundle").unwrap_or_else(|| ".".into());
    let path = given.path("file").map_or_else(|| directory.join("config.json"), |file| directory.join(file));
    let unified = Hierarchies::detect().is_ok_and(Hierarchies::is_unified);
    let mut spec = spec(unified);
    if given.has("rootless") {
        make_rootless(&mut spec, rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    }
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut text, format)).expect("plain data");
    text.push(b'\n');
    let new = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = new.and_then(|mut file| std::io::Write::write_all(&mut file, &text));
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::Words(format!("File {} exists. Remove it first", path.display())))
        }
        written => named(written, || format!("open({path:?}, O_CREAT | O_EXCL)"))
            .map(|()| 0)
            .map_err(Error::sys("write the configuration")),
    }
}

/// A shell with few rights, in namespaces of its own.
fn spec(unified: bool) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    namespaces.extend(unified.then_some("cgroup"));
    let mount = |destination: &str, typ: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": typ, "source": source, "options": options});
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "wherry",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces.iter().map(|typ| json!({"type": typ})).collect::<Vec<_>>(),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// What an ordinary user may have: itself as root of a user namespace, the host's network, no limits, and no mount
/// that names another user.
fn make_rootless(spec: &mut Value, uid: u32, gid: u32) {
    let linux = &mut spec["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    linux.as_object_mut().and_then(|linux| linux.remove("resources"));
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            mount["type"] = "none".into();
            mount["source"] = "/sys".into();
            mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
        } else if let Some(options) = mount["options"].as_array_mut() {
            let foreign =
                |option: &Value| option.as_str().is_some_and(|o| o.starts_with("gid=") || o.starts_with("uid="));
            options.retain(|option| !foreign(option));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime::Spec;

    #[test]
    fn both_configurations_are_of_the_specifications_form() {
        let mut value = spec(true);
        let typed: Spec = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(typed.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 6);
        make_rootless(&mut value, 1000, 1001);
        let typed: Spec = serde_json::from_value(value.clone()).unwrap();
        let linux = typed.linux().as_ref().unwrap();
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 1001);
        assert!(linux.resources().is_none());
        assert!(!value.to_string().contains("gid=5"), "{value}");
    }
}
