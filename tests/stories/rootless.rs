//! Without root: an ordinary user runs Wasm files and Linux images, in a user namespace of that one user or with the
//! ranges of ids that the administrator gave. The account files and the cgroups of these users are only theirs: they are
//! mounted over the machine's in mount namespaces of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{PATIENCE, copy_program, eventually, images, process};

/// Somebody without an account, unless a test makes one.
pub const USER: u32 = 4242;

/// What such an account is given.
pub const RANGE: &str = "porter:200000:65536\n";

/// A home of that user, with a copy of wherry that it can reach.
pub struct Ordinary {
    /// Where all of it is.
    pub home: TempDir,
    /// What a shell does, as root and in a mount namespace of its own, before it becomes the user.
    pub before: String,
}

impl Ordinary {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("wherry-rootless-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        chown(home.path(), Some(USER), Some(USER)).unwrap();
        copy_program(Path::new(env!("CARGO_BIN_EXE_wherry")), &home.path().join("wherry"));
        Self { home, before: String::new() }
    }

    /// The same with an account, and with what /etc/subuid and /etc/subgid say.
    pub fn with_ranges(subids: &str) -> Self {
        let mut user = Self::new();
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let passwd = format!("{passwd}porter:x:{USER}:{USER}::{}:/bin/sh\n", user.home.path().display());
        for (name, text) in [("passwd", passwd.as_str()), ("subuid", subids), ("subgid", subids)] {
            let file = user.home.path().join(name);
            fs::write(&file, text).unwrap();
            user.before += &format!("mount --bind {} /etc/{name}\n", file.display());
        }
        user
    }

    /// The same, who is in the `own` of a group, on a machine with nothing but cgroup v2.
    pub fn in_cgroup(mut self, group: &Group) -> Self {
        let own = group.path.join("own");
        self.before += &format!("echo $$ >{}/cgroup.procs\nmount -t cgroup2 cgroup2 /sys/fs/cgroup\n", own.display());
        self
    }

    fn own(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        chown(&path, Some(USER), Some(USER)).unwrap();
        path
    }

    fn call(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("unshare starts")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let user = format!("exec setpriv --reuid {USER} --regid {USER} --clear-groups -- \"$@\"");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", &format!("{}{user}", self.before), "sh"])
            .arg(self.home.path().join("wherry"))
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// A command that fails; its standard error.
    #[track_caller]
    pub fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.call(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        // What a failed test has left, as the directory goes.
        for (list, remove) in
            [(&["ps", "-aq"][..], &["rm", "--force"][..]), (&["oci", "list", "-q"], &["oci", "delete", "--force"])]
        {
            let left = self.call(list);
            for id in String::from_utf8_lossy(&left.stdout).lines() {
                self.call(&[remove, &[id]].concat());
            }
        }
    }
}

#[test]
fn a_wasm_file_runs_and_leaves_nothing() {
    let user = Ordinary::new();
    let guest = user.own("guest.wasm", &fs::read(images::guest_module()).unwrap());
    let guest = guest.to_str().unwrap();
    assert_eq!(user.ok(&["run", "--rm", guest, "args", "one", "two"]), "args\none\ntwo\n");
    assert_eq!(user.call(&["run", "--rm", guest, "exit", "7"]).status.code(), Some(7));
    assert_eq!(user.ok(&["ps", "-aq"]), "");
}

#[test]
fn what_a_wasm_program_writes_is_the_users() {
    let user = Ordinary::new();
    let guest = user.own("guest.wasm", &fs::read(images::guest_module()).unwrap());
    let data = user.home.path().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(USER), Some(USER)).unwrap();
    user.ok(&["run", "--rm", "-v", "./data:/data", guest.to_str().unwrap(), "write", "/data/new", "text"]);
    assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "text\n");
    assert_eq!(fs::metadata(data.join("new")).unwrap().uid(), USER);
}

#[test]
fn a_linux_image_runs_as_root_of_its_own_namespace_only() {
    let image = images::busybox();
    let user = Ordinary::new();
    let script = "id -u; cat /proc/self/uid_map; cat /proc/self/status";
    let said = user.ok(&["run", "--rm", &image, "sh", "-c", script]);
    let map: Vec<&str> = said.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((said.lines().next(), &map[..]), (Some("0"), &["0", USER.to_string().as_str(), "1"][..]));
    assert!(said.contains("Seccomp:\t2"), "{said}");
    assert_eq!(user.ok(&["ps", "-aq"]), "");
}

#[test]
fn with_ranges_the_files_of_other_users_keep_their_owners() {
    let image = images::busybox();
    let user = Ordinary::with_ranges(RANGE);
    let script = "cat /proc/self/uid_map; stat -c %u:%g /home/ada; touch /f; chown 1000:50 /f; stat -c %u:%g /f; \
                  stat -c %g /dev/pts/ptmx; cat /proc/sys/net/ipv4/ping_group_range";
    let said = user.ok(&["run", "--rm", &image, "sh", "-c", script]);
    let words: Vec<&str> = said.split_whitespace().collect();
    let expected = ["0", "4242", "1", "1", "200000", "65536", "1000:1000", "1000:50", "0", "0", "65536"];
    assert_eq!(words, expected);
    assert_eq!(user.ok(&["ps", "-aq"]), "");
}

