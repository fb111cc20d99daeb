//! Mounts by the new mount API: first *detached*, when one has a handle and no place, then attached. Nobody sees
//! it half-made, and no path is looked up twice. A container's root filesystem is made so ([`Recipe`]), and so are
//! the parts of its mounts: trees that are cloned, changed, and put in their place.
//!
//! Overlay layers are given one by one (`lowerdir+`), not as one comma-and-colon string, so neither the
//! page that mount(2) takes nor a `:` in a name limits them:
//!
//! | kernel | a layer is given by |
//! |---|---|
//! | ≥ 6.13 | handle: `FSCONFIG_SET_FD` |
//! | ≥ 6.5 | `lowerdir+=/proc/self/fd/N`, short however long the real path is |
//! | older | one string of descriptor numbers, mounted from inside /proc/self/fd: about 900 fit a page |
//!
//! The overlay options are explicit, as the kernel's defaults are the distributor's choice:
//! - `redirect_dir=nofollow`, `metacopy=off`: layers come from strangers, and these two make overlay follow
//!   what an extended attribute of a layer says (Documentation/filesystems/overlayfs.rst, "Permission model").
//! - `index=off`: an index in the work directory costs every copy-up and makes a lower directory that two
//!   containers share at different times "stale"; hard links between layers break on copy-up, as with every
//!   other engine.
//! - `userxattr` where the layers' marks are `user.overlay.*`, since a user namespace may not set `trusted.*`.
//! - `xino` is left to the kernel: all layers are on one filesystem, where inode numbers are stable anyway.

#![expect(
    unsafe_code,
    reason = "unshare(2) can take descriptors away from others, mount_setattr(2) has no safe wrapper"
)]

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use serde::{Deserialize, Serialize};

use super::{Error, Result, named};

/// OVL_MAX_STACK of fs/overlayfs/overlayfs.h: the kernel refuses more lower layers than this.
pub const MAX_LOWER: usize = 500;

/// How a root filesystem is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Recipe {
    /// Layers on top of each other.
    Overlay {
        /// The read-only layers, top first, at most [`MAX_LOWER`].
        lower: Vec<PathBuf>,
        /// Where changes go; without it the mount is read-only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upper: Option<PathBuf>,
        /// The kernel's scratch space, on the filesystem of `upper`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        work: Option<PathBuf>,
        /// Whether the layers' marks are `user.overlay.*` rather than `trusted.overlay.*`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        userxattr: bool,
    },
    /// A plain directory.
    Bind {
        /// The directory.
        source: PathBuf,
    },
}

impl Recipe {
    /// Makes the mount, which is nowhere to be seen yet. It lasts as long as the handle, or as where
    /// [`attach`] put it.
    pub fn detached(&self, readonly: bool) -> Result<OwnedFd> {
        match self {
            Self::Bind { source } => bind(source, readonly),
            Self::Overlay { lower, upper, work, userxattr } => {
                let layers = Layers::open(lower, upper.as_deref(), work.as_deref(), *userxattr)?;
                match layers.mount(readonly) {
                    Err(error) if too_old(&error) => layers.mount_classic(readonly),
                    done => done,
                }
            }
        }
    }
}

/// Attaches a detached mount at the directory `at`.
pub fn attach(mount: BorrowedFd<'_>, at: &Path) -> Result<()> {
    named(move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH), || {
        format!("move_mount({}, \"\", AT_FDCWD, {at:?}, MOVE_MOUNT_F_EMPTY_PATH)", mount.as_raw_fd())
    })
}

/// Moves a detached mount onto what `target` refers to.
pub fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    named(move_mount(mount, "", target, "", flags), || {
        format!("move_mount({}, {}, F_EMPTY_PATH | T_EMPTY_PATH)", mount.as_raw_fd(), target.as_raw_fd())
    })
}

/// A detached copy of the mount at `path`, with those below it if `recursive`.
pub fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let tree = open_tree(CWD, path, clone_flags(recursive));
    named(tree, || format!("open_tree({path:?}, OPEN_TREE_CLONE{})", if recursive { " | AT_RECURSIVE" } else { "" }))
}

