//! `run`: in the foreground and in the background, with and without a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Stdio;

use rustix::process::Signal;
use wherry::sys::{pty, socket};

use super::support::oci::{path, until_written};
use super::support::{Oci, Running, eventually, process};

/// The file that somebody who connects hands over.
pub fn receive(listener: &UnixListener) -> File {
    let (stream, _) = listener.accept().unwrap();
    let mut name = [0; 256];
    let (_, mut files) = socket::receive_with_fds(&stream, &mut name).unwrap();
    assert_eq!(files.len(), 1);
    File::from(files.remove(0))
}

/// What the terminal says next, if it says something.
pub fn read_some(mut terminal: &File) -> Option<String> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&terminal, PollFlags::IN)], Some(&now)).ok().filter(|ready| *ready > 0)?;
    let mut chunk = [0; 4096];
    let count = terminal.read(&mut chunk).ok().filter(|count| *count > 0)?;
    Some(String::from_utf8_lossy(&chunk[..count]).into_owned())
}

/// A terminal of the test's own.
fn terminal() -> (File, OwnedFd) {
    let devpts = File::open("/dev/pts").unwrap();
    let master = pty::open_master(devpts.as_fd()).unwrap();
    let peer = pty::open_peer(master.as_fd()).unwrap();
    (File::from(master), peer)
}

#[test]
fn the_programs_end_is_ours_and_nothing_is_left() {
    let oci = Oci::new();
    for (script, status, said) in [("echo hello", 0, "hello\n"), ("exit 3", 3, ""), ("kill -TERM $$; sleep 9", 143, "")]
    {
        let id = oci.id("run");
        let bundle = oci.bundle(&id, &format!("trap - TERM; {script}"));
        if status == 143 {
            // The first process of a pid namespace gets no signal that it has no handler for: its child shall.
            let bundle = oci.bundle(&oci.id("run"), "sh -c 'kill -TERM $$'; exit $?");
            oci.call(["run", "-b", path(&bundle), &id]).expect(143);
        } else {
            oci.call(["run", "-b", path(&bundle), &id]).expect(status).says(said);
        }
        oci.call(["state", &id]).expect(1).complains(&["container does not exist"]);
    }
}

#[test]
fn input_and_both_outputs_are_the_callers() {
    let oci = Oci::new();
    let id = oci.id("streams");
    let bundle = oci.bundle(&id, "cat; echo bad >&2");
    let mut running = Running::start(oci.command(["run", "-b", path(&bundle), &id]).stdin(Stdio::piped()));
    running.child.stdin.take().unwrap().write_all(b"in and out").unwrap();
    let output = running.finish().expect(0);
    assert_eq!((&*output.stdout, &*output.stderr), ("in and out", "bad\n"));
}

#[test]
fn signals_are_passed_on() {
    let oci = Oci::new();
    let id = oci.id("signals");
    let script = "trap 'echo caught; exit 5' TERM; echo ready > /dev/shm/ready; while true; do sleep 0.1; done";
    let bundle = oci.bundle(&id, script);
    let running = oci.start(["run", "-b", path(&bundle), &id]);
    eventually("it is ready", || {
        let asked = oci.call(["exec", &id, "cat", "/dev/shm/ready"]);
        (asked.status == 0 && asked.stdout == "ready\n").then_some(())
    });
    process::signal(&running.child, Signal::TERM);
    running.finish().expect(5).says("caught\n");
}

#[test]
fn a_killed_run_does_not_end_its_container() {
    let oci = Oci::new();
    let id = oci.id("orphan");
    let bundle = oci.bundle(&id, "sleep 1000");
    let file = File::create(oci.work().join("output")).unwrap();
    let mut command = oci.command(["run", "-b", path(&bundle), &id]);
    let running = Running::start(command.stdout(file.try_clone().unwrap()).stderr(file));
    eventually("it runs", || (oci.call(["state", &id]).stdout.contains("\"running\"")).then_some(()));
    running.kill();
    assert_eq!(oci.status(&id), "running");
    oci.ok(["delete", "-f", &id]);
}

#[test]
fn in_the_background_it_runs_on() {
    let oci = Oci::new();
    let id = oci.id("background");
    let (bundle, pid_file) = (oci.bundle(&id, "echo began; sleep 1000"), oci.work().join("pid"));
    let left = oci.leave(["run", "-d", "--pid-file", path(&pid_file), "-b", path(&bundle), &id]);
    assert_eq!(left.output.status, 0, "{}", left.output);
    until_written(&left.file, "began");
    assert_eq!(oci.status(&id), "running");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), oci.pid(&id).to_string());
}

#[test]
fn with_keep_the_record_stays() {
    let oci = Oci::new();
    let id = oci.id("kept");
    let bundle = oci.bundle(&id, "true");
    oci.call(["run", "--keep", "-b", path(&bundle), &id]).expect(0);
    assert_eq!(oci.status(&id), "stopped");
    oci.ok(["delete", &id]);
}

#[test]
fn a_terminal_is_handed_to_the_callers_socket() {
    let oci = Oci::new();
    let id = oci.id("console");
    let console = oci.work().join("console.sock");
    let listener = UnixListener::bind(&console).unwrap();
    let bundle = oci.bundle_with(&id, "tty; stty size; read line; echo got $line; sleep 1000", |config| {
        config["process"]["terminal"] = true.into();
    });
    let refused = oci.leave(["create", "-b", path(&bundle), &id]).output;
    assert!(refused.status == 1 && refused.stdout.contains("--console-socket"), "{refused}");
    let left = oci.leave(["create", "-b", path(&bundle), "--console-socket", path(&console), &id]);
    assert_eq!(left.output.status, 0, "{}", left.output);
    let mut master = receive(&listener);
    pty::set_size(&master, pty::Size { rows: 33, columns: 77 }).unwrap();
    oci.ok(["start", &id]);
    let mut seen = String::new();
    eventually("it tells its terminal", || {
        seen += &read_some(&master)?;
        seen.contains("33 77").then_some(())
    });
    assert!(seen.contains("/dev/pts/0"), "{seen}");
    master.write_all(b"typed\n").unwrap();
    eventually("it reads what is typed", || {
        seen += &read_some(&master)?;
        seen.contains("got typed").then_some(())
    });
}

