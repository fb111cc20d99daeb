//! The ways to enter a Linux kernel, as a filter sees them.
//!
//! A machine family's kernel answers several ABIs. The filter knows them by the audit architecture, but
//! x32 is no architecture of its own: it is x86_64 with one high bit in the syscall number, so it shares
//! a number line with x86_64.
//!
//! ```text
//! x86_64: AUDIT_ARCH_X86_64 ── 0 … x86_64 … │ 2³⁰ … x32 … │ -1
//!         AUDIT_ARCH_I386   ── 0 … x86 …
//! arm64:  AUDIT_ARCH_AARCH64 ── 0 … aarch64 …
//!         AUDIT_ARCH_ARM     ── 0 … arm … │ 0xf0000 … private calls of arm
//! ```

use oci_spec::runtime::Arch;

use super::table::{NO, SYSCALLS};

/// The high bit of every x32 syscall number (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// One set of syscall numbers; the discriminant is its column in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Arm,
    Aarch64,
}

/// The kernels that this engine makes filters for. Both are little-endian, which the loads rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// x86_64 with its x86 and x32 ABIs.
    X86,
    /// aarch64 with its 32-bit ABI.
    Arm,
}

impl Family {
    /// The family of the kernel under this binary; none where there are no syscall tables for it.
    pub fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86),
            "aarch64" => Some(Self::Arm),
            _ => None,
        }
    }

    /// The ABI that is always part of a filter.
    pub(super) fn native_abi(self) -> Abi {
        match self {
            Self::X86 => Abi::X86_64,
            Self::Arm => Abi::Aarch64,
        }
    }

    /// Which of this family's ABIs the spec's `arch` means. None for an architecture that this kernel
    /// can never report: a filter needs no rule for it, and whatever it lacks is killed anyway.
    pub(super) fn abi(self, arch: Arch) -> Option<Abi> {
        match (self, arch) {
            (family, Arch::ScmpArchNative) => Some(family.native_abi()),
            (Self::X86, Arch::ScmpArchX86_64) => Some(Abi::X86_64),
            (Self::X86, Arch::ScmpArchX86) => Some(Abi::X86),
            (Self::X86, Arch::ScmpArchX32) => Some(Abi::X32),
            (Self::Arm, Arch::ScmpArchAarch64) => Some(Abi::Aarch64),
            (Self::Arm, Arch::ScmpArchArm) => Some(Abi::Arm),
            _ => None,
        }
    }
}

impl Abi {
    /// `AUDIT_ARCH_*` of linux/audit.h, as it stands in `seccomp_data.arch`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Arm => 0x4000_0028,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Whether arguments are compared in their low 32 bits only, as libseccomp does.
    pub(super) fn narrow(self) -> bool {
        matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// The number in `seccomp_data.nr` of the syscall in row `row` of the table.
    pub(super) fn number(self, row: usize) -> Option<u32> {
        let high = if self == Self::X32 { X32_BIT } else { 0 };
        Some(SYSCALLS[row].1[self as usize]).filter(|number| *number != NO).map(|number| number | high)
    }
}

/// The table's row of a syscall; none for a name that no architecture here has.
pub(super) fn row(name: &str) -> Option<usize> {
    SYSCALLS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()
}

/// x86's old way to sockets and System V IPC: the multiplexer's name, and the number in its first
/// argument that means `name` (linux/net.h, linux/ipc.h). 32-bit programs may come either way.
pub(super) fn multiplexed(name: &str) -> Option<(&'static str, u32)> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u32); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let socket = || SOCKETCALL.iter().zip(1..).find(|(known, _)| **known == name).map(|(_, call)| ("socketcall", call));
    let ipc = || IPC.iter().find(|(known, _)| *known == name).map(|(_, call)| ("ipc", *call));
    socket().or_else(ipc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_knows_the_numbers_of_this_machine() {
        assert!(SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
        let native = Family::native().unwrap().native_abi();
        for (name, number) in [
            ("openat", libc::SYS_openat),
            ("clone3", libc::SYS_clone3),
            ("mseal", libc::SYS_mseal),
            ("execve", libc::SYS_execve),
        ] {
            assert_eq!(native.number(row(name).unwrap()).map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn x32_numbers_carry_their_bit() {
        assert_eq!(Abi::X32.number(row("execve").unwrap()), Some(X32_BIT | 520));
        assert_eq!(Abi::X86.number(row("arm_fadvise64_64").unwrap()), None);
        assert_eq!(row("no_such_call"), None);
    }
}