/// A detached copy of the mount that `of` refers to something in; that becomes the copy's root.
pub fn clone_handle(of: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let tree = open_tree(of, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH);
    named(tree, || format!("open_tree({}, AT_EMPTY_PATH | OPEN_TREE_CLONE)", of.as_raw_fd()))
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// What [`change`] changes of a mount.
#[derive(Clone, Copy, Default)]
pub struct Change<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave the propagation as it is.
    pub propagation: u64,
    /// A user namespace through whose maps the mount shows its owners.
    pub ids: Option<BorrowedFd<'a>>,
    /// Whether the mounts below it are changed as well.
    pub recursive: bool,
}

/// Changes the mount `fd`, attached or not (mount_setattr(2), Linux 5.12).
pub fn change(fd: BorrowedFd<'_>, change: &Change<'_>) -> Result<()> {
    let &Change { set, clear, propagation, ids, recursive } = change;
    let attr = libc::mount_attr {
        attr_set: set | ids.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: clear,
        propagation,
        userns_fd: ids.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path is a valid empty C string, and `attr` is a mount_attr of the size given that outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size) };
    let done = if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
    named(done, || {
        let (depth, ids) = (if recursive { ", AT_RECURSIVE" } else { "" }, if ids.is_some() { ", IDMAP" } else { "" });
        format!("mount_setattr({}, set {set:#x}, clear {clear:#x}, {propagation:#x}{ids}{depth})", fd.as_raw_fd())
    })
}

/// A new filesystem, for [`Filesystem::detached`].
#[derive(Clone, Debug, Default)]
pub struct Filesystem<'a> {
    /// Its type, one of `/proc/filesystems`.
    pub typ: &'a str,
    /// The device, or a name for it.
    pub source: &'a OsStr,
    /// Its options: a value, or a flag.
    pub options: Vec<(&'a str, Option<&'a str>)>,
    /// `MOUNT_ATTR_*` of the mount.
    pub attributes: u64,
}

impl Filesystem<'_> {
    /// Makes it, mounted nowhere yet. A refusal carries the kernel's own words.
    pub fn detached(&self) -> Result<OwnedFd> {
        let typ = self.typ;
        let context = named(fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC), || format!("fsopen({typ:?})"))?;
        let context = context.as_fd();
        if !self.source.is_empty() {
            set_string(context, "source", self.source)?;
        }
        for (key, value) in &self.options {
            match value {
                Some(value) => set_string(context, key, OsStr::new(value))?,
                None => fsconfig_set_flag(context, *key)
                    .map_err(|errno| explained(context, errno, &format!("fsconfig({typ}, SET_FLAG, {key:?})")))?,
            }
        }
        if let Err(errno) = fsconfig_create(context) {
            return Err(explained(context, errno, &format!("fsconfig({typ}, CMD_CREATE)")));
        }
        let attributes = MountAttrFlags::from_bits_retain(self.attributes as _);
        let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        mount.map_err(|errno| explained(context, errno, &format!("fsmount({typ}, {:#x})", self.attributes)))
    }
}

fn bind(source: &Path, readonly: bool) -> Result<OwnedFd> {
    let tree = clone_tree(source, false)?;
    if readonly {
        super::process::set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
    }
    Ok(tree)
}

/// Whether the kernel does not know `lowerdir+`, or has no fsopen(2).
fn too_old(error: &Error) -> bool {
    let unknown = error.errno() == Some(Errno::INVAL.raw_os_error()) && error.call.contains("lowerdir+");
    unknown || error.errno() == Some(Errno::NOSYS.raw_os_error())
}

/// The directories of an overlay, open.
struct Layers {
    lower: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
    userxattr: bool,
    /// What an old kernel covers for a moment. By path: a descriptor leads below what is mounted on it.
    cover: PathBuf,
}

