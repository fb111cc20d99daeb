//! A loaded program and its one run.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::{self, Component};
use wasmtime::{InstancePre, Module, Store, ThrownException, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre as Command2;
use wasmtime_wasi::p3::bindings::CommandPre as Command3;

use super::grant::Grants;
use super::host::Host;
use super::offer::{self, Role};
use super::settings::Purpose;
use super::trap::{self, Dumps};
use super::view::Board;
use super::{Compiled, Error, Kind, Names, Stdio, TIMEOUT_EXIT_CODE, TRAP_EXIT_CODE, cause, serve, settings};
use crate::sys::wasm_code;

/// A program that is mapped and linked, ready to run. Clones share the code and nothing else.
#[derive(Clone)]
pub struct Program {
    pub(super) loaded: Loaded,
    purpose: Purpose,
    pub(super) board: Board,
}

#[derive(Clone)]
pub(super) enum Loaded {
    Module(InstancePre<Host>),
    Component(Role, component::InstancePre<Host>),
}

/// Everything that a program is given. What is not here it does not have.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// Its arguments, the first of which is its own name.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// The directories that it can reach, by the names under which it finds them.
    pub preopens: Vec<Preopen>,
    /// What it may use up.
    pub limits: Limits,
    /// Everything else that its operator said.
    pub grants: Grants,
    /// How names of hosts are resolved, where names were granted.
    pub names: Names,
    /// The sockets on which an HTTP server is served.
    pub listeners: Vec<Arc<TcpListener>>,
}

impl Invocation {
    /// Reads how this machine resolves names, if any were granted. To be called where the host's files are seen.
    pub fn read_names(&mut self) -> Result<(), Error> {
        if self.grants.network.has_names() {
            self.names = Names::read().map_err(|source| Error::Names { source })?;
        }
        Ok(())
    }

    /// Gives an HTTP server its sockets; without any it gets one in the network of this process.
    pub fn listen(&mut self, sockets: Vec<TcpListener>) -> Result<(), Error> {
        let port = self.grants.serve.serve_port;
        let own = || serve::listen(port).map_err(|source| Error::Listen { port, source });
        let sockets = if sockets.is_empty() { own()? } else { sockets };
        self.listeners = sockets.into_iter().map(Arc::new).collect();
        Ok(())
    }
}

/// A directory given to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preopen {
    /// Where it is for us.
    pub host: PathBuf,
    /// Where it is for the program.
    pub guest: String,
    /// Whether nothing in it can be changed through this.
    pub readonly: bool,
}

/// What a program may use up; the rest is the cgroup's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a linear memory. Growing beyond that fails, and the program is told so.
    pub memory: Option<u64>,
}

impl Program {
    /// Whether it is an HTTP server.
    pub fn serves(&self) -> bool {
        matches!(self.loaded, Loaded::Component(Role::Server2 | Role::Server3, _))
    }
}

/// Seeds the generator of random numbers, which everything that is made for a program has one of. To be called before
/// this process is denied its files: in a static binary that opens `/dev/random`, and keeps it.
pub(super) fn seed_random() {
    drop(wasmtime_wasi::WasiCtxBuilder::new());
}

/// Maps compiled code into this process. Needs no path of its own, so it works inside of a container too.
///
/// Whoever is going to deny this process its files calls this first, for its random numbers are seeded here.
pub fn load(compiled: Compiled) -> Result<Program, Error> {
    seed_random();
    let purpose = compiled.purpose;
    let engine = settings::runner(purpose)?;
    let failed = |error| Error::Load { source: cause(error) };
    let board = compiled.board;
    let loaded = match compiled.kind {
        Kind::Module => link_module(&wasm_code::module(engine, compiled.file).map_err(failed)?),
        Kind::Component => {
            let component = wasm_code::component(engine, compiled.file).map_err(failed)?;
            link_component(offer::role(&component)?, &component)
        }
    };
    loaded.map(|loaded| Program { loaded, purpose, board }).map_err(failed)
}

fn link_module(module: &Module) -> wasmtime::Result<Loaded> {
    offer::link_module(module)?.instantiate_pre(module).map(Loaded::Module)
}

fn link_component(role: Role, component: &Component) -> wasmtime::Result<Loaded> {
    Ok(Loaded::Component(role, offer::link_component(component)?.instantiate_pre(component)?))
}

/// Runs `program` to its end on this process's own standard streams; returns its exit code.
///
/// This process becomes the program. Writing to a closed pipe is an error from now on. Where it is the
/// first of a pid namespace, which has no default actions for signals, a signal that ends other programs
/// ends it, with the code 128 + n. The caller is expected to exit with what is returned.
pub fn run(program: Program, invocation: Invocation) -> Result<u8, Error> {
    #[cfg(unix)]
    prepare_signals().map_err(|error| Error::Engine { source: error.into() })?;
    #[cfg(unix)]
    end_in_time(&invocation).map_err(|error| Error::Engine { source: error.into() })?;
    let stdio = Stdio::inherit().map_err(|error| Error::Engine { source: error.into() })?;
    run_with(program, invocation, stdio)
}

#[cfg(unix)]
fn prepare_signals() -> crate::sys::Result<()> {
    use crate::sys::ending;
    ending::survive_closed_pipes()?;
    if std::process::id() == 1 { ending::end_on_signals() } else { Ok(()) }
}

/// Lets the kernel end this process when the program's time is up, whatever it is doing then.
#[cfg(unix)]
fn end_in_time(invocation: &Invocation) -> crate::sys::Result<()> {
    let Some(time) = invocation.grants.limit.timeout else { return Ok(()) };
    let words = format!("wherry: the program took longer than {time:?} (--timeout)\n");
    crate::sys::ending::end_after(time, words, TIMEOUT_EXIT_CODE)
}

