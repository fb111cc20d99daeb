//! A part of a filesystem that is mounted already: bind mounts, and changes of what is there.
//!
//! A bind mount is a *tree*: cloned from its source, given its attributes while nobody sees it, and put in its place.
//! The child does that, in its own mount namespace: what the host's administrator forbids of a mount (nosuid, read-only)
//! is held fast there by the kernel when the container has a user namespace of its own. The parent prepares only what
//! the child cannot do itself:
//!
//! | what | why |
//! |---|---|
//! | a source that other users cannot reach, with a user namespace | the container's root is such an other user |
//! | `slave`, `shared` | the child is cut off from the host's mounts before it makes its own |
//! | the maps of `idmap`; with a user namespace the mount as well | only the host's root may map ids of its filesystems |
//!
//! What the parent clones would be a peer of the host's mount, through which a mount in the container would be one on
//! the host. It stays one only if `shared` was asked for, by a container without a user namespace of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libc::{MOUNT_ATTR_NOATIME, MS_PRIVATE, MS_SHARED, MS_SLAVE};
use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::options::{ATIME, Attributes, Options, Propagation};
use super::target::{self, Links, is_directory, is_procfs, lexical};
use super::{Ids, Step, What};
use crate::sys::idmap::user_namespace;
use crate::sys::mount::{Change, change, clone_handle, clone_tree, put};
use crate::sys::{self, named};

/// Does in the parent what the child could not. See the table above.
pub(super) fn prepare(step: &mut Step) -> sys::Result<()> {
    let What::Bind { source, of_container, recursive } = &step.what else { return Ok(()) };
    if let Some(ids) = &step.ids {
        step.prepared.ids = Some(ids.open()?);
    }
    let connected = step.options.propagation.iter().any(|p| matches!(p.kind, MS_SLAVE | MS_SHARED));
    let mapped_here = step.ids.is_some() && step.apart;
    let out_of_reach = || step.apart && !reachable_by_all(source);
    // What is the container's own is there only when the mounts before it have been made.
    if !of_container && (connected && has_peers(source) || mapped_here || out_of_reach()) {
        let tree = match clone_tree(source, *recursive) {
            // An ordinary user's child has more rights in its user namespace than this process has here.
            Err(error) if error.errno() == Some(Errno::PERM.raw_os_error()) && step.ids.is_none() => return Ok(()),
            tree => tree?,
        };
        propagate(tree.as_fd(), &from_host(&step.options.propagation, step.apart))?;
        dress(step, &tree, step.apart)?;
        step.prepared.tree = Some(tree);
    }
    Ok(())
}

/// Makes the bind mount of `step`.
pub(super) fn make(step: &Step, root: BorrowedFd<'_>) -> sys::Result<()> {
    if let Some(tree) = &step.prepared.tree {
        return place(step, root, tree);
    }
    let tree = open(step, root)?;
    if step.receives && !step.options.propagation.iter().any(|p| matches!(p.kind, MS_SLAVE | MS_SHARED)) {
        change(tree.as_fd(), &Change { propagation: MS_PRIVATE, recursive: true, ..Default::default() })?;
    }
    dress(step, &tree, false)?;
    propagate_private(tree.as_fd(), &step.options.propagation)?;
    place(step, root, &tree)
}

fn open(step: &Step, root: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    match &step.what {
        What::Bind { source, of_container: true, recursive } => {
            let found = target::existing(root, source)?.ok_or(Errno::NOENT);
            let found = named(found, || format!("openat2(rootfs, {source:?}, RESOLVE_IN_ROOT)"))?;
            clone_handle(found.as_fd(), *recursive)
        }
        What::Bind { source, recursive, .. } => clone_tree(source, *recursive),
        _ => named(Err(Errno::INVAL), || "open_tree() of what is no bind mount".into()),
    }
}

fn place(step: &Step, root: BorrowedFd<'_>, tree: &OwnedFd) -> sys::Result<()> {
    if lexical(&step.destination) == Path::new("/proc") && !is_procfs(tree.as_fd())? {
        return named(Err(Errno::PERM), || "fstatfs(source): /proc cannot be mounted because it is not procfs".into());
    }
    let place = target::find(root, &step.destination, step.links(), || is_directory(tree.as_fd()))?;
    put(tree.as_fd(), place.fd.as_fd())
}

