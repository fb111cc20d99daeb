//! What cannot be made: `create` says why in one line that names the field, exits with 1, and leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::support::Oci;
use super::support::oci::path;
use super::support::process::cgroups_of;

/// One change that breaks a configuration: a JSON pointer, what is put there, and what the line must contain.
type Case<'a> = (&'a str, Value, &'a [&'a str]);

/// A mount namespace like ours, in which nobody else mounts: what is mounted there and stays is a leak.
struct Mounts {
    holder: Child,
}

impl Mounts {
    fn new() -> Self {
        // Shared as on most machines, so that what a container lets out of its own would be seen.
        let script = "mount --make-rprivate / && mount --make-rshared / && echo && exec cat";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = unshare.spawn().expect("util-linux is installed");
        holder.stdout.as_mut().unwrap().read_exact(&mut [0]).expect("the mount namespace is made");
        Self { holder }
    }

    fn list(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The command, inside.
    fn inside(&self, command: &Command) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg(command.get_program());
        nsenter.args(command.get_args()).env_clear().stdin(Stdio::null());
        nsenter.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        nsenter
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
    }
}

/// Calls that must fail, and all that is wrong with how they did.
struct Trial {
    oci: Oci,
    mounts: Mounts,
    before: BTreeSet<String>,
    tried: Vec<String>,
    wrong: Vec<String>,
}

impl Trial {
    fn new() -> Self {
        let mounts = Mounts::new();
        Self { oci: Oci::new(), before: mounts.list(), mounts, tried: Vec::new(), wrong: Vec::new() }
    }

    /// Creates a container of a bundle that is `config` with one change.
    fn change(&mut self, config: Option<&Value>, (pointer, value, words): Case<'_>) {
        let id = self.oci.id("invalid");
        let bundle = self.oci.bundle_with(&id, "true", |default| {
            if let Some(config) = config {
                *default = config.clone();
                default["linux"]["cgroupsPath"] = format!("/wherry/{id}").into();
            }
            put(default, pointer, &value);
        });
        self.create(&format!("{pointer} = {value}"), &bundle, &id, &[], words);
    }

    fn create(&mut self, what: &str, bundle: &Path, id: &str, options: &[&str], words: &[&str]) {
        let command = self.oci.command([&["create", "--bundle", path(bundle)], options, &[id]].concat());
        let left = self.oci.leave_by(&mut self.mounts.inside(&command));
        self.tried.push(id.to_owned());
        let (status, said) = (left.output.status, fs::read_to_string(&left.file).unwrap());
        let mut problems = Vec::new();
        if status != 1 {
            problems.push(format!("exit code {status}"));
        }
        if said.lines().count() != 1 || !said.starts_with("wherry: ") {
            problems.push("not one line".to_owned());
        }
        problems.extend(words.iter().filter(|word| !said.contains(**word)).map(|word| format!("lacks {word:?}")));
        if let Ok(entries) = fs::read_dir(self.oci.root()) {
            problems.extend(entries.map(|entry| format!("leaves {:?}", entry.unwrap().path())));
        }
        problems.extend(self.mounts.list().difference(&self.before).map(|mount| format!("leaves {mount}")));
        if !problems.is_empty() {
            self.wrong.push(format!("{what}\n  said  {said}  wrong {}", problems.join(", ")));
            self.oci.call(["delete", "--force", id]);
        }
    }

