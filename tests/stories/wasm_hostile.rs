//! Wasm modules that are made to harm: what they come to is a named error or an end within a second, on a host whose
//! memory stays bounded and whose other containers go on.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{Output, Wherry, images, process};

/// A module that imports WASI preview 1's `import`s, has `memory` pages and runs `body`.
fn module(memory: &str, body: &str) -> Vec<u8> {
    let wat = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            {memory}
            {body})"#
    );
    wat::parse_str(&wat).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

const PAGE: &str = r#"(memory (export "memory") 1)"#;

fn start(body: &str) -> Vec<u8> {
    module(PAGE, &format!(r#"(func (export "_start") {body})"#))
}

/// A module of `count` functions, each with a loop full of arithmetic.
fn many_functions(count: u32) -> Vec<u8> {
    fn leb(mut value: u32, to: &mut Vec<u8>) {
        while value >= 0x80 {
            to.push(value as u8 | 0x80);
            value >>= 7;
        }
        to.push(value as u8);
    }
    fn section(id: u8, content: &[u8], to: &mut Vec<u8>) {
        to.push(id);
        leb(content.len() as u32, to);
        to.extend(content);
    }
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 0, 0], &mut bytes);
    let mut functions = Vec::new();
    leb(count, &mut functions);
    functions.extend(std::iter::repeat_n(0, count as usize));
    section(3, &functions, &mut bytes);
    section(7, b"\x01\x06_start\0\0", &mut bytes);
    // (local i64) (local.set 0 (i64.mul (i64.add (local.get 0) (i64.const 3)) (local.get 0))), twenty times
    let step = [0x20, 0, 0x42, 3, 0x7c, 0x20, 0, 0x7e, 0x21, 0];
    let body = [&[1, 1, 0x7e][..], &step.repeat(20), &[0x0b]].concat();
    let mut code = Vec::new();
    leb(count, &mut code);
    for _ in 0..count {
        leb(body.len() as u32, &mut code);
        code.extend(&body);
    }
    section(10, &code, &mut bytes);
    bytes
}

fn file(wherry: &Wherry, name: &str, bytes: &[u8]) -> PathBuf {
    let file = wherry.folder("hostile").join(name);
    fs::write(&file, bytes).unwrap();
    file
}

fn run(wherry: &Wherry, flags: &[&str], bytes: &[u8]) -> Output {
    let file = file(wherry, "module.wasm", bytes);
    let words = [&["run", "--rm"], flags, &[file.to_str().unwrap()]].concat();
    wherry.call(words)
}

/// What is crossed, the flags, the module; the exit code and what standard error says.
type Case<'a> = (&'a str, &'a [&'a str], Vec<u8>, i32, &'a [&'a str]);

