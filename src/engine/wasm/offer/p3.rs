//! The interfaces of WASI 0.3.

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
    if interfaces.iter().any(|interface| interface.starts_with("wasi:http/")) {
        wasmtime_wasi_http::p3::add_to_linker(linker)?;
    }
    Ok(())
}
