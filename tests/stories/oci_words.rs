//! What `wherry oci` says and is told: help, log, `list`, `features`, `spec`, and options that are refused by name.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;

use super::support::oci::path;
use super::support::{Oci, Running};

#[test]
fn errors_go_to_the_log_in_the_form_that_engines_parse() {
    let oci = Oci::new();
    let log = oci.work().join("log.json");
    let call = oci.call(["--log", path(&log), "--log-format", "json", "state", "nobody"]).expect(1);
    assert_eq!(call.stderr, "wherry: container does not exist\n");
    let line: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&"error".into(), &"container does not exist".into()));
    assert!(line["time"].is_string());
    oci.call(["--log", path(&log), "state", "nobody"]).expect(1);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().nth(1).unwrap().ends_with("level=error msg=\"container does not exist\""), "{text}");
    let alone = oci.call(["--log-format", "json", "state", "nobody"]).expect(1);
    assert_eq!(serde_json::from_str::<Value>(&alone.stderr).unwrap()["msg"], "container does not exist");
    oci.call(["--log-format", "xml", "state", "nobody"]).expect(1).complains(&["invalid log-format: xml"]);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let oci = Oci::new();
    for (words, complaint) in [
        (&["state"][..], "\"state\" requires exactly 1 argument(s)"),
        (&["state", "a", "b"], "\"state\" requires exactly 1 argument(s)"),
        (&["state", "--nope", "a"], "unknown option --nope"),
        (&["no-such-command"], "no-such-command"),
        (&["state", "../a"], "invalid container ID format"),
        (&["state", ""], "container id cannot be empty"),
        (&["--rootless", "maybe", "state", "a"], "--rootless"),
        (&["--cgroup-manager", "magic", "state", "a"], "--cgroup-manager"),
        (&["--root", "/", "state", "a"], "--root"),
        (&["list", "--format", "xml"], "invalid format option"),
    ] {
        oci.call(words).expect(1).complains(&[complaint]);
    }
}

#[test]
fn every_command_has_its_help() {
    let oci = Oci::new();
    let overview = oci.ok(["--help"]);
    let commands: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() >= 15 && commands.contains(&"exec"), "{commands:?}");
    for command in commands {
        let help = oci.call([command, "--help"]).expect(0);
        assert!(help.stdout.contains("Usage:"), "{help}");
    }
    oci.call(["help", "exec"]).expect(0);
    assert!(oci.ok(["--version"]).starts_with("wherry-oci version "));
}

#[test]
fn the_name_of_the_binary_is_enough() {
    let oci = Oci::new();
    let link = oci.work().join("wherry-oci");
    symlink(env!("CARGO_BIN_EXE_wherry"), &link).unwrap();
    let output = Command::new(&link).arg("--version").output().unwrap();
    assert!(output.stdout.starts_with(b"wherry-oci version "), "{output:?}");
    let id = oci.id("by-name");
    let bundle = oci.bundle(&id, "echo ran");
    let mut command = Command::new(&link);
    command.args(["--root", path(oci.root()), "run", "-b", path(&bundle), &id]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    Running::start(&mut command).finish().expect(0).says("ran\n");
}

#[test]
fn containers_are_listed() {
    let oci = Oci::new();
    assert_eq!(oci.ok(["list", "--format", "json"]), "null");
    let id = oci.id("listed");
    let bundle = oci.bundle(&id, "sleep 1000");
    oci.create(&id, &bundle);
    let list: Value = serde_json::from_str(&oci.ok(["list", "-f", "json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let one = &list[0];
    assert_eq!((&one["id"], &one["status"], &one["owner"]), (&(*id).into(), &"created".into(), &"root".into()));
    assert_eq!(one["pid"], oci.pid(&id));
    assert_eq!(oci.ok(["list", "--quiet"]), id);
    let table = oci.ok(["list"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(lines[1][..4], [&*id, &oci.pid(&id).to_string(), "created", path(&bundle)]);
}

#[test]
fn features_are_those_of_the_engine() {
    let oci = Oci::new();
    let features: Value = serde_json::from_str(&oci.ok(["features"])).unwrap();
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    let options = features["mountOptions"].as_array().unwrap();
    for option in ["ro", "rbind", "rslave", "nosuid", "tmpcopyup", "rro"] {
        assert!(options.iter().any(|known| known == option), "{option}");
    }
    assert!(features["hooks"].as_array().unwrap().iter().any(|hook| hook == "startContainer"));
}

#[test]
fn a_configuration_to_begin_with_runs() {
    let oci = Oci::new();
    let bundle = oci.work().join("fresh");
    fs::create_dir(&bundle).unwrap();
    symlink(oci.work().join("rootfs"), bundle.join("rootfs")).unwrap();
    oci.ok(["spec", "--bundle", path(&bundle)]);
    oci.call(["spec", "--bundle", path(&bundle)]).expect(1).complains(&["exists. Remove it first"]);
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["sh", "-c", "echo $(hostname)"]);
    fs::write(&file, config.to_string()).unwrap();
    let id = oci.id("fresh");
    oci.call(["run", "-b", path(&bundle), &id]).expect(0).says("wherry\n");
    oci.ok(["spec", "--rootless", "--bundle", path(&bundle), "--file", "rootless.json"]);
    let rootless: Value = serde_json::from_slice(&fs::read(bundle.join("rootless.json")).unwrap()).unwrap();
    assert!(rootless["linux"]["uidMappings"].is_array());
}