/// Runs `program` to its end on the streams given; returns its exit code.
///
/// A trap is reported, with the functions that led to it, on the program's standard error; the exit
/// code is then [`TRAP_EXIT_CODE`].
pub fn run_with(program: Program, invocation: Invocation, stdio: Stdio) -> Result<u8, Error> {
    if program.serves() {
        return serve::serve(program.loaded, invocation, stdio, program.board);
    }
    let dumps = Dumps::of(&invocation)?;
    let setup = |source: std::io::Error| Error::Engine { source: source.into() };
    let stderr = stdio.stderr.try_clone().map_err(setup)?;
    // An event loop without worker threads: timers, and a watch on standard input if asked for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
    let host = Host::new(&invocation, stdio.into(), program.board.clone())?;
    let mut store = Store::new(settings::runner(program.purpose)?, host);
    store.limiter(|host| &mut host.limits);
    fill(&mut store, program.purpose, invocation.grants.limit.fuel)?;
    store.set_hostcall_fuel(invocation.grants.limit.host_copy);
    let ended = runtime.block_on(async {
        match program.loaded {
            Loaded::Module(module) => run_module(&with_clock(module, store.data())?, &mut store).await,
            Loaded::Component(Role::Command3, component) => run_component3(component, &mut store).await,
            Loaded::Component(_, component) => run_component2(component, &mut store).await,
        }
    });
    match ended? {
        Ended::Exit(code) => Ok(code),
        Ended::Trap(error) => {
            program.board.trap(&trap::name(&error));
            tell(&error, dumps.as_ref(), &mut store, stderr);
            Ok(TRAP_EXIT_CODE)
        }
    }
}

/// Gives a metered program the instructions that it may execute. No other can be held to a number.
fn fill(store: &mut Store<Host>, purpose: Purpose, fuel: Option<u64>) -> Result<(), Error> {
    match (purpose, fuel) {
        (Purpose::Metered, fuel) => {
            store.set_fuel(fuel.unwrap_or(u64::MAX)).map_err(|error| Error::Engine { source: cause(error) })
        }
        (_, Some(_)) => Err(Error::Unmetered),
        (_, None) => Ok(()),
    }
}

/// Says what broke the program off, and leaves a core dump where one is wanted.
fn tell(error: &wasmtime::Error, dumps: Option<&Dumps>, store: &mut Store<Host>, mut stderr: File) {
    let mut text = trap::report(error);
    text.extend(store.data().limits.limiter().refused().map(|limit| format!("wherry: before that, {limit}\n")));
    text.extend(dumps.and_then(|dumps| dumps.write(error, store)));
    // The exit code tells the same when standard error is closed.
    stderr.write_all(text.as_bytes()).ok();
}

/// How a program that had begun came to its end.
enum Ended {
    Exit(u8),
    Trap(wasmtime::Error),
}

/// The module, linked once more if its clock is to be the same at every run.
fn with_clock(linked: InstancePre<Host>, host: &Host) -> Result<InstancePre<Host>, Error> {
    if host.clock().is_none() {
        return Ok(linked);
    }
    let module = linked.module();
    let linked = offer::link_module_with_fixed_clock(module).and_then(|linker| linker.instantiate_pre(module));
    linked.map_err(|error| Error::Load { source: cause(error) })
}

async fn run_module(module: &InstancePre<Host>, store: &mut Store<Host>) -> Result<Ended, Error> {
    let instance = match module.instantiate_async(&mut *store).await {
        Ok(instance) => instance,
        Err(error) => return before_start(error),
    };
    let start = instance.get_typed_func::<(), ()>(&mut *store, "_start");
    let start = start.map_err(|error| Error::Load { source: cause(error) })?;
    Ok(start.call_async(&mut *store, ()).await.map_or_else(ended, |()| Ended::Exit(0)))
}

async fn run_component2(component: component::InstancePre<Host>, store: &mut Store<Host>) -> Result<Ended, Error> {
    let command = Command2::new(component).map_err(|error| Error::Load { source: cause(error) })?;
    let command = match command.instantiate_async(&mut *store).await {
        Ok(command) => command,
        Err(error) => return before_start(error),
    };
    let result = command.wasi_cli_run().call_run(&mut *store).await;
    Ok(result.map_or_else(ended, |succeeded| Ended::Exit(if succeeded.is_ok() { 0 } else { 1 })))
}

async fn run_component3(component: component::InstancePre<Host>, store: &mut Store<Host>) -> Result<Ended, Error> {
    let command = Command3::new(component).map_err(|error| Error::Load { source: cause(error) })?;
    let command = match command.instantiate_async(&mut *store).await {
        Ok(command) => command,
        Err(error) => return before_start(error),
    };
    let result = store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await).await;
    let result = result.and_then(|result| result);
    Ok(result.map_or_else(ended, |succeeded| Ended::Exit(if succeeded.is_ok() { 0 } else { 1 })))
}

/// An error while instantiating: the program's own if its start function ran, ours if there was no room.
fn before_start(error: wasmtime::Error) -> Result<Ended, Error> {
    if error.is::<I32Exit>() || error.is::<Trap>() || error.is::<ThrownException>() {
        Ok(ended(error))
    } else {
        Err(Error::Instantiate { source: cause(error) })
    }
}

/// What an error that came out of a running program means.
fn ended(error: wasmtime::Error) -> Ended {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Ended::Exit(*code as u8);
    }
    Ended::Trap(error)
}
