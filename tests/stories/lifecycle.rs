//! The verbs of a container's life: create, start, ps, logs, wait, stop, kill, rm, inspect; and of images: images, rmi.

use serde_json::Value;

use crate::support::{Wherry, images};

#[test]
fn a_life_from_create_to_rm() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok(["create", "--name", "life", &image, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(id.len(), 64, "{id}");
    assert_eq!(wherry.status("life").as_deref(), Some("created"));
    assert_eq!(wherry.ok(["ps", "-q"]), "", "ps shows what runs");
    let all = wherry.ok(["ps", "-a"]);
    assert!(
        all.contains("Created") && all.contains("life") && all.contains(&id[..12]) && all.contains(&image),
        "{all}"
    );

    assert_eq!(wherry.ok(["start", "life"]), "life");
    wherry.call(["wait", "life"]).expect(0).says("7\n");
    let all = wherry.ok(["ps", "-a"]);
    assert!(all.contains("Exited (7)"), "{all}");

    let logs = wherry.call(["logs", "life"]).expect(0);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\n", "err\n"));

    // A second life in the same container: the log goes on.
    wherry.ok(["start", "life"]);
    wherry.call(["wait", "life"]).expect(0).says("7\n");
    assert_eq!(wherry.call(["logs", "life"]).expect(0).stdout, "out\nout\n");

    assert_eq!(wherry.ok(["rm", "life"]), "life");
    assert_eq!(wherry.ok(["ps", "-aq"]), "");
    wherry.call(["inspect", "life"]).expect(1).complains(&["life"]);
}

#[test]
fn logs_can_be_of_a_time() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "box", &image, "sh", "-c", "echo early; sleep 1; echo late"]);
    wherry.ok(["wait", "box"]);
    let stamped = wherry.ok(["logs", "-t", "box"]);
    let late = stamped.lines().nth(1).unwrap().split(' ').next().unwrap();
    for (flags, shown) in [
        (&["--since", late][..], "late"),
        (&["--until", late], "early"),
        (&["--since", "1h"], "early\nlate"),
        (&["--since", "1h", "--until", "1h"], ""),
        (&["--until", late, "-n", "1"], "early"),
    ] {
        let call: Vec<&str> = ["logs", "box"].iter().chain(flags).copied().collect();
        assert_eq!(wherry.ok(call), shown, "{flags:?}");
    }
    wherry.call(["logs", "--since", "soon", "box"]).expect(125).complains(&["soon"]);
}

#[test]
fn start_attached_is_the_containers_output_and_code() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["create", "--name", "att", &image, "sh", "-c", "echo out; echo err >&2; exit 9"]);
    let output = wherry.call(["start", "-a", "att"]).expect(9);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn start_says_what_cannot_start() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["create", "--name", "broken", &image, "no-such-command"]);
    wherry.call(["start", "broken"]).expect(1).complains(&["no-such-command"]);
    let state = wherry.inspect("broken")["State"].clone();
    assert_eq!(state["ExitCode"], 127, "{state}");
}

#[test]
fn inspect_has_dockers_words() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok([
        "run",
        "-d",
        "--name",
        "seen",
        "-e",
        "A=b",
        "-w",
        "/data",
        "--network",
        "none",
        &image,
        "sleep",
        "1000",
    ]);
    let seen = wherry.inspect("seen");
    assert_eq!(seen["Id"], id.as_str());
    assert_eq!(seen["Name"], "/seen");
    assert_eq!(seen["State"]["Status"], "running");
    assert_eq!(seen["State"]["Running"], true);
    assert_eq!(seen["Config"]["Image"], image.as_str());
    assert_eq!(seen["Config"]["WorkingDir"], "/data");
    assert!(seen["Config"]["Env"].as_array().unwrap().contains(&Value::from("A=b")), "{seen}");
    assert_eq!(seen["Path"], "sleep");
    assert_eq!(seen["Args"], serde_json::json!(["1000"]));
    assert!(seen["Image"].as_str().unwrap().starts_with("sha256:"), "{seen}");
    // The process is where it says, and is what it says.
    let pid = wherry.pid("seen");
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(command, b"sleep\x001000\0");

    wherry.ok(["kill", "seen"]);
    wherry.ok(["wait", "seen"]);
    let state = wherry.inspect("seen")["State"].clone();
    assert_eq!(
        (&state["Status"], &state["ExitCode"], &state["Running"]),
        (&"exited".into(), &137.into(), &false.into())
    );
    assert_eq!(state["Pid"], 0);
}

