//! Intent → runtime specification, purely. The mounts, masked paths and device rules are those that
//! Docker gives a container (moby, daemon/pkg/oci/defaults.go).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::capabilities::sets;
use crate::oci::runtime::{
    Capability, LinuxBuilder, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemory,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPids, LinuxResources, LinuxResourcesBuilder,
    LinuxSeccomp, Mount, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

/// Everything that is decided about one container before it becomes a specification.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The program and its arguments; never empty.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where the program starts.
    pub cwd: PathBuf,
    /// Who it runs as.
    pub user: User,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Its host name.
    pub hostname: String,
    /// Whether its root filesystem cannot be written.
    pub readonly_rootfs: bool,
    /// Directories and files of the host that it sees.
    pub binds: Vec<Bind>,
    /// What it can reach.
    pub network: Network,
    /// What root in it may do.
    pub capabilities: HashSet<Capability>,
    /// Whether a setuid program gives it nothing.
    pub no_new_privileges: bool,
    /// The system calls it may make; `None` for all.
    pub seccomp: Option<LinuxSeccomp>,
    /// Its cgroup, relative to the hierarchies' roots; an ordinary user may have none.
    pub cgroup: Option<PathBuf>,
    /// Whether an ordinary user makes it, in a user namespace: what the kernel then refuses is left out, and is not
    /// needed.
    pub rootless: bool,
    /// The last group that there is: in a user namespace not all are.
    pub last_group: u32,
    /// Whether its program sees nothing but the binds, as a Wasm program does: it then needs none of the kernel's
    /// filesystems.
    pub blind: bool,
    /// What it may use up.
    pub resources: Resources,
    /// What else the engine is told, such as the grants of a Wasm program.
    pub annotations: HashMap<String, String>,
}

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
}

/// The period in which processor time is given out, in microseconds: the kernel's default, and Docker's.
const CPU_PERIOD: u64 = 100_000;

/// A user by numbers, with the groups beside the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// A part of the host's filesystem, seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What, on the host.
    pub source: PathBuf,
    /// Where, in the container.
    pub destination: PathBuf,
    /// Whether it cannot be written.
    pub readonly: bool,
}

/// What a container can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own loopback interface.
    None,
    /// All that the host reaches.
    Host,
}

/// Paths of `/proc` and `/sys` that tell or do too much (moby, defaults.go; CVE-2025-31133 is about how
/// they are masked).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of `/proc` that may be read and not written.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The version of the runtime specification that is written.
const OCI_VERSION: &str = "1.2.0";

/// The specification of the container that `intent` means.
pub fn spec(intent: &Intent) -> Spec {
    let root = RootBuilder::default().path("rootfs").readonly(intent.readonly_rootfs).build().expect("complete");
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(intent.network))
        .resources(resources(&intent.resources))
        .masked_paths(hidden(intent, &MASKED))
        .readonly_paths(hidden(intent, &READONLY))
        .sysctl(sysctls(intent));
    let linux = match &intent.seccomp {
        Some(seccomp) => linux.seccomp(seccomp.clone()),
        None => linux,
    };
    let linux = match &intent.cgroup {
        Some(path) => linux.cgroups_path(path.clone()),
        None => linux,
    };
    let mut spec = SpecBuilder::default()
        .version(OCI_VERSION)
        .root(root)
        .process(process(intent))
        .hostname(intent.hostname.clone())
        .mounts(mounts(intent))
        .linux(linux.build().expect("complete"))
        .build()
        .expect("complete");
    spec.set_annotations((!intent.annotations.is_empty()).then(|| intent.annotations.clone()));
    spec
}

fn process(intent: &Intent) -> crate::oci::runtime::Process {
    let User { uid, gid, groups } = &intent.user;
    let user = UserBuilder::default().uid(*uid).gid(*gid).additional_gids(groups.clone()).build().expect("complete");
    let mut process = ProcessBuilder::default()
        .terminal(intent.terminal)
        .user(user)
        .args(intent.args.clone())
        .env(intent.env.clone())
        .cwd(intent.cwd.clone())
        .capabilities(sets(&intent.capabilities))
        .no_new_privileges(intent.no_new_privileges)
        .build()
        .expect("complete");
    process.set_rlimits(None).set_oom_score_adj(Some(0));
    process
}

fn namespaces(network: Network) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, Uts};
    let wanted = [Mount, Uts, Ipc, Pid, Cgroup].into_iter().chain((network == Network::None).then_some(Net));
    wanted.map(|typ| LinuxNamespaceBuilder::default().typ(typ).build().expect("complete")).collect()
}

