//! Compiling in a process of its own, which can be ended: a stage of our own binary.
//!
//! ```text
//!   whoever needs code                      the compiler
//!   ──────────────────                      ────────────
//!   the program in memory (memfd) ────────▶ limits on memory and processor, no capabilities, Landlock without a
//!   clock                                   single right, a filter: it may read, write, and use memory and threads
//!        ◀──────────── memory (memfd) ───── code, or a refusal in words
//!   looks at the time; kills; tells what ended it
//! ```
//!
//! The bytes are a stranger's, and decide how long it takes and how much memory. What comes back is code that will be
//! executed: a compiler that the bytes have taken over can return any, as it could when it compiled in the command line,
//! but that code then runs behind the walls of a program.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use super::compile::produce;
use super::grant::limit::Compile;
use super::program::seed_random;
use super::{Error, MAX_CAUSE, Source, shown};
use crate::engine::linux::wall;
use crate::error::chain;
use crate::sys::{self, named};

/// The name under which the binary is executed to compile.
pub const COMPILE: &str = "wherry-compile";

/// The most of what a compiler says before it fails that is read: a panic's message and place.
const MAX_LAST_WORDS: u64 = 4 << 10;

/// How the output begins when there is code, and when there are words.
const CODE: u8 = 0;
const REFUSAL: u8 = 1;

/// The argument that says that the program's instructions are to be counted.
const METERED: &str = "metered";

/// The exit code of a compiler that was not walled in.
const UNPREPARED: u8 = 3;

/// Why there is no code, on its way between the processes.
#[derive(Debug, Serialize, Deserialize)]
enum Refusal {
    Invalid(String),
    Missing(Vec<String>),
    Mismatched(String),
    NotCommand(String),
    Memory,
    Other(String),
}

/// The code of `source`, compiled within `limits`.
pub(super) fn compile(source: &Source, limits: &Compile) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Start { source };
    let mut input = memory("program").map_err(failed)?;
    named(input.write_all(&source.bytes).and_then(|()| input.rewind()), || "write(memfd)".into()).map_err(failed)?;
    let output = memory("code").map_err(failed)?;
    let mut child = start(input, &output, limits).map_err(failed)?;
    let in_time = wait(&child, limits.timeout);
    if !matches!(in_time, Ok(true)) {
        // It is our own child, not waited for yet: it can be killed, or has just ended.
        child.kill().ok();
    }
    let ended = named(child.wait(), || "waitid()".into()).map_err(failed)?;
    if !in_time.map_err(failed)? {
        return Err(Error::CompileTime { limit: limits.timeout });
    }
    if ended.success() { answer(output, limits) } else { Err(what_ended(ended, &last_words(&mut child), limits)) }
}

fn start(input: File, output: &File, limits: &Compile) -> sys::Result<Child> {
    let output = named(output.try_clone(), || "dup()".into())?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = limits.timeout.as_secs().saturating_add(1).saturating_mul(threads as u64);
    let started = Command::new("/proc/self/exe")
        .arg0(COMPILE)
        .args([limits.memory.to_string(), processor.to_string()])
        .args(limits.metered.then_some(METERED))
        .env_clear()
        // It will not be able to ask.
        .env("RAYON_NUM_THREADS", threads.to_string())
        .current_dir("/")
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn();
    named(started, || format!("execve({COMPILE})"))
}

/// Waits until the child has ended; false when the time was up before.
fn wait(child: &Child, timeout: Duration) -> sys::Result<bool> {
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = named(rustix::process::pidfd_open(pid, PidfdFlags::empty()), || format!("pidfd_open({})", child.id()))?;
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return named(ready, || "poll()".into()).map(|ready| ready > 0),
        }
    }
}

fn answer(mut output: File, limits: &Compile) -> Result<Vec<u8>, Error> {
    let mut tag = [0];
    let mut rest = Vec::new();
    let read = output.rewind().and_then(|()| output.read_exact(&mut tag)).and_then(|()| output.read_to_end(&mut rest));
    named(read, || "read(memfd)".into()).map_err(|source| Error::Start { source })?;
    if tag == [CODE] {
        return Ok(rest);
    }
    let refusal = serde_json::from_slice(&rest);
    Err(refusal.map_or_else(|_| Error::Compiler { what: "its answer cannot be read".into() }, |r| told(r, limits)))
}

fn told(refusal: Refusal, limits: &Compile) -> Error {
    match refusal {
        Refusal::Invalid(text) => Error::Invalid { source: shown(&text, MAX_CAUSE).into() },
        Refusal::Missing(imports) => Error::MissingImports { imports },
        Refusal::Mismatched(text) => Error::MismatchedImport { source: shown(&text, MAX_CAUSE).into() },
        Refusal::NotCommand(what) => Error::NotCommand { what: shown(&what, MAX_CAUSE) },
        Refusal::Memory => Error::CompileMemory { limit: limits.memory },
        Refusal::Other(text) => Error::Compiler { what: shown(&text, MAX_CAUSE) },
    }
}

