//! What a program may import, and what it must export.
//!
//! Everything that is offered is harmless by itself: what it can reach is decided by the
//! [`Invocation`](super::Invocation). The sockets of WASI 0.2 are offered, as most programs import them
//! without using them, and deny every use.

use wasmtime::component::{self, Component};
use wasmtime::{ExternType, Linker, Module, Store};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{self, cli, filesystem, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi::{I32Exit, WasiView, p0, p1, p2};

use super::program::Host;
use super::{Error, MAX_NAME, cause, cause_with_names, shown};

/// The name under which a module imports WASI preview 1.
const PREVIEW1: &str = "wasi_snapshot_preview1";
/// The one before it, still met in old programs.
const PREVIEW0: &str = "wasi_unstable";
/// The minor version of the WASI interfaces that are offered to components.
const WASI_0_2: &str = "0.2.";
/// The interface by which a component is started.
const RUN: &str = "wasi:cli/run";
/// The interfaces by which a component serves HTTP.
const HTTP_HANDLERS: [&str; 3] = ["wasi:http/incoming-handler", "wasi:http/handler", "wasi:http/service"];

type Link = component::Linker<Host>;
type Add = fn(&mut Link) -> wasmtime::Result<()>;

/// The interfaces that nearly every component imports, and that come into a linker together.
const CORE: [&str; 9] = [
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:random/random",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
];

/// The other interfaces of WASI 0.2 that are offered, and how each gets into a linker. Only those that a
/// component imports are put there: making an entry for every function of all of them takes longer than
/// starting a small program.
const INTERFACES: [(&str, Add); 18] = [
    ("wasi:filesystem/types", |l| filesystem::types::add_to_linker::<Host, WasiFilesystem>(l, Host::filesystem)),
    ("wasi:filesystem/preopens", |l| filesystem::preopens::add_to_linker::<Host, WasiFilesystem>(l, Host::filesystem)),
    ("wasi:random/insecure", |l| random::insecure::add_to_linker::<Host, WasiRandom>(l, |h| h.ctx().ctx.random())),
    ("wasi:random/insecure-seed", |l| {
        random::insecure_seed::add_to_linker::<Host, WasiRandom>(l, |h| h.ctx().ctx.random())
    }),
    ("wasi:cli/exit", |l| cli::exit::add_to_linker::<Host, WasiCli>(l, Host::cli)),
    ("wasi:cli/environment", |l| cli::environment::add_to_linker::<Host, WasiCli>(l, Host::cli)),
    ("wasi:cli/terminal-input", |l| cli::terminal_input::add_to_linker::<Host, WasiCli>(l, Host::cli)),
    ("wasi:cli/terminal-output", |l| cli::terminal_output::add_to_linker::<Host, WasiCli>(l, Host::cli)),
    ("wasi:cli/terminal-stdin", |l| cli::terminal_stdin::add_to_linker::<Host, WasiCli>(l, Host::cli)),
    ("wasi:cli/terminal-stdout", |l| cli::terminal_stdout::add_to_linker::<Host, WasiCli>(l, Host::cli)),
    ("wasi:cli/terminal-stderr", |l| cli::terminal_stderr::add_to_linker::<Host, WasiCli>(l, Host::cli)),
    ("wasi:sockets/network", |l| {
        let options = sockets::network::LinkOptions::from(&bindings::LinkOptions::default());
        sockets::network::add_to_linker::<Host, WasiSockets>(l, &options, Host::sockets)
    }),
    ("wasi:sockets/instance-network", |l| {
        sockets::instance_network::add_to_linker::<Host, WasiSockets>(l, Host::sockets)
    }),
    ("wasi:sockets/ip-name-lookup", |l| sockets::ip_name_lookup::add_to_linker::<Host, WasiSockets>(l, Host::sockets)),
    ("wasi:sockets/tcp", |l| sockets::tcp::add_to_linker::<Host, WasiSockets>(l, Host::sockets)),
    ("wasi:sockets/tcp-create-socket", |l| {
        sockets::tcp_create_socket::add_to_linker::<Host, WasiSockets>(l, Host::sockets)
    }),
    ("wasi:sockets/udp", |l| sockets::udp::add_to_linker::<Host, WasiSockets>(l, Host::sockets)),
    ("wasi:sockets/udp-create-socket", |l| {
        sockets::udp_create_socket::add_to_linker::<Host, WasiSockets>(l, Host::sockets)
    }),
];

/// A linker that has what `module` imports, as far as it is offered.
pub(super) fn link_module(module: &Module) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(module.engine());
    if module.imports().any(|import| import.module() == PREVIEW1) {
        p1::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
        override_exit(&mut linker, PREVIEW1)?;
    }
    if module.imports().any(|import| import.module() == PREVIEW0) {
        p0::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
        override_exit(&mut linker, PREVIEW0)?;
    }
    Ok(linker)
}

