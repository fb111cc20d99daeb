//! What WASI 0.2 has and a program is not given: the network; and what it can ask for only so much of.
//!
//! The guests are components in text form: they call the interfaces themselves, without a library that
//! might soften what they ask for. Each ends well when everything it tried was denied.

use super::*;

/// The types of `wasi:sockets`, the sockets themselves, and a memory for what calls return.
const SOCKETS: &str = r#"
    (import "wasi:sockets/network@0.2.0" (instance $network
        (export "network" (type (sub resource)))
        (type $error (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
            "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
            "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
            "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
            "permanent-resolver-failure"))
        (export "error-code" (type (eq $error)))
        (type $family (enum "ipv4" "ipv6"))
        (export "ip-address-family" (type (eq $family)))
        (type $v4 (tuple u8 u8 u8 u8))
        (export "ipv4-address" (type $v4e (eq $v4)))
        (type $v6 (tuple u16 u16 u16 u16 u16 u16 u16 u16))
        (export "ipv6-address" (type $v6e (eq $v6)))
        (type $a4 (record (field "port" u16) (field "address" $v4e)))
        (export "ipv4-socket-address" (type $a4e (eq $a4)))
        (type $a6 (record (field "port" u16) (field "flow-info" u32) (field "address" $v6e) (field "scope-id" u32)))
        (export "ipv6-socket-address" (type $a6e (eq $a6)))
        (type $address (variant (case "ipv4" $a4e) (case "ipv6" $a6e)))
        (export "ip-socket-address" (type (eq $address)))))
    (alias export $network "network" (type $network-t))
    (alias export $network "error-code" (type $error-t))
    (alias export $network "ip-address-family" (type $family-t))
    (alias export $network "ip-socket-address" (type $address-t))
    (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
        (alias outer 1 $network-t (type $n0)) (export "network" (type $n (eq $n0)))
        (export "instance-network" (func (result (own $n))))))
    (import "wasi:sockets/tcp@0.2.0" (instance $tcp
        (alias outer 1 $network-t (type $n0)) (export "network" (type $n (eq $n0)))
        (alias outer 1 $error-t (type $e0)) (export "error-code" (type $e (eq $e0)))
        (alias outer 1 $address-t (type $a0)) (export "ip-socket-address" (type $a (eq $a0)))
        (export "tcp-socket" (type $s (sub resource)))
        (export "[method]tcp-socket.start-connect" (func (param "self" (borrow $s)) (param "network" (borrow $n))
            (param "remote-address" $a) (result (result (error $e)))))
        (export "[method]tcp-socket.start-bind" (func (param "self" (borrow $s)) (param "network" (borrow $n))
            (param "local-address" $a) (result (result (error $e)))))))
    (import "wasi:sockets/udp@0.2.0" (instance $udp
        (alias outer 1 $network-t (type $n0)) (export "network" (type $n (eq $n0)))
        (alias outer 1 $error-t (type $e0)) (export "error-code" (type $e (eq $e0)))
        (alias outer 1 $address-t (type $a0)) (export "ip-socket-address" (type $a (eq $a0)))
        (export "udp-socket" (type $s (sub resource)))
        (export "[method]udp-socket.start-bind" (func (param "self" (borrow $s)) (param "network" (borrow $n))
            (param "local-address" $a) (result (result (error $e)))))))
    (alias export $tcp "tcp-socket" (type $tcp-t))
    (alias export $udp "udp-socket" (type $udp-t))
    (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
        (alias outer 1 $error-t (type $e0)) (export "error-code" (type $e (eq $e0)))
        (alias outer 1 $family-t (type $f0)) (export "ip-address-family" (type $f (eq $f0)))
        (alias outer 1 $tcp-t (type $s0)) (export "tcp-socket" (type $s (eq $s0)))
        (export "create-tcp-socket" (func (param "address-family" $f) (result (result (own $s) (error $e)))))))
    (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
        (alias outer 1 $error-t (type $e0)) (export "error-code" (type $e (eq $e0)))
        (alias outer 1 $family-t (type $f0)) (export "ip-address-family" (type $f (eq $f0)))
        (alias outer 1 $udp-t (type $s0)) (export "udp-socket" (type $s (eq $s0)))
        (export "create-udp-socket" (func (param "address-family" $f) (result (result (own $s) (error $e)))))))
    (import "wasi:sockets/ip-name-lookup@0.2.0" (instance $lookup
        (alias outer 1 $network-t (type $n0)) (export "network" (type $n (eq $n0)))
        (alias outer 1 $error-t (type $e0)) (export "error-code" (type $e (eq $e0)))
        (export "resolve-address-stream" (type $r (sub resource)))
        (export "resolve-addresses" (func (param "network" (borrow $n)) (param "name" string)
            (result (result (own $r) (error $e)))))))
    (core module $memory (memory (export "memory") 1) (data (i32.const 1024) "localhost127.0.0.1169.254.169.254"))
    (core instance $m (instantiate $memory))
    (alias core export $m "memory" (core memory $mem))
    (core func $the-network (canon lower (func $instance-network "instance-network")))
    (core func $new-tcp (canon lower (func $create-tcp "create-tcp-socket") (memory $mem)))
    (core func $new-udp (canon lower (func $create-udp "create-udp-socket") (memory $mem)))
    (core func $connect (canon lower (func $tcp "[method]tcp-socket.start-connect") (memory $mem)))
    (core func $bind-tcp (canon lower (func $tcp "[method]tcp-socket.start-bind") (memory $mem)))
    (core func $bind-udp (canon lower (func $udp "[method]udp-socket.start-bind") (memory $mem)))
    (core func $resolve (canon lower (func $lookup "resolve-addresses") (memory $mem)))
