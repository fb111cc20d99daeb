//! What a container may use up → the resources of the runtime specification.

use crate::oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources, LinuxResourcesBuilder,
    LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

/// What a container may use up, in the words of Docker's `HostConfig`; nothing is limited by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The most memory, in bytes.
    pub memory: Option<i64>,
    /// The most memory and swap together; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// Memory that it is pushed back to when there is little.
    pub memory_reservation: Option<i64>,
    /// Processors, in billionths.
    pub nano_cpus: Option<i64>,
    /// Its weight among others that want the processor.
    pub cpu_shares: Option<u64>,
    /// The processors that it may run on.
    pub cpuset_cpus: Option<String>,
    /// The most processes and threads; -1 for no limit.
    pub pids: Option<i64>,
    /// The period in which processor time is given out, in microseconds.
    pub cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds.
    pub cpu_quota: Option<i64>,
    /// The memory nodes that it may use.
    pub cpuset_mems: Option<String>,
    /// Whether it waits instead of being killed when there is no more memory for it.
    pub oom_kill_disable: bool,
    /// How readily its memory is swapped out, from 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// Its weight among others that want the disk.
    pub blkio_weight: Option<u16>,
    /// The same of single devices.
    pub blkio_weights: Vec<OfDevice>,
    /// The most bytes a second that are read from devices.
    pub read_bps: Vec<OfDevice>,
    /// The most bytes a second that are written to devices.
    pub write_bps: Vec<OfDevice>,
    /// The most reads a second from devices.
    pub read_iops: Vec<OfDevice>,
    /// The most writes a second to devices.
    pub write_iops: Vec<OfDevice>,
}

/// A number for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfDevice {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes or operations a second, or a weight.
    pub rate: u64,
}

/// The period in which processor time is given out, in microseconds: the kernel's default, and Docker's.
const CPU_PERIOD: u64 = 100_000;

/// The resources of a specification, with these rules for devices.
pub(super) fn of(given: &Resources, devices: Vec<LinuxDeviceCgroup>) -> LinuxResources {
    let mut resources = LinuxResourcesBuilder::default().devices(devices).build().expect("complete");
    resources.set_memory(memory(given)).set_cpu(cpu(given)).set_block_io(block_io(given));
    resources.set_pids(given.pids.map(|limit| *LinuxPids::default().set_limit(limit)));
    resources
}

/// The limits alone, as they are given to a group that lives: its rules for devices stay.
pub fn limits(given: &Resources) -> LinuxResources {
    let mut resources = of(given, Vec::new());
    resources.set_devices(None);
    resources
}

fn memory(given: &Resources) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory.set_limit(given.memory).set_swap(given.memory_swap).set_reservation(given.memory_reservation);
    memory.set_swappiness(given.memory_swappiness).set_disable_oom_killer(given.oom_kill_disable.then_some(true));
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(given: &Resources) -> Option<LinuxCpu> {
    let of_nano = given.nano_cpus.map(|nano| nano / (1_000_000_000 / CPU_PERIOD as i64));
    let mut cpu = LinuxCpu::default();
    cpu.set_quota(of_nano.or(given.cpu_quota)).set_period(of_nano.map(|_| CPU_PERIOD).or(given.cpu_period));
    cpu.set_shares(given.cpu_shares).set_cpus(given.cpuset_cpus.clone()).set_mems(given.cpuset_mems.clone());
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn block_io(given: &Resources) -> Option<LinuxBlockIo> {
    let throttled = |limits: &[OfDevice]| {
        let one = |limit: &OfDevice| {
            let device = LinuxThrottleDeviceBuilder::default().major(limit.major).minor(limit.minor);
            device.rate(limit.rate).build().expect("complete")
        };
        (!limits.is_empty()).then(|| limits.iter().map(one).collect())
    };
    let weighted = |limits: &[OfDevice]| {
        let one = |limit: &OfDevice| {
            let device = LinuxWeightDeviceBuilder::default().major(limit.major).minor(limit.minor);
            device.weight(u16::try_from(limit.rate).unwrap_or(u16::MAX)).build().expect("complete")
        };
        (!limits.is_empty()).then(|| limits.iter().map(one).collect())
    };
    let mut io = LinuxBlockIo::default();
    io.set_weight(given.blkio_weight).set_weight_device(weighted(&given.blkio_weights));
    io.set_throttle_read_bps_device(throttled(&given.read_bps));
    io.set_throttle_write_bps_device(throttled(&given.write_bps));
    io.set_throttle_read_iops_device(throttled(&given.read_iops));
    io.set_throttle_write_iops_device(throttled(&given.write_iops));
    (io != LinuxBlockIo::default()).then_some(io)
}
