//! What the host gives to a container: Docker's `HostConfig`, as it is stored and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the host gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `none`, `host` or `container:ID`; empty until it is decided at create.
    pub network_mode: String,
    /// `source:destination[:ro]`.
    pub binds: Vec<String>,
    /// Whether it goes away with its end.
    pub auto_remove: bool,
    /// Whether its root filesystem cannot be written.
    pub readonly_rootfs: bool,
    /// Capabilities beyond the default.
    pub cap_add: Vec<String>,
    /// Capabilities of the default that it does not have.
    pub cap_drop: Vec<String>,
    /// As Docker's command line sends them: `no-new-privileges`, `seccomp=unconfined` or the profile itself.
    pub security_opt: Vec<String>,
    /// Whether it may do to the host what root may.
    pub privileged: bool,
    /// Groups that its user is in besides, as typed.
    pub group_add: Vec<String>,
    /// Whose processes it sees: its own, or `host`, or `container:ID`.
    pub pid_mode: String,
    /// With whom it shares memory: `private`, `none` or `host`.
    pub ipc_mode: String,
    /// Whose host name it has: its own, or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// From where it sees the cgroups: `private` or `host`.
    pub cgroupns_mode: String,
    /// `host`, or empty, which means the same.
    pub userns_mode: String,
    /// The most bytes in `/dev/shm`; 0 for Docker's 64 MiB.
    pub shm_size: u64,
    /// Filesystems in memory, with their options.
    pub tmpfs: BTreeMap<String, String>,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Parameters of the kernel in its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// How soon the kernel ends it for want of memory.
    pub oom_score_adj: i32,
    /// Whether it waits instead of being ended.
    pub oom_kill_disable: bool,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Further rules for devices, as `c 13:* rw`.
    pub device_cgroup_rules: Vec<String>,
    /// Resolvers.
    pub dns: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// Domains in which names are looked for; `.` for none.
    pub dns_search: Vec<String>,
    /// Further lines of `/etc/hosts`, as `name:address`.
    pub extra_hosts: Vec<String>,
    /// The most memory, in bytes; 0 for no limit.
    pub memory: i64,
    /// The most memory and swap together, in bytes; 0 for no limit, -1 for no limit on swap.
    pub memory_swap: i64,
    /// Memory that it is pushed back to when there is little.
    pub memory_reservation: i64,
    /// Processors, in billionths; 0 for no limit.
    pub nano_cpus: i64,
    /// Its weight among others that want the processor; 0 for the usual.
    pub cpu_shares: u64,
    /// The processors that it may run on; empty for all.
    pub cpuset_cpus: String,
    /// The most processes and threads; 0 for no limit.
    pub pids_limit: i64,
    /// The memory nodes that it may use; empty for all.
    pub cpuset_mems: String,
    /// The period in which processor time is given out, in microseconds; 0 for the usual.
    pub cpu_period: u64,
    /// Processor time in each period, in microseconds; 0 for no limit.
    pub cpu_quota: i64,
    /// How readily its memory is swapped out, from 0 to 100; -1 or nothing for the usual.
    pub memory_swappiness: Option<i64>,
    /// Its weight among others that want the disk; 0 for the usual.
    pub blkio_weight: u16,
    /// The same of single devices.
    pub blkio_weight_device: Vec<WeightDevice>,
    /// The most bytes a second that are read from devices.
    pub blkio_device_read_bps: Vec<ThrottleDevice>,
    /// The most bytes a second that are written to devices.
    pub blkio_device_write_bps: Vec<ThrottleDevice>,
    /// The most reads a second from devices.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Vec<ThrottleDevice>,
    /// The most writes a second to devices.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Vec<ThrottleDevice>,
    /// The file that its id was written into.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// What of the host leads to which port.
    pub port_bindings: super::Ports,
    /// Whether something does to every port.
    pub publish_all_ports: bool,
    /// What the engine is told in the runtime specification: the grants of a Wasm program are among it.
    pub annotations: BTreeMap<String, String>,
}

/// A limit of processes, as Docker has it: -1 for no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// Its name in getrlimit(2), without `RLIMIT_`, in lower case.
    pub name: String,
    /// Up to what a process may raise it.
    pub hard: i64,
    /// What counts.
    pub soft: i64,
}

/// A device of the host, or a directory of them, and where it is in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceMapping {
    /// Where, on the host.
    pub path_on_host: String,
    /// Where, in the container.
    pub path_in_container: String,
    /// What may be done: some of `rwm`.
    pub cgroup_permissions: String,
}

/// A weight for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WeightDevice {
    /// The device.
    pub path: String,
    /// From 10 to 1000.
    pub weight: u16,
}

/// A limit for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// The device.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}