"#;

/// A component that runs `body` and ends well if that leaves 0.
fn sockets(body: &str) -> Vec<u8> {
    let at = |name: &str| {
        // Socket, network, then the address: which sort, and room for the larger sort.
        format!(
            "(import \"\" \"{name}\" (func ${name} (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"
        )
    };
    wat(&format!(
        r#"(component {SOCKETS}
        (core module $program
            (import "" "memory" (memory 1))
            (import "" "the-network" (func $the-network (result i32)))
            (import "" "new-tcp" (func $new-tcp (param i32 i32)))
            (import "" "new-udp" (func $new-udp (param i32 i32)))
            {} {} {}
            (import "" "resolve" (func $resolve (param i32 i32 i32 i32)))
            ;; A result begins with 1 when it is an error.
            (func $allowed (param $at i32) (result i32) (i32.ne (i32.load8_u (local.get $at)) (i32.const 1)))
            (func (export "run") (result i32) (local $network i32)
                (local.set $network (call $the-network))
                {body}))
        (core instance $program (instantiate $program (with "" (instance
            (export "memory" (memory $mem))
            (export "the-network" (func $the-network))
            (export "new-tcp" (func $new-tcp))
            (export "new-udp" (func $new-udp))
            (export "connect" (func $connect))
            (export "bind-tcp" (func $bind-tcp))
            (export "bind-udp" (func $bind-udp))
            (export "resolve" (func $resolve))))))
        (func $run (result (result)) (canon lift (core func $program "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#,
        at("connect"),
        at("bind-tcp"),
        at("bind-udp")
    ))
}

/// Making a socket of the kind `new` and then the call `act` on an IPv4 address: 0 when denied.
fn attempt(new: &str, act: &str, [a, b, c, d]: [u8; 4], port: u16) -> String {
    format!(
        "(call ${new} (i32.const 0) (i32.const 0))
         (if (result i32) (call $allowed (i32.const 0))
            (then
                (call ${act} (i32.load (i32.const 4)) (local.get $network) (i32.const 0) (i32.const {port})
                    (i32.const {a}) (i32.const {b}) (i32.const {c}) (i32.const {d})
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 64))
                (call $allowed (i32.const 64)))
            (else (i32.const 0)))"
    )
}

#[test]
fn there_is_no_network() {
    // Somebody listens: what is denied is not just unreachable.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let local = [127, 0, 0, 1];
    let attempts = [
        attempt("new-tcp", "connect", local, port),
        attempt("new-tcp", "connect", [169, 254, 169, 254], 80),
        attempt("new-tcp", "connect", [192, 0, 2, 1], 443),
        attempt("new-tcp", "bind-tcp", local, 0),
        attempt("new-tcp", "bind-tcp", [0, 0, 0, 0], 8080),
        attempt("new-udp", "bind-udp", local, 0),
        attempt("new-udp", "bind-udp", [0, 0, 0, 0], 5353),
    ];
    for body in attempts {
        let ran = run_bytes(&sockets(&body), Invocation::default(), b"");
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{body}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a connection was made");
}

#[test]
fn there_are_no_names() {
    for (start, length) in [(1024, 9), (1033, 9), (1042, 15)] {
        let body = format!(
            "(call $resolve (local.get $network) (i32.const {start}) (i32.const {length}) (i32.const 64))
             (call $allowed (i32.const 64))"
        );
        let ran = run_bytes(&sockets(&body), Invocation::default(), b"");
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{start}");
    }
}

/// The text tells a denial from a mistake in it: these attempts say so when they are not denied.
#[test]
fn an_attempt_that_is_not_denied_fails_the_program() {
    assert_eq!(run_bytes(&sockets("(call $allowed (i32.const 0))"), Invocation::default(), b"").code, 1);
}

#[test]
fn handles_are_limited() {
    let component = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p0)) (export "pollable" (type $p (eq $p0)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core module $program
            (import "" "subscribe" (func $subscribe (param i64) (result i32)))
            (func (export "run") (result i32)
                (loop $again (drop (call $subscribe (i64.const 1000000000000))) (br $again))
                (i32.const 0)))
        (core instance $program (instantiate $program (with "" (instance (export "subscribe" (func $subscribe))))))
        (func $run (result (result)) (canon lift (core func $program "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#;
    let ran = run_bytes(&wat(component), Invocation::default(), b"");
    assert_eq!(ran.code, TRAP_EXIT_CODE);
    assert!(ran.stderr.contains("resource table has no free keys"), "{}", ran.stderr);
}

#[test]
fn asking_for_a_terabyte_of_random_numbers_is_a_trap() {
    let component = r#"(component
        (import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
        (core module $memory
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
        (core instance $m (instantiate $memory))
        (alias core export $m "memory" (core memory $mem))
        (alias core export $m "realloc" (core func $realloc))
        (core func $bytes (canon lower (func $random "get-random-bytes") (memory $mem) (realloc $realloc)))
        (core module $program
            (import "" "bytes" (func $bytes (param i64 i32)))
            (func (export "run") (result i32) (call $bytes (i64.const 1099511627776) (i32.const 0)) (i32.const 0)))
        (core instance $program (instantiate $program (with "" (instance (export "bytes" (func $bytes))))))
        (func $run (result (result)) (canon lift (core func $program "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#;
    let ran = run_bytes(&wat(component), Invocation::default(), b"");
    assert_eq!(ran.code, TRAP_EXIT_CODE);
    assert!(ran.stderr.contains("exceeds"), "{}", ran.stderr);
}

/// The numbers that preview 1 calls name, all absurd: errors or traps, and never the end of the host.
#[test]
fn absurd_numbers_harm_nobody() {
    let calls = [
        ("random_get", "(param i32 i32) (result i32)", "(i32.const 0) (i32.const -1)"),
        ("fd_renumber", "(param i32 i32) (result i32)", "(i32.const 0) (i32.const -1)"),
        ("fd_renumber", "(param i32 i32) (result i32)", "(i32.const 1) (i32.const 1)"),
        ("fd_read", "(param i32 i32 i32 i32) (result i32)", "(i32.const 0) (i32.const 0) (i32.const -1) (i32.const 8)"),
        (
            "fd_write",
            "(param i32 i32 i32 i32) (result i32)",
            "(i32.const 1) (i32.const -8) (i32.const 9) (i32.const 8)",
        ),
        ("fd_seek", "(param i32 i64 i32 i32) (result i32)", "(i32.const 1) (i64.const -1) (i32.const 7) (i32.const 0)"),
        (
            "poll_oneoff",
            "(param i32 i32 i32 i32) (result i32)",
            "(i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)",
        ),
        ("args_get", "(param i32 i32) (result i32)", "(i32.const -1) (i32.const -1)"),
        ("proc_raise", "(param i32) (result i32)", "(i32.const 9)"),
        ("sock_shutdown", "(param i32 i32) (result i32)", "(i32.const 0) (i32.const 3)"),
    ];
    for (name, signature, arguments) in calls {
        let module = format!(
            "(module (import \"wasi_snapshot_preview1\" \"{name}\" (func $call {signature}))
                (memory (export \"memory\") 1)
                (func (export \"_start\") (drop (call $call {arguments}))))"
        );
        let ran = run_bytes(&wat(&module), invocation(&[]), b"");
        assert!(matches!(ran.code, 0 | TRAP_EXIT_CODE), "{name}: {ran:?}");
    }
}
