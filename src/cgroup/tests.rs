//! Groups on this machine's own hierarchies, and on its unified one alone.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::error::{Failure, Kind};

/// A group that is removed also when the test fails.
struct Made {
    cgroup: Cgroup,
    path: PathBuf,
}

impl Drop for Made {
    fn drop(&mut self) {
        let gone = self.cgroup.kill().and_then(|()| self.cgroup.remove());
        if !std::thread::panicking() {
            gone.unwrap();
        }
    }
}

impl Made {
    fn update(&mut self, machine: &Hierarchies, json: &str) -> Result<(), Error> {
        self.cgroup.update(machine, &serde_json::from_str(json).unwrap())
    }
}

fn make(hierarchies: &Hierarchies, name: &str, resources: &str) -> Made {
    let path = PathBuf::from(format!("/wherry-test-{}-{name}", std::process::id()));
    let resources: LinuxResources = serde_json::from_str(resources).unwrap();
    let cgroup = Cgroup::create(hierarchies, &path, &resources).unwrap();
    Made { cgroup, path }
}

/// This machine, and its unified hierarchy alone if it has one.
fn machines() -> Vec<Hierarchies> {
    let all = Hierarchies::detect().unwrap().clone();
    let unified = all.list.iter().find(|hierarchy| hierarchy.version == Version::V2);
    let unified = unified.map(|hierarchy| Hierarchies::at(&hierarchy.mount).unwrap());
    [Some(all), unified].into_iter().flatten().collect()
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").stdout(std::process::Stdio::null()).spawn().unwrap()
}

fn pid(child: &Child) -> i32 {
    child.id() as i32
}

#[test]
fn a_group_takes_a_process_kills_it_and_goes() {
    for machine in machines() {
        let made = make(&machine, "life", "{}");
        let mut child = sleeper();
        made.cgroup.attach(pid(&child)).unwrap();
        assert_eq!(made.cgroup.procs().unwrap(), [pid(&child)]);
        made.cgroup.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        made.cgroup.remove().unwrap();
        assert!(!made.cgroup.exists());
        made.cgroup.remove().unwrap();
    }
}

