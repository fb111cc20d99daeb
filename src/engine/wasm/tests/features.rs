//! The proposals that became part of WebAssembly: a program that uses each runs. What it finds out is its exit
//! code, so that the feature has not only been accepted.

use super::*;

/// A module with `parts`, and a function that exits with what `body` leaves.
fn module(parts: &str, body: &str) -> Vec<u8> {
    wat(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            {parts}
            (func (export "_start") (call $exit {body})))"#
    ))
}

#[test]
fn every_standard_feature_runs() {
    let features = [
        ("sign extension", "", "(i32.and (i32.extend8_s (i32.const 0x80)) (i32.const 0xff))", 128),
        ("saturating conversion", "", "(i32.trunc_sat_f64_s (f64.const 1e300))", 255),
        ("multi-value", "(func $two (result i32 i32) (i32.const 3) (i32.const 4))", "(call $two) (i32.mul)", 12),
        (
            "bulk memory",
            "(memory 1)",
            "(memory.fill (i32.const 8) (i32.const 9) (i32.const 16)) (i32.load8_u (i32.const 20))",
            9,
        ),
        ("reference types", "(table $t 2 externref)", "(table.size $t)", 2),
        ("mutable globals", "(global $g (mut i32) (i32.const 1))", "(global.set $g (i32.const 7)) (global.get $g)", 7),
        ("extended constants", "(global $g i32 (i32.add (i32.const 20) (i32.const 3)))", "(global.get $g)", 23),
        (
            "SIMD",
            "",
            "(i32x4.extract_lane 2 (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 10 20 30 40)))",
            33,
        ),
        ("relaxed SIMD", "", "(i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 6.5 0 0 0)))", 6),
        (
            "tail calls",
            // A million calls deep: without tail calls the stack is exhausted long before.
            "(func $down (param i32) (result i32)
                (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 5))
                    (else (return_call $down (i32.sub (local.get 0) (i32.const 1))))))",
            "(call $down (i32.const 1000000))",
            5,
        ),
        (
            "multiple memories",
            "(memory $a 1) (memory $b 1)",
            "(i32.store8 $b (i32.const 0) (i32.const 6))
             (i32.add (i32.load8_u $a (i32.const 0)) (i32.load8_u $b (i32.const 0)))",
            6,
        ),
        (
            "64-bit memories",
            "(memory i64 1)",
            "(i64.store (i64.const 65528) (i64.const 42)) (i32.wrap_i64 (i64.load (i64.const 65528)))",
            42,
        ),
        (
            "typed function references",
            "(type $f (func (result i32))) (func $nine (type $f) (i32.const 9)) (elem declare func $nine)",
            "(call_ref $f (ref.func $nine))",
            9,
        ),
        (
            "garbage collection",
            "(type $point (struct (field i32) (field (mut i32)))) (type $list (array (mut i32)))
             (func $make (result i32) (local $i i32) (local $a (ref null $list))
                (loop $again
                    (local.set $a (array.new $list (local.get $i) (i32.const 1000)))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if $again (i32.lt_u (local.get $i) (i32.const 100000))))
                (i32.add
                    (struct.get $point 1 (struct.new $point (i32.const 1) (i32.const 20)))
                    (i32.sub (array.get $list (local.get $a) (i32.const 999)) (i32.const 99997))))",
            // Garbage of four hundred megabytes, in a heap that is much smaller.
            "(call $make)",
            22,
        ),
        ("small integers as references", "", "(i31.get_u (ref.cast (ref i31) (ref.i31 (i32.const 77))))", 77),
        (
            "exceptions",
            "(tag $t (param i32)) (func $throws (throw $t (i32.const 64)))",
            "(block $caught (result i32) (try_table (catch $t $caught) (call $throws)) (i32.const 1))",
            64,
        ),
    ];
    for (feature, parts, body, code) in features {
        let ran = run_bytes(&module(parts, body), Invocation::default(), b"");
        assert_eq!((ran.code, &*ran.stderr), (code, ""), "{feature}");
    }
}

/// The same on every machine, where the standard leaves a choice: what is not a number becomes zero, and not
/// what the processor makes of it.
#[test]
fn relaxed_simd_gives_the_deterministic_results() {
    let trunc = "(i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 nan 0 0 0)))";
    let body = format!("(i32.eqz {trunc})");
    assert_eq!(run_bytes(&module("", &body), Invocation::default(), b"").code, 1);
}

/// What is no standard is refused by its name, and threads with the reason.
#[test]
fn what_is_not_standard_is_refused() {
    let wide = "(i64.add128 (i64.const 1) (i64.const 0) (i64.const 1) (i64.const 0)) drop (i32.wrap_i64)";
    for (body, parts, word) in [
        ("(i32.const 0)", "(memory 1 1 shared)", "threads"),
        (wide, "", "wide arithmetic"),
        ("(i32.const 0)", "(type $f (func)) (type $c (cont $f))", "stack switching"),
    ] {
        let error = try_compile(&module(parts, body)).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(word), "{word}: {source}");
    }
}
