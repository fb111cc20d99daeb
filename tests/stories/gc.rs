//! Images that go by themselves: those that nobody has used for long, and the oldest when the disk is nearly full.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::handmade::{Handmade, TAR, tar};
use crate::support::{Wherry, images};

/// Makes it so that nobody has used an image for so many hours.
fn age(wherry: &Wherry, image: &str, hours: u64) {
    let id = wherry.ok(["image", "inspect", "--format", "{{.Id}}", image]);
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    let used = wherry.root().join("db.sqlite.used").join(id.replace(':', "-"));
    File::options().write(true).open(used).unwrap().set_modified(then).unwrap();
    let nanos = then.duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let sql = format!("UPDATE images SET pulled_unix_ns = {nanos} WHERE config = '{id}'");
    assert!(Command::new("sqlite3").arg(wherry.root().join("db.sqlite")).arg(sql).status().unwrap().success());
}

fn names(wherry: &Wherry) -> Vec<String> {
    let mut names: Vec<String> =
        wherry.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn blobs(wherry: &Wherry) -> usize {
    fs::read_dir(wherry.root().join("content/blobs/sha256")).unwrap().count()
}

/// An image of one layer that does not compress.
fn image(name: &str, bytes: usize) -> String {
    let mut state = name.bytes().fold(1u64, |state, byte| state * 31 + u64::from(byte));
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let noise: Vec<u8> = noise.take(bytes).collect();
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    Handmade::image(platform, &["/noise"], vec![(TAR, tar(&[("noise", &noise)]))]).push(&format!("gc/{name}"), "1")
}

#[test]
fn nothing_goes_unless_the_configuration_says_so() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    age(&wherry, &image, 10_000);
    wherry.call(["system", "gc"]).expect(1).complains(&["does not say which images should go", "[gc]"]);
    wherry.ok(["pull", "-q", &images::busybox_zstd()]);
    assert_eq!(names(&wherry).len(), 2);
}

#[test]
fn a_configuration_that_means_nothing_stops_a_pull_before_it_begins() {
    let wherry = Wherry::new();
    wherry.configure("[gc]\nunused-fro = '7d'\n");
    let said = wherry.call(["pull", "-q", &images::busybox()]).expect(1);
    said.complains(&["wherry.toml", "line 2: unknown field `unused-fro`"]);
    wherry.call(["system", "gc"]).expect(1).complains(&["line 2"]);
    assert!(!wherry.root().join("content/blobs").exists() || blobs(&wherry) == 0);
}

#[test]
fn what_nobody_has_used_for_long_goes_and_nothing_else() {
    let all = [images::busybox(), image("kept", 1000), images::wasm(), image("old", 1000), image("young", 1000)];
    let [used, kept, run, old, young] = &all;
    let wherry = Wherry::new();
    for image in &all {
        wherry.ok(["pull", "-q", image]);
        age(&wherry, image, 200);
    }
    wherry.ok(["tag", old, "localhost/also:this"]);
    age(&wherry, old, 200);
    age(&wherry, young, 100);
    wherry.ok(["create", "--name", "user", used, "true"]);
    age(&wherry, used, 200);
    // A run is a use, and what was used until now is not old.
    wherry.ok(["run", "--rm", run, "greet", "x"]);
    let pattern = kept.replace("/kept:1", "/k?p*");
    wherry.configure(&format!("[gc]\nunused-for = '7d'\nkeep = ['{pattern}']\n"));

    let before = (names(&wherry), blobs(&wherry));
    let dry = wherry.call(["system", "gc", "--dry-run"]).expect(0);
    dry.prints(&["Would remove: ", old, "localhost/also:this", "not used for 8 days", "Total reclaimable space: "]);
    assert_eq!((names(&wherry), blobs(&wherry)), before);

    let done = wherry.call(["system", "gc"]).expect(0);
    assert_eq!(done.stdout.matches("Removed: ").count(), 1, "{done}");
    done.prints(&["Removed: ", old, "not used for 8 days"]);
    let left = names(&wherry);
    for (image, stays) in all.iter().zip([true, true, true, false, true]) {
        assert_eq!(left.contains(image), stays, "{image}: {left:?}");
    }
    wherry.call(["system", "check"]).expect(0).prints(&["no damage"]);
    let events = wherry.ok(["events", "--since", "10m", "--until", "0s", "--format", "{{json .}}"]);
    let said: Vec<_> = events.lines().filter(|line| line.contains("\"reason\":\"unused\"")).collect();
    assert_eq!(said.len(), 3, "two names and an image: {events}");

    // The same after a pull, by itself; the one that was pulled stays, whatever its age.
    age(&wherry, young, 200);
    let pulled = wherry.call(["pull", "-q", old]).expect(0);
    pulled.complains(&["wherry: removed ", young, "not used for 8 days"]);
    assert!(names(&wherry).contains(old) && !names(&wherry).contains(young));
    assert_eq!(wherry.ok(["system", "gc"]), "Total reclaimed space: 0B");
}

