//! Fields of `config.json`, by what the program inside then sees or the kernel does.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::oci::{Oci, path, until_written};

/// What a script prints in a container of the usual configuration with `change` made to it.
#[track_caller]
fn says(script: &str, change: impl FnOnce(&mut Value)) -> String {
    let oci = Oci::new();
    let id = oci.id("spec");
    let bundle = oci.bundle_with(&id, script, change);
    oci.ok(["run", "--bundle", path(&bundle), &id])
}

fn namespace(config: &mut Value, typ: &str, path: Option<&str>) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != typ);
    list.push(match path {
        Some(path) => json!({"type": typ, "path": path}),
        None => json!({"type": typ}),
    });
}

#[test]
fn users_of_a_user_namespace_are_others_outside() {
    let oci = Oci::new();
    let id = oci.id("userns");
    let rootfs = oci.work().join("rootfs");
    // The container's root has to be let in.
    for folder in [oci.work(), &rootfs] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map; touch /tmp/mine && stat -c %u /tmp/mine; \
                  test -c /dev/null && echo x >/dev/null && echo device; sleep 1000";
    let bundle = oci.bundle_with(&id, script, |config| {
        namespace(config, "user", None);
        let map = json!([{"containerID": 0, "hostID": 231_072, "size": 65_536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        let tmp = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]});
        config["mounts"].as_array_mut().unwrap().push(tmp);
    });
    let left = oci.leave(["run", "--detach", "--bundle", path(&bundle), &id]);
    assert_eq!(left.output.status, 0, "{}", left.output);
    let said = until_written(&left.file, "device");
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "231072", "65536", "0", "231072", "65536", "0", "device"]);
    let status = fs::read_to_string(format!("/proc/{}/status", oci.pid(&id))).unwrap();
    assert!(status.contains("Uid:\t231072\t231072"), "{status}");
    assert_eq!(oci.ok(["exec", &id, "sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '"]), "0\n 0 231072 65536");
}

#[test]
fn namespaces_are_joined_by_their_paths() {
    let oci = Oci::new();
    let first = oci.id("first");
    let bundle = oci.bundle_with(&first, "echo up; sleep 1000", |config| config["hostname"] = json!("elsewhere"));
    let left = oci.leave(["run", "-d", "-b", path(&bundle), &first]);
    until_written(&left.file, "up");
    let pid = oci.pid(&first);
    let second = oci.id("second");
    let bundle = oci.bundle_with(&second, "hostname; readlink /proc/self/ns/net; ps", |config| {
        for (typ, name) in [("uts", "uts"), ("network", "net"), ("ipc", "ipc"), ("pid", "pid")] {
            namespace(config, typ, Some(&format!("/proc/{pid}/ns/{name}")));
        }
        config.as_object_mut().unwrap().remove("hostname");
    });
    let said = oci.ok(["run", "-b", path(&bundle), &second]);
    assert!(said.starts_with("elsewhere\n"), "{said}");
    let net = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert!(said.contains(net.to_str().unwrap()), "{said}");
    assert!(said.contains("sleep 1000"), "the first container's program is seen: {said}");
}

#[test]
fn clocks_have_their_offsets() {
    let uptime = says("cut -d. -f1 /proc/uptime", |config| {
        namespace(config, "time", None);
        config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 5}});
    });
    assert!(uptime.parse::<u64>().unwrap() >= 1_000_000, "{uptime}");
    let host = fs::read_to_string("/proc/uptime").unwrap();
    assert!(host.split('.').next().unwrap().parse::<u64>().unwrap() < 1_000_000);
}

