//! What a program may import, and what it must export.
//!
//! Everything that is offered is harmless by itself: what it can reach is decided by the
//! [`Invocation`](super::Invocation). The sockets of WASI 0.2 are offered, as most programs import them
//! without using them, and deny every use.

mod draft;
mod missing;
mod names;
mod p2;
mod p3;
mod removal;

pub(super) use missing::hint;

use wasmtime::component::{self, Component};
use wasmtime::{ExternType, Linker, Module, Store};
use wasmtime_wasi::p2::bindings as bindings2;
use wasmtime_wasi::p3::bindings as bindings3;
use wasmtime_wasi::{I32Exit, p0, p1};
use wasmtime_wasi_http::p2::bindings as http2;
use wasmtime_wasi_http::p3::bindings as http3;

use super::clock;
use super::host::Host;
use super::settings::Purpose;
use super::{Error, Kind, MAX_NAME, Source, cause, cause_with_names, shown};

/// The name under which a module imports WASI preview 1.
const PREVIEW1: &str = "wasi_snapshot_preview1";
/// The one before it, still met in old programs.
const PREVIEW0: &str = "wasi_unstable";
/// What begins the versions of the WASI interfaces that are offered to components.
const WASI_0_2: &str = "0.2.";
const WASI_0_3: &str = "0.3.";
/// The interface by which a component is started.
const RUN: &str = "wasi:cli/run";
/// The interfaces by which a component serves HTTP: of WASI 0.2 and of 0.3.
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler";
const HANDLER: &str = "wasi:http/handler";

pub(super) type Link = component::Linker<Host>;

/// What a component is, by what it exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A command of WASI 0.2.
    Command2,
    /// A command of WASI 0.3.
    Command3,
    /// An HTTP server of WASI 0.2.
    Server2,
    /// An HTTP server of WASI 0.3.
    Server3,
}

/// A linker that has what `module` imports, as far as it is offered.
pub(super) fn link_module(module: &Module) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(module.engine());
    if module.imports().any(|import| import.module() == PREVIEW1) {
        p1::add_to_linker_async(&mut linker, Host::for_preview1)?;
        override_exit(&mut linker, PREVIEW1)?;
        removal::link_module(&mut linker)?;
    }
    if module.imports().any(|import| import.module() == PREVIEW0) {
        p0::add_to_linker_async(&mut linker, Host::for_preview1)?;
        override_exit(&mut linker, PREVIEW0)?;
    }
    Ok(linker)
}

/// The same with a clock that is the same at every run.
pub(super) fn link_module_with_fixed_clock(module: &Module) -> wasmtime::Result<Linker<Host>> {
    let mut linker = link_module(module)?;
    // The one before it has other structures, and programs of it have not been made for years: they sleep, and their
    // clock does not know.
    if module.imports().any(|import| import.module() == PREVIEW1) {
        clock::fix_poll(&mut linker, PREVIEW1)?;
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
    // and the linker finds it by either. Only what is imported is put into the linker: making an entry for
    // every function of all interfaces takes longer than starting a small program.
    let imports: Vec<&str> = component_type.imports(engine).map(|(import, _)| import).collect();
    let of = |version| imports.iter().filter_map(move |import| interface(import, version)).collect::<Vec<_>>();
    let mut linker = Link::new(engine);
    p2::link(&mut linker, &of(WASI_0_2))?;
    p3::link(&mut linker, &of(WASI_0_3))?;
    draft::link(&mut linker, &imports)?;
    Ok(linker)
}

/// The interface imported as `wasi:package/name@version`, if that is of the version wanted.
fn interface<'a>(import: &'a str, wanted: &str) -> Option<&'a str> {
    let (name, version) = import.split_once('@')?;
    (version.starts_with(wanted) && !version.contains('-')).then_some(name)
}

/// Whether a component can import the interface of this name.
pub fn offers(import: &str) -> bool {
    interface(import, WASI_0_2).is_some_and(p2::offers)
        || interface(import, WASI_0_3).is_some_and(p3::offers)
        || draft::offers(import)
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
        None => {
            let exports = listed(module.exports().map(|export| export.name().to_owned()));
            Err(not_command(&format!("it is a library: it exports no `_start`, but {exports}")))
        }
    }
}

/// Refuses a component that could not be started: an import is missing or differs, or it is no command.
pub(super) fn check_component(component: &Component) -> Result<(), Error> {
    let engine = component.engine();
    let component_type = component.component_type();
    let imports = component_type.imports(engine).map(|(name, _)| name);
    refuse_missing(imports.filter(|name| !offers(name)).map(String::from).collect())?;
    let linker = link_component(component).map_err(|error| Error::Engine { source: cause(error) })?;
    let linked = linker.instantiate_pre(component);
    let linked = linked.map_err(|error| Error::MismatchedImport { source: cause_with_names(&error) })?;
    let complete = match role(component)? {
        Role::Command2 => bindings2::CommandPre::new(linked).map(drop),
        Role::Command3 => bindings3::CommandPre::new(linked).map(drop),
        Role::Server2 => http2::ProxyPre::new(linked).map(drop),
        Role::Server3 => http3::ServicePre::new(linked).map(drop),
    };
    complete.map_err(|error| not_command(&format!("its export is not as WASI has it: {}", cause_with_names(&error))))
}

