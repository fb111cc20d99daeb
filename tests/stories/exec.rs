//! `wherry exec`: a further program in a running Linux container, and the builtin view of a Wasm one.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rootless::{Ordinary, RANGE};
use crate::support::{Running, Wherry, eventually, images, process};

fn sleeping(image: &str, name: &str, flags: &[&str]) -> Wherry {
    let wherry = Wherry::with(image);
    let run = ["run", "-d", "--name", name];
    wherry.ok(run.iter().chain(flags).chain(&[image, "sleep", "1000"]));
    wherry
}

#[test]
fn a_program_runs_in_the_container_with_its_own_streams_and_code() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &["-e", "A=1", "-w", "/data", "--hostname", "inside"]);
    let output = wherry.call(["exec", "box", "sh", "-c", "echo out; echo err >&2; exit 7"]).expect(7);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(wherry.call(["logs", "box"]).stdout, "", "an exec writes to its caller and not to the log");
    assert_eq!(wherry.ok(["exec", "box", "hostname"]), "inside");
    assert_eq!(wherry.ok(["exec", "box", "pwd"]), "/data");
    assert_eq!(wherry.ok(["exec", "-w", "/tmp", "box", "pwd"]), "/tmp");
    let env = wherry.ok(["exec", "-e", "A=2", "-e", "B=3", "box", "env"]);
    for line in ["A=2", "B=3", "GREETING=hello", "HOME=/root", "HOSTNAME=inside"] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    // It sees the container's processes, is confined like them, and is in its group.
    assert!(wherry.ok(["exec", "box", "ps"]).contains("sleep 1000"));
    let seen = wherry.ok(["exec", "box", "cat", "/proc/self/status"]);
    let of_init = wherry.pid("box");
    for key in ["Seccomp", "CapBnd", "CapEff", "CapInh", "NoNewPrivs"] {
        assert_eq!(process::status_value(&seen, key), process::status(of_init, key), "{key}");
    }
    assert_eq!(
        wherry.ok(["exec", "box", "cat", "/proc/self/cgroup"]),
        wherry.ok(["exec", "box", "cat", "/proc/1/cgroup"])
    );
    assert_eq!(wherry.ok(["exec", "box", "sh", "-c", "ls /proc/self/fd | wc -l"]), "4", "0 to 2, and that of ls");
}

#[test]
fn users_are_those_of_the_containers_files() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    assert_eq!(wherry.ok(["exec", "-u", "ada", "box", "id"]), "uid=1000(ada) gid=1000(ada) groups=44(video),50(staff)");
    assert_eq!(wherry.ok(["exec", "-u", "ada", "box", "sh", "-c", "echo $HOME"]), "/home/ada");
    assert_eq!(wherry.ok(["exec", "-u", "1:50", "box", "id", "-g"]), "50");
    for nobody in ["nosuch", "4294967296", "-1", "+1"] {
        wherry.call(["exec", &format!("--user={nobody}"), "box", "true"]).expect(126);
    }
    let of = |flags: &[&str]| {
        let call: Vec<&str> =
            ["exec"].iter().chain(flags).chain(&["box", "cat", "/proc/self/status"]).copied().collect();
        process::status_value(&wherry.ok(call), "CapEff").unwrap()
    };
    assert_eq!(of(&["-u", "ada"]), "0000000000000000");
    let ours = process::status(std::process::id(), "CapPrm").unwrap();
    assert_eq!(of(&["--privileged"]), ours, "all that there is to give");
}

#[test]
fn what_cannot_be_executed_has_dockers_codes() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    wherry.call(["exec", "box", "no-such-command"]).expect(127).complains(&["no-such-command"]);
    wherry.call(["exec", "box", "/etc/not-executable"]).expect(126).complains(&["permission denied"]);
    wherry.call(["exec", "-w", "/no/such", "box", "true"]).expect(126).complains(&["/no/such"]);
    wherry.call(["exec", "nobody", "true"]).expect(1).complains(&["No such container: nobody"]);
    wherry.call(["exec", "--no-such-flag", "box", "true"]).expect(125).complains(&["--no-such-flag"]);
    wherry.call(["exec", "box"]).expect(125);
    wherry.ok(["kill", "box"]);
    wherry.ok(["wait", "box"]);
    wherry.call(["exec", "box", "true"]).expect(1).complains(&["box is not running"]);
}

