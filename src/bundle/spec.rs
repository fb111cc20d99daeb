//! Intent → runtime specification, purely. The mounts, masked paths and device rules are those that
//! Docker gives a container (moby, daemon/pkg/oci/defaults.go).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::capabilities::sets;
use super::device::{self, Device, Rule};
use super::mounts::{self, Bind, Tmpfs};
use super::resources::{self, Resources};
use crate::oci::runtime::{
    Capability, LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxSeccomp, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

/// Everything that is decided about one container before it becomes a specification.
#[derive(Clone, Debug, Default)]
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
    /// Its host name; empty where that is the host's.
    pub hostname: String,
    /// The domain that it is in, if it is told.
    pub domainname: String,
    /// Whether its root filesystem cannot be written.
    pub readonly_rootfs: bool,
    /// Directories and files of the host that it sees.
    pub binds: Vec<Bind>,
    /// Filesystems in memory that it has besides the usual ones.
    pub tmpfs: Vec<Tmpfs>,
    /// The most bytes in its `/dev/shm`; `None` for no such place.
    pub shm_size: Option<u64>,
    /// Whose namespaces it is in.
    pub namespaces: Namespaces,
    /// Whether it may do to the host what root may: all devices, a writable `/sys`, nothing masked.
    pub privileged: bool,
    /// Whether what of `/proc` and `/sys` tells or does too much is kept from it.
    pub masked: bool,
    /// Devices of the host that it may use, with what has to be made of them in its `/dev`.
    pub devices: Vec<Device>,
    /// Further rules for devices.
    pub device_rules: Vec<Rule>,
    /// Limits of its processes, by the names of getrlimit(2) without `RLIMIT_`, in lower case.
    pub rlimits: Vec<Rlimit>,
    /// Parameters of the kernel in its namespaces.
    pub sysctls: HashMap<String, String>,
    /// How soon the kernel ends it for want of memory.
    pub oom_score_adj: i32,
    /// The AppArmor profile that it runs under.
    pub apparmor: Option<String>,
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

/// Whose namespace of one kind a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// One of its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// That of this file, another container's.
    Of(PathBuf),
}

/// The namespaces that can be chosen; mounts are always a container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// What it can reach: its own loopback interface, all that the host reaches, or what another container does.
    pub network: Namespace,
    /// Which processes it sees.
    pub pid: Namespace,
    /// With whom it shares memory and queues.
    pub ipc: Namespace,
    /// Whose names it has.
    pub uts: Namespace,
    /// From where it sees the cgroups.
    pub cgroup: Namespace,
}

/// A limit of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub kind: PosixRlimitType,
    /// What counts.
    pub soft: u64,
    /// Up to what a process may raise it.
    pub hard: u64,
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
        .namespaces(namespaces(&intent.namespaces))
        .resources(resources::of(&intent.resources, device::rules(intent)))
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
    let devices = device::nodes(intent);
    let linux = if devices.is_empty() { linux } else { linux.devices(devices) };
    let mut spec = SpecBuilder::default()
        .version(OCI_VERSION)
        .root(root)
        .process(process(intent))
        .mounts(mounts::of(intent))
        .linux(linux.build().expect("complete"))
        .build()
        .expect("complete");
    let told = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
    spec.set_hostname(told(&intent.hostname)).set_domainname(told(&intent.domainname));
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
    let rlimits: Vec<PosixRlimit> = intent.rlimits.iter().map(rlimit).collect();
    process.set_rlimits((!rlimits.is_empty()).then_some(rlimits)).set_oom_score_adj(Some(intent.oom_score_adj));
    process.set_apparmor_profile(intent.apparmor.clone());
    process
}

fn rlimit(limit: &Rlimit) -> PosixRlimit {
    let builder = PosixRlimitBuilder::default().typ(limit.kind).soft(limit.soft).hard(limit.hard);
    builder.build().expect("complete")
}

fn namespaces(of: &Namespaces) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let kinds =
        [(Uts, &of.uts), (Ipc, &of.ipc), (Pid, &of.pid), (Cgroup, &of.cgroup), (Network, &of.network)].into_iter();
    let one = |(kind, whose): (LinuxNamespaceType, &Namespace)| {
        let builder = LinuxNamespaceBuilder::default().typ(kind);
        match whose {
            Namespace::Host => None,
            Namespace::Own => Some(builder.build().expect("complete")),
            Namespace::Of(path) => Some(builder.path(path.clone()).build().expect("complete")),
        }
    };
    [(Mount, &Namespace::Own)].into_iter().chain(kinds).filter_map(one).collect()
}

/// What is to be kept from a program that could see it.
fn hidden(intent: &Intent, paths: &[&str]) -> Vec<String> {
    if intent.blind || !intent.masked { Vec::new() } else { paths.iter().map(|&path| path.to_owned()).collect() }
}

