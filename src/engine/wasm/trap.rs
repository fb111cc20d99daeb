//! The end of a program that broke off: what is said about it, and the core dump that it leaves.
//!
//! A trap is not an error of ours. It is named on the program's standard error, after whatever the program
//! said itself (a Rust panic says its message there), with the functions that led to it:
//!
//! ```text
//! wherry: the program trapped: wasm trap: out of bounds memory access
//!   memory fault at wasm address 0x10000 in linear memory of size 0x10000
//! wasm backtrace:
//!     0:     0x2f - app!reach
//!     1:     0x4c - app!main
//! ```
//!
//! A core dump is what the tool conventions of WebAssembly call one: a module with the memories, the globals
//! and the frames. It goes into a directory that the operator gave to the program, writable, and named.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::{Store, ThrownException, WasmBacktrace, WasmCoreDump};

use super::host::Host;
use super::{Error, Invocation, Preopen, shown};

/// The most characters of one line of what is said: names in it are the program's.
const MAX_LINE: usize = 300;

/// The most bytes of memories that a core dump is made of. It is made in memory, beside them.
const MAX_DUMPED: usize = 1 << 30;

/// What is said about a program that ended by `error`.
pub(super) fn report(error: &wasmtime::Error) -> String {
    let mut text = format!("wherry: the program trapped: {}\n", shown(&name(error), MAX_LINE));
    // Where memory was touched; the engine has no public type for it.
    for fault in error.chain().map(ToString::to_string).filter(|link| link.starts_with("memory fault at")) {
        text.push_str(&format!("  {fault}\n"));
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        text.push_str("wasm backtrace:\n");
        for line in backtrace.to_string().lines().skip(1) {
            text.push_str(&shown(line, MAX_LINE));
            text.push('\n');
        }
    }
    text
}

/// What broke it off.
pub(super) fn name(error: &wasmtime::Error) -> String {
    if error.is::<ThrownException>() {
        "it threw an exception that nothing in it catches".into()
    } else {
        error.root_cause().to_string()
    }
}

/// Where a core dump goes, and how it is named.
#[derive(Debug)]
pub(super) struct Dumps {
    /// The directory, for us and for the program.
    host: PathBuf,
    guest: String,
    /// What the program is called in its dump.
    program: String,
}

impl Dumps {
    /// Where `invocation` wants a core dump, if it does. The directory has to be one that was given to the program
    /// to be written: nothing below it is followed, so a link that the program makes leads nowhere.
    pub(super) fn of(invocation: &Invocation) -> Result<Option<Self>, Error> {
        let Some(wanted) = &invocation.grants.debug.coredump else { return Ok(None) };
        let same = |preopen: &&Preopen| !preopen.readonly && Path::new(&preopen.guest) == Path::new(wanted);
        let given = invocation.preopens.iter().find(same);
        let given = given.ok_or_else(|| Error::CoreDump { directory: wanted.clone() })?;
        let program = invocation.args.first().cloned().unwrap_or_default();
        Ok(Some(Self { host: given.host.clone(), guest: given.guest.clone(), program }))
    }

    /// Writes the core dump that is in `error`; the line that says so.
    pub(super) fn write(&self, error: &wasmtime::Error, store: &mut Store<Host>) -> Option<String> {
        let dump = error.downcast_ref::<WasmCoreDump>()?;
        Some(match self.written(dump, store) {
            Ok(name) => format!("wherry: core dump in {}/{name}\n", self.guest.trim_end_matches('/')),
            Err(problem) => format!("wherry: no core dump: {problem}\n"),
        })
    }

    fn written(&self, dump: &WasmCoreDump, store: &mut Store<Host>) -> Result<String, String> {
        let bytes: usize = dump.memories().iter().map(|memory| memory.data_size(&*store)).sum();
        if bytes > MAX_DUMPED {
            return Err(format!("the program's memories have {bytes} bytes, more than {MAX_DUMPED}"));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("coredump-{}.{:03}.wasm", since.as_secs(), since.subsec_millis());
        let dump = dump.serialize(store, &self.program);
        // Only a new file, so that it is not another one that a link of this name leads to.
        File::create_new(self.host.join(&name))
            .and_then(|mut file| file.write_all(&dump))
            .map_err(|error| format!("cannot write {name} in {}: {error}", self.guest))?;
        Ok(name)
    }
}
