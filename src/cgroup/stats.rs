//! What a group uses, in one shape for v1 and v2.
//!
//! A part is absent when its controller is: on v2 a group may lack one that could not be switched on. Within a part
//! a number that only one version knows is 0 in the other.

use std::path::Path;

use super::{Error, Version, file};

/// v1 counts CPU time in ticks of this length in user space: USER_HZ, 100 on all architectures here.
const TICK_NS: u64 = 10_000_000;

/// What a group used until now, and uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Memory and swap.
    pub memory: Option<Memory>,
    /// Tasks.
    pub pids: Option<Pids>,
    /// Block devices, in no order.
    pub io: Vec<Io>,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it.
    pub usage_ns: u64,
    /// In user space.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods in which the group had a quota.
    pub periods: u64,
    /// Those in which it ran out.
    pub throttled_periods: u64,
    /// How long it then had to wait.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Charged now, page cache included.
    pub usage: u64,
    /// The most ever charged; 0 where the kernel does not keep it (v2 before 5.19).
    pub peak: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// Swap used.
    pub swap: u64,
    /// Anonymous memory.
    pub anon: u64,
    /// Page cache.
    pub file: u64,
    /// Page cache that could be dropped at once: `docker stats` subtracts it from the usage.
    pub inactive_file: u64,
    /// How often the limit was hit.
    pub limit_hits: u64,
    /// How many processes the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// One block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// The device's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

/// A group's control files, absent ones being empty.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn text(&self, name: &str) -> Result<String, Error> {
        let path = self.0.join(name);
        let text = file::read_if_there(&path).map_err(|source| Error::Read { path, source })?;
        Ok(text.unwrap_or_default())
    }

    fn number(&self, name: &str) -> Result<u64, Error> {
        Ok(file::limit(&self.text(name)?).unwrap_or(0))
    }
}

/// Reads the statistics of the group that has each controller in the directory that `place` says.
pub(super) fn read<'a>(place: impl Fn(&str) -> Option<(Version, &'a Path)>) -> Result<Stats, Error> {
    let with = |controller: &str| place(controller).map(|(version, dir)| (version, Files(dir)));
    let cpu = match with("cpu") {
        Some((Version::V2, files)) => cpu_v2(&files.text("cpu.stat")?),
        Some((Version::V1, files)) => match with("cpuacct") {
            Some((_, account)) => Some(cpu_v1(&files, &account)?),
            None => None,
        },
        None => None,
    };
    let memory = match with("memory") {
        Some((Version::V1, files)) => Some(memory_v1(&files)?),
        Some((Version::V2, files)) => memory_v2(&files)?,
        None => None,
    };
    let pids = match with("pids") {
        Some((_, files)) => pids(&files)?,
        None => None,
    };
    let io = match (with("io"), with("blkio")) {
        (Some((_, files)), _) => io_v2(&files.text("io.stat")?),
        (None, Some((_, files))) => io_v1(&files)?,
        (None, None) => Vec::new(),
    };
    Ok(Stats { cpu, memory, pids, io })
}

fn cpu_v2(stat: &str) -> Option<Cpu> {
    let microseconds = |key| file::field(stat, key).unwrap_or(0) * 1000;
    file::field(stat, "usage_usec").map(|_| Cpu {
        usage_ns: microseconds("usage_usec"),
        user_ns: microseconds("user_usec"),
        system_ns: microseconds("system_usec"),
        periods: file::field(stat, "nr_periods").unwrap_or(0),
        throttled_periods: file::field(stat, "nr_throttled").unwrap_or(0),
        throttled_ns: microseconds("throttled_usec"),
    })
}

fn cpu_v1(files: &Files<'_>, account: &Files<'_>) -> Result<Cpu, Error> {
    let (stat, times) = (files.text("cpu.stat")?, account.text("cpuacct.stat")?);
    let of = |text: &str, key| file::field(text, key).unwrap_or(0);
    Ok(Cpu {
        usage_ns: account.number("cpuacct.usage")?,
        user_ns: of(&times, "user") * TICK_NS,
        system_ns: of(&times, "system") * TICK_NS,
        periods: of(&stat, "nr_periods"),
        throttled_periods: of(&stat, "nr_throttled"),
        throttled_ns: of(&stat, "throttled_time"),
    })
}

