//! The crafted archives that are not refused, beside GNU tar and umoci: the same tree, or a line of [`DIFFERS`]
//! that says why not. Whoever writes outside is found by the canary, as with ours.
//!
//! Both run with a read-only `/`, on which only the scene's directory can be written: the archives aim at `/etc` too.
//!
//! Not compared: how a removed name is marked (ours is overlayfs's way, GNU tar knows none, umoci removes), and
//! the times of directories that an archive only implies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::craft::{Scene, Tar, tree};
use crate::oci::Digest;

type Tree = BTreeMap<String, String>;

/// Case, peer, why its tree is another one.
const DIFFERS: &[(&str, &str, &str)] = &[
    ("a_device_through_symlink", "tar", NOT_THROUGH),
    ("file_through_absolute_symlink", "tar", NOT_THROUGH),
    ("file_through_relative_symlink", "tar", NOT_THROUGH),
    ("opaque_through_symlink", "tar", NOT_THROUGH),
    ("proc_magic_link", "tar", NOT_THROUGH),
    ("symlink_chain", "tar", NOT_THROUGH),
    ("symlink_with_dots", "tar", NOT_THROUGH),
    ("symlink_onto_dir", "tar", KEEPS_DIRECTORIES),
    ("file_over_full_directory", "tar", KEEPS_DIRECTORIES),
    ("directory_again_over_file", "tar", KEEPS_DIRECTORIES),
    ("host_policy_xattr_is_left_out", "tar", "writes the labels of the host's policy, which an image does not decide"),
    (
        "no_padding",
        "tar",
        "takes the missing padding of the last file for a cut; Go does not, and umoci writes such layers",
    ),
    ("pax_empty_value", "tar", "refuses a size that is empty, which in pax takes back what was said"),
    ("sparse_0_0_file", "tar", "begins each run of data at a new block; Go has them one after the other"),
    ("host_policy_xattr_is_left_out", "umoci", "leaves out SELinux's label only"),
    ("opaque_through_symlink", "umoci", "has nothing below to hide, and so makes no directory"),
    ("global_comment", "umoci", "0.4 refuses every global header; git archive writes one"),
    ("link_to_itself", "umoci", "removes the file to make place for the link to it"),
];

const NOT_THROUGH: &str = "goes through no symlink that it has unpacked, or that leads nowhere yet; within a root that is safe, and containerd does";
const KEEPS_DIRECTORIES: &str =
    "does not replace a directory that holds something; the last entry of a name counts in a layer";

/// Compares `ours`, the tree of the archive `tar`, with what the peers make of it.
pub fn compare(case: &str, scene: &Scene, tar: &Tar, ours: &Tree) {
    let ours = comparable(ours);
    let mut unlike = Vec::new();
    for (peer, unpack) in [("tar", gnu as fn(&Path, &Tar) -> PathBuf), ("umoci", umoci)] {
        let at = scene.dir.path().join(peer);
        fs::create_dir(&at).unwrap();
        let theirs = comparable(&tree(&unpack(&at, tar)));
        scene.assert_untouched(peer);
        let known = DIFFERS.iter().any(|(name, who, _)| (*name, *who) == (case, peer));
        if !known && ours != theirs {
            unlike.push((peer, theirs));
        }
    }
    assert!(unlike.is_empty(), "{case}: unlike ours, which is {ours:#?}:\n{unlike:#?}");
}

fn comparable(tree: &Tree) -> Tree {
    let mark = |path: &str| path.split('/').any(|name| name.starts_with(".wh."));
    let entries = tree.iter().filter(|(path, what)| !path.is_empty() && !mark(path) && !what.starts_with("c 0:0"));
    entries.map(|(path, what)| (path.clone(), without_marks(what))).collect()
}

/// A line about a file without overlayfs's marks, and a directory's without its time.
fn without_marks(what: &str) -> String {
    let time = |word: &str| what.starts_with("dir") && word.starts_with('@');
    let kept = what.split(' ').filter(|word| !word.starts_with("trusted.overlay.") && !time(word));
    kept.collect::<Vec<_>>().join(" ")
}

/// Runs a shell script in `at`, the only directory that it can write to. What it says of the archive is
/// its own affair; what it left is looked at.
fn confined(at: &Path, script: &str) {
    let walls = "set -e; mount --make-rprivate /; mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro /; cd \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{walls}; touch ready; set +e; {script}"), "sh"]).arg(at);
    command.output().unwrap();
    assert!(at.join("ready").exists(), "no room to run a peer in: {command:?}");
}

fn gnu(at: &Path, tar: &Tar) -> PathBuf {
    fs::write(at.join("archive"), &tar.0).unwrap();
    confined(at, "mkdir out; tar --numeric-owner --xattrs '--xattrs-include=*' -xpf archive -C out");
    at.join("out")
}

fn umoci(at: &Path, tar: &Tar) -> PathBuf {
    let blobs = at.join("image/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let add = |kind: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest.to_string(), "size": bytes.len()})
    };
    let diff_id = Digest::sha256(&tar.0).to_string();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = add("config.v1+json", config.to_string().as_bytes());
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [add("layer.v1.tar", &tar.0)]});
    let mut entry = add("manifest.v1+json", manifest.to_string().as_bytes());
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "x"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(at.join("image/index.json"), index.to_string()).unwrap();
    fs::write(at.join("image/oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    confined(at, "umoci unpack --image image:x out 2>message");
    let rootfs = at.join("out/rootfs");
    fs::create_dir_all(&rootfs).unwrap();
    rootfs
}
