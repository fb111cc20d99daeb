//! A program as a process of its own: signals, terminals, inherited streams.
//!
//! The test binary runs itself again as that process: [`the_program`] is no test but what it does then.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio as ChildStdio};
use std::sync::Once;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// What the child reads in its working directory: which of the two probes to be, then its arguments.
const ORDERS: &str = "guest-orders";

/// Becomes a program when it is started by another test; passes as a test of its own.
#[test]
fn the_program() {
    let Ok(orders) = std::fs::read_to_string(ORDERS) else { return };
    let mut orders = orders.lines();
    let bytes = File::open(Path::new("..").join(orders.next().unwrap())).unwrap();
    let compiled = lookup(Path::new("../wasm"), &Source::read(bytes).unwrap()).unwrap();
    let program = load(compiled.expect("it was compiled")).unwrap();
    let status = run(program, invocation(&orders.collect::<Vec<_>>())).unwrap();
    crate::sys::ending::end_now(status);
}

/// A process to be started as one of the probes, and the directory with its orders.
struct Guest {
    command: Command,
    _place: tempfile::TempDir,
}

impl Guest {
    /// This test binary as the module, told `args`, under a wrapper such as `unshare`.
    fn new(wrapper: &[&str], args: &[&str]) -> Self {
        Self::of("module.wasm", wrapper, args)
    }

    fn of(name: &str, wrapper: &[&str], args: &[&str]) -> Self {
        compile_both();
        let place = tempfile::tempdir_in(guests()).unwrap();
        std::fs::write(place.path().join(ORDERS), [&[name], args].concat().join("\n")).unwrap();
        let exe = std::env::current_exe().unwrap();
        let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
        words.push(exe.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["--exact", "engine::wasm::tests::process::the_program"]);
        command.args(["--nocapture", "--quiet"]).current_dir(place.path());
        Self { command, _place: place }
    }

    /// Starts it and waits until it has said `word`, so that it is past its setting up.
    fn started(mut self, word: &str) -> Child {
        let mut child = self.command.stdin(ChildStdio::null()).stdout(ChildStdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        let stdout = child.stdout.as_mut().unwrap();
        while !said.ends_with(word.as_bytes()) {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "ended after {:?}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        child
    }
}

/// Puts both probes beside the cache, and compiled into it.
fn compile_both() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, bytes) in [("module.wasm", probe()), ("component.wasm", probe_component())] {
            try_compile(&bytes).unwrap();
            std::fs::write(guests().join(name), bytes).unwrap();
        }
    });
}

fn signalled(wrapper: &[&str], what: &str, word: &str, signal: Signal) -> ExitStatus {
    let mut child = Guest::new(wrapper, &[what]).started(word);
    let pid = Pid::from_child(&child);
    let target = if wrapper.is_empty() { pid } else { only_child_of(pid) };
    kill_process(target, signal).unwrap();
    child.wait().unwrap()
}

fn only_child_of(pid: Pid) -> Pid {
    let pid = pid.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

#[test]
fn an_endless_loop_and_a_sleep_end_by_any_signal() {
    for (what, word) in [("spin", "spinning\n"), ("sleep", "sleeping\n")] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
            assert_eq!(signalled(&[], what, word, signal).signal(), Some(signal.as_raw()), "{what} {signal:?}");
        }
    }
}

/// The first process of a pid namespace has no default actions; `stop` must not have to wait and kill.
#[test]
fn as_the_first_process_it_ends_by_signals_too() {
    let unshare = ["unshare", "--pid", "--fork"];
    for (what, word) in [("spin", "spinning\n"), ("sleep", "sleeping\n")] {
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1] {
            let status = signalled(&unshare, what, word, signal);
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "{what} {signal:?}");
        }
    }
}

#[test]
fn the_three_streams_are_the_processs_own() {
    let mut guest = Guest::new(&[], &["cat"]);
    let mut child = guest.command.stdin(ChildStdio::piped()).stdout(ChildStdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\0two\xff").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.stdout.ends_with(b"one\0two\xff"), "{:?}", output.stdout);
    let mut guest = Guest::new(&[], &["exit", "200"]);
    assert_eq!(guest.command.stdout(ChildStdio::null()).status().unwrap().code(), Some(200));
}

#[test]
fn closed_streams_do_not_stop_a_program() {
    let output = Guest::new(&["sh", "-c", "exec \"$0\" \"$@\" <&- 2>&-"], &["hello"]).command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.ends_with(b"hello\n"));
    let mut guest = Guest::new(&["sh", "-c", "exec \"$0\" \"$@\" >&-"], &["exit", "7"]);
    assert_eq!(guest.command.status().unwrap().code(), Some(7));
}

#[test]
fn a_reader_that_leaves_does_not_kill_the_program() {
    let mut guest = Guest::new(&[], &["flood"]);
    let mut child = guest.command.stdout(ChildStdio::piped()).stderr(ChildStdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100_000]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b"EPIPE\n"[..]));
}

#[test]
fn a_terminal_is_seen_as_one() {
    let (_keep, terminal) = terminal();
    let duplicate = || ChildStdio::from(terminal.as_fd().try_clone_to_owned().unwrap());
    let mut guest = Guest::new(&[], &["tty"]);
    let output = guest.command.stdin(duplicate()).stderr(duplicate()).output().unwrap();
    assert!(output.stdout.ends_with(b"101\n"), "{:?}", output.stdout);
}

/// A line typed at a terminal arrives, and Ctrl-D ends the input.
#[test]
fn what_is_typed_arrives() {
    let (master, terminal) = terminal();
    let mut master = File::from(master);
    let mut guest = Guest::new(&[], &["cat"]);
    let child = guest.command.stdin(ChildStdio::from(terminal)).stdout(ChildStdio::piped()).spawn().unwrap();
    master.write_all(b"typed\n\x04").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.stdout.ends_with(b"typed\n"), "{:?}", output.stdout);
}

fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = openat(CWD, name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (master, terminal)
}

/// Running starts no thread: neither to read input nor to wait for timers.
#[test]
fn a_program_runs_on_one_thread() {
    let mut child = Guest::new(&[], &["sleep"]).started("sleeping\n");
    let pid = child.id();
    // The test harness has a thread of its own: main and the one that is the program.
    assert_eq!(std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Compiled code is mapped by way of `/proc`, but only of a real one.
#[test]
fn both_kinds_load_where_proc_is_missing_or_pretends() {
    let missing = "umount -l /proc; exec \"$0\" \"$@\"";
    let pretends = "mount -t tmpfs none /proc && mkdir -p /proc/self/fd && exec \"$0\" \"$@\"";
    for script in [missing, pretends] {
        for name in ["module.wasm", "component.wasm"] {
            let mut guest = Guest::of(name, &["unshare", "--mount", "sh", "-c", script], &["hello"]);
            let output = guest.command.output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{script} {name}: {output:?}");
            assert!(output.stdout.ends_with(b"hello\n"), "{script} {name}: {output:?}");
        }
    }
}
