//! `wherry events`: what happened to containers and images, seen as it happens and looked back at.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::support::{Wherry, eventually, images};

/// All events so far, as JSON.
fn all(wherry: &Wherry, filters: &[&str]) -> Vec<Value> {
    let flags = filters.iter().flat_map(|filter| ["--filter", *filter]);
    let call: Vec<&str> =
        ["events", "--since", "0", "--until", "0s", "--format", "json"].into_iter().chain(flags).collect();
    let text = wherry.ok(call);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn actions(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["Action"].as_str().unwrap()).collect()
}

#[test]
fn a_life_is_told_in_order() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.ok(["run", "-d", "--name", "life", "-l", "tier=front", &image, "sleep", "1000"]);
    wherry.ok(["stop", "-t", "0", "life"]);
    wherry.ok(["rm", "life"]);
    let mut events = all(&wherry, &["container=life"]);
    // Who kills tells of it when it has, and who sees the end may be quicker to tell.
    let place = |action: &str| events.iter().rposition(|event| event["Action"] == action).expect("it is told");
    let (kill, die) = (place("kill"), place("die"));
    if die + 1 == kill {
        events.swap(kill, die);
    }
    assert_eq!(actions(&events), ["create", "start", "kill", "kill", "die", "stop", "destroy"]);
    for event in &events {
        assert_eq!((event["Type"].as_str(), event["scope"].as_str()), (Some("container"), Some("local")));
        assert_eq!(event["Actor"]["ID"], id.as_str());
        let attributes = &event["Actor"]["Attributes"];
        assert_eq!((&attributes["name"], &attributes["image"]), (&"life".into(), &image.as_str().into()), "{event}");
        assert_eq!(attributes["tier"], "front");
    }
    let attributes = |at: usize| &events[at]["Actor"]["Attributes"];
    assert_eq!((&attributes(2)["signal"], &attributes(3)["signal"]), (&"15".into(), &"9".into()));
    assert_eq!(attributes(4)["exitCode"], "137");
    let times: Vec<i64> = events.iter().map(|event| event["timeNano"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    let line = wherry.ok(["events", "--since", "0", "--until", "0s", "--filter", "event=die"]);
    let start = line.split_once(' ').unwrap().1;
    assert!(start.starts_with(&format!("container die {id} (execDuration=")), "{line}");
    assert!(line.contains("exitCode=137") && line.ends_with("tier=front)"), "{line}");
    let template = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}";
    let of_template =
        wherry.ok(["events", "--since", "0", "--until", "0s", "--filter", "event=die", "--format", template]);
    assert_eq!(of_template, "die life 137");
}

#[test]
fn a_foreground_container_and_an_exec_are_told_of() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.call(["run", "--rm", "--name", "fore", &image, "sh", "-c", "exit 3"]).expect(3);
    let events = all(&wherry, &["container=fore"]);
    assert_eq!(actions(&events), ["create", "attach", "start", "die", "destroy"]);
    assert_eq!(events[3]["Actor"]["Attributes"]["exitCode"], "3");

    wherry.ok(["run", "-d", "--name", "box", &image, "sleep", "1000"]);
    wherry.call(["exec", "box", "sh", "-c", "exit 5"]).expect(5);
    wherry.call(["exec", "box", "no-such-command"]).expect(127);
    let events = all(&wherry, &["container=box", "event=exec_create", "event=exec_start", "event=exec_die"]);
    assert_eq!(
        actions(&events),
        [
            "exec_create: sh -c exit 5",
            "exec_start: sh -c exit 5",
            "exec_die",
            "exec_create: no-such-command",
            "exec_die"
        ]
    );
    let of = |at: usize, name: &str| events[at]["Actor"]["Attributes"][name].as_str().unwrap().to_owned();
    assert_eq!((of(2, "exitCode"), of(4, "exitCode")), ("5".to_owned(), "127".to_owned()));
    assert!(of(0, "execID") == of(2, "execID") && of(0, "execID") != of(3, "execID"));
}

