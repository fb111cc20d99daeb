//! Hiding and write-protecting what the container must not read or change, mostly in `/proc` and `/sys`.
//!
//! A path is looked up once, and what was found there is covered by its handle: nothing that changes meanwhile makes
//! the cover go elsewhere. A file is covered by the container's null device, which has to be it (CVE-2025-31133); all
//! directories by clones of one empty filesystem, because a clone costs half of a new one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::target::{existing, is_directory};
use crate::sys::mount::{Change, Filesystem, change, clone_handle, put};
use crate::sys::{self, named};

/// Hides each of `paths` that `root` has. The directories' cover gets the SELinux label `label`.
pub(in super::super) fn mask_all(
    root: BorrowedFd<'_>,
    paths: &[PathBuf],
    label: Option<&str>,
) -> Result<(), (PathBuf, sys::Error)> {
    let mut covers = Covers { root, label, null: None, empty: None };
    // Two covers of one path hide it no better than one.
    let first = |&(at, path): &(usize, &PathBuf)| !paths[..at].contains(path);
    let mut paths = paths.iter().enumerate().filter(first);
    paths.try_for_each(|(_, path)| covers.hide(path).map_err(|error| (path.clone(), error)))
}

/// What covers are made of.
struct Covers<'a> {
    root: BorrowedFd<'a>,
    label: Option<&'a str>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Covers<'_> {
    fn hide(&mut self, path: &Path) -> sys::Result<()> {
        let Some(place) = existing(self.root, path)? else { return Ok(()) };
        if !is_directory(place.as_fd())? {
            return put(clone_handle(self.null()?, false)?.as_fd(), place.as_fd());
        }
        if let Some(empty) = &self.empty {
            return put(clone_handle(empty.as_fd(), false)?.as_fd(), place.as_fd());
        }
        // Before Linux 6.15 only what is attached can be cloned, so the first is used itself.
        let empty = empty(self.label)?;
        put(empty.as_fd(), place.as_fd())?;
        self.empty = Some(empty);
        Ok(())
    }

    fn null(&mut self) -> sys::Result<BorrowedFd<'_>> {
        if self.null.is_none() {
            let found = existing(self.root, Path::new("/dev/null"))?.ok_or(Errno::NOENT);
            let found = named(found, || "openat2(rootfs, \"dev/null\")".into())?;
            check_null(found.as_fd())?;
            self.null = Some(found);
        }
        Ok(self.null.as_ref().expect("it was just found").as_fd())
    }
}

/// An empty, read-only filesystem.
fn empty(label: Option<&str>) -> sys::Result<OwnedFd> {
    let label = label.map(|label| ("context", Some(label)));
    // Its root is its only inode, so that nobody who might make it writable could fill it.
    let options = [("nr_inodes", Some("1"))].into_iter().chain(label).collect();
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    Filesystem { typ: "tmpfs", source: "tmpfs".as_ref(), options, attributes }.detached()
}

/// A mask made of anything else would be no mask (CVE-2025-31133).
fn check_null(null: BorrowedFd<'_>) -> sys::Result<()> {
    let stat = named(rustix::fs::fstat(null), || "fstat(\"/dev/null\")".into())?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(()) } else { named(Err(Errno::NODEV), || "fstat(\"/dev/null\"), which is another file".into()) }
}

/// Makes `path`, if `root` has it, and all that is mounted below it something that cannot be written.
pub(in super::super) fn make_readonly(root: BorrowedFd<'_>, path: &Path) -> sys::Result<()> {
    let Some(place) = existing(root, path)? else { return Ok(()) };
    let tree = clone_handle(place.as_fd(), true)?;
    change(tree.as_fd(), &Change { set: MOUNT_ATTR_RDONLY, recursive: true, ..Default::default() })?;
    put(tree.as_fd(), place.as_fd())
}
