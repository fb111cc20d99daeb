//! `start`: the record becomes a bundle, the bundle a task.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Config, Container, Error, HostConfig, Places, Record, Status, Store, files, io, publish};
use crate::bundle::{self, Bind, Bundle, Intent, Network, Resources, capabilities};
use crate::cgroup::{self, Hierarchies};
use crate::engine::Engine;
use crate::engine::linux::{user, wall};
use crate::engine::wasm::grant;
use crate::sys::lock::FileLock;
use crate::sys::pty;
use crate::task::{self, Launched, Orders};

/// The PATH of a program whose image names none, as Docker has it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a start is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Whether the caller stays attached.
    pub attached: bool,
    /// The size of the caller's terminal.
    pub size: Option<pty::Size>,
}

impl Store {
    /// Starts the container; when this returns, its program runs.
    pub fn start(&self, container: &Container, options: StartOptions) -> Result<Launched, Error> {
        self.start_by(task::prepare(&container.record.id)?, container, options)
    }

    /// The same by a supervisor that was prepared for it.
    pub fn start_by(
        &self,
        supervisor: task::Waiting,
        container: &Container,
        options: StartOptions,
    ) -> Result<Launched, Error> {
        let _lock = self.lock(container)?;
        match &self.find(&container.record.id)?.status {
            Status::Created { .. } | Status::Exited(_) => {}
            Status::Running { .. } => return Err(container.wrong("start", None)),
            Status::Dead => return Err(container.wrong("start", Some("remove it: its directory is gone"))),
        }
        let record = &container.record;
        let prepared = match &container.prepared {
            Some(prepared) => prepared.clone(),
            None => Arc::new(self.prepare(record)?),
        };
        let files = self.files_of(container)?;
        let intent = self.places.intent(&Asked::of(record), files, Some(prepared.root.as_fd()))?;
        let intent = Intent { cgroup: self.places.cgroup(&record.id)?, ..intent };
        Bundle::write(&container.directory, bundle::spec(&intent))?;
        let (sockets, ports) = publish::open(&record.host_config, &record.config)?;
        publish::write_down(&ports, &container.directory)?;
        let orders = Orders { sockets: sockets.len(), ..self.orders(container, options) };
        let files = task::Files {
            root: (record.engine == Engine::Linux).then(|| prepared.root.as_fd()),
            wasm: prepared.program.as_ref().map(AsFd::as_fd),
            sockets: sockets.iter().map(AsFd::as_fd).collect(),
        };
        let launched = supervisor.launch(&orders, &files);
        launched.map_err(|source| Error::Start { name: container.name.clone(), source })
    }

    /// One start or removal of a container at a time.
    pub(super) fn lock(&self, container: &Container) -> Result<FileLock, Error> {
        let lock = FileLock::exclusive(&container.directory.join("lock"));
        lock.map_err(|source| Error::Sys { what: "lock the container", source })
    }

    fn orders(&self, container: &Container, options: StartOptions) -> Orders {
        let record = &container.record;
        let id = &record.id;
        let cleanup = || [&self.places.arguments[..], &["rm".to_owned(), id.clone()]].concat();
        Orders {
            directory: container.directory.clone(),
            run: self.run_directory_of(id),
            engine: record.engine,
            terminal: record.config.tty.then(|| options.size.unwrap_or(pty::Size { rows: 24, columns: 80 })),
            stdin: record.config.open_stdin,
            attached: options.attached,
            journal: self.journal(),
            actor: container.actor(),
            sockets: 0,
            cleanup: record.host_config.auto_remove.then(cleanup),
        }
    }

    /// The files that a Linux container gets from us.
    fn files_of(&self, container: &Container) -> Result<Vec<Bind>, Error> {
        let record = &container.record;
        match record.engine {
            Engine::Linux => files::write(&container.directory, record, network(&record.host_config)),
            Engine::Wasm => Ok(Vec::new()),
        }
    }
}

/// What a container's specification is made of, recorded or not.
pub(super) struct Asked<'a> {
    pub config: &'a Config,
    pub host_config: &'a HostConfig,
    pub engine: Engine,
}

impl<'a> Asked<'a> {
    fn of(record: &'a Record) -> Self {
        Self { config: &record.config, host_config: &record.host_config, engine: record.engine }
    }
}

fn network(host_config: &HostConfig) -> Network {
    if host_config.network_mode == "host" { Network::Host } else { Network::None }
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
        let Asked { config, host_config, engine } = asked;
        let who = user::resolve(root, &config.user)?;
        let last_group = match &self.ids {
            None => user::MAX_ID,
            Some(ids) => user::check_mapped(&who.user, ids).map(|()| (ids.groups - 1).min(user::MAX_ID))?,
        };
        let mut binds: Vec<Bind> = host_config.binds.iter().map(|b| parse_bind(b)).collect();
        if *engine == Engine::Wasm {
            check_grants(&binds)?;
        }
        binds.extend(files);
        let capabilities = capabilities(&host_config.cap_add, &host_config.cap_drop)?;
        let security = |option: &str| host_config.security_opt.iter().any(|o| o == option);
        let docker = || bundle::seccomp::native().map(|arch| bundle::seccomp::default_profile(&capabilities, arch));
        let profile = || if *engine == Engine::Wasm { wall::written() } else { docker() };
        Ok(Intent {
            args: config.command(),
            env: environment(config, *engine, config.tty, Some(&who.home)),
            cwd: PathBuf::from(if config.working_dir.is_empty() { "/" } else { &config.working_dir }),
            user: who.user,
            terminal: config.tty,
            hostname: config.hostname.clone(),
            readonly_rootfs: host_config.readonly_rootfs,
            binds,
            network: network(host_config),
            no_new_privileges: *engine == Engine::Wasm
                || security("no-new-privileges")
                || security("no-new-privileges:true"),
            seccomp: if security("seccomp=unconfined") { None } else { profile() },
            // A Wasm program makes no system calls of its own; its engine needs no privilege.
            capabilities: if *engine == Engine::Wasm { Default::default() } else { capabilities },
            cgroup: None,
            rootless: self.ids.is_some(),
            last_group,
            blind: *engine == Engine::Wasm,
            resources: resources(host_config, *engine),
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

/// The limits that were given. A Wasm program has no processes to count: its process may only make the engine's threads.
fn resources(given: &HostConfig, engine: Engine) -> Resources {
    let some = |value: i64| (value != 0).then_some(value);
    Resources {
        memory: some(given.memory),
        memory_swap: some(given.memory_swap),
        memory_reservation: some(given.memory_reservation),
        nano_cpus: some(given.nano_cpus),
        cpu_shares: (given.cpu_shares != 0).then_some(given.cpu_shares),
        cpuset_cpus: (!given.cpuset_cpus.is_empty()).then(|| given.cpuset_cpus.clone()),
        pids: some(given.pids_limit).filter(|_| engine == Engine::Linux),
    }
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
