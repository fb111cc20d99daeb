//! The floor for starting a WebAssembly program: wasmtime of the same version, embedded as thinly as
//! its own command line does it, and next to it the engine of this crate without a container.
//!
//! ```text
//! wasmtime-floor wrap APP.wasm COMPONENT.wasm    a preview 1 command as a 0.2 component
//! wasmtime-floor compile APP.wasm APP.cwasm      what `wasmtime compile` does
//! wasmtime-floor run APP.cwasm [ARG…]            what `wasmtime run --allow-precompiled` does
//! wasmtime-floor engine CACHE APP.wasm [ARG…]    lookup or compile, load and run as wherry does
//! wasmtime-floor stages CACHE APP.wasm [ARG…]    the same, telling on stderr what each step took
//! ```
//!
//! An ARG `--dir=PATH` before the others gives that directory to the program under the same name.
//!
//! All start the same binary, so that a ratio between them compares engines and not how long the
//! loader takes. `run` takes any file for compiled code: it is for measuring only.

#![expect(unsafe_code, reason = "wasmtime's way of loading compiled code is unsafe, and this is that way")]

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use wasmtime::component::{Component, ResourceTable};
use wasmtime::{Config, Engine, Module, Precompiled, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wherry::engine::wasm;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["wrap", from, to] => wrap(from, to),
        ["compile", from, to] => compile(from, to),
        ["run", code, ref rest @ ..] => run(code, rest),
        ["engine", cache, program, ref rest @ ..] => engine(cache, program, rest, false),
        ["stages", cache, program, ref rest @ ..] => engine(cache, program, rest, true),
        _ => Err("usage: wasmtime-floor wrap|compile|run|engine|stages …".into()),
    };
    done.map_or_else(failed, ExitCode::from)
}

fn failed(error: Failure) -> ExitCode {
    eprintln!("wasmtime-floor: {error}");
    ExitCode::FAILURE
}

fn wrap(from: &str, to: &str) -> Result<u8, Failure> {
    use wasi_preview1_component_adapter_provider as adapter;
    let name = adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
    let component = wit_component::ComponentEncoder::default()
        .module(&std::fs::read(from)?)?
        .adapter(name, adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .encode()?;
    std::fs::write(to, component)?;
    Ok(0)
}

fn compile(from: &str, to: &str) -> Result<u8, Failure> {
    let engine = Engine::new(&Config::new())?;
    let bytes = std::fs::read(from)?;
    let code = match wasm::sniff(&bytes) {
        Some(wasm::Kind::Module) => engine.precompile_module(&bytes)?,
        Some(wasm::Kind::Component) => engine.precompile_component(&bytes)?,
        None => return Err("not WebAssembly".into()),
    };
    std::fs::write(to, code)?;
    Ok(0)
}

fn run(code: &str, args: &[&str]) -> Result<u8, Failure> {
    let engine = Engine::new(&Config::new())?;
    let mut wasi = WasiCtxBuilder::new();
    let (directory, args) = split(args);
    wasi.inherit_stdio().arg("app").args(args).allow_blocking_current_thread(true);
    if let Some(directory) = directory {
        wasi.preopened_dir(directory, directory, FsPerms::ReadWrite)?;
    }
    let result = match Engine::detect_precompiled_file(code)? {
        // SAFETY: the operator of a benchmark vouches for the file.
        Some(Precompiled::Module) => run_module(&unsafe { Module::deserialize_file(&engine, code)? }, wasi),
        // SAFETY: as above.
        Some(Precompiled::Component) => run_component(&unsafe { Component::deserialize_file(&engine, code)? }, wasi),
        None => return Err("not compiled code".into()),
    };
    match result {
        Ok(code) => Ok(code),
        Err(error) => match error.downcast_ref() {
            Some(I32Exit(code)) => Ok(*code as u8),
            None => Err(error.into()),
        },
    }
}

/// The directory to give to the program, and its arguments.
fn split<'a>(args: &'a [&'a str]) -> (Option<&'a str>, &'a [&'a str]) {
    match args {
        [first, rest @ ..] if first.starts_with("--dir=") => (first.strip_prefix("--dir="), rest),
        _ => (None, args),
    }
}

fn run_module(module: &Module, mut wasi: WasiCtxBuilder) -> wasmtime::Result<u8> {
    let mut linker = wasmtime::Linker::new(module.engine());
    wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |context: &mut WasiP1Ctx| context)?;
    let mut store = Store::new(module.engine(), wasi.build_p1());
    let instance = linker.instantiate(&mut store, module)?;
    instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())?;
    Ok(0)
}

struct Host {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

fn run_component(component: &Component, mut wasi: WasiCtxBuilder) -> wasmtime::Result<u8> {
    let mut linker = wasmtime::component::Linker::new(component.engine());
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    let host = Host { context: wasi.build(), table: ResourceTable::new() };
    let mut store = Store::new(component.engine(), host);
    let command = Command::instantiate(&mut store, component, &linker)?;
    Ok(if command.wasi_cli_run().call_run(&mut store)?.is_ok() { 0 } else { 1 })
}

fn engine(cache: &str, program: &str, args: &[&str], stages: bool) -> Result<u8, Failure> {
    let mut last = Instant::now();
    let mut stage = |name: &str| {
        if stages {
            eprintln!("{name:>8} {:>7} µs", last.elapsed().as_micros());
        }
        last = Instant::now();
    };
    let source = wasm::Source::read(File::open(program)?)?;
    stage("read");
    let compiled = wasm::compile_here(Path::new(cache), &source)?;
    stage("lookup");
    drop(source);
    let program = wasm::load(compiled)?;
    stage("load");
    let (directory, args) = split(args);
    let args = std::iter::once("app").chain(args.iter().copied()).map(String::from).collect();
    let preopen = |path: &str| wasm::Preopen { host: path.into(), guest: path.into(), readonly: false };
    let preopens = directory.into_iter().map(preopen).collect();
    let code = wasm::run(program, wasm::Invocation { args, preopens, ..Default::default() })?;
    stage("run");
    Ok(code)
}
