//! Isolating one process by namespaces, a root filesystem of its own, capabilities, seccomp and cgroups.
//!
//! ```text
//!  maker (single-threaded)                 init (its fork, in the new namespaces)
//!  ───────────────────────                 ──────────────────────────────────────
//!  plan: all that can be decided
//!  clone3 (into the v2 cgroup) ─────────▶  enters its v1 cgroups
//!  user maps, network devices; Mapped ──▶  its place in a user namespace
//!  written down; device program; Joined ▶  root, mounts, devices, console; cgroup namespace
//!  filter compiled, sent ───────────────▶   ┆
//!  hooks; Hooked ◀─────────── Mounted ──▶  pivot_root, masks, limits, user
//!         ◀────────────────────── Ready    waits at the gate, if it is to be started by somebody later
//!  Start  ──────────────────────────────▶  capabilities, filter, execve / Wasm
//!         ◀─── end of file: it runs; Failed { step, call, errno }: it does not
//! ```
//!
//! The child needs no second execution of our binary: its maker, a supervisor or a command of the runtime, runs from a
//! handle that cannot be written ([`crate::sys::process::sealed_self`]), is single-threaded, and decides everything
//! before the clone, so that what the child does is mostly system calls.

pub mod console;
mod credential;
mod device;
pub mod entry;
mod exec;
pub mod gate;
mod handshake;
pub mod hook;
mod init;
mod label;
mod listener;
pub mod listing;
mod mounts;
mod namespace;
mod netdevice;
mod plan;
mod process;
mod program;
mod root;
mod schedule;
pub mod seccomp;
mod stage;
mod stream;
mod sysctl;
mod time;
pub mod user;
pub mod wall;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use exec::{Exec, exec};
pub use handshake::Failed;
use handshake::{FromInit, ToInit};
use hook::{Hook, HookFailed};
pub use listener::About;
use listener::Listener;
pub use mounts::option_names;
use namespace::Maps;
pub use namespace::is_ours as is_own_namespace;
use netdevice::NetDevices;
use plan::Plan;
use rustix::process::Signal;

use super::wasm;
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Entrance};
use crate::error::{Failure, Kind, tolerate};
use crate::oci::runtime::{ContainerState, LinuxIdMapping, Spec};
use crate::sys;
use crate::sys::process::{Child, ns};

/// What to make.
pub struct Request<'a> {
    /// The specification.
    pub bundle: &'a Bundle,
    /// The container's id, as hooks and listeners are told.
    pub id: &'a str,
    /// A detached mount that becomes the root filesystem; without one, the bundle's directory is it. A Wasm program
    /// needs none: it has an empty one.
    pub root: Option<OwnedFd>,
    /// The program's standard streams.
    pub stdio: Stdio,
    /// The Wasm program to run in place of the specification's.
    pub wasm: Option<wasm::Compiled>,
    /// The cgroup to be in; `None` only where an ordinary user has been delegated none.
    pub cgroup: Option<&'a Cgroup>,
    /// How it is done.
    pub options: Options,
    /// Told of the process as soon as there is one; until it returns, the process dies with the caller.
    pub made: &'a dyn Fn(&Child) -> sys::Result<()>,
}

/// How a process is made.
#[derive(Debug)]
pub struct Options {
    /// Whether it gets a session keyring of its own.
    pub keyring: bool,
    /// Whether the old root is left by pivot_root(2). Without, it is only covered, which is for hosts whose root is a
    /// ramdisk.
    pub pivot: bool,
    /// How many descriptors after the standard streams the program inherits.
    pub preserve_fds: u32,
    /// Whether the process goes on when its maker ends.
    pub outlive: bool,
    /// The socket of [`gate::listen`], where it then waits to be started by another process.
    pub gate: Option<OwnedFd>,
    /// The listening sockets of a Wasm program that is a server. Without any it listens in its own network.
    pub sockets: Vec<OwnedFd>,
}

impl Default for Options {
    fn default() -> Self {
        Self { keyring: true, pivot: true, preserve_fds: 0, outlive: false, gate: None, sockets: Vec::new() }
    }
}