    /// Asserts that all was as it should be, and that neither a cgroup nor a process is left.
    #[track_caller]
    fn judge(self, at_least: usize) {
        assert!(self.wrong.is_empty(), "{}\n", self.wrong.join("\n"));
        assert!(self.tried.len() >= at_least, "{} cases", self.tried.len());
        let leaks = self.oci.leaks(&self.tried);
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// Puts `value` at `pointer`: in place of what is there, or as a new member; `{"remove": true}` removes.
fn put(document: &mut Value, pointer: &str, value: &Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let key = key.replace("~1", "/").replace("~0", "~");
    let removes = value.get("remove").is_some();
    match document.pointer_mut(parent) {
        Some(Value::Object(members)) if removes => drop(members.remove(&key)),
        Some(Value::Array(items)) if removes => drop(items.remove(key.parse().unwrap())),
        Some(Value::Object(members)) => drop(members.insert(key, value.clone())),
        Some(Value::Array(items)) if key == items.len().to_string() => items.push(value.clone()),
        Some(Value::Array(items)) => items[key.parse::<usize>().unwrap()] = value.clone(),
        other => panic!("{pointer}: cannot put something into {other:?}"),
    }
}

/// The table of the specification's fields that cannot be meant, as the binary is told them.
#[test]
fn what_cannot_be_meant_is_refused_by_field() {
    let full: Value = serde_json::from_str(include_str!("../../src/bundle/validate/tests/full.json")).unwrap();
    let table = include_str!("../../src/bundle/validate/tests/broken.json");
    let table: Vec<(String, Value, String)> = serde_json::from_str(table).unwrap();
    let mut trial = Trial::new();
    for (pointer, value, message) in &table {
        // The place in the text is another than in the table.
        let message = message.split(" at line ").next().unwrap();
        trial.change(Some(&full), (pointer, value.clone(), &[&format!(": config.json: {message}")]));
    }
    trial.judge(100);
}

/// What only the engine and the kernel know.
#[test]
fn mounts_that_cannot_be_made_are_refused_by_destination() {
    let mount = |typ: &str, source: &str, options: &[&str]| json!({"destination": "/m", "type": typ, "source": source, "options": options});
    let onto = |destination: &str, source: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
    let mut trial = Trial::new();
    for (value, words) in [
        (mount("bind", "/no/such/source", &["rbind"]), &["/m", "/no/such/source"][..]),
        (mount("bind", "no-such-source", &["bind"]), &["/m", "no-such-source"]),
        (mount("bind", "/etc", &["bind", "ridmap"]), &["mounts[5].options", "ridmap"]),
        (mount("tmpfs", "tmpfs", &["size=nonsense"]), &["/m", "size", "nonsense"]),
        (mount("tmpfs", "tmpfs", &["mode=999"]), &["/m", "mode", "999"]),
        (mount("tmpfs", "tmpfs", &["no-such-option"]), &["/m", "no-such-option"]),
        (mount("proc", "proc", &["hidepid=nonsense"]), &["/m", "hidepid", "nonsense"]),
        (mount("no-such-filesystem", "none", &[]), &["/m", "no-such-filesystem"]),
        (mount("overlay", "overlay", &["lowerdir=/no/such/lower"]), &["/m", "overlay"]),
        (mount("ext4", "/no/such/device", &[]), &["/m", "/no/such/device"]),
        (onto("/proc", "/etc"), &["/proc"]),
        (onto("/proc/self/exe", "/etc/hostname"), &["/proc/self/exe"]),
        (onto("/bin/busybox/below", "/etc"), &["/bin/busybox/below"]),
        (onto("/etc", "/etc/hostname"), &["/etc"]),
        (onto("/bin/busybox", "/etc"), &["/bin/busybox"]),
    ] {
        trial.change(None, ("/mounts/5", value, words));
    }
    trial.judge(15);
}

#[test]
fn roots_and_namespaces_that_are_none_are_refused() {
    let mut trial = Trial::new();
    let fifo = trial.oci.work().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let joined = |typ: &str, path: &str| json!({"type": typ, "path": path});
    for case in [
        ("/root/path", json!("no-such-root"), &["no-such-root"][..]),
        ("/root/path", json!("/no/such/root"), &["/no/such/root"]),
        ("/root/path", json!("/etc/hostname"), &["/etc/hostname"]),
        ("/linux/rootfsPropagation", json!("sideways"), &["linux.rootfsPropagation"]),
        ("/linux/namespaces/1", joined("network", "/no/such/namespace"), &["/no/such/namespace"]),
        ("/linux/namespaces/1", joined("network", "/etc/hostname"), &["/etc/hostname"]),
        ("/linux/namespaces/1", joined("network", "/proc"), &["/proc"]),
        ("/linux/namespaces/1", joined("network", path(&fifo)), &[path(&fifo)]),
        ("/linux/namespaces/1", joined("network", "/proc/1/ns/uts"), &["/proc/1/ns/uts"]),
        ("/linux/namespaces/4", joined("mount", "/proc/1/ns/uts"), &["/proc/1/ns/uts"]),
        ("/linux/namespaces/0", joined("pid", "/dev/null"), &["/dev/null"]),
        ("/linux/namespaces/4", json!({"remove": true}), &["namespace"]),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}), &["linux.timeOffsets"]),
        ("/linux/netDevices", json!({"no-such-dev": {}}), &["no-such-dev"]),
    ] {
        trial.change(None, case);
    }
    trial.judge(14);
}

