//! Processes: cloning a child into namespaces, executing our own binary safely, and signalling by
//! handle. Pids are reused by the kernel, so a process is known by its pid *and* start time.

#![expect(unsafe_code, reason = "clone3(2), execveat(2) and mount_setattr(2) have no safe wrapper")]

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags};

use super::{Error, Result, named};

/// `CLONE_NEW*` of linux/sched.h, as clone3(2) and setns(2) take them.
pub mod ns {
    /// Clocks that never go back.
    pub const TIME: u64 = 0x80;
    /// Mounts.
    pub const MOUNT: u64 = 0x0002_0000;
    /// The view of the cgroup tree.
    pub const CGROUP: u64 = 0x0200_0000;
    /// Host and domain name.
    pub const UTS: u64 = 0x0400_0000;
    /// System V and POSIX message queues, semaphores and shared memory.
    pub const IPC: u64 = 0x0800_0000;
    /// Users, groups and capabilities.
    pub const USER: u64 = 0x1000_0000;
    /// Processes.
    pub const PID: u64 = 0x2000_0000;
    /// Interfaces, addresses, sockets.
    pub const NETWORK: u64 = 0x4000_0000;
}

/// linux/sched.h; the constant of `libc` overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child that [`clone`] made.
#[derive(Debug)]
pub struct Child {
    /// Its pid, as seen from here.
    pub pid: Pid,
    /// The handle by which it is waited for and signalled.
    pub pidfd: OwnedFd,
}

/// Runs `child` in a new process that has the namespaces `flags` (`CLONE_NEW*`) to itself and begins in
/// the cgroup `cgroup` (v2 only, kernel 5.7). The child ends with the status that `child` returns.
///
/// The caller must be single-threaded: the child goes on as a copy of this process, and a lock that
/// another thread held would stay locked in it for ever. More than one thread is refused.
pub fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>, child: impl FnOnce() -> i32) -> Result<Child> {
    let threads = named(std::fs::read_dir("/proc/self/task"), || "open(\"/proc/self/task\")".into())?.count();
    if threads != 1 {
        let source = io::Error::other(format!("{threads} threads run; only a single-threaded process may be cloned"));
        return Err(Error { call: "clone3()".into(), source });
    }
    let mut pidfd: RawFd = -1;
    let mut args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given, `pidfd` outlives the call. Without
    // CLONE_VM and with a null stack this is a fork, and no other thread exists whose locks or
    // buffers the child could inherit half-done.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        0 => {
            // A panic must not unwind into the copy of the parent's frames.
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(125);
            // SAFETY: _exit ends this process without running the parent's exit handlers.
            unsafe { libc::_exit(status) }
        }
        pid if pid > 0 => Ok(Child {
            pid: Pid::from_raw(pid as i32).expect("clone3 returned a positive pid"),
            // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
        _ => named(Err(io::Error::last_os_error()), || format!("clone3({:#x})", args.flags)),
    }
}

/// A handle to execute our own binary by, through which it cannot be written.
///
/// A container that gets hold of `/proc/<pid>/exe` of a process of ours must not be able to overwrite
/// the binary on the host (CVE-2019-5736). Executed from a detached read-only bind mount, the link
/// leads to a read-only filesystem.
pub fn sealed_self() -> Result<OwnedFd> {
    const EXE: &str = "/proc/self/exe";
    let tree = match clone_mount(EXE) {
        // The link leads into the mount namespace that this process began in, and it has left that: the
        // same file is looked up in the namespace that it is in now.
        Err(error) if error.errno() == Some(libc::EINVAL) => {
            let path = named(std::fs::read_link(EXE), || format!("readlink({EXE:?})"))?;
            let tree = clone_mount(&path)?;
            let [here, there] = [rustix::fs::stat(EXE), rustix::fs::fstat(&tree)];
            let [here, there] =
                [named(here, || format!("stat({EXE:?})"))?, named(there, || format!("stat({path:?})"))?];
            if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) {
                let source = io::Error::other("another file has taken the place of the running binary");
                return Err(Error { call: format!("open_tree({path:?})"), source });
            }
            tree
        }
        tree => tree?,
    };
    set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
    Ok(tree)
}