/// The three standard streams of the program.
pub enum Stdio {
    /// Those of the caller.
    Inherit,
    /// Files, in the order of their numbers.
    Files([OwnedFd; 3]),
    /// A terminal in the container's own devpts, of this size.
    Terminal(Option<sys::pty::Size>),
}

/// A process on its way, and what it takes to accompany it.
struct Created {
    child: Child,
    socket: OwnedFd,
    console: Option<OwnedFd>,
    listener: Option<Listener>,
}

/// A process that is on its own: its program runs, or it waits for another process to start it.
pub struct Running {
    /// The process.
    pub child: Child,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
}

/// Why no process was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification asks for what this engine does not do.
    #[error("{field} of the runtime specification: {problem}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What is the matter with it.
        problem: String,
    },
    /// The supervisor's side of the making failed.
    #[error("cannot {what}")]
    Sys {
        /// What was being done.
        what: &'static str,
        /// The call that failed.
        source: sys::Error,
    },
    /// The same, of something with a name.
    #[error("cannot {what}")]
    Setup {
        /// What was being done, to what.
        what: String,
        /// The call that failed.
        source: sys::Error,
    },
    /// The users of a new user namespace cannot be mapped.
    #[error("cannot map the users of the container")]
    Map {
        /// The call or the program that failed.
        source: sys::Error,
    },
    /// Somebody else has opened the gate, or the process has ended.
    #[error("the container does not wait to be started")]
    Started,
    /// The container's init has ended.
    #[error("the container is not running")]
    Stopped,
    /// The cgroup refused the process.
    #[error("cannot put the process into its cgroup")]
    Cgroup(#[from] crate::cgroup::Error),
    /// The seccomp profile cannot be compiled.
    #[error("cannot compile the seccomp profile")]
    Seccomp(#[from] seccomp::Error),
    /// The Wasm program cannot be loaded.
    #[error(transparent)]
    Wasm(#[from] wasm::Error),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookFailed),
    /// The init stage failed.
    #[error(transparent)]
    Init(#[from] Failed),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::Sys { source, .. } | Self::Setup { source, .. } | Self::Map { source } => source.kind(),
            Self::Started | Self::Stopped => Kind::FailedPrecondition,
            Self::Cgroup(source) => source.kind(),
            Self::Seccomp(source) => source.kind(),
            Self::Wasm(source) => source.kind(),
            Self::Hook(_) => Kind::FailedPrecondition,
            Self::Init(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Cgroup(source) => source.hint(),
            Self::Wasm(source) => source.hint(),
            Self::Init(source) => source.hint(),
            Self::Map { source } if source.source.kind() == std::io::ErrorKind::NotFound => {
                Some("install uidmap: without root newuidmap and newgidmap map more than oneself".into())
            }
            Self::Map { .. } if !rustix::process::geteuid().is_root() => {
                Some("without root only oneself can be mapped, and what /etc/subuid and /etc/subgid give".into())
            }
            _ => None,
        }
    }
}

/// Makes the isolated process. With a gate in the options it then waits there, for another process to start it; without,
/// its program runs when this returns.
pub fn create(request: Request<'_>) -> Result<Running, Error> {
    let until = if request.options.gate.is_some() { Until::Ready } else { Until::Runs };
    let failed = |what| move |source| Error::Sys { what, source };
    let (ours, theirs) = sys::socket::packet_pair().map_err(failed("reach the init stage"))?;
    let mut plan = Plan::new(&request)?;
    let Request { bundle, id, cgroup, made, .. } = request;
    let about = About { id, bundle: bundle.directory(), spec: bundle.spec() };
    let listener = Listener::of(&about);
    let hooks = [std::mem::take(&mut plan.hooks.prestart), std::mem::take(&mut plan.hooks.create_runtime)].concat();
    plan.asks_for_hooks = !hooks.is_empty();
    let (maps, wasm) = (plan.namespaces.user.clone(), plan.hosts_wasm);
    let devices = std::mem::take(&mut plan.net_devices);
    for mount in &mut plan.mounts {
        mount.prepare().map_err(|error| Failed::at(&mount.describe(), &error))?;
    }
    let mut request = request;
    let root = request.root.take().filter(|_| !plan.hosts_wasm);
    let root = prepare_root(root, &plan)?;
    let way = Way::into(cgroup)?;
    if plan.namespaces.has_company() && maps.is_none() {
        sys::process::hide().map_err(failed("hide from the processes that are there"))?;
    }
    let away = plan.namespaces.enter_before_clone()?;
    let flags = plan.namespaces.at_clone;
    let child = sys::process::clone(flags, way.birthplace, || {
        // Or it would never hear of our end.
        sys::process::close_in_child(ours.as_fd());
        init::main(plan, request, root, way.entrance.as_ref(), theirs)
    });
    away.back()?;
    let child = child.map_err(failed("clone the container's init process"))?;
    let mut created = Created { child, socket: ours, console: None, listener };
    let reached = map(&created, maps.as_ref())
        .and_then(|()| move_devices(&created, &devices))
        .and_then(|()| created.record(&way, made))
        // Its next message after hooks is that they have run.
        .and_then(|()| if hooks.is_empty() { created.equip(about.spec, wasm) } else { Ok(()) })
        .and_then(|()| {
            created.attend(until, |created| {
                run_hooks(&hooks, &about, &created.child)?;
                handshake::send(&created.socket, &ToInit::Hooked, &[])?;
                created.equip(about.spec, wasm)
            })
        });
    created.finish(reached)
}

/// What a new process is accompanied to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It waits to be started.
    Ready,
    /// Its program runs.
    Runs,
}

/// How a new process comes into its cgroup.
struct Way<'a> {
    cgroup: Option<&'a Cgroup>,
    /// The v2 group that it is born into.
    birthplace: Option<BorrowedFd<'a>>,
    /// The v1 groups that it enters by itself.
    entrance: Option<Entrance>,
}

