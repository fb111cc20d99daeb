//! Documents that the `oci-spec` crate alone would refuse, and what is said of those that are none.

use serde_json::{Value, json};

use super::*;
use crate::bundle::validate::tests::{FULL, put};
use crate::bundle::{Facts, validate};

fn full_with(pointer: &str, value: Value) -> Vec<u8> {
    let mut document: Value = serde_json::from_str(FULL).unwrap();
    put(&mut document, pointer, value);
    document.to_string().into_bytes()
}

/// What the specification, or every other reader, takes.
#[test]
fn what_the_crate_types_too_narrowly_is_read() {
    for (pointer, value) in [
        ("/process/scheduler/flags/0", json!("SCHED_FLAG_RESET_ON_FORK")),
        ("/process/scheduler/flags/0", json!("SCHED_FLAG_DL_OVERRUN")),
        ("/process/execCPUAffinity/initial", json!(" 0-3, 7,")),
        ("/process/execCPUAffinity/final", json!("")),
        ("/process/rlimits/0/soft", json!(null)),
        ("/linux/resources/hugepageLimits/0/limit", json!(u64::MAX)),
        ("/linux/resources/pids/limit", json!(null)),
        ("/linux/seccomp", json!({})),
        ("/linux/seccomp", json!({"defaultAction": "", "syscalls": null, "architectures": null})),
        ("/linux/sysctl/net.ipv4.ip_forward", json!(null)),
        ("/solaris", json!(7)),
        ("/windows", json!({"layerFolders": "C:"})),
        ("/vm", json!({})),
        ("/zos", json!({"namespaces": [{"type": "network"}]})),
        ("/uidMappings", json!("what is this")),
    ] {
        let (spec, ignored) = parse(&full_with(pointer, value.clone())).unwrap_or_else(|e| panic!("{pointer}: {e}"));
        assert_eq!(validate(&spec, &Facts::default()), Ok(()), "{pointer} = {value}");
        assert!(ignored.is_empty());
    }
}

#[test]
fn what_is_rewritten_means_the_same() {
    let read = |pointer, value| parse(&full_with(pointer, value)).unwrap().0;
    let spec = read("/process/scheduler/flags/0", json!("SCHED_FLAG_DL_OVERRUN"));
    let flags = spec.process().as_ref().unwrap().scheduler().as_ref().unwrap().flags().clone().unwrap();
    assert_eq!(flags[0], LinuxSchedulerFlag::SchedFlagDLOverrun);
    let spec = read("/linux/resources/hugepageLimits/0/limit", json!(u64::MAX));
    let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
    assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].limit(), i64::MAX);
    let spec = read("/linux/seccomp", json!({"defaultAction": ""}));
    assert_eq!(spec.linux().as_ref().unwrap().seccomp(), &None);
}

#[test]
fn a_capability_that_is_not_known_is_left_out_and_told() {
    let names = json!(["CAP_KILL", "CAP_OF_TOMORROW", "net_bind_service"]);
    let (spec, ignored) = parse(&full_with("/process/capabilities/bounding", names)).unwrap();
    let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
    assert_eq!(sets.bounding(), &Some([Capability::Kill, Capability::NetBindService].into()));
    assert_eq!(ignored, [r#"process.capabilities.bounding: "CAP_OF_TOMORROW" is no capability known here"#]);
}

#[test]
fn a_process_without_a_user_is_root() {
    let json = br#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":["sh"]}}"#;
    let (spec, _) = parse(json).unwrap();
    assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
}

#[test]
fn what_is_empty_is_not_there() {
    let json = br#"{"ociVersion":"1.0.0","hostname":"","domainname":"","process":{"cwd":"/","user":{},
        "apparmorProfile":"","selinuxLabel":""},"mounts":[{"destination":"/a","type":"","source":"",
        "uidMappings":[],"gidMappings":[]}],"linux":{"namespaces":[{"type":"pid","path":""}],"uidMappings":[],
        "cgroupsPath":"","rootfsPropagation":"","mountLabel":"","timeOffsets":{},"netDevices":{"a":{"name":""}},
        "seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"","listenerMetadata":""}}}"#;
    let (spec, _) = parse(json).unwrap();
    let written: Value = serde_json::to_value(&spec).unwrap();
    let wanted = json!({"ociVersion": "1.0.0", "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/a"}], "linux": {"namespaces": [{"type": "pid"}], "netDevices": {"a": {"name": null}},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}});
    assert_eq!(written, wanted);
}

/// One line, with the field and the place.
#[test]
fn a_mistake_is_told_by_its_field() {
    let long = format!(r#"{{"root":"{}"}}"#, "x".repeat(10_000));
    for (json, wanted) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("null", "is no JSON object"),
        (" []", "is no JSON object"),
        ("\u{feff}{}", "is no JSON object"),
        ("{]", "key must be a string at line 1 column 2"),
        (
            "{\"ociVersion\": \"1\0\"}",
            "ociVersion: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 18",
        ),
        ("{} {}", "trailing characters at line 1 column 4"),
        (r#"{"root":{"path":"a"},"root":{"path":"b"}}"#, "duplicate field `root` at line 1 column 27"),
        (
            "{\n \"process\": {\n  \"rlimits\": [{\"type\": \"RLIMIT_CPU\", \"hard\": \"x\"}]}}",
            "process.rlimits[0].hard: invalid type: string \"x\", expected u64 at line 3 column 48",
        ),
        (
            r#"{"process":{"cwd":7}}"#,
            "process.cwd: invalid type: integer `7`, expected path string at line 1 column 19",
        ),
        // Two mistakes, of which one is the crate's: the other is told, without a place.
        (
            r#"{"process":{"cwd":"/","capabilities":{"bounding":["CAP_NEW"]},"args":7}}"#,
            "process.args: invalid type: integer `7`, expected a sequence",
        ),
        (
            r#"{"annotations":{"a\nb":1}}"#,
            "annotations.a\u{fffd}b: invalid type: integer `1`, expected a string at line 1 column 24",
        ),
        (
            r#"{"linux":{"namespaces":[{"type":"a\nb"}]}}"#,
            "linux.namespaces[0].type: unknown variant `a\u{fffd}b`, \
            expected one of `mount`, `cgroup`, `uts`, `ipc`, `user`, `pid`, `network`, `time` at line 1 column 38",
        ),
    ] {
        assert_eq!(parse(json.as_bytes()).unwrap_err().to_string(), wanted, "{json}");
    }
    let said = parse(long.as_bytes()).unwrap_err().to_string();
    assert!(said.len() < 410 && said.starts_with("root: invalid type") && said.ends_with("column 10010"), "{said}");
}

/// Neither the parser's stack nor time is at a stranger's disposal.
#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let unknown = format!("{{\"x\":{}}}", nested(100_000));
    parse(unknown.as_bytes()).unwrap();
    let known = format!("{{\"windows\":{{\"credentialSpec\":{{\"x\":{}}}}}}}", nested(100_000));
    let said = parse(known.as_bytes()).unwrap_err().to_string();
    assert!(said.starts_with("windows.credentialSpec.x[0]") && said.contains("recursion limit exceeded"), "{said}");
}