/// The same handle for an ordinary user, who may make mounts only in a user namespace: a child makes it in one.
fn sealed_in_user_namespace() -> Result<OwnedFd> {
    let (ours, theirs) = super::socket::packet_pair()?;
    let flags = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as u64;
    let child = clone(flags, None, || {
        close_in_child(ours.as_fd());
        let sent = sealed_self().and_then(|sealed| super::socket::send_with_fds(&theirs, b"sealed", &[sealed.as_fd()]));
        i32::from(sent.is_err())
    })?;
    drop(theirs);
    let received = super::socket::receive_with_fds(&ours, &mut [0; 8]);
    reap(child.pidfd.as_fd())?;
    let refused = || Error {
        call: "open_tree(\"/proc/self/exe\", OPEN_TREE_CLONE) in a user namespace".into(),
        source: io::Error::from(io::ErrorKind::PermissionDenied),
    };
    received?.1.pop().ok_or_else(refused)
}

/// Executes our own binary again, with these arguments and this environment, from a handle that cannot be written
/// ([`sealed_self`]); returns when that is how this process was executed already, or when the binary is on a
/// read-only filesystem anyway.
///
/// What is read is not the handle that we would like to have been executed by, but what the kernel says it is: a
/// mark in the environment could be left there by somebody else.
pub fn ensure_sealed(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<()> {
    const EXE: &str = "/proc/self/exe";
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let exe = named(rustix::fs::open(EXE, flags, rustix::fs::Mode::empty()), || format!("open({EXE:?}, O_PATH)"))?;
    let mount = named(rustix::fs::fstatvfs(&exe), || format!("fstatvfs({EXE:?})"))?;
    if mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let sealed = match sealed_self() {
        Err(error) if error.errno() == Some(libc::EPERM) => sealed_in_user_namespace()?,
        sealed => sealed?,
    };
    let c_strings = |strings: &mut dyn Iterator<Item = OsString>| -> Vec<CString> {
        strings.filter_map(|text| CString::new(text.into_encoded_bytes()).ok()).collect()
    };
    let joined = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    let (args, env) = (c_strings(&mut { args }), c_strings(&mut env.map(joined)));
    let (argv, envp) = (pointers(&args), pointers(&env));
    // SAFETY: the path is an empty C string and both arrays are null-terminated and point to C strings that live
    // until the call ends.
    unsafe {
        let fd = sealed.as_raw_fd();
        libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), libc::AT_EMPTY_PATH);
    }
    named(Err(io::Error::last_os_error()), || "execveat(our own binary, AT_EMPTY_PATH)".into())
}

fn clone_mount(path: impl AsRef<std::path::Path>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let path = path.as_ref();
    named(open_tree(rustix::fs::CWD, path, flags), || format!("open_tree({path:?}, OPEN_TREE_CLONE)"))
}

