//! Where a mount goes: a handle in the container's root filesystem, which is made when it is missing.
//!
//! An image, or another container that shares a directory with this one, can put a symbolic link anywhere and exchange
//! it for a directory at any moment (CVE-2021-30465, CVE-2024-45310). So a path is looked up by the kernel *in* the
//! root (openat2(2), RESOLVE_IN_ROOT), what is missing is made by the handle of its parent, and what is mounted or made
//! goes to the handle that was found: between the look-up and the mount there is no path.
//!
//! The first look-up follows no link at all. Mostly there is none, and then the place is where its path says, so that
//! what may not be mounted over (`/proc`) was decided from the path alone. Only a path with a link is resolved again.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::sys::{self, named};

/// The most symbolic links without a target that are followed to make one: the kernel's own limit for links.
const MAX_LINKS: usize = 40;

/// How often a path is looked up again that somebody else changes meanwhile. The kernel gives up with EAGAIN when a
/// rename anywhere crosses a `..`; each further try is a new chance.
const MAX_RACES: usize = 128;

/// Where a mount goes.
pub(super) struct Place {
    /// What is there, or was made.
    pub fd: OwnedFd,
    /// Whether it was made.
    pub made: bool,
}

/// Whether a path may lead through symbolic links.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Inside of the root.
    Followed,
    /// Not even there: what is mounted has to be at that path, like procfs at `/proc` (CVE-2019-19921, CVE-2023-27561).
    Refused,
}

/// Finds `path` in `root`; when there is nothing, makes a directory or a file, as `directory` says.
pub(super) fn find(
    root: BorrowedFd<'_>,
    path: &Path,
    links: Links,
    directory: impl FnOnce() -> sys::Result<bool>,
) -> sys::Result<Place> {
    let plain = relative(path);
    match open(root, plain, ResolveFlags::NO_SYMLINKS) {
        Ok(fd) => return Ok(Place { fd, made: false }),
        Err(Errno::NOENT) => {}
        Err(Errno::LOOP) if links == Links::Followed => {
            if let Some(fd) = existing(root, path)? {
                refuse_procfs(fd.as_fd(), path)?;
                return Ok(Place { fd, made: false });
            }
        }
        Err(Errno::LOOP) => {
            return named(Err(Errno::LOOP), || {
                format!("openat2(rootfs, {plain:?}, RESOLVE_NO_SYMLINKS): must be mounted on ordinary directory")
            });
        }
        error => return named(error, || call(plain)).map(|fd| Place { fd, made: false }),
    }
    let directory = directory()?;
    if let Some(fd) = made_plainly(root, plain, directory) {
        return Ok(Place { fd, made: true });
    }
    let mut fd = target_by(root, plain, directory, MAX_LINKS)?;
    match links {
        Links::Followed => refuse_procfs(fd.as_fd(), path)?,
        // Made through a link that somebody has put there just now, it is not what is found without one.
        Links::Refused => fd = named(open(root, plain, ResolveFlags::NO_SYMLINKS), || call(plain))?,
    }
    Ok(Place { fd, made: true })
}

/// Makes the last part of a path without links, as nearly all are of which nothing else is missing. `None` where that
/// does not do.
fn made_plainly(root: BorrowedFd<'_>, path: &Path, directory: bool) -> Option<OwnedFd> {
    let (above, name) = (path.parent()?, path.file_name()?);
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    let parent = open(root, above, ResolveFlags::NO_SYMLINKS).ok()?;
    make(parent.as_fd(), name, directory).ok()?;
    open(parent.as_fd(), Path::new(name), ResolveFlags::NO_SYMLINKS).ok()
}

/// A path that a link leads into procfs is not one that the specification was checked for.
fn refuse_procfs(fd: BorrowedFd<'_>, path: &Path) -> sys::Result<()> {
    if !is_procfs(fd)? {
        return Ok(());
    }
    named(Err(Errno::PERM), || format!("openat2(rootfs, {path:?}): cannot be mounted because it is inside /proc"))
}

