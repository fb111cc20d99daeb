//! The interfaces of WASI 0.3.

use wasmtime_wasi::p3::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup;

use super::super::clock::Clocks;
use super::super::host::Host;
use super::super::net::lookup::Lookup;
use super::Link;

/// The packages, all of whose interfaces are offered.
const PACKAGES: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:random/", "wasi:sockets/"];

/// Whether an interface is offered.
pub(super) fn offers(interface: &str) -> bool {
    PACKAGES.iter().any(|package| interface.starts_with(package))
}

/// Puts the packages that `interfaces` are of into `linker`.
pub(super) fn link(linker: &mut Link, interfaces: &[&str]) -> wasmtime::Result<()> {
    if interfaces.is_empty() {
        return Ok(());
    }
    wasmtime_wasi::p3::add_to_linker(linker)?;
    // In place of what was put there.
    linker.allow_shadowing(true);
    if interfaces.contains(&"wasi:sockets/ip-name-lookup") {
        ip_name_lookup::add_to_linker::<Host, Lookup>(linker, Host::for_names)?;
    }
    if interfaces.contains(&"wasi:clocks/monotonic-clock") {
        monotonic_clock::add_to_linker::<Host, Clocks>(linker, Host::for_clocks)?;
    }
    linker.allow_shadowing(false);
    if interfaces.iter().any(|interface| interface.starts_with("wasi:http/")) {
        wasmtime_wasi_http::p3::add_to_linker(linker)?;
    }
    Ok(())
}
