//! What is true after somebody was killed with -9.

use std::fs;
use std::io::Write;
use std::time::Duration;

use crate::support::{PATIENCE, Wherry, eventually, images, process};

#[test]
fn a_killed_command_line_does_not_hurt_the_container() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo second; exit 6";
    let running = wherry.start(["run", "--name", "survivor", &image, "sh", "-c", script]);
    wherry.until_logged("survivor", "first");
    running.kill();

    let listed = wherry.ok(["ps"]);
    assert!(listed.contains("survivor") && listed.contains("Up"), "{listed}");
    let pid = wherry.pid("survivor");
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    wherry.call(["wait", "survivor"]).expect(0).says("6\n");
    assert_eq!(wherry.call(["logs", "survivor"]).expect(0).stdout, "first\nsecond\n");
    let listed = wherry.ok(["ps", "-a"]);
    assert!(listed.contains("Exited (6)"), "{listed}");
}

#[test]
fn a_killed_supervisor_is_found_out() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "orphan", &image, "sh", "-c", "echo alive; exec sleep 1000"]);
    wherry.until_logged("orphan", "alive");
    let init = wherry.pid("orphan");
    let supervisor = process::parent(init).unwrap();
    assert_ne!(supervisor, 1, "the supervisor is the parent of init");
    process::kill(supervisor);
    assert!(process::gone_within(supervisor, PATIENCE));

    // The record must not go on saying "running" about something that nobody watches, nor may the process go on.
    let state = eventually("the loss is seen", || {
        let state = wherry.inspect("orphan")["State"].clone();
        (state["Status"] != "running").then_some(state)
    });
    assert_eq!(state["Status"], "exited", "{state}");
    assert_ne!(state["ExitCode"], 0, "{state}");
    assert!(process::gone_within(init, PATIENCE), "the container's process is gone too");
    assert_eq!(wherry.call(["logs", "orphan"]).expect(0).stdout, "alive\n");
    // And it can live again.
    wherry.ok(["start", "orphan"]);
    wherry.until("orphan", "running");
}

#[test]
fn what_a_killed_supervisor_left_goes_with_its_container() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "orphan", &image, "sleep", "1000"]);
    let init = wherry.pid("orphan");
    process::kill(process::parent(init).unwrap());
    assert!(process::gone_within(init, PATIENCE), "the container's process is gone");
    eventually("the end is found out", || (wherry.status("orphan")? == "exited").then_some(()));
    wherry.ok(["rm", "orphan"]);
    // That no cgroup is left is what the end of every story looks for.
}

#[test]
fn a_supervisor_stays_small_and_has_one_thread() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "idle", &image, "sleep", "1000"]);
    let supervisor = process::parent(wherry.pid("idle")).unwrap();
    assert_eq!(process::status(supervisor, "Threads").as_deref(), Some("1"));
}

#[test]
fn kill_at_any_moment_of_a_run_leaves_a_usable_state() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    // From before the record exists to after the container has ended.
    for moment in (0..60).step_by(6) {
        let name = format!("k{moment}");
        let running = wherry.start(["run", "--name", &name, &image, "true"]);
        process::gone_within(running.child.id(), Duration::from_millis(moment));
        running.kill();
        let output = wherry.call(["ps", "-a"]).expect(0);
        if output.stdout.contains(&name) {
            wherry.call(["rm", "-f", &name]).expect(0);
        }
    }
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "fine"]), "fine");
}

#[test]
fn kill_at_any_moment_of_a_pull_leaves_a_usable_store() {
    let image = images::debian();
    let wherry = Wherry::new();
    for moment in [20, 60, 120, 250, 400, 700, 1100, 1600] {
        let pulling = wherry.start(["pull", "-q", &image]);
        process::gone_within(pulling.child.id(), Duration::from_millis(moment));
        pulling.kill();
        wherry.call(["images"]).expect(0);
    }
    wherry.start(["pull", "-q", &image]).finish().expect(0);
    let release = wherry.ok(["run", "--rm", &image, "cat", "/etc/debian_version"]);
    assert!(release.starts_with("12"), "{release}");
}

#[test]
fn two_pulls_at_once_are_one_image() {
    let image = images::busybox();
    let wherry = Wherry::new();
    let pulls: Vec<_> = (0..3).map(|_| wherry.start(["pull", "-q", &image])).collect();
    for pull in pulls {
        pull.finish().expect(0);
    }
    assert_eq!(wherry.ok(["images", "-q"]).lines().count(), 1);
    assert_eq!(wherry.ok(["run", "--rm", &image, "cat", "/data/keep"]), "keep of layer 2");
}

#[test]
fn after_a_restart_of_the_machine_in_the_middle_of_a_pull_the_next_commands_are_right() {
    let (image, other) = (images::busybox(), images::debian());
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "before", &image, "sleep", "1000"]);
    let (init, id) = (wherry.pid("before"), wherry.inspect("before")["Id"].as_str().unwrap().to_owned());
    let ingest = wherry.root().join("content/ingest");
    let parts = || {
        let names = fs::read_dir(&ingest).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|end| end == "part")).collect::<Vec<_>>()
    };
    let pulling = wherry.start(["pull", "-q", &other]);
    eventually("a layer is on its way", || {
        parts().iter().any(|part| part.metadata().is_ok_and(|file| file.len() > 0)).then_some(())
    });
    pulling.kill();
    process::kill(process::parent(init).unwrap());
    assert!(process::gone_within(init, PATIENCE));
    // What a power cut leaves: more of a file than was written down, locks and leases of nobody, half of a layer, a record
    // of another boot, and nothing in the directory that does not outlive it.
    for part in parts() {
        fs::File::options().append(true).open(part).unwrap().write_all(&[0; 5000]).unwrap();
    }
    for leases in ["content/leases", "layers/leases"] {
        fs::create_dir_all(wherry.root().join(leases)).unwrap();
        fs::write(wherry.root().join(leases).join("1.0"), "\nhalf a na").unwrap();
    }
    fs::create_dir_all(wherry.root().join("layers/tmp").join("0".repeat(64)).join("diff/half")).unwrap();
    for entry in fs::read_dir(wherry.run_root()).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { fs::remove_dir_all(entry).unwrap() } else { fs::remove_file(entry).unwrap() }
    }
    let state = wherry.root().join("containers").join(id).join("state.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(&state).unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(&state, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();

    let state = wherry.inspect("before")["State"].clone();
    assert_eq!((&state["Status"], &state["Error"]), (&"exited".into(), &"the machine was restarted".into()), "{state}");
    wherry.call(["system", "check"]).expect(0).prints(&["no damage"]);
    wherry.ok(["start", "before"]);
    wherry.until("before", "running");
    wherry.ok(["pull", "-q", &other]);
    assert!(wherry.ok(["run", "--rm", &other, "cat", "/etc/debian_version"]).starts_with("12"));
    wherry.call(["system", "check", "--quick", "--repair"]).expect(0);
    let check = wherry.call(["system", "check", "--quick"]).expect(0);
    assert!(!check.stdout.contains("note: "), "{check}");
}