#[test]
fn hooks_run_at_their_moments_in_order_with_the_state() {
    let oci = Oci::new();
    let id = oci.id("hooks");
    let trace = oci.work().join("trace");
    let inside = oci.work().join("rootfs/trace");
    fs::write(&inside, "").unwrap();
    let hook = |name: &str, file: &Path| {
        // The state comes on standard input; what is told of it is the status.
        let script = format!("s=$(sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/'); echo {name} $s >> {}", path(file));
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 10})
    };
    let bundle = oci.bundle_with(&id, "echo program >> /trace", |config| {
        config["hooks"] = json!({
            "prestart": [hook("prestart", &trace)],
            "createRuntime": [hook("createRuntime1", &trace), hook("createRuntime2", &trace)],
            "createContainer": [hook("createContainer", &trace)],
            "startContainer": [hook("startContainer", Path::new("/trace"))],
            "poststart": [hook("poststart", &trace)],
            "poststop": [hook("poststop", &trace)],
        });
    });
    oci.create(&id, &bundle);
    let host = || fs::read_to_string(&trace).unwrap();
    let made = "prestart created\ncreateRuntime1 created\ncreateRuntime2 created\ncreateContainer created\n";
    assert_eq!(host(), made);
    assert_eq!(fs::read_to_string(&inside).unwrap(), "", "nothing of start has run");
    oci.ok(["start", &id]);
    oci.until(&id, "stopped");
    assert_eq!(fs::read_to_string(&inside).unwrap(), "startContainer created\nprogram\n");
    assert_eq!(host(), format!("{made}poststart running\n"));
    oci.ok(["delete", &id]);
    assert_eq!(host(), format!("{made}poststart running\npoststop stopped\n"));
}

#[test]
fn a_failed_hook_ends_the_creation_and_is_told() {
    for moment in ["prestart", "createRuntime", "createContainer"] {
        let oci = Oci::new();
        let id = oci.id("hook");
        let bundle = oci.bundle_with(&id, "true", |config| {
            config["hooks"] =
                json!({moment: [{"path": "/bin/sh", "args": ["sh", "-c", "echo no such luck >&2; exit 3"]}]});
        });
        oci.call(["create", "-b", path(&bundle), &id]).expect(1).complains(&["hook", "/bin/sh", "3", "no such luck"]);
        oci.call(["state", &id]).expect(1).complains(&["does not exist"]);
    }
}

#[test]
fn the_listener_of_a_filter_reaches_its_agent() {
    let oci = Oci::new();
    let id = oci.id("notify");
    let socket = oci.root().join("agent");
    let agent = UnixListener::bind(&socket).unwrap();
    let bundle = oci.bundle_with(&id, "mkdir /tmp/asked && echo made", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path(&socket),
            "listenerMetadata": "for you",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let running = oci.start(["run", "-b", path(&bundle), &id]);
    let (mut connection, _) = agent.accept().unwrap();
    let mut text = [0; 8192];
    // The descriptor that comes with it is dropped by a plain read: with its agent gone, the kernel fails the calls.
    let count = connection.read(&mut text).unwrap();
    let state: Value = serde_json::from_slice(&text[..count]).unwrap();
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "for you");
    assert_eq!(state["state"]["id"], id);
    assert!(state["pid"].as_u64().unwrap() > 1);
    drop(connection);
    let output = running.finish().expect(1);
    assert!(output.stderr.contains("mkdir") && output.stderr.contains("not implemented"), "{output}");
    fs::remove_file(&socket).unwrap();
}

#[test]
fn calls_are_filtered_also_by_their_arguments() {
    let said = says("uname -n; hostname other; kill -0 1 && echo alive; kill -10 1; echo $?", |config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
                 "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
            ],
        });
    });
    assert_eq!(said, "story\nalive\n1");
}

#[test]
fn the_process_has_what_is_asked_for_it() {
    let script = "cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; umask; id; cat /proc/self/personality; \
                  awk '{print $19}' /proc/self/stat; grep -E 'CapInh|CapPrm|NoNewPrivs' /proc/self/status | tr -d '\\t'; \
                  cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/kernel/domainname";
    let said = says(script, |config| {
        let process = &mut config["process"];
        process["oomScoreAdj"] = json!(321);
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 300, "hard": 400}]);
        process["user"] = json!({"uid": 0, "gid": 7, "additionalGids": [5, 6], "umask": 0o027});
        process["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 7});
        config["domainname"] = json!("example.test");
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"});
    });
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], ["321", "300", "400", "0027"], "{said}");
    assert!(lines[4].starts_with("uid=0(root) gid=7") && lines[4].contains("5") && lines[4].contains("6"), "{said}");
    assert_eq!(lines[5..7], ["00000008", "7"], "{said}");
    assert_eq!(lines[7], "CapInh:0000000000000000", "{said}");
    assert_eq!(lines[9..], ["NoNewPrivs:1", "1", "4096", "example.test"], "{said}");
}

