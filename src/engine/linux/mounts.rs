//! The container's mounts: parsed from the specification beforehand, made through handles.
//!
//! Each is made detached by the new mount API, its target is looked up *in* the root filesystem
//! (openat2 with RESOLVE_IN_ROOT, so that no symlink of the image leads out of it), and the one is moved
//! onto the other by their two handles: between the look-up and the mount there is no path to swap
//! (CVE-2021-30465, CVE-2023-27561, CVE-2026-41579).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::Error;
use crate::oci::runtime::Mount;
use crate::sys::process::set_mount_attributes;
use crate::sys::{self, named};

/// One mount of the specification, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub destination: PathBuf,
    pub what: What,
    pub set: u64,
    pub clear: u64,
    pub recursive_attributes: bool,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A new filesystem of a type, with its options.
    Filesystem { typ: String, source: String, options: Vec<(String, Option<String>)> },
    /// A part of the host's filesystem.
    Bind { source: PathBuf, recursive: bool },
    /// The container's view of its cgroup, whatever version the host has.
    Cgroup,
}

// linux/mount.h: MOUNT_ATTR_*
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const ATIME: u64 = 0x70;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

impl Step {
    pub fn parse(mount: &Mount) -> Result<Self, Error> {
        let mut step = Self {
            destination: mount.destination().clone(),
            what: What::Cgroup,
            set: 0,
            clear: 0,
            recursive_attributes: false,
        };
        let mut options = Vec::new();
        let mut bind = None;
        for option in mount.options().iter().flatten() {
            if !step.attribute(option) {
                match option.as_str() {
                    "bind" => bind = bind.or(Some(false)),
                    "rbind" => bind = Some(true),
                    // The container's mount namespace is private to begin with; so is what is cloned into it.
                    "private" | "rprivate" | "defaults" | "async" => {}
                    "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" | "idmap" | "ridmap"
                    | "tmpcopyup" | "remount" => {
                        let problem =
                            format!("option {option:?} of {:?} is not offered by this version", step.destination);
                        return Err(Error::Unsupported { field: "mounts", problem });
                    }
                    _ => options.push(match option.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                        None => (option.clone(), None),
                    }),
                }
            }
        }
        let source = mount.source().clone().unwrap_or_default();
        let typ = mount.typ().clone().unwrap_or_else(|| "bind".into());
        step.what = match (typ.as_str(), bind) {
            ("cgroup" | "cgroup2", None) => What::Cgroup,
            ("bind" | "none", bind) => What::Bind { source, recursive: bind.unwrap_or(true) },
            (_, Some(recursive)) => What::Bind { source, recursive },
            (_, None) => What::Filesystem { typ, source: source.to_string_lossy().into_owned(), options },
        };
        step.recursive_attributes = matches!(step.what, What::Bind { recursive: true, .. });
        Ok(step)
    }

    /// Takes an option that is an attribute of the mount; false when it is none.
    fn attribute(&mut self, option: &str) -> bool {
        let (set, clear) = match option
            .strip_prefix('r')
            .filter(|o| matches!(*o, "ro" | "rw" | "nosuid" | "nodev" | "noexec"))
            .unwrap_or(option)
        {
            "ro" => (RDONLY, 0),
            "rw" => (0, RDONLY),
            "nosuid" => (NOSUID, 0),
            "suid" => (0, NOSUID),
            "nodev" => (NODEV, 0),
            "dev" => (0, NODEV),
            "noexec" => (NOEXEC, 0),
            "exec" => (0, NOEXEC),
            "noatime" => (NOATIME, ATIME),
            "relatime" => (0, ATIME),
            "strictatime" => (STRICTATIME, ATIME),
            "nodiratime" => (NODIRATIME, 0),
            "diratime" => (0, NODIRATIME),
            "nosymfollow" => (NOSYMFOLLOW, 0),
            "symfollow" => (0, NOSYMFOLLOW),
            _ => return false,
        };
        self.set = self.set & !clear | set;
        self.clear = self.clear & !set | clear;
        true
    }

    /// Makes the mount in the root filesystem `root`.
    pub fn make(&self, root: BorrowedFd<'_>) -> sys::Result<()> {
        match &self.what {
            What::Cgroup => self.make_cgroup(root),
            What::Bind { source, recursive } => {
                let tree = clone_tree(source, *recursive)?;
                let is_directory = is_directory(tree.as_fd())?;
                set_mount_attributes(tree.as_fd(), self.set, self.clear, self.recursive_attributes)?;
                put(tree.as_fd(), target(root, &self.destination, is_directory)?.as_fd())
            }
            What::Filesystem { typ, source, options } => {
                let mount = filesystem(typ, source, options)?;
                set_mount_attributes(mount.as_fd(), self.set, self.clear, false)?;
                put(mount.as_fd(), self.kernel_target(root)?.as_fd())
            }
        }
    }

    /// The target of a filesystem of the kernel. An image must not be able to choose it by a symlink,
    /// even one that stays inside: `/proc` has to be procfs (CVE-2019-16884).
    fn kernel_target(&self, root: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
        let target = target(root, &self.destination, true)?;
        let relative = relative(&self.destination);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let strict = openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
        named(strict, || format!("openat2(rootfs, {relative:?}, RESOLVE_NO_SYMLINKS)"))?;
        Ok(target)
    }

    /// One cgroup2 mount, or with v1 one mount a hierarchy under a small tmpfs. The cgroup namespace
    /// makes the container's own group the root of each.
    fn make_cgroup(&self, root: BorrowedFd<'_>) -> sys::Result<()> {
        let groups = named(std::fs::read_to_string("/proc/self/cgroup"), || "read(\"/proc/self/cgroup\")".into())?;
        let hierarchies: Vec<&str> =
            groups.lines().filter_map(|l| l.split(':').nth(1)).filter(|c| !c.is_empty()).collect();
        if hierarchies.is_empty() {
            let mount = filesystem("cgroup2", "cgroup", &[])?;
            set_mount_attributes(mount.as_fd(), self.set, self.clear, false)?;
            return put(mount.as_fd(), self.kernel_target(root)?.as_fd());
        }
        let tmpfs = filesystem("tmpfs", "cgroup", &[("mode".into(), Some("755".into()))])?;
        let place = self.kernel_target(root)?;
        put(tmpfs.as_fd(), place.as_fd())?;
        for controllers in hierarchies {
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            let options: Vec<_> = match controllers.strip_prefix("name=") {
                Some(name) => vec![("none".to_owned(), None), ("name".to_owned(), Some(name.to_owned()))],
                None => controllers.split(',').map(|c| (c.to_owned(), None)).collect(),
            };
            let mount = filesystem("cgroup", "cgroup", &options)?;
            set_mount_attributes(mount.as_fd(), self.set, self.clear, false)?;
            put(mount.as_fd(), target(tmpfs.as_fd(), Path::new(name), true)?.as_fd())?;
            for alias in controllers.split(',').filter(|c| *c != name && !controllers.starts_with("name=")) {
                let made = rustix::fs::symlinkat(name, &tmpfs, alias);
                named(made, || format!("symlinkat({name:?}, {alias:?})"))?;
            }
        }
        set_mount_attributes(tmpfs.as_fd(), self.set, self.clear, false)
    }
}

