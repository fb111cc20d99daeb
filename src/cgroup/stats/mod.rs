//! What a group uses, in one shape for v1 and v2, with all that `runc events --stats` tells.
//!
//! A part is absent when its controller is: on v2 a group may lack one that could not be switched on. Within a part
//! a number that only one version knows is 0 in the other, a list empty. Times are in nanoseconds, sizes in bytes.

mod v1;
mod v2;

use std::collections::BTreeMap;
use std::path::Path;

use super::{Error, Version, file};

/// What a group used until now, and uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Which processors and memory nodes: v1, when the group has been bound to some.
    pub cpuset: Option<Cpuset>,
    /// Memory and swap.
    pub memory: Option<Memory>,
    /// Tasks.
    pub pids: Option<Pids>,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by their size as in `2MB`.
    pub hugetlb: BTreeMap<String, HugePages>,
    /// RDMA devices, by name: used now, and the limit.
    pub rdma: BTreeMap<String, (Rdma, Rdma)>,
}

/// How long processes had to wait for a resource (Documentation/accounting/psi.rst): averages in percent over 10, 60
/// and 300 s, and the total in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waiting {
    /// Over 10 s.
    pub avg10: f64,
    /// Over 60 s.
    pub avg60: f64,
    /// Over 300 s.
    pub avg300: f64,
    /// Since the group was made.
    pub total: u64,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Times in which at least one process waited.
    pub some: Waiting,
    /// Times in which all did.
    pub full: Waiting,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpu {
    /// All of it.
    pub usage_ns: u64,
    /// In user space.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// All of it, by processor: v1.
    pub per_cpu: Vec<u64>,
    /// In user space, by processor: v1.
    pub per_cpu_user: Vec<u64>,
    /// In the kernel, by processor: v1.
    pub per_cpu_system: Vec<u64>,
    /// Periods in which the group had a quota.
    pub periods: u64,
    /// Those in which it ran out.
    pub throttled_periods: u64,
    /// How long it then had to wait.
    pub throttled_ns: u64,
    /// Periods in which it used saved-up quota: v2.
    pub bursts: u64,
    /// How long it then ran: v2.
    pub burst_ns: u64,
    /// Waiting for processors; hybrid and v2.
    pub pressure: Option<Pressure>,
}

/// Processors and memory nodes of a v1 group, and its flags under the names of their files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// The processors.
    pub cpus: Vec<u16>,
    /// The memory nodes.
    pub mems: Vec<u16>,
    /// `cpu_exclusive`, `mem_exclusive`, `mem_hardwall`, `memory_migrate`, `memory_pressure`, `memory_spread_page`,
    /// `memory_spread_slab`, `sched_load_balance`.
    pub flags: BTreeMap<&'static str, u64>,
    /// `sched_relax_domain_level`, -1 where the kernel decides.
    pub relax_domain_level: i64,
}

/// One kind of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Charged now.
    pub usage: u64,
    /// The most ever charged; 0 where the kernel does not keep it (v2 before 5.19).
    pub peak: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// All of it, page cache included.
    pub usage: u64,
    /// The most ever charged; 0 where the kernel does not keep it (v2 before 5.19).
    pub peak: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub limit_hits: u64,
    /// Swap alone.
    pub swap: Charge,
    /// Memory and swap together, as v1 counts; without swap accounting all zeros.
    pub memory_and_swap: Charge,
    /// The kernel's memory for the group: v1.
    pub kernel: Charge,
    /// Its buffers for TCP: v1.
    pub kernel_tcp: Charge,
    /// Anonymous memory.
    pub anon: u64,
    /// Page cache.
    pub file: u64,
    /// Page cache that could be dropped at once: `docker stats` subtracts it from the usage.
    pub inactive_file: u64,
    /// How many processes the kernel killed for want of memory.
    pub oom_kills: u64,
    /// All of memory.stat.
    pub raw: BTreeMap<String, u64>,
    /// Waiting for memory; hybrid and v2.
    pub pressure: Option<Pressure>,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// One number of one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// The device's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
    /// What was done, in the words of v1: `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; empty where there is
    /// only one number.
    pub op: String,
    /// How much or how many.
    pub value: u64,
}

/// Block devices; v2 has the first two lists, v1's others depend on the kernel's scheduler. All count the groups below.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blkio {
    /// Bytes.
    pub service_bytes: Vec<BlkioEntry>,
    /// Requests.
    pub serviced: Vec<BlkioEntry>,
    /// Requests waiting.
    pub queued: Vec<BlkioEntry>,
    /// Time in the device.
    pub service_time: Vec<BlkioEntry>,
    /// Time in queues.
    pub wait_time: Vec<BlkioEntry>,
    /// Requests merged.
    pub merged: Vec<BlkioEntry>,
    /// Time that the device was the group's.
    pub time: Vec<BlkioEntry>,
    /// Sectors.
    pub sectors: Vec<BlkioEntry>,
    /// Waiting for devices; hybrid and v2.
    pub pressure: Option<Pressure>,
}

/// One block device in short.
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

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Reserved now.
    pub usage: u64,
    /// The most ever: v1.
    pub peak: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Objects of one RDMA device; `u32::MAX` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Handles.
    pub handles: u32,
    /// Objects.
    pub objects: u32,
}

