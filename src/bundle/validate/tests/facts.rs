//! What depends on the caller, and limits whose other side has to pass.

use serde_json::json;

use super::*;

const ROOTLESS: Facts<'_> = Facts { rootless: true, systemd_cgroup: false, own_namespaces: &[] };
const SYSTEMD: Facts<'_> = Facts { rootless: false, systemd_cgroup: true, own_namespaces: &[] };

#[test]
fn a_caller_other_than_root_needs_a_user_namespace() {
    let mut document = full_but(&[("/linux/netDevices", json!({}))]);
    assert_eq!(said(&document, &ROOTLESS), "");
    remove(&mut document, "/linux/namespaces/5");
    let wanted = "config.json: linux.namespaces: has no user namespace, which a caller other than root needs";
    assert_eq!(said(&document, &ROOTLESS), wanted);
    let wanted = "config.json: linux.netDevices: needs root: the devices are the host's";
    assert_eq!(said(&full_but(&[]), &ROOTLESS), wanted);
}

#[test]
fn systemd_takes_a_slice_a_prefix_and_a_name() {
    let wanted = r#"config.json: linux.cgroupsPath: "/machines/full" is not of the form slice:prefix:name"#;
    assert_eq!(said(&full_but(&[]), &SYSTEMD), wanted);
    assert_eq!(said(&full_but(&[("/linux/cgroupsPath", json!("system.slice:docker:abc"))]), &SYSTEMD), "");
    assert_eq!(said(&full_but(&[("/linux/cgroupsPath", json!(""))]), &SYSTEMD), "");
}

#[test]
fn a_property_of_systemd_has_a_name_of_letters() {
    let with = |key: &str| {
        full_but(&[
            ("/linux/cgroupsPath", json!("a.slice:b:c")),
            (&format!("/annotations/org.systemd.property.{key}"), json!("1")),
        ])
    };
    assert_eq!(said(&with("TimeoutStopUSec"), &SYSTEMD), "");
    for bad in ["", "ab", "a1c", "Exec Start"] {
        let wanted = format!("config.json: annotations.org.systemd.property.{bad}: names no property of systemd");
        assert_eq!(said(&with(bad), &SYSTEMD), wanted);
        assert_eq!(said(&with(bad), &Facts::default()), "", "without systemd it is any annotation");
    }
}

/// A namespace that is joined by a path may be the caller's own.
#[test]
fn the_callers_own_namespaces_are_the_hosts() {
    let of = |place: usize, typ: LinuxNamespaceType| {
        let pointer = format!("/linux/namespaces/{place}/path");
        let document = full_but(&[(&pointer, json!("/proc/self/ns/x"))]);
        assert_eq!(said(&document, &Facts::default()), "");
        said(&document, &Facts { own_namespaces: &[typ], ..Facts::default() })
    };
    let net = "config.json: linux.sysctl.net.ipv4.ip_forward: is the host's: the container has no network namespace of \
               its own";
    assert_eq!(of(1, LinuxNamespaceType::Network), net);
    assert!(of(2, LinuxNamespaceType::Ipc).contains("no ipc namespace"));
    assert_eq!(
        of(3, LinuxNamespaceType::Uts),
        "config.json: hostname: is the host's: the container has no uts namespace of its own"
    );
}

#[test]
fn the_last_that_the_kernel_takes_passes() {
    let maps: Vec<Value> = (0..340).map(|i| json!({"containerID": i, "hostID": i, "size": 1})).collect();
    for (pointer, value) in [
        ("/hostname", json!("x".repeat(64))),
        ("/process/oomScoreAdj", json!(1000)),
        ("/process/user/additionalGids", json!(vec![0; 65_536])),
        ("/process/user/umask", json!(0o777)),
        ("/process/consoleSize/height", json!(65_535)),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 99})),
        ("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": -20})),
        ("/process/scheduler/period", json!(0)),
        ("/process/ioPriority/priority", json!(7)),
        ("/mounts/3/uidMappings", json!(maps)),
        ("/linux/netDevices/fifteen-letters", json!({})),
        ("/linux/resources/cpu/burst", json!(50_000)),
        ("/linux/resources/memory/swappiness", json!(200)),
        ("/linux/intelRdt/closID", json!("/")),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0-8191", "flags": ["MPOL_F_NUMA_BALANCING"]})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_DEFAULT", "nodes": ""})),
    ] {
        assert_eq!(said(&full_but(&[(pointer, value)]), &Facts::default()), "", "{pointer}");
    }
    let groups = said(&full_but(&[("/process/user/additionalGids", json!(vec![0; 65_537]))]), &Facts::default());
    assert_eq!(groups, "config.json: process.user.additionalGids: has 65537 groups; the kernel takes 65536");
}

/// The kernel takes a mapping of 340 lines, and of less than a page.
#[test]
fn a_mapping_has_its_size() {
    let maps = |count: u32, first: u32| -> Value {
        (0..count).map(|i| json!({"containerID": i, "hostID": first + i, "size": 1})).collect()
    };
    let of = |maps: Value| said(&full_but(&[("/mounts/3/gidMappings", maps)]), &Facts::default());
    assert_eq!(of(maps(341, 0)), "config.json: mounts[3].gidMappings: has 341 entries; the kernel takes 340");
    let wanted = "config.json: mounts[3].gidMappings: is 5670 bytes when written out; the kernel takes 4095";
    assert_eq!(of(maps(340, 1_000_000_000)), wanted);
}

#[test]
fn a_mount_that_is_mapped_needs_a_mapping() {
    let document: Value = serde_json::from_str(
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"mounts":[{"destination":"/m","source":"/s","options":["bind","idmap"]}]}"#,
    )
    .unwrap();
    assert_eq!(
        said(&document, &Facts::default()),
        "config.json: mounts[0].options: idmap needs mappings, and neither mount nor container has any"
    );
}

#[test]
fn a_message_repeats_little_of_what_it_was_given() {
    let cwd = format!("{}\u{1b}[31m", "long".repeat(1000));
    let said = said(&full_but(&[("/process/cwd", json!(cwd))]), &Facts::default());
    assert!(said.len() < 200 && !said.contains('\u{1b}'), "{said}");
}

/// Each mount asks for the user namespace: a long list of namespaces is refused before it is gone through each time.
#[test]
fn time_is_in_proportion_to_the_file() {
    let mounts = vec![json!({"destination": "a", "options": ["idmap"]}); 45_000];
    let mut namespaces = vec![json!({"type": "pid"}); 120_000];
    namespaces.push(json!({"type": "user"}));
    let document = json!({"ociVersion": "1.0.0", "root": {"path": "r"}, "mounts": mounts,
        "linux": {"namespaces": namespaces}});
    assert_eq!(said(&document, &Facts::default()), "config.json: linux.namespaces[1].type: pid is there twice");
}
