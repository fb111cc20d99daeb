//! The system calls of a process that hosts a WebAssembly program, as a seccomp profile: what strace(1) shows of each
//! kind of program, and nothing else.
//!
//! Two thirds of what Docker's profile allows is for programs that may be anything. This process is one program, ours:
//! it starts no other, makes no user, mount or namespace, maps no code, and signals nobody. What depends on the grants
//! is there only with the grant. Arguments are looked at where they matter: memory is never executable, a `clone` is
//! a thread, a socket is TCP or UDP, an ioctl asks a terminal.

use crate::oci::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

/// A compiler: it reads what it has open, writes what it has open, and has memory and threads.
const COMPILER: &[&str] = &[
    "brk",
    "clock_gettime",
    "close",
    "exit",
    "exit_group",
    "fstat",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "lseek",
    "madvise",
    "mprotect",
    "mremap",
    "munmap",
    "read",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
    "statx",
    "write",
];

/// What a program was granted, as far as it needs system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Directories.
    pub files: bool,
    /// Stores, which are locked while they are changed.
    pub stores: bool,
    /// Sockets of its own.
    pub network: bool,
    /// A listening socket that was made before.
    pub server: bool,
}

impl Needs {
    /// Everything that can be granted.
    pub const ALL: Self = Self { files: true, stores: true, network: true, server: true };
}

/// Every program: memory, threads of the engine, signals that the engine handles, clocks, random numbers, streams and
/// the event loop.
const ALWAYS: &[&str] = &[
    "brk",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "exit",
    "exit_group",
    "fstat",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "lseek",
    "madvise",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "pread64",
    "pwrite64",
    "pwritev2",
    "read",
    "readv",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "setitimer",
    "sigaltstack",
    "statx",
    "write",
    "writev",
];

/// Below the directories that were given. That it stays below is the empty root's and Landlock's part.
const FILES: &[&str] = &[
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fdatasync",
    "fsync",
    "ftruncate",
    "getdents64",
    "linkat",
    "mkdirat",
    "newfstatat",
    "openat",
    "openat2",
    "readlinkat",
    "renameat",
    "renameat2",
    "symlinkat",
    "unlinkat",
    "utimensat",
];

/// For stores, which are files too.
const STORES: &[&str] = &["flock"];

/// With sockets that are there.
const STREAMS: &[&str] =
    &["getpeername", "getsockname", "getsockopt", "recvfrom", "recvmsg", "sendmsg", "sendto", "setsockopt", "shutdown"];

/// For a server, beside [`STREAMS`].
const SERVER: &[&str] = &["accept4"];

/// For sockets of its own, beside [`STREAMS`] and `socket` itself.
const NETWORK: &[&str] = &["accept4", "bind", "connect", "listen"];

/// `PROT_EXEC`: code is mapped before the filter is there.
const PROT_EXEC: u64 = 4;
/// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM`: what makes it a thread.
const THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
/// `CLONE_NEW*` and all else that no thread of a C library has; `CLONE_SETTLS`, `_PARENT_SETTID`, `_CHILD_CLEARTID`,
/// `_DETACHED` and `_CHILD_SETTID` it may have.
const THREAD_MASK: u64 = !(0x8_0000 | 0x10_0000 | 0x20_0000 | 0x40_0000 | 0x100_0000);
/// `F_DUPFD_CLOEXEC`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`: nothing of locks, leases, owners and signals.
const FCNTL: [u64; 5] = [1030, 1, 2, 3, 4];
/// `TCGETS`, `TCSETS`, `TCSETSW`, `TCSETSF`, `TIOCGWINSZ`, `FIONREAD`, `FIONBIO`. Not `TIOCSTI`, which types.
const IOCTL: [u64; 7] = [0x5401, 0x5402, 0x5403, 0x5404, 0x5413, 0x541b, 0x5421];
/// `PAGEMAP_SCAN`: which pages an instance of a server has written, to undo that for the next one.
const PAGEMAP_SCAN: u64 = 0xc060_6610;
/// `PR_SET_NAME`: the name of a thread.
const PRCTL: u64 = 15;
/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u64; 2] = [2, 10];
/// `SOCK_STREAM` and `SOCK_DGRAM`, beside `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
const TYPES: [u64; 2] = [1, 2];
const TYPE_MASK: u64 = !(0o4000 | 0o2000000);
/// `CLONE3` has its flags in memory, where a filter cannot look: ENOSYS makes the C library use `clone`.
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
/// `MFD_CLOEXEC | MFD_ALLOW_SEALING`, in which the first contents of a memory are kept where the code's file cannot be
/// mapped; without `MFD_EXEC`.
const MEMFD: u64 = 3;

