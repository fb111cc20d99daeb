//! `wherry stats` and `top`: what containers use, of both engines.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::support::{Wherry, images};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_busy_container_uses_a_processor_and_an_idle_one_does_not() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "busy", &image, "sh", "-c", "while :; do :; done"]);
    let id = wherry.ok(["run", "-d", "--name", "idle", &image, "sleep", "1000"]);
    let table = wherry.ok(["stats", "--no-stream"]);
    let head = table.lines().next().unwrap();
    for title in ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"] {
        assert!(head.contains(title), "{title}: {table}");
    }
    assert_eq!(table.lines().count(), 3, "{table}");
    let percent = |name: &str| {
        let text = wherry.ok(["stats", "--no-stream", "--format", "{{.CPUPerc}}", name]);
        text.trim_end_matches('%').parse::<f64>().unwrap()
    };
    // The machine is shared: how much of a processor it gets is not ours to say.
    assert!(percent("busy") > 5.0 && percent("idle") < 5.0);
    let row = json(&wherry.ok(["stats", "--no-stream", "--no-trunc", "--format", "json", "idle"]));
    assert_eq!((row["ID"].as_str(), row["Name"].as_str(), row["PIDs"].as_str()), (Some(&*id), Some("idle"), Some("1")));
    assert!(row["MemUsage"].as_str().unwrap().contains("iB / ") && row["NetIO"] == "0B / 0B", "{row}");
    assert!(row.get("Wasm").is_none());
    let columns = wherry.ok(["stats", "--no-stream", "--format", "table {{.Name}}\\t{{.PIDs}}", "idle"]);
    assert_eq!(columns, "NAME      PIDS\nidle      1");

    wherry.ok(["kill", "busy"]);
    wherry.ok(["wait", "busy"]);
    let names = |flags: &[&str]| {
        let call: Vec<&str> = ["stats", "--no-stream", "--format", "{{.Name}}"].iter().chain(flags).copied().collect();
        wherry.ok(call)
    };
    assert_eq!(names(&[]), "idle");
    assert_eq!(names(&["-a"]).lines().count(), 2);
    assert_eq!(wherry.ok(["stats", "--no-stream", "--format", "{{.PIDs}} {{.CPUPerc}}", "busy"]), "0 0.00%");
    wherry.call(["stats", "--no-stream", "nobody"]).expect(1).complains(&["nobody"]);
}

#[test]
fn the_stream_goes_on_and_takes_in_new_containers() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "one", &image, "sleep", "1000"]);
    let mut running = wherry.start(["stats", "--format", "{{.Name}}"]);
    let lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| line.unwrap());
    assert_eq!(lines.next().as_deref(), Some("one"));
    wherry.ok(["run", "-d", "--name", "two", &image, "sleep", "1000"]);
    assert!(lines.by_ref().take(60).any(|line| line == "two"));
    drop(lines);
    // Nobody reads any more: it ends by itself.
    running.child.wait().unwrap();
}

#[test]
fn a_wasm_program_is_told_of_in_json() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "guest", &image, "sleep", "1000"]);
    wherry.until_logged("guest", "asleep");
    let row = json(&wherry.ok(["stats", "--no-stream", "--format", "json", "guest"]));
    let wasm = &row["Wasm"];
    assert_eq!((&wasm["Instances"], &wasm["Memories"], &wasm["Traps"]), (&1.into(), &1.into(), &0.into()), "{row}");
    assert!(wasm["MemoryBytes"].as_u64().unwrap() >= 2 << 16, "{row}");
    assert!(wasm["Calls"]["preview1"].as_u64().unwrap() > 0, "{row}");
    assert_eq!(wasm["LastTrap"], Value::Null, "{row}");
    assert!(wherry.ok(["stats", "--no-stream"]).contains("guest"));
}

#[test]
fn top_is_the_hosts_view_of_the_processes() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "box", &image, "sh", "-c", "sleep 999 & exec sleep 1000"]);
    wherry.until("box", "running");
    let pid = wherry.pid("box").to_string();
    crate::support::eventually("both run", || {
        let top = wherry.ok(["top", "box"]);
        (top.contains("sleep 999") && top.contains("sleep 1000")).then_some(())
    });
    let top = wherry.ok(["top", "box"]);
    let head: Vec<&str> = top.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(top.lines().count(), 3, "{top}");
    let chosen = wherry.ok(["top", "box", "-o", "pid,args"]);
    assert!(chosen.lines().any(|line| line.split_whitespace().eq([pid.as_str(), "sleep", "1000"])), "{chosen}");
    wherry.call(["top", "box", "-o", "args"]).expect(1).complains(&["PID"]);
    wherry.call(["top", "box", "--no-such-option"]).expect(1);
    wherry.call(["top", "nobody"]).expect(1).complains(&["nobody"]);
    wherry.ok(["kill", "box"]);
    wherry.ok(["wait", "box"]);
    wherry.call(["top", "box"]).expect(1).complains(&["not running"]);
}

#[test]
fn top_of_a_wasm_container_has_its_instance() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "guest", &image, "sleep", "1000"]);
    wherry.until_logged("guest", "asleep");
    let top = wherry.ok(["top", "guest"]);
    let pid = wherry.pid("guest").to_string();
    assert!(top.lines().nth(1).unwrap().split_whitespace().any(|field| field == pid), "{top}");
    assert!(top.contains("INSTANCES") && top.contains("/guest.wasm sleep 1000"), "{top}");
}