#[test]
fn processes_that_cannot_be_are_refused() {
    let huge = json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1_u64 << 40}]);
    let mut trial = Trial::new();
    for case in [
        ("/process/args", json!(["no-such-program"]), &["no-such-program"][..]),
        ("/process/args", json!(["/etc/passwd"]), &["/etc/passwd"]),
        ("/process/args", json!(["/etc"]), &["/etc"]),
        ("/process/cwd", json!("/bin/busybox"), &["/bin/busybox"]),
        ("/process/rlimits", huge, &["resource limit", "1099511627776"]),
        ("/process/apparmorProfile", json!("no-such-profile"), &["process.apparmorProfile"]),
        ("/process/selinuxLabel", json!("no:such:label"), &["process.selinuxLabel"]),
        ("/process/scheduler", json!({"policy": "SCHED_ISO"}), &["scheduling"]),
        ("/process/terminal", json!(true), &["console"]),
        ("/linux/sysctl", json!({"net.ipv4.no_such_setting": "1"}), &["sysctl", "net/ipv4/no_such_setting"]),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": "nonsense"}), &["sysctl", "net/ipv4/ip_forward"]),
        (
            "/linux/devices",
            json!([{"path": "/bin/busybox/x", "type": "c", "major": 1, "minor": 3}]),
            &["/bin/busybox/x"],
        ),
    ] {
        trial.change(None, case);
    }
    trial.judge(12);
}

#[test]
fn filters_that_cannot_be_compiled_are_refused() {
    let profile = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let argument = |arg: Value| profile(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [arg]}));
    let notify = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
    let mut trial = Trial::new();
    for (value, words) in [
        (argument(json!({"index": 6, "value": 0, "op": "SCMP_CMP_EQ"})), &["seccomp"][..]),
        (argument(json!({"index": 0, "value": 0, "op": "SCMP_CMP_X"})), &["linux.seccomp.syscalls[0].args[0].op"]),
        (argument(json!({"index": 0, "value": -1, "op": "SCMP_CMP_EQ"})), &["linux.seccomp.syscalls[0].args[0].value"]),
        (profile(json!({"names": ["read"], "action": "SCMP_ACT_X"})), &["linux.seccomp.syscalls[0].action"]),
        (profile(json!({"names": "read", "action": "SCMP_ACT_ERRNO"})), &["linux.seccomp.syscalls[0].names"]),
        (profile(json!({"names": [], "action": "SCMP_ACT_ERRNO"})), &["seccomp"]),
        (profile(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000})), &["seccomp"]),
        (profile(notify), &["seccomp"]),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), &["seccomp"]),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X"]}),
            &["linux.seccomp.architectures[0]"],
        ),
    ] {
        trial.change(None, ("/linux/seccomp", value, words));
    }
    trial.judge(10);
}

/// The filter is made as late as can be: what it would stop of our own does not happen under it any more.
#[test]
fn a_listener_that_is_not_there_is_told_at_start() {
    let oci = Oci::new();
    let id = oci.id("unheard");
    let bundle = oci.bundle_with(&id, "true", |config| {
        let notify = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
        config["linux"]["seccomp"] =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/listener", "syscalls": [notify]});
    });
    oci.create(&id, &bundle);
    let start = oci.call(["start", &id]).expect(1).complains(&["/no/such/listener"]);
    assert_eq!(start.stderr.lines().count(), 1, "{start}");
    oci.until(&id, "stopped");
}

