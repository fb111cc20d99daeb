//! `wherry run` with Linux images: exit codes, streams, and each flag as Docker documents it.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Running, Wherry, images, process};

#[test]
fn the_exit_code_is_the_containers_own() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for code in [0, 1, 3, 200] {
        wherry.call(["run", "--rm", &image, "sh", "-c", &format!("exit {code}")]).expect(code);
    }
}

#[test]
fn what_cannot_start_has_dockers_codes() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.call(["run", "--rm", "--no-such-flag", &image, "true"]).expect(125).complains(&["--no-such-flag"]);
    wherry.call(["run", "--rm", "-v", "relative/../:/x:nonsense", &image, "true"]).expect(125);
    wherry.call(["run", "--rm", "--network", "none", "-u", "nobody-known", &image, "true"]).expect(125);
    wherry.call(["run", "--rm", &image, "no-such-command"]).expect(127).complains(&["no-such-command"]);
    wherry.call(["run", "--rm", &image, "/no/such/path"]).expect(127).complains(&["/no/such/path"]);
    wherry.call(["run", "--rm", &image, "/usr/bin/orphan-script"]).expect(127);
    wherry.call(["run", "--rm", &image, "/etc/not-executable"]).expect(126).complains(&["/etc/not-executable"]);
    wherry.call(["run", "--rm", &image, "/etc"]).expect(126);
    assert_eq!(wherry.ok(["ps", "-aq"]), "", "--rm also removes what never ran");
}

#[test]
fn a_signal_is_128_and_its_number() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let running = wherry.start(["run", "--name", "loop", &image, "sleep", "1000"]);
    wherry.until("loop", "running");
    wherry.ok(["kill", "loop"]);
    running.finish().expect(137);
    wherry.call(["wait", "loop"]).expect(0).says("137\n");
}

#[test]
fn signals_to_the_command_line_reach_the_container() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let running = wherry.start(["run", "--name", "polite", &image, "sh", "-c", script]);
    wherry.until_logged("polite", "ready");
    process::signal(&running.child, Signal::TERM);
    running.finish().expect(42).says("ready\n");
}

#[test]
fn standard_output_and_error_stay_apart() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let output = wherry.call(["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2; echo more"]).expect(0);
    assert_eq!(output.stdout, "out\nmore\n");
    assert_eq!(output.stderr, "err\n");
}

#[test]
fn much_output_arrives_whole() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let output = wherry.call(["run", "--name", "much", &image, "head", "-c", "5000000", "/dev/zero"]).expect(0);
    assert_eq!(output.stdout.len(), 5_000_000);
    let lines = wherry.call(["run", "--name", "lines", &image, "seq", "100000"]).expect(0).stdout;
    assert_eq!(lines.lines().count(), 100_000);
    assert_eq!(wherry.call(["logs", "lines"]).expect(0).stdout, lines);
}

#[test]
fn standard_input_is_given_with_i_only() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for (flags, seen) in [(&["run", "--rm", "-i"][..], "to the guest"), (&["run", "--rm"], "")] {
        let mut running = Running::start(wherry.command(flags).arg(&image).arg("cat").stdin(Stdio::piped()));
        let mut stdin = running.child.stdin.take().unwrap();
        // Without -i nobody reads: a closed pipe is as good as an unread one.
        let _unread = stdin.write_all(b"to the guest");
        drop(stdin);
        running.finish().expect(0).says(seen);
    }
}

#[test]
fn the_input_of_a_detached_container_stays_open() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "-i", "--name", "open", &image, "sh", "-c", "cat; echo ended"]);
    wherry.ok(["run", "-d", "--name", "shut", &image, "sh", "-c", "cat; echo ended"]);
    wherry.until_logged("shut", "ended");
    assert_eq!(wherry.status("open").as_deref(), Some("running"));
    wherry.ok(["stop", "-t", "0", "open"]);
    assert_eq!(wherry.ok(["logs", "open"]), "");
}