#[test]
fn input_arrives_and_ends() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    let mut running = Running::start(wherry.command(["exec", "-i", "box", "cat"]).stdin(Stdio::piped()));
    running.child.stdin.take().unwrap().write_all(b"to the program").unwrap();
    running.finish().expect(0).says("to the program");
    // Without -i there is none.
    wherry.call(["exec", "box", "cat"]).expect(0).says("");
    // Much at once both ways, and an argument list as long as the kernel takes it in one piece.
    let mut running = Running::start(wherry.command(["exec", "-i", "box", "cat"]).stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    let megabytes = vec![b'x'; 5 << 20];
    let writer = std::thread::spawn(move || stdin.write_all(&megabytes).unwrap());
    assert_eq!(running.finish().expect(0).stdout.len(), 5 << 20);
    writer.join().unwrap();
    let long = "y".repeat(100_000);
    assert_eq!(wherry.ok(["exec", "box", "echo", &long, &long]).len(), 200_001);
}

#[test]
fn a_terminal_is_one() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    let script = "test -t 1 && echo $TERM && stty size";
    wherry.call(["exec", "-t", "box", "sh", "-c", script]).expect(0).says("xterm\r\n24 80\r\n");
    wherry.call(["exec", "-it", "box", "true"]).expect(1).complains(&["not a TTY"]);
}

#[test]
fn a_detached_program_is_the_supervisors() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    wherry
        .call(["exec", "-d", "box", "sh", "-c", "sleep 0.1; echo done >/tmp/done; exec sleep 999"])
        .expect(0)
        .says("");
    eventually("the program has run", || (wherry.call(["exec", "box", "cat", "/tmp/done"]).status == 0).then_some(()));
    assert!(wherry.ok(["top", "box"]).contains("sleep 999"));
    wherry.call(["exec", "-d", "box", "no-such-command"]).expect(127);
    // A caller that is killed leaves its program running; the end of the container ends both.
    let mut running = wherry.start(["exec", "box", "sh", "-c", "echo begun; exec sleep 998"]);
    let mut begun = [0; 6];
    running.child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    running.kill();
    assert!(wherry.ok(["top", "box"]).contains("sleep 998"));
    wherry.ok(["stop", "-t", "0", "box"]);
    assert_eq!(wherry.status("box").as_deref(), Some("exited"));
}

#[test]
fn an_executed_program_ends_with_its_container() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    let mut running = wherry.start(["exec", "box", "sh", "-c", "echo begun; exec sleep 998"]);
    let mut begun = [0; 6];
    running.child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    wherry.ok(["kill", "box"]);
    running.finish().expect(137);
    wherry.call(["wait", "box"]).expect(0).says("137\n");
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    let script = |n: usize| format!("for i in 1 2 3; do echo {n}; sleep 0.05; done; exit {n}");
    let all: Vec<_> = (1..=10).map(|n| (n, wherry.start(["exec", "box", "sh", "-c", &script(n)]))).collect();
    for (n, running) in all {
        running.finish().expect(n as i32).says(&format!("{n}\n{n}\n{n}\n"));
    }
}

#[test]
fn without_root_it_is_the_supervisor_who_joins() {
    let image = images::busybox();
    let user = Ordinary::with_ranges(RANGE);
    user.ok(&["run", "-d", "--name", "box", &image, "sleep", "1000"]);
    assert_eq!(user.ok(&["exec", "box", "id", "-u"]), "0\n");
    assert_eq!(
        user.ok(&["exec", "-u", "ada", "box", "sh", "-c", "id -u; id -G; echo $HOME"]),
        "1000\n1000 44 50\n/home/ada\n"
    );
    user.refused(&["exec", "-u", "70000", "box", "true"], 126);
    assert!(user.ok(&["top", "box"]).contains("sleep 1000"));
    user.ok(&["rm", "--force", "box"]);
}

#[test]
fn who_speaks_nonsense_to_a_supervisor_is_left_alone() {
    let image = images::busybox();
    let wherry = sleeping(&image, "box", &[]);
    let id = wherry.inspect("box")["Id"].as_str().unwrap().to_owned();
    let connect = || UnixStream::connect(wherry.run_root().join(&id).join("attach.sock")).unwrap();
    let frame = |kind: u8, payload: &[u8]| [&[kind][..], &(payload.len() as u32).to_be_bytes(), payload].concat();
    let answer = |bytes: &[u8]| {
        let mut socket = connect();
        // It may have hung up before all was sent.
        drop(socket.write_all(bytes));
        drop(socket.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(socket.read_to_end(&mut answer));
        answer
    };
    let endless: Vec<u8> = std::iter::repeat_n(frame(4, &[b'x'; 65536]), 40).flatten().collect();
    let nothing_to_run =
        br#"{"id":"x","args":[],"env":[],"cwd":null,"user":null,"terminal":null,"stdin":false,"privileged":false}"#;
    for bytes in [&[99, 0, 0, 0, 0][..], &frame(4, b"{"), &[frame(4, b"{"), frame(5, b"")].concat(), &endless] {
        assert_eq!(answer(bytes), b"");
    }
    let refused = answer(&[frame(4, nothing_to_run), frame(5, b"")].concat());
    assert!(String::from_utf8_lossy(&refused).contains("no command"), "{refused:?}");
    assert_eq!(wherry.ok(["exec", "box", "echo", "still here"]), "still here");
}

#[test]
fn nobody_else_reaches_a_supervisor_whatever_the_umask() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let mut command = Command::new("sh");
    let script = "umask 0; exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_wherry"), "run", "-d", "--name", "box", &image, "sleep", "1000"]);
    wherry.lend_environment(&mut command);
    Running::start(&mut command).finish().expect(0);
    let id = wherry.inspect("box")["Id"].as_str().unwrap().to_owned();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&wherry.run_root().join(&id)), 0o700);
    assert_eq!(mode(&wherry.run_root().join("events")), 0o600);
}

