//! `create`, `start`, `state`, `kill`, `delete`: a container's life, step by step.

use std::fs;

use super::support::oci::{path, until_written};
use super::support::{Oci, process};

#[test]
fn a_container_waits_runs_ends_and_is_gone() {
    let oci = Oci::new();
    let id = oci.id("life");
    let bundle = oci.bundle(&id, "echo began; sleep 1000");
    let pid_file = oci.work().join("pid");
    let left = oci.leave(["create", "--bundle", path(&bundle), "--pid-file", path(&pid_file), &id]);
    assert_eq!((left.output.status, &*left.output.stdout), (0, ""), "{}", left.output);

    let state = oci.state(&id);
    let pid = state["pid"].as_u64().unwrap();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), pid.to_string());
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("created"), Some(&*id)));
    assert_eq!(state["bundle"], path(&bundle));
    assert_eq!(state["annotations"]["org.example.story"], *id);
    assert_eq!(fs::read_to_string(&left.file).unwrap(), "", "its program has not begun");

    oci.call(["start", &id]).expect(0).says("");
    until_written(&left.file, "began");
    assert_eq!(oci.state(&id)["pid"], pid, "the process that waited is the one that runs");
    assert_eq!(oci.status(&id), "running");
    oci.call(["start", &id]).expect(1).complains(&["running"]);
    oci.call(["delete", &id]).expect(1).complains(&["that is not stopped: running"]);

    oci.call(["kill", &id, "KILL"]).expect(0);
    oci.until(&id, "stopped");
    assert_eq!(oci.state(&id)["pid"], 0);
    oci.call(["kill", &id, "KILL"]).expect(1).complains(&["container not running"]);
    oci.call(["start", &id]).expect(1).complains(&["stopped"]);
    oci.call(["delete", &id]).expect(0).says("");
    oci.call(["state", &id]).expect(1).complains(&["container does not exist"]);
    oci.call(["delete", &id]).expect(1).complains(&["container does not exist"]);
    oci.call(["delete", "--force", &id]).expect(0);
}

#[test]
fn a_created_container_can_be_deleted_and_its_program_never_runs() {
    let oci = Oci::new();
    let id = oci.id("never");
    let left = oci.create(&id, &oci.bundle(&id, "echo ran"));
    let pid = oci.pid(&id);
    oci.call(["delete", &id]).expect(0);
    assert!(process::gone_within(pid, std::time::Duration::ZERO));
    assert_eq!(fs::read_to_string(left.file).unwrap(), "");
}

#[test]
fn a_program_that_ends_at_once_was_started() {
    let oci = Oci::new();
    for _ in 0..20 {
        let id = oci.id("short");
        let bundle = oci.bundle_with(&id, "", |config| config["process"]["args"] = serde_json::json!(["true"]));
        oci.create(&id, &bundle);
        oci.ok(["start", &id]);
        oci.until(&id, "stopped");
        oci.ok(["delete", &id]);
    }
}

#[test]
fn delete_with_force_ends_what_runs() {
    let oci = Oci::new();
    let id = oci.id("forced");
    oci.create(&id, &oci.bundle(&id, "trap '' TERM; sleep 1000 & wait"));
    oci.ok(["start", &id]);
    oci.call(["delete", "-f", &id]).expect(0).says("");
    assert!(oci.leaks(&[id]).is_empty());
}

#[test]
fn a_name_is_given_once() {
    let oci = Oci::new();
    let id = oci.id("twice");
    let bundle = oci.bundle(&id, "sleep 1000");
    oci.create(&id, &bundle);
    let again = oci.leave(["create", "--bundle", path(&bundle), &id]).output;
    assert_eq!(again.status, 1);
    assert!(again.stdout.contains("container with given ID already exists"), "{again}");
    assert_eq!(oci.status(&id), "created", "the first is as it was");
}

#[test]
fn a_container_that_does_not_answer_can_be_asked_about_for_ever() {
    let oci = Oci::new();
    let id = oci.id("stopped");
    oci.create(&id, &oci.bundle(&id, "sleep 1000"));
    oci.ok(["kill", &id, "STOP"]);
    for _ in 0..20 {
        assert_eq!(oci.status(&id), "created");
    }
    oci.ok(["pause", &id]);
    for _ in 0..20 {
        assert_eq!(oci.status(&id), "paused");
    }
    oci.ok(["delete", "--force", &id]);
}

#[test]
fn changes_to_the_bundle_have_no_effect_after_create() {
    let oci = Oci::new();
    let id = oci.id("changed");
    let bundle = oci.bundle(&id, "echo $GREETING; sleep 1000");
    let left = oci.create(&id, &bundle);
    fs::write(bundle.join("config.json"), "{}").unwrap();
    oci.ok(["start", &id]);
    until_written(&left.file, "hello");
    let said = oci.ok(["exec", &id, "sh", "-c", "echo $GREETING"]);
    assert_eq!(said, "hello");
}

#[test]
fn a_program_that_is_not_there_is_told_by_name_and_leaves_nothing() {
    let oci = Oci::new();
    let id = oci.id("missing");
    let bundle = oci.bundle_with(&id, "", |config| config["process"]["args"] = serde_json::json!(["no-such-program"]));
    let run = oci.call(["run", "--bundle", path(&bundle), &id]).expect(1);
    run.complains(&["no-such-program", "executable file not found in $PATH"]);
    assert!(oci.leaks(&[id]).is_empty());
}

