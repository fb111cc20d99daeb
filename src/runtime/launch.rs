//! Making a container, for `create` and `run`: from a bundle to a process that waits or runs, with everything recorded
//! before it is made.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::notify::Notify;
use super::options::Given;
use super::sockets::{Handover, check_console};
use super::store::{Entry, Locked, Record, replace};
use super::{Context, Manager, cgroup, delete, id, warn_of, wasm};
use crate::bundle::{Bundle, Facts};
use crate::cgroup::Rdt;
use crate::engine::Engine;
use crate::engine::linux::console::{self, Role};
use crate::engine::linux::{self, Options, Request, Running, Stdio};
use crate::engine::wasm::Compiled;
use crate::oci::runtime::{LinuxNamespaceType, Process, Spec};
use crate::sys::process::Identity;
use crate::sys::{self, named};

/// A container that was made.
pub struct Made {
    /// The container, locked.
    pub container: Locked,
    /// Its process.
    pub process: Running,
    /// The bundle as it was carried out.
    pub bundle: Bundle,
    /// What is to be relayed for it.
    pub notify: Option<Notify>,
}

/// What the options say, before anything is made.
struct Wish {
    id: String,
    bundle: Bundle,
    /// The specification as it was read, byte for byte.
    config: Vec<u8>,
    stdio: Stdio,
    preserve_fds: u32,
    console: Option<Handover>,
    pidfd: Option<Handover>,
    pid_file: Option<PathBuf>,
    notify: Option<Notify>,
    /// The program, if it is WebAssembly.
    program: Option<Compiled>,
}

/// Makes the container that the options describe. With `gate` another process will start it, without its program runs;
/// what does not `detach` has its terminal from us.
pub fn make(context: &Context<'_>, given: &Given, detach: bool, gate: bool) -> Result<Made, Error> {
    let wish = Wish::new(context, given, detach)?;
    let mut container = context.store.create(Record::new(context, &wish.id, &wish.bundle, wish.engine())?)?;
    match carry_out(context, given, wish, gate, &mut container) {
        Ok((process, bundle, notify)) => Ok(Made { container, process, bundle, notify }),
        Err(error) => {
            // The first failure is the one to report.
            warn_of(context.log, delete::destroy(context, container));
            Err(error)
        }
    }
}

impl Wish {
    fn new(context: &Context<'_>, given: &Given, detach: bool) -> Result<Self, Error> {
        let id = id(given)?;
        let directory = context.store.directory(&id)?;
        let (mut bundle, config) = read_bundle(context, given)?;
        let stdio = stdio(bundle.spec().process().as_ref(), detach)?;
        check_console(matches!(stdio, Stdio::Terminal(_)), detach, given)?;
        let program = wasm::program(&bundle)?;
        if program.is_some() {
            let directory = bundle.directory().to_owned();
            bundle.revise(|spec| wasm::reduce(spec, &directory));
        }
        // A WebAssembly program knows no sockets of systemd's: neither to be started by nor to speak at.
        let listening = if program.is_some() { 0 } else { listening() };
        let notify = Notify::wanted(&directory).filter(|_| program.is_none());
        bundle.revise(|spec| {
            if let Some(notify) = &notify {
                notify.amend(spec);
            }
            if listening > 0 {
                add_env(spec, [format!("LISTEN_FDS={listening}"), "LISTEN_PID=1".to_owned()]);
            }
        });
        Ok(Self {
            id,
            bundle,
            config,
            stdio,
            preserve_fds: listening + preserved(given, listening)?,
            console: Handover::to(given, "console-socket")?,
            pidfd: Handover::to(given, "pidfd-socket")?,
            pid_file: given.path("pid-file"),
            notify,
            program,
        })
    }
}

impl Wish {
    fn engine(&self) -> Engine {
        if self.program.is_some() { Engine::Wasm } else { Engine::Linux }
    }
}

/// Reads the bundle, whose directory is as its state will show it, and judges whether it can be meant.
fn read_bundle(context: &Context<'_>, given: &Given) -> Result<(Bundle, Vec<u8>), Error> {
    let directory = given.path("bundle").unwrap_or_else(|| ".".into());
    let absolute = std::path::absolute(&directory);
    let directory = named(absolute, || "getcwd()".into()).map_err(Error::sys("find the bundle"))?;
    let directory: PathBuf = directory.components().collect();
    let config = given.path("config").unwrap_or_else(|| directory.join("config.json"));
    let (bundle, bytes) = Bundle::read_from(&directory, &config)?;
    bundle.validate(&Facts {
        rootless: !rustix::process::geteuid().is_root(),
        systemd_cgroup: matches!(context.manager, Manager::Made(crate::cgroup::Manager::Systemd(_))),
        own_namespaces: &own_namespaces(bundle.spec()),
    })?;
    bundle.ignored().iter().for_each(|line| context.log.warn(line));
    Ok((bundle, bytes))
}

/// Those of the namespaces joined by a path that we are in ourselves.
fn own_namespaces(spec: &Spec) -> Vec<LinuxNamespaceType> {
    let listed = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    let joined = listed.filter_map(|namespace| Some((namespace.typ(), namespace.path().as_deref()?)));
    joined.filter(|(typ, path)| linux::is_own_namespace(*typ, path) == Some(true)).map(|(typ, _)| typ).collect()
}