fn refusal(error: Error) -> Refusal {
    let text = chain(&error);
    match error {
        // The compiler's own words for ENOMEM are in the middle of its chain.
        _ if text.contains("Cannot allocate memory") || text.contains("out of memory") => Refusal::Memory,
        Error::Invalid { source } => Refusal::Invalid(source.to_string()),
        Error::MissingImports { imports } => Refusal::Missing(imports),
        Error::MismatchedImport { source } => Refusal::Mismatched(source.to_string()),
        Error::NotCommand { what } => Refusal::NotCommand(what),
        _ => Refusal::Other(text),
    }
}

/// What a compiler said before it failed.
fn last_words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // Whatever was read until reading failed is what there is to tell.
        stderr.take(MAX_LAST_WORDS).read_to_end(&mut said).ok();
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn what_ended(ended: ExitStatus, said: &str, limits: &Compile) -> Error {
    let signal = ended.signal().and_then(Signal::from_named_raw);
    // Rust's allocator says this and aborts; a thread that cannot be made has no memory for its stack.
    let no_memory = ["memory allocation of", "Cannot allocate memory", "Resource temporarily unavailable"];
    if no_memory.iter().any(|words| said.contains(words)) {
        return Error::CompileMemory { limit: limits.memory };
    }
    if signal == Some(Signal::XCPU) {
        return Error::CompileTime { limit: limits.timeout };
    }
    let words = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("note:"));
    let words = shown(&words.collect::<Vec<_>>().join(" "), MAX_CAUSE);
    let what = match (signal, words.is_empty()) {
        (_, false) => words,
        (Some(signal), true) => format!("it was ended by signal {}", signal.as_raw()),
        (None, true) => format!("it ended with {}", ended.code().unwrap_or_default()),
    };
    Error::Compiler { what }
}

fn memory(name: &str) -> sys::Result<File> {
    let flags = MemfdFlags::CLOEXEC;
    let made = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        made => made,
    };
    named(made, || format!("memfd_create({name:?})")).map(File::from)
}

/// The whole life of the compiler, which was started with these arguments: its exit code.
pub fn stage(mut arguments: impl Iterator<Item = String>) -> u8 {
    if let Err(words) = wall_in(arguments.by_ref().take(2)) {
        // It is read by who started us.
        write!(std::io::stderr(), "{words}").ok();
        return UNPREPARED;
    }
    let metered = arguments.next().is_some_and(|word| word == METERED);
    let code = Source::read(std::io::stdin().lock()).and_then(|source| produce(&source, metered));
    let mut output = std::io::stdout().lock();
    let written = match code {
        Ok(code) => output.write_all(&[CODE]).and_then(|()| output.write_all(&code)),
        Err(error) => {
            let json = serde_json::to_vec(&refusal(error)).expect("plain data");
            output.write_all(&[REFUSAL]).and_then(|()| output.write_all(&json))
        }
    };
    u8::from(written.and_then(|()| output.flush()).is_err())
}

/// Gives up everything before the first byte is read.
fn wall_in(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| format!("cannot wall the compiler in: {}", chain(error));
    let mut limits = arguments.map(|limit| limit.parse::<u64>().ok());
    let (Some(memory), Some(processor)) = (limits.next().flatten(), limits.next().flatten()) else {
        return Err("the compiler was started without its limits".into());
    };
    sys::process::close_all_but(3, &[]).map_err(|error| said(&error))?;
    let set = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    named(set, || "prctl(PR_SET_PDEATHSIG)".into()).map_err(|error| said(&error))?;
    // Not the address space, of which allocators reserve a lot for each thread: what is written to.
    for (resource, limit) in
        [(Resource::Data, memory), (Resource::Cpu, processor), (Resource::Fsize, memory), (Resource::Core, 0)]
    {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        let set = rustix::process::setrlimit(resource, limit);
        named(set, || format!("setrlimit({resource:?})")).map_err(|error| said(&error))?;
    }
    seed_random();
    wall::around_compiler().map_err(|error| said(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_a_compiler_is_named() {
        let limits = Compile { timeout: Duration::from_secs(7), memory: 64 << 20, metered: false };
        let named = |status: i32, said: &str| what_ended(ExitStatus::from_raw(status), said, &limits).to_string();
        assert!(named(6, "memory allocation of 33554432 bytes failed").contains("more memory than 64m"));
        assert!(named(24, "").contains("longer than 7s"));
        assert!(named(11, "").contains("signal 11"));
        assert!(named(6, "\nthread 'main' has overflowed its stack\n").contains("overflowed its stack"));
        assert!(named(3 << 8, "cannot wall the compiler in: x").contains("cannot wall"));
    }

    #[test]
    fn a_refusal_crosses_as_what_it_is() {
        let limits = Compile::default();
        let crossed = |error| {
            let json = serde_json::to_vec(&refusal(error)).unwrap();
            told(serde_json::from_slice(&json).unwrap(), &limits)
        };
        let imports = vec!["a::b".to_owned()];
        assert!(
            matches!(crossed(Error::MissingImports { imports }), Error::MissingImports { imports } if imports == ["a::b"])
        );
        assert!(matches!(crossed(Error::Invalid { source: "bad".into() }), Error::Invalid { .. }));
        assert!(matches!(crossed(Error::NotCommand { what: "x".into() }), Error::NotCommand { .. }));
        let memory = Error::Engine { source: "mmap failed: Cannot allocate memory (os error 12)".into() };
        assert!(matches!(crossed(memory), Error::CompileMemory { .. }));
    }
}
