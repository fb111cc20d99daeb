//! What each field of `linux.resources` is written as, and what is refused.

use super::cpu::weight_of_shares;
use super::io::weight_of_io;
use super::*;
use crate::cgroup::Hierarchy;

fn machine(version: Version) -> Hierarchies {
    let controllers = match version {
        Version::V1 => "cpu cpuacct cpuset memory pids blkio devices freezer hugetlb net_cls net_prio rdma",
        Version::V2 => "cpu cpuset memory pids io hugetlb rdma",
    };
    let controllers = controllers.split(' ').map(str::to_owned).collect();
    Hierarchies { list: vec![Hierarchy { version, mount: "/sys/fs/cgroup".into(), controllers }] }
}

fn written(version: Version, json: &str) -> Result<Vec<String>, String> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    let settings = plan(&resources, &machine(version)).map_err(|error| error.to_string())?;
    let line = |setting: &Setting| {
        let each: Vec<String> = setting.spellings.iter().map(|(file, value)| format!("{file}={value}")).collect();
        each.join(" or ")
    };
    Ok(settings.iter().map(line).collect())
}

#[test]
fn each_field_has_its_file_in_both_versions() {
    use Version::{V1, V2};
    let table: [(&str, &[&str], &[&str]); 24] = [
        ("{}", &[], &[]),
        (r#"{"memory":{"limit":0,"swap":0}}"#, &[], &[]),
        (
            r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=150", "memory.soft_limit_in_bytes=50"],
            &["memory.swap.max=50", "memory.max=100", "memory.low=50"],
        ),
        (
            r#"{"memory":{"limit":-1}}"#,
            &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            &["memory.swap.max=max", "memory.max=max"],
        ),
        (
            r#"{"memory":{"limit":100,"swap":-1}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=-1"],
            &["memory.swap.max=max", "memory.max=100"],
        ),
        (
            r#"{"memory":{"limit":-1,"swap":100}}"#,
            &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=100"],
            &["memory.swap.max=100", "memory.max=max"],
        ),
        (
            r#"{"memory":{"limit":100,"swap":100}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=100"],
            &["memory.swap.max=0", "memory.max=100"],
        ),
        (r#"{"memory":{"reservation":-1}}"#, &["memory.soft_limit_in_bytes=-1"], &["memory.low=max"]),
        // Retired, so nobody's error.
        (r#"{"memory":{"kernel":5,"useHierarchy":false,"disableOOMKiller":false}}"#, &[], &[]),
        (r#"{"memory":{"kernelTCP":5}}"#, &["memory.kmem.tcp.limit_in_bytes=5"], &[]),
        (r#"{"memory":{"swappiness":18446744073709551615}}"#, &[], &[]),
        (r#"{"cpu":{"shares":0,"quota":0,"period":0,"realtimePeriod":0,"realtimeRuntime":0}}"#, &[], &[]),
        (r#"{"cpu":{"shares":1024}}"#, &["cpu.shares=1024"], &["cpu.weight=100"]),
        (
            r#"{"cpu":{"quota":50000,"period":100000,"burst":100}}"#,
            &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=100"],
            &["cpu.max=50000 100000", "cpu.max.burst=100"],
        ),
        (r#"{"cpu":{"quota":-1}}"#, &["cpu.cfs_quota_us=-1"], &["cpu.max=max"]),
        (r#"{"cpu":{"period":5000}}"#, &["cpu.cfs_period_us=5000"], &["cpu.max=max 5000"]),
        (r#"{"cpu":{"idle":1,"shares":512}}"#, &["cpu.idle=1"], &["cpu.idle=1"]),
        (
            r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#,
            &["cpuset.cpus=0-1", "cpuset.mems=0"],
            &["cpuset.cpus=0-1", "cpuset.mems=0"],
        ),
        (r#"{"pids":{"limit":32}}"#, &["pids.max=32"], &["pids.max=32"]),
        (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"], &["pids.max=max"]),
        (r#"{"pids":{"limit":0}}"#, &["pids.max=1"], &["pids.max=1"]),
        (
            r#"{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1000}]}}"#,
            &[
                "blkio.weight=10 or blkio.bfq.weight=10",
                "blkio.weight_device=8:0 1000 or blkio.bfq.weight_device=8:0 1000",
            ],
            &["io.bfq.weight=10 or io.weight=default 1", "io.bfq.weight=8:0 1000 or io.weight=8:0 10000"],
        ),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#,
            &["blkio.throttle.read_bps_device=8:0 7", "blkio.throttle.write_iops_device=8:16 0"],
            &["io.max=8:0 rbps=7", "io.max=8:16 wiops=max"],
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"rdma":{"mlx5_1":{"hcaHandles":3}}}"#,
            &[
                "hugetlb.2MB.limit_in_bytes=4194304",
                "hugetlb.2MB.rsvd.limit_in_bytes=4194304",
                "rdma.max=mlx5_1 hca_handle=3",
            ],
            &["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304", "rdma.max=mlx5_1 hca_handle=3"],
        ),
    ];
    for (json, v1, v2) in table {
        assert_eq!(written(V1, json).unwrap(), v1, "{json}");
        assert_eq!(written(V2, json).unwrap(), v2, "{json}");
    }
}

#[test]
fn what_only_one_version_has() {
    let v1 = |json| written(Version::V1, json);
    let v2 = |json| written(Version::V2, json);
    let network = r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}"#;
    assert_eq!(v1(network).unwrap(), ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"]);
    assert_eq!(
        v2(network).unwrap_err(),
        "linux.resources.network.classID needs the cgroup controller net_cls, which is not available"
    );
    let unified = r#"{"unified":{"memory.high":"100","cgroup.max.depth":"3"}}"#;
    assert_eq!(v2(unified).unwrap(), ["cgroup.max.depth=3", "memory.high=100"]);
    assert!(v1(unified).unwrap_err().contains("cgroup v1 hierarchy"));
    let lines = r#"{"unified":{"io.max":"8:0 rbps=1\n8:16 rbps=2\n"}}"#;
    assert_eq!(v2(lines).unwrap(), ["io.max=8:0 rbps=1", "io.max=8:16 rbps=2"]);
    let realtime = r#"{"cpu":{"realtimePeriod":1000000,"realtimeRuntime":950000}}"#;
    assert_eq!(v1(realtime).unwrap(), ["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=950000"]);
    let swappiness = r#"{"memory":{"swappiness":60}}"#;
    assert_eq!(v1(swappiness).unwrap(), ["memory.swappiness=60"]);
    assert_eq!(v2(swappiness).unwrap_err(), "linux.resources.memory.swappiness is 60: cgroup v2 has no such limit");
}

#[test]
fn nonsense_is_refused_by_field() {
    for (json, expected) in [
        (r#"{"memory":{"limit":-2}}"#, "linux.resources.memory.limit is -2"),
        (r#"{"memory":{"swap":100}}"#, "linux.resources.memory.swap is 100: it needs a limit on memory"),
        (r#"{"memory":{"limit":100,"swap":50}}"#, "linux.resources.memory.swap is 50: it includes memory"),
        (r#"{"cpu":{"quota":-5}}"#, "linux.resources.cpu.quota is -5"),
        (r#"{"cpu":{"realtimeRuntime":5}}"#, "linux.resources.cpu.realtimeRuntime is 5"),
        (r#"{"cpu":{"realtimePeriod":5}}"#, "linux.resources.cpu.realtimePeriod is 5"),
        (r#"{"memory":{"disableOOMKiller":true}}"#, "linux.resources.memory.disableOOMKiller is true"),
        (r#"{"blockIO":{"leafWeight":500}}"#, "linux.resources.blockIO.leafWeight is 500"),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":500}]}}"#,
            "linux.resources.blockIO.weightDevice.leafWeight is 500",
        ),
        (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, "linux.resources.rdma is a b"),
        (r#"{"pids":{"limit":-7}}"#, "linux.resources.pids.limit is -7"),
        (r#"{"blockIO":{"weight":9}}"#, "linux.resources.blockIO.weight is 9"),
        (r#"{"blockIO":{"weight":1001}}"#, "linux.resources.blockIO.weight is 1001"),
        (r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#, "linux.resources.hugepageLimits.pageSize is ../x"),
        (r#"{"unified":{"a/../../memory.max":"1"}}"#, "linux.resources.unified"),
        (r#"{"unified":{"nodot":"1"}}"#, "linux.resources.unified"),
    ] {
        let error = written(Version::V2, json).unwrap_err();
        assert!(error.starts_with(expected), "{json}: {error}");
    }
}

#[test]
fn shares_and_weights_meet_at_the_ends_and_the_defaults() {
    let table = [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)];
    for (shares, weight) in table {
        assert_eq!(weight_of_shares(shares), weight, "{shares}");
    }
    assert!((3..262_144).step_by(101).map(weight_of_shares).is_sorted());
    assert_eq!((weight_of_io(10), weight_of_io(1000)), (1, 10_000));
}

#[test]
fn the_kernel_would_bend_shares_that_it_does_not_have() {
    for shares in [1, 262_145] {
        let error = written(Version::V1, &format!(r#"{{"cpu":{{"shares":{shares}}}}}"#)).unwrap_err();
        assert_eq!(error, format!("linux.resources.cpu.shares is {shares}: shares are 2 to 262144"));
    }
}

#[test]
fn every_field_needs_its_controller() {
    let nothing = Hierarchies { list: Vec::new() };
    for (json, field, controller) in [
        (r#"{"memory":{"limit":5}}"#, "memory", "memory"),
        (r#"{"cpu":{"shares":5}}"#, "cpu", "cpu"),
        (r#"{"cpu":{"cpus":"0"}}"#, "cpu.cpus", "cpuset"),
        (r#"{"cpu":{"mems":"0"}}"#, "cpu.mems", "cpuset"),
        (r#"{"pids":{"limit":5}}"#, "pids.limit", "pids"),
        (r#"{"blockIO":{"weight":10}}"#, "blockIO", "io"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#, "hugepageLimits", "hugetlb"),
        (r#"{"network":{"classID":1}}"#, "network.classID", "net_cls"),
        (r#"{"network":{"priorities":[{"name":"a","priority":1}]}}"#, "network.priorities", "net_prio"),
        (r#"{"rdma":{"a":{"hcaHandles":1}}}"#, "rdma", "rdma"),
        (r#"{"unified":{"memory.high":"1"}}"#, r#"unified["memory.high"]"#, "memory"),
    ] {
        let error = plan(&serde_json::from_str(json).unwrap(), &nothing).unwrap_err().to_string();
        let expected =
            format!("linux.resources.{field} needs the cgroup controller {controller}, which is not available");
        assert_eq!(error, expected);
    }
    assert_eq!(plan(&serde_json::from_str(r#"{"pids":{"limit":-1}}"#).unwrap(), &nothing).unwrap(), []);
}
