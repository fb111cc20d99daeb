//! `wherry run` with Wasm guests: the same command line, and nothing granted that was not given.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirEntryExt;
use std::process::Stdio;

use wit_component::ComponentEncoder;

use crate::support::{Running, Wherry, images, process};

#[test]
fn an_image_and_an_artifact_and_a_file_run_alike() {
    let (image, artifact) = (images::wasm(), images::wasm_artifact());
    let module = images::guest_module();
    let wherry = Wherry::new();
    for guest in [&image, &artifact, &module.display().to_string()] {
        assert_eq!(wherry.ok(["run", "--rm", guest, "args", "one", "two words"]), "args\none\ntwo words", "{guest}");
        wherry.call(["run", "--rm", guest, "exit", "3"]).expect(3).says("");
        let output = wherry.call(["run", "--rm", guest, "both"]).expect(0);
        assert_eq!(output.stdout, "to standard output\n");
        assert!(output.stderr.ends_with("to standard error\n"), "{output}");
    }
}

#[test]
fn a_component_runs_like_a_module() {
    let wherry = Wherry::new();
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
    let component = ComponentEncoder::default()
        .module(&fs::read(images::guest_module()).unwrap())
        .and_then(|encoder| encoder.adapter("wasi_snapshot_preview1", adapter))
        .and_then(|mut encoder| encoder.encode())
        .expect("the guest becomes a component");
    let file = wherry.folder("guest").join("component.wasm");
    fs::write(&file, component).unwrap();
    let file = file.display().to_string();
    assert_eq!(wherry.ok(["run", "--rm", &file, "args", "one"]), "args\none");
    assert_eq!(wherry.ok(["run", "--rm", "-e", "A=b", &file, "env"]), "A=b");
    // WASI 0.2's exit knows success and failure only.
    wherry.call(["run", "--rm", &file, "exit", "3"]).expect(1);
}

#[test]
fn the_environment_is_what_was_given() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    let seen = wherry.ok(["run", "--rm", "-e", "ONE=1", &image, "env"]);
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines.contains(&"GREETING=hello") && lines.contains(&"ONE=1"), "{seen}");
    assert!(!seen.contains("WHERRY"), "{seen}");
    let running = Running::start(wherry.command(["run", "--rm", &image, "env"]).env("SECRET", "of the host"));
    assert!(!running.finish().expect(0).stdout.contains("SECRET"));
}

#[test]
fn directories_are_granted_by_v_only() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    let shared = wherry.folder("shared");
    fs::write(shared.join("note"), "hello\n").unwrap();
    let bind = format!("{}:/mnt", shared.display());
    assert_eq!(wherry.ok(["run", "--rm", "-v", &bind, &image, "cat", "/mnt/note"]), "hello");
    wherry.call(["run", "--rm", "-v", &bind, &image, "write", "/mnt/new", "from the guest"]).expect(0);
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "from the guest\n");
    let read_only = format!("{bind}:ro");
    wherry.call(["run", "--rm", "-v", &read_only, &image, "write", "/mnt/other", "x"]).expect(1);

    std::os::unix::fs::symlink("/etc", shared.join("link")).unwrap();
    for path in ["/etc/passwd", "/mnt/../etc/passwd", "/mnt/link/passwd", "/mnt/../../etc/passwd"] {
        let output = wherry.call(["run", "--rm", "-v", &bind, &image, "cat", path]);
        assert!(output.status == 1 && output.stdout.is_empty(), "{path}: {output}");
    }
    wherry.call(["run", "--rm", &image, "ls", "/"]).expect(1);
}

#[test]
fn standard_input_reaches_the_guest() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    let mut running = Running::start(wherry.command(["run", "--rm", "-i", &image, "cat"]).stdin(Stdio::piped()));
    running.child.stdin.take().unwrap().write_all(b"to the guest").unwrap();
    running.finish().expect(0).says("to the guest");
}

#[test]
fn a_guest_is_a_container() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "guest", &image, "sleep", "1000"]);
    wherry.until_logged("guest", "asleep");
    let listed = wherry.ok(["ps"]);
    assert!(listed.contains("guest") && listed.contains("Up"), "{listed}");
    let pid = wherry.pid("guest");
    // Two walls: the guest's host process is itself confined.
    assert_eq!(process::status(pid, "Seccomp").as_deref(), Some("2"));
    for namespace in ["mnt", "pid", "net"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(link(&pid.to_string()), link("self"), "{namespace}");
    }
    // What the supervisor has open is not the guest's: neither the log nor the other ends of its streams.
    let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .collect();
    let root = wherry.root().to_str().unwrap();
    let foreign = |file: &&String| file.contains("/cgroup/") || (file.contains(root) && !file.contains("/cache/wasm/"));
    assert!(!open.iter().any(|file| foreign(&file)), "{open:#?}");
    wherry.ok(["kill", "guest"]);
    wherry.call(["wait", "guest"]).expect(0).says("137\n");
}

#[test]
fn a_spinning_guest_can_be_stopped() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "spin", &image, "spin"]);
    wherry.until("spin", "running");
    wherry.ok(["stop", "-t", "0", "spin"]);
    assert_eq!(wherry.status("spin").as_deref(), Some("exited"));
}

#[test]
fn a_trap_is_said_and_is_134() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.call(["run", "--rm", &image, "trap"]).expect(134).complains(&["unreachable"]);
}

#[test]
fn what_is_not_wasm_is_said() {
    let wherry = Wherry::new();
    let folder = wherry.folder("bad");
    let refused = |name: &str, bytes: &[u8], words: &[&str]| {
        let file = folder.join(name);
        fs::write(&file, bytes).unwrap();
        let output = wherry.call(["run", "--rm", file.to_str().unwrap()]).complains(words);
        assert!(matches!(output.status, 125 | 126), "{output}");
    };
    refused("text.wasm", b"this is text", &["text.wasm", "not a WebAssembly"]);
    refused("empty.wasm", b"", &["empty.wasm"]);
    refused("cut.wasm", b"\0asm\x01\0\0\0\x01\xff", &["cut.wasm"]);
    let wat = r#"(module (import "env" "magic_wand" (func)) (func (export "_start")))"#;
    refused("import.wasm", &wat::parse_str(wat).unwrap(), &["env", "magic_wand"]);
    refused("library.wasm", &wat::parse_str("(module)").unwrap(), &["_start"]);
    wherry.call(["run", "--rm", folder.join("absent.wasm").to_str().unwrap()]).expect(125).complains(&["absent.wasm"]);
}

#[test]
fn compiled_code_is_kept() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "--rm", &image, "args"]);
    // An entry can have several names; what is kept once is one file.
    let kept = || {
        let entries = fs::read_dir(wherry.root().join("cache/wasm")).unwrap();
        entries.map(|entry| entry.unwrap().ino()).collect::<HashSet<_>>().len()
    };
    let after_first = kept();
    assert!(after_first > 0);
    wherry.ok(["run", "--rm", &image, "args"]);
    assert_eq!(kept(), after_first);
}
