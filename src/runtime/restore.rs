//! `restore`: files become a running container again, by the program `criu`.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::checkpoint::{CGROUP_MOUNTS, STREAMS};
use super::create::{BUNDLE, CONSOLE, NO_PIVOT, NO_SUBREAPER, PID_FILE};
use super::criu::{
    self, CGROUPS, CgroupMount, DEDUP, EMPTY, IMAGES, LAZY, LOCKS, NETWORK_LOCK, SHELL, TCP, UNIX, WORK,
};
use super::options::{Flag, Given, option, switch};
use super::store::Locked;
use super::{Command, Context, Error, Outcome, cgroup, delete, foreground, id, launch, run, warn_of};
use crate::bundle::Bundle;
use crate::engine::linux::Running;
use crate::oci::runtime::Spec;
use crate::sys::named;
use crate::sys::process::{Child, Identity};

static FLAGS: [Flag; 20] = [
    CONSOLE,
    IMAGES,
    WORK,
    TCP,
    UNIX,
    SHELL,
    LOCKS,
    CGROUPS,
    BUNDLE,
    switch("detach", Some('d'), "leave the container running in the background"),
    PID_FILE,
    NO_SUBREAPER,
    NO_PIVOT,
    EMPTY,
    DEDUP,
    LAZY,
    NETWORK_LOCK,
    switch("tcp-close", None, "close the TCP connections that were open"),
    option("lsm-profile", None, "TYPE:NAME", "the security profile to restore with"),
    option("lsm-mount-context", None, "CONTEXT", "the security context of mounts to restore with"),
];

/// `restore`.
pub const COMMAND: Command =
    Command { flags: &FLAGS, ..Command::new("restore", "make a container of a checkpoint's files, by criu", restore) };

fn restore(context: &Context<'_>, given: &Given) -> Outcome {
    let id = id(given)?;
    let failed = |error| Error::Cannot { verb: "restore", id: id.clone(), source: Box::new(error) };
    for flag in ["console-socket", "no-pivot"] {
        if given.has(flag) {
            return Err(failed(Error::refuse(format!("--{flag}"), "criu's command line cannot do this")));
        }
    }
    let program = criu::find("restore").map_err(failed)?;
    let detach = given.has("detach");
    if !detach {
        // Its process is then ours to wait for, once criu has ended.
        run::become_subreaper().map_err(failed)?;
    }
    let (mut container, bundle) = launch::prepare(context, given).map_err(failed)?;
    let signals = (!detach).then(foreground::signals).transpose().map_err(failed)?;
    let running = match restart(context, given, &program, &mut container, &bundle) {
        Ok(running) => running,
        Err(error) => {
            warn_of(context.log, delete::destroy(context, container));
            return Err(failed(error));
        }
    };
    drop(container);
    let Some(signals) = signals else { return Ok(0) };
    let ended = foreground::stay(running, signals, None);
    run::clear(context, &id);
    ended.map_err(failed)
}

fn restart(
    context: &Context<'_>,
    given: &Given,
    program: &Path,
    container: &mut Locked,
    bundle: &Bundle,
) -> Result<Running, Error> {
    let images = criu::images(given)?;
    let group = cgroup::make(context, &container.entry, bundle.spec())?;
    group.as_ref().map_or(Ok(()), crate::cgroup::Cgroup::settle)?;
    container.note_cgroup(group);
    container.save().map_err(Error::sys("keep its state"))?;
    launch::share_caches(bundle.spec(), &container.entry.record.id.clone(), container)?;
    show_rootfs(&container.entry.record.rootfs)?;
    let pid_file = container.entry.directory.join("restored.pid");
    let (words, _open) = words(given, container, bundle.spec(), &images, &pid_file)?;
    criu::run(program, "restore", &words, given, &images, "restore.log")?;
    let text = std::fs::read_to_string(&pid_file);
    let text = named(text, || format!("read({pid_file:?})")).map_err(Error::sys("find the restored process"))?;
    let init = text.trim().parse().ok().and_then(Identity::of).ok_or(Error::NotRunning)?;
    container.set_init(init).map_err(Error::sys("keep its state"))?;
    if let Some(rdt) = &container.entry.record.rdt {
        let pids = cgroup::with(&container.entry, |group| Ok(group.procs()?))?.unwrap_or_else(|| vec![init.pid]);
        pids.into_iter().try_for_each(|pid| rdt.attach(pid))?;
    }
    if let Some(path) = given.path("pid-file") {
        launch::write_pid(&path, init.pid)?;
    }
    let pidfd = init.open().map_err(Error::sys("watch the restored process"))?.ok_or(Error::NotRunning)?;
    let pid = rustix::process::Pid::from_raw(init.pid).ok_or(Error::NotRunning)?;
    Ok(Running { child: Child { pid, pidfd }, console: None })
}

