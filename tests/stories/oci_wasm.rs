//! `wherry oci` with bundles whose program is WebAssembly: chosen by its bytes, started and ended like any other, and
//! granted nothing but what the specification grants. Then the same through podman.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::oci_podman::Podman;
use crate::support::oci::{Oci, path, until_written};
use crate::support::{images, process};

/// The test guest in the root filesystem of the bundles, without the permission to be executed.
fn with_guest() -> Oci {
    let oci = Oci::new();
    fs::copy(images::guest_module(), oci.work().join("rootfs/guest.wasm")).unwrap();
    fs::set_permissions(oci.work().join("rootfs/guest.wasm"), fs::Permissions::from_mode(0o644)).unwrap();
    oci
}

fn guest(oci: &Oci, id: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> PathBuf {
    oci.bundle_with(id, "", |config| {
        config["process"]["args"] = json!(args);
        change(config);
    })
}

#[test]
fn a_wasm_program_runs_and_its_exit_code_is_its_own() {
    let oci = with_guest();
    let run = |args: &[&str]| {
        let id = oci.id("run");
        let bundle = guest(&oci, &id, args, |_| {});
        oci.call(["run", "--bundle", path(&bundle), &id])
    };
    run(&["/guest.wasm", "args", "one", "two words"]).expect(0).says("args\none\ntwo words\n");
    run(&["/guest.wasm", "exit", "9"]).expect(9).says("");
    run(&["./guest.wasm", "env"]).expect(0).says("PATH=/bin\nGREETING=hello\n");
    run(&["/guest.wasm", "trap"]).expect(134).complains(&["unreachable"]);
    // Nothing of the root filesystem is granted by being there.
    run(&["/guest.wasm", "ls", "/"]).expect(1);
    run(&["/guest.wasm", "cat", "/etc/passwd"]).expect(1).says("");
}

#[test]
fn it_is_found_by_path_and_in_mounts_as_a_linux_program_would_be() {
    let oci = with_guest();
    let rootfs = oci.work().join("rootfs");
    fs::rename(rootfs.join("guest.wasm"), rootfs.join("bin/guest")).unwrap();
    symlink("/bin/guest", rootfs.join("bin/linked")).unwrap();
    for name in ["guest", "linked"] {
        let id = oci.id("path");
        let bundle = guest(&oci, &id, &[name, "args"], |_| {});
        oci.call(["run", "--bundle", path(&bundle), &id]).expect(0).says("args\n");
    }
    let id = oci.id("mounted");
    let bundle = guest(&oci, &id, &["/srv/app", "args"], |config| {
        let source = images::guest_module();
        let mount =
            json!({"destination": "/srv/app", "type": "bind", "source": path(&source), "options": ["bind", "ro"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    oci.call(["run", "--bundle", path(&bundle), &id]).expect(0).says("args\n");
}

#[test]
fn create_start_kill_delete_are_as_for_linux() {
    let oci = with_guest();
    let id = oci.id("guest");
    let bundle = guest(&oci, &id, &["/guest.wasm", "sleep", "1000"], |_| {});
    let left = oci.create(&id, &bundle);
    assert_eq!(oci.status(&id), "created");
    assert_eq!(fs::read_to_string(&left.file).unwrap(), "");
    oci.call(["start", &id]).expect(0);
    until_written(&left.file, "asleep\n");
    assert_eq!(oci.status(&id), "running");
    let pid = oci.pid(&id);
    assert_eq!(process::status(pid, "CapBnd").as_deref(), Some("0000000000000000"));
    assert_eq!(process::status(pid, "CapEff").as_deref(), Some("0000000000000000"));
    assert_eq!(process::status(pid, "NoNewPrivs").as_deref(), Some("1"));
    oci.call(["exec", &id, "sh"]).expect(255).complains(&["WebAssembly"]);
    oci.call(["checkpoint", &id]).expect(1).complains(&["WebAssembly"]);
    assert!(oci.ok(["ps", &id]).contains(&pid.to_string()));
    oci.call(["kill", &id, "KILL"]).expect(0);
    oci.until(&id, "stopped");
    oci.call(["delete", &id]).expect(0);
}

#[test]
fn directories_come_from_bind_mounts_and_what_engines_mount_by_themselves_does_not() {
    let oci = with_guest();
    let folder = oci.work().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("note"), "hello\n").unwrap();
    let run = |args: &[&str], read_only: bool| {
        let id = oci.id("dirs");
        let bundle = guest(&oci, &id, args, |config| {
            let mode = if read_only { "ro" } else { "rw" };
            let bind = |at: &str, from: &Path| json!({"destination": at, "type": "bind", "source": path(from), "options": ["rbind", mode]});
            let hosts = folder.join("note");
            let binds = [bind("/data", &folder), bind("/etc/hosts", &hosts), bind("/dev/shm", &folder)];
            config["mounts"].as_array_mut().unwrap().extend(binds);
        });
        oci.call(["run", "--bundle", path(&bundle), &id])
    };
    run(&["/guest.wasm", "cat", "/data/note"], false).expect(0).says("hello\n");
    run(&["/guest.wasm", "write", "/data/new", "x"], true).expect(1);
    assert!(!folder.join("new").exists());
    run(&["/guest.wasm", "write", "/data/new", "x"], false).expect(0);
    assert_eq!(fs::read_to_string(folder.join("new")).unwrap(), "x\n");
    for denied in ["/etc/hosts", "/dev/shm/note", "/data/../etc/passwd"] {
        run(&["/guest.wasm", "cat", denied], false).expect(1).says("");
    }
}

#[test]
fn bytes_decide_whatever_annotations_say() {
    let oci = with_guest();
    for (key, value) in [
        ("module.wasm.image/variant", "compat"),
        ("module.wasm.image/variant", "compat-smart"),
        ("run.oci.handler", "wasm"),
        ("run.oci.handler", "wasm-smart"),
        ("run.oci.handler", "krun"),
    ] {
        let annotate = |config: &mut Value| config["annotations"] = json!({key: value});
        // A sidecar of the same pod has the same annotations.
        let id = oci.id("sidecar");
        let bundle = oci.bundle_with(&id, "echo linux", annotate);
        oci.call(["run", "--bundle", path(&bundle), &id]).expect(0).says("linux\n");
        // Not even one that is called like a Wasm program.
        let id = oci.id("called");
        fs::copy("/bin/busybox", oci.work().join("rootfs/echo.wasm")).unwrap();
        let bundle = guest(&oci, &id, &["/echo.wasm", "echo", "linux"], annotate);
        oci.call(["run", "--bundle", path(&bundle), &id]).expect(127);
        let id = oci.id("guest");
        let bundle = guest(&oci, &id, &["/guest.wasm", "args"], annotate);
        oci.call(["run", "--bundle", path(&bundle), &id]).expect(0).says("args\n");
    }
}

#[test]
fn what_cannot_run_is_refused_at_create() {
    let oci = with_guest();
    let rootfs = oci.work().join("rootfs");
    let needy = r#"(module (import "env" "magic_wand" (func)) (func (export "_start")))"#;
    fs::write(rootfs.join("needy.wasm"), wat::parse_str(needy).unwrap()).unwrap();
    fs::write(rootfs.join("cut.wasm"), b"\0asm\x01\0\0\0\x01\xff").unwrap();
    let mut code = b"\x7fELF\x02\x01\x01\xc8".to_vec();
    code.resize(4096, 0);
    fs::write(rootfs.join("code.cwasm"), code).unwrap();
    fs::set_permissions(rootfs.join("code.cwasm"), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = |args: &[&str], annotations: Value, words: &[&str]| {
        let id = oci.id("refused");
        let bundle = guest(&oci, &id, args, |config| config["annotations"] = annotations);
        oci.leave(["create", "--bundle", path(&bundle), &id]).output.expect(1).prints(words);
        oci.call(["state", &id]).expect(1);
    };
    refused(&["/needy.wasm"], json!({}), &["/needy.wasm", "env::magic_wand"]);
    refused(&["/cut.wasm"], json!({}), &["/cut.wasm", "invalid WebAssembly"]);
    refused(&["/code.cwasm"], json!({}), &["/code.cwasm", "native machine code"]);
    refused(&["/guest.wasm#go"], json!({}), &["the function \"go\""]);
    refused(&["/guest.wasm"], json!({"wherry.allow-everything": "yes"}), &["no grant called \"allow-everything\""]);
}

#[test]
fn features_tell_of_wasm() {
    let features: Value = serde_json::from_str(&Oci::new().ok(["features"])).unwrap();
    assert_eq!(features["annotations"]["wherry.wasm"], "preview 1, 0.2, 0.3");
}

#[test]
fn podman_runs_wasm_images_and_linux_ones_side_by_side() {
    let podman = Podman::new();
    let (image, busybox) = (images::wasm(), images::busybox());
    for image in [&image, &busybox] {
        podman.call(&["pull", "--quiet", "--tls-verify=false", "--platform", platform(image), image]).expect(0);
    }
    let options = ["run", "--rm", "--network", "none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];
    let run = |more: &[&str]| podman.call(&[&options, more].concat());
    let wasm = ["--platform", "wasi/wasm"];
    run(&[&wasm, &[&image[..], "args", "by", "podman"][..]].concat()).expect(0).says("args\nby\npodman\n");
    run(&[&wasm, &[&image[..], "exit", "5"][..]].concat()).expect(5);
    let folder = podman.work().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("note"), "hello\n").unwrap();
    let volume = format!("{}:/data:ro", folder.display());
    run(&[&wasm, &["--volume", &volume, &image, "cat", "/data/note"][..]].concat()).expect(0).says("hello\n");
    run(&[&wasm, &[&image[..], "cat", "/etc/resolv.conf"][..]].concat()).expect(1).says("");
    // With the annotation that other runtimes want, on both.
    let annotation = ["--annotation", "module.wasm.image/variant=compat"];
    run(&[&annotation, &wasm[..], &[&image[..], "args"]].concat()).expect(0).says("args\n");
    run(&[&annotation, &[&busybox[..], "echo", "linux"][..]].concat()).expect(0).says("linux\n");
}

fn platform(image: &str) -> &str {
    if image.contains("guest") { "wasi/wasm" } else { "linux" }
}