/// Wasmtime takes exit codes from 126 up for a mistake of the program. A container's exit code is its
/// program's own, cut to eight bits as wait(2) does.
fn override_exit(linker: &mut Linker<Host>, version: &str) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap(version, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code & 0xff).into()) })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A linker that has what `component` imports, as far as it is offered.
pub(super) fn link_component(component: &Component) -> wasmtime::Result<Link> {
    let engine = component.engine();
    let component_type = component.component_type();
    // A component put together from several can import one interface in two versions: it is added once,
    // and the linker finds it by either.
    let imports: Vec<&str> = component_type.imports(engine).filter_map(|(import, _)| interface(import)).collect();
    let mut linker = Link::new(engine);
    p2::add_to_linker_proxy_interfaces_async(&mut linker)?;
    for (name, add) in INTERFACES {
        if imports.contains(&name) {
            add(&mut linker)?;
        }
    }
    Ok(linker)
}

/// The interface imported as `wasi:package/name@version`, if that is a version that we have.
fn interface(import: &str) -> Option<&str> {
    let (name, version) = import.split_once('@')?;
    version.starts_with(WASI_0_2).then_some(name)
}

fn is_offered(import: &str) -> bool {
    interface(import).is_some_and(|name| CORE.contains(&name) || INTERFACES.iter().any(|(offered, _)| *offered == name))
}

/// Refuses a module that could not be started: an import is missing or differs, or it is no command.
pub(super) fn check_module(module: &Module) -> Result<(), Error> {
    let linker = link_module(module).map_err(|error| Error::Engine { source: cause(error) })?;
    let mut store = Store::new(module.engine(), Host::default());
    let missing = module.imports().filter(|import| linker.get_by_import(&mut store, import).is_none());
    refuse_missing(missing.map(|import| format!("{}::{}", import.module(), import.name())).collect())?;
    linker.instantiate_pre(module).map_err(|error| Error::MismatchedImport { source: cause_with_names(&error) })?;
    match module.get_export("_start") {
        Some(ExternType::Func(start)) if start.params().len() == 0 && start.results().len() == 0 => Ok(()),
        Some(_) => Err(not_command("its `_start` is not a function without parameters and results")),
        None if module.get_export("_initialize").is_some() => {
            Err(not_command("it is a reactor, which waits to be called: it exports `_initialize` and no `_start`"))
        }
        None => Err(not_command("it is a library: it exports no `_start`")),
    }
}

/// Refuses a component that could not be started: an import is missing or differs, or it is no command.
pub(super) fn check_component(component: &Component) -> Result<(), Error> {
    let engine = component.engine();
    let component_type = component.component_type();
    let imports = component_type.imports(engine).map(|(name, _)| name);
    refuse_missing(imports.filter(|name| !is_offered(name)).map(String::from).collect())?;
    let linker = link_component(component).map_err(|error| Error::Engine { source: cause(error) })?;
    linker.instantiate_pre(component).map_err(|error| Error::MismatchedImport { source: cause_with_names(&error) })?;
    let exports: Vec<&str> = component_type.exports(engine).map(|(name, _)| name).collect();
    command(&exports)
}

/// Judges a component by the names of its exports.
fn command(exports: &[&str]) -> Result<(), Error> {
    let has = |wanted: &str| exports.iter().find(|name| name.split('@').next() == Some(wanted));
    match has(RUN) {
        Some(run) if run.split_once('@').is_some_and(|(_, version)| version.starts_with(WASI_0_2)) => Ok(()),
        Some(run) => Err(not_command(&format!(
            "it is a command of another version of WASI: it exports `{}`",
            shown(run, MAX_NAME)
        ))),
        None => match HTTP_HANDLERS.iter().find_map(|handler| has(handler)) {
            Some(handler) => Err(not_command(&format!(
                "it is an HTTP server: it exports `{}` and no `{RUN}`",
                shown(handler, MAX_NAME)
            ))),
            None => Err(not_command(&format!("it is a library: it exports no `{RUN}`"))),
        },
    }
}

fn not_command(what: &str) -> Error {
    Error::NotCommand { what: what.into() }
}

fn refuse_missing(imports: Vec<String>) -> Result<(), Error> {
    if imports.is_empty() { Ok(()) } else { Err(Error::MissingImports { imports }) }
}

/// What to do about missing imports, where their names tell.
pub(super) fn hint(imports: &[String]) -> Option<String> {
    let any = |start: &str| imports.iter().any(|import| import.starts_with(start));
    if imports.iter().any(|import| import.contains("@0.3.")) {
        Some("WASI 0.3 is not offered: build for wasm32-wasip2 or wasm32-wasip1".into())
    } else if any("wasi:http/") {
        Some("HTTP from inside a program is not offered".into())
    } else if any("env::") {
        Some("functions of `env` come from a compiler's own environment: build for WASI (wasm32-wasip1)".into())
    } else if any("wasi::thread-spawn") {
        Some("WASI has no threads: build without them".into())
    } else {
        None
    }
}
