//! From what was asked for to what a bundle is made of.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::security::{Seccomp, Security};
use super::{Config, Error, HostConfig, Places, Record, Status, Store, device, io, publish};
use crate::bundle::{self, Bind, Intent, Namespace, Namespaces, Resources, Rlimit, Tmpfs, capabilities};
use crate::cgroup::{self, Hierarchies};
use crate::engine::Engine;
use crate::engine::linux::{user, wall};
use crate::engine::wasm::grant;
use crate::oci::CAPABILITIES;

/// The PATH of a program whose image names none, as Docker has it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes in `/dev/shm` when nobody says otherwise, as Docker has it.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// What a container's specification is made of, recorded or not.
pub(super) struct Asked<'a> {
    pub config: &'a Config,
    pub host_config: &'a HostConfig,
    pub engine: Engine,
    pub namespaces: Namespaces,
}

impl<'a> Asked<'a> {
    pub(super) fn of(record: &'a Record, namespaces: Namespaces) -> Self {
        Self { config: &record.config, host_config: &record.host_config, engine: record.engine, namespaces }
    }
}

impl Store {
    /// Whose namespaces a container is in, now that it starts. Those of another container are found by its process.
    pub(super) fn namespaces(&self, record: &Record) -> Result<Namespaces, Error> {
        let of = |mode: &str, kind: &str| match mode {
            "host" => Ok(Namespace::Host),
            mode => match mode.strip_prefix("container:") {
                Some(name) => self.namespace_of(name, kind).map(Namespace::Of),
                None => Ok(Namespace::Own),
            },
        };
        let given = &record.host_config;
        Ok(Namespaces {
            network: of(&given.network_mode, "net")?,
            pid: of(&given.pid_mode, "pid")?,
            ipc: of(&given.ipc_mode, "ipc")?,
            uts: of(&given.uts_mode, "uts")?,
            cgroup: of(&given.cgroupns_mode, "cgroup")?,
        })
    }

    fn namespace_of(&self, name: &str, kind: &str) -> Result<PathBuf, Error> {
        let other = self.find(name)?;
        match &other.status {
            Status::Running { process, .. } => Ok(format!("/proc/{}/ns/{kind}", process.pid).into()),
            _ => Err(Error::JoinNotRunning { name: other.record.id }),
        }
    }
}

impl Places {
    /// What is meant by what was asked for, with `files` of ours, in the root filesystem `root` if there is one; without
    /// a cgroup.
    pub(super) fn intent(
        &self,
        asked: &Asked<'_>,
        files: Vec<Bind>,
        root: Option<BorrowedFd<'_>>,
    ) -> Result<Intent, Error> {
        let Asked { config, host_config, engine, namespaces } = asked;
        let wasm = *engine == Engine::Wasm;
        let mut who = user::resolve(root, &config.user)?;
        who.user.groups.extend(user::groups(root, &host_config.group_add)?);
        let last_group = match &self.ids {
            None => user::MAX_ID,
            Some(ids) => user::check_mapped(&who.user, ids).map(|()| (ids.groups - 1).min(user::MAX_ID))?,
        };
        let mut binds: Vec<Bind> = host_config.binds.iter().map(|b| parse_bind(b)).collect();
        if wasm {
            check_grants(&binds)?;
        }
        // What the user has put in the place of one of our files is what they want there.
        let free = |file: &Bind| !binds.iter().any(|bind| bind.destination == file.destination);
        let files: Vec<Bind> = files.into_iter().filter(free).collect();
        binds.extend(files);
        let privileged = host_config.privileged;
        let capabilities = match privileged {
            true => CAPABILITIES.into(),
            false => capabilities(&host_config.cap_add, &host_config.cap_drop)?,
        };
        let security = Security::parse(&host_config.security_opt)?;
        let seccomp = match (security.seccomp, wasm) {
            (Seccomp::Unconfined, _) => None,
            (Seccomp::Default, true) => wall::written(),
            (Seccomp::Default, false) if privileged => None,
            (Seccomp::Default, false) => {
                bundle::seccomp::native().map(|arch| bundle::seccomp::default_profile(&capabilities, arch))
            }
            (Seccomp::Profile(text), _) => Some(bundle::profile::read(&text, &capabilities)?),
        };
        let resources = resources(host_config, *engine)?;
        Ok(Intent {
            args: config.command(),
            env: environment(config, *engine, config.tty, Some(&who.home)),
            cwd: PathBuf::from(if config.working_dir.is_empty() { "/" } else { &config.working_dir }),
            user: who.user,
            terminal: config.tty,
            hostname: own_name(&config.hostname, namespaces),
            domainname: own_name(&config.domainname, namespaces),
            readonly_rootfs: host_config.readonly_rootfs,
            binds,
            tmpfs: host_config.tmpfs.iter().map(tmpfs).collect(),
            shm_size: (host_config.ipc_mode != "none").then_some(match host_config.shm_size {
                0 => DEFAULT_SHM_SIZE,
                size => size,
            }),
            namespaces: namespaces.clone(),
            privileged,
            masked: !privileged && !security.unmasked,
            devices: device::find(host_config, self.ids.is_some())?,
            device_rules: host_config.device_cgroup_rules.iter().map(|r| device::rule(r)).collect::<Result<_, _>>()?,
            rlimits: host_config.ulimits.iter().map(rlimit).collect::<Result<_, _>>()?,
            sysctls: host_config.sysctls.clone().into_iter().collect(),
            oom_score_adj: host_config.oom_score_adj,
            apparmor: security.apparmor,
            no_new_privileges: wasm || security.no_new_privileges,
            seccomp,
            // A Wasm program makes no system calls of its own; its engine needs no privilege.
            capabilities: if wasm { Default::default() } else { capabilities },
            cgroup: None,
            rootless: self.ids.is_some(),
            last_group,
            blind: wasm,
            resources,
            annotations: annotations(asked),
        })
    }