/// How many sockets systemd's socket activation has handed to us, from descriptor 3 on (sd_listen_fds(3)).
fn listening() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| ours).unwrap_or(0)
}

/// How many further descriptors are to be passed on; all of them must be there.
pub fn preserved(given: &Given, after: u32) -> Result<u32, Error> {
    let count: u32 = given.parsed("preserve-fds")?.unwrap_or(0);
    // Wider than the numbers that add up: they are whatever somebody wrote.
    let first = 3 + u64::from(after);
    let missing = (first..first + u64::from(count)).find(|fd| !Path::new(&format!("/proc/self/fd/{fd}")).exists());
    match missing {
        Some(fd) => Err(Error::refuse("--preserve-fds", format!("descriptor {fd} is not open"))),
        None => Ok(count),
    }
}

/// What the program's standard streams are to be. A terminal that is relayed to the user's begins with its size, if
/// the specification says none.
pub fn stdio(process: Option<&Process>, detach: bool) -> Result<Stdio, Error> {
    let Some(process) = process.filter(|process| process.terminal() == Some(true)) else { return Ok(Stdio::Inherit) };
    let size = console::size(process)?;
    Ok(Stdio::Terminal(size.or_else(|| if detach { None } else { super::foreground::size() })))
}

/// Adds variables to the program's environment.
pub fn add_env(spec: &mut Spec, more: impl IntoIterator<Item = String>) {
    if let Some(process) = spec.process_mut() {
        let env = process.env().iter().flatten().cloned().chain(more).collect();
        process.set_env(Some(env));
    }
}

/// The directory of a container that criu is going to make.
pub fn prepare(context: &Context<'_>, given: &Given) -> Result<(Locked, Bundle), Error> {
    let id = id(given)?;
    let (bundle, config) = read_bundle(context, given)?;
    let container = context.store.create(Record::new(context, &id, &bundle, Engine::Linux)?)?;
    keep_config(&container.entry, &config)?;
    Ok((container, bundle))
}

type CarriedOut = (Running, Bundle, Option<Notify>);

fn carry_out(
    context: &Context<'_>,
    given: &Given,
    mut wish: Wish,
    gate: bool,
    container: &mut Locked,
) -> Result<CarriedOut, Error> {
    keep_config(&container.entry, &wish.config)?;
    if let Some(notify) = &wish.notify {
        notify.make_directory()?;
    }
    if let Some(notify) = wish.notify.as_mut().filter(|_| !gate) {
        // Its program may speak as soon as it runs.
        notify.listen()?;
    }
    let group = cgroup::make(context, &container.entry, wish.bundle.spec())?;
    container.note_cgroup(group);
    share_caches(wish.bundle.spec(), &wish.id, container)?;
    // From here on it is only the process that is added to the record.
    let container = &*container;
    let directory = &container.entry.directory;
    let request = Request {
        bundle: &wish.bundle,
        id: &wish.id,
        root: None,
        stdio: wish.stdio,
        wasm: wish.program,
        cgroup: container.entry.cgroup(),
        options: Options {
            keyring: !given.has("no-new-keyring"),
            pivot: !given.has("no-pivot"),
            preserve_fds: wish.preserve_fds,
            outlive: true,
            gate: gate.then(|| linux::gate::listen(directory)).transpose()?,
            sockets: Vec::new(),
        },
        made: &|child| {
            let pid = child.pid.as_raw_nonzero().get();
            let identity = Identity::of(pid).ok_or_else(|| sys::Error {
                call: format!("read(\"/proc/{pid}/stat\")"),
                source: std::io::Error::other("the process has ended at once"),
            })?;
            container.set_init(identity)?;
            container.entry.record.rdt.as_ref().map_or(Ok(()), |rdt| enter_share(rdt, pid))
        },
    };
    let process = linux::create(request)?;
    if let (Some(console), Some(socket)) = (&process.console, wish.console) {
        socket.send_master(console.as_fd())?;
    }
    if let Some(socket) = wish.pidfd {
        socket.send_pidfd(process.child.pidfd.as_fd(), Role::Init)?;
    }
    if let Some(path) = &wish.pid_file {
        write_pid(path, process.child.pid.as_raw_nonzero().get())?;
    }
    Ok((process, wish.bundle, wish.notify))
}

/// Makes the share of the caches that the specification asks for.
pub fn share_caches(spec: &Spec, id: &str, container: &mut Locked) -> Result<(), Error> {
    match spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) {
        Some(asked) => container.set_rdt(Rdt::create(asked, id)?).map_err(Error::sys("keep its state")),
        None => Ok(()),
    }
}

/// Puts a process into its share before it may go on.
pub fn enter_share(rdt: &Rdt, pid: i32) -> sys::Result<()> {
    rdt.attach(pid).map_err(|error| sys::Error {
        call: format!("write({pid}) to resctrl"),
        source: std::io::Error::other(crate::error::chain(&error)),
    })
}

/// Keeps the configuration as it is now: what happens to the bundle later has no effect.
fn keep_config(entry: &Entry, config: &[u8]) -> Result<(), Error> {
    let path = entry.config();
    named(std::fs::write(&path, config), || format!("write({path:?})")).map_err(Error::sys("keep its configuration"))
}

/// Writes the pid, digits only, into a file that is there whole or not at all.
pub fn write_pid(path: &Path, pid: i32) -> Result<(), Error> {
    replace(path, pid.to_string().as_bytes()).map_err(Error::sys("write the pid file"))
}
