//! Statistics of cgroup v1 (Documentation/admin-guide/cgroup-v1).

use std::collections::BTreeMap;

use super::{Blkio, BlkioEntry, Charge, Cpu, Cpuset, Files, HugePages, Memory, device, fields};
use crate::cgroup::{Error, file};

/// v1 counts CPU time in ticks of this length in user space: USER_HZ, 100 on all architectures here.
const TICK_NS: u64 = 10_000_000;

/// A processor or node number that is too large for any machine ends a list.
const MAX_CPUS: u16 = 8192;

pub(super) fn cpu(files: &Files<'_>, account: &Files<'_>) -> Result<Cpu, Error> {
    let (stat, times) = (files.text("cpu.stat")?, account.text("cpuacct.stat")?);
    let of = |text: &str, key| file::field(text, key).unwrap_or(0);
    let numbers = |text: &str| text.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
    let (per_cpu_user, per_cpu_system) = by_processor(&account.text("cpuacct.usage_all")?);
    Ok(Cpu {
        usage_ns: account.number("cpuacct.usage")?,
        user_ns: of(&times, "user") * TICK_NS,
        system_ns: of(&times, "system") * TICK_NS,
        per_cpu: numbers(&account.text("cpuacct.usage_percpu")?),
        per_cpu_user,
        per_cpu_system,
        periods: of(&stat, "nr_periods"),
        throttled_periods: of(&stat, "nr_throttled"),
        throttled_ns: of(&stat, "throttled_time"),
        ..Cpu::default()
    })
}

/// Lines of processor, user, system, below a headline.
fn by_processor(text: &str) -> (Vec<u64>, Vec<u64>) {
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        Some((number(words.next())?, number(words.next())?))
    };
    text.lines().skip(1).filter_map(line).unzip()
}

pub(super) fn memory(files: &Files<'_>) -> Result<Memory, Error> {
    let raw = fields(&files.text("memory.stat")?);
    let of = |key: &str| raw.get(key).copied().unwrap_or(0);
    let all = charge(files, "memory")?;
    let both = charge(files, "memory.memsw")?;
    let failures = both.failures.saturating_sub(all.failures);
    let swap = Charge { usage: of("total_swap"), failures, ..Charge::default() };
    Ok(Memory {
        usage: all.usage,
        peak: all.peak,
        limit: all.limit,
        limit_hits: all.failures,
        swap,
        memory_and_swap: both,
        kernel: charge(files, "memory.kmem")?,
        kernel_tcp: charge(files, "memory.kmem.tcp")?,
        anon: of("total_rss"),
        file: of("total_cache"),
        inactive_file: of("total_inactive_file"),
        oom_kills: file::field(&files.text("memory.oom_control")?, "oom_kill").unwrap_or(0),
        pressure: None,
        raw,
    })
}

fn charge(files: &Files<'_>, kind: &str) -> Result<Charge, Error> {
    Ok(Charge {
        usage: files.number(&format!("{kind}.usage_in_bytes"))?,
        peak: files.number(&format!("{kind}.max_usage_in_bytes"))?,
        limit: files.limit(&format!("{kind}.limit_in_bytes"))?,
        failures: files.number(&format!("{kind}.failcnt"))?,
    })
}

pub(super) fn cpuset(files: &Files<'_>) -> Result<Cpuset, Error> {
    const FLAGS: [&str; 8] = [
        "cpu_exclusive",
        "mem_exclusive",
        "mem_hardwall",
        "memory_migrate",
        "memory_pressure",
        "memory_spread_page",
        "memory_spread_slab",
        "sched_load_balance",
    ];
    let flag = |name: &'static str| Ok((name, files.number(&format!("cpuset.{name}"))?));
    Ok(Cpuset {
        cpus: list(&files.text("cpuset.cpus")?),
        mems: list(&files.text("cpuset.mems")?),
        flags: FLAGS.into_iter().map(flag).collect::<Result<_, Error>>()?,
        relax_domain_level: files.text("cpuset.sched_relax_domain_level")?.trim().parse().unwrap_or(0),
    })
}

/// The kernel's notation of a set, `0-2,7`.
fn list(text: &str) -> Vec<u16> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse::<u16>().ok()?.min(MAX_CPUS))
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// The name of a list's files, of which the first with an entry counts: of the scheduler BFQ, of the older CFQ, and of
/// throttling, which counts under any scheduler.
fn candidates(name: &str) -> [String; 3] {
    [format!("blkio.bfq.{name}"), format!("blkio.{name}"), format!("blkio.throttle.{name}")]
}

pub(super) fn blkio(files: &Files<'_>) -> Result<Blkio, Error> {
    let list = |name: &str| {
        for file in candidates(name) {
            let entries: Vec<_> = files.text(&file)?.lines().filter_map(entry).collect();
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(Blkio {
        service_bytes: list("io_service_bytes_recursive")?,
        serviced: list("io_serviced_recursive")?,
        queued: list("io_queued_recursive")?,
        service_time: list("io_service_time_recursive")?,
        wait_time: list("io_wait_time_recursive")?,
        merged: list("io_merged_recursive")?,
        time: list("time_recursive")?,
        sectors: list("sectors_recursive")?,
        pressure: None,
    })
}

/// `8:16 Read 4096`, or `8:16 4096`; the last line, `Total 4096`, is of no device.
fn entry(line: &str) -> Option<BlkioEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = device(words.next()?)?;
    let second = words.next()?;
    let (op, value) = match words.next() {
        Some(value) => (second, value),
        None => ("", second),
    };
    Some(BlkioEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
}

pub(super) fn huge_pages(files: &Files<'_>) -> Result<BTreeMap<String, HugePages>, Error> {
    let of = |size: String| {
        let reserved = format!("hugetlb.{size}.rsvd");
        let counted = files.text(&format!("{reserved}.usage_in_bytes"))?;
        let name = if counted.is_empty() { format!("hugetlb.{size}") } else { reserved };
        let pages = HugePages {
            usage: files.number(&format!("{name}.usage_in_bytes"))?,
            peak: files.number(&format!("{name}.max_usage_in_bytes"))?,
            failures: files.number(&format!("{name}.failcnt"))?,
        };
        Ok((size, pages))
    };
    files.huge_page_sizes().into_iter().map(of).collect()
}