#[test]
fn an_io_priority_and_a_memory_policy_are_kept_by_the_kernel() {
    let oci = Oci::new();
    let id = oci.id("policy");
    let bundle = oci.bundle_with(&id, "echo up; sleep 1000", |config| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": []});
    });
    let left = oci.leave(["run", "-d", "-b", path(&bundle), &id]);
    until_written(&left.file, "up");
    let pid = oci.pid(&id);
    let output = Command::new("ionice").args(["-p", &pid.to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "idle");
    let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap_or_default();
    assert!(maps.is_empty() || maps.contains("interleave:0"), "{maps}");
}

#[test]
fn devices_are_there_with_their_owner_and_mode() {
    let said =
        says("stat -c '%n %F %t:%T %a %u:%g' /dev/fancy /dev/pipe; echo x > /dev/fancy && echo written", |config| {
            config["linux"]["devices"] = json!([
                {"path": "/dev/fancy", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
                {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
            ]);
            config["process"]["capabilities"]["effective"].as_array_mut().unwrap().push(json!("CAP_DAC_OVERRIDE"));
            for set in ["permitted", "bounding"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_DAC_OVERRIDE"));
            }
        });
    assert_eq!(said, "/dev/fancy character special file 1:3 640 3:4\n/dev/pipe fifo 0:0 600 0:0\nwritten");
}

#[test]
fn a_network_device_of_the_host_moves_in() {
    let ip = |args: &[&str]| Command::new("ip").args(args).stderr(Stdio::null()).status().unwrap().success();
    let name = format!("wh{}", std::process::id() % 100_000);
    let peer = format!("{name}p");
    assert!(ip(&["link", "add", &name, "type", "veth", "peer", "name", &peer]), "a pair of devices can be made");
    assert!(ip(&["addr", "add", "192.0.2.7/24", "dev", &name]));
    let said = says("cat /proc/net/dev | grep -c inside; cat /proc/net/fib_trie | grep -c 192.0.2.7", |config| {
        config["linux"]["netDevices"] = json!({&name: {"name": "inside0"}});
    });
    let counts: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(counts[0] == 1 && counts[1] >= 1, "{said}");
    // It goes with the namespace that it was given to.
    assert!(!Path::new("/sys/class/net").join(&name).exists());
}

#[test]
fn a_container_without_a_process_can_be_made_and_not_started() {
    let oci = Oci::new();
    let id = oci.id("none");
    let bundle = oci.bundle_with(&id, "true", |config| {
        config.as_object_mut().unwrap().remove("process");
    });
    oci.create(&id, &bundle);
    assert_eq!(oci.status(&id), "created");
    oci.call(["start", &id]).expect(1).complains(&["no command specified"]);
}

#[test]
fn mounts_of_a_shared_root_and_of_volumes_reach_the_host_or_not() {
    let oci = Oci::new();
    let id = oci.id("mounts");
    let volume = oci.work().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "of the host").unwrap();
    let script = "cat /data/file; echo no > /data/file; echo yes > /mnt/file; cat /mnt/file /etc/copied 2>&1";
    let bundle = oci.bundle_with(&id, script, |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts
            .push(json!({"destination": "/data", "type": "bind", "source": path(&volume), "options": ["rbind", "ro"]}));
        mounts.push(json!({"destination": "/mnt", "type": "bind", "source": path(&volume), "options": ["bind", "rw"]}));
        let copied = json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]});
        mounts.push(copied);
    });
    fs::write(oci.work().join("rootfs/etc/copied"), "up").unwrap();
    let said = oci.call(["run", "-b", path(&bundle), &id]).expect(0).stdout;
    assert_eq!(said, "of the hostyes\nup");
    assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "yes\n");
}
