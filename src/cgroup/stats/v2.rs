//! Statistics of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use std::collections::BTreeMap;

use super::{Blkio, BlkioEntry, Charge, Cpu, Files, HugePages, Memory, device, fields};
use crate::cgroup::{Error, file};

pub(super) fn cpu(stat: &str) -> Option<Cpu> {
    let of = |key| file::field(stat, key).unwrap_or(0);
    let microseconds = |key| of(key) * 1000;
    file::field(stat, "usage_usec").map(|_| Cpu {
        usage_ns: microseconds("usage_usec"),
        user_ns: microseconds("user_usec"),
        system_ns: microseconds("system_usec"),
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled_ns: microseconds("throttled_usec"),
        bursts: of("nr_bursts"),
        burst_ns: microseconds("burst_usec"),
        ..Cpu::default()
    })
}

pub(super) fn memory(files: &Files<'_>) -> Result<Option<Memory>, Error> {
    if files.text("memory.current")?.is_empty() {
        return Ok(None);
    }
    let (raw, events) = (fields(&files.text("memory.stat")?), files.text("memory.events")?);
    let of = |key: &str| raw.get(key).copied().unwrap_or(0);
    let event = |text: &str, key| file::field(text, key).unwrap_or(0);
    let mut all = charge(files, "memory")?;
    all.failures = event(&events, "max");
    let mut swap = charge(files, "memory.swap")?;
    swap.failures = event(&files.text("memory.swap.events")?, "max");
    Ok(Some(Memory {
        usage: all.usage,
        peak: all.peak,
        limit: all.limit,
        limit_hits: all.failures,
        swap,
        memory_and_swap: together(&all, &swap),
        kernel: Charge::default(),
        kernel_tcp: Charge::default(),
        anon: of("anon"),
        file: of("file"),
        inactive_file: of("inactive_file"),
        oom_kills: event(&events, "oom_kill"),
        pressure: None,
        raw,
    }))
}

fn charge(files: &Files<'_>, kind: &str) -> Result<Charge, Error> {
    Ok(Charge {
        usage: files.number(&format!("{kind}.current"))?,
        peak: files.number(&format!("{kind}.peak"))?,
        limit: files.limit(&format!("{kind}.max"))?,
        failures: 0,
    })
}

/// As v1 would count; the peaks were not at one time, so of their sum there is none.
fn together(memory: &Charge, swap: &Charge) -> Charge {
    let limit = memory.limit.zip(swap.limit).map(|(memory, swap)| memory + swap);
    Charge { usage: memory.usage + swap.usage, peak: 0, limit, failures: 0 }
}

/// Lines like `8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0`.
pub(super) fn blkio(stat: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.service_bytes, "Read"),
                "wbytes" => (&mut blkio.service_bytes, "Write"),
                "rios" => (&mut blkio.serviced, "Read"),
                "wios" => (&mut blkio.serviced, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value: value.parse().unwrap_or(0) });
        }
    }
    blkio
}

pub(super) fn huge_pages(files: &Files<'_>) -> Result<BTreeMap<String, HugePages>, Error> {
    let of = |size: String| {
        let reserved = files.text(&format!("hugetlb.{size}.rsvd.current"))?;
        let faulted = format!("hugetlb.{size}.current");
        let usage = match reserved.trim().parse() {
            Ok(reserved) => reserved,
            Err(_) => files.number(&faulted)?,
        };
        let failures = file::field(&files.text(&format!("hugetlb.{size}.events"))?, "max").unwrap_or(0);
        Ok((size, HugePages { usage, peak: 0, failures }))
    };
    files.huge_page_sizes().into_iter().map(of).collect()
}
