//! The container's mounts: parsed from the specification beforehand, made through handles.
//!
//! ```text
//!  parse      pure: what is to be mounted, and what may not be          options, this file
//!  prepare    parent: what only it can reach or may do                  bind
//!  make       child, in the order of the specification:
//!               find the place in the root filesystem, by handle        target
//!               a new filesystem                                        filesystem, copy_up
//!               a part of the host's, or of the container's own         bind
//!               the container's cgroups                                 cgroup
//!  seal       child, at the end: read-only what had to be filled        this file
//!  mask       child, in its new root                                    mask
//! ```
//!
//! A place is looked up *in* the root filesystem (openat2 with RESOLVE_IN_ROOT, so that no symlink of the image
//! leads out of it), and what is mounted goes onto that handle: between the look-up and the mount there is no path
//! to swap (CVE-2021-30465, CVE-2023-27561, CVE-2026-41579).
//!
//! A container has about ten mounts and a dozen masks, and they are a good part of its start. So each takes the
//! fewest calls that are right: four for a new filesystem with any options, three for a bind mount and one more if it
//! has attributes, four for a mask.

mod bind;
mod cgroup;
mod copy_up;
mod filesystem;
mod mask;
mod options;
mod target;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub(super) use mask::{make_readonly, mask_all};
use options::Options;
pub use options::option_names;
use target::{Links, lexical};
pub(super) use target::{target, target_without_links};

use super::Error;
use crate::oci::runtime::{LinuxIdMapping, Mount};
use crate::sys::idmap::Range;
pub(super) use crate::sys::mount::{clone_tree, put};
use crate::sys::{self, mount as kernel};

/// What a mount means depends on where its container is.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The directory that a relative source is relative to.
    pub bundle: &'a Path,
    /// The path of the root filesystem. A source below it is the container's own.
    pub rootfs: &'a Path,
    /// The SELinux label of the container's files (`linux.mountLabel`).
    pub label: Option<&'a str>,
    /// The user namespace that the container is in.
    pub user: User<'a>,
    /// Whether it gets a cgroup namespace.
    pub cgroup_namespace: bool,
    /// Whether the mounts of its mount namespace go on receiving what is mounted on the host
    /// (`linux.rootfsPropagation` is slave or shared).
    pub receives: bool,
}

/// The user namespace that the container is in.
#[derive(Clone, Copy)]
pub(super) enum User<'a> {
    /// Ours.
    Ours,
    /// One that is made, with these ids.
    New {
        /// Users.
        users: &'a [LinuxIdMapping],
        /// Groups.
        groups: &'a [LinuxIdMapping],
    },
    /// That of this path.
    Joined(&'a Path),
}

/// One mount of the specification, understood.
#[derive(Debug)]
pub(super) struct Step {
    pub destination: PathBuf,
    pub what: What,
    options: Options,
    label: Option<String>,
    ids: Option<Ids>,
    /// Whether the container is in a user namespace of its own.
    apart: bool,
    cgroup_namespace: bool,
    receives: bool,
    prepared: Prepared,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A new filesystem of a type.
    Filesystem { typ: String, source: String },
    /// A part of the host's filesystem, or below the root filesystem of the container's own.
    Bind { source: PathBuf, of_container: bool, recursive: bool },
    /// Nothing: what is there gets other options, the mount alone or the whole filesystem.
    Remount { mount_only: bool },
    /// The container's view of its cgroup, whatever version the host has.
    Cgroup,
}

/// Where the maps come from through which a mount shows its owners.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ids {
    Maps { users: Vec<Range>, groups: Vec<Range> },
    Namespace(PathBuf),
}

/// What the parent has made ready.
#[derive(Debug, Default)]
struct Prepared {
    /// The tree to mount, with all its attributes.
    tree: Option<OwnedFd>,
    /// The user namespace with the maps.
    ids: Option<OwnedFd>,
}

/// A mount that is to become read-only once it has been filled.
#[must_use = "the mount stays writable until it is sealed"]
#[derive(Debug)]
pub(super) struct Seal(OwnedFd);

impl Seal {
    /// Write-protects it, wherever it has been moved to.
    pub fn apply(self) -> sys::Result<()> {
        kernel::change(self.0.as_fd(), &kernel::Change { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() })
    }
}