fn memory_v2(files: &Files<'_>) -> Result<Option<Memory>, Error> {
    let usage = files.text("memory.current")?;
    if usage.is_empty() {
        return Ok(None);
    }
    let (stat, events) = (files.text("memory.stat")?, files.text("memory.events")?);
    let of = |text: &str, key| file::field(text, key).unwrap_or(0);
    Ok(Some(Memory {
        usage: usage.trim().parse().unwrap_or(0),
        peak: files.number("memory.peak")?,
        limit: file::limit(&files.text("memory.max")?),
        swap: files.number("memory.swap.current")?,
        anon: of(&stat, "anon"),
        file: of(&stat, "file"),
        inactive_file: of(&stat, "inactive_file"),
        limit_hits: of(&events, "max"),
        oom_kills: of(&events, "oom_kill"),
    }))
}

fn memory_v1(files: &Files<'_>) -> Result<Memory, Error> {
    let (stat, oom) = (files.text("memory.stat")?, files.text("memory.oom_control")?);
    let of = |text: &str, key| file::field(text, key).unwrap_or(0);
    Ok(Memory {
        usage: files.number("memory.usage_in_bytes")?,
        peak: files.number("memory.max_usage_in_bytes")?,
        limit: file::limit(&files.text("memory.limit_in_bytes")?),
        swap: of(&stat, "total_swap"),
        anon: of(&stat, "total_rss"),
        file: of(&stat, "total_cache"),
        inactive_file: of(&stat, "total_inactive_file"),
        limit_hits: files.number("memory.failcnt")?,
        oom_kills: of(&oom, "oom_kill"),
    })
}

fn pids(files: &Files<'_>) -> Result<Option<Pids>, Error> {
    let current = files.text("pids.current")?;
    let limit = file::limit(&files.text("pids.max")?);
    Ok(current.trim().parse().ok().map(|current| Pids { current, limit }))
}

/// A device's number, `8:16`.
fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn io_v2(stat: &str) -> Vec<Io> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let mut io = Io { major, minor, ..Io::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => io.read_bytes = value,
                "wbytes" => io.write_bytes = value,
                "rios" => io.reads = value,
                "wios" => io.writes = value,
                _ => {}
            }
        }
        Some(io)
    };
    stat.lines().filter_map(line).collect()
}

/// Lines like `8:16 Read 4096`, in one file for bytes and one for requests.
fn io_v1(files: &Files<'_>) -> Result<Vec<Io>, Error> {
    let mut list: Vec<Io> = Vec::new();
    for (name, requests) in
        [("blkio.throttle.io_service_bytes_recursive", false), ("blkio.throttle.io_serviced_recursive", true)]
    {
        for line in files.text(name)?.lines() {
            let mut words = line.split_whitespace();
            let Some((major, minor)) = words.next().and_then(device) else { continue };
            let (Some(what), Some(Ok(value))) = (words.next(), words.next().map(str::parse::<u64>)) else { continue };
            let known = list.iter().position(|io| (io.major, io.minor) == (major, minor));
            let at = known.unwrap_or_else(|| {
                list.push(Io { major, minor, ..Io::default() });
                list.len() - 1
            });
            match (what, requests) {
                ("Read", false) => list[at].read_bytes = value,
                ("Write", false) => list[at].write_bytes = value,
                ("Read", true) => list[at].reads = value,
                ("Write", true) => list[at].writes = value,
                _ => {}
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn v2_files_become_statistics() {
        let dir = group(&[
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\n",
            ),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1024\nfile 3072\ninactive_file 2048\n"),
            ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"),
            ("pids.current", "2\n"),
            ("pids.max", "10\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
        ]);
        let stats = read(|_| Some((Version::V2, dir.path()))).unwrap();
        let cpu = stats.cpu.unwrap();
        assert_eq!((cpu.usage_ns, cpu.throttled_periods, cpu.throttled_ns), (30_000, 2, 7_000));
        let memory = stats.memory.unwrap();
        assert_eq!((memory.usage, memory.limit, memory.inactive_file, memory.oom_kills), (4096, None, 2048, 1));
        assert_eq!(stats.pids, Some(Pids { current: 2, limit: Some(10) }));
        assert_eq!(stats.io, [Io { major: 8, minor: 0, read_bytes: 10, write_bytes: 20, reads: 1, writes: 2 }]);
    }

    #[test]
    fn absent_controllers_have_no_part() {
        let dir = group(&[]);
        assert_eq!(
            read(|controller| (controller != "blkio").then_some((Version::V2, dir.path()))).unwrap(),
            Stats::default()
        );
        assert_eq!(read(|_| None).unwrap(), Stats::default());
    }

    #[test]
    fn v1_block_statistics_are_put_together_by_device() {
        let dir = group(&[
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:16 Write 2\n"),
        ]);
        let io = io_v1(&Files(dir.path())).unwrap();
        assert_eq!(io.len(), 2);
        assert_eq!((io[0].read_bytes, io[0].write_bytes, io[0].reads, io[1].writes), (10, 20, 1, 2));
    }
}
