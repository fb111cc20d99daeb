//! What a program sees of its invocation, and what is seen of the program.

use super::*;

#[test]
fn a_program_speaks_and_ends() {
    for bytes in both() {
        let ran = run_probe(&bytes, &["both"]);
        assert_eq!((ran.code, ran.out(), &*ran.stderr), (0, "to stdout\n", "to stderr\n"));
    }
}

#[test]
fn it_gets_the_arguments_and_only_the_environment_that_it_is_given() {
    for bytes in both() {
        let ran = run_probe(&bytes, &["args", "two words", "", "ünï"]);
        assert_eq!(ran.out(), "probe\nargs\ntwo words\n\nünï\n");
        assert_eq!(run_probe(&bytes, &["env"]).out(), "");
        let env = vec![("A".into(), "1".into()), ("EMPTY".into(), String::new()), ("B".into(), "x=y".into())];
        let ran = run_bytes(&bytes, Invocation { env, ..invocation(&["env"]) }, b"");
        assert_eq!(ran.out(), "A=1\nEMPTY=\nB=x=y\n");
    }
}

#[test]
fn a_modules_exit_code_is_exact() {
    for code in [0, 1, 3, 125, 126, 127, 134, 255] {
        assert_eq!(run_probe(&probe(), &["exit", &code.to_string()]).code, code);
        assert_eq!(run_probe(&probe(), &["return", &code.to_string()]).code, code);
    }
    // As wait(2) has it.
    assert_eq!(run_probe(&probe(), &["exit", "256"]).code, 0);
    assert_eq!(run_probe(&probe(), &["exit", "-1"]).code, 255);
}

#[test]
fn a_component_succeeds_or_fails() {
    assert_eq!(run_probe(&probe_component(), &["exit", "0"]).code, 0);
    // The adapter for preview 1 knows only success and failure: it calls `exit`, not `exit-with-code`.
    assert_eq!(run_probe(&probe_component(), &["exit", "3"]).code, 1);
}

#[test]
fn ten_megabytes_pass_through_unchanged() {
    let input: Vec<u8> = (0..10u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in both() {
        let ran = run_bytes(&bytes, invocation(&["cat"]), &input);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout == input, "{} bytes came out", ran.stdout.len());
    }
}

#[test]
fn an_empty_input_ends_at_once() {
    for bytes in both() {
        assert_eq!(run_probe(&bytes, &["cat"]).stdout, b"");
    }
}

#[test]
fn waiting_for_input_times_out_or_is_told() {
    for bytes in both() {
        let program = program(&bytes);
        let (silent, stdin) = pipe();
        let (out, stdout) = pipe_out();
        let stderr = stdout.try_clone().unwrap();
        let code = run_with(program, invocation(&["wait", "20"]), Stdio { stdin, stdout, stderr }).unwrap();
        assert_eq!((code, drain(out).join().unwrap()), (0, b"timeout\n".to_vec()));
        drop(silent);
        assert_eq!(run_bytes(&bytes, invocation(&["wait", "60000"]), b"x").out(), "ready\n");
        // The end of input is something to read as well.
        assert_eq!(run_bytes(&bytes, invocation(&["wait", "60000"]), b"").out(), "ready\n");
    }
}

#[test]
fn a_closed_pipe_is_an_error_and_not_the_end_of_us() {
    let program = program(&probe());
    let (out, stdout) = pipe_out();
    let (err, stderr) = pipe_out();
    drop(out);
    let stdin = File::open("/dev/null").unwrap();
    let code = run_with(program, invocation(&["flood"]), Stdio { stdin, stdout, stderr }).unwrap();
    assert_eq!((code, drain(err).join().unwrap()), (0, b"EPIPE\n".to_vec()));
}

#[test]
fn output_to_a_full_disk_is_an_error() {
    let program = program(&probe());
    let stdout = File::options().write(true).open("/dev/full").unwrap();
    let (err, stderr) = pipe_out();
    let stdin = File::open("/dev/null").unwrap();
    let code = run_with(program, invocation(&["flood"]), Stdio { stdin, stdout, stderr }).unwrap();
    assert_eq!(code, 0);
    assert!(String::from_utf8(drain(err).join().unwrap()).unwrap().contains("No space left"));
}

