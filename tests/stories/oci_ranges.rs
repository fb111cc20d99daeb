//! `wherry oci` without root: bundles that map the user alone or with ranges of ids, and limits where cgroups are
//! delegated.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::rootless::{Group, Ordinary, RANGE, USER};

/// A bundle of this user's, named `name`, made by `spec --rootless`, that runs a shell script.
fn bundle(user: &Ordinary, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let at = user.home.path().join(name);
    for folder in ["", "rootfs", "rootfs/bin", "rootfs/dev", "rootfs/proc", "rootfs/sys", "rootfs/tmp"] {
        fs::create_dir(at.join(folder)).unwrap();
        chown(at.join(folder), Some(USER), Some(USER)).unwrap();
    }
    let bin = at.join("rootfs/bin");
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox is installed");
    for applet in ["sh", "id", "cat", "echo", "sleep", "mkdir", "find", "touch", "stat"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    let directory = at.to_str().unwrap().to_owned();
    user.ok(&["oci", "spec", "--rootless", "--bundle", &directory]);
    let path = at.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", script]);
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    directory
}

/// Maps what [`RANGE`] gives.
fn map_ranges(config: &mut Value) {
    let maps = json!([
        {"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": 200_000, "size": 65536},
    ]);
    config["linux"]["uidMappings"] = maps.clone();
    config["linux"]["gidMappings"] = maps;
}

/// A limit of a controller that the unified hierarchy has, and the file where it then is.
fn limit(group: &Group) -> (&'static str, Value, &'static str) {
    let controllers = fs::read_to_string(group.path.parent().unwrap().join("cgroup.controllers")).unwrap();
    match controllers.split_whitespace().any(|name| name == "pids") {
        true => ("pids", json!({"pids": {"limit": 4_194_304}}), "pids.max"),
        false => {
            let limits = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
            ("hugetlb", limits, "hugetlb.2MB.max")
        }
    }
}

fn enable(group: &Path, controller: &str) {
    fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
}

#[test]
fn what_spec_writes_for_an_ordinary_user_runs() {
    let user = Ordinary::new();
    let script = "id -u; cat /proc/self/uid_map; for at in /sys/fs/cgroup /sys/fs/cgroup/*; do \
                  mkdir $at/mine && echo wrote; done 2>/dev/null; find /sys/fs/cgroup -name cgroup.procs | \
                  while read file; do (echo 0 >$file) 2>/dev/null && echo wrote; done; echo end";
    let bundle = bundle(&user, "b", script, |_| {});
    let said = user.ok(&["oci", "run", "--bundle", &bundle, "alone"]);
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "0", &USER.to_string(), "1", "end"]);
    assert_eq!(user.ok(&["oci", "list", "-q"]), "");
}

#[test]
fn a_container_with_ranges_is_made_entered_and_ended() {
    let user = Ordinary::with_ranges(RANGE);
    let bundle = bundle(&user, "b", "exec sleep 1000", |config| {
        map_ranges(config);
        config["process"]["user"] = json!({"uid": 1000, "gid": 5, "additionalGids": [7]});
    });
    let mut create = user.command(&["oci", "create", "--bundle", &bundle, "many"]);
    assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    user.ok(&["oci", "start", "many"]);
    let state: Value = serde_json::from_str(&user.ok(&["oci", "state", "many"])).unwrap();
    let pid = u32::try_from(state["pid"].as_u64().unwrap()).unwrap();
    let ids = |key| crate::support::process::status(pid, key).unwrap();
    assert!(ids("Uid").starts_with("200999") && ids("Gid").starts_with("200004"), "{}, {}", ids("Uid"), ids("Gid"));
    assert_eq!(ids("Groups"), "200006");
    let said = user.ok(&["oci", "exec", "--user", "7:8", "many", "sh", "-c", "id -u; id -g; echo $PPID"]);
    assert_eq!(said, "7\n8\n0\n");
    user.ok(&["oci", "kill", "many", "KILL"]);
    assert!(crate::support::process::gone_within(pid, crate::support::PATIENCE));
    user.ok(&["oci", "delete", "many"]);
    assert_eq!(user.ok(&["oci", "list", "-q"]), "");
}

#[test]
fn ids_that_were_not_given_are_refused_with_advice() {
    for (subids, advice) in
        [("", "/etc/subuid and /etc/subgid"), ("porter:200000:100\n", "/etc/subuid and /etc/subgid")]
    {
        let user = Ordinary::with_ranges(subids);
        let bundle = bundle(&user, "b", "echo here", map_ranges);
        let said = user.refused(&["oci", "run", "--bundle", &bundle, "greedy"], 1);
        assert!(said.contains("cannot map the users of the container") && said.contains(advice), "{said}");
        assert_eq!(user.ok(&["oci", "list", "-q"]), "");
    }
}

#[test]
fn a_limit_is_set_where_its_controller_is_delegated() {
    let group = Group::new("limited");
    let (controller, resources, file) = limit(&group);
    enable(group.path.parent().unwrap(), controller);
    group.delegate("");
    group.delegate("own");
    let user = Ordinary::new().in_cgroup(&group);
    let limited = |config: &mut Value| config["linux"]["resources"] = resources;
    let bundle = bundle(&user, "b", "exec sleep 1000", limited);
    let mut run = user.command(&["oci", "run", "--detach", "--bundle", &bundle, "limited"]);
    assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let set = fs::read_to_string(group.path.join("limited").join(file)).unwrap();
    assert_eq!(set.trim(), "4194304");
    user.ok(&["oci", "delete", "--force", "limited"]);
    assert_eq!(group.below(""), ["own"]);
}

/// As of a service with `Delegate=yes`: it has one group, and is the only process in it.
#[test]
fn a_process_that_is_alone_makes_room_in_its_group() {
    let group = Group::new("alone");
    let (controller, resources, file) = limit(&group);
    enable(group.path.parent().unwrap(), controller);
    enable(&group.path, controller);
    group.delegate("own");
    let mut user = Ordinary::new().in_cgroup(&group);
    let limited = |config: &mut Value| config["linux"]["resources"] = resources;
    let bundle = bundle(&user, "b", "exec sleep 1000", limited);
    let mut run = user.command(&["oci", "run", "--detach", "--bundle", &bundle, "limited"]);
    assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    // A group that has handed controllers on takes nobody any more.
    user.before = user.before.replace("/own/cgroup.procs", "/own/wherry/cgroup.procs");
    let set = fs::read_to_string(group.path.join("own/limited").join(file)).unwrap();
    assert_eq!(set.trim(), "4194304");
    assert_eq!(fs::read_to_string(group.path.join("own/cgroup.procs")).unwrap(), "");
    user.ok(&["oci", "delete", "--force", "limited"]);
    assert_eq!(group.below("own"), ["wherry"]);
}

#[test]
fn a_limit_that_nobody_delegated_is_refused_with_advice() {
    let group = Group::new("strict");
    let (_, resources, _) = limit(&group);
    let user = Ordinary::new().in_cgroup(&group);
    let limited = |config: &mut Value| config["linux"]["resources"] = resources;
    let strict = bundle(&user, "strict", "echo here", limited);
    let said = user.refused(&["oci", "run", "--bundle", &strict, "strict"], 1);
    assert!(said.contains("not permitted to manage the control group") && said.contains("Delegate=yes"), "{said}");
    // Who asks for none has none.
    let loose = bundle(&user, "loose", "echo here", |_| {});
    assert_eq!(user.ok(&["oci", "run", "--bundle", &loose, "loose"]), "here\n");
    assert_eq!(group.below(""), ["own"]);
}
