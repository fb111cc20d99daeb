//! One configuration that says all there is to say, and what is wrong with it after one change.
//!
//! `full.json` has every field of the specification. `broken.json` has one change a line: the place, as a JSON
//! pointer (RFC 6901), what is put there, and the message.

mod facts;
mod ids;

use serde_json::Value;

use super::sysctl::sysctl_file;
use super::*;
use crate::bundle::read_spec;

pub(in crate::bundle) const FULL: &str = include_str!("full.json");
const BROKEN: &str = include_str!("broken.json");

/// Puts `value` at `pointer`: in place of what is there, or as a new member.
pub(in crate::bundle) fn put(document: &mut Value, pointer: &str, value: Value) {
    if let Some(place) = document.pointer_mut(pointer) {
        *place = value;
        return;
    }
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let key = key.replace("~1", "/").replace("~0", "~");
    match document.pointer_mut(parent) {
        Some(Value::Object(members)) => drop(members.insert(key, value)),
        Some(Value::Array(items)) if key == items.len().to_string() => items.push(value),
        other => panic!("{pointer}: cannot put something into {other:?}"),
    }
}

fn remove(document: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent) {
        Some(Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
        Some(Value::Object(members)) => drop(members.remove(key).unwrap()),
        other => panic!("{pointer}: cannot remove something from {other:?}"),
    }
}

fn full_but(changes: &[(&str, Value)]) -> Value {
    let mut document: Value = serde_json::from_str(FULL).unwrap();
    changes.iter().for_each(|(pointer, value)| put(&mut document, pointer, value.clone()));
    document
}

/// What a caller sees of a document; empty if nothing is wrong with it.
fn said(document: &Value, facts: &Facts<'_>) -> String {
    match read_spec(document.to_string().as_bytes()) {
        Ok((spec, _)) => {
            validate(&spec, facts).map_or_else(|invalid| format!("config.json: {invalid}"), |()| "".into())
        }
        Err(error) => error.to_string(),
    }
}

/// The place in the text is another with every field that is added to it.
fn placeless(said: &str) -> String {
    match said.split_once(" at line ") {
        Some((before, _)) => format!("{before} at line _ column _"),
        None => said.to_owned(),
    }
}

#[test]
fn a_configuration_with_every_field_passes() {
    let (spec, ignored) = read_spec(FULL.as_bytes()).unwrap();
    assert_eq!(validate(&spec, &Facts::default()), Ok(()));
    assert!(ignored.is_empty());
}

#[test]
fn a_change_that_makes_no_sense_is_refused_by_field() {
    let table: Vec<(String, Value, String)> = serde_json::from_str(BROKEN).unwrap();
    assert!(table.len() >= 80);
    let mut wrong = Vec::new();
    for (pointer, value, message) in table {
        let mut document = full_but(&[]);
        match value.get("remove") {
            Some(_) => remove(&mut document, &pointer),
            None => put(&mut document, &pointer, value.clone()),
        }
        let said = said(&document, &Facts::default());
        assert!(!said.contains('\n'));
        if placeless(&said) != format!("config.json: {message}") {
            wrong.push(format!("{pointer} = {value}\n  wanted {message}\n  got    {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Documents as the specification's own examples are, and what callers write.
#[test]
fn what_is_meant_passes() {
    for good in [
        r#"{"ociVersion":"1.0.0","root":{"path":"rootfs"}}"#,
        r#"{"ociVersion":"0.5.0-dev","root":{"path":"rootfs"},"zos":{}}"#,
        r#"{"ociVersion":"1.3.0+dev","root":{"path":"/abs"},"process":{"cwd":"/","args":["sh"],"user":{"uid":0,"gid":0}}}"#,
        r#"{"ociVersion":"1.4.1-rc.1","root":{"path":"r"},"process":{"cwd":"/","args":["sh"]},"freebsd":{"devices":[]}}"#,
        r#"{"ociVersion":"1.0.0","root":{"path":"rootfs"},"linux":{"resources":{"rdma":{"mlx5_1":{"hcaHandles":3}}}}}"#,
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"linux":{"namespaces":[{"type":"network"}],"netDevices":{"ens4":{}}}}"#,
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"hostname":"","linux":{"uidMappings":[],"timeOffsets":{},"cgroupsPath":""}}"#,
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"hostname":"h","linux":{"namespaces":[{"type":"uts","path":"/proc/7/ns/uts"}]}}"#,
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"linux":{"namespaces":[{"type":"mount","path":""}],"readonlyPaths":["/a"]}}"#,
        // containerd gives the mappings with a namespace that is joined.
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"process":{"cwd":"/","args":["sh"],"user":{"uid":7}},"linux":{
            "namespaces":[{"type":"user","path":"/proc/7/ns/user"}],
            "uidMappings":[{"containerID":1,"hostID":1,"size":1}],"gidMappings":[{"hostID":1,"size":1}]}}"#,
        // All ids but the last, which is none.
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"linux":{"namespaces":[{"type":"user"}],
            "uidMappings":[{"size":4294967295}],"gidMappings":[{"size":4294967295}]}}"#,
        r#"{"ociVersion":"1.0.0","root":{"path":"r"},"linux":{"namespaces":[{"type":"user"}],
            "uidMappings":[{"size":1}],"gidMappings":[{"size":1}]},
            "mounts":[{"destination":"/m","source":"/s","options":["bind","idmap"]},{"destination":"/","source":"r"}]}"#,
    ] {
        let document: Value = serde_json::from_str(good).unwrap();
        assert_eq!(said(&document, &Facts::default()), "", "{good}");
    }
}

#[test]
fn a_name_of_a_kernel_setting_is_a_file() {
    for (key, file) in [
        ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
        ("net.ipv4.conf.eth0/100.rp_filter", Some("net/ipv4/conf/eth0.100/rp_filter")),
        ("net/ipv4/conf/eth0.100/rp_filter", Some("net/ipv4/conf/eth0.100/rp_filter")),
        ("kernel", Some("kernel")),
        ("", None),
        (".", None),
        ("/net/core", None),
        ("net..core", None),
        ("net./.core", None),
        ("net.//.core", None),
        ("net/../kernel/panic", None),
        ("net/ipv4/.", None),
        ("net.core\0", None),
    ] {
        assert_eq!(sysctl_file(key).as_deref(), file, "{key:?}");
    }
}