    /// Where the container's cgroup is to be. An ordinary user has one where groups are delegated to them.
    pub(super) fn cgroup(&self, id: &str) -> Result<Option<PathBuf>, Error> {
        if self.ids.is_none() {
            return Ok(Some(Path::new("/wherry").join(id)));
        }
        match Hierarchies::detect() {
            Ok(hierarchies) => Ok(cgroup::delegated(hierarchies, &format!("wherry-{id}"))?),
            Err(cgroup::Error::NotMounted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A name that can be told where it is not the host's or another container's.
fn own_name(name: &str, namespaces: &Namespaces) -> String {
    if namespaces.uts == Namespace::Own { name.to_owned() } else { String::new() }
}

fn tmpfs((destination, options): (&String, &String)) -> Tmpfs {
    Tmpfs { destination: destination.into(), options: options.split(',').map(str::to_owned).collect() }
}

fn rlimit(limit: &super::Ulimit) -> Result<Rlimit, Error> {
    let kind = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    let kind = kind.parse().map_err(|_| Error::Ulimit { name: limit.name.clone() })?;
    // -1 is no limit, which is the largest number.
    Ok(Rlimit { kind, soft: limit.soft.cast_unsigned(), hard: limit.hard.cast_unsigned() })
}

/// The limits that were given. A Wasm program has no processes to count: its process may only make the engine's threads.
pub(super) fn resources(given: &HostConfig, engine: Engine) -> Result<Resources, Error> {
    let some = |value: i64| (value != 0).then_some(value);
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let throttled = |limits: &[super::ThrottleDevice]| {
        limits.iter().map(|limit| device::limit(&limit.path, limit.rate)).collect::<Result<Vec<_>, _>>()
    };
    let weighted = |limits: &[super::WeightDevice]| {
        limits.iter().map(|limit| device::limit(&limit.path, limit.weight.into())).collect::<Result<Vec<_>, _>>()
    };
    Ok(Resources {
        memory: some(given.memory),
        memory_swap: some(given.memory_swap),
        memory_reservation: some(given.memory_reservation),
        memory_swappiness: given.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        oom_kill_disable: given.oom_kill_disable,
        nano_cpus: some(given.nano_cpus),
        cpu_shares: (given.cpu_shares != 0).then_some(given.cpu_shares),
        cpu_period: (given.cpu_period != 0).then_some(given.cpu_period),
        cpu_quota: some(given.cpu_quota),
        cpuset_cpus: text(&given.cpuset_cpus),
        cpuset_mems: text(&given.cpuset_mems),
        pids: some(given.pids_limit).filter(|_| engine == Engine::Linux),
        blkio_weight: (given.blkio_weight != 0).then_some(given.blkio_weight),
        blkio_weights: weighted(&given.blkio_weight_device)?,
        read_bps: throttled(&given.blkio_device_read_bps)?,
        write_bps: throttled(&given.blkio_device_write_bps)?,
        read_iops: throttled(&given.blkio_device_read_iops)?,
        write_iops: throttled(&given.blkio_device_write_iops)?,
    })
}

/// What the engine is told. The port of a server is what its image says, unless the operator says otherwise.
fn annotations(asked: &Asked<'_>) -> HashMap<String, String> {
    let mut annotations = asked.host_config.annotations.clone();
    if asked.engine == Engine::Wasm && !asked.config.exposed_ports.is_empty() {
        let port = publish::served(asked.config.exposed_ports.keys())[0];
        annotations.entry(format!("{}serve-port", grant::PREFIX)).or_insert_with(|| port.to_string());
    }
    annotations.into_iter().collect()
}

/// The program's variables, in Docker's order. A Wasm program gets what was asked for and nothing else.
pub(super) fn environment(config: &Config, engine: Engine, tty: bool, home: Option<&str>) -> Vec<String> {
    if engine == Engine::Wasm {
        return config.env.clone();
    }
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    let named = |env: &[String], name: &str| env.iter().position(|v| v.split('=').next() == Some(name));
    for variable in &config.env {
        let name = variable.split('=').next().unwrap_or_default();
        match named(&env, name) {
            Some(at) => env[at].clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    if named(&env, "HOME").is_none() {
        env.extend(home.map(|home| format!("HOME={home}")));
    }
    env
}

/// A bind as it was recorded, which the door has checked.
pub fn parse_bind(text: &str) -> Bind {
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (source, destination, options) = (next(), next(), next());
    Bind { source: source.into(), destination: destination.into(), readonly: options.split(',').any(|o| o == "ro") }
}

fn check_grants(binds: &[Bind]) -> Result<(), Error> {
    for bind in binds {
        if !io("look at", &bind.source, std::fs::metadata(&bind.source))?.is_dir() {
            return Err(Error::NotADirectory { path: bind.source.clone() });
        }
    }
    Ok(())
}