#[test]
fn in_the_foreground_the_terminal_is_the_users() {
    let oci = Oci::new();
    let id = oci.id("tty");
    let bundle = oci.bundle_with(&id, "tty; stty size; read line; echo got $line; exit 4", |config| {
        config["process"]["terminal"] = true.into();
    });
    let (mut master, peer) = terminal();
    pty::set_size(&master, pty::Size { rows: 20, columns: 60 }).unwrap();
    let mut command = oci.command(["run", "-b", path(&bundle), &id]);
    command.stdin(peer.try_clone().unwrap()).stdout(peer.try_clone().unwrap()).stderr(Stdio::piped());
    let running = Running::start(&mut command);
    drop((command, peer));
    let mut seen = String::new();
    eventually("it has the user's size", || {
        seen += &read_some(&master)?;
        seen.contains("20 60").then_some(())
    });
    // The user's own terminal is raw: what is typed is echoed once, by the container's.
    master.write_all(b"typed\r").unwrap();
    eventually("it reads what is typed", || {
        seen += &read_some(&master)?;
        seen.contains("got typed").then_some(())
    });
    assert_eq!(seen.matches("typed").count(), 2, "{seen}");
    running.finish().expect(4);
}

#[test]
fn the_process_is_handed_over_as_a_handle() {
    let oci = Oci::new();
    let id = oci.id("pidfd");
    let path_of_socket = oci.work().join("pidfd.sock");
    let listener = UnixListener::bind(&path_of_socket).unwrap();
    let bundle = oci.bundle(&id, "sleep 1000");
    oci.leave(["create", "-b", path(&bundle), "--pidfd-socket", path(&path_of_socket), &id]);
    let pidfd = receive(&listener);
    wherry::sys::process::signal(pidfd.as_fd(), 9).unwrap();
    oci.until(&id, "stopped");
}

#[test]
fn ready_is_said_on_to_the_service_manager() {
    let oci = Oci::new();
    let id = oci.id("notify");
    let host = oci.work().join("host.sock");
    let manager = UnixDatagram::bind(&host).unwrap();
    let bundle = oci.bundle(&id, "echo $NOTIFY_SOCKET; sleep 1000");
    let left = oci.leave_by(oci.command(["create", "-b", path(&bundle), &id]).env("NOTIFY_SOCKET", &host));
    assert_eq!(left.output.status, 0, "{}", left.output);
    let mut starting = Running::start(oci.command(["start", &id]).env("NOTIFY_SOCKET", &host));
    let inside = until_written(&left.file, "/run/notify/");
    let pid = oci.pid(&id);
    let seen = format!("/proc/{pid}/root{}", inside.trim());
    let container = UnixDatagram::unbound().unwrap();
    eventually("somebody listens", || container.send_to(b"STATUS=warm", &seen).ok());
    assert!(starting.child.try_wait().unwrap().is_none(), "start waits until it is ready");
    container.send_to(b"STATUS=hot\nREADY=1", &seen).unwrap();
    let hear = || {
        let mut message = [0; 256];
        let (count, files) = socket::receive_with_fds(&manager, &mut message).unwrap();
        (String::from_utf8_lossy(&message[..count]).into_owned(), files)
    };
    assert_eq!(hear().0, "READY=1\n");
    assert_eq!(hear().0, format!("MAINPID={pid}\n"));
    let (barrier, files) = hear();
    assert_eq!((&*barrier, files.len()), ("BARRIER=1", 1));
    drop(files);
    starting.finish().expect(0);
}

#[test]
fn sockets_that_were_activated_are_passed_on() {
    let oci = Oci::new();
    let id = oci.id("listen");
    let bundle = oci.bundle(&id, "echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    let runtime = env!("CARGO_BIN_EXE_wherry");
    let (root, bundle) = (path(oci.root()), path(&bundle));
    let line = format!(
        "echo handed on > {root}.in; exec 3<{root}.in; rm {root}.in; export LISTEN_FDS=1 LISTEN_PID=$$; \
         exec {runtime} oci --root {root} run -b {bundle} {id}"
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(&mut command).finish().expect(0).says("1 1\nhanded on\n");
}

#[test]
fn files_are_passed_on_when_asked_for() {
    let oci = Oci::new();
    let id = oci.id("files");
    let bundle = oci.bundle(&id, "ls /proc/self/fd | tr '\\n' ' '; cat <&3");
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"from outside").unwrap();
    drop(write);
    // The test's pipe is close-on-exec under another number; a shell between puts it where it belongs.
    let runtime = env!("CARGO_BIN_EXE_wherry");
    let line = format!(
        "exec {runtime} oci --root {} run --preserve-fds 1 -b {} {id} 3<&0 </dev/null",
        path(oci.root()),
        path(&bundle)
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).stdin(read).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(&mut command).finish().expect(0).says("0 1 2 3 4 from outside");
    let bundle = oci.bundle(&oci.id("files"), "true");
    // Whatever the caller of the tests has open, it is not that many.
    oci.call(["run", "--preserve-fds", "900", "-b", path(&bundle), &id])
        .expect(1)
        .complains(&["--preserve-fds", "descriptor"]);
}