/// A running Wasm guest that was given a directory and a variable.
fn guest() -> Wherry {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    let bind = format!("{}:/mnt:ro", wherry.folder("shared").display());
    wherry.ok(["run", "-d", "--name", "guest", "-e", "ONE=1", "-v", &bind, &image, "sleep", "1000"]);
    wherry.until_logged("guest", "asleep");
    wherry
}

#[test]
fn a_wasm_program_is_looked_at() {
    let wherry = guest();
    let pid = wherry.pid("guest").to_string();
    let ps = wherry.ok(["exec", "guest", "ps"]);
    let row: Vec<&str> = ps.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1]), (pid.as_str(), "1"), "{ps}");
    assert!(ps.contains("/guest.wasm sleep 1000"), "{ps}");

    let mem = wherry.ok(["exec", "guest", "mem"]);
    let value =
        |name: &str| mem.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned();
    assert_eq!(value("linear memories"), "1", "{mem}");
    assert!(value("pages of 64 KiB").parse::<u64>().unwrap() >= 2, "{mem}");
    assert_ne!(value("resident"), "", "{mem}");

    let env = wherry.ok(["exec", "guest", "env"]);
    assert!(env.lines().any(|l| l == "ONE=1") && env.lines().any(|l| l == "GREETING=hello"), "{env}");
    let mounts = wherry.ok(["exec", "guest", "mounts"]);
    assert!(mounts.contains("/mnt") && mounts.contains("read only") && mounts.contains("shared"), "{mounts}");
    let grants = wherry.ok(["exec", "guest", "grants"]);
    assert!(grants.contains("/mnt (read only)") && grants.contains("GREETING, ONE"), "{grants}");
    let fds = wherry.ok(["exec", "guest", "fds"]);
    assert!(fds.lines().any(|l| l.starts_with("0 ")) && fds.contains("stream"), "{fds}");
    assert!(fds.contains("/mnt"), "the directory that it was given is open: {fds}");
    let top = wherry.ok(["exec", "-i", "guest", "top"]);
    for name in ["up", "cpu", "linear memory", "host calls", "traps"] {
        assert!(top.lines().any(|l| l.starts_with(name)), "{name}: {top}");
    }
    let help = wherry.ok(["exec", "guest", "help"]);
    for word in ["ps", "env", "mem", "top", "fds", "mounts", "grants"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn there_is_nothing_to_execute_in_a_wasm_container() {
    let wherry = guest();
    let says = ["WebAssembly container", "no processes", "sh", "ps, top, mem, env, fds, mounts, grants, help"];
    wherry.call(["exec", "guest", "sh"]).expect(127).complains(&says);
    wherry.call(["exec", "guest", "ps", "-ef"]).expect(127).complains(&["ps -ef"]);
    for flags in [&["-u", "root"][..], &["-e", "A=1"], &["-w", "/"], &["-d"], &["--privileged"]] {
        let call: Vec<&str> = ["exec"].iter().chain(flags).chain(&["guest", "ps"]).copied().collect();
        wherry.call(call).expect(126).complains(&["makes no sense"]);
    }
    wherry.ok(["kill", "guest"]);
    wherry.ok(["wait", "guest"]);
    for word in ["ps", "env", "fds", "top"] {
        wherry.call(["exec", "guest", word]).expect(1).complains(&["guest is not running"]);
    }
}

#[test]
fn the_view_opens_nothing_in_the_guests_process() {
    let wherry = guest();
    let pid = wherry.pid("guest");
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open();
    for word in ["ps", "mem", "top", "fds"] {
        wherry.ok(["exec", "guest", word]);
    }
    assert_eq!(open(), before);
    // The page is memory without a name: nothing that the process could reopen or pass on.
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let shared: Vec<&str> = maps.lines().filter(|line| line.split_whitespace().nth(1) == Some("rw-s")).collect();
    assert!(shared.iter().all(|line| line.ends_with("/dev/zero (deleted)")), "{shared:?}");
    assert!(!shared.is_empty(), "{maps}");
}
