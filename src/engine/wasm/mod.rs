//! WebAssembly programs: from bytes that anybody may have written to an exit code.
//!
//! ```text
//!   bytes  ── sniff ──→ Kind          module (WASI preview 1) or component (WASI 0.2, 0.3); ELF, text and
//!          │                          everything else is refused by name
//!          ── compile → Compiled      validated, every import offered, a command; kept in cache/wasm,
//!          │                          an open file from here on
//!  ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─    here a container's process may enter its namespaces: no path of
//!          │                          the host is needed any more
//!          ── load ───→ Program       mapped, not yet running
//!          ── run ────→ exit code     the calling process *is* the program
//! ```
//!
//! The two halves run in different processes. Compiling reads a stranger's bytes with a large compiler
//! and takes whatever time and memory those bytes ask for: it is done in a process of its own, behind walls of its own and
//! within limits ([`compile`]), never in the command line, a supervisor or a daemon. Running starts no thread: there is
//! one event loop, on which a call that waits for a file simply waits.
//!
//! A program can do what its [`Invocation`] says and nothing else: its arguments, its environment, the
//! directories in it, three streams, clocks and random numbers. There is no network beyond what was granted:
//! sockets exist, and every other use of them is denied. Wasmtime's types end at this file.
//!
//! Not here: namespaces, cgroups and seccomp, which are the same for every container and set up before
//! [`run`]; a limit on time, for which the program's process is ended from outside.

#[cfg(target_os = "linux")]
mod apart;
mod cache;
mod ceiling;
mod clock;
mod compile;
mod describe;
mod files;
pub mod grant;
mod host;
mod identity;
mod keyvalue;
mod net;
mod offer;
mod program;
mod serve;
mod settings;
mod sniff;
mod stdio;
mod trap;
pub mod view;

#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::io;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub use apart::{COMPILE, stage as compile_stage};
pub use compile::{compile, compile_here, damaged, discard, lookup, recall, remember};
pub use describe::{Description, describe};
pub use identity::Identity;
pub use net::Names;
pub use offer::offers;
pub use program::{Invocation, Limits, Preopen, Program, load, run, run_with};
pub use sniff::{Kind, MAX_WASM_BYTES, Source, begins, refuses, sniff};
pub use stdio::Stdio;

pub use cache::Compiled;

use crate::error::{Failure, Kind as FailureKind};
use crate::sys;

/// What runs the programs.
pub const VERSION: &str = "wasmtime 48 (WASI preview 1, 0.2 and 0.3)";

/// The exit code of a program that trapped: what a shell shows for a native program that aborted.
pub const TRAP_EXIT_CODE: u8 = 134;

/// The exit code of a program whose time was up: that of timeout(1).
pub const TIMEOUT_EXIT_CODE: u8 = 124;

/// What can go wrong between a program's bytes and its first instruction. A trap is not an error: it is
/// reported on the program's standard error and in its exit code, [`TRAP_EXIT_CODE`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes could not be read.
    #[error("cannot read the WebAssembly program")]
    Read {
        /// The reason.
        source: io::Error,
    },
    /// More bytes than any program should have.
    #[error("the WebAssembly program is larger than {limit} bytes")]
    TooLarge {
        /// The limit that was crossed.
        limit: u64,
    },
    /// Not a WebAssembly binary.
    #[error("not a WebAssembly program: {found}")]
    NotWasm {
        /// What the bytes look like.
        found: String,
    },
    /// Machine code that some engine compiled earlier (`.cwasm`).
    #[error("native machine code (such as a precompiled .cwasm) is never loaded, only WebAssembly")]
    Precompiled,
    /// The bytes begin as WebAssembly but break its rules.
    #[error("invalid WebAssembly")]
    Invalid {
        /// What the compiler found.
        source: Cause,
    },
    /// More arguments and environment than a program may be given.
    #[error("the arguments and the environment are larger than {limit} bytes")]
    TooManyArguments {
        /// The limit that was crossed.
        limit: usize,
    },
    /// A server whose instructions were to be counted.
    #[error("the instructions of an HTTP server are not counted (--fuel)")]
    MeteredServer,
    /// Code that does not count, for a program that is to be held to a number.
    #[error("the program was compiled without counting its instructions (--fuel)")]
    Unmetered,
    /// Compiling took too long.
    #[error("compiling the program took longer than {limit:?} (--compile-timeout)")]
    CompileTime {
        /// The limit that was crossed.
        limit: std::time::Duration,
    },
    /// Compiling took too much memory.
    #[error("compiling the program took more memory than {} (--compile-memory)", grant::quantity::shown(*limit))]
    CompileMemory {
        /// The limit that was crossed, in bytes.
        limit: u64,
    },
    /// The compiler did not come to its end.
    #[error("the compiler failed on the program: {what}")]
    Compiler {
        /// What it said, or how it ended.
        what: String,
    },
    /// The compiler could not be started, or not be heard.
    #[error("cannot start the compiler")]
    Start {
        /// The call that failed.
        source: sys::Error,
    },
    /// The program needs something from its host that is not offered.
    #[error("the program imports what is not offered: {}", named(imports))]
    MissingImports {
        /// The imports, as `module::name` or as the interface's name.
        imports: Vec<String>,
    },
    /// An import has the right name and a wrong type.
    #[error("the program imports something of another type than is offered")]
    MismatchedImport {
        /// Which, and how they differ.
        source: Cause,
    },
    /// Nothing to start: a library, a reactor or a server.
    #[error("the program cannot be started: {what}")]
    NotCommand {
        /// What it is instead.
        what: String,
    },
    /// The directory of compiled code cannot be used.
    #[error("cannot use the cache of compiled code {directory:?}")]
    Cache {
        /// That directory.
        directory: PathBuf,
        /// The call that failed.
        source: sys::Error,
    },
    /// Compiled code was not accepted by this engine.
    #[error("cannot load the compiled program")]
    Load {
        /// The reason.
        source: Cause,
    },
    /// A directory that was to be given to the program.
    #[error("cannot give the directory {host:?} to the program as {guest:?}")]
    Preopen {
        /// Where it is.
        host: PathBuf,
        /// What the program would have called it.
        guest: String,
        /// The reason.
        source: Cause,
    },
    /// A store that was given to the program cannot be opened.
    #[error("cannot open the store {name:?} in {directory:?}")]
    Store {
        /// What the program would have called it.
        name: String,
        /// Where it is, for the program.
        directory: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Names of hosts were granted, and how this machine resolves them could not be read.
    #[error("cannot read how this machine finds the addresses of names")]
    Names {
        /// The reason.
        source: io::Error,
    },
    /// The directory for core dumps is none that the program may write.
    #[error("there is no place for a core dump: no directory was given to the program, writable, as {directory:?}")]
    CoreDump {
        /// What was named.
        directory: String,
    },
    /// The port of an HTTP server cannot be listened on.
    #[error("cannot listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// The reason.
        source: io::Error,
    },
    /// The engine itself could not be set up.
    #[error("cannot set up the WebAssembly engine")]
    Engine {
        /// The reason.
        source: Cause,
    },
    /// The program's first memory, table or instance could not be made.
    #[error("cannot instantiate the program")]
    Instantiate {
        /// The reason, such as the limit that was reached.
        source: Cause,
    },
}

