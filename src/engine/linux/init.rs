//! The init stage: what the child does between its clone and its program, a step at a time and in the
//! only order that works. A step that fails ends the stage, and tells the supervisor which it was.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

use super::handshake::{self, Failed, FromInit, ToInit};
use super::mounts::{self, Seal, Step};
use super::plan::{Caps, Plan};
use super::{Request, Stdio};
use crate::engine::wasm;
use crate::error::{chain, tolerate};
use crate::oci::runtime::PosixRlimitType;
use crate::sys::{self, caps, named};

/// The device nodes that every container has (runtime-spec config-linux.md, "Default Devices").
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The symbolic links of `/dev` (the same, "Dev symbolic links").
const DEVICE_LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// What ends the stage: a failure to tell, or the supervisor's silence.
enum End {
    Failed(Failed),
    Alone,
}

impl From<Failed> for End {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

type Done<T = ()> = Result<T, End>;

/// Gives a failed call its intent.
fn step<T>(result: sys::Result<T>, what: &str) -> Done<T> {
    result.map_err(|error| End::Failed(Failed::at(what, &error)))
}

/// Runs the stage, then the program; returns the exit status of what had no program to become.
pub(super) fn main(plan: Plan, request: Request<'_>, socket: OwnedFd) -> i32 {
    let Request { root, stdio, wasm, bundle, .. } = request;
    let isolated = isolate(&plan, root, stdio, &socket, wasm);
    let ended = isolated.and_then(|program| {
        handshake::send(&socket, &FromInit::Ready, &[])?;
        wait_for(&socket, &ToInit::Start)?;
        match program {
            None => Err(End::Failed(execute(&plan))),
            Some(program) => Ok(program),
        }
    });
    match ended {
        Ok(program) => {
            drop(socket);
            run_wasm(program, bundle.spec())
        }
        Err(End::Failed(failed)) => {
            let status = failed.status.unwrap_or(125);
            // Nobody hears it if the supervisor is gone, and then nobody needs to.
            tolerate(handshake::send(&socket, &FromInit::Failed(failed), &[]));
            status.into()
        }
        Err(End::Alone) => 125,
    }
}

fn isolate(
    plan: &Plan,
    root: Option<OwnedFd>,
    stdio: Stdio,
    socket: &OwnedFd,
    wasm: Option<wasm::Compiled>,
) -> Done<Option<wasm::Program>> {
    session()?;
    oom_score(plan)?;
    let facts = Facts::gather()?;
    if let Some(wasm) = &wasm {
        // Nothing will be executed, so nothing of the supervisor's would be closed by that: its log, its
        // clients, and the other end of the program's own input, which would then never end.
        let streams = match &stdio {
            Stdio::Files(files) => files.iter().map(AsFd::as_fd).collect(),
            Stdio::Terminal(_) => Vec::new(),
        };
        let others = [socket.as_fd(), wasm.as_fd()].into_iter().chain(root.as_ref().map(AsFd::as_fd));
        let mounts = plan.mounts.iter().flat_map(Step::handles);
        let keep: Vec<BorrowedFd<'_>> = others.chain(streams).chain(mounts).collect();
        step(sys::process::close_all_but(&keep), "close the files of the supervisor")?;
    }
    let root = enter_root(plan, root)?;
    let (mounts, last) = mounts::split(&plan.mounts);
    let mut seals = Vec::new();
    for mount in mounts {
        seals.extend(make(mount, root.as_fd())?);
    }
    if plan.mounts.iter().any(|mount| mount.destination == Path::new("/dev")) {
        populate_dev(root.as_fd())?;
    }
    let terminal = streams(stdio, root.as_fd(), socket)?;
    // Loaded while the compile cache's file can be read, before the filter and the limits apply.
    let program = wasm.map(wasm::load).transpose().map_err(|e| End::Failed(Failed::in_wasm(&e)))?;
    wait_for(socket, &ToInit::Joined)?;
    if plan.namespaces.cgroup {
        step(sys::process::unshare_cgroup(), "make a cgroup namespace")?;
    }
    for mount in last {
        seals.extend(make(mount, root.as_fd())?);
    }
    pivot(&root)?;
    system(plan)?;
    let slash = step(named(open_slash(), || "open(\"/\")".into()), "open the new root")?;
    make_directory(slash.as_fd(), &plan.cwd)?;
    protect(plan, slash.as_fd())?;
    seals.into_iter().try_for_each(|seal| step(seal.apply(), "write-protect a mount"))?;
    drop((slash, root, terminal));
    limits(plan)?;
    enter_directory(&plan.cwd)?;
    become_user(plan, &facts)?;
    step(sys::process::cloexec_from(3), "close the files of the host")?;
    Ok(program)
}

/// What only the host's `/proc` tells: the container may have none.
struct Facts {
    last_capability: usize,
    groups_are_fixed: bool,
}

impl Facts {
    fn gather() -> Done<Self> {
        let last_capability = step(caps::last(), "look at the kernel's capabilities")?;
        Ok(Self { last_capability, groups_are_fixed: sys::process::groups_are_fixed() })
    }
}

fn session() -> Done {
    sys::process::default_signals();
    step(named(rustix::process::setsid(), || "setsid()".into()), "begin a session")?;
    step(
        named(rustix::process::set_parent_process_death_signal(Some(Signal::KILL)), || {
            "prctl(PR_SET_PDEATHSIG)".into()
        }),
        "bind its life to the supervisor's",
    )?;
    // Whoever gets to see this process before its program runs must not get at its memory or files.
    step(
        named(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable), || {
            "prctl(PR_SET_DUMPABLE, 0)".into()
        }),
        "hide from the container",
    )?;
    // A session keyring of its own, or it would see the host's (keyctl(2)).
    step(sys::process::new_session_keyring(), "make a session keyring")
}

