//! How programs of every version of WASI end, what their streams are, and their files: docs/wasm.md, seen by a user.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::guests::{self, Target};
use crate::support::{Output, Running, Wherry, process};

fn work(target: Target) -> String {
    guests::rust("work", target).display().to_string()
}

fn probe3() -> String {
    guests::rust("probe3", Target::P3).display().to_string()
}

/// A guest of text, as a file.
fn file(wherry: &Wherry, name: &str, text: &str) -> String {
    let path = wherry.folder("guests").join(name);
    fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn exit_codes_are_the_programs() {
    let wherry = Wherry::new();
    let (module, component) = (work(Target::P1), probe3());
    for code in [0, 1, 3, 125, 137, 255] {
        let text = code.to_string();
        wherry.call(["run", "--rm", &module, "exit", &text]).expect(code);
        wherry.call(["run", "--rm", &component, "exit", &text]).expect(code);
    }
    wherry.call(["run", "--rm", &component, "fail"]).expect(1);
    // As a container, the same.
    wherry.ok(["run", "-d", "--name", "ends", &module, "exit", "77"]);
    wherry.call(["wait", "ends"]).expect(0).says("77\n");
}

#[test]
fn a_panic_says_its_message_and_then_its_functions() {
    let wherry = Wherry::new();
    for guest in [work(Target::P1), work(Target::P2), probe3()] {
        let output = wherry.call(["run", "--rm", &guest, "panic"]).expect(134);
        let place = |word: &str| output.stderr.find(word).unwrap_or_else(|| panic!("no {word:?}: {output}"));
        assert!(place("told to") < place("the program trapped: wasm trap: wasm `unreachable`"), "{output}");
        assert!(place("the program trapped") < place("wasm backtrace:"), "{output}");
        let functions = &output.stderr[place("wasm backtrace:")..];
        assert!(functions.contains("abort") || functions.contains("panic"), "the functions have names: {output}");
    }
}

#[test]
fn a_core_dump_is_left_where_it_is_wanted() {
    let wherry = Wherry::new();
    let cores = wherry.folder("cores");
    let bind = format!("{}:/cores", cores.display());
    let dumps = || fs::read_dir(&cores).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<PathBuf>>();
    for (number, guest) in [work(Target::P1), work(Target::P2), probe3()].iter().enumerate() {
        wherry
            .call(["run", "--rm", "-v", &bind, "--coredump", "/cores", guest, "panic"])
            .expect(134)
            .complains(&["wherry: core dump in /cores/coredump-"]);
        assert_eq!(dumps().len(), number + 1);
    }
    assert!(dumps().iter().all(|dump| fs::read(dump).unwrap().starts_with(b"\0asm")));
    // Without the word none is left, and a directory that the program may not write is none to leave one in.
    wherry.call(["run", "--rm", "-v", &bind, &work(Target::P1), "panic"]).expect(134);
    let readonly = format!("{bind}:ro");
    let refused = wherry.call(["run", "--rm", "-v", &readonly, "--coredump", "/cores", &work(Target::P1), "exit", "0"]);
    assert!(matches!(refused.status, 125 | 126), "{refused}");
    refused.complains(&["no place for a core dump"]);
    assert_eq!(dumps().len(), 3);
}

#[test]
fn what_cannot_be_started_is_told_with_what_to_do() {
    let wherry = Wherry::new();
    let refused = |name: &str, text: &str, words: &[&str]| {
        let output = wherry.call(["run", "--rm", &file(&wherry, name, text)]).complains(words);
        assert!(matches!(output.status, 125 | 126), "{output}");
    };
    refused("reactor.wasm", r#"(module (func (export "_initialize")))"#, &["reactor", "main function"]);
    refused("library.wasm", r#"(module (func (export "add")))"#, &["library", "`add`", "main function"]);
    refused("component.wasm", "(component)", &["library", "wasi:cli/run"]);
    let imports = r#"(import "wasi" "thread-spawn" (func (param i32) (result i32))) (func (export "_start"))"#;
    refused("threads.wasm", &format!("(module {imports})"), &["wasi::thread-spawn", "WASI has no threads"]);
    let draft = r#"(component (import "wasi:cli/stdout@0.3.0-rc-2025-09-16" (instance)))"#;
    refused("draft.wasm", draft, &["wasi:cli/stdout@0.3.0-rc-2025-09-16 (a draft of WASI 0.3.0)", "hint: "]);
    let nn = r#"(component (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" (instance)))"#;
    refused("nn.wasm", nn, &["wasi-nn, a proposal"]);
    let shared = r#"(module (memory 1 1 shared) (func (export "_start")))"#;
    refused("shared.wasm", shared, &["threads"]);
}

#[test]
fn files_come_out_as_they_went_in() {
    let wherry = Wherry::new();
    let folder = wherry.folder("data");
    let bind = format!("{}:/data", folder.display());
    // No multiple of any buffer's size, and no two places alike.
    let content: Vec<u8> = (0..3_000_017u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.join("from"), &content).unwrap();
    for target in [Target::P1, Target::P2] {
        let guest = work(target);
        let run = |words: &[&str]| wherry.call([&["run", "--rm", "-v", &bind, &guest], words].concat());
        run(&["copy", "/data/from", "/data/to"]).expect(0);
        assert!(fs::read(folder.join("to")).unwrap() == content, "{target:?}");
        fs::remove_file(folder.join("to")).unwrap();
        run(&["tail", "/data/log", "first line\n"]).expect(0).says("first line\n");
        run(&["tail", "/data/log", "second\n"]).expect(0).says("first line\nsecond\n");
        fs::remove_file(folder.join("log")).unwrap();
        run(&["files", "/data"]).expect(0);
        run(&["copy", "/data", "/data/to"]).expect(1);
        run(&["copy", "/dev/null", "/data/to"]).expect(1);
    }
    wherry.call(["run", "--rm", "-v", &bind, &probe3(), "files", "/data"]).expect(0);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "all of it was removed again");
}

/// The whole of a program and its files is one thread.
#[test]
fn files_take_no_thread() {
    let wherry = Wherry::new();
    let bind = format!("{}:/data", wherry.folder("data").display());
    for (name, target) in [("one", Target::P1), ("two", Target::P2)] {
        wherry.ok(["run", "-d", "--name", name, "-v", &bind, &work(target), "idle", "/data/file"]);
        wherry.until_logged(name, "idle");
        let threads = fs::read_dir(format!("/proc/{}/task", wherry.pid(name))).unwrap().count();
        assert_eq!(threads, 1, "{target:?}");
        wherry.ok(["kill", name]);
    }
}

/// The engine reads files at positions, which a pipe has not: that is an error, and nobody waits for ever.
#[test]
fn a_named_pipe_cannot_be_read() {
    let wherry = Wherry::new();
    let folder = wherry.folder("data");
    let pipe = folder.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    // Somebody holds both ends, so that opening it waits for nobody.
    let _held = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let bind = format!("{}:/data", folder.display());
    for target in [Target::P1, Target::P2] {
        wherry.call(["run", "--rm", "-v", &bind, &work(target), "copy", "/data/pipe", "/data/to"]).expect(1);
    }
}

#[test]
fn a_program_of_0_3_waits_for_several_things() {
    let wherry = Wherry::new();
    let mut running = Running::start(
        wherry.command(["run", "--rm", "-i", &probe3(), "tick"]).stdin(Stdio::piped()).stdout(Stdio::piped()),
    );
    let mut out = BufReader::new(running.child.stdout.take().unwrap());
    // The timer goes on although nothing comes from standard input, which is only then written.
    for expected in ["tick 0\n", "tick 1\n", "tick 2\n"] {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }
    running.child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "read a line\n");
    running.finish().expect(0);
}

#[test]
fn a_reader_that_leaves_is_seen_and_tasks_end_with_run() {
    let wherry = Wherry::new();
    let words = ["run", "--rm", &probe3(), "flood"];
    let mut running = Running::start(&mut wherry.command(words));
    let mut stdout = running.child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100_000]).unwrap();
    drop(stdout);
    running.finish().expect(0).complains(&["ErrorCode::Pipe"]);
    wherry.call(["run", "--rm", &probe3(), "leave"]).expect(0).says("left\n");
}

