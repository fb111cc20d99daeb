//! `exec`: further processes in a container.

use std::fs;

use serde_json::{Value, json};

use super::support::oci::{path, until_written};
use super::support::{Oci, eventually, process};

fn sleeping(oci: &Oci) -> String {
    let id = oci.id("exec");
    oci.create(&id, &oci.bundle(&id, "sleep 1000"));
    oci.ok(["start", &id]);
    id
}

#[test]
fn a_command_runs_in_the_container_and_its_status_is_ours() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    oci.call(["exec", &id, "hostname"]).expect(0).says("story\n");
    oci.call(["exec", &id, "sh", "-c", "exit 7"]).expect(7);
    oci.call(["exec", &id, "sh", "-c", "kill -9 $$"]).expect(137);
    oci.call(["exec", &id, "no-such-program"]).expect(255).complains(&["no-such-program"]);
    let pids: Vec<u32> = serde_json::from_str(&oci.ok(["ps", "-f", "json", &id])).unwrap();
    assert_eq!(pids, [oci.pid(&id)], "what was executed has gone");
}

#[test]
fn options_say_how_it_runs() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    let say = |options: &[&str], script: &str| oci.ok([&["exec"][..], options, &[&id, "sh", "-c", script]].concat());
    assert_eq!(say(&["--cwd", "/tmp"], "pwd"), "/tmp");
    assert_eq!(say(&["-e", "A=1", "--env", "B=2,3"], "echo $A $B $GREETING"), "1 2,3 hello");
    assert_eq!(say(&["--user", "1000:1001", "-g", "5", "-g", "6"], "id -u; id -g; id -G"), "1000\n1001\n1001 5 6");
    assert_eq!(say(&["--user", "0001"], "id -u"), "1");
    let status = |options: &[&str]| say(options, "cat /proc/self/status");
    let value = |status: &str, key| process::status_value(status, key).unwrap();
    let plain = status(&[]);
    assert_eq!(value(&plain, "NoNewPrivs"), "1");
    assert_eq!(value(&plain, "CapInh"), "0000000000000000");
    let mask = |status: &str| u64::from_str_radix(&value(status, "CapEff"), 16).unwrap();
    assert_eq!(mask(&plain) | 1 << 25, mask(&status(&["--cap", "CAP_SYS_TIME"])));
}

#[test]
fn a_user_that_is_no_number_is_nobody() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    for user in ["+1", "-1", "1.0", " 1", "4294967295", "4294967296", "ada", "1:ada", ""] {
        let call = oci.call(["exec", &format!("--user={user}"), &id, "id", "-u"]);
        if user.is_empty() {
            call.expect(0).says("0\n");
        } else {
            call.expect(255).says("").complains(&["--user"]);
        }
    }
}

#[test]
fn a_process_comes_from_a_file() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    let file = oci.work().join("process.json");
    let process = json!({
        "args": ["sh", "-c", "echo $A $(pwd) $(id -u)"], "cwd": "/tmp", "env": ["PATH=/bin", "A=b"],
        "user": {"uid": 1000, "gid": 1000},
    });
    fs::write(&file, process.to_string()).unwrap();
    oci.call(["exec", "--process", path(&file), &id]).expect(0).says("b /tmp 1000\n");
    fs::write(&file, "{").unwrap();
    oci.call(["exec", "-p", path(&file), &id]).expect(255).complains(&["process.json"]);
    fs::write(&file, json!({"cwd": "/", "args": []}).to_string()).unwrap();
    oci.call(["exec", "-p", path(&file), &id]).expect(255).complains(&["args must not be empty"]);
}

#[test]
fn a_detached_process_runs_on_and_is_written_down() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    let pid_file = oci.work().join("pid");
    let script = "echo began; sleep 1000";
    let left = oci.leave(["exec", "--detach", "--pid-file", path(&pid_file), &id, "sh", "-c", script]);
    assert_eq!(left.output.status, 0, "{}", left.output);
    until_written(&left.file, "began");
    let pid: u32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let pids: Vec<u32> = serde_json::from_str(&oci.ok(["ps", "-f", "json", &id])).unwrap();
    assert!(pids.contains(&pid) && pids.len() >= 2, "{pids:?} and {pid}");
    let inside = |pid: u32, ns: &str| fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap();
    for ns in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        assert_eq!(inside(pid, ns), inside(oci.pid(&id), ns), "{ns}");
    }
}

#[test]
fn there_is_no_exec_where_nothing_runs() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    oci.ok(["pause", &id]);
    oci.call(["exec", &id, "true"]).expect(255).complains(&["paused"]);
    oci.ok(["resume", &id]);
    oci.ok(["kill", &id, "KILL"]);
    oci.until(&id, "stopped");
    oci.call(["exec", &id, "true"]).expect(255).complains(&["stopped"]);
    oci.call(["exec", "nobody", "true"]).expect(255).complains(&["container does not exist"]);
    oci.call(["exec", &id]).expect(255);
}

#[test]
fn a_paused_container_takes_a_process_that_waits() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    oci.ok(["pause", &id]);
    let waiting = oci.start(["exec", "--ignore-paused", &id, "echo", "went on"]);
    oci.ok(["resume", &id]);
    waiting.finish().expect(0).says("went on\n");
}

#[test]
fn no_file_of_ours_is_open_in_it() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    let open = oci.ok(["exec", &id, "ls", "/proc/self/fd"]);
    assert_eq!(open, "0\n1\n2\n3", "ls itself has the fourth");
    let links = oci.ok(["exec", &id, "sh", "-c", "ls -l /proc/1/fd | wc -l"]);
    assert_eq!(links, "4", "a line of total and three streams");
}

#[test]
fn a_terminal_can_be_had() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    let console = oci.work().join("console.sock");
    let listener = std::os::unix::net::UnixListener::bind(&console).unwrap();
    let args = ["exec", "-t", "-d", "--console-socket", path(&console), &id, "sh", "-c", "tty; sleep 1000"];
    let left = oci.leave(args);
    assert_eq!(left.output.status, 0, "{}", left.output);
    let master = super::oci_foreground::receive(&listener);
    let seen = eventually("the terminal speaks", || super::oci_foreground::read_some(&master));
    assert!(seen.contains("/dev/pts/"), "{seen}");
    oci.call(["exec", "-t", "-d", &id, "true"]).expect(255).complains(&["console-socket"]);
    let refused: Value = oci.state(&id);
    assert_eq!(refused["status"], "running");
}

#[test]
fn a_process_can_begin_in_a_group_below_the_containers() {
    let oci = Oci::new();
    let id = sleeping(&oci);
    let legacy = std::path::Path::new("/sys/fs/cgroup/pids/wherry").join(&id);
    let (group, word, line) = match legacy.is_dir() {
        true => (legacy, "pids:below", ":pids:/below"),
        false => (std::path::Path::new("/sys/fs/cgroup/wherry").join(&id), "below", "0::/below"),
    };
    oci.call(["exec", "--cgroup", word, &id, "true"]).expect(255).complains(&["below"]);
    fs::create_dir(group.join("below")).unwrap();
    let groups = oci.ok(["exec", "--cgroup", word, &id, "cat", "/proc/self/cgroup"]);
    // In a cgroup namespace the container's own group is the root.
    assert!(groups.lines().any(|found| found.ends_with(line)), "{groups}");
    oci.call(["exec", "--cgroup", "../out", &id, "true"]).expect(255);
}
