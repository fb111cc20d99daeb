//! A Wasm guest that has escaped the engine: what its process may still do. Nothing is pretended about the walls: the
//! process is one that hosts a running guest, and `tests/images/intruder.c` makes it execute system calls of the
//! test's choice on its own thread, as native code would that a guest had smuggled in.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Wherry, images, process, scratch};

const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const EACCES: i64 = -13;

/// What no guest may do, however it was started: other files, programs, processes, sockets, mounts, namespaces, the
/// kernel's own doors, and new code.
const FORBIDDEN: &[&str] = &[
    "read:/etc/passwd",
    "list:/",
    "write:/new",
    "open:/etc/passwd",
    "read:/proc/self/status",
    "read:/proc/1/mem",
    "write:/proc/sys/kernel/core_pattern",
    "write:/proc/sysrq-trigger",
    "read:/sys/kernel/uevent_helper",
    "read:/dev/mem",
    "execve:/bin/sh",
    "execve:/proc/self/exe",
    "execveat",
    "fork",
    "vfork",
    "clone",
    "clone-newuser",
    "clone3",
    "socket-tcp",
    "socket-udp",
    "socket-unix",
    "socket-raw",
    "socket-netlink",
    "socket-packet",
    "socket-alg",
    "socket-vsock",
    "socketpair",
    "kill-all",
    "kill-2",
    "tgkill",
    "pidfd-open",
    "pidfd-signal",
    "pidfd-getfd",
    "ptrace",
    "vm-read",
    "vm-write",
    "mount",
    "remount",
    "umount",
    "open-tree",
    "fsopen",
    "pivot-root",
    "chroot",
    "unshare-user",
    "unshare-mount",
    "setns",
    "bpf",
    "perf",
    "io-uring",
    "userfaultfd",
    "keyctl",
    "add-key",
    "module",
    "kexec",
    "reboot",
    "swapon",
    "sethostname",
    "settime",
    "setuid",
    "setgroups",
    "capset",
    "seccomp",
    "dumpable",
    "personality",
    "handle",
    "syslog",
    "shm",
    "msg",
    "mq",
    "inotify",
    "fanotify",
    "tiocsti",
    "setown",
    "map-code",
    "make-code",
    "memfd-exec",
    "scheduler",
    "rlimit",
];

/// What the empty root, Landlock and the namespaces refuse by themselves, with no filter there.
const FORBIDDEN_WITHOUT_FILTER: &[&str] = &[
    "read:/etc/passwd",
    "list:/",
    "write:/new",
    "open:/etc/passwd",
    "read:/proc/self/status",
    "read:/proc/1/mem",
    "write:/proc/sys/kernel/core_pattern",
    "read:/dev/mem",
    "socket-raw",
    "socket-packet",
    "mount",
    "remount",
    "umount",
    "open-tree",
    "fsopen",
    "pivot-root",
    "chroot",
    "bpf",
    "swapon",
    "sethostname",
    "settime",
    "setgroups",
    "handle",
    "syslog",
    "ptrace",
];

/// The program that makes another process's system calls.
fn intruder() -> PathBuf {
    let program = scratch().join(format!("intruder-{}", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/intruder.c");
    let made = Command::new("gcc").args(["-O1", "-o"]).arg(&program).arg(source).output().expect("gcc starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    program
}

/// What each attempt of the process `pid` returned.
fn attempts(pid: u32, names: &[&str]) -> BTreeMap<String, i64> {
    let program = intruder();
    let output = Command::new(&program).arg(pid.to_string()).args(names).output().expect("the intruder starts");
    fs::remove_file(program).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stderr));
    let result = |line: &str| line.split_once(' ').map(|(name, result)| (name.to_owned(), result.parse().unwrap()));
    text.lines().filter_map(result).collect()
}

#[track_caller]
fn all_refused(results: &BTreeMap<String, i64>) {
    let done: Vec<_> = results.iter().filter(|(_, result)| **result >= 0).collect();
    assert!(done.is_empty(), "an escaped guest can: {done:?}");
}

#[test]
fn an_escaped_guest_finds_nothing_and_reaches_nobody() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "guest", "-i", &image, "cat"]);
    let pid = wherry.pid("guest");
    let results = attempts(pid, FORBIDDEN);
    assert_eq!(results.len(), FORBIDDEN.len());
    all_refused(&results);
    // It goes on as if nothing had been.
    assert_eq!(wherry.status("guest").as_deref(), Some("running"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(process::status(pid, set).as_deref(), Some("0000000000000000"), "{set}");
    }
    assert_eq!(process::status(pid, "NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(process::status(pid, "Seccomp").as_deref(), Some("2"));
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" / / ro,nosuid,nodev,noexec"), "{mounts}");
    assert_eq!(fs::read_dir(format!("/proc/{pid}/root")).unwrap().count(), 0);
}

#[test]
fn a_directory_that_was_given_is_all_that_there_is() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    let (given, write_protected) = (wherry.folder("given"), wherry.folder("write-protected"));
    for folder in [&given, &write_protected] {
        fs::write(folder.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    }
    let (rw, ro) = (format!("{}:/given", given.display()), format!("{}:/ro:ro", write_protected.display()));
    wherry.ok(["run", "-d", "--name", "guest", "-i", "-v", &rw, "-v", &ro, &image, "cat"]);
    let results = attempts(
        wherry.pid("guest"),
        &[
            "read:/given/file",
            "write:/given/new",
            "read:/ro/file",
            "list:/given",
            "write:/ro/file",
            "write:/ro/new",
            "read:/given/link",
            "read:/given/../etc/passwd",
            "above:/given",
            "above:/ro",
            "mknod:/given/null",
            "chmod:/given/file",
            "execve:/given/file",
            "list:/",
        ],
    );
    for allowed in ["read:/given/file", "write:/given/new", "read:/ro/file", "list:/given"] {
        assert!(results[allowed] >= 0, "{allowed}: {results:?}");
    }
    let mut rest = results;
    rest.retain(|name, _| !["read:/given/file", "write:/given/new", "read:/ro/file", "list:/given"].contains(&&**name));
    all_refused(&rest);
    assert!(given.join("new").exists() && !write_protected.join("new").exists());
}

#[test]
fn without_the_filter_the_other_walls_stand() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "guest", "-i", "--security-opt", "seccomp=unconfined", &image, "cat"]);
    let pid = wherry.pid("guest");
    assert_eq!(process::status(pid, "Seccomp").as_deref(), Some("0"));
    let results = attempts(pid, FORBIDDEN_WITHOUT_FILTER);
    all_refused(&results);
    assert_eq!((results["read:/etc/passwd"], results["write:/new"] == EPERM), (ENOENT, false));
    assert!(results["list:/"] == EACCES || wherry.ok(["info"]).contains("Landlock: missing"), "{results:?}");
}

#[test]
fn info_says_what_the_walls_are_made_of() {
    let said = Wherry::new().ok(["info"]);
    assert!(said.lines().any(|line| line.starts_with("Landlock: ")), "{said}");
}
