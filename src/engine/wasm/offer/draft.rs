//! Interfaces that WASI has not finished, in the drafts that are offered.

use wasmtime_wasi_tls::{p2, p3};

use super::super::host::Host;
use super::super::keyvalue::{KeyValue, atomics, batch, interface};
use super::Link;

type Add = fn(&mut Link) -> wasmtime::Result<()>;

/// Each interface by its whole name, and how the package that it is of gets into a linker.
const INTERFACES: [(&str, Add); 7] = [
    ("wasi:config/store@0.2.0-rc.1", |l| wasmtime_wasi_config::add_to_linker(l, Host::for_config)),
    ("wasi:keyvalue/store@0.2.0-draft", keyvalue),
    ("wasi:keyvalue/atomics@0.2.0-draft", keyvalue),
    ("wasi:keyvalue/batch@0.2.0-draft", keyvalue),
    ("wasi:tls/types@0.2.0-draft", tls2),
    ("wasi:tls/types@0.3.0-draft", tls3),
    ("wasi:tls/client@0.3.0-draft", tls3),
];

fn keyvalue(linker: &mut Link) -> wasmtime::Result<()> {
    interface::add_to_linker::<Host, KeyValue>(linker, Host::for_keyvalue)?;
    atomics::add_to_linker::<Host, KeyValue>(linker, Host::for_keyvalue)?;
    batch::add_to_linker::<Host, KeyValue>(linker, Host::for_keyvalue)
}

fn tls2(linker: &mut Link) -> wasmtime::Result<()> {
    let mut options = p2::LinkOptions::default();
    options.tls(true);
    p2::add_to_linker(linker, &options)
}

fn tls3(linker: &mut Link) -> wasmtime::Result<()> {
    p3::add_to_linker(linker)
}

/// Every draft that is offered.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    INTERFACES.iter().map(|(name, _)| *name)
}

/// Whether an interface is offered.
pub(super) fn offers(import: &str) -> bool {
    INTERFACES.iter().any(|(name, _)| *name == import)
}

/// Puts those of `imports` that are offered into `linker`, with what belongs to them.
pub(super) fn link(linker: &mut Link, imports: &[&str]) -> wasmtime::Result<()> {
    let mut added: Vec<&str> = Vec::new();
    for (name, add) in INTERFACES.iter().filter(|(name, _)| imports.contains(name)) {
        // The interfaces of one package come together.
        if !added.iter().any(|known| package(known) == package(name)) {
            add(linker)?;
            added.push(name);
        }
    }
    Ok(())
}

/// The package and version of an interface.
fn package(import: &str) -> (Option<&str>, Option<&str>) {
    (import.split('/').next(), import.split('@').nth(1))
}
