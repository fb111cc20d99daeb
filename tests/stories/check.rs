//! `wherry system check`: damage of every kind is found and, where it can be, mended; and many commands at once leave
//! none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Wherry, images};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().len() == 64);
    paths.sort();
    paths
}

fn blobs(wherry: &Wherry) -> Vec<PathBuf> {
    files(&wherry.root().join("content/blobs/sha256"))
}

fn layers(wherry: &Wherry) -> Vec<PathBuf> {
    files(&wherry.root().join("layers"))
}

/// Looks, which must find nothing.
#[track_caller]
fn clean(wherry: &Wherry) {
    wherry.call(["system", "check"]).expect(0).prints(&["no damage"]);
}

/// Looks, which must find this; mends it, and looks again.
#[track_caller]
fn found_and_mended(wherry: &Wherry, what: &[&str]) {
    wherry.call(["system", "check"]).expect(1).prints(what);
    wherry.call(["system", "check", "--repair"]).expect(0).prints(&["repaired"]);
    clean(wherry);
}

#[test]
fn what_is_whole_is_found_whole() {
    let wherry = Wherry::new();
    clean(&wherry);
    for image in [images::busybox(), images::busybox_zstd()] {
        wherry.ok(["pull", "-q", &image]);
    }
    clean(&wherry);
    wherry.call(["system", "check", "--quick"]).expect(0);
    let json = wherry.ok(["system", "check", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["Clean"], &report["Images"]), (&true.into(), &2.into()), "{report}");
}

#[test]
fn a_damaged_blob_is_fetched_again() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for (number, blob) in blobs(&wherry).into_iter().enumerate() {
        let right = fs::read(&blob).unwrap();
        let mut wrong = right.clone();
        wrong[right.len() / 2] ^= 1;
        match number % 3 {
            0 => fs::write(&blob, &wrong).unwrap(),
            1 => fs::write(&blob, &right[..right.len() - 1]).unwrap(),
            _ => fs::remove_file(&blob).unwrap(),
        }
        found_and_mended(&wherry, &["blob sha256:", "fetch it again", ["digest", "digest", "not there"][number % 3]]);
        assert_eq!(fs::read(&blob).unwrap(), right);
    }
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
}

#[test]
fn what_cannot_be_fetched_again_keeps_its_name_unless_forced() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    // As if its registry had gone: the name of one that nobody listens at.
    wherry.ok(["tag", &image, "localhost:1/gone:1"]);
    wherry.ok(["rmi", &image]);
    let config = format!("sha256:{}", wherry.ok(["images", "-q", "--no-trunc"]).trim_start_matches("sha256:"));
    fs::remove_file(wherry.root().join("content/blobs/sha256").join(&config[7..])).unwrap();
    let mended = wherry.call(["system", "check", "--repair"]).expect(1);
    mended.prints(&["not repaired", "cannot be fetched again", "--force"]);
    assert_eq!(wherry.ok(["images", "-q"]).lines().count(), 1);
    wherry.call(["system", "check", "--repair", "--force"]).expect(0).prints(&["forgotten"]);
    assert_eq!(wherry.ok(["images", "-q"]), "");
    clean(&wherry);
}

#[test]
fn a_damaged_layer_is_unpacked_again() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let layer = layers(&wherry).into_iter().find(|layer| layer.join("diff/bin/busybox").exists()).unwrap();
    let file = layer.join("diff/bin/busybox");
    let (bytes, times) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());

    let mut wrong = bytes.clone();
    wrong[bytes.len() / 2] ^= 1;
    fs::write(&file, &wrong).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(times).unwrap();
    wherry.call(["system", "check", "--quick"]).expect(0);
    found_and_mended(&wherry, &["layer sha256:", "/bin/", "has other bytes"]);
    assert_eq!(fs::read(&file).unwrap(), bytes);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    found_and_mended(&wherry, &["has another mode"]);
    fs::remove_file(&file).unwrap();
    found_and_mended(&wherry, &["/bin/busybox is missing"]);
    fs::write(layer.join("diff/stranger"), "").unwrap();
    found_and_mended(&wherry, &["/stranger is not in its archive"]);
    fs::write(layer.join("layer.json"), "{}").unwrap();
    found_and_mended(&wherry, &["layer.json cannot be read"]);
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o755)).unwrap();
    found_and_mended(&wherry, &["mode 0755 instead of 0700"]);
    fs::remove_dir_all(&layer).unwrap();
    // A layer that is not there is unpacked when it is needed, unless one above it is.
    let above = layers(&wherry).len();
    let found = wherry.call(["system", "check", "--repair"]);
    assert_eq!(found.status, 0, "{above} {found}");
    assert_eq!(wherry.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
    clean(&wherry);
}