/// What `component` is, by the names of its exports.
pub(super) fn role(component: &Component) -> Result<Role, Error> {
    let component_type = component.component_type();
    let exports: Vec<&str> = component_type.exports(component.engine()).map(|(name, _)| name).collect();
    role_of(&exports)
}

/// What a program is for, by what it imports and exports, and whether it is to be metered. A component that cannot be
/// read is a command: the compiler says what is wrong with it. A server is never metered.
pub(super) fn purpose(source: &Source, metered: bool) -> Purpose {
    let command = if metered { Purpose::Metered } else { Purpose::Command };
    let named = match source.kind {
        Kind::Module => return command,
        Kind::Component => names::of(&source.bytes).unwrap_or_default(),
    };
    let exports: Vec<&str> = named.exports.iter().map(String::as_str).collect();
    let asynchronous = named.imports.iter().any(|import| interface(import, WASI_0_3).is_some());
    match role_of(&exports) {
        Ok(Role::Server2) if !asynchronous => Purpose::Server2,
        Ok(Role::Server2 | Role::Server3) => Purpose::Server3,
        _ => command,
    }
}

/// What each export makes of a component, the one that decides first. A toolchain can add a `run` that does nothing to
/// whatever it links, and a `run` of 0.2 to a program that has its own of 0.3.
const ROLES: [(&str, &str, Role); 4] = [
    (HANDLER, WASI_0_3, Role::Server3),
    (INCOMING_HANDLER, WASI_0_2, Role::Server2),
    (RUN, WASI_0_3, Role::Command3),
    (RUN, WASI_0_2, Role::Command2),
];

fn role_of(exports: &[&str]) -> Result<Role, Error> {
    let has = |name, version| exports.iter().any(|export| interface(export, version) == Some(name));
    let found = ROLES.iter().find(|(name, version, _)| has(*name, version));
    if let Some((.., role)) = found {
        return Ok(*role);
    }
    if let Some(other) = exports.iter().find(|e| ROLES.iter().any(|(name, ..)| e.split('@').next() == Some(name))) {
        let other = shown(other, MAX_NAME);
        return Err(not_command(&format!("it is of another version of WASI than 0.2 and 0.3: it exports `{other}`")));
    }
    let exports = listed(exports.iter().map(|&name| name.to_owned()));
    Err(not_command(&format!("it is a library: it exports neither `{RUN}` nor an HTTP handler, but {exports}")))
}

/// The most exports of a library that are named.
const MAX_EXPORTS: usize = 5;

/// Some of the names that a program exports, fit to be printed.
fn listed(exports: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> =
        exports.take(MAX_EXPORTS + 1).map(|name| format!("`{}`", shown(&name, MAX_NAME))).collect();
    if names.len() > MAX_EXPORTS {
        names[MAX_EXPORTS] = "more".into();
    }
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// The world of WASI that is the one for these exports.
pub(super) fn target_of(exports: &[String]) -> Option<String> {
    let worlds = [(HANDLER, "wasi:http/service"), (INCOMING_HANDLER, "wasi:http/proxy"), (RUN, "wasi:cli/command")];
    let named = |(export, world)| {
        let version = exports.iter().find_map(|name| name.strip_prefix(export)?.strip_prefix('@'))?;
        Some(format!("{world}@{version}"))
    };
    worlds.into_iter().find_map(named)
}

fn not_command(what: &str) -> Error {
    Error::NotCommand { what: what.into() }
}

fn refuse_missing(imports: Vec<String>) -> Result<(), Error> {
    if imports.is_empty() { Ok(()) } else { Err(Error::MissingImports { imports }) }
}

/// An import that is not offered, as it is shown: its name, and whose it is.
pub(super) fn told(import: &str) -> String {
    let name = shown(import, MAX_NAME);
    match missing::owner(import) {
        Some(owner) => format!("{name} ({owner})"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_what_it_exports() {
        let roles = [
            (&["wasi:cli/run@0.2.0"][..], Role::Command2),
            (&["wasi:cli/run@0.3.0"], Role::Command3),
            (&["wasi:http/incoming-handler@0.2.12"], Role::Server2),
            (&["wasi:http/handler@0.3.0"], Role::Server3),
            // What a toolchain added does not count.
            (&["wasi:cli/run@0.2.6", "wasi:cli/run@0.3.0"], Role::Command3),
            (&["wasi:cli/run@0.2.6", "wasi:http/incoming-handler@0.2.6"], Role::Server2),
            (&["wasi:cli/run@0.2.6", "wasi:http/handler@0.3.0"], Role::Server3),
            (&["memory", "wasi:cli/run@0.4.0", "wasi:cli/run@0.2.0"], Role::Command2),
        ];
        for (exports, role) in roles {
            assert_eq!(role_of(exports).unwrap(), role, "{exports:?}");
        }
        for (exports, said) in [
            (&["wasi:cli/run@0.4.0"][..], "another version of WASI"),
            (&["wasi:cli/run@0.3.0-rc-2026-03-15"], "another version of WASI"),
            (&["wasi:http/handler@0.2.0"], "another version of WASI"),
            (&["add"], "it is a library"),
            (&[], "it is a library"),
        ] {
            let error = role_of(exports).unwrap_err().to_string();
            assert!(error.contains(said), "{exports:?}: {error}");
        }
    }
}
