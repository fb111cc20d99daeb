//! Whatever the image commands are killed at, or find no more room for: the next command works, `system check` finds
//! nothing, and what was here before is here.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::random::{Random, points};
use crate::support::{Wherry, images};

/// How many moments and how many levels are tried, unless the variable says another number.
const POINTS: usize = 18;

/// The commands, each with what leads up to it.
const VERBS: [&str; 6] = ["pull", "load", "rmi", "prune", "tag", "commit"];

struct Scene {
    wherry: Wherry,
    kept: String,
    other: String,
    archive: String,
}

impl Scene {
    /// A store with an image that a container is made of, and an archive of another image.
    fn new() -> Self {
        let (kept, other) = (images::busybox(), images::debian());
        let wherry = Wherry::with(&kept);
        wherry.ok(["create", "--name", "keeper", &kept, "true"]);
        wherry.ok(["pull", "-q", &other]);
        let archive = wherry.folder("out").join("other.tar").to_str().unwrap().to_owned();
        wherry.ok(["save", "-o", &archive, &other]);
        Self { wherry, kept, other, archive }
    }

    /// Makes it so that the command has something to do.
    fn lead_up_to(&self, verb: &str) {
        let here = !self.wherry.ok(["images", "-q", &self.other]).is_empty();
        match verb {
            "pull" | "load" if here => drop(self.wherry.ok(["rmi", &self.other])),
            "rmi" | "prune" if !here => drop(self.wherry.ok(["pull", "-q", &self.other])),
            _ => {}
        }
    }

    fn words<'a>(&'a self, verb: &'a str) -> Vec<&'a str> {
        match verb {
            "pull" => vec!["pull", "-q", &self.other],
            "load" => vec!["load", "-q", "-i", &self.archive],
            "rmi" => vec!["rmi", &self.other],
            "prune" => vec!["image", "prune", "-a", "-f"],
            "tag" => vec!["tag", &self.kept, "also:named"],
            _ => vec!["commit", "keeper", "made:here"],
        }
    }

    fn assert_sound(&self, after: &str) {
        let check = self.wherry.call(["system", "check"]);
        assert!(check.status == 0 && check.stdout.contains("no damage"), "after {after}: {check}");
        assert!(!self.wherry.ok(["images", "-q", &self.kept]).is_empty(), "after {after}: an image is lost");
    }
}

#[test]
fn killed_at_any_moment_the_image_commands_lose_nothing() {
    let scene = Scene::new();
    let points = points(POINTS);
    let mut random = Random::new(points as u64);
    let mut longest = VERBS.map(|verb| {
        scene.lead_up_to(verb);
        let begun = Instant::now();
        scene.wherry.ok(scene.words(verb));
        begun.elapsed()
    });
    let mut cut_short = 0;
    for point in 0..points {
        let at = point % VERBS.len();
        let verb = VERBS[at];
        scene.lead_up_to(verb);
        let moment = Duration::from_micros(random.below(longest[at].as_micros() as u64 + 1));
        let begun = Instant::now();
        let mut child =
            scene.wherry.command(scene.words(verb)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(moment); // the moment is what this test is about
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            longest[at] = begun.elapsed();
        } else {
            cut_short += 1;
        }
        scene.assert_sound(&format!("{verb} was killed after {moment:?}"));
    }
    println!("{cut_short} of {points} commands were cut short");
    assert!(cut_short * 4 >= points, "only {cut_short} of {points} commands were cut short");
    assert_eq!(scene.wherry.ok(["run", "--rm", &scene.kept, "echo", "whole"]), "whole");
    // All that was begun ends well, and nothing stays of it.
    scene.wherry.ok(["pull", "-q", &scene.other]);
    scene.wherry.ok(["rmi", &scene.other]);
    scene.wherry.call(["system", "check", "--repair"]).expect(0);
    scene.assert_sound("the end");
}

#[test]
fn with_no_room_at_any_level_the_image_commands_lose_nothing() {
    let scene = Scene::new();
    let points = points(POINTS);
    let mut random = Random::new(points as u64);
    let archive = scene.archive.clone();
    // A disk of its own, in a mount namespace that ends with the shell. What is left of it is another number each time.
    let script = r#"
        set -e
        say() { "$wherry" "$@"; }
        mkdir -p "$WHERRY_ROOT/disk"
        mount -t tmpfs -o size=600m none "$WHERRY_ROOT/disk"
        export WHERRY_ROOT=$WHERRY_ROOT/disk
        say pull -q "$kept" >/dev/null
        say create --name keeper "$kept" true >/dev/null
        full=0
        for point in $points; do
            verb=${point%%:*} left=${point##*:}
            here=$(say images -q "$other")
            case $verb in
            pull | load) [ -z "$here" ] || say rmi "$other" >/dev/null; set -- pull -q "$other"; [ $verb = pull ] || set -- load -q -i "$archive" ;;
            rmi | prune) [ -n "$here" ] || say pull -q "$other" >/dev/null; set -- rmi "$other"; [ $verb = rmi ] || set -- image prune -a -f ;;
            tag) set -- tag "$kept" also:named ;;
            commit) set -- commit keeper made:here ;;
            esac
            free=$(($(stat -f -c '%a * %S' "$WHERRY_ROOT")))
            [ "$free" -le "$left" ] || fallocate -l $((free - left)) "$WHERRY_ROOT/filler"
            say "$@" >/dev/null 2>"$errors" || { full=$((full + 1)); grep -Eq 'No space left|disk is full|database or disk' "$errors" || { echo "$verb with $left left:"; cat "$errors"; exit 1; }; }
            rm -f "$WHERRY_ROOT/filler"
            say system check >"$errors" 2>&1 || { echo "check after $verb with $left left:"; cat "$errors"; exit 1; }
            [ -n "$(say images -q "$kept")" ] || { echo "lost after $verb"; exit 1; }
        done
        [ "$(say run --rm "$kept" echo whole)" = whole ]
        echo "$full found no room"
    "#;
    let levels: Vec<String> = (0..points)
        .map(|point| {
            let verb = VERBS[point % VERBS.len()];
            // Small commands fail on small disks.
            let most = if matches!(verb, "pull" | "load") { 350 << 20 } else { 64 << 10 };
            format!("{verb}:{}", random.below(most))
        })
        .collect();
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", script]);
    scene.wherry.lend_environment(&mut command);
    command
        .env("wherry", env!("CARGO_BIN_EXE_wherry"))
        .env("kept", &scene.kept)
        .env("other", &scene.other)
        .env("archive", archive)
        .env("points", levels.join(" "))
        .env("errors", scene.wherry.folder("out").join("errors"));
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    println!("{points} levels: {stdout}");
    let full: usize = stdout.split_whitespace().next().unwrap().parse().unwrap();
    assert!(full * 4 >= points, "only {full} of {points} commands found no room");
}
