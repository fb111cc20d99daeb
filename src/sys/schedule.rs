//! How the kernel shares processor, disk and memory out to the calling thread, and which machine it shows to it.
//! A program that the thread executes has all of it from the thread.

#![expect(unsafe_code, reason = "sched_setattr(2), ioprio_set(2), set_mempolicy(2) and personality(2) have no wrapper")]

use std::io;

use super::{Result, named};

/// What sched_setattr(2) takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// The nice value of the ordinary policies, −20 to 19.
    pub nice: i32,
    /// The static priority of the real-time policies.
    pub priority: u32,
    /// Nanoseconds of processor time in each period, for the deadline policy.
    pub runtime: u64,
    /// Nanoseconds in which that time has to be had.
    pub deadline: u64,
    /// The period in nanoseconds.
    pub period: u64,
}

/// linux/sched/types.h, `struct sched_attr` with the clamps of kernel 5.3 (`SCHED_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    clamp_min: u32,
    clamp_max: u32,
}

/// Schedules the calling thread as `attributes` say.
pub fn set_attributes(attributes: Attributes) -> Result<()> {
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = attributes;
    let size = size_of::<SchedAttr>() as u32;
    let attr = SchedAttr { size, policy, flags, nice, priority, runtime, deadline, period, ..SchedAttr::default() };
    // SAFETY: `attr` says its own size and lives through the call, which only reads it.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    check(done, || format!("sched_setattr(0, {attributes:?})"))
}

/// Gives the disk access of the calling thread the class `class` (`IOPRIO_CLASS_*`) and the level `level` in it.
pub fn set_io_priority(class: u8, level: u8) -> Result<()> {
    // linux/ioprio.h
    const WHO_PROCESS: i32 = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = i32::from(class) << CLASS_SHIFT | i32::from(level);
    // SAFETY: the call takes no pointers.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    check(done, || format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, class {class}, level {level})"))
}

/// Lets the calling thread run on the processors `mask` only: number `n` is bit `n % 64` of word `n / 64`.
pub fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: the kernel reads `size_of_val(mask)` bytes, which are the slice's own.
    let done = unsafe { libc::sched_setaffinity(0, size_of_val(mask), mask.as_ptr().cast()) };
    check(done.into(), || format!("sched_setaffinity(0, {mask:#x?})"))
}

/// Takes memory for the calling thread by the policy `mode` (`MPOL_*`, with flags) from the nodes `mask`, which
/// is as that of [`set_affinity`]; empty is no node.
pub fn set_memory_policy(mode: i32, mask: &[u64]) -> Result<()> {
    // One more than the mask holds: the kernel takes one off (get_nodes() of mm/mempolicy.c).
    let bits = if mask.is_empty() { 0 } else { size_of_val(mask) * 8 + 1 };
    let pointer = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits, which are the slice's own, or nothing.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    check(done, || format!("set_mempolicy({mode:#x}, {mask:#x?})"))
}

/// Gives the calling thread the execution domain `domain` (`PER_*`).
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: the call takes no pointers.
    let done = unsafe { libc::personality(domain.into()) };
    check(done.into(), || format!("personality({domain:#x})"))
}

fn check(done: libc::c_long, call: impl FnOnce() -> String) -> Result<()> {
    if done < 0 { named(Err(io::Error::last_os_error()), call) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread that ends with its attributes.
    fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    fn io_priority() -> i64 {
        // SAFETY: the call takes no pointers.
        unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }
    }

    fn attributes() -> SchedAttr {
        let mut attr = SchedAttr::default();
        // SAFETY: the kernel fills at most the size given, which is that of `attr`.
        let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size_of::<SchedAttr>(), 0) };
        assert_eq!(done, 0);
        attr
    }

    fn memory_policy() -> (i32, u64) {
        let (mut mode, mut nodes) = (0, [0_u64; 128]);
        // SAFETY: the kernel fills one integer and at most the bits given.
        let done = unsafe {
            libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, nodes.as_mut_ptr(), size_of_val(&nodes) * 8, 0, 0)
        };
        assert_eq!(done, 0);
        (mode, nodes[0])
    }

    #[test]
    fn the_kernel_reads_the_attributes_back() {
        let attr = apart(|| {
            set_attributes(Attributes { policy: 3, flags: 1, nice: 7, ..Attributes::default() }).unwrap();
            attributes()
        });
        assert_eq!((attr.policy, attr.flags & 1, attr.nice), (3, 1, 7));
    }

    #[test]
    fn the_kernel_reads_the_io_priority_back() {
        assert_eq!(apart(|| set_io_priority(2, 6).map(|()| io_priority()).unwrap()), 2 << 13 | 6);
    }

    #[test]
    fn the_kernel_reads_the_memory_policy_back() {
        // MPOL_BIND to node 0, which every machine has.
        assert_eq!(apart(|| set_memory_policy(2, &[1]).map(|()| memory_policy()).unwrap()), (2, 1));
        assert_eq!(apart(|| set_memory_policy(0, &[]).map(|()| memory_policy()).unwrap()), (0, 0));
    }

    #[test]
    fn a_refusal_names_the_call() {
        let error = apart(|| set_attributes(Attributes { policy: 99, ..Attributes::default() })).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert!(error.call.starts_with("sched_setattr(0, Attributes { policy: 99"), "{}", error.call);
        let error = apart(|| set_affinity(&[0])).unwrap_err();
        assert_eq!((error.errno(), error.call.contains("sched_setaffinity")), (Some(libc::EINVAL), true));
    }
}