#[test]
fn signals_reach_the_program_by_name_and_number() {
    let oci = Oci::new();
    for (name, number) in [("USR1", "USR1"), ("SIGUSR2", "USR2"), ("1", "HUP"), ("rtmin+3", "37")] {
        let id = oci.id("signal");
        let script = format!("trap 'echo caught' {number}; echo ready; while true; do sleep 0.1; done");
        let left = oci.create(&id, &oci.bundle(&id, &script));
        oci.ok(["start", &id]);
        until_written(&left.file, "ready");
        oci.ok(["kill", &id, name]);
        until_written(&left.file, "caught");
        oci.ok(["delete", "-f", &id]);
    }
    let id = oci.id("signal");
    oci.create(&id, &oci.bundle(&id, "sleep 1000"));
    oci.call(["kill", &id, "NOPE"]).expect(1).complains(&["unknown signal \"NOPE\""]);
}

#[test]
fn without_a_pid_namespace_killing_and_deleting_take_all_processes() {
    let oci = Oci::new();
    let id = oci.id("shared");
    let bundle = oci.bundle_with(&id, "sleep 1234 & sleep 1000", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    });
    oci.create(&id, &bundle);
    oci.ok(["start", &id]);
    super::support::eventually("both sleep", || {
        let pids: Vec<u32> = serde_json::from_str(&oci.ok(["ps", "--format", "json", &id])).unwrap();
        (pids.len() >= 2).then_some(())
    });
    oci.ok(["kill", &id, "KILL"]);
    oci.until(&id, "stopped");
    assert_eq!(oci.ok(["ps", "--format", "json", &id]), "[]");
    oci.ok(["delete", &id]);
}

#[test]
fn hooks_run_after_start_and_after_delete() {
    let oci = Oci::new();
    let id = oci.id("hooks");
    let (after_start, after_stop) = (oci.work().join("poststart"), oci.work().join("poststop"));
    let hook = |file: &std::path::Path| serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}", path(file))]}]);
    let bundle = oci.bundle_with(&id, "sleep 1000", |config| {
        config["hooks"] = serde_json::json!({"poststart": hook(&after_start), "poststop": hook(&after_stop)});
    });
    oci.create(&id, &bundle);
    assert!(!after_start.exists());
    oci.ok(["start", &id]);
    let told: serde_json::Value = serde_json::from_slice(&fs::read(&after_start).unwrap()).unwrap();
    assert_eq!((told["status"].as_str(), told["id"].as_str()), (Some("running"), Some(&*id)));
    assert_eq!(told["pid"], oci.pid(&id));
    assert!(!after_stop.exists());
    oci.ok(["delete", "-f", &id]);
    let told: serde_json::Value = serde_json::from_slice(&fs::read(&after_stop).unwrap()).unwrap();
    assert_eq!((told["status"].as_str(), told["bundle"].as_str()), (Some("stopped"), Some(path(&bundle))));
}

#[test]
fn a_failed_poststart_hook_ends_the_container() {
    let oci = Oci::new();
    let id = oci.id("hook-fails");
    let bundle = oci.bundle_with(&id, "sleep 1000", |config| {
        config["hooks"] = serde_json::json!({"poststart": [{"path": "/bin/false"}]});
    });
    oci.create(&id, &bundle);
    oci.call(["start", &id]).expect(1).complains(&["/bin/false"]);
    oci.until(&id, "stopped");
    let id = oci.id("hook-fails-run");
    let bundle = oci.bundle_with(&id, "sleep 1000", |config| {
        config["hooks"] = serde_json::json!({"poststart": [{"path": "/bin/false"}]});
    });
    oci.call(["run", "-b", path(&bundle), &id]).expect(1);
    oci.call(["state", &id]).expect(1).complains(&["container does not exist"]);
}

#[test]
fn commands_of_many_callers_on_one_container_do_not_mix() {
    let oci = Oci::new();
    let id = oci.id("busy");
    let bundle = oci.bundle(&id, "sleep 1000");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    oci.leave(["create", "-b", path(&bundle), &id]);
                    oci.leave(["start", &id]);
                    // Somebody else may have been first with either, but to delete always succeeds.
                    oci.call(["delete", "--force", &id]).expect(0);
                }
            });
        }
    });
    oci.ok(["delete", "--force", &id]);
    assert!(oci.leaks(&[id]).is_empty());
}

#[test]
fn names_by_expression() {
    let oci = Oci::new();
    let ids: Vec<String> = ["many-a", "many-b", "other"].iter().map(|name| oci.id(name)).collect();
    for id in &ids {
        oci.create(id, &oci.bundle(id, "sleep 1000"));
        oci.ok(["start", id]);
    }
    oci.ok(["kill", "--regex", "^many-", "KILL"]);
    oci.until(&ids[0], "stopped");
    oci.until(&ids[1], "stopped");
    assert_eq!(oci.status(&ids[2]), "running");
    oci.ok(["delete", "--regex", "^many-"]);
    assert_eq!(oci.ok(["list", "-q"]), ids[2]);
}