#[test]
fn a_container_is_found_by_name_and_by_the_start_of_its_id() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok(["create", "--name", "prefix", &image, "true"]);
    for name in ["prefix", &id, &id[..12], &id[..6]] {
        assert_eq!(wherry.inspect(name)["Id"], id.as_str(), "{name}");
    }
}

#[test]
fn stop_asks_then_kills() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let polite = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    wherry.ok(["run", "-d", "--name", "polite", &image, "sh", "-c", polite]);
    wherry.until_logged("polite", "ready");
    assert_eq!(wherry.ok(["stop", "polite"]), "polite");
    wherry.call(["wait", "polite"]).expect(0).says("3\n");
    assert_eq!(wherry.call(["logs", "polite"]).stdout, "ready\nasked\n");

    // Process 1 ignores what it does not handle.
    wherry.ok(["run", "-d", "--name", "deaf", &image, "sleep", "1000"]);
    wherry.ok(["stop", "-t", "0", "deaf"]);
    wherry.call(["wait", "deaf"]).expect(0).says("137\n");
    assert_eq!(wherry.ok(["stop", "deaf"]), "deaf", "stopping what is stopped is done already");
}

#[test]
fn kill_sends_the_signal_it_is_told() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let script = "trap 'echo usr1' USR1; trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done";
    wherry.ok(["run", "-d", "--name", "sig", &image, "sh", "-c", script]);
    wherry.until_logged("sig", "ready");
    wherry.ok(["kill", "-s", "USR1", "sig"]);
    wherry.until_logged("sig", "usr1");
    wherry.ok(["kill", "--signal", "SIGINT", "sig"]);
    wherry.call(["wait", "sig"]).expect(0).says("5\n");
    wherry.call(["kill", "sig"]).expect(1).complains(&["sig", "exited"]);
    wherry.call(["kill", "-s", "NOSUCH", "sig"]).expect(1).complains(&["NOSUCH"]);
}

#[test]
fn rm_refuses_what_runs_unless_forced() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "busy", &image, "sleep", "1000"]);
    wherry.call(["rm", "busy"]).expect(1).complains(&["busy", "running"]);
    assert_eq!(wherry.ok(["rm", "-f", "busy"]), "busy");
    assert_eq!(wherry.ok(["ps", "-aq"]), "");
}

#[test]
fn wait_ends_with_the_container() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "waited", "-i", &image, "sleep", "1000"]);
    let waiting = wherry.start(["wait", "waited"]);
    wherry.ok(["kill", "waited"]);
    waiting.finish().expect(0).says("137\n");
}

#[test]
fn what_does_not_exist_is_named() {
    let wherry = Wherry::new();
    for verb in ["start", "stop", "kill", "rm", "logs", "wait", "inspect"] {
        wherry.call([verb, "nobody"]).expect(1).complains(&["nobody"]).says(if verb == "inspect" {
            "[]\n"
        } else {
            ""
        });
    }
    wherry.call(["rmi", "nothing:here"]).expect(1).complains(&["nothing:here"]);
    assert_eq!(wherry.ok(["ps", "-aq"]), "");
    assert_eq!(wherry.ok(["images", "-q"]), "");
}

#[test]
fn images_are_listed_and_removed() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let table = wherry.ok(["images"]);
    let row = table.lines().nth(1).unwrap_or_default();
    assert!(row.contains(repository) && row.contains(tag), "{table}");
    assert_eq!(wherry.ok(["images", "-q"]).lines().count(), 1);

    wherry.ok(["create", "--name", "user", &image, "true"]);
    wherry.call(["rmi", &image]).expect(1).complains(&["conflict", "using"]);
    wherry.ok(["rm", "user"]);
    wherry.call(["rmi", &image]).expect(0);
    assert_eq!(wherry.ok(["images", "-q"]), "");
}