impl Step {
    pub fn parse(mount: &Mount, context: &Context<'_>) -> Result<Self, Error> {
        let mut options = Options::parse(mount.options().iter().flatten());
        // A path on the host is taken for the one in the container, as by every other runtime.
        let destination = mount.destination();
        let inside = destination.strip_prefix(context.rootfs).ok().filter(|_| context.rootfs != Path::new("/"));
        let destination = Path::new("/").join(inside.unwrap_or(destination));
        let what = what(mount, &options, context).map_err(|problem| refused(&destination, problem))?;
        if matches!(what, What::Bind { .. }) && lexical(&destination) == Path::new("/sys") {
            // What is mounted below are the host's cgroups, which would stay writable (CVE-2023-25809).
            options.readonly_is_recursive();
        }
        let ids = ids(mount, &options, context).map_err(|problem| refused(&destination, problem))?;
        let step = Self {
            label: context.label.filter(|_| what.takes_label()).map(str::to_owned),
            destination,
            what,
            options,
            ids,
            apart: !matches!(context.user, User::Ours),
            cgroup_namespace: context.cgroup_namespace,
            receives: context.receives,
            prepared: Prepared::default(),
        };
        step.check().map_err(|problem| refused(&step.destination, problem))?;
        Ok(step)
    }

    /// What can be said against the mount before there is a container.
    fn check(&self) -> Result<(), String> {
        let place = lexical(&self.destination);
        let has_nul = |path: &Path| path.as_os_str().as_encoded_bytes().contains(&0);
        if has_nul(&self.destination) || matches!(&self.what, What::Bind { source, .. } if has_nul(source)) {
            return Err("a path holds a NUL byte".into());
        }
        if place == Path::new("/") {
            return Err("a mount on top of the root filesystem would hide it".into());
        }
        if self.options.copy_up && !matches!(&self.what, What::Filesystem { typ, .. } if typ == "tmpfs") {
            return Err("tmpcopyup is for tmpfs only".into());
        }
        self.check_procfs(&place)
    }

    /// What is mounted over procfs decides what security labels and masks are written to (CVE-2019-16884,
    /// CVE-2023-28642): at its root only procfs may be, and below it only what container hosts are known to emulate.
    fn check_procfs(&self, place: &Path) -> Result<(), String> {
        const EMULATED: [&str; 10] = [
            "cpuinfo",
            "diskstats",
            "loadavg",
            "meminfo",
            "slabinfo",
            "stat",
            "swaps",
            "sys/crypto/fips_enabled",
            "sys/kernel/ns_last_pid",
            "uptime",
        ];
        match place.strip_prefix("/proc") {
            Err(_) => Ok(()),
            Ok(below) if below.as_os_str().is_empty() => match &self.what {
                What::Filesystem { typ, .. } if typ == "proc" => Ok(()),
                // Whether the source is procfs is seen when it is open.
                What::Bind { .. } | What::Remount { .. } => Ok(()),
                _ => Err(format!("{place:?} cannot be mounted because it is not of type proc")),
            },
            Ok(below) if EMULATED.iter().any(|name| below == Path::new(name)) => Ok(()),
            Ok(_) => Err(format!("{place:?} cannot be mounted because it is inside /proc")),
        }
    }

    /// Whether the way to the place may have symbolic links. What the kernel tells a program about itself has to be
    /// where the program looks for it.
    fn links(&self) -> Links {
        let kernels = match &self.what {
            What::Filesystem { typ, .. } => matches!(&**typ, "proc" | "sysfs" | "devpts" | "mqueue"),
            What::Cgroup => true,
            What::Bind { .. } | What::Remount { .. } => false,
        };
        let fixed = ["/proc", "/sys", "/dev"].iter().any(|place| lexical(&self.destination) == Path::new(place));
        if kernels || fixed { Links::Refused } else { Links::Followed }
    }

    /// What the mount is, for an error: `mount tmpfs at /tmp`.
    pub fn describe(&self) -> String {
        let at = self.destination.display();
        match &self.what {
            What::Bind { source, .. } => format!("mount {} at {at}", source.display()),
            What::Filesystem { typ, .. } => format!("mount {typ} at {at}"),
            What::Remount { .. } => format!("remount {at}"),
            What::Cgroup => format!("mount the cgroup at {at}"),
        }
    }

    /// Does beforehand, in the parent, what the child could not: see [`bind::prepare`]. The parent is privileged over
    /// the mounts of the host, and calls it before anything is cut off from them.
    pub fn prepare(&mut self) -> sys::Result<()> {
        bind::prepare(self)
    }