#[test]
fn a_slow_reader_that_set_the_pipe_non_blocking_gets_everything() {
    let program = program(&probe());
    let (out, stdout) = pipe_out();
    rustix::io::ioctl_fionbio(&stdout, true).unwrap();
    let (mut into, stdin) = pipe();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    let stderr = File::options().write(true).open("/dev/null").unwrap();
    let input = vec![7; 1 << 20];
    let expected = input.clone();
    let feed = thread::spawn(move || into.write_all(&input).unwrap());
    let out = drain(out);
    assert_eq!(run_with(program, invocation(&["cat"]), Stdio { stdin, stdout, stderr }).unwrap(), 0);
    feed.join().unwrap();
    assert!(out.join().unwrap() == expected);
}

#[test]
fn a_pipe_is_no_terminal() {
    for bytes in both() {
        assert_eq!(run_probe(&bytes, &["tty"]).out(), "000\n");
    }
}

#[test]
fn clocks_and_random_numbers_are_the_hosts() {
    for bytes in both() {
        assert_eq!(run_probe(&bytes, &["time"]).out(), "1\n");
        let random = || run_probe(&bytes, &["random"]).stdout;
        assert_ne!(random(), random());
    }
}

/// The trap's name and the function in which it happened are told, whatever the reason.
#[test]
fn a_trap_is_named() {
    let traps = [
        ("unreachable", "wasm `unreachable` instruction executed"),
        ("(drop (i32.load (i32.const -1)))", "out of bounds memory access"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer divide by zero"),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "integer overflow"),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", "invalid conversion to integer"),
        ("(call_indirect (i32.const 0))", "uninitialized element"),
        ("(call_indirect (i32.const 99))", "undefined element: out of bounds table access"),
        ("(drop (table.get 0 (i32.const 99)))", "undefined element: out of bounds table access"),
        ("(table.fill 0 (i32.const 9) (ref.null func) (i32.const 9))", "undefined element: out of bounds table access"),
        ("(call $here)", "call stack exhausted"),
    ];
    for (body, name) in traps {
        let module = format!("(module $test (memory 1) (table 2 funcref) (func $here (export \"_start\") {body}))");
        let ran = run_bytes(&wat(&module), Invocation::default(), b"");
        assert_eq!(ran.code, TRAP_EXIT_CODE, "{body}");
        assert!(ran.stderr.contains(&format!("the program trapped: wasm trap: {name}")), "{body}: {}", ran.stderr);
        assert!(ran.stderr.contains("test!here"), "{body}: {}", ran.stderr);
    }
}

#[test]
fn recursion_without_end_and_abort_are_traps() {
    for bytes in both() {
        for what in ["recurse", "abort"] {
            let ran = run_probe(&bytes, &[what]);
            assert_eq!(ran.code, TRAP_EXIT_CODE, "{what}");
            assert!(ran.stderr.contains("wasm backtrace"), "{what}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_start_function_can_trap_too() {
    let module = "(module (func $early unreachable) (start $early) (func (export \"_start\")))";
    let ran = run_bytes(&wat(module), Invocation::default(), b"");
    assert_eq!(ran.code, TRAP_EXIT_CODE);
    assert!(ran.stderr.contains("unreachable"), "{}", ran.stderr);
}

#[test]
fn the_preview_before_the_first_still_runs() {
    let module = r#"(module
        (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 200))))"#;
    assert_eq!(run_bytes(&wat(module), Invocation::default(), b"").code, 200);
}

#[test]
fn memory_beyond_the_limit_is_refused_and_the_program_goes_on() {
    for bytes in both() {
        let limits = Limits { memory: Some(16 << 20) };
        let with_limit = |pages: &str| {
            run_bytes(&bytes, Invocation { limits: limits.clone(), ..invocation(&["grow", pages]) }, b"").stdout
        };
        assert_eq!(with_limit("16"), b"grown\n");
        assert_eq!(with_limit("300"), b"refused\n");
        assert_eq!(with_limit("60000"), b"refused\n");
        assert_eq!(run_probe(&bytes, &["grow", "300"]).out(), "grown\n");
    }
}

