//! Linux capabilities by number, and setting all five sets of the calling thread (capabilities(7)).

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Result, named};

/// The highest number a 64-bit set can hold.
const MAX: usize = 63;

/// The number of CAP_SETPCAP, which the bounding set is changed with.
pub const SETPCAP: usize = 8;

/// A set of capabilities, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// Whether capability number `number` is in the set.
    pub fn has(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }

    fn rustix(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }
}

/// How many capabilities this kernel knows.
pub fn last() -> Result<usize> {
    const PATH: &str = "/proc/sys/kernel/cap_last_cap";
    let text = named(std::fs::read_to_string(PATH), || format!("read({PATH:?})"))?;
    Ok(text.trim().parse().unwrap_or(MAX))
}

/// Drops everything outside of `keep`, up to number `last`, from the bounding set.
pub fn bound(keep: Set, last: usize) -> Result<()> {
    for number in (0..=last).filter(|n| !keep.has(*n)) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        named(rustix::thread::remove_capability_from_bounding_set(capability), || {
            format!("prctl(PR_CAPBSET_DROP, {number})")
        })?;
    }
    Ok(())
}

/// Keeps the permitted set over the coming change of user.
pub fn keep_over_setuid(keep: bool) -> Result<()> {
    named(rustix::thread::set_keep_capabilities(keep), || format!("prctl(PR_SET_KEEPCAPS, {keep})"))
}

/// Sets the effective, permitted and inheritable sets, then the ambient one.
pub fn set(effective: Set, permitted: Set, inheritable: Set, ambient: Set) -> Result<()> {
    let sets = CapabilitySets {
        effective: effective.rustix(),
        permitted: permitted.rustix(),
        inheritable: inheritable.rustix(),
    };
    named(rustix::thread::set_capabilities(None, sets), || format!("capset({:#x})", permitted.0))?;
    named(rustix::thread::clear_ambient_capability_set(), || "prctl(PR_CAP_AMBIENT_CLEAR_ALL)".into())?;
    for number in (0..=MAX).filter(|n| ambient.has(*n)) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        named(rustix::thread::configure_capability_in_ambient_set(capability, true), || {
            format!("prctl(PR_CAP_AMBIENT_RAISE, {number})")
        })?;
    }
    Ok(())
}

/// The sets that this thread has: effective and permitted.
pub fn current() -> Result<(Set, Set)> {
    let sets = named(rustix::thread::capabilities(None), || "capget()".into())?;
    Ok((Set(sets.effective.bits()), Set(sets.permitted.bits())))
}
