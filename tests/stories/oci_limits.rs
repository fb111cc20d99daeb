//! `pause`, `resume`, `update`, `ps`, `events`: what a container uses and may use.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::oci::path;
use super::support::{Oci, eventually};

/// A control file of the container, under its name on v1 or v2.
fn control(id: &str, v1: &str, v2: &str) -> String {
    let v1_path = PathBuf::from("/sys/fs/cgroup").join(v1.replacen('/', &format!("/wherry/{id}/"), 1));
    let v2_path = PathBuf::from("/sys/fs/cgroup/wherry").join(id).join(v2);
    let text = fs::read_to_string(&v1_path).or_else(|_| fs::read_to_string(&v2_path));
    text.unwrap_or_else(|error| panic!("{v1_path:?}, {v2_path:?}: {error}")).trim().to_owned()
}

fn sleeping(oci: &Oci, limits: Value) -> String {
    let id = oci.id("limits");
    let bundle = oci.bundle_with(&id, "sleep 1000", |config| {
        for (key, value) in limits.as_object().unwrap() {
            config["linux"]["resources"][key] = value.clone();
        }
    });
    oci.create(&id, &bundle);
    oci.ok(["start", &id]);
    id
}

#[test]
fn a_paused_container_stands_still() {
    let oci = Oci::new();
    let id = oci.id("paused");
    let left = oci.create(&id, &oci.bundle(&id, "while true; do echo x; sleep 0.01; done"));
    oci.ok(["start", &id]);
    oci.ok(["pause", &id]);
    assert_eq!(oci.status(&id), "paused");
    let size = || fs::metadata(&left.file).unwrap().len();
    let before = size();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(size(), before);
    oci.call(["pause", &id]).expect(1).complains(&["container not running"]);
    oci.call(["delete", &id]).expect(1).complains(&["paused"]);
    oci.ok(["resume", &id]);
    eventually("it goes on", || (size() > before).then_some(()));
    oci.call(["resume", &id]).expect(1).complains(&["container not paused"]);
    oci.ok(["pause", &id]);
    oci.ok(["kill", &id, "KILL"]);
    oci.until(&id, "stopped");
}

#[test]
fn limits_change_by_options_and_the_rest_stays() {
    let oci = Oci::new();
    let id = sleeping(&oci, json!({"memory": {"limit": 64 << 20}, "cpu": {"quota": 50_000, "period": 100_000}}));
    oci.ok(["update", "--memory", "32m", "--pids-limit", "17", "--cpu-quota", "20000", &id]);
    assert_eq!(control(&id, "memory/memory.limit_in_bytes", "memory.max"), (32 << 20).to_string());
    assert_eq!(control(&id, "pids/pids.max", "pids.max"), "17");
    let quota = control(&id, "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "20000" || quota == "20000 100000", "{quota}");
    oci.ok(["update", "--cpu-share", "512", &id]);
    assert_eq!(control(&id, "pids/pids.max", "pids.max"), "17");
    oci.call(["update", "--memory", "lots", &id]).expect(1).complains(&["--memory", "lots"]);
    oci.call(["update", "--l3-cache-schema", "L3:0=f", &id]).expect(1).complains(&["--l3-cache-schema"]);
    oci.call(["update", "--kernel-memory", "1m", &id]).expect(0).complains(&["Kernel memory settings are ignored"]);
}

#[test]
fn limits_change_by_a_file() {
    let oci = Oci::new();
    let id = sleeping(&oci, json!({}));
    let file = oci.work().join("resources.json");
    fs::write(&file, json!({"memory": {"limit": 48 << 20}, "pids": {"limit": 23}}).to_string()).unwrap();
    oci.ok(["update", "--resources", path(&file), &id]);
    assert_eq!(control(&id, "memory/memory.limit_in_bytes", "memory.max"), (48 << 20).to_string());
    assert_eq!(control(&id, "pids/pids.max", "pids.max"), "23");
    let mut command = oci.command(["update", "-r", "-", &id]);
    command.stdin(fs::File::open(&file).unwrap());
    super::support::Running::start(&mut command).finish().expect(0);
    fs::write(&file, "[").unwrap();
    oci.call(["update", "-r", path(&file), &id]).expect(1).complains(&["resources.json"]);
}

#[test]
fn processes_are_listed_by_number_and_as_ps_shows_them() {
    let oci = Oci::new();
    let id = sleeping(&oci, json!({}));
    let pid = oci.pid(&id);
    assert_eq!(oci.ok(["ps", "--format", "json", &id]), format!("[{pid}]"));
    let table = oci.ok(["ps", &id]);
    assert!(table.lines().count() == 2 && table.contains("sleep 1000"), "{table}");
    let own = oci.ok(["ps", &id, "-o", "pid,comm"]);
    assert!(own.lines().count() == 2 && own.contains(&pid.to_string()), "{own}");
}

#[test]
fn statistics_are_in_runcs_form() {
    let oci = Oci::new();
    let id = sleeping(&oci, json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 9}}));
    let event: Value = serde_json::from_str(&oci.ok(["events", "--stats", &id])).unwrap();
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(&*id)));
    let data = &event["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{event}");
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    assert_eq!((&data["pids"]["current"], &data["pids"]["limit"]), (&json!(1), &json!(9)));
    oci.call(["events", "--interval", "0s", "--stats", &id]).expect(1).complains(&["--interval"]);
    oci.ok(["kill", &id, "KILL"]);
    oci.until(&id, "stopped");
    oci.call(["events", "--stats", &id]).expect(1).complains(&["is not running"]);
}

#[test]
fn a_want_of_memory_is_told() {
    let oci = Oci::new();
    let id = oci.id("oom");
    let eat = "cat /dev/zero | head -c 100m | tail > /dev/null";
    let script = format!("while [ ! -e /dev/shm/go ]; do sleep 0.05; done; {eat}; sleep 1000");
    let bundle = oci.bundle_with(&id, &script, |config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    oci.create(&id, &bundle);
    oci.ok(["start", &id]);
    let file = oci.work().join("events");
    let mut watching = oci.command(["events", "--interval", "100ms", &id]);
    let mut watching = watching.stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
    super::support::oci::until_written(&file, "\"stats\"");
    oci.ok(["exec", &id, "touch", "/dev/shm/go"]);
    super::support::oci::until_written(&file, "\"oom\"");
    oci.ok(["delete", "-f", &id]);
    assert!(watching.wait().unwrap().success(), "events end with the container");
}