#[test]
fn images_come_and_go() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let id = wherry.inspect(&image)["Id"].as_str().unwrap().to_owned();
    wherry.ok(["rmi", &image]);
    let events = all(&wherry, &["type=image"]);
    assert_eq!(actions(&events), ["pull", "untag", "delete"]);
    let ids: Vec<&str> = events.iter().map(|event| event["Actor"]["ID"].as_str().unwrap()).collect();
    assert_eq!(ids, [image.as_str(), &id, &id]);
    assert_eq!(events[0]["Actor"]["Attributes"]["name"], image.rsplit_once(':').unwrap().0);
}

#[test]
fn they_are_seen_as_they_happen() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["create", "--name", "before", &image, "true"]);
    let mut running =
        wherry.start(["events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}"]);
    let lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| line.unwrap());
    // Until it watches, there is nothing that would tell: it is told of something until it says so.
    let watching = std::thread::scope(|scope| {
        let first = scope.spawn(|| lines.next());
        eventually("the follower watches", || {
            wherry.ok(["create", "--name", "probe", &image, "true"]);
            wherry.ok(["rm", "probe"]);
            first.is_finished().then_some(())
        });
        first.join().unwrap()
    });
    assert!(watching.unwrap().ends_with(" probe"), "what was before is not told without --since");
    wherry.call(["run", "--rm", "--name", "now", &image, "true"]).expect(0);
    let seen: Vec<String> = lines.by_ref().filter(|line| !line.ends_with(" probe")).take(5).collect();
    assert_eq!(seen, ["create now", "attach now", "start now", "die now", "destroy now"]);
    drop(lines);
    wherry.ok(["rm", "before"]);
    running.child.wait().unwrap();
}

#[test]
fn times_bound_what_is_told() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["create", "--name", "one", &image, "true"]);
    let between = jiff_now();
    wherry.ok(["create", "--name", "two", &image, "true"]);
    let names = |flags: &[&str]| {
        let format = ["events", "--filter", "event=create", "--format", "{{.Actor.Attributes.name}}"];
        wherry.ok(format.iter().chain(flags))
    };
    assert_eq!(names(&["--since", &between, "--until", "0s"]), "two");
    assert_eq!(names(&["--since", "1h", "--until", &between]), "one");
    assert_eq!(names(&["--since", "1h", "--until", "0s"]), "one\ntwo");
    assert_eq!(names(&["--until", "0s"]), "", "without --since nothing of before");
    wherry.call(["events", "--since", "yesterday"]).expect(125).complains(&["yesterday"]);
    wherry.call(["events", "--filter", "colour=red"]).expect(1).complains(&["colour"]);
}

/// Now, in seconds since 1970 with a fraction.
fn jiff_now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

#[test]
fn a_trap_is_part_of_the_end() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.call(["run", "--name", "guest", &image, "trap"]).expect(134);
    let events = all(&wherry, &["container=guest"]);
    assert_eq!(actions(&events), ["create", "attach", "start", "die"]);
    let attributes = &events[3]["Actor"]["Attributes"];
    assert_eq!(attributes["exitCode"], "134");
    assert!(attributes["trap"].as_str().unwrap().contains("unreachable"), "{attributes}");
    assert!(wherry.inspect("guest")["State"]["Trap"].as_str().unwrap().contains("unreachable"));
}

#[test]
fn what_the_kernel_killed_for_want_of_memory_is_said() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    // A file in memory that is larger than what it may have, written by its first process.
    let eat = "exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60";
    wherry.call(["run", "--name", "box", "-m", "24m", &image, "sh", "-c", eat]).expect(137);
    assert_eq!(wherry.inspect("box")["State"]["OOMKilled"], true);
    assert_eq!(actions(&all(&wherry, &["container=box"])), ["create", "attach", "start", "oom", "die"]);
}
