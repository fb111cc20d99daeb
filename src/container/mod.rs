//! The container's record and its verbs, on top of the rooms that do the work.
//!
//! ```text
//! db.sqlite                 the record: id, name, what was asked for (`record`)
//! containers/<id>/          the bundle, the log, state.json, what the container wrote
//!   lock                    held while it is started or removed
//! ```
//!
//! What a container *is* ([`Status`]) is not stored twice: it follows from the task's state file and from
//! whether the kernel still knows the processes in it. A container exists when its record does; a
//! directory without a record is the rest of a create or a remove that was killed, and is swept when
//! the next container is removed.

mod archive;
mod control;
mod create;
mod device;
mod direct;
mod exec;
mod files;
mod granted;
mod host_config;
mod intent;
mod join;
mod name;
mod publish;
mod record;
mod remove;
mod security;
mod signal;
mod start;
mod status;
mod usage;
mod view;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

pub use create::Create;
pub use device::is_access;
pub use direct::{Direct, Program};
pub use exec::Exec;
pub use host_config::{DeviceMapping, HostConfig, ThrottleDevice, Ulimit, WeightDevice};
pub use intent::parse_bind;
pub use name::new_id;
pub use publish::{MAX_PUBLISHED, PortBinding, Ports};
pub use record::{Config, Record};
pub use signal::{InvalidSignal, number as signal_number};
pub use start::StartOptions;
pub use status::Status;
pub use usage::Usage;
pub use view::{OpenFile, Resident, View};

pub use crate::bundle::Bind;

pub use crate::engine::linux::user::{InvalidUser, MAX_ACCOUNT_FILE};
use crate::error::{Failure, Kind, tolerate};
use crate::event::{Actor, Event, Journal, Type};
use crate::state::{ContainerRow, Db};
use crate::task::State;
use crate::{bundle, cgroup, engine, image, snapshot, state, sys, task};

/// The containers of one data root.
pub struct Store {
    db: Db,
    snapshots: Arc<snapshot::Store>,
    places: Places,
}

/// Where containers are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The directory of the containers' directories.
    pub containers: PathBuf,
    /// The directory for what a reboot may forget.
    pub run: PathBuf,
    /// The compiled Wasm programs.
    pub wasm_cache: PathBuf,
    /// The arguments by which our binary, run again, finds this same data root.
    pub arguments: Vec<String>,
    /// The ids that there are, for an ordinary user.
    pub ids: Option<sys::user::Ids>,
}

/// One container, as it was recorded, and what it is doing.
#[derive(Clone, Debug)]
pub struct Container {
    /// What was asked for.
    pub record: Record,
    /// Its name, which can change.
    pub name: String,
    /// What it is doing.
    pub status: Status,
    directory: PathBuf,
    /// What a create has made and the start that follows it in this process can use.
    prepared: Option<Arc<Prepared>>,
}

/// What a start begins with.
#[derive(Debug)]
struct Prepared {
    /// The root filesystem, mounted and not attached anywhere.
    root: OwnedFd,
    /// The compiled program of a Wasm container.
    program: Option<OwnedFd>,
}

