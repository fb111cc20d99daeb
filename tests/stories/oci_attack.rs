//! What a container may try against the runtime itself.

use std::fs;
use std::process::{Command, Stdio};

use super::support::Oci;
use super::support::oci::{path, until_written};

/// Looks for processes of another program, keeps their executables open, and writes to those once they have ended.
const ATTACK: &str = "
echo ready
while true; do
    for process in /proc/[0-9]*; do
        [ -e $process/exe ] || continue
        case $(readlink $process/exe) in /bin/busybox|'') continue ;; esac
        exec 9<$process/exe || continue
        echo seen >> /dev/shm/seen
        echo spoiled 2>/dev/null > /proc/self/fd/9
        while [ -e $process ]; do :; done
        echo spoiled 2>/dev/null > /proc/self/fd/9 && echo written >> /dev/shm/seen
    done
done";

#[test]
fn our_binary_cannot_be_written_from_a_container() {
    let oci = Oci::new();
    let id = oci.id("attack");
    // A copy, which only this test would lose (CVE-2019-5736).
    let binary = oci.work().join("wherry-oci");
    fs::copy(env!("CARGO_BIN_EXE_wherry"), &binary).unwrap();
    let before = fs::read(&binary).unwrap();
    let bundle = oci.bundle_with(&id, ATTACK, |config| {
        for set in ["bounding", "effective", "permitted"] {
            // Without it, nothing of a process on its way into the container can even be looked at.
            config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_SYS_PTRACE".into());
        }
    });
    let left = oci.create(&id, &bundle);
    oci.ok(["start", &id]);
    until_written(&left.file, "ready");
    let exec = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(["--root", path(oci.root()), "exec", &id]).args(words).stdin(Stdio::null());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let seen = (0..200).map(|_| exec(&["cat", "/dev/shm/seen"])).find(|seen| seen.contains("seen"));
    assert!(seen.is_some(), "the attack has not had its chance");
    for _ in 0..20 {
        exec(&["true"]);
    }
    assert_eq!(exec(&["grep", "written", "/dev/shm/seen"]), "");
    assert!(fs::read(&binary).unwrap() == before, "the binary is as it was");
}