#[test]
fn a_process_is_in_the_group_in_every_hierarchy_that_counts() {
    let machine = Hierarchies::detect().unwrap();
    let made = make(machine, "joins", "{}");
    let mut child = sleeper();
    made.cgroup.attach(pid(&child)).unwrap();
    let joined = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    for hierarchy in &machine.list {
        let wanted = hierarchy.controllers.iter().any(|controller| ALWAYS.contains(&controller.as_str()));
        if wanted || hierarchy.version == Version::V2 {
            let line = format!(":{}:{}", hierarchy.controllers.join(","), made.path.display());
            let line = if hierarchy.version == Version::V2 { format!("0::{}", made.path.display()) } else { line };
            assert!(joined.contains(&line), "{line} in {joined}");
        }
    }
    made.cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_frozen_group_stands_still_and_can_be_killed() {
    for machine in machines() {
        let made = make(&machine, "freeze", "{}");
        let mut child = sleeper();
        made.cgroup.attach(pid(&child)).unwrap();
        assert!(!made.cgroup.is_frozen().unwrap());
        made.cgroup.freeze().unwrap();
        made.cgroup.freeze().unwrap();
        assert!(made.cgroup.is_frozen().unwrap());
        made.cgroup.thaw().unwrap();
        assert!(!made.cgroup.is_frozen().unwrap());
        assert!(child.try_wait().unwrap().is_none());
        made.cgroup.freeze().unwrap();
        made.cgroup.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn what_a_container_froze_itself_is_killed_too() {
    for machine in machines() {
        let made = make(&machine, "inner", "{}");
        let mut child = sleeper();
        for group in &made.cgroup.groups {
            let below = group.dir.join("below");
            std::fs::create_dir(&below).unwrap();
            file::write(&below.join("cgroup.procs"), &child.id().to_string()).unwrap();
            for (name, order) in [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")] {
                if below.join(name).exists() {
                    file::write(&below.join(name), order).unwrap();
                }
            }
        }
        made.cgroup.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn groups_below_are_counted_killed_and_removed() {
    for machine in machines() {
        let made = make(&machine, "deep", "{}");
        let mut child = sleeper();
        for group in &made.cgroup.groups {
            let below = group.dir.join("a/b");
            std::fs::create_dir_all(&below).unwrap();
            file::write(&below.join("cgroup.procs"), &child.id().to_string()).unwrap();
        }
        assert_eq!(made.cgroup.procs().unwrap(), [pid(&child)]);
        made.cgroup.kill().unwrap();
        child.wait().unwrap();
        made.cgroup.remove().unwrap();
        assert!(!made.cgroup.exists());
    }
}

#[test]
fn a_group_with_processes_is_not_taken_over() {
    for machine in machines() {
        let made = make(&machine, "used", "{}");
        let mut child = sleeper();
        made.cgroup.attach(pid(&child)).unwrap();
        let error = Cgroup::create(&machine, &made.path, &LinuxResources::default()).unwrap_err();
        assert!(matches!(error, Error::InUse { processes: 1, .. }), "{error}");
        assert_eq!(made.cgroup.procs().unwrap(), [pid(&child)]);
        made.cgroup.kill().unwrap();
        child.wait().unwrap();
        drop(Cgroup::create(&machine, &made.path, &LinuxResources::default()).unwrap());
    }
}

#[test]
fn a_failed_create_leaves_nothing() {
    for machine in machines() {
        let path = PathBuf::from(format!("wherry-test-{}-fail", std::process::id()));
        let json = match machine.version("pids") {
            Some(_) => r#"{"pids":{"limit":9223372036854775807}}"#,
            None => r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#,
        };
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let error = Cgroup::create(&machine, &path, &resources).unwrap_err();
        assert!(matches!(error, Error::Limit { .. } | Error::NoFile { .. }), "{error}");
        assert!(!Cgroup::open(&machine, &path).unwrap().exists());
    }
}

#[test]
fn limits_are_what_the_kernel_says_and_updates_may_go_both_ways() {
    let machine = Hierarchies::detect().unwrap();
    let mut made = make(machine, "limits", r#"{"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":7}}"#);
    let limits = |made: &Made| {
        let stats = made.cgroup.stats().unwrap();
        (stats.memory.unwrap().limit, stats.pids.unwrap().limit)
    };
    assert_eq!(limits(&made), (Some(64 << 20), Some(7)));
    for size in [128 << 20, 32 << 20] {
        made.update(machine, &format!(r#"{{"memory":{{"limit":{size},"swap":{size}}}}}"#)).unwrap();
        assert_eq!(limits(&made), (Some(size), Some(7)));
    }
    made.update(machine, r#"{"memory":{"limit":-1}}"#).unwrap();
    assert_eq!(limits(&made), (None, Some(7)));
}

/// A controller, the resources, and what its files then say.
type Field = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// What each field is on v1, as the kernel reads it back; a kernel without the file refuses by the field's name.
#[test]
fn every_v1_field_reaches_the_kernel() {
    let machine = Hierarchies::detect().unwrap();
    let table: [Field; 13] = [
        (
            "memory",
            r#"{"memory":{"limit":50593792,"reservation":50593792,"swap":60555264,"kernelTCP":50593792,"swappiness":50,
                "disableOOMKiller":true,"kernel":50593792,"useHierarchy":true}}"#,
            &[
                ("memory.limit_in_bytes", "50593792"),
                ("memory.memsw.limit_in_bytes", "60555264"),
                ("memory.soft_limit_in_bytes", "50593792"),
                ("memory.kmem.tcp.limit_in_bytes", "50593792"),
                ("memory.swappiness", "50"),
            ],
        ),
        ("cpu", r#"{"cpu":{"shares":1024}}"#, &[("cpu.shares", "1024")]),
        (
            "cpu",
            r#"{"cpu":{"quota":40000,"period":80000,"burst":2000}}"#,
            &[("cpu.cfs_quota_us", "40000"), ("cpu.cfs_period_us", "80000"), ("cpu.cfs_burst_us", "2000")],
        ),
        ("cpu", r#"{"cpu":{"quota":-1}}"#, &[("cpu.cfs_quota_us", "-1")]),
        ("cpu", r#"{"cpu":{"idle":1,"shares":512}}"#, &[("cpu.idle", "1")]),
        (
            "cpu",
            r#"{"cpu":{"realtimePeriod":500000,"realtimeRuntime":1000}}"#,
            &[("cpu.rt_period_us", "500000"), ("cpu.rt_runtime_us", "1000")],
        ),
        ("cpuset", r#"{"cpu":{"cpus":"0","mems":"0"}}"#, &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
        ("pids", r#"{"pids":{"limit":32}}"#, &[("pids.max", "32")]),
        ("pids", r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]),
        ("pids", r#"{"pids":{"limit":0}}"#, &[("pids.max", "1")]),
        ("blkio", r#"{"blockIO":{"weight":500}}"#, &[("blkio.bfq.weight", "500")]),
        (
            "hugetlb",
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
            &[("hugetlb.2MB.limit_in_bytes", "4194304")],
        ),
        ("net_cls", r#"{"network":{"classID":255}}"#, &[("net_cls.classid", "255")]),
    ];
    for (at, (controller, json, files)) in table.into_iter().enumerate() {
        if machine.version(controller) == Some(Version::V2) {
            continue;
        }
        let path = PathBuf::from(format!("/wherry-test-{}-field-{at}", std::process::id()));
        let cgroup = match Cgroup::create(machine, &path, &serde_json::from_str(json).unwrap()) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                // This kernel is not built with it.
                assert!(matches!(error, Error::NoController { .. } | Error::NoFile { .. }), "{json}: {error}");
                continue;
            }
        };
        if let Some((Version::V1, dir)) = cgroup.dir_of(controller) {
            for (file, expected) in files {
                assert_eq!(std::fs::read_to_string(dir.join(file)).unwrap().trim(), *expected, "{json}: {file}");
            }
        }
        cgroup.remove().unwrap();
    }
}

/// The same for v2. A machine whose controllers are all in v1 hierarchies has none of it.
#[test]
fn every_v2_field_reaches_the_kernel() {
    let machine = Hierarchies::detect().unwrap();
    let table: [Field; 14] = [
        (
            "memory",
            r#"{"memory":{"limit":50593792,"reservation":25165824,"swap":60555264,"kernel":5,"kernelTCP":5}}"#,
            &[("memory.max", "50593792"), ("memory.low", "25165824"), ("memory.swap.max", "9961472")],
        ),
        (
            "memory",
            r#"{"memory":{"limit":50593792,"swap":50593792}}"#,
            &[("memory.max", "50593792"), ("memory.swap.max", "0")],
        ),
        ("memory", r#"{"memory":{"limit":-1}}"#, &[("memory.max", "max"), ("memory.swap.max", "max")]),
        ("cpu", r#"{"cpu":{"shares":1024}}"#, &[("cpu.weight", "100")]),
        (
            "cpu",
            r#"{"cpu":{"quota":40000,"period":80000,"burst":2000}}"#,
            &[("cpu.max", "40000 80000"), ("cpu.max.burst", "2000")],
        ),
        ("cpu", r#"{"cpu":{"quota":50000}}"#, &[("cpu.max", "50000 100000")]),
        ("cpu", r#"{"cpu":{"quota":-1,"period":50000}}"#, &[("cpu.max", "max 50000")]),
        ("cpu", r#"{"cpu":{"idle":1,"shares":512}}"#, &[("cpu.idle", "1")]),
        ("cpuset", r#"{"cpu":{"cpus":"0","mems":"0"}}"#, &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
        ("pids", r#"{"pids":{"limit":32}}"#, &[("pids.max", "32")]),
        ("pids", r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]),
        ("io", r#"{"blockIO":{"weight":500}}"#, &[("io.bfq.weight", "default 500")]),
        (
            "hugetlb",
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
            &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")],
        ),
        (
            "memory",
            r#"{"unified":{"memory.high":"48234496","memory.oom.group":"1","cgroup.max.depth":"3"}}"#,
            &[("memory.high", "48234496"), ("memory.oom.group", "1"), ("cgroup.max.depth", "3")],
        ),
    ];
    for (at, (controller, json, files)) in table.into_iter().enumerate() {
        if machine.version(controller) != Some(Version::V2) {
            continue;
        }
        let path = PathBuf::from(format!("/wherry-test-{}-unified-{at}", std::process::id()));
        let cgroup = match Cgroup::create(machine, &path, &serde_json::from_str(json).unwrap()) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                // This kernel is not built with it.
                assert!(matches!(error, Error::NoFile { .. }), "{json}: {error}");
                continue;
            }
        };
        for (file, expected) in files {
            let dir = cgroup.paths()[""];
            // Without the scheduler BFQ the other spelling has been taken.
            let (file, expected) = match (*file, dir.join(file).exists()) {
                ("io.bfq.weight", false) => ("io.weight", "default 4950"),
                (file, _) => (file, *expected),
            };
            let said = std::fs::read_to_string(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(said.trim(), expected, "{json}: {file}");
        }
        cgroup.remove().unwrap();
    }
}

#[test]
fn a_new_period_leaves_the_quota() {
    let machine = Hierarchies::detect().unwrap();
    let mut made = make(machine, "period", r#"{"cpu":{"quota":40000,"period":80000}}"#);
    made.update(machine, r#"{"cpu":{"period":50000}}"#).unwrap();
    let (version, dir) = made.cgroup.dir_of("cpu").unwrap();
    let said = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
    match version {
        Version::V1 => {
            assert_eq!((said("cpu.cfs_quota_us"), said("cpu.cfs_period_us")), ("40000".into(), "50000".into()))
        }
        Version::V2 => assert_eq!(said("cpu.max"), "40000 50000"),
    }
}

#[test]
fn throttles_are_of_the_device_that_was_named() {
    let machine = Hierarchies::detect().unwrap();
    // Any disk will do; a machine without one cannot throttle any.
    let disk = std::fs::read_dir("/sys/block").unwrap().flatten().find_map(|disk| {
        let number = std::fs::read_to_string(disk.path().join("dev")).ok()?;
        number.trim().split_once(':').map(|(major, minor)| (major.to_owned(), minor.to_owned()))
    });
    let Some((major, minor)) = disk else { return };
    let rate = |rate: u32| format!(r#"[{{"major":{major},"minor":{minor},"rate":{rate}}}]"#);
    let json = format!(
        r#"{{"blockIO":{{"throttleReadBpsDevice":{},"throttleWriteBpsDevice":{},"throttleReadIOPSDevice":{},
            "throttleWriteIOPSDevice":{}}}}}"#,
        rate(102_400),
        rate(204_800),
        rate(300),
        rate(400)
    );
    let made = make(machine, "throttle", &json);
    if machine.version("io") == Some(Version::V2) {
        let said = std::fs::read_to_string(made.cgroup.paths()[""].join("io.max")).unwrap();
        assert_eq!(said, format!("{major}:{minor} rbps=102400 wbps=204800 riops=300 wiops=400\n"));
        return;
    }
    let said = |file: &str| std::fs::read_to_string(made.cgroup.paths()["blkio"].join(file)).unwrap();
    for (file, rate) in [("read_bps", 102_400), ("write_bps", 204_800), ("read_iops", 300), ("write_iops", 400)] {
        assert_eq!(said(&format!("blkio.throttle.{file}_device")), format!("{major}:{minor} {rate}\n"));
    }
}

#[test]
fn an_update_joins_a_hierarchy_that_was_not_needed() {
    let machine = Hierarchies::detect().unwrap();
    if machine.version("cpuset") != Some(Version::V1) {
        return;
    }
    let mut made = make(machine, "late", "{}");
    let mut child = sleeper();
    made.cgroup.attach(pid(&child)).unwrap();
    assert!(!made.cgroup.paths().contains_key("cpuset"));
    made.update(machine, r#"{"cpu":{"cpus":"0","mems":"0"}}"#).unwrap();
    let dir = made.cgroup.paths()["cpuset"].to_owned();
    let said = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!((said("cpuset.cpus").trim(), said("cgroup.procs").trim()), ("0", &*child.id().to_string()));
    let allowed = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(allowed.contains("Cpus_allowed_list:\t0\n"), "{allowed}");
    made.cgroup.kill().unwrap();
    child.wait().unwrap();
    made.cgroup.remove().unwrap();
    assert!(!dir.exists());
}

#[test]
fn what_is_used_now_can_bound_an_update() {
    let machine = Hierarchies::detect().unwrap();
    let mut made = make(machine, "bound", r#"{"memory":{"limit":67108864,"swap":67108864}}"#);
    // Once inside, the shell gets some memory, and says so.
    let script = "read go; x=0123456789; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do x=$x$x; done; echo; read end";
    let piped = std::process::Stdio::piped;
    let mut child = Command::new("sh").args(["-c", script]).stdin(piped()).stdout(piped()).spawn().unwrap();
    made.cgroup.attach(pid(&child)).unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input).unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let error = made.update(machine, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#).unwrap_err();
    assert!(error.to_string().contains("memory.limit is 4096"), "{error}");
    drop(input);
    child.wait().unwrap();
}

#[test]
fn kept_as_data_it_is_the_same_group_again() {
    let machine = Hierarchies::detect().unwrap();
    let made = make(machine, "data", "{}");
    let text = serde_json::to_string(&made.cgroup).unwrap();
    let again: Cgroup = serde_json::from_str(&text).unwrap();
    assert_eq!(again.paths(), made.cgroup.paths());
    again.remove().unwrap();
    assert!(!made.cgroup.exists());
}

#[test]
fn a_relative_path_starts_where_the_caller_is() {
    let machine = Hierarchies::detect().unwrap();
    let path = PathBuf::from(format!("wherry-test-{}-relative/a", std::process::id()));
    let cgroup = Cgroup::create(machine, &path, &LinuxResources::default()).unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    for (name, dir) in cgroup.paths().into_iter().filter(|(name, _)| !name.is_empty()) {
        let own = own.lines().find_map(|line| line.split_once(&format!(":{name}:"))).map(|(_, own)| own);
        if let Some(own) = own {
            let below = Path::new(own.trim_start_matches('/')).join(&path);
            assert!(dir.ends_with(&below), "{name}: {dir:?} ends with {below:?}");
        }
    }
    let above: Vec<PathBuf> = cgroup.paths().values().map(|dir| dir.parent().unwrap().to_owned()).collect();
    cgroup.remove().unwrap();
    above.iter().for_each(|dir| std::fs::remove_dir(dir).unwrap());
}

#[test]
fn a_group_given_away_keeps_its_limits() {
    use std::os::unix::fs::MetadataExt;
    let machine = Hierarchies::detect().unwrap();
    let made = make(machine, "give", "{}");
    let Some(group) = made.cgroup.unified() else { return };
    made.cgroup.give_to(4321).unwrap();
    let owner = |name: &str| std::fs::metadata(group.dir.join(name)).unwrap().uid();
    assert_eq!((owner("."), owner("cgroup.procs"), owner("cgroup.subtree_control")), (4321, 4321, 4321));
    assert_eq!((owner("cgroup.max.depth"), owner("cgroup.freeze")), (0, 0));
}

#[test]
fn who_comes_later_can_go_below_or_where_init_is() {
    for machine in machines() {
        let made = make(&machine, "later", "{}");
        let below = made.cgroup.below(&[], Path::new("sub")).unwrap();
        below.groups.iter().for_each(|group| std::fs::create_dir(&group.dir).unwrap());
        let mut child = sleeper();
        below.attach(pid(&child)).unwrap();
        assert_eq!(made.cgroup.of(pid(&child)).unwrap().paths(), below.paths());
        assert_eq!(made.cgroup.of(1).unwrap().paths(), made.cgroup.paths());
        assert_eq!(made.cgroup.procs().unwrap(), [pid(&child)]);
        made.cgroup.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        for path in ["..", "", "a/../../b"] {
            assert!(matches!(made.cgroup.below(&[], Path::new(path)), Err(Error::BadPath { .. })), "{path}");
        }
        assert!(matches!(made.cgroup.below(&["nix"], Path::new("a")), Err(Error::NoController { .. })));
    }
}

#[test]
fn statistics_tell_of_the_processes() {
    let machine = Hierarchies::detect().unwrap();
    let made = make(machine, "stats", "{}");
    let mut child = Command::new("sh").args(["-c", "read line"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    made.cgroup.attach(pid(&child)).unwrap();
    let stats = made.cgroup.stats().unwrap();
    assert_eq!(stats.pids.unwrap(), Pids { current: 1, limit: None });
    assert!(stats.memory.is_some() && stats.cpu.is_some());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn an_oom_kill_is_told() {
    let machine = Hierarchies::detect().unwrap();
    if machine.version("memory").is_none() {
        return;
    }
    let made = make(machine, "oom", r#"{"memory":{"limit":8388608,"swap":8388608}}"#);
    let watch = made.cgroup.oom().unwrap().unwrap();
    assert_eq!(watch.kills().unwrap(), Some(0));
    // The shell waits for its stdin, is put into the group, then doubles a string for ever.
    let script = "read line; x=0123456789; while :; do x=$x$x; done";
    let mut child = Command::new("sh").args(["-c", script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    made.cgroup.attach(pid(&child)).unwrap();
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    let mut fds = [PollFd::new(&watch, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap(), 1);
    assert_eq!(watch.kills().unwrap(), Some(1));
    assert_eq!(made.cgroup.stats().unwrap().memory.unwrap().oom_kills, 1);
}

#[test]
fn paths_stay_below_the_root() {
    let machine = Hierarchies::detect().unwrap();
    for path in ["", "/", "..", "wherry/../.."] {
        let error = Cgroup::open(machine, Path::new(path)).unwrap_err();
        assert!(matches!(error, Error::BadPath { .. }), "{path}: {error}");
    }
}

#[test]
fn only_listed_devices_can_be_opened() {
    for machine in machines() {
        let mut made = make(&machine, "devices", r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("kmsg");
        let status = Command::new("mknod").arg(&node).args(["c", "1", "11"]).status().unwrap();
        assert!(status.success());
        let script = format!("read line; cat /dev/null && ! head -c1 {} 2>&1", node.display());
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .current_dir(dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        made.cgroup.attach(pid(&child)).unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Operation not permitted"), "{said}");
        made.update(&machine, r#"{"devices":[{"allow":true}]}"#).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("read line; exec 3< {}", node.display())])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        made.cgroup.attach(pid(&child)).unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn without_rights_the_error_says_delegation() {
    let machine = Hierarchies::detect().unwrap();
    let path = PathBuf::from(format!("wherry-test-{}-rights", std::process::id()));
    let failed = std::thread::scope(|scope| {
        let work = || {
            // Only this thread becomes nobody.
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            Cgroup::create(machine, &path, &LinuxResources::default()).unwrap_err()
        };
        scope.spawn(work).join().unwrap()
    });
    assert!(matches!(failed, Error::NotDelegated { .. }), "{failed}");
    assert_eq!(failed.kind(), Kind::PermissionDenied);
    assert!(failed.hint().unwrap().contains("Delegate=yes"));
}

#[test]
fn controllers_are_handed_down_but_not_through_a_group_with_processes() {
    let huge = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
    let v2 = |machine: &Hierarchies| machine.version("hugetlb") == Some(Version::V2);
    // The one controller that hybrid machines leave to v2; where it is missing, so is this test.
    let Some(machine) = machines().into_iter().find(|machine| machine.is_unified() && v2(machine)) else { return };
    let made = make(&machine, "above", "{}");
    let below = made.path.join("below");
    let resources: LinuxResources = serde_json::from_str(huge).unwrap();

    let mut child = sleeper();
    made.cgroup.attach(pid(&child)).unwrap();
    let error = Cgroup::create(&machine, &below, &resources).unwrap_err();
    assert!(matches!(&error, Error::Enable { controller, .. } if controller == "hugetlb"), "{error}");
    assert!(error.hint().unwrap().contains("child group"));
    made.cgroup.kill().unwrap();
    child.wait().unwrap();

    let inner = Cgroup::create(&machine, &below, &resources).unwrap();
    let limit = std::fs::read_to_string(inner.groups[0].dir.join("hugetlb.2MB.max")).unwrap();
    assert_eq!(limit.trim(), "4194304");
    inner.remove().unwrap();
}