/// The profile of a process that hosts a program with these needs.
pub fn profile(needs: Needs, arch: Arch) -> LinuxSeccomp {
    let groups = [
        (true, ALWAYS),
        (needs.files, FILES),
        (needs.stores, STORES),
        (needs.network || needs.server, STREAMS),
        (needs.server, SERVER),
        (needs.network, NETWORK),
    ];
    let mut names: Vec<&str> =
        groups.iter().filter(|(wanted, _)| *wanted).flat_map(|(_, names)| *names).copied().collect();
    names.sort_unstable();
    names.dedup();
    let mut syscalls = vec![entry(&names, Action::ScmpActAllow)];
    syscalls.extend(["mmap", "mprotect"].map(|name| allow(name, vec![masked(2, PROT_EXEC, 0)])));
    syscalls.push(allow("clone", vec![masked(0, THREAD_MASK, THREAD)]));
    syscalls.push(allow("memfd_create", vec![masked(1, !MEMFD, 0)]));
    syscalls.extend(FCNTL.map(|command| allow("fcntl", vec![equal(1, command)])));
    syscalls.extend(IOCTL.map(|request| allow("ioctl", vec![equal(1, request)])));
    syscalls.push(allow("prctl", vec![equal(0, PRCTL)]));
    if needs.server {
        syscalls.push(allow("ioctl", vec![equal(1, PAGEMAP_SCAN)]));
    }
    if needs.network {
        let all = FAMILIES.iter().flat_map(|family| TYPES.map(|typ| (*family, typ)));
        syscalls.extend(all.map(|(family, typ)| allow("socket", vec![equal(0, family), masked(1, TYPE_MASK, typ)])));
    }
    closed(syscalls, arch)
}

/// The profile of the process that compiles programs. Compiled code is made executable there, to look at the program,
/// and never executed.
pub fn compiler_profile(arch: Arch) -> LinuxSeccomp {
    let mut syscalls = vec![entry(COMPILER, Action::ScmpActAllow)];
    syscalls.push(allow("mmap", vec![masked(2, PROT_EXEC, 0)]));
    syscalls.push(allow("clone", vec![masked(0, THREAD_MASK, THREAD)]));
    syscalls.push(allow("prctl", vec![equal(0, PRCTL)]));
    closed(syscalls, arch)
}

/// A profile of what is allowed and nothing else.
fn closed(mut syscalls: Vec<LinuxSyscall>, arch: Arch) -> LinuxSeccomp {
    let mut clone3 = entry(&["clone3"], Action::ScmpActErrno);
    clone3.set_errno_ret(Some(ENOSYS));
    syscalls.push(clone3);
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(Action::ScmpActErrno);
    profile.set_default_errno_ret(Some(EPERM));
    profile.set_architectures(Some(vec![arch]));
    profile.set_syscalls(Some(syscalls));
    profile
}

fn entry(names: &[&str], action: Action) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry.set_names(names.iter().map(|&name| name.to_owned()).collect());
    entry.set_action(action);
    entry
}

fn allow(name: &str, conditions: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut entry = entry(&[name], Action::ScmpActAllow);
    entry.set_args(Some(conditions));
    entry
}

fn equal(index: usize, value: u64) -> LinuxSeccompArg {
    masked(index, u32::MAX.into(), value)
}

/// The argument's bits of `mask` are those of `value`.
fn masked(index: usize, mask: u64, value: u64) -> LinuxSeccompArg {
    let condition = LinuxSeccompArgBuilder::default().index(index).op(Operator::ScmpCmpMaskedEq);
    condition.value(mask).value_two(value).build().expect("every field has a default")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bundle;
    use crate::oci::runtime::Capabilities;

    fn allowed(profile: &LinuxSeccomp) -> BTreeSet<&str> {
        let entries = profile.syscalls().iter().flatten().filter(|entry| entry.action() == Action::ScmpActAllow);
        entries.flat_map(|entry| entry.names()).map(String::as_str).collect()
    }

    #[test]
    fn lists_are_sorted_and_name_nothing_twice() {
        for list in [ALWAYS, COMPILER, FILES, STREAMS, SERVER, NETWORK] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }

    #[test]
    fn it_is_a_sixth_of_dockers() {
        let count = |needs| allowed(&profile(needs, Arch::ScmpArchX86_64)).len();
        let docker = bundle::seccomp::default_profile(&Capabilities::new(), Arch::ScmpArchX86_64);
        let docker = allowed(&docker).len();
        let least = count(Needs::default());
        assert_eq!((least, count(Needs { files: true, ..Needs::default() }), count(Needs::ALL)), (48, 66, 81));
        assert!(docker > 6 * least, "{docker}");
    }

    #[test]
    fn nothing_in_it_reaches_another_process_or_the_kernel() {
        let all = profile(Needs::ALL, Arch::ScmpArchX86_64);
        let allowed = allowed(&all);
        let shut = [
            "execve",
            "execveat",
            "fork",
            "vfork",
            "clone3",
            "kill",
            "tkill",
            "tgkill",
            "pidfd_send_signal",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "mount",
            "open_tree",
            "move_mount",
            "umount2",
            "pivot_root",
            "chroot",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "io_uring_setup",
            "keyctl",
            "userfaultfd",
            "open_by_handle_at",
            "mknodat",
            "fchownat",
            "fchmodat",
            "setuid",
            "setgid",
            "capset",
            "seccomp",
            "landlock_restrict_self",
            "init_module",
            "finit_module",
            "kexec_load",
            "reboot",
            "open",
            "shmget",
            "msgget",
            "pidfd_getfd",
            "pidfd_open",
            "socketpair",
            "mq_open",
            "inotify_init1",
            "fanotify_init",
        ];
        for name in shut {
            assert!(!allowed.contains(name), "{name}");
        }
    }
}
