//! The bundles of the cases, by name.

use serde_json::{Value, json};

/// Sleeps until it is killed. As a shell's builtin would it does not fork.
const SLEEP: &str = "exec sleep 1000";

/// Each bundle's name, which is also its container's, and its configuration.
pub fn all() -> Vec<(&'static str, Value)> {
    let eater = "echo 1000 >/proc/self/oom_score_adj; head -c 64m /dev/zero | tail >/dev/null";
    let wait = "while [ ! -e /tmp/go ]; do usleep 20000; done";
    vec![
        ("lifecycle", bundle("lifecycle", "trap 'echo got USR1' USR1; echo ready; while true; do sleep 0.1; done")),
        ("missing", with(bundle("missing", SLEEP), "/process/args", json!(["/no-such-program"]))),
        ("exit", bundle("exit", "exit 7")),
        ("limits", limited("limits", SLEEP, every_limit())),
        ("unknown", limited("unknown", SLEEP, json!({"unified": {"memory.no_such_file": "1"}}))),
        ("netcls", limited("netcls", SLEEP, json!({"network": {"classID": 1}}))),
        ("oom", oom(&format!("{wait}; ({eater}); echo eater: $?; {SLEEP}"))),
        ("hungry", limited("hungry", "exec tail /dev/zero", memory(16 << 20))),
        (
            "bomb",
            limited("bomb", "(while true; do sleep 1000 & done); exec sleep 1000", json!({"pids": {"limit": 10}})),
        ),
        ("busy", limited("busy", "while true; do :; done", json!({"cpu": {"quota": 5000, "period": 50_000}}))),
        ("io", io()),
        ("devices", devices()),
        ("paused", bundle("paused", "i=0; while true; do i=$((i + 1)); echo $i; usleep 10000; done")),
        ("exec", bundle("exec", SLEEP)),
        ("nested", nested()),
        ("family", family()),
        ("reader", limited("reader", SLEEP, memory(64 << 20))),
        ("writer", with(bundle("writer", SLEEP), CGROUP_OPTIONS, json!(["nosuid", "noexec", "nodev", "rw"]))),
        ("host", without("cgroup", limited("host", SLEEP, json!({"pids": {"limit": 44}})))),
        ("rootless", rootless("rootless", "cat /proc/self/cgroup")),
        ("rootless-limited", with(rootless("rootless-limited", SLEEP), RESOURCES, json!({"pids": {"limit": 17}}))),
        ("rootless-delegated", delegated()),
        ("below", with(limited("below", SLEEP, memory(16 << 20)), CGROUPS_PATH, json!("/occupied/below"))),
        ("taken", bundle("taken", SLEEP)),
        ("plain", bundle("plain", "ls /")),
    ]
}

const RESOURCES: &str = "/linux/resources";
const CGROUPS_PATH: &str = "/linux/cgroupsPath";
/// The mount of the groups is the last one.
const CGROUP_OPTIONS: &str = "/mounts/5/options";

fn every_limit() -> Value {
    let rate = |rate: u64| json!([{"major": 7, "minor": 0, "rate": rate}]);
    json!({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 80 << 20},
        "pids": {"limit": 23},
        "cpu": {"quota": 20_000, "period": 50_000, "shares": 512, "cpus": "1", "mems": "0"},
        "blockIO": {
            "throttleReadBpsDevice": rate(1 << 20),
            "throttleWriteBpsDevice": rate(1 << 19),
            "throttleReadIOPSDevice": rate(100),
        },
        "unified": {
            "memory.high": (48 << 20).to_string(),
            "cgroup.max.depth": "3",
            "io.max": "7:1 wiops=55",
        },
    })
}

/// On a slow machine the kernel takes a second victim before the first one's memory is free: not the shell.
fn oom(script: &str) -> Value {
    with(limited("oom", script, memory(16 << 20)), "/process/oomScoreAdj", json!(-1000))
}

fn memory(limit: u64) -> Value {
    json!({"memory": {"limit": limit, "swap": limit}})
}

/// Writes two megabytes to a block device, of which one a second may pass, and tells how many seconds it took.
fn io() -> Value {
    let write = "dd if=/dev/zero of=/dev/disk bs=64k count=32 oflag=direct 2>/dev/null";
    let script = format!("start=$(date +%s); {write} || echo failed; echo done $(($(date +%s) - start)); {SLEEP}");
    let config = limited(
        "io",
        &script,
        json!({
            "blockIO": {"throttleWriteBpsDevice": [{"major": 7, "minor": 0, "rate": 1 << 20}]},
            "devices": [{"allow": true, "type": "b", "major": 7, "minor": 0, "access": "rw"}],
        }),
    );
    with(config, "/linux/devices", json!([{"path": "/dev/disk", "type": "b", "major": 7, "minor": 0}]))
}

/// Denies all devices but those that every container has, and one that may be read.
fn devices() -> Value {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "r"},
    ]);
    let config = limited("devices", SLEEP, json!({"devices": rules}));
    with(config, "/linux/devices", json!([{"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237}]))
}

/// Does what an init system does in its group: moves itself below and hands the controllers on.
fn nested() -> Value {
    let script = "cd /sys/fs/cgroup; mkdir init other; echo $$ >init/cgroup.procs; echo +pids >cgroup.subtree_control; \
        echo moved; exec sleep 1000";
    with(bundle("nested", script), CGROUP_OPTIONS, json!(["nosuid", "noexec", "nodev", "rw"]))
}

/// Three processes in the machine's own pid namespace, one of them in a session of its own.
fn family() -> Value {
    let script = "sleep 1000 & setsid sleep 1000 & usleep 100000; echo ready; exec sleep 1000";
    without("pid", bundle("family", script))
}

/// What a user without privileges can have: one user, who is root inside, and nothing that takes another.
fn rootless(name: &str, script: &str) -> Value {
    let mut config = bundle(name, script);
    config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
    config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    config
}

/// The same in a group that was given to the user.
fn delegated() -> Value {
    let config = rootless("rootless-delegated", "cat /sys/fs/cgroup/pids.max");
    let config = with(config, RESOURCES, json!({"pids": {"limit": 17}, "memory": {"limit": 64 << 20}}));
    with(config, CGROUPS_PATH, json!("/ada/container"))
}

fn limited(name: &str, script: &str, resources: Value) -> Value {
    with(bundle(name, script), RESOURCES, resources)
}

/// The configuration without a namespace.
fn without(namespace: &str, mut config: Value) -> Value {
    config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|entry| entry["type"] != namespace);
    config
}

/// The configuration with a value changed or added.
fn with(mut config: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    config.pointer_mut(parent).expect("the parent is there")[key] = value;
    config
}

/// A container like those of engines: namespaces of its own, few capabilities, a read-only view of the cgroups.
fn bundle(name: &str, script: &str) -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID"];
    let mount = |destination: &str, typ: &str, options: &[&str]| json!({"destination": destination, "type": typ, "source": typ, "options": options});
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|typ| json!({"type": typ}));
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": "/rootfs", "readonly": true},
        "hostname": name,
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/tmp", "tmpfs", &["mode=1777"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "cgroupsPath": format!("/wherry/{name}"),
            "resources": {},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}