/// Whether a handle is of something in procfs.
pub(super) fn is_procfs(fd: BorrowedFd<'_>) -> sys::Result<bool> {
    let stat = named(rustix::fs::fstatfs(fd), || "fstatfs()".into())?;
    Ok(stat.f_type == PROC_SUPER_MAGIC)
}

/// A handle to `path` in `root`, which is made, with its parents, when missing.
pub(in super::super) fn target(root: BorrowedFd<'_>, path: &Path, directory: bool) -> sys::Result<OwnedFd> {
    target_by(root, relative(path), directory, MAX_LINKS)
}

/// The same for what has to be at that path, and is refused where a link leads elsewhere.
pub(in super::super) fn target_without_links(
    root: BorrowedFd<'_>,
    path: &Path,
    directory: bool,
) -> sys::Result<OwnedFd> {
    find(root, path, Links::Refused, || Ok(directory)).map(|place| place.fd)
}

fn target_by(root: BorrowedFd<'_>, path: &Path, directory: bool, links: usize) -> sys::Result<OwnedFd> {
    let above = path.parent().filter(|p| !p.as_os_str().is_empty());
    let name = path.file_name().unwrap_or(path.as_os_str());
    for _ in 0..MAX_RACES {
        if let Some(found) = existing(root, path)? {
            return Ok(found);
        }
        let parent = match above {
            Some(above) => target_by(root, above, true, links)?,
            None => named(open(root, Path::new("."), ResolveFlags::empty()), || call(Path::new(".")))?,
        };
        match make(parent.as_fd(), name, directory) {
            // Either way the path is looked up again; a parent that is gone is made again.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::EXIST) => {
                // There is a name and nothing behind it: a link without a target, which is made instead. Unless
                // somebody was quicker, and there is something now, or nothing again.
                if let Some(to) = link(parent.as_fd(), name)? {
                    let to = above.unwrap_or(Path::new("")).join(to);
                    let links = links.checked_sub(1).ok_or(Errno::LOOP);
                    let links = named(links, || format!("openat2(rootfs, {path:?}): {MAX_LINKS} links"))?;
                    return target_by(root, relative(&to), directory, links);
                }
            }
            error => named(error, || format!("create {path:?} in the root filesystem"))?,
        }
    }
    named(Err(Errno::AGAIN), || format!("openat2(rootfs, {path:?}): it changed {MAX_RACES} times meanwhile"))
}

fn make(parent: BorrowedFd<'_>, name: &OsStr, directory: bool) -> rustix::io::Result<()> {
    if directory {
        return mkdirat(parent, name, Mode::from_raw_mode(0o755));
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// Where the link `name` leads; `None` if it is none.
fn link(parent: BorrowedFd<'_>, name: &OsStr) -> sys::Result<Option<PathBuf>> {
    match readlinkat(parent, name, Vec::new()) {
        Ok(text) => Ok(Some(OsStr::from_bytes(text.as_bytes()).into())),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => named(Err(error), || format!("readlinkat({name:?})")),
    }
}

/// `path` in `root` by handle, or `None` where there is nothing.
pub(super) fn existing(root: BorrowedFd<'_>, path: &Path) -> sys::Result<Option<OwnedFd>> {
    let path = relative(path);
    match open(root, path, ResolveFlags::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => named(opened, || call(path)).map(Some),
    }
}

fn call(path: &Path) -> String {
    format!("openat2(rootfs, {path:?}, RESOLVE_IN_ROOT)")
}

fn open(root: BorrowedFd<'_>, path: &Path, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | resolve;
    for _ in 0..MAX_RACES {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The path below a root; the root itself is `.`.
pub(super) fn relative(path: &Path) -> &Path {
    let stripped = path.strip_prefix("/").unwrap_or(path);
    if stripped.as_os_str().is_empty() { Path::new(".") } else { stripped }
}

/// The path from the root without `.`, `..` and doubled slashes, as if there were no links.
pub(super) fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Whether a handle is of a directory.
pub(super) fn is_directory(fd: BorrowedFd<'_>) -> sys::Result<bool> {
    let stat = named(rustix::fs::fstat(fd), || "fstat()".into())?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}
