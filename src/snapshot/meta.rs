//! An entry's owner, mode, time and extended attributes: read from an archive or a stored layer, and put on
//! a file in the one order that works.
//!
//! 1. data: writing takes file capabilities away, and set-id bits from all but root;
//! 2. owner: chown(2) takes both away;
//! 3. mode; 4. extended attributes, among them `security.capability`; 5. time.
//!
//! Of the extended attributes only content is taken: `user.*`, `trusted.*` (root only), POSIX ACLs and
//! `security.capability`. The other `security.*` (SELinux, IMA, EVM) are the host's policy, not an image's.

use std::ffi::{CString, OsStr};
use std::io::ErrorKind;
use std::os::fd::AsFd;

use rustix::fs::FileType;

use crate::sys;
use crate::sys::dir::{self, Dir, Info, Time};

use super::mark::Marks;
use super::tar::Entry;

/// What this process can do to files, looked at once.
#[derive(Clone, Copy, Debug)]
pub struct Powers {
    /// Whether files can be given away and devices made: the effective user is 0, perhaps of a namespace that
    /// knows other users too. Without, everything belongs to the caller.
    pub root: bool,
    uid: u32,
    gid: u32,
    /// Mode bits that a new file does not get, by which a chmod is known to be needless.
    umask: u32,
}

impl Powers {
    /// Those of this process.
    pub fn of_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { root: uid == 0 && !is_alone(), uid, gid, umask: umask() }
    }
}

/// Whether there is nobody to give a file to.
fn is_alone() -> bool {
    #[cfg(target_os = "linux")]
    return sys::user::is_alone();
    #[cfg(not(target_os = "linux"))]
    false
}

/// The process's umask, which umask(2) could tell only by changing it under all threads; everything where
/// it is not to be read, so that every mode is set explicitly.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let octal = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    octal.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o7777)
}

/// What is set on an entry once its data is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub time: Time,
    /// Stored names and values.
    pub xattrs: Vec<(CString, Vec<u8>)>,
}

impl Meta {
    /// Of a directory that an archive implies, and no layer below has. The epoch, so that the same layer
    /// always unpacks to the same tree.
    pub fn implied() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, time: Time::default(), xattrs: Vec::new() }
    }

    /// Of an archive's entry.
    pub fn of_entry(entry: &Entry, marks: Marks, powers: Powers) -> Self {
        let taken = entry.xattrs.iter().filter(|(name, _)| is_content(name, powers));
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            time: Time { seconds: entry.modified.seconds, nanos: entry.modified.nanos },
            xattrs: taken.filter_map(|(name, value)| Some((marks.stored_xattr(name)?, value.clone()))).collect(),
        }
    }

    /// Of something stored: `xattrs` as they are in a layer with `marks`, to be written to one with `to`.
    pub fn of_stored(info: &Info, xattrs: Vec<(Vec<u8>, Vec<u8>)>, marks: Marks, to: Marks, powers: Powers) -> Self {
        let content = |name: &[u8]| {
            let content = marks.content_xattr(name)?;
            is_content(content.as_bytes(), powers).then(|| to.stored_xattr(content.as_bytes()))?
        };
        let xattrs = xattrs.into_iter().filter_map(|(name, value)| Some((content(&name)?, value))).collect();
        Self { mode: info.mode, uid: info.uid, gid: info.gid, time: info.modified, xattrs }
    }

    /// Whether mkdir(2) with this mode makes a directory with this owner and mode, which is ours to work in, and
    /// whose group and ACL nothing inherits that is made in it.
    pub fn can_be_made(&self, powers: Powers) -> bool {
        let plain = self.mode & (powers.umask | 0o7000) == 0 && self.mode & 0o700 == 0o700;
        plain && self.xattrs.is_empty() && !self.is_given_away(powers)
    }

    /// Puts this on an open file that was made with `self.mode` and no owner of its own.
    pub fn put_on_new_file(&self, file: impl AsFd, powers: Powers) -> sys::Result<()> {
        let file = file.as_fd();
        let given_away = self.is_given_away(powers);
        if given_away {
            dir::set_file_owner(file, self.uid, self.gid)?;
        }
        if given_away || self.mode & (powers.umask | 0o7000) != 0 {
            dir::set_file_mode(file, self.mode)?;
        }
        self.put_xattrs(|key, value| dir::set_file_xattr(file, key, value))?;
        dir::set_file_time(file, self.time)
    }

    /// Puts this on a directory.
    pub fn put_on_dir(&self, target: &Dir, powers: Powers) -> sys::Result<()> {
        if powers.root {
            target.set_own_owner(self.uid, self.gid)?;
        }
        target.set_own_mode(self.mode)?;
        self.put_xattrs(|key, value| dir::set_file_xattr(target, key, value))?;
        target.set_own_time(self.time)
    }

    /// Puts this on `name` in `parent`, which was just made: a symlink or a special file.
    pub fn put_on_new_name(&self, parent: &Dir, name: &OsStr, kind: FileType, powers: Powers) -> sys::Result<()> {
        if self.is_given_away(powers) {
            parent.set_owner(name, self.uid, self.gid)?;
        }
        if kind != FileType::Symlink {
            parent.set_mode(name, self.mode)?;
        }
        self.put_xattrs(|key, value| parent.set_xattr(name, key, value))?;
        parent.set_time(name, self.time)
    }

    fn is_given_away(&self, powers: Powers) -> bool {
        powers.root && (self.uid, self.gid) != (powers.uid, powers.gid)
    }

    /// A filesystem or kind of file that can have no such attribute is fine, as with tar and containerd: the
    /// content is complete without. Anything else is a failure.
    fn put_xattrs(&self, mut put: impl FnMut(&std::ffi::CStr, &[u8]) -> sys::Result<()>) -> sys::Result<()> {
        for (key, value) in &self.xattrs {
            match put(key, value) {
                Err(error) if error.source.kind() == ErrorKind::Unsupported => {}
                // What symlinks and special files answer to user.*, see xattr(7).
                Err(error) if error.errno() == Some(libc::EPERM) && key.to_bytes().starts_with(b"user.") => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn is_content(name: &[u8], powers: Powers) -> bool {
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        b"security.capability" => powers.root,
        _ => name.starts_with(b"user.") || (powers.root && name.starts_with(b"trusted.")),
    }
}
