//! Statistics in runc's form (its types/events.go), which containerd and others read.

use serde_json::{Map, Value, json};

use crate::cgroup::{Blkio, BlkioEntry, Charge, Cpu, Cpuset, HugePages, Memory, Pressure, Stats, Waiting};

/// What runc says where there is no limit.
const NO_LIMIT: u64 = u64::MAX;

/// The statistics of one container.
pub fn in_runcs_form(stats: &Stats) -> Value {
    let pids = stats.pids.unwrap_or_default();
    json!({
        "cpu": cpu(&stats.cpu.clone().unwrap_or_default()),
        "cpuset": stats.cpuset.as_ref().map_or(json!({}), cpuset),
        "memory": memory(&stats.memory.clone().unwrap_or_default()),
        "pids": {"current": pids.current, "limit": pids.limit.unwrap_or(0)},
        "blkio": blkio(&stats.blkio),
        "hugetlb": stats.hugetlb.iter().map(|(size, pages)| (size.clone(), huge_pages(pages))).collect::<Map<_, _>>(),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn cpu(cpu: &Cpu) -> Value {
    with_pressure(
        json!({
            "usage": {
                "total": cpu.usage_ns,
                "percpu": cpu.per_cpu,
                "percpu_kernel": cpu.per_cpu_system,
                "percpu_user": cpu.per_cpu_user,
                "kernel": cpu.system_ns,
                "user": cpu.user_ns,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_ns,
            },
        }),
        cpu.pressure.as_ref(),
    )
}

fn cpuset(cpuset: &Cpuset) -> Value {
    let mut value = json!({
        "cpus": cpuset.cpus,
        "mems": cpuset.mems,
        "sched_relax_domain_level": cpuset.relax_domain_level,
    });
    for (name, flag) in &cpuset.flags {
        value[name] = (*flag).into();
    }
    value
}

fn memory(memory: &Memory) -> Value {
    let (limit, max, failcnt) = (memory.limit.unwrap_or(NO_LIMIT), memory.peak, memory.limit_hits);
    with_pressure(
        json!({
            "cache": memory.file,
            "usage": {"limit": limit, "usage": memory.usage, "max": max, "failcnt": failcnt},
            "swap": charge(&memory.memory_and_swap),
            "kernel": charge(&memory.kernel),
            "kernelTCP": charge(&memory.kernel_tcp),
            "raw": memory.raw,
        }),
        memory.pressure.as_ref(),
    )
}

fn charge(charge: &Charge) -> Value {
    let limit = charge.limit.unwrap_or(NO_LIMIT);
    json!({"limit": limit, "usage": charge.usage, "max": charge.peak, "failcnt": charge.failures})
}

fn huge_pages(pages: &HugePages) -> Value {
    json!({"usage": pages.usage, "max": pages.peak, "failcnt": pages.failures})
}

fn blkio(blkio: &Blkio) -> Value {
    let entry =
        |entry: &BlkioEntry| json!({"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value});
    let list = |entries: &[BlkioEntry]| entries.iter().map(entry).collect::<Vec<_>>();
    with_pressure(
        json!({
            "ioServiceBytesRecursive": list(&blkio.service_bytes),
            "ioServicedRecursive": list(&blkio.serviced),
            "ioQueueRecursive": list(&blkio.queued),
            "ioServiceTimeRecursive": list(&blkio.service_time),
            "ioWaitTimeRecursive": list(&blkio.wait_time),
            "ioMergedRecursive": list(&blkio.merged),
            "ioTimeRecursive": list(&blkio.time),
            "sectorsRecursive": list(&blkio.sectors),
        }),
        blkio.pressure.as_ref(),
    )
}

fn with_pressure(mut value: Value, pressure: Option<&Pressure>) -> Value {
    let waiting = |waiting: &Waiting| json!({"avg10": waiting.avg10, "avg60": waiting.avg60, "avg300": waiting.avg300, "total": waiting.total});
    if let Some(Pressure { some, full }) = pressure {
        value["psi"] = json!({"some": waiting(some), "full": waiting(full)});
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_where_runc_has_them() {
        let memory = Memory { usage: 7, limit: Some(9), ..Memory::default() };
        let pressure = Some(Pressure::default());
        let cpu = Cpu { usage_ns: 5, throttled_ns: 3, pressure, ..Cpu::default() };
        let value = in_runcs_form(&Stats { cpu: Some(cpu), memory: Some(memory), ..Stats::default() });
        assert_eq!(
            (&value["cpu"]["usage"]["total"], &value["cpu"]["throttling"]["throttledTime"]),
            (&json!(5), &json!(3))
        );
        assert_eq!(value["cpu"]["psi"]["some"]["total"], 0);
        assert_eq!((&value["memory"]["usage"]["usage"], &value["memory"]["usage"]["limit"]), (&json!(7), &json!(9)));
        assert_eq!(value["memory"]["swap"]["limit"], NO_LIMIT);
    }
}