#[test]
fn version_and_info_answer() {
    let wherry = Wherry::new();
    assert!(wherry.ok(["version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(wherry.ok(["--version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(wherry.ok(["info"]).contains(wherry.root().to_str().unwrap()));
    wherry.call(["no-such-verb"]).expect(125).complains(&["no-such-verb"]);
}

#[test]
fn what_stands_still_goes_on() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let script = "i=0; while :; do i=$((i+1)); echo $i >/new; mv /new /count; sleep 0.01; done";
    wherry.ok(["run", "-d", "--name", "still", &image, "sh", "-c", script]);
    let count = || wherry.ok(["exec", "still", "cat", "/count"]);
    crate::support::eventually("it counts", || {
        wherry.call(["exec", "still", "cat", "/count"]).stdout.trim().parse::<u32>().ok()
    });
    assert_eq!(wherry.ok(["pause", "still"]), "still");
    assert_eq!(wherry.status("still").as_deref(), Some("paused"));
    assert!(wherry.ok(["ps", "--filter", "status=paused", "--format", "{{.Status}}"]).ends_with("(Paused)"));
    assert_eq!(wherry.ok(["inspect", "-f", "{{.State.Paused}} {{.State.Running}}", "still"]), "true true");
    wherry.call(["pause", "still"]).expect(1).complains(&["is already paused"]);
    wherry.call(["exec", "still", "true"]).expect(1).complains(&["is paused, unpause the container before exec"]);
    wherry.call(["start", "still"]).expect(1).complains(&["unpause"]);
    assert_eq!(wherry.ok(["unpause", "still"]), "still");
    let then: u32 = count().parse().unwrap();
    crate::support::eventually("it goes on", || count().parse::<u32>().ok().filter(|now| *now > then));
    wherry.call(["unpause", "still"]).expect(1).complains(&["is not paused"]);
    // What stands still can be ended all the same.
    wherry.ok(["pause", "still"]);
    wherry.ok(["stop", "-t", "0", "still"]);
    assert_eq!(wherry.status("still").as_deref(), Some("exited"));
    wherry.call(["pause", "still"]).expect(1).complains(&["is not running"]);
    wherry.ok(["start", "still"]);
    wherry.ok(["pause", "still"]);
    wherry.ok(["rm", "-f", "still"]);
    let events = wherry.ok(["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"]);
    assert!(events.lines().any(|line| line == "pause") && events.lines().any(|line| line == "unpause"), "{events}");
}

#[test]
fn a_restart_is_an_end_and_a_start() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let script = "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.05; done";
    wherry.ok(["run", "-d", "--name", "again", &image, "sh", "-c", script]);
    wherry.until_logged("again", "hello");
    let pid = || wherry.ok(["inspect", "-f", "{{.State.Pid}}", "again"]);
    let first = pid();
    assert_eq!(wherry.ok(["restart", "again"]), "again");
    assert_eq!(wherry.status("again").as_deref(), Some("running"));
    assert_ne!(pid(), first);
    crate::support::eventually("both lives are in the log", || {
        (wherry.call(["logs", "again"]).stdout == "hello\nbye\nhello\n").then_some(())
    });
    wherry.ok(["stop", "again"]);
    // One that does not run is started.
    wherry.ok(["restart", "-t", "1", "-s", "KILL", "again"]);
    assert_eq!(wherry.status("again").as_deref(), Some("running"));
    wherry.call(["restart", "nobody"]).expect(1).complains(&["No such container: nobody"]);
}

#[test]
fn names_change_and_stay_unique() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok(["create", "--name", "first", &image, "true"]);
    wherry.ok(["create", "--name", "second", &image, "true"]);
    wherry.ok(["rename", "first", "third"]);
    assert_eq!(wherry.ok(["inspect", "-f", "{{.Id}} {{.Name}}", "third"]), format!("{id} /third"));
    wherry.call(["inspect", "first"]).expect(1);
    wherry.call(["rename", "third", "second"]).expect(1).complains(&["is already in use by container"]);
    wherry.call(["rename", "third", "third"]).expect(1).complains(&["same name"]);
    wherry.call(["rename", "third", "a b"]).expect(1).complains(&["Invalid container name"]);
}

