//! Docker's default seccomp profile, for one container's capabilities: pure data in the runtime spec's words.
//!
//! The profile is an allow-list: what it does not name fails with EPERM (or ENOSYS, if it is newer than the
//! list: see the engine's compiler). It follows moby's profile of 2026, so that an image that runs under Docker
//! runs here. Some doors are shut on purpose and stay out of the list: `io_uring_*` (its requests pass no filter),
//! `keyctl` and friends (keyrings are not namespaced), `userfaultfd`, `kexec_*`, `swapon`, new mounts without
//! CAP_SYS_ADMIN.
//!
//! One hole of moby's is closed here. The kernel takes a socket's family as 32 bits, a filter sees 64, so
//! "family > 40" also lets 2³² + 38 pass, which the kernel takes for 38, AF_ALG. The families above are listed here
//! by patterns that look at all 64 bits.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator as Operator, LinuxSyscall,
};

/// Allowed in every container.
const ALWAYS: &[&str] = &[
    "_llseek",
    "_newselect",
    "accept",
    "accept4",
    "access",
    "adjtimex",
    "alarm",
    "bind",
    "brk",
    "cachestat",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "chown32",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fadvise64_64",
    "fallocate",
    "fanotify_mark",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchown32",
    "fchownat",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fstatfs64",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "futex",
    "futex_requeue",
    "futex_time64",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "futimesat",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getcwd",
    "getdents",
    "getdents64",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getuid32",
    "getxattr",
    "getxattrat",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_pgetevents_time64",
    "io_setup",
    "io_submit",
    "ioctl",
    "ioprio_get",
    "ioprio_set",
    "ipc",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lchown",
    "lchown32",
    "lgetxattr",
    "link",
    "linkat",
    "listen",
    "listmount",
    "listxattr",
    "listxattrat",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "lstat64",
    "madvise",
    "map_shadow_stack",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mmap2",
    "mprotect",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedreceive_time64",
    "mq_timedsend",
    "mq_timedsend_time64",
    "mq_unlink",
    "mremap",
    "mseal",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "name_to_handle_at",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pause",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe",
    "pipe2",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "poll",
    "ppoll",
    "ppoll_time64",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "pselect6",
    "pselect6_time64",
    "ptrace",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "remap_file_pages",
    "removexattr",
    "removexattrat",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "riscv_hwprobe",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_rr_get_interval_time64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "select",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    "send",
    "sendfile",
    "sendfile64",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "setuid32",
    "setxattr",
    "setxattrat",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "sigprocmask",
    "sigreturn",
    "socketcall",
    "socketpair",
    "splice",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statmount",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "sysinfo",
    "tee",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime64",
    "timer_settime",
    "timer_settime64",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_gettime64",
    "timerfd_settime",
    "timerfd_settime64",
    "times",
    "tkill",
    "truncate",
    "truncate64",
    "ugetrlimit",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "uretprobe",
    "utime",
    "utimensat",
    "utimensat_time64",
    "utimes",
    "vfork",
    "vmsplice",
    "wait4",
    "waitid",
    "waitpid",
    "write",
    "writev",
];

/// Allowed on x86_64, in all its ABIs.
const ON_X86: &[&str] = &["arch_prctl", "modify_ldt"];

/// Allowed on aarch64, in both its ABIs.
const ON_ARM: &[&str] =
    &["arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"];

