//! Bytes that are not a program that can be run: each is refused with the reason.

use std::io::Seek;

use super::*;

fn refused(bytes: &[u8]) -> Error {
    try_compile(bytes).expect_err("it is refused")
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[test]
fn a_missing_import_is_named() {
    let module = r#"(module
        (import "env" "emscripten_sleep" (func (param i32)))
        (import "wasi_snapshot_preview1" "fd_teleport" (func))
        (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")))"#;
    let error = refused(&wat(module));
    assert_eq!(
        error.to_string(),
        "the program imports what is not offered: env::emscripten_sleep (the compiler's own environment), \
         wasi_snapshot_preview1::fd_teleport (no function of WASI preview 1)"
    );
    assert!(error.hint().unwrap().contains("wasm32-wasip1"));
    assert_eq!(error.kind(), FailureKind::Unsupported);
}

#[test]
fn an_import_of_another_type_is_named() {
    let module = r#"(module
        (import "wasi_snapshot_preview1" "sched_yield" (func (param i64)))
        (func (export "_start")))"#;
    let error = refused(&wat(module));
    assert!(matches!(error, Error::MismatchedImport { .. }), "{error:?}");
    assert!(chain(&error).contains("sched_yield"), "{}", chain(&error));
}

#[test]
fn a_components_missing_interfaces_are_named() {
    let component = r#"(component
        (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" (instance))
        (import "wasi:cli/stdout@0.3.0-rc-2025-09-16" (instance))
        (import "wasi:io/poll@0.2.0" (instance))
        (import "acme:anvil/drop" (instance)))"#;
    let error = refused(&wat(component));
    assert_eq!(
        error.to_string(),
        "the program imports what is not offered: wasi:nn/tensor@0.2.0-rc-2024-10-28 (wasi-nn, a proposal), \
         wasi:cli/stdout@0.3.0-rc-2025-09-16 (a draft of WASI 0.3.0), acme:anvil/drop"
    );
    assert!(error.hint().unwrap().contains("no release of WASI has that"));
}

#[test]
fn a_component_that_wants_an_unknown_function_is_refused_with_its_name() {
    let component = r#"(component
        (import "wasi:random/random@0.2.0" (instance (export "get-lucky" (func (result u64))))))"#;
    let error = refused(&wat(component));
    assert!(matches!(error, Error::MismatchedImport { .. }), "{error:?}");
    assert!(chain(&error).contains("get-lucky"), "{}", chain(&error));
}

#[test]
fn what_is_no_command_is_told_apart() {
    let said = |text: &str| refused(&wat(text)).to_string();
    assert!(said("(module)").contains("library"));
    assert!(said("(module (func (export \"_initialize\")))").contains("reactor"));
    assert!(said("(module (func (export \"_start\") (param i32)))").contains("without parameters"));
    assert!(said("(module (memory (export \"_start\") 1))").contains("not a function"));
    assert!(said("(component)").contains("library"));
    assert!(said("(module (func (export \"add\")))").ends_with("it exports no `_start`, but `add`"));
    let api = "(component (instance $i) (export \"acme:api/v1\" (instance $i)))";
    assert!(said(api).ends_with("but `acme:api/v1`"));
    for text in ["(module)", "(component)", "(module (func (export \"_initialize\")))"] {
        assert!(refused(&wat(text)).hint().unwrap().contains("main function"), "{text}");
    }
    let exporting = |name: &str| format!("(component (instance $i) (export \"{name}\" (instance $i)))");
    assert!(said(&exporting("wasi:http/incoming-handler@0.3.0")).contains("another version"));
    assert!(said(&exporting("wasi:cli/run@0.4.0")).contains("another version"));
    for empty in
        ["wasi:http/incoming-handler@0.2.0", "wasi:http/handler@0.3.0", "wasi:cli/run@0.2.0", "wasi:cli/run@0.3.0"]
    {
        assert!(said(&exporting(empty)).contains("not as WASI has it"), "{empty}");
    }
}