/// Sets and clears attributes (`MOUNT_ATTR_*`) of the mount `fd`, of all mounts below it too if `recursive`.
pub fn set_mount_attributes(fd: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> Result<()> {
    super::mount::change(fd, &super::mount::Change { set, clear, recursive, ..Default::default() })
}

/// Executes `path` in place of this process; returns only the reason why it could not.
pub fn exec(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(args);
    let envp = pointers(env);
    // SAFETY: both arrays are null-terminated and point to C strings that live until the call ends.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Marks every descriptor from `first` on close-on-exec, so that none leaks into a program
/// (CVE-2024-21626).
pub fn cloexec_from(first: u32) -> Result<()> {
    // SAFETY: the call takes no pointers.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(done, || format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"))
}

/// Closes `fd` in a child of [`clone`]; its owner is a frame of the parent, which the child never returns to. A socket
/// has an end only when nobody holds its other side any more.
pub fn close_in_child(fd: BorrowedFd<'_>) {
    // SAFETY: see above for who owned what is closed; that owner is never dropped in this process.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Closes every descriptor from `first` on, above the standard streams, but those in `keep`.
///
/// For a child of [`clone`] that will not execute anything, so that close-on-exec does not help: what the
/// parent has open is not to be reached from it. The closed descriptors' owners are frames of the parent,
/// which the child never returns to.
pub fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut first = first.max(3);
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    for end in kept.into_iter().chain([u32::MAX]) {
        if first < end {
            let last = if end == u32::MAX { end } else { end - 1 };
            // SAFETY: the call takes no pointers; see above for who owned what is closed.
            let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            check(done, || format!("close_range({first}, {last})"))?;
        }
        first = end.saturating_add(1);
    }
    Ok(())
}

/// Gives back the pages of our own binary that only the start needed. They stay in the page cache; what is
/// still needed is mapped again at its next use.
pub fn forget_code() -> Result<()> {
    const MAPS: &str = "/proc/self/maps";
    let maps = named(std::fs::read_to_string(MAPS), || format!("read({MAPS:?})"))?;
    let fields = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Code only: data that relocation has written to would come back as it is in the file.
    for code in fields.filter(|f| f.get(1) == Some(&"r-xp") && f.get(5).is_some_and(|path| path.starts_with('/'))) {
        let bounds = code[0].split_once('-').map(|(a, b)| (usize::from_str_radix(a, 16), usize::from_str_radix(b, 16)));
        let Some((Ok(start), Ok(end))) = bounds else { continue };
        // SAFETY: the range is a private mapping of the running binary's code, which nobody has written to here,
        // and nobody can write to in the file while it runs: it is read again as it was.
        let done = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        check(done.into(), || format!("madvise({start:#x}, {}, MADV_DONTNEED)", end - start))?;
    }
    Ok(())
}

/// Makes the terminal `fd` the controlling one of this session.
pub fn set_controlling_terminal(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer, not a pointer.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(done.into(), || format!("ioctl({}, TIOCSCTTY)", fd.as_raw_fd()))
}

/// Brings the loopback interface of this network namespace up.
pub fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let socket = named(socket, || "socket(AF_INET, SOCK_DGRAM)".into())?;
    // SAFETY: ifreq is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives through the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(done.into(), || "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)".into())
}

fn check(done: libc::c_long, call: impl FnOnce() -> String) -> Result<()> {
    if done < 0 { named(Err(io::Error::last_os_error()), call) } else { Ok(()) }
}

/// Waits for the ended child behind `pidfd` and lets the kernel forget it; its exit status in the form of
/// a shell: the code it ended with, or 128 and the signal that ended it.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<u8> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let ended = loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            other => break named(other, || "waitid(P_PIDFD, WEXITED)".into())?,
        }
    };
    let Some(status) = ended else { return Ok(255) };
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    Ok(status.exit_status().or(signal).unwrap_or(255) as u8)
}

/// Leaves the namespaces `flags` (`CLONE_NEW*`) for new ones.
pub fn unshare(flags: i32) -> Result<()> {
    // SAFETY: no flag given to this function unshares memory or the file table, which other code may rely on.
    let done = unsafe { libc::unshare(flags & !(libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_VM)) };
    check(done.into(), || format!("unshare({flags:#x})"))
}

/// Enters the namespaces that `fd` stands for: of one namespace's file, or with a pidfd those of `flags` that its
/// process is in. The caller is single-threaded, which entering a user or a mount namespace needs (setns(2)).
pub fn enter(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    // SAFETY: the call takes no pointers.
    let done = unsafe { libc::setns(fd.as_raw_fd(), flags as libc::c_int) };
    check(done.into(), || format!("setns({}, {flags:#x})", fd.as_raw_fd()))
}