    /// The handles that [`Step::prepare`] opened, which the child needs.
    pub fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.prepared.tree, &self.prepared.ids].into_iter().flatten().map(AsFd::as_fd)
    }

    /// Makes the mount in the root filesystem `root`. The working directory is elsewhere afterwards.
    pub fn make(&self, root: BorrowedFd<'_>) -> sys::Result<Option<Seal>> {
        match &self.what {
            What::Cgroup => cgroup::make(self, root).map(|()| None),
            What::Bind { .. } => bind::make(self, root).map(|()| None),
            What::Remount { mount_only } => bind::remount(self, root, *mount_only).map(|()| None),
            What::Filesystem { typ, source } => filesystem::make(self, root, typ, source),
        }
    }
}

impl What {
    /// Whether the kernel takes a security label for it as an option. Not for what has labels of its own.
    fn takes_label(&self) -> bool {
        match self {
            Self::Filesystem { typ, .. } => !matches!(&**typ, "proc" | "sysfs"),
            Self::Cgroup => true,
            Self::Bind { .. } | Self::Remount { .. } => false,
        }
    }
}

/// Whether `/dev` is the container's own to fill: its root filesystem's or a new one, but not a part of the host's.
pub(super) fn has_dev_of_its_own(steps: &[Step]) -> bool {
    let of_host =
        |step: &Step| matches!(step.what, What::Bind { .. }) && lexical(&step.destination) == Path::new("/dev");
    !steps.iter().any(of_host)
}

/// The mounts in two parts, each in order: those that can be made while the container is still being put into its
/// cgroup, and those that have to wait: the cgroups, and what goes below or above one of them after it.
pub(super) fn split(steps: &[Step]) -> (Vec<&Step>, Vec<&Step>) {
    let (mut before, mut after) = (Vec::new(), Vec::<&Step>::new());
    for step in steps {
        let place = lexical(&step.destination);
        let meets = |other: &&Step| {
            let other = lexical(&other.destination);
            place.starts_with(&other) || other.starts_with(&place)
        };
        let waits = step.what == What::Cgroup || after.iter().any(meets);
        if waits { after.push(step) } else { before.push(step) }
    }
    (before, after)
}

fn refused(destination: &Path, problem: String) -> Error {
    Error::Unsupported { field: "mounts", problem: format!("{}: {problem}", destination.display()) }
}

fn what(mount: &Mount, options: &Options, context: &Context<'_>) -> Result<What, String> {
    let typ = mount.typ().as_deref().unwrap_or_default();
    if options.remount {
        return Ok(What::Remount { mount_only: options.bind.is_some() });
    }
    // The specification wants the option for a bind mount; the type alone is understood as well.
    let bind = options.bind.or((typ == "bind").then_some(true));
    if let Some(recursive) = bind {
        let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
        let source = context.bundle.join(source.ok_or("a bind mount has no source")?);
        // The working directory changes from mount to mount.
        let source = std::path::absolute(&source).map_err(|error| format!("{source:?}: {error}"))?;
        let own = source.strip_prefix(context.rootfs).ok().filter(|_| context.rootfs != Path::new("/"));
        let of_container = own.is_some();
        let source = own.map_or(source.clone(), |own| Path::new("/").join(own));
        return Ok(What::Bind { source, of_container, recursive });
    }
    match typ {
        "" => Err("has neither a type nor the option bind".into()),
        "cgroup" | "cgroup2" => Ok(What::Cgroup),
        typ => {
            let source = mount.source().as_deref().unwrap_or(Path::new(typ));
            Ok(What::Filesystem { typ: typ.to_owned(), source: source.to_string_lossy().into_owned() })
        }
    }
}

fn ids(mount: &Mount, options: &Options, context: &Context<'_>) -> Result<Option<Ids>, String> {
    let given = |maps: &Option<Vec<LinuxIdMapping>>| maps.as_deref().filter(|maps| !maps.is_empty()).map(ranges);
    let maps = match (given(mount.uid_mappings()), given(mount.gid_mappings())) {
        (Some(users), Some(groups)) => Some(Ids::Maps { users, groups }),
        (None, None) if options.id_map.is_none() => return Ok(None),
        (None, None) => None,
        _ => return Err("uidMappings and gidMappings have to be given together".into()),
    };
    if options.bind.is_none() {
        return Err("only a bind mount can map ids".into());
    }
    match (maps, context.user) {
        (Some(maps), _) => Ok(Some(maps)),
        (None, User::Ours) => Err("is to map ids, but neither it nor the container has maps".into()),
        (None, User::New { users, groups }) => Ok(Some(Ids::Maps { users: ranges(users), groups: ranges(groups) })),
        (None, User::Joined(path)) => Ok(Some(Ids::Namespace(path.to_owned()))),
    }
}

fn ranges(maps: &[LinuxIdMapping]) -> Vec<Range> {
    maps.iter().map(|map| (map.container_id(), map.host_id(), map.size())).collect()
}
