//! Users, groups and the user namespaces that map them (user_namespaces(7)).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Uid};

use super::process::{enter, ns, unshare};
use super::{Error, Result, caps, idmap, named, subid};

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

/// The ids of a user namespace that an ordinary user has entered: those from 0 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// How many users.
    pub users: u32,
    /// How many groups.
    pub groups: u32,
    /// Where there is one of each: why, as advice.
    pub lack: Option<String>,
}

/// Enters a user namespace in which the calling user is root, and a mount namespace to go with it. Where the
/// administrator has given the user ranges of ids (subuid(5)), they follow; else the user is alone.
/// The caller must be single-threaded (unshare(2), CLONE_NEWUSER).
pub fn enter_user_namespace() -> Result<Ids> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match ranges(uid, gid).and_then(|(users, groups)| enter_ranges(&users, &groups)) {
        Ok(ids) => Ok(ids),
        Err(lack) => {
            unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
            write("self", "setgroups", "deny\n")?;
            write_maps("self", &[(0, uid, 1)], &[(0, gid, 1)])?;
            Ok(Ids { users: 1, groups: 1, lack: Some(lack) })
        }
    }
}

/// The maps with the ranges of a user, or why there are none.
fn ranges(uid: u32, gid: u32) -> std::result::Result<(Vec<Range>, Vec<Range>), String> {
    let read = |path: &str| subid::read(Path::new(path)).map_err(|error| crate::error::chain(&error));
    let passwd = read("/etc/passwd")?;
    let name = subid::name(&passwd, uid);
    let (users, groups) = (read("/etc/subuid")?, read("/etc/subgid")?);
    let maps = (subid::map(&users, name, uid, uid), subid::map(&groups, name, uid, gid));
    if maps.0.len() > 1 && maps.1.len() > 1 {
        return Ok(maps);
    }
    let name = name.map_or_else(|| uid.to_string(), str::to_owned);
    Err(format!("no range of ids: add {name}:100000:65536 to /etc/subuid and /etc/subgid, and install uidmap"))
}

/// Enters a namespace with these maps. They are written from outside of it, for a child that waits in it.
fn enter_ranges(users: &[Range], groups: &[Range]) -> std::result::Result<Ids, String> {
    let made = idmap::user_namespace_by(|pid| map_ids(pid, users, groups));
    let entered =
        made.and_then(|namespace| enter(namespace.as_fd(), ns::USER)).and_then(|()| unshare(libc::CLONE_NEWNS));
    let count = |ranges: &[Range]| ranges.iter().map(|(_, _, count)| count).sum();
    match entered {
        Ok(()) => Ok(Ids { users: count(users), groups: count(groups), lack: None }),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
            Err("the ranges of ids in /etc/subuid and /etc/subgid need newuidmap and newgidmap: install uidmap".into())
        }
        Err(error) => Err(format!("the ranges of ids cannot be used: {}", crate::error::chain(&error))),
    }
}

/// Whether this user namespace has a single user, so that there is nobody else to be, or to give a file to.
pub fn is_alone() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let sizes = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    sizes.sum::<u64>() == 1
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