impl Blkio {
    /// What was read and written, by device in the order of the lists.
    pub fn devices(&self) -> Vec<Io> {
        let mut devices: Vec<Io> = Vec::new();
        let bytes = self.service_bytes.iter().map(|entry| (entry, true));
        for (entry, bytes) in bytes.chain(self.serviced.iter().map(|entry| (entry, false))) {
            let known = devices.iter().position(|io| (io.major, io.minor) == (entry.major, entry.minor));
            let at = known.unwrap_or_else(|| {
                devices.push(Io { major: entry.major, minor: entry.minor, ..Io::default() });
                devices.len() - 1
            });
            match (&*entry.op, bytes) {
                ("Read", true) => devices[at].read_bytes = entry.value,
                ("Write", true) => devices[at].write_bytes = entry.value,
                ("Read", false) => devices[at].reads = entry.value,
                ("Write", false) => devices[at].writes = entry.value,
                _ => {}
            }
        }
        devices
    }
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
        Ok(self.text(name)?.trim().parse().unwrap_or(0))
    }

    fn limit(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(file::limit(&self.text(name)?))
    }

    fn pressure(&self, name: &str) -> Result<Option<Pressure>, Error> {
        match self.text(name) {
            Ok(text) => Ok(pressure(&text)),
            // Kernels built with it but started without `psi=1` say so only when it is read.
            Err(Error::Read { source, .. }) if source.errno() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The page sizes of which the group counts something.
    fn huge_page_sizes(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0).into_iter().flatten().flatten();
        let size = |name: String| {
            let (size, file) = name.strip_prefix("hugetlb.")?.split_once('.')?;
            matches!(file, "current" | "usage_in_bytes").then(|| size.to_owned())
        };
        names.filter_map(|entry| size(entry.file_name().into_string().ok()?)).collect()
    }
}

/// Reads the statistics of the group that has each controller in the directory that `place` says.
pub(super) fn read<'a>(place: impl Fn(&str) -> Option<(Version, &'a Path)>) -> Result<Stats, Error> {
    let with = |controller: &str| place(controller).map(|(version, dir)| (version, Files(dir)));
    let cpu = match (with("cpu"), with("cpuacct")) {
        (Some((Version::V2, files)), _) => v2::cpu(&files.text("cpu.stat")?),
        (Some((Version::V1, files)), Some((_, account))) => Some(v1::cpu(&files, &account)?),
        _ => None,
    };
    let memory = match with("memory") {
        Some((Version::V1, files)) => Some(v1::memory(&files)?),
        Some((Version::V2, files)) => v2::memory(&files)?,
        None => None,
    };
    let pids = with("pids").map(|(_, files)| pids(&files)).transpose()?.flatten();
    let blkio = match (with("io"), with("blkio")) {
        (Some((_, files)), _) => v2::blkio(&files.text("io.stat")?),
        (None, Some((_, files))) => v1::blkio(&files)?,
        (None, None) => Blkio::default(),
    };
    let cpuset = match with("cpuset") {
        Some((Version::V1, files)) => Some(v1::cpuset(&files)?),
        _ => None,
    };
    let hugetlb = match with("hugetlb") {
        Some((Version::V1, files)) => v1::huge_pages(&files)?,
        Some((Version::V2, files)) => v2::huge_pages(&files)?,
        None => BTreeMap::new(),
    };
    let rdma = with("rdma").map(|(_, files)| rdma(&files)).transpose()?.unwrap_or_default();
    let mut stats = Stats { cpu, cpuset, memory, pids, blkio, hugetlb, rdma };
    if let Some((_, unified)) = with("cgroup") {
        stats.press(&unified)?;
    }
    Ok(stats)
}

impl Stats {
    /// Fills in the pressures, which every v2 group has, also one without any controller.
    fn press(&mut self, unified: &Files<'_>) -> Result<(), Error> {
        if let Some(cpu) = &mut self.cpu {
            cpu.pressure = unified.pressure("cpu.pressure")?;
        }
        if let Some(memory) = &mut self.memory {
            memory.pressure = unified.pressure("memory.pressure")?;
        }
        self.blkio.pressure = unified.pressure("io.pressure")?;
        Ok(())
    }
}

fn pids(files: &Files<'_>) -> Result<Option<Pids>, Error> {
    let current = files.text("pids.current")?;
    let limit = files.limit("pids.max")?;
    Ok(current.trim().parse().ok().map(|current| Pids { current, limit }))
}

/// The lines of a file of `key value`.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// A device's number, `8:16`.
fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines like `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let waiting = match words.next()? {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let average = value.parse().unwrap_or(0.0);
            match key {
                "avg10" => waiting.avg10 = average,
                "avg60" => waiting.avg60 = average,
                "avg300" => waiting.avg300 = average,
                "total" => waiting.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    (!text.is_empty()).then_some(pressure)
}

/// Lines like `mlx4_0 hca_handle=2 hca_object=max` in one file for what is used and one for the limits.
fn rdma(files: &Files<'_>) -> Result<BTreeMap<String, (Rdma, Rdma)>, Error> {
    let read = |text: &str| -> BTreeMap<String, Rdma> {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let device = words.next()?.to_owned();
            let mut rdma = Rdma::default();
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let value = value.parse().unwrap_or(u32::MAX);
                match key {
                    "hca_handle" => rdma.handles = value,
                    "hca_object" => rdma.objects = value,
                    _ => {}
                }
            }
            Some((device, rdma))
        };
        text.lines().filter_map(line).collect()
    };
    let limits = read(&files.text("rdma.max")?);
    let used = read(&files.text("rdma.current")?);
    // A device that has gone between the two readings is in one of them only.
    let both = |(device, used): (String, Rdma)| Some((device.clone(), (used, *limits.get(&device)?)));
    Ok(used.into_iter().filter_map(both).collect())
}

#[cfg(test)]
mod tests;