/// Cuts the mounts off from the host's, attaches the root filesystem, and returns a handle to it.
fn enter_root(plan: &Plan, mount: Option<OwnedFd>) -> Done<OwnedFd> {
    let private = mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
    step(named(private, || "mount(\"/\", MS_PRIVATE | MS_REC)".into()), "cut the mounts off from the host's")?;
    let mount = match mount {
        Some(mount) => mount,
        None => step(mounts::clone_tree(&plan.rootfs, true), "make the root filesystem a mount")?,
    };
    step(sys::mount::attach(mount.as_fd(), &plan.rootfs), "attach the root filesystem")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, &plan.rootfs, flags, Mode::empty());
    step(named(root, || format!("openat({:?}, O_PATH)", plan.rootfs)), "open the root filesystem")
}

fn make(mount: &Step, root: BorrowedFd<'_>) -> Done<Option<Seal>> {
    step(mount.make(root), &mount.describe())
}

/// Fills `/dev` when the specification made it a filesystem of the container's own.
fn populate_dev(root: BorrowedFd<'_>) -> Done {
    let dev = step(mounts::target(root, Path::new("/dev"), true), "find /dev")?;
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let made = mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device);
        match made {
            // In a user namespace nodes cannot be made; the host's are shown instead.
            Err(Errno::PERM) => show_device(root, name)?,
            Err(Errno::EXIST) => {}
            made => {
                step(named(made, || format!("mknodat(\"/dev/{name}\", {major}:{minor})")), "make the devices")?;
                let open = rustix::fs::chmodat(&dev, name, Mode::from_raw_mode(0o666), rustix::fs::AtFlags::empty());
                step(named(open, || format!("fchmodat(\"/dev/{name}\", 0666)")), "make the devices")?;
            }
        }
    }
    for (name, to) in DEVICE_LINKS {
        match symlinkat(to, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            error => step(named(error, || format!("symlinkat({to:?}, \"/dev/{name}\")")), "make the links in /dev")?,
        }
    }
    Ok(())
}