/// A new filesystem, mounted nowhere yet.
fn filesystem(typ: &str, source: &str, options: &[(String, Option<String>)]) -> sys::Result<OwnedFd> {
    let context = named(fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC), || format!("fsopen({typ:?})"))?;
    if !source.is_empty() {
        named(fsconfig_set_string(context.as_fd(), "source", source), || format!("fsconfig(source={source:?})"))?;
    }
    for (key, value) in options {
        let set = match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context.as_fd(), key.as_str()),
        };
        named(set, || format!("fsconfig({typ}: {key}={value:?})"))?;
    }
    named(fsconfig_create(context.as_fd()), || format!("fsconfig({typ}, FSCONFIG_CMD_CREATE)"))?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    named(mount, || format!("fsmount({typ})"))
}

/// A detached copy of the mount at `source`.
pub(super) fn clone_tree(source: &Path, recursive: bool) -> sys::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
    named(open_tree(CWD, source, flags), || format!("open_tree({source:?}, OPEN_TREE_CLONE)"))
}

/// Moves a detached mount onto what `target` refers to.
pub(super) fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> sys::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    named(move_mount(mount, "", target, "", flags), || "move_mount(F_EMPTY_PATH | T_EMPTY_PATH)".into())
}

/// Makes `path`, that `root` holds and that may be written, something that may not be.
pub(super) fn make_readonly(root: BorrowedFd<'_>, path: &Path) -> sys::Result<()> {
    let Some(place) = existing(root, path)? else { return Ok(()) };
    let tree = clone_handle(place.as_fd(), true)?;
    set_mount_attributes(tree.as_fd(), RDONLY, 0, true)?;
    put(tree.as_fd(), place.as_fd())
}