#[test]
fn limits_that_the_kernel_does_not_take_are_refused() {
    let device = json!([{"major": 4095, "minor": 7, "rate": 1}]);
    let mut trial = Trial::new();
    for (field, value, words) in [
        ("unified", json!({"no.such": "1"}), &["no.such"][..]),
        ("cpu", json!({"period": 1}), &["cpu"]),
        ("cpu", json!({"cpus": "9999"}), &["cpus"]),
        ("cpu", json!({"cpus": "nonsense"}), &["cpus"]),
        ("cpu", json!({"mems": "nonsense"}), &["mems"]),
        ("memory", json!({"limit": 1}), &[]),
        ("hugepageLimits", json!([{"pageSize": "3MB", "limit": 0}]), &["3MB"]),
        ("network", json!({"priorities": [{"name": "no-such-dev", "priority": 1}]}), &["net_prio"]),
        ("blockIO", json!({"throttleReadBpsDevice": device}), &["blkio"]),
        ("rdma", json!({"no-such": {"hcaHandles": 1}}), &["rdma"]),
    ] {
        trial.change(None, (&format!("/linux/resources/{field}"), value, words));
    }
    trial.change(None, ("/linux/intelRdt", json!({"closID": "no-such"}), &["resctrl"]));
    trial.judge(11);
}

#[test]
fn hooks_that_fail_are_told() {
    let script = |text: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", text]}]);
    let mut trial = Trial::new();
    for (point, hook, words) in [
        ("prestart", json!([{"path": "/bin/false"}]), &["/bin/false", "status 1"][..]),
        ("createRuntime", json!([{"path": "/no/such/hook"}]), &["/no/such/hook"]),
        ("createRuntime", json!([{"path": "/etc/hostname"}]), &["/etc/hostname"]),
        ("createRuntime", script("kill -9 $$"), &["/bin/sh", "signal 9"]),
        ("createRuntime", script("echo one; echo two >&2; exit 3"), &["status 3", "one", "two"]),
        ("createRuntime", script("yes | head -c 1000000; exit 4"), &["status 4"]),
        ("createContainer", json!([{"path": "/bin/false"}]), &["/bin/false", "status 1"]),
        ("createContainer", script("echo '\u{1b}[31m'; exit 5"), &["status 5"]),
        ("prestart", json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]), &["/bin/sleep", "1 s"]),
    ] {
        trial.change(None, ("/hooks", json!({point: hook}), words));
    }
    trial.judge(9);
}

/// Puts something at a path.
type Maker = fn(&Path);

/// Puts something of another kind in the place of `config.json`.
fn replaced(oci: &Oci, id: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let bundle = oci.bundle(id, "true");
    fs::rename(bundle.join("config.json"), bundle.join("real.json")).unwrap();
    make(&bundle.join("config.json"));
    bundle
}

#[test]
fn configurations_that_are_none_are_refused() {
    let deep = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
    let wrapped = |inner: Vec<u8>| [br#"{"ociVersion": "1.0.0", "x": "#.to_vec(), inner, b"}".to_vec()].concat();
    let texts: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "config.json"),
        (b" \n\t".to_vec(), "config.json"),
        (vec![0; 4096], "config.json"),
        (vec![0xff; 4096], "config.json"),
        (b"null".to_vec(), "config.json"),
        (b"[]".to_vec(), "config.json"),
        (b"{}".to_vec(), "config.json: ociVersion"),
        (b"{\"ociVersion\": \"1.0.0\"".to_vec(), "config.json"),
        (b"{\"ociVersion\": \"1.0.0\"} {}".to_vec(), "config.json"),
        (br#"{"ociVersion": "1.0.0", "ociVersion": "1.0.0"}"#.to_vec(), "config.json"),
        ("{\"ociVersion\": \"\u{1b}[2J\"}".into(), "config.json"),
        (wrapped(deep(100_000)), "config.json"),
        (vec![b' '; (4 << 20) + 1], "larger than"),
    ];
    let mut trial = Trial::new();
    for (text, words) in texts {
        let id = trial.oci.id("no-text");
        let bundle = replaced(&trial.oci, &id, |config| fs::write(config, &text).unwrap());
        trial.create(
            &format!("{:?}…", String::from_utf8_lossy(&text[..text.len().min(40)])),
            &bundle,
            &id,
            &[],
            &[words],
        );
    }
    let makers: [(&str, Maker, &str); 6] = [
        ("nothing", |_| {}, "config.json"),
        ("a directory", |config| fs::create_dir(config).unwrap(), "not a regular file"),
        (
            "a FIFO",
            |config| assert!(Command::new("mkfifo").arg(config).status().unwrap().success()),
            "not a regular file",
        ),
        ("a device", |config| symlink("/dev/zero", config).unwrap(), "not a regular file"),
        ("a loop", |config| symlink("config.json", config).unwrap(), "config.json"),
        ("a dangling link", |config| symlink("nowhere", config).unwrap(), "config.json"),
    ];
    for (what, make, words) in makers {
        let id = trial.oci.id("no-file");
        let bundle = replaced(&trial.oci, &id, make);
        trial.create(what, &bundle, &id, &[], &[words]);
    }
    let id = trial.oci.id("no-bundle");
    trial.create("no bundle", Path::new("/no/such/bundle"), &id, &[], &["/no/such/bundle"]);
    trial.judge(20);
}

