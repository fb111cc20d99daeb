//! The flags of `run`, each by what it does inside of the container, with Docker's meaning and words.

use std::fs;

use crate::support::{Wherry, images};

/// Flags, what runs in the container with them, and what it prints, by lines.
const EFFECTS: &[(&[&str], &str, &str)] = &[
    (&["-h", "foo"], "hostname; cat /etc/hostname; grep -c foo /etc/hosts", "foo\nfoo\n1"),
    (
        &["-h", "foo", "--domainname", "bar.example"],
        "cat /proc/sys/kernel/domainname; grep -c 'foo.bar.example foo' /etc/hosts",
        "bar.example\n1",
    ),
    (
        &["--add-host", "foo:10.1.2.3", "--add-host=six=2001:db8::1"],
        "grep -cE '^(10.1.2.3.foo|2001:db8::1.six)$' /etc/hosts",
        "2",
    ),
    (
        &["--dns", "192.0.2.7", "--dns-search", "a.example", "--dns-option", "ndots:3"],
        "cat /etc/resolv.conf",
        "nameserver 192.0.2.7\nsearch a.example\noptions ndots:3",
    ),
    (&["--network", "host", "--dns-search", "."], "grep -c ^search /etc/resolv.conf", "0"),
    (
        &["--tmpfs", "/t:size=1m,mode=1770"],
        "stat -c %a /t; grep ' /t ' /proc/mounts | cut -d' ' -f4 | grep -o 'rw,nosuid,nodev,noexec\\|size=1024k'",
        "1770\nrw,nosuid,nodev,noexec\nsize=1024k",
    ),
    (&["--tmpfs", "/t:exec"], "cp /bin/busybox /t/true; /t/true && echo ran", "ran"),
    (
        &["--read-only", "--tmpfs", "/t"],
        "touch /x 2>/dev/null || echo refused; touch /t/x && echo written",
        "refused\nwritten",
    ),
    (&[], "df -k /dev/shm | tail -1 | awk '{print $2}'", "65536"),
    (&["--shm-size", "16m"], "df -k /dev/shm | tail -1 | awk '{print $2}'", "16384"),
    (
        &["--ulimit", "nofile=123:456", "--ulimit", "core=-1"],
        "ulimit -Sn; ulimit -Hn; grep core /proc/self/limits | awk '{print $5}'",
        "123\n456\nunlimited",
    ),
    (
        &["--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "kernel.msgmax=4242"],
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
        "0\n4242",
    ),
    (&["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj", "321"),
    (&["-u", "5", "--group-add", "77", "--group-add", "88"], "id -G | tr ' ' '\\n' | tail -2", "77\n88"),
    (&["--device", "/dev/full:/dev/mine:r"], "test -c /dev/mine && head -c 2 /dev/mine | wc -c", "2"),
    (&["--device", "/dev/kmsg:/dev/mine:r"], "echo x 2>&1 >/dev/mine | grep -o 'not permitted'", "not permitted"),
    (&["--device-cgroup-rule", "c 10:* rw"], "mknod /k c 10 237 && exec 3</k && echo read", "read"),
    (&[], "mknod /k c 10 237; (exec 3</k) 2>&1 | grep -o 'not permitted'", "not permitted"),
    (
        &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
        "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | awk '{print $2}' | uniq",
        "0000000000000001",
    ),
    (&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | awk '{print $2}'", "1"),
    (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status | awk '{print $2}'", "0"),
    (&["--security-opt", "systempaths=unconfined"], "grep -c ' /proc/' /proc/mounts", "0"),
    (&["--uts", "host"], "hostname", "{host}"),
    (&["--ipc", "none"], "grep -c ' /dev/shm ' /proc/mounts", "0"),
    (&["--cgroupns", "host"], "grep -c /wherry/ /proc/self/cgroup | grep -v '^0$' >/dev/null && echo seen", "seen"),
    (&[], "grep -c /wherry/ /proc/self/cgroup", "0"),
    (&["--pid", "host"], "test $$ -gt 2 && test -d /proc/{pid} && echo all", "all"),
    (
        &["--privileged"],
        "grep Seccomp: /proc/self/status | awk '{print $2}'; grep -c ' /proc/' /proc/mounts; test -c /dev/kmsg && echo device; grep ' /sys ' /proc/mounts | grep -o rw, | uniq; mount -t tmpfs x /tmp && echo mounted",
        "0\n0\ndevice\nrw,\nmounted",
    ),
    (
        &["--cpu-period", "50000", "--cpu-quota", "25000"],
        "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us | xargs",
        "25000 50000",
    ),
    (&["--cpuset-cpus", "0"], "nproc", "1"),
    (&["--pids-limit", "10"], "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max", "10"),
];

#[test]
fn what_each_flag_does_is_seen_inside() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let pid = std::process::id().to_string();
    let mut wrong = Vec::new();
    for (flags, script, expected) in EFFECTS {
        let (script, expected) = (script.replace("{pid}", &pid), expected.replace("{host}", &host));
        let tail = [image.as_str(), "sh", "-c", &script];
        let output = wherry.call([&["run", "--rm"], *flags, &tail].concat());
        if output.stdout.trim_end() != expected {
            wrong.push(format!("{flags:?}: {output}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Flags that cannot be meant, and what is said of each.
const REFUSED: &[(&[&str], &str)] = &[
    (&["--cpus", "9999"], "range of CPUs is from 0.01 to"),
    (&["--cpus", "1", "--cpu-quota", "30000"], "conflicting options"),
    (&["-m", "1m"], "Minimum memory limit allowed is 6MB"),
    (&["--memory-swap", "96m"], "You should always set the Memory limit"),
    (&["-m", "64m", "--memory-swap", "32m"], "should be larger than memory limit"),
    (&["-m", "32m", "--memory-reservation", "64m"], "can not be less than memory reservation"),
    (&["--oom-score-adj", "2000"], "[-1000, 1000]"),
    (&["--ulimit", "nosuch=1"], "invalid ulimit type"),
    (&["--ulimit", "nofile=2:1"], "soft limit must be less than or equal to hard limit"),
    (&["--security-opt", "bad=1"], "bad=1"),
    (&["--security-opt", "label=type:x"], "not offered"),
    (&["--security-opt", "seccomp=/no/such"], "/no/such"),
    (&["--uts", "host", "-h", "x"], "conflicting options"),
    (&["--userns", "bad"], "invalid mode"),
    (&["--ipc", "shareable"], "not offered"),
    (&["--network", "bridge"], "not offered"),
    (&["--network", "host", "--sysctl", "net.ipv4.ip_forward=0"], "net.*"),
    (&["--sysctl", "kernel.nosuch=1"], "kernel.nosuch"),
    (&["--device", "/dev/nosuch"], "error gathering device information"),
    (&["--device", "/etc/passwd"], "not a device node"),
    (&["--device", "vendor.example/gpu=0"], "CDI"),
    (&["--gpus", "all"], "could not select device driver"),
    (&["--group-add", "nosuch"], "unable to find group nosuch"),
    (&["--add-host", "foo"], "HOST:IP"),
    (&["--add-host", "foo:host-gateway"], "bridge"),
    (&["--dns", "bad"], "not a valid IP address"),
    (&["-h", "a b"], "hostname"),
    (&["--tmpfs", "relative"], "absolute path"),
    (&["--shm-size", "0"], "shm-size"),
    (&["--blkio-weight", "5"], "from 10 to 1000"),
    (&["--device-cgroup-rule", "x"], "device rule"),
    (&["--expose", "70000"], "1 to 65535"),
    (&["--pid", "container:nobody"], "No such container: nobody"),
    (&["--memory-swappiness", "101"], "0-100"),
];

#[test]
fn what_cannot_be_meant_is_refused_and_leaves_nothing() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for (flags, words) in REFUSED {
        let tail = [image.as_str(), "true"];
        wherry.call([&["run", "--rm"], *flags, &tail].concat()).expect(125).complains(&[words]);
    }
    assert_eq!(wherry.ok(["ps", "-aq"]), "");
}

#[test]
fn a_container_joins_anothers_processes_and_network() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "first", &image, "sleep", "1033"]);
    wherry.until("first", "running");
    let cmdline = "tr '\\0' ' ' </proc/1/cmdline";
    assert_eq!(wherry.ok(["run", "--rm", "--pid", "container:first", &image, "sh", "-c", cmdline]), "sleep 1033");
    let network =
        |flags: &[&str]| wherry.ok([&["run", "--rm"], flags, &[&image, "readlink", "/proc/self/ns/net"]].concat());
    let of_first = wherry.ok(["exec", "first", "readlink", "/proc/self/ns/net"]);
    assert_eq!(network(&["--network", "container:first"]), of_first);
    assert_ne!(network(&[]), of_first);
    let name = ["run", "--rm", "--network", "container:first", &image, "hostname"];
    assert_eq!(wherry.ok(name), wherry.ok(["exec", "first", "hostname"]));
    let renamed = ["run", "--rm", "--network", "container:first", "-h", "x", &image, "true"];
    wherry.call(renamed).expect(125).complains(&["conflicting options: hostname and the network mode"]);
    wherry.ok(["rm", "-f", "first"]);
    wherry.call(["run", "--rm", "--pid", "container:first", &image, "true"]).expect(125);
}

#[test]
fn one_that_joined_the_hosts_processes_takes_its_own_along() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let script = "sleep 1044 & sleep 1044 & echo ready; wait";
    wherry.ok(["run", "-d", "--name", "loose", "--pid", "host", &image, "sh", "-c", script]);
    wherry.until_logged("loose", "ready");
    let pids: Vec<String> = wherry.ok(["top", "loose", "-o", "pid"]).lines().skip(1).map(|l| l.trim().into()).collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
    wherry.ok(["rm", "-f", "loose"]);
    for pid in pids {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!command.contains("1044"), "{pid}: {command}");
    }
}

#[test]
fn a_profile_of_ones_own_filters_calls() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let file = wherry.root().join("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []}],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                     {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_BOOT"]}}]}"#;
    fs::write(&file, profile).unwrap();
    let option = format!("seccomp={}", file.display());
    let run = |script: &str| wherry.call(["run", "--rm", "--security-opt", &option, &image, "sh", "-c", script]);
    run("mkdir /x").expect(1).complains(&["No space left"]);
    run("grep Seccomp: /proc/self/status").expect(0).prints(&["2"]);
    // What is stored is the profile: the file may go.
    wherry.ok(["create", "--name", "later", "--security-opt", &option, &image, "mkdir", "/x"]);
    fs::write(&file, "{}").unwrap();
    wherry.call(["start", "-a", "later"]).expect(1);
    run("true").expect(125).complains(&["seccomp profile"]);
}

#[test]
fn files_of_ids_and_of_labels() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let (ids, labels) = (wherry.root().join("cid"), wherry.root().join("labels"));
    fs::write(&labels, "# of mine\nx=1\ny=2\n").unwrap();
    let (ids_flag, labels_flag) = (ids.display().to_string(), labels.display().to_string());
    let with = ["--cidfile", &ids_flag, "--label-file", &labels_flag, "-l", "y=3", "--stop-timeout", "7"];
    let id = wherry.ok([&["create", "--expose", "7000-7001", "--expose", "53/udp"], &with[..], &[&image]].concat());
    assert_eq!(fs::read_to_string(&ids).unwrap(), id);
    let of = |template: &str| wherry.ok(["inspect", "-f", template, &id]);
    assert_eq!(of("{{.Config.Labels.x}} {{.Config.Labels.y}} {{.Config.StopTimeout}}"), "1 3 7");
    let ports = of("{{json .Config.ExposedPorts}}");
    assert!(["53/udp", "7000/tcp", "7001/tcp"].iter().all(|port| ports.contains(port)), "{ports}");
    let again = ["run", "--cidfile", &ids_flag, &image, "true"];
    wherry.call(again).expect(125).complains(&["container ID file found"]);
}
