//! What a container is, and what it can not: said by the kernel, from the inside.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::process::status_value;
use crate::support::{Running, Wherry, images};

/// Docker's fourteen: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
/// sys_chroot, mknod, audit_write, setfcap.
const DOCKER_CAPABILITIES: &str = "00000000a80425fb";
const NO_CAPABILITIES: &str = "0000000000000000";

#[test]
fn it_is_process_one_with_a_host_name_of_its_own() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    assert_eq!(wherry.ok(["run", "--rm", &image, "sh", "-c", "echo $$"]), "1");
    let id = wherry.ok(["run", "-d", "--name", "hh", &image, "sh", "-c", "hostname; sleep 1000"]);
    wherry.until_logged("hh", &id[..12]);
    let pid = wherry.pid("hh");
    for namespace in ["mnt", "pid", "uts", "ipc", "net"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(link(&pid.to_string()), link("self"), "{namespace}");
    }
    let names = wherry.ok(["run", "--rm", &image, "sh", "-c", "ps -o pid= | wc -l"]);
    assert!(names.trim().parse::<u32>().unwrap() <= 4, "it sees no processes but its own: {names}");
}

#[test]
fn capabilities_and_seccomp_are_dockers() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let status = wherry.ok(["run", "--rm", &image, "cat", "/proc/self/status"]);
    let value = |key: &str| status_value(&status, key).unwrap_or_default();
    assert_eq!(value("CapEff"), DOCKER_CAPABILITIES);
    assert_eq!(value("CapPrm"), DOCKER_CAPABILITIES);
    assert_eq!(value("CapBnd"), DOCKER_CAPABILITIES);
    assert_eq!(value("CapInh"), NO_CAPABILITIES, "CVE-2022-29162: inheritable capabilities stay empty");
    assert_eq!(value("CapAmb"), NO_CAPABILITIES);
    assert_eq!(value("Seccomp"), "2");

    let status = wherry.ok(["run", "--rm", "-u", "ada", &image, "cat", "/proc/self/status"]);
    let value = |key: &str| status_value(&status, key).unwrap_or_default();
    assert_eq!(value("CapEff"), NO_CAPABILITIES, "a user who is not root has none");
    assert_eq!(value("CapBnd"), DOCKER_CAPABILITIES);
}

#[test]
fn forbidden_system_calls_are_refused() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for command in [
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "unshare -m true",
        "hostname other",
        "reboot -f",
        "swapoff -a; swapon /data/zeroes",
        "mknod /x b 8 0 && cat /x",
        "chroot /proc/1/root true && mount -o remount,rw /sys",
        "echo x >/proc/sys/kernel/hostname",
        "echo 1 >/proc/sys/vm/drop_caches",
        "echo b >/proc/sysrq-trigger",
        "touch /sys/x",
        "echo 0 >/sys/kernel/mm/ksm/run",
    ] {
        let output = wherry.call(["run", "--rm", &image, "sh", "-c", command]);
        assert_ne!(output.status, 0, "this must fail: {output}");
    }
    assert!(!fs::read_to_string("/proc/sys/kernel/hostname").unwrap().starts_with("other"));
}

#[test]
fn proc_and_sys_are_masked() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let mounts = wherry.ok(["run", "--rm", &image, "cat", "/proc/self/mounts"]);
    let options = |place: &str| -> String {
        let line = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(place));
        line.and_then(|line| line.split(' ').nth(3)).unwrap_or("not mounted").to_owned()
    };
    for place in ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger", "/sys", "/sys/fs/cgroup"] {
        if !Path::new(place).exists() {
            continue; // not in every kernel
        }
        assert!(options(place).split(',').any(|option| option == "ro"), "{place}: {}\n{mounts}", options(place));
    }
    for place in ["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
        assert!(options(place).contains("nosuid"), "{place}: {}", options(place));
    }
    for file in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug"] {
        let script = format!("test ! -e {file} || test -z \"$(head -c 1 {file} | tr -d '\\0')\"");
        wherry.call(["run", "--rm", &image, "sh", "-c", &script]).expect(0);
    }
    for folder in ["/sys/firmware", "/proc/acpi", "/proc/scsi"] {
        let script = format!("test ! -e {folder} || test -z \"$(ls -A {folder})\"");
        wherry.call(["run", "--rm", &image, "sh", "-c", &script]).expect(0);
    }
    assert!(!mounts.contains(wherry.root().to_str().unwrap()) || mounts.lines().next().unwrap().starts_with("overlay"));
}

#[test]
fn dev_has_what_docker_gives() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let seen = wherry.ok(["run", "--rm", &image, "ls", "/dev"]);
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    let script = "head -c 4 /dev/urandom | wc -c; echo x >/dev/null; head -c 3 /dev/zero | wc -c; echo >/dev/full";
    let output = wherry.call(["run", "--rm", &image, "sh", "-c", script]);
    assert_eq!(output.stdout, "4\n3\n", "{output}");
    assert_ne!(output.status, 0, "/dev/full is full");
}

#[test]
fn no_descriptor_of_ours_is_left_open() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    // Three streams, and the one by which `ls` reads the directory. CVE-2024-21626 was one more.
    assert_eq!(wherry.ok(["run", "--rm", &image, "ls", "/proc/self/fd"]), "0\n1\n2\n3");
    // Nor one that whoever called us left open.
    let script = r#"exec 9</etc/passwd; exec "$0" run --rm "$1" ls /proc/self/fd"#;
    let mut careless = Command::new("sh");
    careless.args(["-c", script, env!("CARGO_BIN_EXE_wherry"), &image]);
    wherry.lend_environment(&mut careless);
    Running::start(&mut careless).finish().expect(0).says("0\n1\n2\n3\n");
    let output = wherry.call(["run", "--rm", "-w", "/proc/self/fd/7", &image, "cat", "../../../etc/hostname"]);
    assert_ne!(output.status, 0, "{output}");
}

#[test]
fn our_binary_cannot_be_overwritten_from_inside() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let before = fs::read(env!("CARGO_BIN_EXE_wherry")).unwrap();
    // CVE-2019-5736: an entry point that is a link to the engine's own binary, and a hunt through /proc for a file
    // of its size that can be written.
    wherry.call(["run", "--rm", "--entrypoint", "/proc/self/exe", &image, "version"]);
    let hunt = "for exe in /proc/[0-9]*/exe /proc/self/fd/*; do (echo overwritten >$exe) 2>/dev/null && readlink $exe; done; true";
    let output = wherry.call(["run", "--rm", &image, "sh", "-c", hunt]).expect(0);
    assert!(!output.stdout.contains("wherry"), "{output}");
    let after = fs::read(env!("CARGO_BIN_EXE_wherry")).unwrap();
    assert!(before == after, "the binary has changed");
}

#[test]
fn its_names_are_in_its_files() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let hosts = wherry.ok(["run", "--rm", "--name", "resolver", "--network", "none", &image, "cat", "/etc/hosts"]);
    assert!(hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
    let script = "test \"$(cat /etc/hostname)\" = \"$(hostname)\"";
    wherry.call(["run", "--rm", "--network", "none", &image, "sh", "-c", script]).expect(0);
}