fn resources(given: &Resources) -> LinuxResources {
    let mut resources = LinuxResourcesBuilder::default().devices(device_rules()).build().expect("complete");
    if given.memory.or(given.memory_swap).or(given.memory_reservation).is_some() {
        let mut memory = LinuxMemory::default();
        memory.set_limit(given.memory).set_swap(given.memory_swap).set_reservation(given.memory_reservation);
        resources.set_memory(Some(memory));
    }
    if given.nano_cpus.is_some() || given.cpu_shares.is_some() || given.cpuset_cpus.is_some() {
        let quota = given.nano_cpus.map(|nano| nano / (1_000_000_000 / CPU_PERIOD as i64));
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(quota).set_period(quota.map(|_| CPU_PERIOD));
        cpu.set_shares(given.cpu_shares).set_cpus(given.cpuset_cpus.clone());
        resources.set_cpu(Some(cpu));
    }
    if let Some(limit) = given.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    resources
}

/// What is to be kept from a program that could see it.
fn hidden(intent: &Intent, paths: &[&str]) -> Vec<String> {
    if intent.blind { Vec::new() } else { paths.iter().map(|&path| path.to_owned()).collect() }
}

/// Docker lets an unprivileged program ping and bind low ports, in a network namespace of its own.
fn sysctls(intent: &Intent) -> HashMap<String, String> {
    let ping = format!("0 {}", intent.last_group);
    let own = [("net.ipv4.ping_group_range", ping), ("net.ipv4.ip_unprivileged_port_start", "0".to_owned())];
    match intent.network {
        Network::None if !intent.blind => own.map(|(key, value)| (key.to_owned(), value)).into(),
        _ => HashMap::new(),
    }
}

fn mounts(intent: &Intent) -> Vec<Mount> {
    const HARD: [&str; 3] = ["nosuid", "noexec", "nodev"];
    /// tty, in every distribution.
    const TTY: u32 = 5;
    let devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let devpts = if intent.last_group < TTY { &devpts[..5] } else { &devpts[..] };
    // sysfs belongs to the owner of the network namespace, who on the host's network is not that user.
    let foreign_sysfs = intent.rootless && intent.network == Network::Host;
    // Of the host's, all that is mounted below it has to be read-only as well (CVE-2023-25809).
    let (sysfs, source, readonly): (_, _, &[&str]) =
        if foreign_sysfs { ("bind", "/sys", &["rbind", "rro"]) } else { ("sysfs", "sysfs", &["ro"]) };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &HARD),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", devpts),
        mount("/dev/shm", "tmpfs", "shm", &[&HARD[..], &["mode=1777", "size=65536k"]].concat()),
        mount("/dev/mqueue", "mqueue", "mqueue", &HARD),
        mount("/sys", sysfs, source, &[&HARD[..], readonly].concat()),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[&HARD[..], &["ro"]].concat()),
    ];
    if intent.blind {
        // Its terminal is made in /dev/pts, and nothing of it seen.
        let needed: &[&str] = if intent.terminal { &["/dev/pts"] } else { &[] };
        mounts.retain(|mount| needed.iter().any(|path| mount.destination() == std::path::Path::new(path)));
    }
    if intent.cgroup.is_none() {
        // There is none of its own to look at, and the host's is not its business (CVE-2023-25809).
        mounts.retain(|mount| mount.destination() != std::path::Path::new("/sys/fs/cgroup"));
    }
    mounts.extend(intent.binds.iter().map(bind));
    mounts
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
    let builder = MountBuilder::default().destination(destination).typ(typ).source(source).options(options);
    builder.build().expect("complete")
}

fn bind(bind: &Bind) -> Mount {
    // Recursive, so that nothing below can be written; and what the host forbids of its mount is forbidden inside.
    let readonly = bind.readonly.then_some("rro");
    let options = ["rbind", "rprivate"].into_iter().chain(readonly).map(str::to_owned).collect::<Vec<_>>();
    let builder = MountBuilder::default().destination(&*bind.destination).typ("bind").source(&*bind.source);
    builder.options(options).build().expect("complete")
}