/// A reason that came from the engine below, as text and chain.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Failure for Error {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Read { source } | Self::Names { source } | Self::Store { source, .. } => FailureKind::of_io(source),
            Self::TooLarge { .. }
            | Self::Instantiate { .. }
            | Self::CompileTime { .. }
            | Self::CompileMemory { .. }
            | Self::TooManyArguments { .. } => FailureKind::ResourceExhausted,
            Self::Compiler { .. } => FailureKind::InvalidArgument,
            Self::Start { source } => source.kind(),
            Self::NotWasm { .. } | Self::Invalid { .. } | Self::CoreDump { .. } => FailureKind::InvalidArgument,
            Self::MeteredServer => FailureKind::Unsupported,
            Self::Unmetered => FailureKind::FailedPrecondition,
            Self::Precompiled => FailureKind::PermissionDenied,
            Self::MissingImports { .. } | Self::MismatchedImport { .. } | Self::NotCommand { .. } => {
                FailureKind::Unsupported
            }
            Self::Cache { source, .. } => source.kind(),
            Self::Load { .. } => FailureKind::DataLoss,
            Self::Preopen { source, .. } => {
                source.downcast_ref::<io::Error>().map_or(FailureKind::InvalidArgument, FailureKind::of_io)
            }
            Self::Listen { source, .. } => FailureKind::of_io(source),
            Self::Engine { .. } => FailureKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotWasm { found } if found == sniff::TEXT => {
                Some("assemble it first, for example with `wasm-tools parse`".into())
            }
            Self::MeteredServer => Some("each of its requests is limited by its time: --request-timeout".into()),
            Self::Precompiled => Some("use the .wasm that it was compiled from; compiled code is cached here".into()),
            Self::MissingImports { imports } => offer::hint(imports),
            Self::NotCommand { .. } => Some(
                "a program that can be run has a main function: build it as one (an executable, not a library or reactor), \
                 or as a component that exports wasi:cli/run or an HTTP handler of WASI"
                    .into(),
            ),
            Self::CoreDump { directory } => Some(format!("give it one, with -v HOSTDIR:{directory}")),
            _ => None,
        }
    }
}

/// The engine's error as a plain one, its chain kept.
fn cause(error: wasmtime::Error) -> Cause {
    error.into_boxed_dyn_error()
}

/// An error about a program's bytes, as text of ours. The engine quotes names from the program in it,
/// which is a stranger's: whole megabytes, or commands to a terminal.
fn cause_with_names(error: &wasmtime::Error) -> Cause {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    shown(&chain.join(": "), MAX_CAUSE).into()
}

/// The most characters of an error about a program's bytes that are shown: a few lines.
const MAX_CAUSE: usize = 1_000;
/// The most characters of a name in a program that are shown: more than any interface of WASI has.
const MAX_NAME: usize = 100;
/// The most names that are shown: more than a whole interface has functions.
const MAX_NAMES: usize = 50;

/// The names of imports, fit to be printed.
fn named(imports: &[String]) -> String {
    let mut names: Vec<String> = imports.iter().take(MAX_NAMES).map(|name| offer::told(name)).collect();
    if imports.len() > MAX_NAMES {
        names.push(format!("and {} more", imports.len() - MAX_NAMES));
    }
    names.join(", ")
}

/// Text out of a program, fit to be printed: control characters escaped, `limit` characters at the most.
fn shown(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == limit {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
