//! `wherry run ./app.wasm`: a program of this machine in the foreground, without a container.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{PATIENCE, Running, Wherry, eventually, images, process};

fn guest() -> String {
    images::guest_module().display().to_string()
}

/// A guest that runs and has nothing to do, and its process.
fn idle(wherry: &Wherry, flags: &[&str]) -> (Running, u32) {
    let guest = guest();
    let words = [&["run"], flags, &[&guest, "sleep", "1000"]].concat();
    let running = Running::start(&mut wherry.command(words));
    let command = running.child.id();
    let children = format!("/proc/{command}/task/{command}/children");
    let process = eventually("the guest's process runs", || {
        let pid = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
        // From there on the guest has its filter, and nothing more happens to it.
        let filtered = process::status(pid, "Seccomp")? == "2";
        // So has the compiler's process, which is there before it at the first time.
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (filtered && !name.is_empty() && !name.starts_with("wherry-compile")).then_some(pid)
    });
    (running, process)
}

#[test]
fn it_has_two_walls_and_no_container() {
    let wherry = Wherry::new();
    let (running, pid) = idle(&wherry, &[]);
    for namespace in ["mnt", "pid", "net", "ipc", "uts"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(link(&pid.to_string()), link("self"), "{namespace}");
    }
    assert_eq!(process::status(pid, "CapEff").as_deref(), Some("0000000000000000"));
    assert_eq!(fs::read_dir(format!("/proc/{pid}/root")).unwrap().count(), 0);
    assert_eq!(wherry.ok(["ps", "-aq"]), "");
    process::signal(&running.child, Signal::TERM);
    running.finish().expect(143);
    assert!(process::gone_within(pid, PATIENCE));
}

#[test]
fn its_streams_are_the_callers() {
    let wherry = Wherry::new();
    let mut running = Running::start(wherry.command(["run", &guest(), "cat"]).stdin(Stdio::piped()));
    running.child.stdin.take().unwrap().write_all(b"without -i").unwrap();
    running.finish().expect(0).says("without -i");
    wherry.call(["run", &guest(), "both"]).expect(0).says("to standard output\n").complains(&["to standard error"]);
}

#[test]
fn it_ends_with_the_command_and_the_command_with_it() {
    let wherry = Wherry::new();
    let (running, pid) = idle(&wherry, &["--rm"]);
    running.kill();
    assert!(process::gone_within(pid, PATIENCE), "killed with the command");
    let (running, pid) = idle(&wherry, &[]);
    process::kill(pid);
    running.finish().expect(137);
    wherry.call(["run", &guest(), "exit", "42"]).expect(42);
    wherry.call(["run", &guest(), "trap"]).expect(134).complains(&["unreachable"]);
}

#[test]
fn it_is_given_what_a_container_is_given() {
    let wherry = Wherry::new();
    let shared = wherry.folder("shared");
    fs::write(shared.join("note"), "hello\n").unwrap();
    let bind = format!("{}:/mnt", shared.display());
    assert_eq!(wherry.ok(["run", "-v", &bind, &guest(), "cat", "/mnt/note"]), "hello");
    wherry.call(["run", "-v", &bind, &guest(), "write", "/mnt/new", "text"]).expect(0);
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "text\n");
    wherry.call(["run", "-v", &format!("{bind}:ro"), &guest(), "write", "/mnt/other", "x"]).expect(1);
    for path in ["/etc/passwd", "/mnt/../etc/passwd", "/"] {
        wherry.call(["run", "-v", &bind, &guest(), "cat", path]).expect(1).says("");
    }
    assert_eq!(wherry.ok(["run", "-e", "A=b", &guest(), "env"]), "A=b");
}

#[test]
fn with_a_name_it_is_a_container() {
    let wherry = Wherry::new();
    wherry.ok(["run", "--name", "kept", &guest(), "args", "one"]);
    assert_eq!(wherry.status("kept").as_deref(), Some("exited"));
    assert_eq!(wherry.ok(["logs", "kept"]), "args\none");
}

#[test]
fn a_changed_file_runs_as_it_is_now() {
    let wherry = Wherry::new();
    let file = wherry.folder("app").join("app.wasm");
    let exits = |code: u32| {
        let wat = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
        );
        fs::write(&file, wat::parse_str(wat).unwrap()).unwrap();
        wherry.call(["run", file.to_str().unwrap()]).expect(code.try_into().unwrap());
    };
    // As long as the file is, and each time within the grain of most clocks.
    (1..9).for_each(exits);
}