#[test]
fn names_and_options_that_cannot_be_are_refused() {
    let mut trial = Trial::new();
    let bundle = trial.oci.bundle("named", "true");
    let long = "x".repeat(1000);
    for id in ["../x", "..", ".", "a/b", "/a", "a b", "a\nb", "é", "\u{1b}[2J", &long] {
        trial.create(&format!("{id:?}"), &bundle, id, &[], &["container ID"]);
    }
    trial.create("no name", &bundle, "", &[], &["container id cannot be empty"]);
    // Or every cgroup of this name would have to do with this test.
    trial.tried.retain(|id| id.len() > 500);
    let console = trial.oci.work().join("no-such-socket");
    for (options, words) in [
        (&["--pid-file", "/no/such/directory/pid"][..], &["pid file", "/no/such/directory"][..]),
        (&["--preserve-fds", "5"], &["--preserve-fds"]),
        (&["--preserve-fds", "4294967295"], &["preserve-fds"]),
        (&["--preserve-fds", "-1"], &["preserve-fds"]),
        (&["--console-socket", path(&console)], &["console-socket"]),
        (&["--pidfd-socket", path(&console)], &["no-such-socket"]),
        (&["--config", "/no/such/config"], &["/no/such/config"]),
        (&["--no-such-option"], &["--no-such-option"]),
    ] {
        let id = trial.oci.id("optioned");
        let bundle = trial.oci.bundle(&id, "true");
        trial.create(&format!("{options:?}"), &bundle, &id, options, words);
    }
    trial.judge(9);
}

/// Whatever a `create` that was killed has left: `delete --force` clears it, twice is no error, and the name is free.
#[test]
fn what_is_half_made_can_be_deleted() {
    let oci = Oci::new();
    let leftovers: [(&str, &[&str]); 3] =
        [("empty", &[]), ("configured", &["config.json"]), ("gated", &["config.json", "state.json.new", "start.sock"])];
    for (name, files) in leftovers {
        let id = oci.id(name);
        let directory = oci.root().join(&id);
        fs::create_dir(&directory).unwrap();
        files.iter().for_each(|file| fs::write(directory.join(file), "").unwrap());
        oci.ok(["delete", "--force", &id]);
        assert!(!directory.exists(), "{name}");
        oci.ok(["delete", "--force", &id]);
        oci.call(["delete", &id]).expect(1).complains(&["container does not exist"]);
        let bundle = oci.bundle(&id, "true");
        oci.create(&id, &bundle);
        oci.ok(["delete", "--force", &id]);
    }
}

/// Killed while a hook runs: the container's process, its cgroups and its directory are there, and nobody waits for them.
#[test]
fn a_create_that_was_killed_can_be_deleted() {
    let oci = Oci::new();
    let id = oci.id("killed");
    let (reached, go_on) = (oci.work().join("reached"), oci.work().join("go-on"));
    for fifo in [&reached, &go_on] {
        assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    }
    let script = format!("echo reached > {}; read line < {}", path(&reached), path(&go_on));
    let bundle = oci.bundle_with(&id, "true", |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    let mut command = oci.command(["create", "--bundle", path(&bundle), &id]);
    let mut create = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(fs::read_to_string(&reached).unwrap(), "reached\n");
    assert!(!cgroups_of(std::slice::from_ref(&id)).is_empty());
    create.kill().unwrap();
    create.wait().unwrap();
    fs::write(&go_on, "\n").unwrap();
    oci.ok(["delete", "--force", &id]);
    let leaks = oci.leaks(&[id]);
    assert!(leaks.is_empty(), "{leaks:#?}");
}
