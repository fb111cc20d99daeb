//! `kill -9` of wherry at any moment: whatever it was doing, `delete --force` clears it, and nothing is left.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::oci::path;
use super::support::random::{Random, points};
use super::support::{Oci, process};

/// How many commands are killed, unless the variable says another number.
const KILLS: usize = 100;

/// The commands that are killed, each after those that lead up to it.
const VERBS: [&str; 4] = ["create", "start", "delete", "run"];

fn words<'a>(verb: &str, bundle: &'a str, id: &'a str) -> Vec<&'a str> {
    match verb {
        "create" => vec!["create", "-b", bundle, id],
        "run" => vec!["run", "-d", "-b", bundle, id],
        "delete" => vec!["delete", "--force", id],
        _ => vec!["start", id],
    }
}

/// Does what has to be done before the command.
fn lead_up_to(oci: &Oci, verb: &str, bundle: &str, id: &str) {
    let before = match verb {
        "start" => &["create"][..],
        "delete" => &["create", "start"],
        _ => &[],
    };
    for verb in before {
        let left = oci.leave(words(verb, bundle, id)).output;
        assert_eq!(left.status, 0, "{left}");
    }
}

fn silent(oci: &Oci, words: &[&str]) -> Command {
    let mut command = oci.command(words);
    let file = || Stdio::from(File::create(oci.work().join("silent")).unwrap());
    command.stdout(file()).stderr(file());
    command
}

#[test]
fn killed_at_any_moment_it_leaves_nothing_that_delete_does_not_clear() {
    let oci = Oci::new();
    let kills = points(KILLS);
    let mut random = Random::new(kills as u64);
    // How long each command takes when nobody kills it, in microseconds; the longest seen.
    let mut lengths = VERBS.map(|verb| {
        let id = oci.id("measure");
        let bundle = oci.bundle(&id, "sleep 1000");
        lead_up_to(&oci, verb, path(&bundle), &id);
        let begun = Instant::now();
        oci.leave(words(verb, path(&bundle), &id));
        let length = begun.elapsed();
        oci.ok(["delete", "--force", &id]);
        length.as_micros() as u64
    });
    let mut survived = 0;
    for count in 0..kills {
        let (verb, length) = (VERBS[count % 4], &mut lengths[count % 4]);
        let id = oci.id(verb);
        let bundle = oci.bundle(&id, "sleep 1000 & wait");
        lead_up_to(&oci, verb, path(&bundle), &id);
        let begun = Instant::now();
        let mut child = silent(&oci, &words(verb, path(&bundle), &id)).spawn().unwrap();
        let moment = Duration::from_micros(random.below(*length));
        if process::gone_within(child.id(), moment) {
            survived += 1;
            *length = (*length).min(begun.elapsed().as_micros() as u64);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        oci.call(["delete", "--force", &id]).expect(0).says("");
        let leaks = oci.leaks(std::slice::from_ref(&id));
        assert!(leaks.is_empty(), "kill {count}, of {verb} after {moment:?}, left {leaks:#?}");
    }
    assert!(survived < kills / 2, "{survived} of {kills} commands had ended before they were killed");
}