/// criu wants the root filesystem to be a mount: it is made one, where only we and criu see it.
fn show_rootfs(rootfs: &Path) -> Result<(), Error> {
    use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
    let failed = || Error::sys("show criu the root filesystem");
    crate::sys::process::unshare(libc::CLONE_NEWNS).map_err(failed())?;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    named(mount_change("/", flags), || "mount(\"/\", MS_SLAVE | MS_REC)".into()).map_err(failed())?;
    named(mount_bind_recursive(rootfs, rootfs), || format!("mount({rootfs:?}, MS_BIND | MS_REC)")).map_err(failed())
}

/// What is asked of criu, and the files that it inherits for it.
fn words(
    given: &Given,
    container: &Locked,
    spec: &Spec,
    images: &Path,
    pid_file: &Path,
) -> Result<(Vec<OsString>, Vec<OwnedFd>), Error> {
    let mut words = criu::common(given, images, "restore.log")?;
    words.extend(["--restore-detached".into(), "--pidfile".into(), pid_file.into()]);
    words.extend(given.has("tcp-close").then(|| "--tcp-close".into()));
    words.extend(["--root".into(), (&*container.entry.record.rootfs).into()]);
    for (destination, source) in criu::binds(spec) {
        words.extend(["--external".into(), format!("mnt[{}]:{}", destination.display(), source.display()).into()]);
    }
    words.extend(cgroup_mounts(container, images)?);
    if let Some(roots) = cgroup::with(&container.entry, |group| Ok(criu::cgroup_roots(group)))? {
        words.extend(roots);
    }
    for (flag, word) in [("lsm-profile", "--lsm-profile"), ("lsm-mount-context", "--lsm-mount-context")] {
        if let Some(value) = given.get(flag) {
            words.extend([word.into(), value.to_owned()]);
        }
    }
    for (fd, name) in streams(images).iter().enumerate().filter(|(_, name)| name.starts_with("pipe:")) {
        words.extend(["--inherit-fd".into(), format!("fd[{fd}]:{name}").into()]);
    }
    let mut open = Vec::new();
    for (_, name, path) in criu::external_namespaces(spec) {
        let fd = inheritable(path)?;
        words.extend(["--inherit-fd".into(), format!("fd[{}]:{name}", fd.as_raw_fd()).into()]);
        open.push(fd);
    }
    Ok((words, open))
}

/// Where the mounts of cgroups that the container had come from now.
fn cgroup_mounts(container: &Locked, images: &Path) -> Result<Vec<OsString>, Error> {
    let kept = std::fs::read(images.join(CGROUP_MOUNTS)).unwrap_or_default();
    let kept: Vec<CgroupMount> = serde_json::from_slice(&kept).unwrap_or_default();
    let path = "/proc/self/mountinfo";
    let text = named(std::fs::read_to_string(path), || format!("read({path:?})"));
    let host = CgroupMount::all(&text.map_err(Error::sys("look at the machine's mounts"))?);
    let groups = cgroup::with(&container.entry, |group| {
        Ok(group.paths().into_values().map(Path::to_path_buf).collect::<Vec<_>>())
    })?;
    let mut words = Vec::new();
    for mount in kept {
        let source = mount.source(&host, groups.as_deref().unwrap_or_default()).ok_or_else(|| {
            Error::refuse("restore", format!("this machine has no cgroup to be mounted at {}", mount.at.display()))
        })?;
        words.extend(["--external".into(), format!("mnt[{}]:{}", mount.at.display(), source.display()).into()]);
    }
    Ok(words)
}

/// The names of the standard streams at the checkpoint.
fn streams(images: &Path) -> Vec<String> {
    let text = std::fs::read(images.join(STREAMS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// A file that a program executed from here has too.
fn inheritable(path: &Path) -> Result<OwnedFd, Error> {
    use rustix::fs::{Mode, OFlags, open};
    let opened = named(open(path, OFlags::RDONLY, Mode::empty()), || format!("open({path:?}, O_RDONLY)"));
    opened.map_err(Error::sys("open the namespace that it joins"))
}
