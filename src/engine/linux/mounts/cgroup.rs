//! The container's view of its cgroups.
//!
//! | host | with a cgroup namespace | without |
//! |---|---|---|
//! | v2 | a new cgroup2, whose root is the container's group | a new cgroup2; where that may not be made, the host's |
//! | v1, hybrid | a small tmpfs with a new cgroup mount for each hierarchy | the same with the container's own group of each |
//!
//! The container is in its cgroup, and in its namespace, when this is made: what `/proc/self/cgroup` says is its own.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{MOUNT_ATTR_RDONLY, MS_NODEV, MS_NOEXEC, MS_NOSUID};
use rustix::fs::{Mode, mkdirat, symlinkat};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::target;
use super::{Step, bind};
use crate::sys::mount::{Change, Filesystem, change, clone_tree, put};
use crate::sys::{self, named};

/// Where every host has its cgroups.
const HOST: &str = "/sys/fs/cgroup";

/// One v1 hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// What the kernel calls it when it is mounted: `cpu,cpuacct`, `name=systemd`.
    controllers: String,
    /// Its directory below `/sys/fs/cgroup`.
    name: String,
    /// The directory of the container's group on the host.
    own: Option<PathBuf>,
}

/// Makes the cgroup mount of `step`.
pub(super) fn make(step: &Step, root: BorrowedFd<'_>) -> sys::Result<()> {
    let read = |path: &str| named(std::fs::read_to_string(path), || format!("read({path:?})"));
    let place = target::find(root, &step.destination, step.links(), || Ok(true))?;
    // What the host uses is what it has mounted, which until the root is changed is still to be seen.
    if rustix::fs::statfs(HOST).is_ok_and(|there| there.f_type as u64 == libc::CGROUP2_SUPER_MAGIC as u64) {
        return unified(step, place.fd.as_fd());
    }
    let groups = read("/proc/self/cgroup")?;
    if groups.lines().all(|line| line.starts_with("0::")) {
        return unified(step, place.fd.as_fd());
    }
    // The host's mounts are where the container's groups are, and what the hierarchies are called. With a namespace only
    // the names are missing, for which a table that can have thousands of lines is too much to read.
    let mountinfo = if step.cgroup_namespace { String::new() } else { read("/proc/self/mountinfo")? };
    legacy(step, place.fd.as_fd(), &hierarchies(&groups, &mountinfo))
}

pub(super) fn unified(step: &Step, place: BorrowedFd<'_>) -> sys::Result<()> {
    let flags = MountFlags::from_bits_retain(step.options.flags as _);
    let made =
        rustix::process::fchdir(place).and_then(|()| rustix::mount::mount("cgroup", ".", "cgroup2", flags, None));
    match made {
        // The user namespace does not own the cgroup namespace, or the very same is there already.
        Err(Errno::PERM | Errno::BUSY) if !step.cgroup_namespace => show(step, Path::new(HOST), place),
        // A bind mount of the host's /sys has them there already, with another root; mount(2) sees the same filesystem.
        Err(Errno::BUSY) => {
            let (typ, source, attributes) = ("cgroup2", "cgroup".as_ref(), step.options.attributes());
            put(Filesystem { typ, source, options: Vec::new(), attributes }.detached()?.as_fd(), place)
        }
        made => named(made, || format!("mount(\"cgroup2\", {:#x})", step.options.flags)),
    }
}

/// Shows a part of the host's cgroups.
fn show(step: &Step, part: &Path, place: BorrowedFd<'_>) -> sys::Result<()> {
    let tree = clone_tree(part, false)?;
    bind::attributes(tree.as_fd(), &step.options, false)?;
    put(tree.as_fd(), place)
}

fn legacy(step: &Step, place: BorrowedFd<'_>, hierarchies: &[Hierarchy]) -> sys::Result<()> {
    let tmpfs = directory(step)?;
    put(tmpfs.as_fd(), place)?;
    named(rustix::process::fchdir(&tmpfs), || "fchdir(the cgroup tmpfs)".into())?;
    for hierarchy in hierarchies {
        mount(step, hierarchy, &tmpfs)?;
    }
    let readonly = (step.options.attributes() | step.options.recursive.set) & MOUNT_ATTR_RDONLY;
    if readonly == 0 { Ok(()) } else { change(tmpfs.as_fd(), &Change { set: readonly, ..Default::default() }) }
}

/// What holds a directory for each hierarchy. Writable until they are there.
fn directory(step: &Step) -> sys::Result<OwnedFd> {
    let label = step.label.as_deref().map(|label| ("context", Some(label)));
    let options = [("mode", Some("755"))].into_iter().chain(label).collect();
    let attributes = step.options.attributes() & !MOUNT_ATTR_RDONLY;
    Filesystem { typ: "tmpfs", source: "cgroup".as_ref(), options, attributes }.detached()
}