/// Gives a tree the attributes and maps that were asked for. With `held`, the attributes that it has are held fast as if
/// the container's user namespace had cloned it.
fn dress(step: &Step, tree: &OwnedFd, held: bool) -> sys::Result<()> {
    if let Some(ids) = &step.prepared.ids {
        let ids = Change { ids: Some(ids.as_fd()), recursive: step.options.id_map == Some(true), ..Default::default() };
        change(tree.as_fd(), &ids)?;
    }
    attributes(tree.as_fd(), &step.options, held)
}

pub(super) fn attributes(tree: BorrowedFd<'_>, options: &Options, held: bool) -> sys::Result<()> {
    if held && options.cleared_by_name() & fast(tree)? != 0 {
        return named(Err(Errno::PERM), || {
            format!("mount_setattr(clear {:#x}), which the source's mount has", options.cleared_by_name())
        });
    }
    let of_mount = if held { options.careful() } else { options.exact() };
    if let Some(wanted) = of_mount {
        match set(tree, wanted, false) {
            // Some attribute of the source is held fast: what was not spoken of stays.
            Err(error) if !held && error.errno() == Some(Errno::PERM.raw_os_error()) => {
                set(tree, options.careful().unwrap_or_default(), false)?;
            }
            done => done?,
        }
    }
    if options.recursive.is_empty() { Ok(()) } else { set(tree, options.recursive, true) }
}

fn set(tree: BorrowedFd<'_>, Attributes { set, clear }: Attributes, recursive: bool) -> sys::Result<()> {
    change(tree, &Change { set, clear, recursive, ..Default::default() })
}

/// The attributes that a mount has, of those that can be held fast.
fn fast(mount: BorrowedFd<'_>) -> sys::Result<u64> {
    let has = named(rustix::fs::fstatvfs(mount), || "fstatfs()".into())?.f_flag;
    let one = |flag, attribute| if has.contains(flag) { attribute } else { 0 };
    Ok(one(StatVfsMountFlags::RDONLY, MOUNT_ATTR_RDONLY)
        | one(StatVfsMountFlags::NOSUID, MOUNT_ATTR_NOSUID)
        | one(StatVfsMountFlags::NODEV, MOUNT_ATTR_NODEV)
        | one(StatVfsMountFlags::NOEXEC, MOUNT_ATTR_NOEXEC)
        | one(StatVfsMountFlags::NOATIME, MOUNT_ATTR_NOATIME)
        | one(StatVfsMountFlags::NODIRATIME, MOUNT_ATTR_NODIRATIME))
}

/// Sets the propagation of a mount that is nobody's peer: private is what it is already.
pub(super) fn propagate_private(mount: BorrowedFd<'_>, wanted: &[Propagation]) -> sys::Result<()> {
    let first = wanted.iter().take_while(|propagation| propagation.kind == MS_PRIVATE).count();
    propagate(mount, &wanted[first..])
}

fn propagate(mount: BorrowedFd<'_>, wanted: &[Propagation]) -> sys::Result<()> {
    wanted.iter().try_for_each(|&Propagation { kind, recursive }| {
        change(mount, &Change { propagation: kind, recursive, ..Default::default() })
    })
}

/// What makes of a peer of the host's mounts what was asked for.
fn from_host(wanted: &[Propagation], apart: bool) -> Vec<Propagation> {
    let has = |kind| wanted.iter().any(|propagation| propagation.kind == kind);
    let first = match (has(MS_SHARED), has(MS_SLAVE)) {
        (true, _) if !apart => None,
        (false, false) => Some(MS_PRIVATE),
        _ => Some(MS_SLAVE),
    };
    let first = first.map(|kind| Propagation { kind, recursive: true });
    first.into_iter().chain(wanted.iter().copied()).collect()
}