#[test]
fn the_environment_is_the_images_and_the_users() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let args = ["run", "--rm", "-e", "ONE=1", "-e", "GREETING=bye", "-e", "FROM_HOST", "-e", "NOT_SET", &image, "env"];
    let running = Running::start(wherry.command(args).env("FROM_HOST", "yes").env("NOT_ASKED_FOR", "no"));
    let stdout = running.finish().expect(0).stdout;
    let has = |line: &str| stdout.lines().any(|seen| seen == line);
    assert!(has("ONE=1") && has("GREETING=bye") && has("FROM_HOST=yes") && has("PATH=/bin:/usr/bin"), "{stdout}");
    assert!(has("HOME=/root"), "{stdout}");
    assert!(stdout.contains("HOSTNAME="), "{stdout}");
    for absent in ["NOT_ASKED_FOR", "NOT_SET", "WHERRY_ROOT", "GREETING=hello"] {
        assert!(!stdout.contains(absent), "{absent} in {stdout}");
    }
}

#[test]
fn the_working_directory_is_made() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    assert_eq!(wherry.ok(["run", "--rm", &image, "pwd"]), "/");
    assert_eq!(wherry.ok(["run", "--rm", "-w", "/data", &image, "pwd"]), "/data");
    assert_eq!(wherry.ok(["run", "--rm", "-w", "/new/place", &image, "pwd"]), "/new/place");
}

#[test]
fn users_are_the_images_users() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for (user, seen) in [
        ("ada", "uid=1000(ada) gid=1000(ada) groups=44(video),50(staff)"),
        ("1000", "uid=1000(ada) gid=1000(ada) groups=44(video),50(staff)"),
        ("ada:staff", "uid=1000(ada) gid=50(staff)"),
        ("1234", "uid=1234 gid=0(root)"),
        ("1234:4321", "uid=1234 gid=4321"),
        ("0", "uid=0(root) gid=0(root) groups=44(video)"),
    ] {
        let id = wherry.ok(["run", "--rm", "-u", user, &image, "id"]);
        let id = id.replace("groups=1000(ada),", "groups=").replace("groups=0(root),", "groups=");
        assert!(id.starts_with(seen), "-u {user}: {id}");
    }
    let home =
        wherry.ok(["run", "--rm", "-u", "ada", &image, "sh", "-c", "echo $HOME; echo > $HOME/mine && echo wrote"]);
    assert_eq!(home, "/home/ada\nwrote");
}

#[test]
fn binds_show_the_hosts_files() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let shared = wherry.folder("shared");
    fs::write(shared.join("from-host"), "hello\n").unwrap();
    let bind = format!("{}:/mnt", shared.display());
    let seen =
        wherry.ok(["run", "--rm", "-v", &bind, &image, "sh", "-c", "cat /mnt/from-host; echo back >/mnt/from-guest"]);
    assert_eq!(seen, "hello");
    assert_eq!(fs::read_to_string(shared.join("from-guest")).unwrap(), "back\n");

    let read_only = format!("{bind}:ro");
    wherry
        .call(["run", "--rm", "-v", &read_only, &image, "sh", "-c", "cat /mnt/from-host && echo no >/mnt/from-guest"])
        .expect(1)
        .complains(&["Read-only file system"]);
    let file = format!("{}:/etc/passwd:ro", shared.join("from-host").display());
    assert_eq!(wherry.ok(["run", "--rm", "-v", &file, &image, "cat", "/etc/passwd"]), "hello");
    let absent = shared.join("made/by-docker");
    let made = format!("{}:/mnt", absent.display());
    wherry.call(["run", "--rm", "-v", &made, &image, "touch", "/mnt/x"]).expect(0);
    assert!(absent.join("x").exists());
}

#[test]
fn a_bind_cannot_be_led_out_of_the_root_by_a_link() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let shared = wherry.folder("shared");
    let outside = wherry.folder("outside");
    wherry.call(["create", "--name", "link", "-v", &format!("{}:/trap/x", shared.display()), &image, "true"]).expect(0);
    // The container's own file system says that /trap is the host's directory.
    wherry.call(["run", "--name", "maker", &image, "ln", "-s", &outside.display().to_string(), "/trap"]).expect(0);
    wherry.call(["start", "-a", "link"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was made outside");
}

#[test]
fn an_entry_point_can_be_replaced() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    assert_eq!(wherry.ok(["run", "--rm", "--entrypoint", "/bin/echo", &image, "a", "b"]), "a b");
    // The image's own command belongs to its own entry point.
    assert_eq!(wherry.ok(["run", "--rm", "--entrypoint", "/bin/echo", &image]), "");
}