/// Leaves the cgroup namespace for one whose root is the cgroup that this process is in.
pub fn unshare_cgroup() -> Result<()> {
    unshare(libc::CLONE_NEWCGROUP)
}

/// Keeps this process's memory and files from everybody without CAP_SYS_PTRACE over it, as its children's until they
/// execute something (PR_SET_DUMPABLE).
pub fn hide() -> Result<()> {
    let set = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    named(set, || "prctl(PR_SET_DUMPABLE, 0)".into())
}

/// Begins a new, empty session keyring.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no other pointer is passed.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    match check(done, || "keyctl(KEYCTL_JOIN_SESSION_KEYRING)".into()) {
        // A kernel without keys has none to keep apart.
        Err(error) if error.errno() == Some(libc::ENOSYS) => Ok(()),
        other => other,
    }
}

/// What a fault of a thread's own raises. A handler for these is kept: it is part of the program that this process
/// is (WebAssembly's traps arrive there), and exec(2) takes it away.
const FAULTS: [libc::c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// Gives every signal its default action, but for handlers of faults, and blocks none: what a program expects to begin
/// with.
pub fn default_signals() {
    // SAFETY: SIG_DFL is a valid action for every signal, and for those whose action cannot be changed
    // the kernel refuses without effect; an empty set is a valid mask.
    unsafe {
        for signal in (1..=libc::SIGRTMAX()).filter(|signal| !FAULTS.contains(signal) || is_ignored(*signal)) {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: sigaction is plain data for which zero is valid; without a new action the call only fills in the old one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Blocks `signals` for this thread and returns a handle from which they are read.
pub fn signal_fd(signals: &[i32]) -> Result<OwnedFd> {
    // SAFETY: the set is initialised before use and outlives both calls; -1 asks for a new descriptor,
    // which nobody else owns.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd.into(), || format!("signalfd({signals:?})"))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The number of the next signal that waits in a [`signal_fd`].
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::read(fd, &mut info[..]).ok()?;
    // ssi_signo is the first field, an unsigned 32-bit number (signalfd(2)).
    (read == info.len()).then(|| i32::from_ne_bytes(info[..4].try_into().expect("four bytes")))
}

/// A process that may be gone, or whose pid may have passed to another: a pid and the time at which
/// the kernel started it, in clock ticks since boot (proc_pid_stat(5), field 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The pid in our pid namespace.
    pub pid: i32,
    /// The start time in clock ticks since boot.
    pub start_time: u64,
}

impl Identity {
    /// The process that has `pid` now; `None` when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name, in parentheses, can hold spaces and parentheses itself.
        let (_, fields) = stat.rsplit_once(") ")?;
        let start_time = fields.split(' ').nth(19)?.parse().ok()?;
        (!fields.starts_with(['Z', 'X'])).then_some(Self { pid, start_time })
    }

    /// A handle to this very process; `None` when it is gone.
    pub fn open(self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            other => named(other, || format!("pidfd_open({})", self.pid))?,
        };
        // Looked at after the open: what the handle refers to can no longer become another process.
        Ok((Self::of(self.pid) == Some(self)).then_some(pidfd))
    }

    /// Whether this very process still runs.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// A copy of the descriptor that has `number` in the process behind `pidfd`.
pub fn take_fd(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd> {
    let taken = rustix::process::pidfd_getfd(pidfd, number, rustix::process::PidfdGetfdFlags::empty());
    named(taken, || format!("pidfd_getfd({}, {number})", pidfd.as_raw_fd()))
}

/// Sends the signal numbered `signal` to the process behind `pidfd`; false when it has ended already.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<bool> {
    let pidfd = pidfd.as_raw_fd();
    // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) does; no other pointer is passed.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, std::ptr::null::<u8>(), 0) };
    match check(done, || format!("pidfd_send_signal({pidfd}, {signal})")) {
        Err(error) if error.errno() == Some(libc::ESRCH) => Ok(false),
        other => other.map(|()| true),
    }
}