fn show_device(root: BorrowedFd<'_>, name: &str) -> Done {
    let shown = mounts::clone_tree(&Path::new("/dev").join(name), false).and_then(|device| {
        let place = mounts::target(root, &Path::new("/dev").join(name), false)?;
        mounts::put(device.as_fd(), place.as_fd())
    });
    step(shown, "show the devices")
}

/// Puts the program's streams at 0, 1 and 2.
fn streams(stdio: Stdio, root: BorrowedFd<'_>, socket: &OwnedFd) -> Done<Option<OwnedFd>> {
    let (files, terminal) = match stdio {
        Stdio::Files(files) => (files, None),
        Stdio::Terminal(size) => {
            let what = "make its terminal";
            let pts = step(mounts::target(root, Path::new("/dev/pts"), true), what)?;
            let master = step(sys::pty::open_master(pts.as_fd()), what)?;
            let peer = step(sys::pty::open_peer(master.as_fd()), what)?;
            step(sys::pty::set_size(&peer, size), what)?;
            step(sys::process::set_controlling_terminal(peer.as_fd()), what)?;
            step(show_console(root, peer.as_fd()), what)?;
            handshake::send(socket, &FromInit::Console, &[master.as_fd()])?;
            let copy = || step(named(peer.try_clone(), || "dup()".into()), what);
            ([copy()?, copy()?, copy()?], Some(peer))
        }
    };
    let [stdin, stdout, stderr] = files;
    let put = rustix::stdio::dup2_stdin(&stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(&stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(&stderr));
    step(named(put, || "dup2()".into()), "connect the streams")?;
    Ok(terminal)
}

/// `/dev/console` is the terminal itself, by handle (CVE-2025-52565).
fn show_console(root: BorrowedFd<'_>, peer: BorrowedFd<'_>) -> sys::Result<()> {
    let tree = mounts::clone_tree(&PathBuf::from(format!("/proc/self/fd/{}", peer.as_raw_fd())), false);
    // The terminal is of the container's own devpts, which the host's /proc/self/fd can reach all the same.
    let place = mounts::target(root, Path::new("/dev/console"), false)?;
    mounts::put(tree?.as_fd(), place.as_fd())
}

/// Makes the handle `root` the root directory, and lets go of the old one.
fn pivot(root: &OwnedFd) -> Done {
    let pivoted = rustix::process::fchdir(root)
        // With both arguments the same directory, the old root ends up on top of the new one, from where it
        // is detached: no directory of the image is needed for it (pivot_root(2), NOTES).
        .and_then(|()| rustix::process::pivot_root(".", "."))
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .and_then(|()| rustix::process::chdir("/"));
    step(named(pivoted, || "pivot_root(\".\", \".\")".into()), "change the root directory")
}

fn system(plan: &Plan) -> Done {
    if let Some(hostname) = &plan.hostname {
        let set = rustix::system::sethostname(hostname.as_bytes());
        step(named(set, || format!("sethostname({hostname:?})")), "set the host name")?;
    }
    if plan.namespaces.network {
        step(sys::process::loopback_up(), "bring the loopback interface up")?;
    }
    for (key, value) in &plan.sysctls {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        let written = std::fs::write(&path, value);
        step(named(written, || format!("write({path:?}, {value:?})")), "set a sysctl")?;
    }
    Ok(())
}

fn open_slash() -> rustix::io::Result<OwnedFd> {
    openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn make_directory(slash: BorrowedFd<'_>, cwd: &Path) -> Done {
    match mounts::target(slash, cwd, true) {
        // On a read-only bundle it has to be there; entering it will say so if not.
        Err(error) if error.errno() == Some(Errno::ROFS.raw_os_error()) => Ok(()),
        made => step(made, "make the working directory").map(drop),
    }
}

/// Masks and write-protects what the specification names.
fn protect(plan: &Plan, slash: BorrowedFd<'_>) -> Done {
    if !plan.masked.is_empty() {
        let masked = mounts::mask_all(slash, &plan.masked, None);
        masked.map_err(|(path, error)| End::Failed(Failed::at(&format!("mask {}", path.display()), &error)))?;
    }
    for path in &plan.readonly {
        step(mounts::make_readonly(slash, path), &format!("write-protect {}", path.display()))?;
    }
    if plan.readonly_root {
        let set = sys::process::set_mount_attributes(slash, 1, 0, false);
        step(set, "write-protect the root filesystem")?;
    }
    Ok(())
}

fn limits(plan: &Plan) -> Done {
    for (typ, soft, hard) in &plan.rlimits {
        let limit = |value: &u64| (*value != u64::MAX).then_some(*value);
        let set = rustix::process::setrlimit(resource(*typ), Rlimit { current: limit(soft), maximum: limit(hard) });
        step(named(set, || format!("setrlimit({typ:?}, {soft}, {hard})")), "set a resource limit")?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    Ok(())
}

fn oom_score(plan: &Plan) -> Done {
    let Some(score) = plan.oom_score_adj.filter(|score| !has_oom_score(*score)) else { return Ok(()) };
    let written = std::fs::write("/proc/self/oom_score_adj", score.to_string());
    step(named(written, || format!("write(\"/proc/self/oom_score_adj\", {score})")), "set the OOM score")
}

fn has_oom_score(wanted: i32) -> bool {
    std::fs::read_to_string("/proc/self/oom_score_adj").is_ok_and(|now| now.trim() == wanted.to_string())
}

fn resource(typ: PosixRlimitType) -> Resource {
    use PosixRlimitType as T;
    match typ {
        T::RlimitCpu => Resource::Cpu,
        T::RlimitFsize => Resource::Fsize,
        T::RlimitData => Resource::Data,
        T::RlimitStack => Resource::Stack,
        T::RlimitCore => Resource::Core,
        T::RlimitRss => Resource::Rss,
        T::RlimitNproc => Resource::Nproc,
        T::RlimitNofile => Resource::Nofile,
        T::RlimitMemlock => Resource::Memlock,
        T::RlimitAs => Resource::As,
        T::RlimitLocks => Resource::Locks,
        T::RlimitSigpending => Resource::Sigpending,
        T::RlimitMsgqueue => Resource::Msgqueue,
        T::RlimitNice => Resource::Nice,
        T::RlimitRtprio => Resource::Rtprio,
        T::RlimitRttime => Resource::Rttime,
    }
}

/// Enters the working directory, and makes sure that it is one of the container's: a directory of the
/// host that stayed open somewhere would show as unreachable (CVE-2024-21626).
fn enter_directory(cwd: &Path) -> Done {
    let what = "enter the working directory";
    step(named(rustix::process::chdir(cwd), || format!("chdir({cwd:?})")), what)?;
    let at = step(named(rustix::process::getcwd(Vec::new()), || "getcwd()".into()), what)?;
    if at.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    step(named(Err(Errno::NOENT), || format!("chdir({cwd:?}), which leads out of the container")), what)
}

/// Gives up what the program must not have. The filter comes last of what it could refuse; without
/// no_new_privs only CAP_SYS_ADMIN may load one, so it comes before that is given up.
fn become_user(plan: &Plan, facts: &Facts) -> Done {
    let Caps { bounding, effective, permitted, inheritable, ambient } = plan.caps;
    let (_, held) = step(caps::current(), "look at its capabilities")?;
    step(caps::bound(bounding, facts.last_capability), "bound its capabilities")?;
    step(caps::keep_over_setuid(true), "keep its capabilities over the change of user")?;
    if !(facts.groups_are_fixed && plan.groups.is_empty()) {
        step(sys::process::set_groups(&plan.groups), "leave the host's groups")?;
    }
    step(sys::process::become_user(plan.uid, plan.gid), "become the user")?;
    step(caps::keep_over_setuid(false), "keep its capabilities no longer")?;
    if plan.no_new_privileges {
        step(sys::seccomp::set_no_new_privs(), "give up new privileges")?;
    } else {
        step(caps::set(held, held, caps::Set::default(), caps::Set::default()), "regain its capabilities")?;
        load_filter(plan)?;
    }
    // A capability that the host does not let us have cannot be handed on.
    let permitted = caps::Set(permitted.0 & held.0);
    let within = |set: caps::Set| caps::Set(set.0 & held.0);
    let effective = if plan.uid == 0 { within(effective) } else { within(ambient) };
    step(
        caps::set(
            effective,
            if plan.uid == 0 { permitted } else { within(ambient) },
            within(inheritable),
            within(ambient),
        ),
        "set its capabilities",
    )?;
    if plan.no_new_privileges {
        load_filter(plan)?;
    }
    Ok(())
}

fn load_filter(plan: &Plan) -> Done {
    let Some(filter) = &plan.filter else { return Ok(()) };
    let loaded = step(sys::seccomp::load(filter.program(), filter.flags()), "load the seccomp filter")?;
    match loaded {
        None => Ok(()),
        Some(_listener) => {
            let step = "hand the seccomp listener on: SCMP_ACT_NOTIFY is not offered by this version".to_owned();
            Err(End::Failed(Failed { step, call: String::new(), errno: 0, status: None }))
        }
    }
}

/// Waits for one message; anything else means that nobody wants this container any more.
fn wait_for(socket: &OwnedFd, wanted: &ToInit) -> Done {
    match handshake::receive::<ToInit>(socket)? {
        Some((got, _)) if got == *wanted => Ok(()),
        _ => Err(End::Alone),
    }
}

/// Executes the program; returns only why it cannot.
fn execute(plan: &Plan) -> Failed {
    let Some(name) = plan.args.first() else {
        let step = "no command specified".to_owned();
        return Failed { step, call: String::new(), errno: 0, status: Some(127) };
    };
    let mut refused = Errno::NOENT;
    for candidate in candidates(name, &plan.env) {
        let error = sys::process::exec(&candidate, &plan.args, &plan.env);
        match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
            Errno::NOENT | Errno::NOTDIR => {}
            // Later directories of the PATH may have one that can be run; else this is what is said.
            Errno::ACCESS => refused = Errno::ACCESS,
            other => {
                refused = other;
                break;
            }
        }
    }
    cannot_execute(&name.to_string_lossy(), refused)
}

/// Where a command's name may be found: itself if it has a slash, else in each directory of the
/// container's PATH.
fn candidates(name: &CString, env: &[CString]) -> Vec<CString> {
    let bytes = name.as_bytes();
    if bytes.contains(&b'/') {
        return vec![name.clone()];
    }
    let path = env.iter().rev().find_map(|v| v.as_bytes().strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let directories = path.split(|b| *b == b':').filter(|_| !bytes.is_empty());
    directories.filter_map(|d| CString::new([if d.is_empty() { b"." } else { d }, b"/", bytes].concat()).ok()).collect()
}

/// Docker's words, and the shell's exit statuses.
fn cannot_execute(name: &str, errno: Errno) -> Failed {
    let why = match errno {
        Errno::NOENT if !name.contains('/') => "executable file not found in $PATH".to_owned(),
        Errno::NOENT => format!("stat {name}: no such file or directory"),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        other => std::io::Error::from(other).to_string(),
    };
    let status = if errno == Errno::NOENT { 127 } else { 126 };
    Failed {
        step: format!("exec: {name:?}: {why}"),
        call: String::new(),
        errno: errno.raw_os_error(),
        status: Some(status),
    }
}

/// Runs the Wasm program with what the specification grants: its bind mounts are the directories.
fn run_wasm(program: wasm::Program, spec: &crate::oci::runtime::Spec) -> i32 {
    match wasm::run(program, crate::engine::grants(spec)) {
        Ok(status) => status.into(),
        Err(error) => {
            // The streams are the container's by now: this is the program's last word, in its log.
            let text = chain(&error);
            tolerate(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("wherry: {text}\n")));
            125
        }
    }
}