#[test]
fn a_layer_is_never_replaced_under_a_container() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    wherry.ok(["create", "--name", "made", &image, "true"]);
    let layer = layers(&wherry).into_iter().find(|layer| layer.join("diff/bin/busybox").exists()).unwrap();
    fs::write(layer.join("diff/stranger"), "").unwrap();
    let said = wherry.call(["system", "check", "--repair"]).expect(1);
    said.prints(&["not repaired", "the container made is made of it: remove that first"]);
    assert!(layer.join("diff/stranger").exists());
    wherry.ok(["rm", "made"]);
    wherry.call(["system", "check", "--repair"]).expect(0);
    assert!(!layer.join("diff/stranger").exists());
}

#[test]
fn a_record_is_held_against_its_manifest() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let sql = "UPDATE images SET record = replace(record, '\"size\":', '\"size\":1')";
    let database = wherry.root().join("db.sqlite");
    let changed = std::process::Command::new("sqlite3").arg(&database).arg(sql).status().unwrap();
    assert!(changed.success());
    wherry.call(["system", "check"]).expect(1).prints(&["instead of 1", "damage: "]);
}

#[test]
fn what_is_left_over_is_no_damage_and_goes_with_a_repair() {
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let root = wherry.root();
    let temporary = root.join("content/ingest/0123456789ab.77.0");
    let half = root.join("layers/tmp").join("0".repeat(64)).join("diff");
    fs::write(&temporary, "half a lay").unwrap();
    fs::create_dir_all(&half).unwrap();
    wherry.call(["system", "check"]).expect(0).prints(&["1 files and 1 directories were left"]);
    wherry.call(["system", "check", "--repair"]).expect(0);
    assert!(!temporary.exists() && !half.exists());
    assert!(!wherry.call(["system", "check"]).expect(0).stdout.contains("left by"));
}

/// Many processes at once, each with a few commands over and over, until the time is over.
#[test]
fn many_at_once_leave_no_damage_and_lose_nothing() {
    const TIME: Duration = Duration::from_secs(6);
    let all = [images::busybox(), images::busybox_zstd()];
    let wherry = Wherry::new();
    let deadline = Instant::now() + TIME;
    let done: usize = std::thread::scope(|scope| {
        let worker = |number: usize| {
            let (wherry, all) = (&wherry, &all);
            move || {
                let mut done = 0;
                while Instant::now() < deadline {
                    let image = &all[(number + done) % all.len()];
                    match (number + done) % 4 {
                        0 | 1 => drop(wherry.call(["pull", "-q", image]).expect(0)),
                        2 => drop(wherry.call(["rmi", image])),
                        _ => drop(wherry.call(["image", "prune", "-a", "-f"]).expect(0)),
                    }
                    done += 1;
                }
                done
            }
        };
        let workers: Vec<_> = (0..6).map(|number| scope.spawn(worker(number))).collect();
        let checks = scope.spawn(|| {
            while Instant::now() < deadline {
                wherry.call(["system", "check"]).expect(0);
            }
        });
        checks.join().unwrap();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(done > 12, "{done} commands");
    clean(&wherry);
    for name in wherry.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines() {
        assert_eq!(wherry.ok(["run", "--rm", name, "echo", "whole"]), "whole");
    }
    // And when all are removed, nothing stays.
    for image in &all {
        wherry.call(["rmi", image]);
    }
    wherry.ok(["image", "prune", "-a", "-f"]);
    assert_eq!((blobs(&wherry).len(), layers(&wherry).len()), (0, 0));
}