impl<'a> Way<'a> {
    fn into(cgroup: Option<&'a Cgroup>) -> Result<Self, Error> {
        let birthplace = cgroup.map(Cgroup::dir_fd).transpose()?.flatten();
        let entrance = cgroup.map(Cgroup::entrance).transpose()?.flatten();
        Ok(Self { cgroup, birthplace, entrance })
    }

    /// Puts the process `pid` into what it is not born into and does not enter by itself; the group is then complete.
    fn lead(&self, pid: i32) -> Result<(), Error> {
        match self.cgroup {
            Some(cgroup) if self.entrance.is_none() && self.birthplace.is_none() => Ok(cgroup.attach(pid)?),
            Some(cgroup) => Ok(cgroup.settle()?),
            None => Ok(()),
        }
    }
}

/// Runs hooks in our own namespaces.
fn run_hooks(hooks: &[Hook], about: &About<'_>, child: &Child) -> Result<(), Error> {
    let state = about.state(ContainerState::Created, Some(child.pid.as_raw_nonzero().get()));
    Ok(hook::run_all(hooks, &serde_json::to_vec(&state).expect("plain data"))?)
}

/// The root filesystem as a detached mount. It is taken from the host here, where its directory can be reached whoever
/// the container's users are, and while its mounts are still the host's. Who may not do that here may in the
/// container's user namespace.
fn prepare_root(given: Option<OwnedFd>, plan: &Plan) -> Result<Option<OwnedFd>, Error> {
    if given.is_some() || plan.hosts_wasm || plan.namespaces.joins(ns::MOUNT) {
        return Ok(given);
    }
    match mounts::clone_tree(&plan.rootfs, true) {
        Ok(tree) => Ok(Some(tree)),
        Err(error) if error.errno() == Some(rustix::io::Errno::PERM.raw_os_error()) => Ok(None),
        Err(source) => Err(Error::Sys { what: "make the root filesystem a mount", source }),
    }
}