/// Makes one hierarchy's mount in the working directory, which is `tmpfs`: as new as the container's mount namespace,
/// so that nobody else can have changed a name in it.
fn mount(step: &Step, hierarchy: &Hierarchy, tmpfs: &OwnedFd) -> sys::Result<()> {
    let Hierarchy { controllers, name, own } = hierarchy;
    if !step.cgroup_namespace && own.is_none() {
        return Ok(()); // not mounted on the host
    }
    let made = mkdirat(tmpfs, name.as_str(), Mode::from_raw_mode(0o755));
    named(made, || format!("mkdirat({name:?})"))?;
    match own.as_ref().filter(|_| !step.cgroup_namespace) {
        Some(own) => {
            let place = target::find(tmpfs.as_fd(), Path::new(name), step.links(), || Ok(true))?;
            show(step, own, place.fd.as_fd())?;
        }
        None => {
            let hard = MS_NOSUID | MS_NODEV | MS_NOEXEC;
            let flags = MountFlags::from_bits_retain((step.options.flags | hard) as _);
            let data = CString::new(controllers.as_str()).map_err(|_| Errno::INVAL);
            let made = data.and_then(|data| rustix::mount::mount("cgroup", &**name, "cgroup", flags, data.as_c_str()));
            named(made, || format!("mount(\"cgroup\", {name:?}, {controllers:?})"))?;
        }
    }
    for alias in name.split(',').filter(|alias| alias != name) {
        let made = symlinkat(name.as_str(), tmpfs, alias);
        named(made, || format!("symlinkat({name:?}, {alias:?})"))?;
    }
    Ok(())
}

/// The v1 hierarchies of `/proc/self/cgroup`, and where `/proc/self/mountinfo` has them.
fn hierarchies(groups: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mounted<'_>> = mountinfo.lines().filter_map(Mounted::parse).collect();
    let lines = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let v1 = lines.filter(|(controllers, _)| !controllers.is_empty());
    v1.map(|(controllers, group)| {
        let at = mounts.iter().find(|mounted| mounted.holds(controllers));
        let plain = controllers.strip_prefix("name=").unwrap_or(controllers);
        let name = at.and_then(|at| at.point.file_name()).map_or(plain.into(), |name| name.to_string_lossy());
        Hierarchy { controllers: controllers.into(), name: name.into(), own: at.map(|at| at.directory(group)) }
    })
    .collect()
}

/// A cgroup mount of the host.
struct Mounted<'a> {
    root: &'a Path,
    point: &'a Path,
    options: &'a str,
}

impl<'a> Mounted<'a> {
    /// One of a line of mountinfo (proc_pid_mountinfo(5)).
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let (typ, options) = (filesystem.next()?, filesystem.nth(1)?);
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        (typ == "cgroup").then_some(Self { root: Path::new(root), point: Path::new(point), options })
    }

    fn holds(&self, controllers: &str) -> bool {
        controllers.split(',').all(|controller| self.options.split(',').any(|option| option == controller))
    }

    /// The directory of a group. In a container that sees only a part of the hierarchy, that part.
    fn directory(&self, group: &str) -> PathBuf {
        Path::new(group).strip_prefix(self.root).map_or(self.point.to_owned(), |below| self.point.join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_named_as_the_host_names_them() {
        let groups =
            "5:net_cls,net_prio:/x\n4:cpuacct,cpu:/docker/a/b\n3:pids:/p\n2:rdma:/\n1:name=systemd:/s\n0::/u\n";
        let mountinfo = "\
30 27 0:25 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 /docker/a /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /docker/q /sys/fs/cgroup/net_cls,net_prio rw shared:4 - cgroup cgroup rw,net_cls,net_prio
34 31 0:31 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
35 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup systemd rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let expected = [
            ("net_cls,net_prio", "net_cls,net_prio", Some("/sys/fs/cgroup/net_cls,net_prio")),
            ("cpuacct,cpu", "cpu,cpuacct", Some("/sys/fs/cgroup/cpu,cpuacct/b")),
            ("pids", "pids", Some("/sys/fs/cgroup/pids/p")),
            ("rdma", "rdma", None),
            ("name=systemd", "systemd", Some("/sys/fs/cgroup/systemd/s")),
        ];
        let expected = expected.map(|(controllers, name, own)| Hierarchy {
            controllers: controllers.into(),
            name: name.into(),
            own: own.map(PathBuf::from),
        });
        assert_eq!(hierarchies(groups, mountinfo), expected);
    }
}