/// Docker's device rules: nothing but making nodes, and the harmless devices.
fn device_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |allow: bool, typ: LinuxDeviceType, node: (Option<i64>, Option<i64>), access: &str| {
        let builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ).access(access);
        let mut rule = builder.build().expect("complete");
        rule.set_major(node.0).set_minor(node.1);
        rule
    };
    let characters = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, (None, None), "rwm"),
        rule(true, LinuxDeviceType::C, (None, None), "m"),
        rule(true, LinuxDeviceType::B, (None, None), "m"),
        rule(true, LinuxDeviceType::C, (Some(136), None), "rwm"),
    ];
    rules.extend(characters.map(|(major, minor)| rule(true, LinuxDeviceType::C, (Some(major), Some(minor)), "rwm")));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(network: Network) -> Intent {
        Intent {
            args: vec!["true".into()],
            env: vec![],
            cwd: "/".into(),
            user: User::default(),
            terminal: false,
            hostname: "h".into(),
            readonly_rootfs: false,
            binds: vec![Bind { source: "/a".into(), destination: "/b".into(), readonly: true }],
            network,
            capabilities: super::super::DEFAULT_CAPABILITIES.into(),
            no_new_privileges: false,
            seccomp: None,
            cgroup: Some("/wherry/x".into()),
            rootless: false,
            last_group: i32::MAX as u32,
            blind: false,
            resources: Resources::default(),
            annotations: HashMap::new(),
        }
    }

    #[test]
    fn a_container_without_network_has_a_network_namespace_of_its_own() {
        let has_net = |network| {
            let spec = spec(&intent(network));
            let linux = spec.linux().as_ref().unwrap();
            linux.namespaces().as_ref().unwrap().iter().any(|n| n.typ() == LinuxNamespaceType::Network)
        };
        assert!(has_net(Network::None));
        assert!(!has_net(Network::Host));
    }

    /// The options of a mount, if there is such a mount.
    fn options(spec: &Spec, destination: &str) -> Option<Vec<String>> {
        let mount =
            spec.mounts().iter().flatten().find(|mount| mount.destination() == std::path::Path::new(destination))?;
        mount.options().clone()
    }

    #[test]
    fn an_ordinary_users_container_names_no_group_that_is_not_there() {
        let of = |last_group| spec(&Intent { rootless: true, last_group, cgroup: None, ..intent(Network::None) });
        let ping = |spec: &Spec| {
            spec.linux().as_ref().unwrap().sysctl().as_ref().unwrap()["net.ipv4.ping_group_range"].clone()
        };
        let terminals = |spec: &Spec| options(spec, "/dev/pts").unwrap().contains(&"gid=5".to_owned());
        let (alone, some) = (of(0), of(65536));
        assert_eq!((ping(&alone).as_str(), ping(&some).as_str()), ("0 0", "0 65536"));
        assert_eq!((terminals(&alone), terminals(&some)), (false, true));
    }

    #[test]
    fn cgroups_are_seen_where_there_is_one_and_never_written() {
        let of = |cgroup: Option<&str>| {
            let spec = spec(&Intent { rootless: true, cgroup: cgroup.map(Into::into), ..intent(Network::Host) });
            options(&spec, "/sys/fs/cgroup").map(|options| options.contains(&"ro".to_owned()))
        };
        assert_eq!((of(None), of(Some("/u/x"))), (None, Some(true)));
    }

    #[test]
    fn the_specification_survives_being_written_and_read() {
        let directory = tempfile::tempdir().unwrap();
        let written = spec(&intent(Network::None));
        crate::bundle::Bundle::write(directory.path(), written.clone()).unwrap();
        assert_eq!(*crate::bundle::Bundle::read(directory.path()).unwrap().spec(), written);
    }

    #[test]
    fn what_is_written_can_be_meant() {
        for network in [Network::None, Network::Host] {
            crate::bundle::validate(&spec(&intent(network)), &crate::bundle::Facts::default()).unwrap();
        }
    }

    #[test]
    fn limits_are_in_the_kernels_units() {
        let given = Resources {
            memory: Some(64 << 20),
            nano_cpus: Some(1_500_000_000),
            pids: Some(-1),
            ..Resources::default()
        };
        let spec = spec(&Intent { resources: given, ..intent(Network::None) });
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        let cpu = resources.cpu().clone().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(resources.memory().unwrap().limit(), Some(64 << 20));
        assert_eq!(resources.pids().unwrap().limit(), -1);
        let none = super::spec(&intent(Network::None));
        let none = none.linux().as_ref().unwrap().resources().clone().unwrap();
        assert!(none.memory().is_none() && none.cpu().is_none() && none.pids().is_none());
    }

    #[test]
    fn nothing_is_inheritable_or_ambient() {
        let spec = spec(&intent(Network::None));
        let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert!(sets.inheritable().as_ref().unwrap().is_empty() && sets.ambient().as_ref().unwrap().is_empty());
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 14);
    }
}
