//! The root directory: the container's root filesystem takes the place of the host's, and what of it the
//! specification hides or write-protects.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::handshake::Failed;
use super::mounts;
use super::plan::{Plan, receives};
use super::stage::{Done, End, step};
use crate::sys::mount::{Change, Filesystem};
use crate::sys::{self, named};

/// Cuts the mounts off from the host's and lays the root filesystem over the root directory, where no path of
/// the host is needed to find it. Returns a handle to it.
pub(super) fn enter(plan: &Plan, mount: Option<OwnedFd>) -> Done<OwnedFd> {
    let what = "cut the mounts off from the host's";
    // A tree that is cloned after this has no peers any more; one that wants the host's mounts was cloned before,
    // or is to be their slave.
    let away =
        if receives(plan.propagation) { MountPropagationFlags::DOWNSTREAM } else { MountPropagationFlags::PRIVATE };
    let cut = mount_change("/", away | MountPropagationFlags::REC);
    step(named(cut, || format!("mount(\"/\", {:?} | MS_REC)", away)), what)?;
    let root = match mount {
        Some(mount) => mount,
        None if plan.hosts_wasm => step(empty(), "make an empty root filesystem")?,
        None => step(mounts::clone_tree(&plan.rootfs, true), "make the root filesystem a mount")?,
    };
    if !plan.propagation.contains(MountPropagationFlags::SHARED) {
        let propagation = u64::from((plan.propagation - MountPropagationFlags::REC).bits());
        let cut = Change { propagation, recursive: true, ..Default::default() };
        let cut = sys::mount::change(root.as_fd(), &cut);
        step(cut, "cut the root filesystem off from the host's")?;
    }
    let what = format!("lay the root filesystem {} over the root directory", plan.rootfs.display());
    step(sys::mount::attach(root.as_fd(), Path::new("/")), &what)?;
    Ok(root)
}

/// A root filesystem with nothing in it but the places of mounts, which is write-protected when it has them.
fn empty() -> sys::Result<OwnedFd> {
    let options = vec![("size", Some("64k")), ("mode", Some("755"))];
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    Filesystem { typ: "tmpfs", source: OsStr::new("wherry"), options, attributes }.detached()
}

/// Takes the devpts away that a terminal was made in: who has the terminal has it open.
pub(super) fn forget_terminals() -> Done {
    let gone = unmount("/dev/pts", UnmountFlags::DETACH);
    step(named(gone, || "umount2(\"/dev/pts\", MNT_DETACH)".into()), "take the terminals away")
}

/// Makes the handle `root` the root directory, and lets go of the old one.
pub(super) fn change(root: &OwnedFd, pivot: bool) -> Done {
    if !pivot {
        strip_host()?;
    }
    let changed = rustix::process::fchdir(root);
    let changed = if pivot {
        // With both arguments the same directory, the old root ends up on top of the new one, from where it
        // is detached: no directory of the image is needed for it (pivot_root(2), NOTES).
        changed
            .and_then(|()| rustix::process::pivot_root(".", "."))
            .and_then(|()| unmount(".", UnmountFlags::DETACH))
            .and_then(|()| rustix::process::chdir("/"))
    } else {
        changed.and_then(|()| rustix::process::chroot(".")).and_then(|()| rustix::process::chdir("/"))
    };
    let call = if pivot { "pivot_root(\".\", \".\")" } else { "chroot(\".\")" };
    step(named(changed, || call.into()), "change the root directory")
}

/// Takes away what of the host is mounted, where the root directory cannot be changed but only covered: a process that
/// found a way around the cover would find nothing.
fn strip_host() -> Done {
    let what = "take the host's mounts away";
    let path = "/proc/self/mountinfo";
    let text = step(named(std::fs::read_to_string(path), || format!("read({path:?})")), what)?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| *point != "/");
    let top = points.filter(|point| !point[1..].contains('/') && !point.contains('\\'));
    for point in top {
        match unmount(point, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            error => step(named(error, || format!("umount2({point:?}, MNT_DETACH)")), what)?,
        }
    }
    Ok(())
}

/// A handle to the root directory.
pub(super) fn open_slash() -> Done<OwnedFd> {
    let slash = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    step(named(slash, || "open(\"/\")".into()), "open the root directory")
}

/// Masks and write-protects what the specification names, and the root filesystem itself.
pub(super) fn protect(plan: &Plan, slash: BorrowedFd<'_>) -> Done {
    if !plan.masked.is_empty() {
        let masked = mounts::mask_all(slash, &plan.masked, plan.label.as_deref());
        masked.map_err(|(path, error)| End::Failed(Failed::at(&format!("mask {}", path.display()), &error)))?;
    }
    for path in &plan.readonly {
        step(mounts::make_readonly(slash, path), &format!("write-protect {}", path.display()))?;
    }
    if plan.readonly_root {
        let set = sys::process::set_mount_attributes(slash, 1, 0, false);
        step(set, "write-protect the root filesystem")?;
    }
    let shared = plan.propagation & (MountPropagationFlags::SHARED | MountPropagationFlags::UNBINDABLE);
    if !shared.is_empty() {
        let set = mount_change("/", plan.propagation);
        step(named(set, || format!("mount(\"/\", {:?})", plan.propagation)), "set the root's propagation")?;
    }
    Ok(())
}
