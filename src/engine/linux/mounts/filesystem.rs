//! A new filesystem, at its place.
//!
//! mount(2) makes one in a single call that takes all options at once and sorts flags of the mount from those of the
//! filesystem. The new API needs a call for each option and a handle more, half as much time again. So the place is
//! entered by its handle and the filesystem mounted over `.`, which is as free of paths. What a mount needs beyond that
//! (filled before it is seen, changed afterwards) is made detached; so is one that mount(2) refuses, because only then
//! does the kernel say why.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libc::{MOUNT_ATTR_RDONLY, MS_DIRSYNC, MS_LAZYTIME, MS_MANDLOCK, MS_PRIVATE, MS_RDONLY, MS_SYNCHRONOUS};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::target::{self, Place, lexical};
use super::{Seal, Step, bind, copy_up};
use crate::sys::mount::{Change, Filesystem, change, put};
use crate::sys::{self, named};

/// The flags of a superblock, as fsconfig(2) calls them. `iversion` and `silent` are not among them: with the new API the
/// first is the filesystem's own decision, and messages go to who asks for them.
const SUPERBLOCK: [(u64, &str); 5] = [
    (MS_RDONLY, "ro"),
    (MS_SYNCHRONOUS, "sync"),
    (MS_DIRSYNC, "dirsync"),
    (MS_LAZYTIME, "lazytime"),
    (MS_MANDLOCK, "mand"),
];

/// Makes the filesystem of `step`.
pub(super) fn make(step: &Step, root: BorrowedFd<'_>, typ: &str, source: &str) -> sys::Result<Option<Seal>> {
    let place = target::find(root, &step.destination, step.links(), || Ok(true))?;
    let filesystem = New::of(step, typ, source, &place)?;
    if filesystem.is_plain(step) && filesystem.mount_here(place.fd.as_fd()).is_ok() {
        return Ok(None);
    }
    let mount = match filesystem.detached() {
        Err(error) if typ == "sysfs" && is_permission(&error) && in_user_namespace() => {
            return bind::host_sysfs(step, place.fd.as_fd()).map(|()| None);
        }
        mount => mount?,
    };
    filesystem.finish(step, &mount, &place)?;
    put(mount.as_fd(), place.fd.as_fd())?;
    Ok(filesystem.sealed_later.then_some(Seal(mount)))
}

/// A filesystem that is to be.
struct New<'a> {
    typ: &'a str,
    source: &'a str,
    /// `MS_*`
    flags: u64,
    attributes: u64,
    data: Vec<String>,
    /// Whether it becomes read-only when it has been filled: by us, or with the places of further mounts.
    sealed_later: bool,
}

impl<'a> New<'a> {
    fn of(step: &Step, typ: &'a str, source: &'a str, place: &Place) -> sys::Result<Self> {
        let options = &step.options;
        let readonly = options.attributes() & MOUNT_ATTR_RDONLY != 0 || options.recursive.set & MOUNT_ATTR_RDONLY != 0;
        let sealed_later = readonly && (typ == "tmpfs" || lexical(&step.destination) == Path::new("/dev"));
        let mut new = Self {
            typ,
            source,
            flags: options.flags,
            attributes: options.attributes(),
            data: options.data.clone(),
            sealed_later,
        };
        if sealed_later {
            new.flags &= !MS_RDONLY;
            new.attributes &= !MOUNT_ATTR_RDONLY;
        }
        if typ == "tmpfs" && !place.made && !new.data.iter().any(|option| option.starts_with("mode=")) {
            // It looks like what it covers.
            let covered = named(rustix::fs::fstat(&place.fd), || "fstat()".into())?;
            new.data.push(format!("mode={:o}", covered.st_mode & 0o7777));
        }
        if let Some(label) = step.label.as_ref().filter(|_| typ != "mqueue") {
            new.data.push(format!("context={label}"));
        }
        Ok(new)
    }

    /// Whether mount(2) does all that is wanted.
    fn is_plain(&self, step: &Step) -> bool {
        let Step { options, label, .. } = step;
        let private = options.propagation.iter().all(|propagation| propagation.kind == MS_PRIVATE);
        let labelled_later = self.typ == "mqueue" && label.is_some();
        options.recursive.is_empty() && private && !self.sealed_later && !options.copy_up && !labelled_later
    }

    /// Mounts it over the directory `place`.
    fn mount_here(&self, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
        // A comma ends an option but for quotes, and a label has commas.
        let quoted = self.data.iter().map(|option| match option.strip_prefix("context=") {
            Some(label) => format!("context=\"{label}\""),
            None => option.clone(),
        });
        let data = CString::new(quoted.collect::<Vec<_>>().join(",")).map_err(|_| Errno::INVAL)?;
        let data = Some(data.as_c_str()).filter(|data| !data.is_empty());
        rustix::process::fchdir(place)?;
        rustix::mount::mount(self.source, ".", self.typ, MountFlags::from_bits_retain(self.flags as _), data)
    }

    fn detached(&self) -> sys::Result<OwnedFd> {
        let superblock = SUPERBLOCK.iter().filter(|(flag, _)| self.flags & flag != 0).map(|(_, name)| (*name, None));
        let data = self.data.iter().map(|option| match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        });
        let options = superblock.chain(data).collect();
        Filesystem { typ: self.typ, source: OsStr::new(self.source), options, attributes: self.attributes }.detached()
    }

    /// What is done to it before it is seen.
    fn finish(&self, step: &Step, mount: &OwnedFd, place: &Place) -> sys::Result<()> {
        let options = &step.options;
        if options.copy_up && !place.made {
            copy_up::fill(mount, &place.fd)?;
        }
        if let Some(label) = step.label.as_ref().filter(|_| self.typ == "mqueue") {
            let root = sys::dir::Dir::from_mount(named(mount.try_clone(), || "dup()".into())?)?;
            root.set_own_xattr(c"security.selinux", label.as_bytes())?;
        }
        let mut recursive = options.recursive;
        if self.sealed_later {
            recursive.set &= !MOUNT_ATTR_RDONLY;
        }
        if !recursive.is_empty() {
            let (set, clear) = (recursive.set, recursive.clear);
            change(mount.as_fd(), &Change { set, clear, recursive: true, ..Default::default() })?;
        }
        bind::propagate_private(mount.as_fd(), &options.propagation)
    }
}

fn is_permission(error: &sys::Error) -> bool {
    error.errno() == Some(Errno::PERM.raw_os_error())
}

/// Whether this process is in a user namespace other than the machine's. No other maps all ids to themselves.
pub(super) fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}
