//! `linux.sysctl`: only what belongs to a namespace that the container has apart. `/proc/sys` is the host's otherwise.
//!
//! A key has dots between its parts, and a slash where a part has a dot in its name; or the other way round, if its
//! first separator is a slash (sysctl.d(5)).

use std::collections::HashMap;

use super::{Check, Namespaces, bare, refuse};
use crate::oci::runtime::LinuxNamespaceType;

/// What is System V IPC's and every ipc namespace's own (ipc_namespaces(7)), besides `fs.mqueue`.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

pub(super) fn check(sysctls: &HashMap<String, String>, namespaces: Namespaces<'_>) -> Check {
    // In order, so that the same file has the same message.
    let mut keys: Vec<&String> = sysctls.keys().collect();
    keys.sort_unstable();
    keys.into_iter().try_for_each(|key| match judge(key, namespaces) {
        Ok(()) => Ok(()),
        Err(problem) => refuse(format!("linux.sysctl.{}", bare(key)), problem),
    })
}

/// The file below `/proc/sys` that a key names, with slashes; none if it is no name of a file there.
pub(super) fn sysctl_file(key: &str) -> Option<String> {
    let slashes = key.find(['.', '/']).is_some_and(|first| key[first..].starts_with('/'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let file: String = if slashes { key.to_owned() } else { key.chars().map(swap).collect() };
    file.split('/').all(super::is_file_name).then_some(file)
}

fn judge(key: &str, namespaces: Namespaces<'_>) -> Result<(), String> {
    use LinuxNamespaceType::{Ipc, Network, User, Uts};
    let file = sysctl_file(key).ok_or("is no name of a kernel setting")?;
    let needed = match file.split_once('/') {
        Some(("kernel", name)) if IPC.contains(&name) => Ipc,
        Some(("fs", rest)) if rest.starts_with("mqueue/") => Ipc,
        Some(("net", _)) => Network,
        Some(("user", _)) => User,
        Some(("kernel", "domainname")) => Uts,
        Some(("kernel", "hostname")) => return Err("is what the field \"hostname\" is for".into()),
        _ => return Err("is the host's: it belongs to no namespace".into()),
    };
    if namespaces.apart(needed) {
        return Ok(());
    }
    let word = if needed == Network { "network".into() } else { needed.to_string() };
    Err(format!("is the host's: the container has no {word} namespace of its own"))
}
