//! `checkpoint` and `restore`: a container becomes files and a container again, where `criu` is installed and knows
//! this kernel; a clear refusal elsewhere.

use std::process::{Command, Stdio};

use super::support::oci::path;
use super::support::{Oci, eventually};

fn criu_works() -> bool {
    let check = Command::new("criu").arg("check").stdout(Stdio::null()).stderr(Stdio::null()).status();
    check.is_ok_and(|status| status.success())
}

#[test]
fn a_container_goes_on_where_it_was_or_the_lack_of_criu_is_told() {
    let oci = Oci::new();
    let id = oci.id("checkpoint");
    let bundle = oci.bundle(&id, "i=0; while true; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.05; done");
    // criu takes pipes for standard streams, and files of the host it does not.
    let mut command = oci.command(["run", "-b", path(&bundle), &id]);
    let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
    let count = || oci.call(["exec", &id, "cat", "/dev/shm/count"]).stdout.trim().parse::<u32>().ok();
    eventually("it counts", || count().filter(|count| *count >= 5));
    let images = oci.work().join("images");
    let checkpoint = oci.call(["checkpoint", "--image-path", path(&images), &id]);
    if !criu_works() {
        checkpoint.expect(1).complains(&["cannot checkpoint", "criu"]);
        assert_eq!(oci.status(&id), "running", "it is as it was");
        oci.ok(["kill", &id, "KILL"]);
        running.wait().unwrap();
        return;
    }
    checkpoint.expect(0);
    running.wait().unwrap();
    oci.call(["state", &id]).expect(1).complains(&["container does not exist"]);
    let mut command = oci.command(["restore", "--image-path", path(&images), "-b", path(&bundle), &id]);
    let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
    let restored = eventually("it is there again", count);
    assert!(restored >= 5, "{restored}");
    eventually("it counts on", || count().filter(|count| *count > restored));
    oci.ok(["kill", &id, "KILL"]);
    assert_eq!(running.wait().unwrap().code(), Some(137));
}