impl Layers {
    fn open(lower: &[PathBuf], upper: Option<&Path>, work: Option<&Path>, userxattr: bool) -> Result<Self> {
        if lower.len() > MAX_LOWER {
            return named(Err(Errno::INVAL), || {
                format!("fsconfig(overlay, {} × lowerdir+; the kernel's limit is {MAX_LOWER})", lower.len())
            });
        }
        let cover = upper.or(lower.first().map(PathBuf::as_path)).unwrap_or(Path::new("/"));
        let cover = named(std::path::absolute(cover), || "getcwd()".into())?;
        let lower = lower.iter().map(|path| open_path(path)).collect::<Result<_>>()?;
        let upper = match (upper, work) {
            (Some(upper), Some(work)) => Some((open_path(upper)?, open_path(work)?)),
            _ => None,
        };
        Ok(Self { lower, upper, userxattr, cover })
    }

    fn mount(&self, readonly: bool) -> Result<OwnedFd> {
        let context = named(fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC), || "fsopen(\"overlay\")".into())?;
        let context = context.as_fd();
        for (key, value) in self.options() {
            match value {
                Some(value) => set_string(context, key, OsStr::new(value))?,
                None => named(fsconfig_set_flag(context, key), || format!("fsconfig(SET_FLAG, {key:?})"))?,
            }
        }
        for layer in &self.lower {
            set_dir(context, "lowerdir+", layer.as_fd())?;
        }
        if let Some((upper, work)) = &self.upper {
            set_dir(context, "upperdir", upper.as_fd())?;
            set_dir(context, "workdir", work.as_fd())?;
        }
        if let Err(errno) = fsconfig_create(context) {
            return Err(explained(context, errno, "fsconfig(overlay, CMD_CREATE)"));
        }
        let attributes = if readonly { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        named(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes), || "fsmount(overlay)".into())
    }

    fn options(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        let user = self.userxattr.then_some(("userxattr", None));
        let fixed = [("redirect_dir", Some("nofollow")), ("metacopy", Some("off")), ("index", Some("off"))];
        // The source is what /proc/self/mountinfo shows in front of the options.
        [("source", Some("overlay"))].into_iter().chain(fixed).chain(user)
    }

    /// For kernels before 6.5. mount(2) attaches at once, so the mount covers a directory of its own for
    /// a moment, in the mount namespace of the caller, and is cloned and taken away again.
    ///
    /// A thread with a working directory of its own does it: descriptor numbers are the shortest names
    /// that a layer has, and looking them up needs /proc/self/fd as working directory.
    fn mount_classic(&self, readonly: bool) -> Result<OwnedFd> {
        std::thread::scope(|scope| {
            let mounted = scope.spawn(|| {
                unshare_working_directory()?;
                named(rustix::process::chdir("/proc/thread-self/fd"), || "chdir(\"/proc/thread-self/fd\")".into())?;
                self.mount_from_fd_directory(readonly)
            });
            mounted.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn mount_from_fd_directory(&self, readonly: bool) -> Result<OwnedFd> {
        let numbers: Vec<String> = self.lower.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let mut data = format!("lowerdir={}", numbers.join(":"));
        if let Some((upper, work)) = &self.upper {
            data += &format!(",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd());
        }
        for (key, value) in self.options().filter(|(key, _)| *key != "source") {
            data += &value.map_or(format!(",{key}"), |value| format!(",{key}={value}"));
        }
        let (cover, flags) = (&self.cover, if readonly { MountFlags::RDONLY } else { MountFlags::empty() });
        let options = std::ffi::CString::new(data.clone()).expect("made of digits and option names");
        named(rustix::mount::mount("overlay", cover, "overlay", flags, Some(options.as_c_str())), || {
            format!("mount(\"overlay\", {cover:?}, \"overlay\", {data:?})")
        })?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = named(open_tree(CWD, cover, clone), || format!("open_tree({cover:?}, OPEN_TREE_CLONE)"));
        named(rustix::mount::unmount(cover, UnmountFlags::DETACH), || format!("umount2({cover:?}, MNT_DETACH)"))?;
        tree
    }
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    named(rustix::fs::open(path, flags, Mode::empty()), || format!("open({path:?}, O_PATH | O_DIRECTORY)"))
}

fn set_string(context: BorrowedFd<'_>, key: &str, value: &OsStr) -> Result<()> {
    fsconfig_set_string(context, key, value)
        .map_err(|errno| explained(context, errno, &format!("fsconfig(SET_STRING, {key:?}, {value:?})")))
}

fn set_dir(context: BorrowedFd<'_>, key: &str, dir: BorrowedFd<'_>) -> Result<()> {
    match fsconfig_set_fd(context, key, dir) {
        // Before 6.13 these keys take strings only.
        Err(Errno::INVAL) => set_string(context, key, OsStr::new(&format!("/proc/self/fd/{}", dir.as_raw_fd()))),
        other => named(other, || format!("fsconfig(SET_FD, {key:?}, {})", dir.as_raw_fd())),
    }
}

/// The kernel's own words about a failed step; they can be read from the context.
fn explained(context: BorrowedFd<'_>, errno: Errno, call: &str) -> Error {
    let mut buffer = [0; 1024];
    let words = match rustix::io::read(context, &mut buffer) {
        Ok(length) => String::from_utf8_lossy(&buffer[..length]).trim().to_owned(),
        Err(_) => String::new(), // no words is the ordinary case
    };
    let call = if words.is_empty() { call.to_owned() } else { format!("{call} [{words}]") };
    Error { call, source: errno.into() }
}

/// Gives the calling thread a working directory of its own.
fn unshare_working_directory() -> Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: only CLONE_FS is given; the descriptor table, on which I/O safety rests, stays shared.
    let done = unsafe { unshare_unsafe(UnshareFlags::FS) };
    named(done, || "unshare(CLONE_FS)".into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    use super::*;

    /// Runs in a mount namespace of its own.
    fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        let in_thread = || {
            // SAFETY: the descriptor table stays shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            run()
        };
        std::thread::scope(|scope| scope.spawn(in_thread).join().unwrap())
    }

    fn dirs(root: &Path, names: &[&str]) -> Vec<PathBuf> {
        let make = |name: &&str| {
            let path = root.join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(name), "").unwrap();
            path
        };
        names.iter().map(make).collect()
    }

    fn names(mount: &OwnedFd) -> Vec<String> {
        let path = format!("/proc/self/fd/{}/.", mount.as_raw_fd());
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn kernels_without_lowerdir_plus_mount_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let lower = dirs(dir.path(), &["a", "b", "c"]);
        let upper = dirs(dir.path(), &["upper", "work"]);
        fs::remove_file(upper[1].join("work")).unwrap();
        apart(|| {
            let layers = Layers::open(&lower, Some(&upper[0]), Some(&upper[1]), false).unwrap();
            let mount = layers.mount_classic(false).unwrap();
            assert_eq!(names(&mount), ["a", "b", "c", "upper"]);
            let at = format!("/proc/self/fd/{}/new", mount.as_raw_fd());
            fs::write(at, "").unwrap();
        });
        assert!(upper[0].join("new").is_file(), "the write did not go to the upper directory");
    }

    #[test]
    fn kernels_without_lowerdir_plus_take_many_layers_of_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let numbered: Vec<String> = (0..400).map(|n| format!("{n:0>200}:,")).collect();
        let lower = dirs(dir.path(), &numbered.iter().map(String::as_str).collect::<Vec<_>>());
        apart(|| {
            let layers = Layers::open(&lower, None, None, false).unwrap();
            assert_eq!(names(&layers.mount_classic(true).unwrap()).len(), 400);
        });
    }

    #[test]
    fn an_attached_mount_is_seen_at_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let made = dirs(dir.path(), &["source", "target"]);
        apart(|| {
            let mount = Recipe::Bind { source: made[0].clone() }.detached(true).unwrap();
            attach(mount.as_fd(), &made[1]).unwrap();
            assert!(made[1].join("source").is_file());
            assert!(fs::write(made[1].join("x"), "").is_err(), "the mount is read-only");
        });
    }
}
