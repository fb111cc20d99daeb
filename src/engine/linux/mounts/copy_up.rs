//! `tmpcopyup`: what a tmpfs covers is copied into it first, with owners, modes, times, extended attributes and links.
//!
//! The tmpfs is not attached yet and the directory is a handle, so that nobody sees a half of it; every file is opened
//! through its directory, never through a link.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;

use rustix::fs::FileType;

use crate::sys::dir::{Dir, Info, Node, copy_data, set_file_mode, set_file_owner, set_file_time, set_file_xattr};
use crate::sys::{self, Error, named};

/// Deeper trees are refused: each level is two open handles.
const MAX_DEPTH: usize = 200;

/// Copies what the directory `from` holds into the root of `mount`, which becomes like it but for the mode that it has
/// been mounted with.
pub(super) fn fill(mount: &OwnedFd, from: &OwnedFd) -> sys::Result<()> {
    let duplicate = |fd: &OwnedFd| named(fd.try_clone(), || "fcntl(F_DUPFD_CLOEXEC)".into());
    let (from, to) = (Dir::from_mount(duplicate(from)?)?, Dir::from_mount(duplicate(mount)?)?);
    let mode = to.info_of_self()?.mode;
    let mut copy = Copy::default();
    copy.directory(&from, &to, 0)?;
    to.set_own_mode(mode)
}

#[derive(Default)]
struct Copy {
    /// Files of several names that have been copied: by inode, the directory and the name of the copy.
    linked: HashMap<(u64, u64), (Dir, OsString)>,
}

impl Copy {
    fn directory(&mut self, from: &Dir, to: &Dir, depth: usize) -> sys::Result<()> {
        if depth > MAX_DEPTH {
            let source = std::io::Error::from_raw_os_error(libc::ELOOP);
            return Err(Error { call: format!("tmpcopyup: directories deeper than {MAX_DEPTH}"), source });
        }
        for (name, _) in from.entries()? {
            // One that is gone meanwhile was not there.
            if let Some(info) = from.info(&name)? {
                self.entry(from, to, &name, &info, depth)?;
            }
        }
        // What changes the directory's times is done.
        let info = from.info_of_self()?;
        to.set_own_owner(info.uid, info.gid)?;
        to.set_own_mode(info.mode)?;
        for (key, value) in from.own_xattrs()? {
            kept(to.set_own_xattr(&key_of(key), &value))?;
        }
        to.set_own_time(info.modified)
    }

    fn entry(&mut self, from: &Dir, to: &Dir, name: &OsStr, info: &Info, depth: usize) -> sys::Result<()> {
        if info.kind == FileType::Directory {
            to.make_dir(name, 0o700)?;
            return self.directory(&from.open_dir(name)?, &to.open_dir(name)?, depth + 1);
        }
        if let Some((dir, first)) = self.linked.get(&info.inode).filter(|_| info.links > 1) {
            return to.link(name, dir, first);
        }
        match info.kind {
            FileType::RegularFile => return self.file(from, to, name, info),
            FileType::Symlink => to.make_symlink(name, &from.read_link(name)?)?,
            FileType::CharacterDevice => to.make_node(name, Node::Char(info.device), info.mode)?,
            FileType::BlockDevice => to.make_node(name, Node::Block(info.device), info.mode)?,
            FileType::Fifo => to.make_node(name, Node::Fifo, info.mode)?,
            FileType::Socket => to.make_node(name, Node::Socket, info.mode)?,
            FileType::Directory | FileType::Unknown => return Ok(()),
        }
        to.set_owner(name, info.uid, info.gid)?;
        if info.kind != FileType::Symlink {
            to.set_mode(name, info.mode)?;
        }
        for (key, value) in from.xattrs(name)? {
            kept(to.set_xattr(name, &key_of(key), &value))?;
        }
        to.set_time(name, info.modified)?;
        self.remember(to, name, info)
    }

    fn file(&mut self, from: &Dir, to: &Dir, name: &OsStr, info: &Info) -> sys::Result<()> {
        let (source, copy) = (from.open_file(name)?, to.make_file(name, 0o600)?);
        copy_data(&source, &copy)?;
        set_file_owner(&copy, info.uid, info.gid)?;
        set_file_mode(&copy, info.mode)?;
        for (key, value) in from.xattrs(name)? {
            kept(set_file_xattr(&copy, &key_of(key), &value))?;
        }
        set_file_time(&copy, info.modified)?;
        self.remember(to, name, info)
    }

    fn remember(&mut self, to: &Dir, name: &OsStr, info: &Info) -> sys::Result<()> {
        if info.links > 1 {
            self.linked.insert(info.inode, (to.duplicate()?, name.to_owned()));
        }
        Ok(())
    }
}

fn key_of(key: Vec<u8>) -> CString {
    // They come from a list that is separated by NUL bytes.
    CString::new(key).unwrap_or_default()
}

/// An attribute that tmpfs does not have, or that this user namespace may not set, cannot be copied by anybody.
fn kept(set: sys::Result<()>) -> sys::Result<()> {
    match set {
        Err(error) if matches!(error.errno(), Some(libc::ENOTSUP | libc::EPERM)) => Ok(()),
        set => set,
    }
}