#[test]
fn with_ranges_a_program_runs_as_any_user() {
    let image = images::busybox();
    let user = Ordinary::with_ranges(RANGE);
    let script = "id -u; id -g; id -G; touch /tmp/f && stat -c %u /tmp/f; grep -E ^Cap.nd /proc/self/status";
    let said = user.ok(&["run", "--rm", "--user", "ada", &image, "sh", "-c", script]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], ["1000", "1000", "1000 44 50", "1000"], "{said}");
    assert_eq!(user.ok(&["run", "--rm", "--user", "65536:7", &image, "sh", "-c", "id -u; id -g"]), "65536\n7\n");
    let said = user.refused(&["run", "--rm", "--user", "65537", &image, "true"], 125);
    assert!(said.contains("65537") && said.contains("hint: longer ranges"), "{said}");
}

#[test]
fn with_ranges_a_terminal_and_what_is_written_outside_have_the_right_owners() {
    let image = images::busybox();
    let user = Ordinary::with_ranges(RANGE);
    let data = user.own("data", b"");
    let show = ["run", "--rm", "-t", "--user", "ada", &image, "stat", "-c", "%u:%g", "/dev/console"];
    assert_eq!(user.ok(&show), "1000:5\r\n");
    let script = "stat -c %u /mine; chown ada:staff /mine";
    assert_eq!(user.ok(&["run", "--rm", "-v", "./data:/mine", &image, "sh", "-c", script]), "0\n");
    let now = fs::metadata(data).unwrap();
    assert_eq!((now.uid(), now.gid()), (200_999, 200_049));
}

/// Its processes are of an id that the user is not: in another command's user namespace nobody may signal them.
#[test]
fn a_container_of_another_user_can_be_stopped_and_removed() {
    let image = images::busybox();
    let user = Ordinary::with_ranges(RANGE);
    let wait = "trap 'exit 3' TERM; touch /tmp/here; while :; do sleep 1; done";
    user.ok(&["run", "-d", "--name", "stopped", "--user", "ada", &image, "sh", "-c", wait]);
    user.ok(&["run", "-d", "--name", "killed", "--user", "ada", &image, "sleep", "1000"]);
    let pid: u32 = user.ok(&["inspect", "-f", "{{.State.Pid}}", "stopped"]).trim().parse().unwrap();
    assert!(process::status(pid, "Uid").unwrap().starts_with("200999"), "{:?}", process::status(pid, "Uid"));
    eventually("the trap is set", || fs::metadata(format!("/proc/{pid}/root/tmp/here")).ok());
    user.ok(&["stop", "--time", "60", "stopped"]);
    assert_eq!(user.ok(&["wait", "stopped"]), "3\n");
    user.ok(&["rm", "--force", "killed", "stopped"]);
    assert!(process::gone_within(pid, PATIENCE));
    assert_eq!(user.ok(&["ps", "-aq"]), "");
}

/// Its supervisor is deaf to who gives it input that it does not take, and to nobody else.
#[test]
fn a_container_of_another_user_that_takes_no_input_can_be_stopped() {
    let image = images::busybox();
    let user = Ordinary::with_ranges(RANGE);
    let mut endless = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
    let mut run = user.command(&["run", "-i", "--name", "full", "--user", "ada", &image, "sleep", "1000"]);
    let mut run = run.stdin(endless.stdout.take().unwrap()).spawn().unwrap();
    // What gives the input has to wait when nobody along the way has room any more.
    let written = || {
        let io = fs::read_to_string(format!("/proc/{}/io", endless.id())).unwrap();
        process::status_value(&io, "wchar").unwrap().parse::<u64>().unwrap()
    };
    let mut before = 0;
    eventually("all buffers are full", || {
        let is_running = user.call(&["inspect", "-f", "{{.State.Running}}", "full"]).stdout == b"true\n";
        let now = std::mem::replace(&mut before, written());
        (is_running && now > 0 && now == before).then_some(())
    });
    user.ok(&["rm", "--force", "full"]);
    assert_eq!(run.wait().unwrap().code(), Some(137));
    endless.kill().unwrap();
    endless.wait().unwrap();
}

#[test]
fn what_is_missing_for_another_user_is_named() {
    let image = images::busybox();
    let missing = |user: &Ordinary, advice: &str| {
        let said = user.refused(&["run", "--rm", "--user", "1000", &image, "true"], 125);
        assert!(said.contains("there is no user 1000") && said.contains(advice), "{said}");
        // All else works, with the one.
        assert_eq!(user.ok(&["run", "--rm", &image, "id", "-u"]), "0\n");
    };
    missing(&Ordinary::new(), "hint: no range of ids: add 4242:100000:65536 to /etc/subuid and /etc/subgid");
    missing(
        &Ordinary::with_ranges(""),
        "hint: no range of ids: add porter:100000:65536 to /etc/subuid and /etc/subgid",
    );
    let mut helpless = Ordinary::with_ranges(RANGE);
    helpless.before += "mount -t tmpfs none /mnt; ln -s /usr/bin/setpriv /mnt/; PATH=/mnt\n";
    missing(&helpless, "need newuidmap and newgidmap: install uidmap");
    let mut powerless = Ordinary::with_ranges(RANGE);
    powerless.before += "mount --bind /usr/bin/false /usr/bin/newgidmap\n";
    missing(&powerless, "the ranges of ids cannot be used: newgidmap ");
}