#[test]
fn a_disk_that_is_too_full_loses_the_images_that_are_not_needed() {
    let all = ["a", "b", "c", "d"].map(|name| image(name, 8 << 20));
    let wherry = Wherry::new();
    wherry.configure("[gc]\nhigh-watermark = '60%'\nlow-watermark = '40%'\n");
    // A disk of its own, in a mount namespace that ends with the shell. Each image takes 16 of its 100 MB; `a` is the
    // oldest, and in use.
    let script = r#"
        set -e
        mkdir -p "$WHERRY_ROOT/disk"
        mount -t tmpfs -o size=100000k none "$WHERRY_ROOT/disk"
        export WHERRY_ROOT=$WHERRY_ROOT/disk
        hours=9
        for image in $a $b $c; do
            "$wherry" pull -q "$image" 2>&1
            id=$("$wherry" image inspect --format '{{.Id}}' "$image")
            touch -d "$hours hours ago" "$WHERRY_ROOT/db.sqlite.used/sha256-${id#sha256:}"
            sqlite3 "$WHERRY_ROOT/db.sqlite" "UPDATE images SET pulled_unix_ns = 0 WHERE config = '$id'"
            hours=$((hours - 1))
        done
        "$wherry" create --name user "$a" >/dev/null
        echo "pulled three"
        "$wherry" pull -q "$d" 2>&1
        "$wherry" images --format 'left {{.Repository}}:{{.Tag}}'
        "$wherry" system check
        stat -f -c 'blocks %b %a' "$WHERRY_ROOT"
        fallocate -l 30M "$WHERRY_ROOT/filler"
        "$wherry" system gc 2>&1
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", script]);
    wherry.lend_environment(&mut command);
    for (name, image) in ["a", "b", "c", "d"].iter().zip(&all) {
        command.env(name, image);
    }
    let output = command.env("wherry", env!("CARGO_BIN_EXE_wherry")).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    let (early, late) = stdout.split_once("pulled three\n").unwrap();
    assert!(!early.contains("removed"), "{stdout}");
    let removed: Vec<&str> = late.lines().filter(|line| line.starts_with("wherry: removed ")).collect();
    assert_eq!(removed.len(), 2, "{stdout}");
    assert!(removed[0].contains(&all[1]) && removed[0].contains("too much of the disk are used"), "{stdout}");
    assert!(removed[1].contains(&all[2]) && removed[1].contains("not used for 7 hours"), "{stdout}");
    for (image, stays) in all.iter().zip([true, false, false, true]) {
        assert_eq!(late.contains(&format!("left {image}\n")), stays, "{image}: {stdout}");
    }
    assert!(late.contains("no damage"), "{stdout}");
    let blocks = late.lines().find_map(|line| line.strip_prefix("blocks ")).unwrap();
    let blocks: Vec<u64> = blocks.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!((blocks[0] - blocks[1]) * 100 <= blocks[0] * 40, "{stdout}");
    // What is in use and what has just been pulled stay, and it is said that this is not enough.
    assert!(
        late.contains("Total reclaimed space: 0B\n") && late.contains("no image is left that could go"),
        "{stdout}"
    );
}
