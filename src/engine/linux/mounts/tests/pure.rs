//! What is decided without the kernel.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_spelling_of_a_path_gets_a_tmpfs_over_procfs(
        parts in prop::collection::vec(prop::sample::select(vec!["proc", "..", ".", "", "a", "self", "uptime"]), 0..7),
        absolute in any::<bool>(),
    ) {
        let bundle = Bundle::at(Path::new("/bundle"));
        let destination = format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"));
        let mut real = Vec::new();
        for part in parts.iter().filter(|part| !matches!(**part, "" | ".")) {
            match *part {
                ".." => real.truncate(real.len().saturating_sub(1)),
                name => real.push(name),
            }
        }
        let may = !real.is_empty() && (real[0] != "proc" || real == ["proc", "uptime"]);
        prop_assert_eq!(bundle.parse(tmpfs(&destination, "")).is_ok(), may, "{}", destination);
    }
}

#[test]
fn what_is_mounted_follows_from_type_and_options() {
    let bundle = Bundle::new();
    let bind = |source: &str, recursive| What::Bind { source: source.into(), of_container: false, recursive };
    let beside = bundle.dir.join("files");
    for (mount, expected) in [
        (json!({"destination": "/a", "source": "/s", "options": ["bind"]}), bind("/s", false)),
        (json!({"destination": "/a", "type": "none", "source": "/s", "options": ["bind", "rbind"]}), bind("/s", true)),
        (json!({"destination": "/a", "type": "ext4", "source": "/s", "options": ["rbind"]}), bind("/s", true)),
        (json!({"destination": "/a", "type": "bind", "source": "/s"}), bind("/s", true)),
        (json!({"destination": "/a", "type": "bind", "source": "files"}), bind(beside.to_str().unwrap(), true)),
        (json!({"destination": "/a", "type": "cgroup", "source": "cgroup"}), What::Cgroup),
        (json!({"destination": "/a", "options": ["remount", "bind", "ro"]}), What::Remount { mount_only: true }),
        (json!({"destination": "/a", "options": ["remount", "ro"]}), What::Remount { mount_only: false }),
        (
            json!({"destination": "/a", "type": "bind", "source": bundle.path("/in")}),
            What::Bind { source: "/in".into(), of_container: true, recursive: true },
        ),
        (tmpfs("/a", ""), What::Filesystem { typ: "tmpfs".into(), source: "tmpfs".into() }),
    ] {
        assert_eq!(bundle.parse(mount.clone()).unwrap().what, expected, "{mount}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let bundle = Bundle::new();
    let maps = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    for (mount, problem) in [
        (json!({"destination": "/a"}), "neither a type nor the option bind"),
        (json!({"destination": "/a", "type": "bind"}), "no source"),
        (json!({"destination": "/a", "type": "bind", "source": "/s\0"}), "NUL"),
        (tmpfs("/", ""), "on top of the root"),
        (tmpfs("/a/..", ""), "on top of the root"),
        (json!({"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}), "tmpfs only"),
        (bind(Path::new("/s"), "/a", "idmap"), "neither it nor the container has maps"),
        (
            json!({"destination": "/a", "type": "tmpfs", "options": ["idmap"], "uidMappings": maps, "gidMappings": maps}),
            "only a bind mount",
        ),
        (
            json!({"destination": "/a", "type": "bind", "source": "/s", "options": ["bind"], "uidMappings": maps}),
            "together",
        ),
        (tmpfs("/proc", ""), "not of type proc"),
        (tmpfs("/x/../proc", ""), "not of type proc"),
        (tmpfs("/proc/x", ""), "inside /proc"),
        (bind(Path::new("/s"), "proc/self/attr", ""), "inside /proc"),
        (json!({"destination": "/proc/a", "type": "proc"}), "inside /proc"),
    ] {
        let error = bundle.parse(mount.clone()).map(drop).unwrap_err().to_string();
        assert!(error.contains(problem), "{mount}: {error}");
    }
    for allowed in ["/proc/cpuinfo", "/proc/uptime", "/proc/sys/kernel/ns_last_pid", "/procs", "/sys/fs/cgroup/x"] {
        bundle.parse(bind(Path::new("/s"), allowed, "")).unwrap();
    }
}

#[test]
fn a_destination_on_the_host_is_taken_for_the_one_in_the_container() {
    let bundle = Bundle::new();
    for (given, taken) in [("/a/b", "/a/b"), ("a/b", "/a/b"), (bundle.path("/a/b").to_str().unwrap(), "/a/b")] {
        assert_eq!(bundle.parse(tmpfs(given, "")).unwrap().destination, Path::new(taken));
    }
}

#[test]
fn only_what_meets_a_cgroup_waits_for_it() {
    let bundle = Bundle::new();
    let steps: Vec<Step> = [
        tmpfs("/a", ""),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup"}),
        tmpfs("/dev/shm", ""),
        tmpfs("/sys/fs/cgroup/x", ""),
        tmpfs("/sys/fs/../fs/cgroup/x/y", ""),
        tmpfs("/sys", ""),
        tmpfs("/b", ""),
    ]
    .map(|mount| bundle.parse(mount).unwrap())
    .into();
    let (before, after) = split(&steps);
    let places =
        |steps: Vec<&Step>| steps.iter().map(|s| s.destination.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(places(before), ["/a", "/dev/shm", "/b"]);
    assert_eq!(places(after), ["/sys/fs/cgroup", "/sys/fs/cgroup/x", "/sys/fs/../fs/cgroup/x/y", "/sys"]);
}