/// Allowed with a capability in the bounding set: without it the kernel itself refuses most uses, but less code
/// of the kernel is reachable when the filter refuses first.
const WITH: &[(Capability, &[&str])] = &[
    (Capability::Bpf, &["bpf"]),
    (Capability::DacReadSearch, &["open_by_handle_at"]),
    (Capability::Perfmon, &["perf_event_open"]),
    (
        Capability::SysAdmin,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (Capability::SysBoot, &["reboot"]),
    (Capability::SysChroot, &["chroot"]),
    (Capability::SysModule, &["delete_module", "finit_module", "init_module"]),
    (Capability::SysNice, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (Capability::SysPacct, &["acct"]),
    (Capability::SysPtrace, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (Capability::SysRawio, &["ioperm", "iopl"]),
    (Capability::SysTime, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (Capability::SysTtyConfig, &["vhangup"]),
    (Capability::Syslog, &["syslog"]),
];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// The executions domains (linux/personality.h) that programs use: PER_LINUX, PER_LINUX32, each also with
/// UNAME26; all bits set only asks.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The kernel's crypto sockets, by which files could be overwritten in the page cache (CVE-2026-31431).
const AF_ALG: u64 = 38;
/// Patterns of 64 bits, as (mask, value), for the families allowed above AF_ALG: 39, 41, 42–43, 44–47,
/// 48–63. Left out is 40, AF_VSOCK, which no namespace confines: it reaches the hypervisor.
const FAMILIES_ABOVE_ALG: [(u64, u64); 5] = [(!0, 39), (!0, 41), (!1, 42), (!3, 44), (!15, 48)];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The architecture of this binary in the spec's words, where the profile knows it.
pub fn native() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::ScmpArchX86_64),
        "aarch64" => Some(Arch::ScmpArchAarch64),
        "riscv64" => Some(Arch::ScmpArchRiscv64),
        _ => None,
    }
}

/// Docker's default profile for a container with the capabilities `bounding` on a machine of `native`.
pub fn default_profile(bounding: &Capabilities, native: Arch) -> LinuxSeccomp {
    let (architectures, own): (Vec<Arch>, &[&str]) = match native {
        Arch::ScmpArchX86_64 => (vec![native, Arch::ScmpArchX86, Arch::ScmpArchX32], ON_X86),
        Arch::ScmpArchAarch64 => (vec![native, Arch::ScmpArchArm], ON_ARM),
        _ => (vec![native], &[]),
    };
    let granted = WITH.iter().filter(|(capability, _)| bounding.contains(capability));
    let mut names: Vec<String> = [ALWAYS, own]
        .into_iter()
        .chain(granted.map(|(_, names)| *names))
        .flatten()
        .map(|name| (*name).to_owned())
        .collect();
    // Merges lists that are sorted each.
    names.sort();
    names.dedup();

    let mut syscalls = vec![entry(names, Action::ScmpActAllow)];
    syscalls.extend(PERSONALITIES.map(|domain| allow("personality", condition(Operator::ScmpCmpEq, domain, None))));
    syscalls.push(allow("socket", condition(Operator::ScmpCmpLt, AF_ALG, None)));
    syscalls.extend(
        FAMILIES_ABOVE_ALG
            .map(|(mask, family)| allow("socket", condition(Operator::ScmpCmpMaskedEq, mask, Some(family)))),
    );
    if !bounding.contains(&Capability::SysAdmin) {
        syscalls.push(allow("clone", condition(Operator::ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0))));
        // clone3 has its flags in memory, where a filter cannot look. ENOSYS makes libraries use clone.
        let mut clone3 = entry(vec!["clone3".to_owned()], Action::ScmpActErrno);
        clone3.set_errno_ret(Some(ENOSYS));
        syscalls.push(clone3);
    }

    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(Action::ScmpActErrno);
    profile.set_default_errno_ret(Some(EPERM));
    profile.set_architectures(Some(architectures));
    profile.set_syscalls(Some(syscalls));
    profile
}

fn entry(names: Vec<String>, action: Action) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry.set_names(names);
    entry.set_action(action);
    entry
}

fn allow(name: &str, condition: LinuxSeccompArg) -> LinuxSyscall {
    let mut entry = entry(vec![name.to_owned()], Action::ScmpActAllow);
    entry.set_args(Some(vec![condition]));
    entry
}

/// A condition on the first argument.
fn condition(op: Operator, value: u64, value_two: Option<u64>) -> LinuxSeccompArg {
    let condition = LinuxSeccompArgBuilder::default().index(0usize).op(op).value(value);
    let condition = if let Some(second) = value_two { condition.value_two(second) } else { condition };
    condition.build().expect("every field has a default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &LinuxSeccomp) -> Vec<&str> {
        profile.syscalls().iter().flatten().flat_map(|entry| entry.names()).map(String::as_str).collect()
    }

    #[test]
    fn lists_are_sorted_and_name_nothing_twice() {
        let lists = [ALWAYS, ON_X86, ON_ARM].into_iter().chain(WITH.iter().map(|(_, names)| *names));
        for list in lists {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }

    #[test]
    fn capabilities_open_their_calls() {
        let profile = default_profile(&Capabilities::new(), Arch::ScmpArchX86_64);
        for shut in ["mount", "unshare", "bpf", "io_uring_setup", "keyctl", "userfaultfd", "add_key", "chroot"] {
            assert!(!names(&profile).contains(&shut), "{shut}");
        }
        let admin = default_profile(&Capabilities::from([Capability::SysAdmin]), Arch::ScmpArchX86_64);
        for open in ["mount", "unshare", "bpf", "clone3", "sethostname"] {
            assert!(names(&admin).contains(&open), "{open}");
        }
        assert!(!names(&admin).contains(&"chroot"));
    }

    #[test]
    fn without_sys_admin_clone3_does_not_seem_to_exist() {
        let profile = default_profile(&Capabilities::new(), Arch::ScmpArchAarch64);
        let clone3 = profile.syscalls().iter().flatten().find(|entry| entry.names() == &["clone3"]).unwrap();
        assert_eq!((clone3.action(), clone3.errno_ret()), (Action::ScmpActErrno, Some(ENOSYS)));
    }

    #[test]
    fn the_profile_survives_config_json() {
        let profile = default_profile(&Capabilities::new(), Arch::ScmpArchX86_64);
        let json = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<LinuxSeccomp>(&json).unwrap(), profile);
    }
}