#[test]
fn limits_change_while_it_runs() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "tight", "-m", "64m", &image, "sleep", "1000"]);
    let limit = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    let seen = || wherry.ok(["exec", "tight", "sh", "-c", limit]);
    assert_eq!(seen(), (64 << 20).to_string());
    assert_eq!(wherry.ok(["update", "-m", "96m", "--memory-swap", "-1", "--pids-limit", "77", "tight"]), "tight");
    assert_eq!(seen(), (96 << 20).to_string());
    let pids = "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max";
    assert_eq!(wherry.ok(["exec", "tight", "sh", "-c", pids]), "77");
    wherry.ok(["restart", "-t", "0", "tight"]);
    assert_eq!(seen(), (96 << 20).to_string(), "and it stays so");
    wherry.call(["update", "-m", "1m", "tight"]).expect(1).complains(&["Minimum memory limit"]);
    wherry.call(["update", "tight"]).expect(1).complains(&["you must provide one or more flags"]);
    assert_eq!(seen(), (96 << 20).to_string());
}

#[test]
fn containers_are_listed_by_what_they_are() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let made = |name: &str, more: &[&str], script: &str| {
        wherry.ok([&["run", "-d", "--name", name, "-l", "of=test"], more, &[&image, "sh", "-c", script]].concat())
    };
    let first = made("first", &["-l", "x=1", "--expose", "81"], "sleep 1000");
    made("other", &["-l", "x=2"], "exit 3");
    wherry.call(["wait", "other"]).expect(0);
    made("last-one", &["--network", "host"], "sleep 1000");
    let listed = |filters: &[&str]| {
        let flags = filters.iter().flat_map(|filter| ["-f", filter]);
        wherry.ok(["ps", "--format", "{{.Names}}"].into_iter().chain(flags).collect::<Vec<_>>()).replace('\n', " ")
    };
    let all = format!("ancestor={image}");
    for (filters, names) in [
        (&["name=o"][..], "last-one"),
        (&["name=^/first$"], "first"),
        (&["name=first", "name=last"], "last-one first"),
        (&["status=exited"], "other"),
        (&["status=exited", "status=running"], "last-one other first"),
        (&["exited=3"], "other"),
        (&["exited=0"], ""),
        (&["label=of=test", "label=x=1"], "first"),
        (&["label=x", "status=exited"], "other"),
        (&["before=last-one"], "first"),
        (&["since=first"], "last-one"),
        (&["network=host"], "last-one"),
        (&["expose=80-90"], "first"),
        (&["publish=81"], ""),
        (&[&all], "last-one first"),
        (&["ancestor=nothing"], ""),
        (&[&format!("id={}", &first[..12])], "first"),
    ] {
        assert_eq!(listed(filters), names, "{filters:?}");
    }
    wherry.call(["ps", "-f", "nosuch=1"]).expect(1).complains(&["invalid filter 'nosuch'", "ancestor"]);
    let sizes = wherry.ok(["container", "ls", "-as", "--format", "table {{.Names}}\t{{.Size}}"]);
    assert!(sizes.lines().nth(1).is_some_and(|line| line.contains("B (virtual ")), "{sizes}");
    // A prune takes those that do not run.
    let pruned = wherry.ok(["container", "prune", "-f"]);
    assert!(pruned.starts_with("Deleted Containers:\n") && pruned.contains("Total reclaimed space:"), "{pruned}");
    assert_eq!(wherry.ok(["container", "ps", "-a", "--format", "{{.Names}}"]), "last-one\nfirst");
}
