//! Extended BPF, as far as control groups need it: loading a device program and hanging it on a group.
//!
//! What the program decides is `cgroup::device`'s affair. Everything here needs CAP_BPF or CAP_SYS_ADMIN in the
//! first user namespace.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Error, Result};

/// One instruction: `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Source register in the high half, destination in the low one.
    pub registers: u8,
    /// Memory offset, or how many instructions to skip.
    pub offset: i16,
    /// The operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Groups below may add programs of their own; all of them have to agree.
const ALLOW_MULTI: u32 = 2;
/// How many programs of one group are looked at: the kernel's own limit for a group (BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// For BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// For BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// For BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// A bpf(2) call; `T` is one of the structures above, each a correct prefix of `union bpf_attr` for its command.
fn bpf<T>(command: libc::c_int, attributes: &mut T, name: &str) -> Result<i32> {
    // SAFETY: the kernel reads and writes at most `size_of::<T>()` bytes at `attributes`; each pointer inside
    // was made by this module from a buffer that lives until after the call, with its true length.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(Error { call: format!("bpf({name})"), source: io::Error::last_os_error() }),
    }
}

/// Loads a program of the type BPF_PROG_TYPE_CGROUP_DEVICE.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let mut attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        length: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    let fd = bpf(PROG_LOAD, &mut attributes, "BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE")?;
    // SAFETY: a successful BPF_PROG_LOAD returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Hangs a device program on the group `cgroup`, beside those that it may have.
pub fn add_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut order = order(cgroup, program, ALLOW_MULTI);
    bpf(PROG_ATTACH, &mut order, "BPF_PROG_ATTACH, BPF_CGROUP_DEVICE").map(drop)
}

fn order(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, flags: u32) -> Attach {
    let (target, program) = (cgroup.as_raw_fd() as u32, program.as_raw_fd() as u32);
    Attach { target, program, kind: CGROUP_DEVICE, flags }
}

/// Makes `program` the only device program of the group `cgroup`. At no moment the group is without one.
pub fn set_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let old = device_programs(cgroup)?;
    add_device_program(cgroup, program)?;
    for id in old {
        let mut by_id = ById { id, ..ById::default() };
        let fd = bpf(PROG_GET_FD_BY_ID, &mut by_id, "BPF_PROG_GET_FD_BY_ID")?;
        // SAFETY: a successful BPF_PROG_GET_FD_BY_ID returns a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let fd = std::os::fd::AsFd::as_fd(&fd);
        bpf(PROG_DETACH, &mut order(cgroup, fd, 0), "BPF_PROG_DETACH, BPF_CGROUP_DEVICE")?;
    }
    Ok(())
}

/// The ids of a group's own device programs.
fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query, "BPF_PROG_QUERY, BPF_CGROUP_DEVICE")?;
    Ok(ids[..(query.count as usize).min(MAX_PROGRAMS)].to_vec())
}