#[test]
fn every_limit_that_is_crossed_is_named() {
    let wherry = Wherry::new();
    let given = wherry.folder("given");
    let volume = format!("{}:/given", given.display());
    let grow = |what: &str| format!("(loop $more (br_if $more (i32.ne (i32.const -1) ({what}))) unreachable)");
    let table = module(
        PAGE,
        &format!(
            r#"(table $t 1 funcref) (func (export "_start") {})"#,
            grow("table.grow $t (ref.null func) (i32.const 100000)")
        ),
    );
    let open = "(loop $more (br_if $more (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 1)
        (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)))) unreachable)";
    let handles = module(
        r#"(memory (export "memory") 1) (data (i32.const 8) ".")"#,
        &format!("(func (export \"_start\") {open})"),
    );
    let two_memories = module(r#"(memory (export "memory") 1) (memory $two 1)"#, r#"(func (export "_start"))"#);
    let two_tables = module(PAGE, r#"(table 1 funcref) (table 1 funcref) (func (export "_start"))"#);
    let nothing = start("");
    let eight = ["--max-handles", "8", "-v", &volume];
    let cases: Vec<Case<'_>> = vec![
        (
            "a first memory",
            &["-m", "16m"],
            module(r#"(memory (export "memory") 1000)"#, r#"(func (export "_start"))"#),
            125,
            &["memory"],
        ),
        ("growing a memory", &["-m", "16m"], start(&grow("memory.grow (i32.const 16)")), 134, &["--memory", "14m"]),
        ("a first table", &[], module(PAGE, r#"(table 10000001 funcref) (func (export "_start"))"#), 125, &["table"]),
        ("growing a table", &["-m", "512m"], table, 134, &["--max-table-elements"]),
        ("memories", &["--max-memories", "1"], two_memories, 125, &["memory count"]),
        ("tables", &["--max-tables", "1"], two_tables, 125, &["table count"]),
        ("instances", &["--max-instances", "0"], nothing.clone(), 125, &["instance count"]),
        ("handles", &eight, handles, 134, &[]),
        ("the stack", &[], module(PAGE, r#"(func $f (export "_start") (call $f))"#), 134, &["call stack exhausted"]),
        (
            "random bytes",
            &["--max-random", "1k"],
            start("(if (call $random (i32.const 0) (i32.const 1025)) (then unreachable))"),
            134,
            &[],
        ),
        ("time", &["--timeout", "300ms"], start("(loop $more (br $more))"), 124, &["longer than 300ms", "--timeout"]),
        ("instructions", &["--fuel", "100000"], start("(loop $more (br $more))"), 134, &["fuel"]),
        (
            "time to compile",
            &["--compile-timeout", "50ms"],
            many_functions(20_000),
            125,
            &["longer than 50ms", "--compile-timeout"],
        ),
        ("memory to compile", &["--compile-memory", "32m"], many_functions(20_000), 125, &["more memory than 32m"]),
    ];
    let mut wrong = String::new();
    for (what, flags, bytes, status, words) in cases {
        let output = run(&wherry, flags, &bytes);
        if output.status != status || words.iter().any(|word| !output.stderr.contains(word)) {
            wrong.push_str(&format!("{what}: not {status} and {words:?}: {output}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // What has no meaning for a guest is accepted, and what cannot be meant is refused before anything is made.
    run(&wherry, &["--pids-limit", "1", "--cpus", "0.5", "--cpu-shares", "512"], &nothing).expect(0);
    run(&wherry, &["--fuel", "100000"], &nothing).expect(0);
    for flags in [["-m", "1m"], ["--cpus", "0"], ["--timeout", "0"], ["--compile-memory", "1m"]] {
        run(&wherry, &flags, &nothing).expect(125).complains(&[flags[0].trim_start_matches('-')]);
    }
}

#[test]
fn arguments_and_environment_have_a_limit() {
    let wherry = Wherry::new();
    let variables = wherry.folder("hostile").join("variables");
    let mut out = File::create(&variables).unwrap();
    for at in 0..30 {
        writeln!(out, "V{at}={}", "x".repeat(100_000)).unwrap();
    }
    let output = run(&wherry, &["--env-file", variables.to_str().unwrap()], &start(""));
    output.expect(125).complains(&["larger than 2097152 bytes"]);
}

#[test]
fn limits_reach_the_kernel() {
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "limited", "-m", "64m", "--cpus", "0.5", &image, "sleep", "1000"]);
    let pid = wherry.pid("limited");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let read = |controller: &str, v1: &str, v2: &str| {
        let v1_path = groups.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            names.split(',').any(|name| name == controller).then(|| format!("/sys/fs/cgroup/{controller}{path}/{v1}"))
        });
        let v2_path = groups.lines().find_map(|line| Some(format!("/sys/fs/cgroup{}/{v2}", line.strip_prefix("0::")?)));
        let path = v1_path.or(v2_path).unwrap();
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert!(read("cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("50000"));
    let inspected = wherry.inspect("limited");
    assert_eq!(inspected["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(inspected["HostConfig"]["NanoCpus"], 500_000_000);
}

/// Modules that never end by themselves.
fn endless() -> Vec<(&'static str, Vec<u8>)> {
    let clock = r#"(memory (export "memory") 64)"#;
    vec![
        ("a loop", start("(loop $more (br $more))")),
        (
            "a loop before the start",
            module(PAGE, r#"(func $s (loop $more (br $more))) (start $s) (func (export "_start"))"#),
        ),
        (
            "bulk operations",
            module(
                r#"(memory (export "memory") 512)"#,
                r#"(func (export "_start") (loop $more
                    (memory.fill (i32.const 0) (i32.const 7) (i32.const 33554432)) (br $more)))"#,
            ),
        ),
        (
            "a storm of growth",
            start("(loop $more (drop (memory.grow (i32.const 1))) (drop (memory.grow (i32.const 65535))) (br $more))"),
        ),
        (
            "a storm of polls",
            module(
                clock,
                r#"(func (export "_start") (loop $more
                (drop (call $poll (i32.const 0) (i32.const 2097152) (i32.const 40000) (i32.const 4194300))) (br $more)))"#,
            ),
        ),
        (
            "a storm of writes",
            module(
                clock,
                r#"(func (export "_start") (loop $more
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1024) (i32.const 65532))) (br $more)))"#,
            ),
        ),
        (
            "a storm of random bytes",
            module(
                clock,
                r#"(func (export "_start") (loop $more
                (drop (call $random (i32.const 0) (i32.const 4194304))) (br $more)))"#,
            ),
        ),
    ]
}

#[test]
fn what_never_ends_is_ended_within_a_second_and_disturbs_nobody() {
    const MEMORY: u64 = 64 << 10;
    let image = images::wasm();
    let wherry = Wherry::with(&image);
    wherry.ok(["run", "-d", "--name", "neighbour", &image, "sleep", "1000"]);
    let neighbour = wherry.pid("neighbour");
    for (what, bytes) in endless() {
        let file = file(&wherry, "endless.wasm", &bytes);
        wherry.ok(["run", "-d", "--name", "endless", "-m", "64m", file.to_str().unwrap()]);
        let pid = wherry.pid("endless");
        let process = rustix::process::Pid::from_raw(pid as i32).unwrap();
        let sent = Instant::now();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        let resident = process::status(pid, "VmRSS");
        assert!(process::gone_within(pid, Duration::from_secs(1)), "{what} goes on for {:?}", sent.elapsed());
        wherry.call(["wait", "endless"]).expect(0).says("143\n");
        let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        assert!(kib < MEMORY + (32 << 10), "{what}: {kib} KiB");
        wherry.ok(["rm", "endless"]);
        assert_eq!(wherry.pid("neighbour"), neighbour, "after {what}");
    }
    assert_eq!(wherry.status("neighbour").as_deref(), Some("running"));
}