/// Docker lets an unprivileged program ping and bind low ports, in a network namespace of its own. What was asked for
/// wins.
fn sysctls(intent: &Intent) -> HashMap<String, String> {
    let ping = format!("0 {}", intent.last_group);
    let own = [("net.ipv4.ping_group_range", ping), ("net.ipv4.ip_unprivileged_port_start", "0".to_owned())];
    let mut all: HashMap<_, _> = match intent.namespaces.network {
        Namespace::Own if !intent.blind => own.map(|(key, value)| (key.to_owned(), value)).into(),
        _ => HashMap::new(),
    };
    all.extend(intent.sysctls.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(network: Namespace) -> Intent {
        Intent {
            args: vec!["true".into()],
            cwd: "/".into(),
            hostname: "h".into(),
            binds: vec![Bind { source: "/a".into(), destination: "/b".into(), readonly: true }],
            tmpfs: vec![Tmpfs { destination: "/t".into(), options: vec!["size=1m".into()] }],
            shm_size: Some(64 << 20),
            namespaces: Namespaces { network, ..Namespaces::default() },
            masked: true,
            capabilities: super::super::DEFAULT_CAPABILITIES.into(),
            cgroup: Some("/wherry/x".into()),
            last_group: i32::MAX as u32,
            ..Intent::default()
        }
    }

    #[test]
    fn a_container_without_network_has_a_network_namespace_of_its_own() {
        let has_net = |network| {
            let spec = spec(&intent(network));
            let linux = spec.linux().as_ref().unwrap();
            linux.namespaces().as_ref().unwrap().iter().any(|n| n.typ() == LinuxNamespaceType::Network)
        };
        assert!(has_net(Namespace::Own));
        assert!(!has_net(Namespace::Host));
    }

    /// The options of a mount, if there is such a mount.
    fn options(spec: &Spec, destination: &str) -> Option<Vec<String>> {
        let mount =
            spec.mounts().iter().flatten().find(|mount| mount.destination() == std::path::Path::new(destination))?;
        mount.options().clone()
    }

    #[test]
    fn an_ordinary_users_container_names_no_group_that_is_not_there() {
        let of = |last_group| spec(&Intent { rootless: true, last_group, cgroup: None, ..intent(Namespace::Own) });
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
            let spec = spec(&Intent { rootless: true, cgroup: cgroup.map(Into::into), ..intent(Namespace::Host) });
            options(&spec, "/sys/fs/cgroup").map(|options| options.contains(&"ro".to_owned()))
        };
        assert_eq!((of(None), of(Some("/u/x"))), (None, Some(true)));
    }

    #[test]
    fn the_specification_survives_being_written_and_read() {
        let directory = tempfile::tempdir().unwrap();
        let written = spec(&intent(Namespace::Own));
        crate::bundle::Bundle::write(directory.path(), written.clone()).unwrap();
        assert_eq!(*crate::bundle::Bundle::read(directory.path()).unwrap().spec(), written);
    }

    #[test]
    fn what_is_written_can_be_meant() {
        for network in [Namespace::Own, Namespace::Host] {
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
        let spec = spec(&Intent { resources: given, ..intent(Namespace::Own) });
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        let cpu = resources.cpu().clone().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(resources.memory().unwrap().limit(), Some(64 << 20));
        assert_eq!(resources.pids().unwrap().limit(), -1);
        let none = super::spec(&intent(Namespace::Own));
        let none = none.linux().as_ref().unwrap().resources().clone().unwrap();
        assert!(none.memory().is_none() && none.cpu().is_none() && none.pids().is_none());
    }

    #[test]
    fn a_privileged_container_has_what_the_host_has() {
        let spec = spec(&Intent { privileged: true, masked: false, ..intent(Namespace::Own) });
        let linux = spec.linux().as_ref().unwrap();
        assert!(
            linux.masked_paths().as_ref().unwrap().is_empty() && linux.readonly_paths().as_ref().unwrap().is_empty()
        );
        let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
        assert!(rules.len() == 1 && rules[0].allow());
        assert!(options(&spec, "/sys").unwrap().contains(&"rw".to_owned()));
    }

    #[test]
    fn what_was_asked_for_of_a_mount_comes_last_and_wins() {
        let options = options(&spec(&intent(Namespace::Own)), "/t").unwrap();
        assert_eq!(options, ["nosuid", "noexec", "nodev", "size=1m"]);
    }

    #[test]
    fn namespaces_are_the_hosts_anothers_or_new() {
        let namespaces = Namespaces {
            pid: Namespace::Of("/proc/7/ns/pid".into()),
            uts: Namespace::Host,
            ipc: Namespace::Host,
            ..Namespaces::default()
        };
        let spec = spec(&Intent { namespaces, hostname: String::new(), ..intent(Namespace::Own) });
        let linux = spec.linux().as_ref().unwrap();
        let found = linux.namespaces().clone().unwrap();
        let path = |kind| found.iter().find(|n| n.typ() == kind).map(|n| n.path().clone());
        assert_eq!(path(LinuxNamespaceType::Pid), Some(Some("/proc/7/ns/pid".into())));
        assert_eq!((path(LinuxNamespaceType::Uts), path(LinuxNamespaceType::Ipc)), (None, None));
        assert_eq!(path(LinuxNamespaceType::Cgroup), Some(None));
        assert!(options(&spec, "/dev/shm").unwrap().contains(&"rbind".to_owned()));
    }

    #[test]
    fn nothing_is_inheritable_or_ambient() {
        let spec = spec(&intent(Namespace::Own));
        let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert!(sets.inheritable().as_ref().unwrap().is_empty() && sets.ambient().as_ref().unwrap().is_empty());
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 14);
    }
}
