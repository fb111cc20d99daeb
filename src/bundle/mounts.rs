//! The mounts of a container: Docker's, those that were asked for, and the files that are ours.

use std::path::PathBuf;

use super::spec::{Intent, Namespace};
use crate::oci::runtime::{Mount, MountBuilder};

/// A part of the host's filesystem, seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What, on the host.
    pub source: PathBuf,
    /// Where, in the container.
    pub destination: PathBuf,
    /// Whether it cannot be written.
    pub readonly: bool,
}

/// A filesystem in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where.
    pub destination: PathBuf,
    /// As mount(8) takes them.
    pub options: Vec<String>,
}

const HARD: [&str; 3] = ["nosuid", "noexec", "nodev"];

/// All mounts, in their order.
pub(super) fn of(intent: &Intent) -> Vec<Mount> {
    let mut mounts = if intent.blind { Vec::new() } else { usual(intent) };
    if intent.blind && intent.terminal {
        // Its terminal is made in /dev/pts, and nothing of it seen.
        mounts.push(terminals(intent));
    }
    // Shallow ones first, so that none hides what was asked for below it.
    let mut asked: Vec<Mount> = intent.tmpfs.iter().map(tmpfs).chain(intent.binds.iter().map(bind)).collect();
    asked.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(asked);
    mounts
}

/// What every Linux container has.
fn usual(intent: &Intent) -> Vec<Mount> {
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &HARD),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        terminals(intent),
    ];
    mounts.extend(memory(intent));
    mounts.push(sys(intent));
    if intent.cgroup.is_some() {
        let access = if intent.privileged { "rw" } else { "ro" };
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &[&HARD[..], &[access]].concat()));
    }
    // Without one of its own the host's is not its business (CVE-2023-25809).
    mounts
}

fn terminals(intent: &Intent) -> Mount {
    /// tty, in every distribution.
    const TTY: u32 = 5;
    let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    mount("/dev/pts", "devpts", "devpts", if intent.last_group < TTY { &options[..5] } else { &options[..] })
}

/// Memory and queues that processes share: they go with the IPC namespace.
fn memory(intent: &Intent) -> Vec<Mount> {
    if intent.namespaces.ipc == Namespace::Host {
        let host = |path| mount(path, "bind", path, &["rbind", "rprivate"]);
        return vec![host("/dev/shm"), host("/dev/mqueue")];
    }
    let size = intent.shm_size.map(|size| format!("size={size}"));
    let shm = size.map(|size| mount("/dev/shm", "tmpfs", "shm", &[&HARD[..], &["mode=1777", &size]].concat()));
    shm.into_iter().chain([mount("/dev/mqueue", "mqueue", "mqueue", &HARD)]).collect()
}

/// sysfs belongs to the owner of the network namespace, who on the host's network is not an ordinary user.
fn sys(intent: &Intent) -> Mount {
    let foreign = intent.rootless && intent.namespaces.network != Namespace::Own;
    // Of the host's, all that is mounted below it has to be read-only as well (CVE-2023-25809).
    let (kind, source, access): (_, _, &[&str]) = match (foreign, intent.privileged) {
        (true, _) => ("bind", "/sys", &["rbind", "rro"]),
        (false, true) => ("sysfs", "sysfs", &["rw"]),
        (false, false) => ("sysfs", "sysfs", &["ro"]),
    };
    mount("/sys", kind, source, &[&HARD[..], access].concat())
}

/// Docker's options, and then those that were asked for, which win.
fn tmpfs(tmpfs: &Tmpfs) -> Mount {
    let asked = tmpfs.options.iter().map(String::as_str).filter(|option| !option.is_empty());
    let options: Vec<&str> = HARD.into_iter().chain(asked).collect();
    let destination = tmpfs.destination.to_string_lossy();
    mount(&destination, "tmpfs", "tmpfs", &options)
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
    let builder = MountBuilder::default().destination(destination).typ(typ).source(source).options(options);
    builder.build().expect("complete")
}

fn bind(bind: &Bind) -> Mount {
    // Recursive, so that nothing below can be written; and what the host forbids of its mount is forbidden inside.
    let readonly = bind.readonly.then_some("rro");
    let options = ["rbind", "rprivate"].into_iter().chain(readonly).map(str::to_owned).collect::<Vec<_>>();
    let builder = MountBuilder::default().destination(&*bind.destination).typ("bind").source(&*bind.source);
    builder.options(options).build().expect("complete")
}