#[test]
fn calls_that_ask_for_too_much_get_an_answer() {
    let wherry = Wherry::new();
    let big = r#"(memory (export "memory") 1024)"#;
    let call = |memory: &str, body: &str| module(memory, &format!("(func (export \"_start\") {body})"));
    let renumbers: String = [0u32, 1, 2, 3, 4, 100, u32::MAX, 1 << 31]
        .iter()
        .flat_map(|from| {
            [0u32, 1, 3, 7, u32::MAX].map(|to| format!("(drop (call $renumber (i32.const {from}) (i32.const {to})))"))
        })
        .collect();
    for (what, bytes) in [
        ("random bytes beyond its memory", call(PAGE, "(drop (call $random (i32.const 0) (i32.const -1)))")),
        ("renumbering everything to everything", call(PAGE, &renumbers)),
        (
            "a poll of a million",
            call(big, "(drop (call $poll (i32.const 0) (i32.const 0) (i32.const 1000000) (i32.const 0)))"),
        ),
        (
            "a poll of more than there is",
            call(PAGE, "(drop (call $poll (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)))"),
        ),
        (
            "a path of 60 MB",
            call(
                big,
                "(drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 60000000) (i32.const 0)
                (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))",
            ),
        ),
        (
            "a million buffers",
            call(big, "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1000000) (i32.const 0)))"),
        ),
    ] {
        let output = run(&wherry, &["-m", "128m", "--timeout", "20s"], &bytes);
        assert!(matches!(output.status, 0 | 134), "{what}: {output}");
        assert!(!output.stderr.contains("panicked"), "{what}: {output}");
    }
}

#[test]
fn what_is_hard_to_compile_is_compiled_or_refused_by_name() {
    let wherry = Wherry::new();
    let table = format!("(block $a (br_table {} (i32.const 1)))", "$a ".repeat(200_000));
    for (what, bytes) in [
        ("a giant br_table", start(&table)),
        ("many functions", many_functions(100_000)),
        ("huge memories", module(r#"(memory (export "memory") 65536)"#, r#"(func (export "_start"))"#)),
    ] {
        let output = run(&wherry, &["--compile-timeout", "20s", "--compile-memory", "512m"], &bytes);
        let named = ["--compile-timeout", "--compile-memory", "invalid WebAssembly", "the compiler failed"];
        assert!(output.status == 0 || named.iter().any(|words| output.stderr.contains(words)), "{what}: {output}");
    }
    let huge = wherry.folder("hostile").join("huge.wasm");
    let mut out = File::create(&huge).unwrap();
    // A custom section of 2 GiB, of which the disk holds nothing.
    out.write_all(b"\0asm\x01\0\0\0\0\x85\x80\x80\x80\x08\x04name").unwrap();
    out.set_len(2 << 30).unwrap();
    wherry.call(["run", "--rm", huge.to_str().unwrap()]).expect(125).complains(&["larger than 268435456 bytes"]);
}

/// Damaged copies of a real module, the same ones each time.
#[test]
fn damaged_modules_end_in_a_named_error() {
    let wherry = Wherry::new();
    let whole = fs::read(images::guest_module()).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..16 {
        let mut bytes = whole.clone();
        if round % 4 == 0 {
            bytes.truncate(random(whole.len()));
        } else {
            for _ in 0..=round {
                let at = random(bytes.len());
                bytes[at] ^= 1 << random(8);
            }
        }
        let output = run(&wherry, &["-m", "64m", "--timeout", "5s"], &bytes);
        assert!(output.status != 0 || round % 4 != 0, "round {round}: {output}");
        assert!(!output.stderr.contains("panicked") && output.status < 137, "round {round}: {output}");
    }
}

#[test]
fn machine_code_is_never_loaded() {
    let wherry = Wherry::new();
    let elf = fs::read("/proc/self/exe").unwrap();
    for name in ["app.cwasm", "app.wasm"] {
        let file = file(&wherry, name, &elf[..4096]);
        let output = wherry.call(["run", "--rm", file.to_str().unwrap()]).expect(125);
        output.complains(&["native machine code"]);
    }
    // An entry of the cache that somebody has written over counts as missing.
    let module = file(&wherry, "module.wasm", &start("(call $exit (i32.const 7))"));
    wherry.call(["run", "--rm", module.to_str().unwrap()]).expect(7);
    for entry in fs::read_dir(wherry.root().join("cache/wasm")).unwrap() {
        let path = entry.unwrap().path();
        let length = fs::metadata(&path).unwrap().len() as usize;
        fs::write(&path, &elf[..length.min(elf.len())]).unwrap();
    }
    wherry.call(["run", "--rm", module.to_str().unwrap()]).expect(7);
}