/// Whether what is mounted on the host at `source` or below comes to be seen elsewhere, or comes from there. Where it does
/// not, the child's copy is as good, and is made in its turn.
fn has_peers(source: &Path) -> bool {
    let (Ok(real), Ok(table)) = (source.canonicalize(), std::fs::read_to_string("/proc/thread-self/mountinfo")) else {
        return true;
    };
    let flags = rustix::fs::StatxFlags::MNT_ID;
    let at = rustix::fs::statx(rustix::fs::CWD, &real, rustix::fs::AtFlags::empty(), flags).map(|stat| stat.stx_mnt_id);
    let Ok(at) = at else { return true };
    // proc_pid_mountinfo(5): the optional fields say it, which end with a dash.
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').take_while(|field| *field != "-").collect();
        let connected = fields.iter().skip(6).any(|field| field.starts_with("shared:") || field.starts_with("master:"));
        let of_source = fields.first().is_some_and(|id| *id == at.to_string())
            || fields.get(4).is_some_and(|point| Path::new(point).starts_with(&real));
        connected && of_source
    })
}

/// Whether everybody can get to `path`, through all the links on the way. A guess the other way costs only time.
fn reachable_by_all(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else { return true };
    let passable = |dir: &Path| dir.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    real.ancestors().skip(1).all(passable)
}

impl Ids {
    fn open(&self) -> sys::Result<OwnedFd> {
        match self {
            Self::Maps { users, groups } => user_namespace(users, groups),
            Self::Namespace(path) => {
                let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                named(opened, || format!("open({path:?})"))
            }
        }
    }
}

/// Changes what is mounted at the place of `step`: the mount alone, or its filesystem.
pub(super) fn remount(step: &Step, root: BorrowedFd<'_>, mount_only: bool) -> sys::Result<()> {
    let nothing =
        || named(Err(Errno::NOENT), || format!("openat2(rootfs, {:?}), which is to be remounted", step.destination));
    let place = target::find(root, &step.destination, Links::Followed, nothing)?;
    if mount_only {
        attributes(place.fd.as_fd(), &step.options, false)?;
    } else {
        let data = step.options.data.join(",");
        let flags = MountFlags::from_bits_retain(step.options.flags as _);
        let done =
            rustix::process::fchdir(&place.fd).and_then(|()| rustix::mount::mount_remount(".", flags, data.as_str()));
        named(done, || format!("mount({:?}, MS_REMOUNT | {:#x}, {data:?})", step.destination, step.options.flags))?;
    }
    propagate(place.fd.as_fd(), &step.options.propagation)
}

/// The host's sysfs, for a container that may not have one of its own: its user namespace does not own the network
/// namespace that a new one would show. All below it is read-only if it is to be, as the host's cgroups are there.
pub(super) fn host_sysfs(step: &Step, place: BorrowedFd<'_>) -> sys::Result<()> {
    let tree = clone_tree(Path::new("/sys"), true)?;
    change(tree.as_fd(), &Change { propagation: MS_PRIVATE, recursive: true, ..Default::default() })?;
    let wanted = Attributes { set: step.options.attributes() & !ATIME, clear: 0 };
    set(tree.as_fd(), wanted.then(step.options.recursive), true)?;
    put(tree.as_fd(), place)
}

#[cfg(test)]
mod tests {
    use libc::MS_UNBINDABLE;

    use super::*;

    #[test]
    fn only_shared_mounts_of_the_hosts_own_users_stay_peers_of_the_hosts() {
        let one = |kind, recursive| Propagation { kind, recursive };
        for (wanted, apart, expected) in [
            (vec![], false, vec![one(MS_PRIVATE, true)]),
            (vec![one(MS_PRIVATE, false)], true, vec![one(MS_PRIVATE, true), one(MS_PRIVATE, false)]),
            (vec![one(MS_SLAVE, false)], false, vec![one(MS_SLAVE, true), one(MS_SLAVE, false)]),
            (vec![one(MS_SHARED, true)], false, vec![one(MS_SHARED, true)]),
            (vec![one(MS_SHARED, true)], true, vec![one(MS_SLAVE, true), one(MS_SHARED, true)]),
            (vec![one(MS_UNBINDABLE, false)], false, vec![one(MS_PRIVATE, true), one(MS_UNBINDABLE, false)]),
        ] {
            assert_eq!(from_host(&wanted, apart), expected);
        }
    }

    #[test]
    fn a_way_through_a_private_directory_is_not_for_all() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::create_dir(dir.path().join("x")).unwrap();
        assert!(!reachable_by_all(&dir.path().join("x")));
        assert!(reachable_by_all(dir.path()), "what is at the end need not be passed");
        assert!(reachable_by_all(Path::new("/etc/passwd")));
    }
}
