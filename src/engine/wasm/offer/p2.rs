//! The interfaces of WASI 0.2.

use wasmtime_wasi::cli::WasiCli;
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::p2::bindings::{self, cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::WasiSockets;
use wasmtime_wasi::{WasiView, p2};
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p2::bindings as http;

use super::super::clock::Clocks;
use super::super::files;
use super::super::host::Host;
use super::super::net::lookup::Lookup;
use super::{Link, removal};

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
const INTERFACES: [(&str, Add); 20] = [
    ("wasi:filesystem/types", |l| {
        filesystem::types::add_to_linker::<Host, WasiFilesystem>(l, Host::for_filesystem)?;
        files::link(l)?;
        removal::link_component(l)
    }),
    ("wasi:filesystem/preopens", |l| {
        filesystem::preopens::add_to_linker::<Host, WasiFilesystem>(l, Host::for_filesystem)
    }),
    ("wasi:random/insecure", |l| random::insecure::add_to_linker::<Host, WasiRandom>(l, |h| h.ctx().ctx.random())),
    ("wasi:random/insecure-seed", |l| {
        random::insecure_seed::add_to_linker::<Host, WasiRandom>(l, |h| h.ctx().ctx.random())
    }),
    ("wasi:cli/exit", |l| cli::exit::add_to_linker::<Host, WasiCli>(l, Host::for_cli)),
    ("wasi:cli/environment", |l| cli::environment::add_to_linker::<Host, WasiCli>(l, Host::for_cli)),
    ("wasi:cli/terminal-input", |l| cli::terminal_input::add_to_linker::<Host, WasiCli>(l, Host::for_cli)),
    ("wasi:cli/terminal-output", |l| cli::terminal_output::add_to_linker::<Host, WasiCli>(l, Host::for_cli)),
    ("wasi:cli/terminal-stdin", |l| cli::terminal_stdin::add_to_linker::<Host, WasiCli>(l, Host::for_cli)),
    ("wasi:cli/terminal-stdout", |l| cli::terminal_stdout::add_to_linker::<Host, WasiCli>(l, Host::for_cli)),
    ("wasi:cli/terminal-stderr", |l| cli::terminal_stderr::add_to_linker::<Host, WasiCli>(l, Host::for_cli)),
    ("wasi:sockets/network", |l| {
        let options = sockets::network::LinkOptions::from(&bindings::LinkOptions::default());
        sockets::network::add_to_linker::<Host, WasiSockets>(l, &options, Host::for_sockets)
    }),
    ("wasi:sockets/instance-network", |l| {
        sockets::instance_network::add_to_linker::<Host, WasiSockets>(l, Host::for_sockets)
    }),
    ("wasi:sockets/ip-name-lookup", |l| sockets::ip_name_lookup::add_to_linker::<Host, Lookup>(l, Host::for_names)),
    ("wasi:sockets/tcp", |l| sockets::tcp::add_to_linker::<Host, WasiSockets>(l, Host::for_sockets)),
    ("wasi:sockets/tcp-create-socket", |l| {
        sockets::tcp_create_socket::add_to_linker::<Host, WasiSockets>(l, Host::for_sockets)
    }),
    ("wasi:sockets/udp", |l| sockets::udp::add_to_linker::<Host, WasiSockets>(l, Host::for_sockets)),
    ("wasi:sockets/udp-create-socket", |l| {
        sockets::udp_create_socket::add_to_linker::<Host, WasiSockets>(l, Host::for_sockets)
    }),
    ("wasi:http/types", |l| {
        let options = http::LinkOptions::default();
        http::http::types::add_to_linker::<Host, WasiHttp>(l, &(&options).into(), Host::for_http)
    }),
    ("wasi:http/outgoing-handler", |l| {
        http::http::outgoing_handler::add_to_linker::<Host, WasiHttp>(l, Host::for_http)
    }),
];

/// Whether an interface is offered.
pub(super) fn offers(interface: &str) -> bool {
    CORE.contains(&interface) || INTERFACES.iter().any(|(offered, _)| *offered == interface)
}

/// Puts those of `interfaces` that are offered into `linker`.
pub(super) fn link(linker: &mut Link, interfaces: &[&str]) -> wasmtime::Result<()> {
    if interfaces.is_empty() {
        return Ok(());
    }
    p2::add_to_linker_proxy_interfaces_async(linker)?;
    if interfaces.contains(&"wasi:clocks/monotonic-clock") {
        linker.allow_shadowing(true);
        clocks::monotonic_clock::add_to_linker::<Host, Clocks>(linker, Host::for_clocks)?;
        linker.allow_shadowing(false);
    }
    for (name, add) in INTERFACES {
        if interfaces.contains(&name) {
            add(linker)?;
        }
    }
    Ok(())
}