#[test]
fn threads_are_refused() {
    let error = refused(&wat("(module (memory 1 1 shared) (func (export \"_start\")))"));
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(chain(&error).contains("threads"), "{}", chain(&error));
}

#[test]
fn invalid_code_is_refused() {
    // `wat` does not validate: a function that leaves nothing where a number is promised.
    let error = refused(&wat("(module (func (export \"_start\") (result i32)))"));
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert_eq!(error.kind(), FailureKind::InvalidArgument);
}

#[test]
fn every_truncation_is_refused() {
    for bytes in both() {
        // The name section comes last and may be missing or broken without harm, so the cuts are in
        // the part that matters.
        for length in [8, 9, 100, 1_000, bytes.len() / 4, bytes.len() / 2] {
            let error = try_compile(&bytes[..length]).err();
            assert!(error.is_some(), "the first {length} bytes of {} were accepted", bytes.len());
        }
    }
}

#[test]
fn changed_bytes_never_bring_the_compiler_down() {
    let good = wat("(module (memory 1) (func (export \"_start\") (i32.store (i32.const 0) (i32.const 1))))");
    for at in 8..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        // Either answer will do.
        drop(try_compile(&bytes));
    }
}

#[test]
fn precompiled_code_is_refused_as_a_program() {
    let compiled = try_compile(&probe()).unwrap();
    let mut file = compiled.into_file();
    let mut native = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut native).unwrap();
    assert!(native.starts_with(b"\x7fELF"));
    assert!(matches!(refused(&native), Error::Precompiled));
}

#[test]
fn shapes_that_hurt_compilers_are_compiled_or_refused() {
    let start = |body: &str| format!("(module (func (export \"_start\") {body}))");
    let shapes = [
        start(&format!("(block (br_table {} (i32.const 0)))", "0 ".repeat(100_000))),
        start(&format!("{} {}", "block ".repeat(20_000), "end ".repeat(20_000))),
        start(&"(drop (i32.const 1))".repeat(20_000)),
        format!("(module {} (func (export \"_start\")))", "(func)".repeat(10_000)),
        format!("(module (func (export \"_start\") {}))", "(local i64)".repeat(49_000)),
        format!("(module (func (export \"_start\") {}))", "(local i64)".repeat(51_000)),
        "(module (table 4294967295 funcref) (memory 65536) (func (export \"_start\")))".into(),
    ];
    for shape in shapes {
        if let Err(error) = try_compile(&wat(&shape)) {
            assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        }
    }
}

#[test]
fn a_huge_custom_section_is_carried_but_not_compiled() {
    let mut bytes = wat("(module (func (export \"_start\")))");
    let length = 16 << 20;
    // A custom section: id 0, its size (LEB128, five bytes), an empty name, then anything.
    let size = length + 1;
    bytes.push(0);
    bytes.extend((0..5).map(|i| ((size >> (7 * i)) as u8 & 0x7f) | if i < 4 { 0x80 } else { 0 }));
    bytes.push(0);
    bytes.resize(bytes.len() + length, 0);
    let compiled = try_compile(&bytes).unwrap();
    assert!(compiled.into_file().metadata().unwrap().len() < 1 << 20);
}

/// Names in a program are a stranger's text: they reach a terminal without its control characters, and
/// not by the megabyte.
#[test]
fn names_from_a_program_are_shown_tamely() {
    let long = "x".repeat(10_000);
    let name = format!("\\1b[2J\\07\\n{long}");
    let many: String = (0..100).map(|i| format!("(import \"m{i}\" \"{name}\" (func))")).collect();
    let modules = [
        format!("(module {many} (func (export \"_start\")))"),
        format!(
            "(module (import \"wasi_snapshot_preview1\" \"sched_yield\" (func (param i64))) (export \"{name}\" (func 0)))"
        ),
        format!("(module (func) (export \"{name}\" (func 0)) (export \"{name}\" (func 0)))"),
    ];
    for module in modules {
        let error = refused(&wat(&module));
        let said = chain(&error);
        assert!(!said.chars().any(char::is_control), "{said:?}");
        assert!(said.len() < 10_000, "{} bytes", said.len());
    }
}