/// Hides `path`: a file behind the container's null device `null`, a directory behind an empty one.
pub(super) fn mask(root: BorrowedFd<'_>, path: &Path, null: BorrowedFd<'_>) -> sys::Result<()> {
    let Some(place) = existing(root, path)? else { return Ok(()) };
    let cover = if is_directory(place.as_fd())? {
        let empty =
            filesystem("tmpfs", "tmpfs", &[("size".into(), Some("0".into())), ("mode".into(), Some("555".into()))])?;
        set_mount_attributes(empty.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, 0, false)?;
        empty
    } else {
        clone_handle(null, false)?
    };
    put(cover.as_fd(), place.as_fd())
}

fn clone_handle(of: BorrowedFd<'_>, recursive: bool) -> sys::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let flags = if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
    named(open_tree(of, "", flags), || "open_tree(\"\", OPEN_TREE_CLONE)".into())
}

/// `path` in `root` by handle, or `None` where this kernel has no such thing.
fn existing(root: BorrowedFd<'_>, path: &Path) -> sys::Result<Option<OwnedFd>> {
    match in_root(root, relative(path), OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path below a root; the root itself is `.`.
fn relative(path: &Path) -> &Path {
    let stripped = path.strip_prefix("/").unwrap_or(path);
    if stripped.as_os_str().is_empty() { Path::new(".") } else { stripped }
}

pub(super) fn is_directory(fd: BorrowedFd<'_>) -> sys::Result<bool> {
    let stat = named(rustix::fs::fstat(fd), || "fstat()".into())?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> sys::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    named(opened, || format!("openat2(rootfs, {path:?}, RESOLVE_IN_ROOT)"))
}

/// The most symbolic links without a target that are followed to make one: the kernel's own limit for links.
const MAX_LINKS: usize = 40;

/// A handle to `path` in `root`, which is made, with its parents, when missing.
pub(super) fn target(root: BorrowedFd<'_>, path: &Path, directory: bool) -> sys::Result<OwnedFd> {
    target_by(root, relative(path), directory, MAX_LINKS)
}

fn target_by(root: BorrowedFd<'_>, path: &Path, directory: bool, links: usize) -> sys::Result<OwnedFd> {
    if let Some(found) = existing(root, path)? {
        return Ok(found);
    }
    let above = path.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = match above {
        Some(above) => target_by(root, above, true, links)?,
        None => in_root(root, Path::new("."), OFlags::PATH)?,
    };
    let name = path.file_name().unwrap_or(path.as_os_str());
    let made = if directory {
        mkdirat(&parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Ok(()) => in_root(root, path, OFlags::PATH),
        // There is a name and nothing behind it: a dangling link, whose target is made instead.
        Err(Errno::EXIST) if links > 0 => {
            let link = named(readlinkat(&parent, name, Vec::new()), || format!("readlinkat({path:?})"))?;
            let link = Path::new(OsStr::from_bytes(link.as_bytes()));
            let to = above.unwrap_or(Path::new(".")).join(link);
            target_by(root, relative(&to), directory, links - 1)
        }
        Err(error) => named(Err(error), || format!("create {path:?} in the root filesystem")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime::MountBuilder;

    fn step(typ: &str, options: &[&str]) -> Result<Step, Error> {
        let options: Vec<String> = options.iter().map(|&o| o.into()).collect();
        Step::parse(&MountBuilder::default().destination("/x").typ(typ).source("s").options(options).build().unwrap())
    }

    #[test]
    fn the_last_of_two_opposite_options_wins() {
        let step = step("tmpfs", &["ro", "nosuid", "rw", "size=1k"]).unwrap();
        assert_eq!((step.set, step.clear), (NOSUID, RDONLY));
        let options = vec![("size".to_owned(), Some("1k".to_owned()))];
        assert_eq!(step.what, What::Filesystem { typ: "tmpfs".into(), source: "s".into(), options });
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        let error = step("bind", &["rbind", "rshared"]).unwrap_err().to_string();
        assert!(error.contains("rshared"), "{error}");
    }

    #[test]
    fn targets_never_leave_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let handle = std::fs::File::open(root.path()).unwrap();
        target(handle.as_fd(), Path::new("/link/made"), true).unwrap();
        let inside = root.path().join(outside.path().strip_prefix("/").unwrap());
        assert!(inside.join("made").is_dir(), "an absolute link leads to the same path in the root");
        target(handle.as_fd(), Path::new("/../../made/deep"), true).unwrap();
        assert!(root.path().join("made/deep").is_dir());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
