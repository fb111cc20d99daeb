//! `linux.resources.memory`.

use oci_spec::runtime::LinuxMemory;

use super::{Missing, NEGATIVE, ONLY_V1, Plan, bad};
use crate::cgroup::{Error, Version};

/// A number of bytes as v2 writes it. The spec's 0 means "not set", -1 "no limit".
fn amount(name: &str, value: Option<i64>) -> Result<Option<String>, Error> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some("max".into())),
        Some(value) if value < 0 => Err(bad(name, value, NEGATIVE)),
        Some(value) => Ok(Some(value.to_string())),
    }
}

/// The same for v1, which writes -1 for no limit.
fn amount_v1(name: &str, value: Option<i64>) -> Result<Option<String>, Error> {
    Ok(amount(name, value)?.map(|text| if text == "max" { "-1".into() } else { text }))
}

/// A percentage; callers that cannot leave a field out write -1 for it.
fn swappiness(memory: &LinuxMemory) -> Option<u64> {
    memory.swappiness().filter(|swappiness| *swappiness != u64::MAX)
}

impl Plan<'_> {
    pub(super) fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let amounts = [memory.limit(), memory.swap(), memory.reservation(), memory.kernel_tcp()];
        let asked = amounts.iter().flatten().any(|amount| *amount != 0)
            || swappiness(memory).is_some()
            || memory.disable_oom_killer() == Some(true);
        if !asked {
            return Ok(());
        }
        match self.version("memory", "memory")? {
            Version::V1 => self.memory_v1(memory),
            Version::V2 => self.memory_v2(memory),
        }
    }

    fn memory_v1(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        // No limit on memory cannot be had under a limit on memory and swap.
        let swap = memory.swap().filter(|swap| *swap != 0).or(memory.limit().filter(|limit| *limit == -1));
        let amounts = [
            ("memory.limit", "memory.limit_in_bytes", memory.limit(), Missing::Fail),
            ("memory.swap", "memory.memsw.limit_in_bytes", swap, skip_if_unlimited(swap)),
            ("memory.reservation", "memory.soft_limit_in_bytes", memory.reservation(), Missing::Fail),
            // Retired, and ignored by runc: what a kernel still has is set.
            ("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp(), Missing::Skip),
        ];
        for (name, file, value, missing) in amounts {
            if let Some(value) = amount_v1(name, value)? {
                self.add_any("memory", name, vec![(file.into(), value)], missing);
            }
        }
        if let Some(swappiness) = swappiness(memory) {
            if swappiness > 100 {
                return Err(bad("memory.swappiness", swappiness, "it is a percentage"));
            }
            self.add("memory", "memory.swappiness", "memory.swappiness", swappiness);
        }
        if memory.disable_oom_killer() == Some(true) {
            self.add("memory", "memory.disableOOMKiller", "memory.oom_control", 1);
        }
        Ok(())
    }

    fn memory_v2(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        if let Some(swappiness) = swappiness(memory) {
            return Err(bad("memory.swappiness", swappiness, ONLY_V1));
        }
        if memory.disable_oom_killer() == Some(true) {
            return Err(bad("memory.disableOOMKiller", true, ONLY_V1));
        }
        // Swap first: were memory lowered before, what leaves it could still go there.
        if let Some(value) = swap_v2(memory)? {
            let missing = if value == "max" || value == "0" { Missing::Skip } else { Missing::Fail };
            self.add_any("memory", "memory.swap", vec![("memory.swap.max".into(), value)], missing);
        }
        if let Some(value) = amount("memory.limit", memory.limit())? {
            self.add("memory", "memory.limit", "memory.max", value);
        }
        if let Some(value) = amount("memory.reservation", memory.reservation())? {
            self.add("memory", "memory.reservation", "memory.low", value);
        }
        Ok(())
    }
}

/// Without swap accounting in the kernel there is no limit on swap: as was asked, if none was asked for.
fn skip_if_unlimited(limit: Option<i64>) -> Missing {
    if limit == Some(-1) { Missing::Skip } else { Missing::Fail }
}

/// The spec's swap is memory and swap together; v2 counts swap alone.
pub(in crate::cgroup) fn swap_v2(memory: &LinuxMemory) -> Result<Option<String>, Error> {
    let limit = memory.limit().unwrap_or(0);
    match memory.swap().unwrap_or(0) {
        // Lifting the limit on memory lifts the one on both, as v1 would.
        0 if limit == -1 => Ok(Some("max".into())),
        0 => Ok(None),
        -1 => Ok(Some("max".into())),
        swap if swap < -1 => Err(bad("memory.swap", swap, NEGATIVE)),
        // Without a limit on memory there is nothing to subtract.
        swap if limit == -1 => Ok(Some(swap.to_string())),
        swap if limit <= 0 => Err(bad("memory.swap", swap, "it needs a limit on memory")),
        swap if swap < limit => Err(bad("memory.swap", swap, "it includes memory and cannot be less than its limit")),
        swap => Ok(Some((swap - limit).to_string())),
    }
}
