//! Programs run as a user would run them: real guests, compiled with clang from `tests/guests`, as a
//! preview 1 module and, wrapped by the adapter, as a 0.2 component.

mod bytes;
mod cached;
mod denied;
mod ending;
mod features;
mod files;
mod process;
mod running;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use super::*;

/// Where guests are kept from one run of the tests to the next: beside the test binary.
pub fn guests() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let guests = exe.parent().unwrap().join("wasm-guests");
    std::fs::create_dir_all(&guests).unwrap();
    guests
}

/// One directory of compiled code for all tests: each guest is compiled once.
pub fn cache() -> PathBuf {
    guests().join("wasm")
}

/// The guest that does one thing by name, as a module.
pub fn probe() -> Vec<u8> {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| build("probe.c")).clone()
}

/// The same guest as a component.
pub fn probe_component() -> Vec<u8> {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| componentize(&probe())).clone()
}

/// Compiles a guest from `tests/guests`.
fn build(source: &str) -> Vec<u8> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let output = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new(guests.join("build")).arg(guests.join(source)).arg(output.path()).status();
    assert!(status.expect("tests/guests/build runs").success(), "is clang with wasi-libc installed?");
    std::fs::read(output.path()).unwrap()
}

/// Wraps a preview 1 command into a 0.2 component.
fn componentize(module: &[u8]) -> Vec<u8> {
    use wasi_preview1_component_adapter_provider as adapter;
    let encoder = wit_component::ComponentEncoder::default().validate(true).module(module).unwrap();
    let name = adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
    encoder.adapter(name, adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER).unwrap().encode().unwrap()
}

pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

pub fn try_compile(bytes: &[u8]) -> Result<Compiled, Error> {
    compile_here(&cache(), &Source::try_from(bytes.to_vec())?)
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: u8,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Both shapes of the probe: what holds for one must hold for the other.
pub fn both() -> [Vec<u8>; 2] {
    [probe(), probe_component()]
}

pub fn invocation(args: &[&str]) -> Invocation {
    let args = std::iter::once("probe").chain(args.iter().copied());
    Invocation { args: args.map(String::from).collect(), ..Invocation::default() }
}

/// A program ready to run; each is loaded once.
pub fn program(bytes: &[u8]) -> Program {
    static LOADED: Mutex<BTreeMap<Vec<u8>, Program>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = loaded.get(bytes) {
        return program.clone();
    }
    let program = load(try_compile(bytes).unwrap()).unwrap();
    loaded.insert(bytes.to_vec(), program.clone());
    program
}

pub fn run_bytes(bytes: &[u8], invocation: Invocation, stdin: &[u8]) -> Ran {
    let program = program(bytes);
    let (mut into, stdin_end) = pipe();
    let (out, stdout) = pipe_out();
    let (err, stderr) = pipe_out();
    let input = stdin.to_vec();
    let feed = thread::spawn(move || into.write_all(&input).ok());
    let (out, err) = (drain(out), drain(err));
    let code = run_with(program, invocation, Stdio { stdin: stdin_end, stdout, stderr }).unwrap();
    feed.join().unwrap();
    Ran { code, stdout: out.join().unwrap(), stderr: String::from_utf8(err.join().unwrap()).unwrap() }
}

/// Runs the probe on no input.
pub fn run_probe(bytes: &[u8], args: &[&str]) -> Ran {
    run_bytes(bytes, invocation(args), b"")
}

fn pipe() -> (File, File) {
    let (read, write) = std::io::pipe().unwrap();
    (File::from(std::os::fd::OwnedFd::from(write)), File::from(std::os::fd::OwnedFd::from(read)))
}

fn pipe_out() -> (File, File) {
    let (write, read) = pipe();
    (read, write)
}

fn drain(mut from: File) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}
