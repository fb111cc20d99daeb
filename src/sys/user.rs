//! Users, groups and the user namespaces that map them (user_namespaces(7)).

use std::io;
use std::process::Command;

use rustix::process::{Gid, Uid};

use super::process::unshare;
use super::{Error, Result, caps, named};

/// A range of ids: the first inside, the first outside, how many.
pub type Range = (u32, u32, u32);

/// The capabilities that writing a map of any ids takes (linux/capability.h): CAP_SETGID and CAP_SETUID.
const SETGID: usize = 6;
const SETUID: usize = 7;

/// Sets the supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let gids: Vec<_> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    named(rustix::thread::set_thread_groups(&gids), || format!("setgroups({groups:?})"))
}

/// Whether this user namespace lets nobody change groups, as one of a single id has to (user_namespaces(7)).
pub fn groups_are_fixed() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Becomes the user and the group given, for ever.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    named(rustix::thread::set_thread_res_gid(group, group, group), || format!("setresgid({gid})"))?;
    named(rustix::thread::set_thread_res_uid(user, user, user), || format!("setresuid({uid})"))
}

/// Enters a user namespace in which the calling user is root, alone, and a mount namespace to go with it.
/// The caller must be single-threaded (unshare(2), CLONE_NEWUSER).
pub fn enter_user_namespace() -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    write("self", "setgroups", "deny\n")?;
    write_maps("self", &[(0, uid, 1)], &[(0, gid, 1)])
}

/// Maps the ids of the user namespace that process `pid` was born into.
///
/// Whoever may change users writes the maps. An ordinary user may map themselves alone, and for the ranges that
/// the administrator gave them (subuid(5)) the set-user-id programs newuidmap(1) and newgidmap(1) do it.
pub fn map_ids(pid: i32, users: &[Range], groups: &[Range]) -> Result<()> {
    let (effective, _) = caps::current()?;
    let pid = pid.to_string();
    if effective.has(SETUID) && effective.has(SETGID) {
        return write_maps(&pid, users, groups);
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if matches!((users, groups), ([(_, u, 1)], [(_, g, 1)]) if (*u, *g) == (uid, gid)) {
        write(&pid, "setgroups", "deny\n")?;
        return write_maps(&pid, users, groups);
    }
    helper("newgidmap", &pid, groups)?;
    helper("newuidmap", &pid, users)
}

/// Writes the maps of a process, `self` or a pid, for whom the kernel allows to.
pub(super) fn write_maps(pid: &str, users: &[Range], groups: &[Range]) -> Result<()> {
    write(pid, "gid_map", &lines(groups))?;
    write(pid, "uid_map", &lines(users))
}

fn lines(ranges: &[Range]) -> String {
    ranges.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect()
}

fn write(pid: &str, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    named(std::fs::write(&path, text), || format!("write({path:?}, {:?})", text.trim_end()))
}

fn helper(program: &str, pid: &str, ranges: &[Range]) -> Result<()> {
    let numbers = ranges.iter().flat_map(|&(inside, outside, count)| [inside, outside, count]).map(|n| n.to_string());
    let numbers: Vec<String> = numbers.collect();
    let call = || format!("{program} {pid} {}", numbers.join(" "));
    let output = named(Command::new(program).arg(pid).args(&numbers).output(), call)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error { call: call(), source: io::Error::other(said.trim().to_owned()) })
}