/// Why a verb was refused or failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("No such container: {name}")]
    NotFound { name: String },
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken { name: String, owner: String },
    #[error("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName { name: String },
    #[error("no command specified")]
    NoCommand,
    #[error(
        "it is a plugin for Envoy or Istio (proxy-wasm), which runs inside of that proxy: there is nothing to start"
    )]
    Plugin,
    #[error("cannot {verb} container {name}: it is {status}")]
    WrongStatus { verb: &'static str, name: String, status: String, hint: Option<&'static str> },
    #[error("container record {id} cannot be read")]
    Record { id: String, source: serde_json::Error },
    #[error("container record {id} was written by a newer wherry (version {version})")]
    NewerRecord { id: String, version: u32 },
    #[error("cannot {what} {path:?}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot {what}")]
    Sys { what: &'static str, source: sys::Error },
    #[error("container {name} is not running")]
    NotRunning { name: String },
    #[error("cannot grant {path:?} to a WebAssembly program")]
    NotADirectory { path: PathBuf },
    #[error("publishing a port of a Linux container is not offered by this version")]
    PublishLinux,
    #[error("{program} is no server: it has no port to be published")]
    PublishNoServer { program: String },
    #[error("the server has no port {port} to be published")]
    PublishOther { port: String, served: u16 },
    #[error("more than {MAX_PUBLISHED} ports are published")]
    PublishTooMany,
    #[error("invalid IP address: {address}")]
    PublishAddress { address: String },
    #[error("Bind for {address} failed: {problem}")]
    Bind { address: std::net::SocketAddr, problem: String, call: sys::Error },
    #[error("{rule:?} is no device rule: it is a, b or c, MAJOR:MINOR and some of rwm, as in 'c 13:* rw'")]
    DeviceRule { rule: String },
    #[error("error gathering device information while adding custom device {path:?}")]
    NoDevice { path: PathBuf, source: std::io::Error },
    #[error("error gathering device information while adding custom device {path:?}: not a device node")]
    NotADevice { path: PathBuf },
    #[error("there are more devices in {path:?} than can be given to a container")]
    TooManyDevices { path: PathBuf },
    #[error("invalid --security-opt {option:?}: {problem}")]
    SecurityOpt { option: String, problem: &'static str },
    #[error("invalid ulimit type: {name}")]
    Ulimit { name: String },
    #[error("Container {name} {problem}")]
    Refused { name: String, problem: &'static str },
    #[error("Container {name} has no cgroup: what it uses cannot be controlled")]
    NoCgroup { name: String },
    #[error("Renaming a container with the same name as its current name")]
    SameName,
    #[error("the memory of a WebAssembly program is limited when it starts")]
    UpdateOfWasm,
    #[error("cannot join the namespace of container {name}: it is not running")]
    JoinNotRunning { name: String },
    #[error("conflicting options: {what}")]
    Conflict { what: &'static str },
    #[error("--{flag} is for Linux programs, and this one is WebAssembly")]
    FlagToWasm { flag: &'static str },
    #[error(transparent)]
    User(#[from] InvalidUser),
    #[error(transparent)]
    Capability(#[from] bundle::InvalidCapability),
    #[error(transparent)]
    Grant(#[from] engine::wasm::grant::Invalid),
    #[error("grants (wherry.*) are for WebAssembly programs, and this one is not")]
    GrantsToLinux,
    #[error("the directory {directory:?} of the store {name:?} is in none of the container's volumes")]
    StoreOutside { name: String, directory: PathBuf },
    #[error("network access was granted to a container without a network")]
    GrantsWithoutNetwork,
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    #[error("cannot look for a cgroup")]
    Cgroup(#[from] cgroup::Error),
    #[error("cannot run {program}")]
    Wasm { program: String, source: engine::wasm::Error },
    #[error("cannot run {program}")]
    Run { program: String, source: engine::linux::Error },
    #[error("cannot start container {name}")]
    Start { name: String, source: task::Error },
    #[error(transparent)]
    Task(#[from] task::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::NameTaken { .. } => Kind::AlreadyExists,
            Self::InvalidName { .. } | Self::NoCommand | Self::NotADirectory { .. } => Kind::InvalidArgument,
            Self::DeviceRule { .. } | Self::NotADevice { .. } | Self::TooManyDevices { .. } => Kind::InvalidArgument,
            Self::SecurityOpt { .. } | Self::Ulimit { .. } | Self::Conflict { .. } => Kind::InvalidArgument,
            Self::FlagToWasm { .. } => Kind::InvalidArgument,
            Self::JoinNotRunning { .. } | Self::Refused { .. } => Kind::FailedPrecondition,
            Self::SameName => Kind::InvalidArgument,
            Self::NoCgroup { .. } | Self::UpdateOfWasm => Kind::Unsupported,
            Self::GrantsToLinux | Self::GrantsWithoutNetwork | Self::StoreOutside { .. } => Kind::InvalidArgument,
            Self::WrongStatus { .. } | Self::NotRunning { .. } => Kind::FailedPrecondition,
            Self::PublishAddress { .. }
            | Self::PublishTooMany
            | Self::PublishNoServer { .. }
            | Self::PublishOther { .. } => Kind::InvalidArgument,
            Self::PublishLinux => Kind::Unsupported,
            Self::Bind { call, .. } => call.kind(),
            Self::Record { .. } => Kind::DataLoss,
            Self::NewerRecord { .. } | Self::Plugin => Kind::Unsupported,
            Self::Io { source, .. } | Self::NoDevice { source, .. } => Kind::of_io(source),
            Self::Sys { source, .. } => source.kind(),
            Self::User(source) => source.kind(),
            Self::Capability(source) => source.kind(),
            Self::Grant(source) => source.kind(),
            Self::State(source) => source.kind(),
            Self::Snapshot(source) => source.kind(),
            Self::Image(source) => source.kind(),
            Self::Bundle(source) => source.kind(),
            Self::Cgroup(source) => source.kind(),
            Self::Wasm { source, .. } => source.kind(),
            Self::Run { source, .. } => source.kind(),
            Self::Start { source, .. } | Self::Task(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::WrongStatus { hint, .. } => hint.map(str::to_owned),
            Self::NotADirectory { .. } => {
                Some("WASI grants directories; give the directory that the file is in".into())
            }
            Self::StoreOutside { .. } => Some("give the directory with `-v` too: what is in it stays there".into()),
            Self::GrantsWithoutNetwork => Some("leave `--network none` out, or use `--network host`".into()),
            Self::NoCgroup { .. } => {
                Some("without root the user's session has to delegate cgroups (systemd does)".into())
            }
            Self::UpdateOfWasm => Some("make it anew with other limits".into()),
            Self::PublishLinux => Some("--network host gives it the host's ports".into()),
            Self::PublishOther { served, .. } => Some(format!("it is served on {served}: -p 8080:{served}")),
            Self::User(source) => source.hint(),
            Self::State(source) => source.hint(),
            Self::Snapshot(source) => source.hint(),
            Self::Image(source) => source.hint(),
            Self::Wasm { source, .. } => source.hint(),
            Self::Run { source, .. } => source.hint(),
            Self::Start { source, .. } | Self::Task(source) => source.hint(),
            _ => None,
        }
    }
}

impl Store {
    /// The containers recorded in `db`.
    pub fn new(db: Db, snapshots: Arc<snapshot::Store>, places: Places) -> Self {
        Self { db, snapshots, places }
    }

    /// The container of a name, an id, or the beginning of an id.
    pub fn find(&self, name: &str) -> Result<Container, Error> {
        let row = self.db.containers().find(name.strip_prefix('/').unwrap_or(name))?;
        self.container(row.ok_or_else(|| Error::NotFound { name: name.to_owned() })?)
    }

    /// All containers, newest first.
    pub fn list(&self) -> Result<Vec<Container>, Error> {
        self.db.containers().list()?.into_iter().map(|row| self.container(row)).collect()
    }

    /// The root directory of the containers' directories.
    fn directory_of(&self, id: &str) -> PathBuf {
        self.places.containers.join(id)
    }

    /// Where it is written down what happens.
    fn journal(&self) -> Journal {
        Journal::new(&self.places.run)
    }

    /// Writes down what happened to a container. That it could not be is no reason to undo it.
    fn note(&self, action: &str, actor: Actor) {
        tolerate(self.journal().note(&Event::now(Type::Container, action, actor)));
    }

    fn run_directory_of(&self, id: &str) -> PathBuf {
        self.places.run.join(id)
    }

    fn container(&self, row: ContainerRow) -> Result<Container, Error> {
        let record = Record::parse(&row)?;
        let directory = self.directory_of(&row.id);
        let mut container = Container { record, name: row.name, status: Status::Dead, directory, prepared: None };
        let exists = container.directory.exists();
        container.status = Status::of(self.state(&container)?, exists);
        let still = matches!(container.status, Status::Running { .. }) && self.is_paused(&container);
        if let Status::Running { paused, .. } = &mut container.status {
            *paused = still;
        }
        Ok(container)
    }

    /// The state of a container's task. That one has ended unseen is an event of the moment in which it is found out.
    fn state(&self, container: &Container) -> Result<Option<State>, Error> {
        Ok(State::settled(&container.directory, |exit| self.note("die", exit.told_of(container.actor())))?)
    }
}

impl Container {
    /// Where its bundle, log and state are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Bytes of the files that it wrote or, where layers are copied, that it has.
    pub fn written(&self) -> u64 {
        self.record.rootfs.written()
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        self.record.created
    }

    /// The container as its events name it: by its id, with its image, its name and its labels.
    fn actor(&self) -> Actor {
        let labels = self.record.config.labels.clone();
        let actor = Actor { id: self.record.id.clone(), attributes: labels };
        actor.with("image", &self.record.image).with("name", &self.name)
    }

    fn wrong(&self, verb: &'static str, hint: Option<&'static str>) -> Error {
        Error::WrongStatus { verb, name: self.name.clone(), status: self.status.word().to_owned(), hint }
    }
}

/// Gives a failed file operation its intent.
fn io<T>(what: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Io { what, path: path.to_owned(), source })
}