#[test]
fn a_program_that_begins_beyond_a_limit_is_refused_by_name() {
    let refused = |text: &str, limits: Limits| {
        let program = program(&wat(text));
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        let stdio = Stdio { stdin: null(), stdout: null(), stderr: null() };
        let error = run_with(program, Invocation { limits, ..Invocation::default() }, stdio).unwrap_err();
        assert!(matches!(error, Error::Instantiate { .. }), "{error:?}");
        std::error::Error::source(&error).unwrap().to_string()
    };
    let start = "(func (export \"_start\"))";
    let memory = refused(&format!("(module (memory 300) {start})"), Limits { memory: Some(16 << 20) });
    assert!(memory.contains("memory minimum size"), "{memory}");
    let table = refused(&format!("(module (table 10000001 funcref) {start})"), Limits::default());
    assert!(table.contains("table minimum size"), "{table}");
    // One module has 100 memories at the most, so it takes a component to have more.
    let modules =
        format!("(core module $m {}) ", "(memory 1)".repeat(51)) + &"(core instance (instantiate $m)) ".repeat(2);
    let memories = refused(&format!("(component {modules} {RUN})"), Limits::default());
    assert!(memories.contains("memory count too high"), "{memories}");
}

#[test]
fn a_table_stops_growing_at_its_limit() {
    // Exits with 1 when growing to the limit worked, with 2 more when going beyond it did not.
    let module = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (table $t 0 funcref)
        (func (export "_start") (local $code i32)
            (if (i32.ne (table.grow $t (ref.null func) (i32.const 10000000)) (i32.const -1))
                (then (local.set $code (i32.const 1))))
            (if (i32.eq (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1))
                (then (local.set $code (i32.add (local.get $code) (i32.const 2)))))
            (call $exit (local.get $code))))"#;
    assert_eq!(run_bytes(&wat(module), Invocation::default(), b"").code, 3);
}

#[test]
fn there_are_three_descriptors_and_no_socket() {
    for bytes in both() {
        assert_eq!(run_probe(&bytes, &["descriptors"]).out(), "0\n1\n2\n");
        for fd in ["0", "3", "4"] {
            let said = run_probe(&bytes, &["accept", fd]);
            assert!(!said.out().contains("ok"), "{fd}: {}", said.out());
        }
    }
}

/// The rest of a component that is a command which does nothing.
const RUN: &str = r#"
    (core module $run (func (export "run") (result i32) (i32.const 0)))
    (core instance $run (instantiate $run))
    (func $f (result (result)) (canon lift (core func $run "run")))
    (instance $command (export "run" (func $f)))
    (export "wasi:cli/run@0.2.0" (instance $command))"#;

#[test]
fn a_handwritten_component_runs() {
    assert_eq!(run_bytes(&wat(&format!("(component {RUN})")), Invocation::default(), b"").code, 0);
    let failing = RUN.replace("(i32.const 0)", "(i32.const 1)");
    assert_eq!(run_bytes(&wat(&format!("(component {failing})")), Invocation::default(), b"").code, 1);
}

/// Components put together from several parts import what each part was built against.
#[test]
fn one_interface_can_be_imported_in_two_versions() {
    let import = |version: &str| {
        let function = "(export \"get-random-u64\" (func (result u64)))";
        format!("(import \"wasi:random/random@{version}\" (instance {function}))")
    };
    let environment = |version: &str| {
        let function = "(export \"get-arguments\" (func (result (list string))))";
        format!("(import \"wasi:cli/environment@{version}\" (instance {function}))")
    };
    let imports = [import("0.2.0"), import("0.2.9"), environment("0.2.1"), environment("0.2.6")].concat();
    assert_eq!(run_bytes(&wat(&format!("(component {imports} {RUN})")), Invocation::default(), b"").code, 0);
}