#[test]
fn a_terminal_is_told_to_every_version() {
    let wherry = Wherry::new();
    let seen =
        |flags: &[&str]| -> Output { wherry.call([&["run", "--rm"], flags, &[&probe3(), "tty"]].concat()).expect(0) };
    assert_eq!(seen(&["-t"]).stdout.trim_end(), "111");
    assert_eq!(seen(&[]).stdout.trim_end(), "000");
}

#[test]
fn a_signal_ends_a_program_at_once() {
    let wherry = Wherry::new();
    let start = |name: &str, flags: &[&str]| {
        wherry.ok([&["run", "-d", "--name", name], flags, &[&probe3(), "sleep"]].concat());
        wherry.until_logged(name, "sleeping");
    };
    let code = |name: &str| wherry.ok(["wait", name]);
    start("stopped", &[]);
    // The grace time is longer than the test's patience: it is not needed.
    wherry.ok(["stop", "-t", "600", "stopped"]);
    assert_eq!(code("stopped"), "143");
    start("interrupted", &["--stop-signal", "SIGINT"]);
    wherry.ok(["stop", "-t", "600", "interrupted"]);
    assert_eq!(code("interrupted"), "130");
    start("killed", &[]);
    wherry.ok(["kill", "killed"]);
    assert_eq!(code("killed"), "137");
    start("hung-up", &[]);
    wherry.ok(["kill", "-s", "HUP", "hung-up"]);
    assert_eq!(code("hung-up"), "129");
    // Nothing that was written is lost.
    assert_eq!(wherry.ok(["logs", "stopped"]), "sleeping");
    let mut direct = Running::start(&mut wherry.command(["run", &probe3(), "sleep"]));
    let mut said = [0; 9];
    direct.child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    process::signal(&direct.child, rustix::process::Signal::TERM);
    direct.finish().expect(143);
}