#[test]
fn a_read_only_root_is_read_only() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for place in ["/x", "/etc/x", "/data/x"] {
        wherry
            .call(["run", "--rm", "--read-only", &image, "touch", place])
            .expect(1)
            .complains(&["Read-only file system"]);
    }
    wherry.call(["run", "--rm", "--read-only", &image, "sh", "-c", "echo >/dev/null && touch /dev/shm/x"]).expect(0);
}

#[test]
fn what_one_container_writes_no_other_sees() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.call(["run", "--name", "one", &image, "sh", "-c", "echo changed >/data/keep; rm /data/changed"]).expect(0);
    let second = wherry.ok(["run", "--rm", &image, "cat", "/data/keep", "/data/changed"]);
    assert_eq!(second, "keep of layer 2\nchanged of layer 3");
}

#[test]
fn networks_none_and_host() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    };
    let none = wherry.ok(["run", "--rm", "--network", "none", &image, "cat", "/proc/net/dev"]);
    assert_eq!(names(&none), ["lo"]);
    let up = wherry.ok(["run", "--rm", "--network", "none", &image, "ping", "-c1", "-W1", "127.0.0.1"]);
    assert!(up.contains("1 packets received"), "lo is up: {up}");
    let host = wherry.ok(["run", "--rm", "--network", "host", &image, "cat", "/proc/net/dev"]);
    assert_eq!(names(&host), names(&fs::read_to_string("/proc/net/dev").unwrap()));
    let ns = wherry.ok(["run", "--rm", "--network", "host", &image, "readlink", "/proc/self/ns/net"]);
    assert_eq!(ns, fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
}

#[test]
fn rm_removes_and_names_are_taken_once() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.call(["run", "--rm", "--name", "brief", &image, "true"]).expect(0);
    assert_eq!(wherry.ok(["ps", "-aq"]), "");
    let id = wherry.ok(["run", "-d", "--name", "taken", &image, "sleep", "1000"]);
    wherry
        .call(["run", "--name", "taken", &image, "true"])
        .expect(125)
        .complains(&["taken", "already in use", &id])
        .says("");
    assert_eq!(wherry.ok(["ps", "-q"]).lines().count(), 1);
    wherry.call(["run", "--name", "not/a name", &image, "true"]).expect(125).complains(&["not/a name"]);
}

#[test]
fn detached_prints_the_id_and_leaves() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok(["run", "-d", &image, "sh", "-c", "echo started; sleep 1000"]);
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    wherry.until_logged(&id, "started");
    assert_eq!(wherry.status(&id).as_deref(), Some("running"));
}

#[test]
fn a_terminal_is_a_terminal() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let output =
        wherry.call(["run", "--rm", "-t", &image, "sh", "-c", "test -t 0 && test -t 1 && tty; echo err >&2"]).expect(0);
    assert_eq!(output.stdout, "/dev/pts/0\r\nerr\r\n", "{output}");
    wherry.call(["run", "--rm", &image, "test", "-t", "1"]).expect(1);
}

#[test]
fn files_of_hidden_layers_are_hidden() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let script = "ls /data /opaque; cat /data/changed; stat -c %a /usr/bin/setuid-id /tmp; stat -c %U:%G /home/ada; stat -c %h /bin/busybox";
    let seen = wherry.ok(["run", "--rm", &image, "sh", "-c", script]);
    let mut lines: Vec<&str> = seen.lines().collect();
    let links: u32 = lines.pop().unwrap().parse().unwrap();
    assert!(links > 100, "hard links are links: {links}");
    assert_eq!(
        lines,
        ["/data:", "changed", "keep", "zeroes", "", "/opaque:", "new", "changed of layer 3", "4755", "1777", "ada:ada"]
    );
}
