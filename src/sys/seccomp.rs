//! Loading a seccomp filter, and asking which parts of seccomp this kernel has.
//!
//! A filter is a classic BPF program; who decides what it says is `engine::linux::seccomp`. Loading is the
//! last privileged thing that an init does: from then on every system call of this thread is judged.

#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{Error, Result, named};

/// One instruction of a classic BPF program: `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do: class, size, mode or operation, source.
    pub code: u16,
    /// How many instructions to skip when the comparison holds.
    pub jt: u8,
    /// How many to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// How a filter is loaded: `SECCOMP_FILTER_FLAG_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// All threads of the process get the filter, not only the caller.
    pub const TSYNC: Self = Self(1);
    /// Every action but ALLOW is logged.
    pub const LOG: Self = Self(1 << 1);
    /// Loading the filter does not switch on the mitigation of speculative store bypass.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// A listener comes with the filter: the descriptor that answers USER_NOTIF.
    pub const NEW_LISTENER: Self = Self(1 << 3);
    /// TSYNC reports a diverging thread as ESRCH, not by its id: the only TSYNC that goes with a listener.
    const TSYNC_ESRCH: Self = Self(1 << 4);
    /// Once a listener has received a request, only a fatal signal interrupts the caller (kernel 5.19).
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    /// Whether all of `other` is in this set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags as a number, to be handed to another process of ours.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The flags that [`Self::bits`] has given.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The actions that a filter may return, with the names of `actions_avail` in /proc/sys/kernel/seccomp.
const ACTIONS: [(&str, u32); 8] = [
    ("kill_process", libc::SECCOMP_RET_KILL_PROCESS),
    ("kill_thread", libc::SECCOMP_RET_KILL_THREAD),
    ("trap", libc::SECCOMP_RET_TRAP),
    ("errno", libc::SECCOMP_RET_ERRNO),
    ("user_notif", libc::SECCOMP_RET_USER_NOTIF),
    ("trace", libc::SECCOMP_RET_TRACE),
    ("log", libc::SECCOMP_RET_LOG),
    ("allow", libc::SECCOMP_RET_ALLOW),
];

/// Puts a filter over this thread, for ever; with [`Flags::NEW_LISTENER`] the listener is returned.
///
/// The caller has `no_new_privs` set, or CAP_SYS_ADMIN in its user namespace.
pub fn load(program: &[Instruction], flags: Flags) -> Result<Option<OwnedFd>> {
    let listens = flags.has(Flags::NEW_LISTENER);
    let tsync = flags.has(Flags::TSYNC);
    let flags = if listens && tsync { flags.with(Flags::TSYNC_ESRCH) } else { flags };
    let call = || format!("seccomp(SECCOMP_SET_MODE_FILTER, {:#x}, {} instructions)", flags.0, program.len());
    let len = u16::try_from(program.len())
        .map_err(|_| Error { call: call(), source: io::Error::from_raw_os_error(libc::EINVAL) })?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` points to `len` instructions that outlive the call, and `Instruction` has the
    // layout of sock_filter (asserted below); the kernel copies and checks the program, it writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::c_ulong::from(flags.0), &raw const filter)
    };
    match result {
        0 => Ok(None),
        // SAFETY: with NEW_LISTENER a non-negative result is a new descriptor that nobody else owns.
        fd if fd > 0 && listens => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        thread if thread > 0 => {
            let source = io::Error::other(format!("thread {thread} has a filter of its own"));
            Err(Error { call: call(), source })
        }
        _ => Err(Error { call: call(), source: io::Error::last_os_error() }),
    }
}

const _: () = assert!(
    size_of::<Instruction>() == size_of::<libc::sock_filter>()
        && align_of::<Instruction>() == align_of::<libc::sock_filter>()
);

/// No execve of this thread or its children gains privileges from now on.
pub fn set_no_new_privs() -> Result<()> {
    named(rustix::thread::set_no_new_privs(true), || "prctl(PR_SET_NO_NEW_PRIVS, 1)".into())
}

/// The actions that this kernel knows, by their names in /proc/sys/kernel/seccomp/actions_avail.
/// Empty where the kernel has no seccomp filters.
pub fn available_actions() -> Vec<&'static str> {
    let known = |action: &u32| {
        // SAFETY: the kernel only reads the u32 that `action` points to.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(action)) == 0 }
    };
    ACTIONS.iter().filter(|(_, action)| known(action)).map(|(name, _)| *name).collect()
}

/// Whether this kernel takes `flags` when a filter is loaded.
pub fn knows(flags: Flags) -> bool {
    // SAFETY: a null program is never read: unknown flags end in EINVAL, known ones in EFAULT.
    let result = unsafe {
        let none = std::ptr::null::<libc::sock_fprog>();
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::c_ulong::from(flags.0), none)
    };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_knows_the_actions_and_flags_that_profiles_use() {
        let actions = available_actions();
        for action in ["kill_process", "kill_thread", "trap", "errno", "trace", "log", "allow"] {
            assert!(actions.contains(&action), "{action} is missing in {actions:?}");
        }
        assert!(knows(Flags::LOG.with(Flags::TSYNC)));
        assert!(!knows(Flags(1 << 30)));
    }

    #[test]
    fn a_program_that_the_kernel_refuses_names_the_call() {
        let error = load(&[], Flags::default()).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert_eq!(error.call, "seccomp(SECCOMP_SET_MODE_FILTER, 0x0, 0 instructions)");
        let error = load(&vec![Instruction { code: 6, jt: 0, jf: 0, k: 0 }; 70_000], Flags::default()).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL));
    }
}