/// Maps the ids of the user namespace that was made for the child.
fn map(created: &Created, maps: Option<&Maps>) -> Result<(), Error> {
    let Some(maps) = maps else { return Ok(()) };
    let pid = created.child.pid.as_raw_nonzero().get();
    let ranges = |maps: &[LinuxIdMapping]| -> Vec<sys::user::Range> {
        maps.iter().map(|map| (map.container_id(), map.host_id(), map.size())).collect()
    };
    let mapped = sys::user::map_ids(pid, &ranges(&maps.users), &ranges(&maps.groups));
    mapped.map_err(|source| Error::Map { source })?;
    Ok(handshake::send(&created.socket, &ToInit::Mapped, &[])?)
}

/// Moves network devices of the host into the child's network namespace.
fn move_devices(created: &Created, devices: &NetDevices) -> Result<(), Error> {
    if devices.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{}/ns/net", created.child.pid.as_raw_nonzero());
    let namespace = sys::named(std::fs::File::open(&path), || format!("open({path:?})"));
    let moved = namespace.and_then(|namespace| devices.apply(namespace.as_fd()));
    moved.map_err(|source| Error::Sys { what: "move the network devices", source })
}

impl Created {
    /// Puts the child into its cgroup while it makes its mounts, and has it written down.
    fn record(&self, way: &Way<'_>, made: &dyn Fn(&Child) -> sys::Result<()>) -> Result<(), Error> {
        made(&self.child).map_err(|source| Error::Sys { what: "record the process", source })?;
        way.lead(self.child.pid.as_raw_nonzero().get())?;
        Ok(handshake::send(&self.socket, &ToInit::Joined, &[])?)
    }

    /// Compiles the child's filter, while that makes its mounts, and sends it.
    fn equip(&self, spec: &Spec, wasm: bool) -> Result<(), Error> {
        match process::filter(spec, wasm)? {
            Some(filter) => Ok(handshake::send_filter(&self.socket, &filter)?),
            None => Ok(()),
        }
    }

    /// Does for the child what it cannot do itself, until it is where it is to come to.
    fn attend(&mut self, until: Until, hooks: impl Fn(&Self) -> Result<(), Error>) -> Result<(), Error> {
        loop {
            match handshake::receive(&self.socket)? {
                Some((FromInit::Console, fd)) => self.console = fd,
                Some((FromInit::Mounted, _)) => hooks(self)?,
                Some((FromInit::Listener { number }, _)) => self.pass_listener(number)?,
                Some((FromInit::Failed(failed), _)) => return Err(failed.into()),
                Some((FromInit::Ready, _)) if until == Until::Ready => return Ok(()),
                None if until == Until::Runs => return Ok(()),
                Some((FromInit::Ready | FromInit::Starting, _)) | None => return Err(Failed::vanished().into()),
            }
        }
    }

    fn pass_listener(&mut self, number: i32) -> Result<(), Error> {
        let pid = self.child.pid.as_raw_nonzero().get();
        pass_listener(&self.socket, self.child.pidfd.as_fd(), pid, number, self.listener.take())
    }

    /// Lets the process go where it has come to, or ends one that did not come there. Its own reason is the one to tell.
    fn finish(self, reached: Result<(), Error>) -> Result<Running, Error> {
        match reached {
            Ok(()) => Ok(Running { child: self.child, console: self.console }),
            Err(error) => {
                let why = handshake::why(&self.socket).map_or(error, Error::from);
                self.abandon();
                Err(why)
            }
        }
    }

    /// Ends and reaps a process that will not become a container.
    fn abandon(&self) {
        // It is killed by a handle to our own unreaped child, which cannot fail but by being dead.
        let child = self.child.pidfd.as_fd();
        tolerate(sys::process::signal(child, Signal::KILL.as_raw()).and_then(|_| sys::process::reap(child)));
    }
}

/// Takes the filter's listener that has `number` in the process `pid`, and sends it on.
fn pass_listener(
    socket: &OwnedFd,
    pidfd: BorrowedFd<'_>,
    pid: i32,
    number: i32,
    to: Option<Listener>,
) -> Result<(), Error> {
    let taken = sys::process::take_fd(pidfd, number);
    let listener = taken.map_err(|source| Error::Sys { what: "take the seccomp listener", source })?;
    if let Some(to) = to {
        to.deliver(listener.as_fd(), pid)?;
    }
    Ok(handshake::send(socket, &ToInit::Taken, &[])?)
}