/// Layers are unpacked once; those of a user who was alone are not those of the same user with ranges.
#[test]
fn a_range_that_comes_later_finds_no_files_of_the_wrong_owner() {
    let image = images::busybox();
    let mut user = Ordinary::with_ranges("");
    let owner = ["run", "--rm", &image, "stat", "-c", "%u", "/home/ada"];
    assert_eq!(user.ok(&owner), "0\n");
    user.before += "echo porter:200000:65536 >/etc/subuid; cat /etc/subuid >/etc/subgid\n";
    assert_eq!(user.ok(&owner), "1000\n");
}

/// A cgroup in the machine's unified hierarchy, and `own` in it.
pub struct Group {
    /// Its directory.
    pub path: PathBuf,
}

impl Group {
    pub fn new(name: &str) -> Self {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let mount = mounts.into_iter().find(|at| fs::exists(format!("{at}/cgroup.controllers")).unwrap());
        let mount = mount.expect("systemd mounts a unified hierarchy");
        let path = PathBuf::from(mount).join(format!("wherry-story-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let group = Self { path };
        group.add("own");
        group
    }

    /// Makes a group below.
    fn add(&self, name: &str) {
        fs::create_dir(self.path.join(name)).unwrap();
    }

    /// Delegates a group below, or with an empty name this one, to the user (cgroups(7), "delegation").
    pub fn delegate(&self, name: &str) {
        let group = self.path.join(name);
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(group.join(file), Some(USER), Some(USER)).unwrap();
        }
    }

    /// The groups that exist now in one of these.
    pub fn below(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path.join(name)).unwrap().flatten();
        let dirs = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        dirs.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for name in ["own/wherry", "own", ""] {
            let gone = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
            let remove = || fs::remove_dir(self.path.join(name)).or_else(|e| if gone(e) { Ok(()) } else { Err(()) });
            eventually("the group is empty", || remove().ok());
        }
    }
}

/// Runs a container of this user, asks where it is and whether it sees cgroups, and ends it. Not one must be for it to
/// write (CVE-2023-25809).
fn where_it_is(user: &Ordinary, network: &str) -> (String, bool) {
    let image = images::busybox();
    let try_all = "for at in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $at/mine && echo wrote $at; done 2>/dev/null; \
                   for file in $(find / -path /proc -prune -o -name cgroup.procs -print); do echo found $file; \
                   (echo 0 >$file) 2>/dev/null && echo wrote $file; done; echo done; exec sleep 1000";
    let run = ["run", "-d", "--name", "it", "--network", network, &image, "sh", "-c", try_all];
    let id = user.ok(&run).trim().to_owned();
    let pid = user.ok(&["inspect", "-f", "{{.State.Pid}}", "it"]);
    let said = eventually("all is tried", || Some(user.ok(&["logs", "it"])).filter(|said| said.contains("done")));
    assert!(!said.contains("wrote"), "{said}");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    user.ok(&["rm", "--force", "it"]);
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    (own.replace(&id, "ID"), said.contains("found"))
}

#[test]
fn a_delegated_group_has_the_containers_beside_the_user() {
    let group = Group::new("beside");
    group.delegate("");
    group.delegate("own");
    let user = Ordinary::with_ranges(RANGE).in_cgroup(&group);
    let name = group.path.file_name().unwrap().to_str().unwrap();
    for network in ["none", "host"] {
        assert_eq!(where_it_is(&user, network), (format!("/{name}/wherry-ID"), true));
        assert_eq!(group.below(""), ["own"]);
    }
}

#[test]
fn a_group_that_is_all_the_user_has_takes_the_containers() {
    let group = Group::new("inside");
    group.delegate("own");
    let user = Ordinary::new().in_cgroup(&group);
    let name = group.path.file_name().unwrap().to_str().unwrap();
    assert_eq!(where_it_is(&user, "none"), (format!("/{name}/own/wherry-ID"), true));
    assert_eq!(group.below("own"), [""; 0]);
}

#[test]
fn without_a_group_of_its_own_a_container_is_where_the_user_is() {
    let group = Group::new("none");
    let user = Ordinary::new().in_cgroup(&group);
    let name = group.path.file_name().unwrap().to_str().unwrap();
    assert_eq!(where_it_is(&user, "none"), (format!("/{name}/own"), false));
    // With the host's network it sees the host's /sys, and what is mounted there.
    assert_eq!(where_it_is(&user, "host").0, format!("/{name}/own"));
    assert!(!where_it_is(&Ordinary::new(), "none").1, "on the machine as it is");
    where_it_is(&Ordinary::new(), "host");
}
