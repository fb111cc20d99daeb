//! How programs end: exit codes of all versions of WASI, traps by name, core dumps.

use super::*;

/// A component that is a command of WASI `version` whose core function `run` has `body`, after `parts`.
fn command(version: &str, parts: &str, body: &str) -> String {
    let kind = if version.starts_with("0.3") { "func async" } else { "func" };
    format!(
        r#"(component {parts}
            (core module $main
                (import "host" "exit" (func $exit (param i32)))
                (func $spoil unreachable)
                (func $run (export "run") (result i32) {body}))
            (core instance $main (instantiate $main (with "host" (instance (export "exit" (func $exit))))))
            (type $run ({kind} (result (result))))
            (func $lifted (type $run) (canon lift (core func $main "run")))
            (instance $command (export "run" (func $lifted)))
            (export "wasi:cli/run@{version}" (instance $command)))"#
    )
}

/// What lowers `wasi:cli/exit`'s exit-with-code to the core function `$exit`.
fn exit_with_code(version: &str) -> String {
    format!(
        r#"(import "wasi:cli/exit@{version}" (instance $host
                (export "exit-with-code" (func (param "status-code" u8)))))
            (alias export $host "exit-with-code" (func $code))
            (core func $exit (canon lower (func $code)))"#
    )
}

fn run_wat(text: &str) -> Ran {
    run_bytes(&wat(text), Invocation::default(), b"")
}

#[test]
fn a_component_exits_with_any_code() {
    for version in ["0.2.12", "0.3.0"] {
        for code in [0, 1, 3, 125, 126, 127, 134, 137, 255] {
            let body = format!("(call $exit (i32.const {code})) unreachable");
            let ran = run_wat(&command(version, &exit_with_code(version), &body));
            assert_eq!((ran.code, &*ran.stderr), (code, ""), "{version}");
        }
    }
}

#[test]
fn what_run_returns_is_the_exit_code_too() {
    for version in ["0.2.0", "0.2.12", "0.3.0"] {
        // It is linked and not called. Of the versions before 0.2.12 there was no such function.
        let parts = exit_with_code(if version.starts_with("0.3") { "0.3.0" } else { "0.2.12" });
        for code in [0, 1] {
            let ran = run_wat(&command(version, &parts, &format!("(i32.const {code})")));
            assert_eq!((ran.code, &*ran.stderr), (code, ""), "{version}");
        }
    }
}

#[test]
fn a_trap_of_a_component_is_named_with_its_functions() {
    for version in ["0.2.12", "0.3.0"] {
        let ran = run_wat(&command(version, &exit_with_code(version), "(call $spoil) (i32.const 0)"));
        assert_eq!(ran.code, TRAP_EXIT_CODE, "{version}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(lines[0], "wherry: the program trapped: wasm trap: wasm `unreachable` instruction executed");
        assert_eq!(lines[1], "wasm backtrace:");
        assert!(lines[2].ends_with("main!spoil") && lines[3].ends_with("main!run"), "{lines:#?}");
    }
}

#[test]
fn where_memory_was_touched_is_said() {
    let ran = run_wat(r#"(module (memory 1) (func (export "_start") (i32.store (i32.const 70000) (i32.const 1))))"#);
    assert_eq!(ran.code, TRAP_EXIT_CODE);
    let fault = "memory fault at wasm address 0x11170 in linear memory of size 0x10000";
    assert!(ran.stderr.lines().any(|line| line.trim() == fault), "{}", ran.stderr);
}

#[test]
fn an_exception_that_nothing_catches_is_a_trap() {
    for module in [
        r#"(module (tag $t) (func $early (throw $t)) (start $early) (func (export "_start")))"#,
        r#"(module (tag $t) (func $late (export "_start") (throw $t)))"#,
    ] {
        let ran = run_wat(module);
        assert_eq!(ran.code, TRAP_EXIT_CODE, "{module}");
        assert!(ran.stderr.contains("it threw an exception that nothing in it catches"), "{}", ran.stderr);
    }
}

/// Names in what is said about a trap are the program's.
#[test]
fn a_backtrace_is_shown_tamely() {
    let name = format!("\\1b[2J\\07{}", "x".repeat(10_000));
    let ran =
        run_wat(&format!(r#"(module (func $f (@name "{name}") unreachable) (func (export "_start") (call $f)))"#));
    assert_eq!(ran.code, TRAP_EXIT_CODE);
    assert!(ran.stderr.len() < 2_000, "{} bytes", ran.stderr.len());
    assert!(!ran.stderr.chars().any(|c| c.is_control() && c != '\n'), "{:?}", ran.stderr);
}

/// An invocation with a directory at `/cores`, and the word for core dumps.
fn dumping(host: &Path, readonly: bool, wanted: &str) -> Invocation {
    let preopens = vec![Preopen { host: host.into(), guest: "/cores".into(), readonly }];
    let grants = grant::Grants::parse([("wherry.coredump", wanted)]).unwrap();
    Invocation { preopens, grants, ..invocation(&["abort"]) }
}

#[test]
fn a_core_dump_is_a_module_with_the_memory() {
    for bytes in both() {
        let place = tempfile::tempdir().unwrap();
        let ran = run_bytes(&bytes, dumping(place.path(), false, "/cores"), b"");
        assert_eq!(ran.code, TRAP_EXIT_CODE);
        let files: Vec<PathBuf> = std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(ran.stderr.ends_with(&format!("wherry: core dump in /cores/{name}\n")), "{}", ran.stderr);
        let dump = std::fs::read(file).unwrap();
        assert!(dump.starts_with(b"\0asm\x01\0\0\0"));
        for part in ["core", "corestack", "coremodules", "probe", "abort"] {
            assert!(dump.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
        }
    }
}

#[test]
fn a_program_that_does_not_trap_leaves_no_core_dump() {
    let place = tempfile::tempdir().unwrap();
    let asked = Invocation { args: invocation(&["exit", "3"]).args, ..dumping(place.path(), false, "/cores") };
    assert_eq!(run_bytes(&probe(), asked, b"").code, 3);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_core_dump_goes_only_where_the_program_may_write() {
    let place = tempfile::tempdir().unwrap();
    for (readonly, wanted) in
        [(true, "/cores"), (false, "/"), (false, "/cores/.."), (false, "/cores/sub"), (false, "/etc")]
    {
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        let stdio = Stdio { stdin: null(), stdout: null(), stderr: null() };
        let error = run_with(program(&probe()), dumping(place.path(), readonly, wanted), stdio).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert_eq!(error.kind(), FailureKind::InvalidArgument);
    }
}
