//! Executing the program: where its name leads, where it begins, and in whose words a failure is told.

use std::ffi::{CStr, CString};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use super::handshake::Failed;
use super::process::ProcessPlan;
use super::stage::{Done, step};
use crate::sys::{self, named};

/// Where commands are looked for when the environment does not say.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The largest user database that is looked at for a home directory.
const MAX_PASSWD: usize = 1 << 20;

/// Executes the program; returns only why it cannot.
pub(super) fn execute(plan: &ProcessPlan) -> Failed {
    let Some(name) = plan.args.first() else { return no_command() };
    let mut refused = Errno::NOENT;
    for candidate in candidates(name, plan.variable("PATH")) {
        let error = sys::process::exec(&candidate, &plan.args, &plan.env);
        match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
            Errno::NOENT | Errno::NOTDIR => {}
            // Later directories of the PATH may have one that can be run; else this is what is said.
            Errno::ACCESS => refused = Errno::ACCESS,
            other => {
                refused = other;
                break;
            }
        }
    }
    cannot_execute(&name.to_string_lossy(), refused)
}

/// Whether there is a program to execute, for one that is executed only later: callers expect to hear of it now.
pub(super) fn look_up(plan: &ProcessPlan) -> Done {
    let Some(name) = plan.args.first() else { return Err(no_command().into()) };
    let mut refused = Errno::NOENT;
    for candidate in candidates(name, plan.variable("PATH")) {
        match rustix::fs::accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) if is_directory(&candidate) => refused = Errno::ACCESS,
            Ok(()) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => refused = error,
        }
    }
    Err(cannot_execute(&name.to_string_lossy(), refused).into())
}

/// What execve(2) refuses with EACCES although it may be "executed", that is, passed through.
fn is_directory(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

fn no_command() -> Failed {
    Failed { step: "no command specified".to_owned(), call: String::new(), errno: 0, status: Some(127) }
}

/// Where a command's name may be found: itself if it has a slash, else in each directory of the
/// container's PATH.
pub(super) fn candidates(name: &CString, path: Option<&[u8]>) -> Vec<CString> {
    let bytes = name.as_bytes();
    if bytes.contains(&b'/') {
        return vec![name.clone()];
    }
    let directories = path.unwrap_or(DEFAULT_PATH).split(|b| *b == b':').filter(|_| !bytes.is_empty());
    directories.filter_map(|d| CString::new([if d.is_empty() { b"." } else { d }, b"/", bytes].concat()).ok()).collect()
}

/// Docker's words, and the shell's exit statuses.
fn cannot_execute(name: &str, errno: Errno) -> Failed {
    let why = match errno {
        Errno::NOENT if !name.contains('/') => "executable file not found in $PATH".to_owned(),
        Errno::NOENT => format!("stat {name}: no such file or directory"),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        other => std::io::Error::from(other).to_string(),
    };
    let status = if errno == Errno::NOENT { 127 } else { 126 };
    Failed {
        step: format!("exec: {name:?}: {why}"),
        call: String::new(),
        errno: errno.raw_os_error(),
        status: Some(status),
    }
}

/// Enters the working directory, and makes sure that it is one of the container's: a directory of the
/// host that stayed open somewhere would show as unreachable (CVE-2024-21626). Whether it was entered; one that only
/// the program's user may enter is left for later, if it may be.
pub(super) fn enter_directory(cwd: &Path, later: bool) -> Done<bool> {
    let what = "enter the working directory";
    match rustix::process::chdir(cwd) {
        Err(Errno::ACCESS | Errno::PERM) if later => return Ok(false),
        entered => step(named(entered, || format!("chdir({cwd:?})")), what)?,
    }
    let at = step(named(rustix::process::getcwd(Vec::new()), || "getcwd()".into()), what)?;
    if at.as_bytes().starts_with(b"/") {
        return Ok(true);
    }
    let outside = named(Err(Errno::NOENT), || format!("chdir({cwd:?}), which leads out of the container"));
    step(outside, what).map(|()| false)
}

/// Gives the program a HOME where its environment has none, as callers expect who only name a user: what the
/// container's user database says, or the root directory.
pub(super) fn give_home(plan: &mut ProcessPlan) {
    if plan.variable("HOME").is_none() {
        let home = passwd().and_then(|text| home_of(&text, plan.uid)).unwrap_or_else(|| b"/".to_vec());
        plan.env.push(CString::new([b"HOME=", &home[..]].concat()).unwrap_or_else(|_| c"HOME=/".to_owned()));
    }
}

/// The image's file: it may be a device or a pipe that never ends, and is read only if it is neither.
fn passwd() -> Option<Vec<u8>> {
    use rustix::fs::{Mode, OFlags, fstat, open};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open("/etc/passwd", flags, Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size > MAX_PASSWD as i64 {
        return None;
    }
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::from(file), MAX_PASSWD as u64), &mut text)
        .ok()?;
    Some(text)
}

fn home_of(passwd: &[u8], uid: u32) -> Option<Vec<u8>> {
    let uid = uid.to_string();
    passwd.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        let home = *fields.get(5)?;
        (fields[2] == uid.as_bytes() && home.starts_with(b"/") && !home.contains(&0)).then(|| home.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_directory_is_that_of_the_first_line_with_the_user() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad\nweb:x:33:33::/var/www:\nodd:x:34:34::relative:\n";
        assert_eq!(home_of(passwd, 0).as_deref(), Some(&b"/root"[..]));
        assert_eq!(home_of(passwd, 33).as_deref(), Some(&b"/var/www"[..]));
        assert_eq!(home_of(passwd, 34), None);
        assert_eq!(home_of(passwd, 3), None);
    }

    #[test]
    fn a_command_is_looked_for_where_the_path_says() {
        let name = c"true".to_owned();
        assert_eq!(candidates(&name, Some(b"/a::/b")), [c"/a/true".to_owned(), c"./true".into(), c"/b/true".into()]);
        assert_eq!(candidates(&c"./true".to_owned(), Some(b"/a")), [c"./true".to_owned()]);
        assert!(candidates(&c"".to_owned(), None).is_empty());
    }

    #[test]
    fn failures_are_told_in_dockers_words() {
        assert_eq!(cannot_execute("nope", Errno::NOENT).step, r#"exec: "nope": executable file not found in $PATH"#);
        assert_eq!(cannot_execute("/nope", Errno::NOENT).status, Some(127));
        assert_eq!(cannot_execute("/etc", Errno::ACCESS).step, r#"exec: "/etc": permission denied"#);
    }
}
