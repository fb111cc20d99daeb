//! One container's group in one hierarchy: making it, writing its control files, filling it.
//!
//! Making is optimistic, for that a start is short: first the group itself, and only if something is missing (a
//! directory above, a controller) the way down to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::file::Made;
use super::limit::Setting;
use super::{Error, Hierarchy, Version, file, refused};
use crate::sys::{self, named};

/// What statistics want of the unified hierarchy.
const MEASURED: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// The group that wherry itself goes into, where its own has to be empty.
const LEAF: &str = "wherry";

/// Deeper trees of groups are not made by sane containers; the walk through one is bounded.
const MAX_DEPTH: usize = 64;

/// A group in one hierarchy.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) hierarchy: Hierarchy,
    pub(super) dir: PathBuf,
    /// The directory once it has been opened: on v2 a start needs it anyway.
    #[serde(skip)]
    handle: OnceLock<OwnedFd>,
}

impl Group {
    pub(super) fn new(hierarchy: Hierarchy, dir: PathBuf) -> Self {
        Self { hierarchy, dir, handle: OnceLock::new() }
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.hierarchy.controllers.iter().any(|known| known == controller)
    }

    /// The group's directory, opened at the first call.
    pub(super) fn handle(&self) -> sys::Result<BorrowedFd<'_>> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle.as_fd());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.dir, flags, Mode::empty());
        let opened = named(opened, || format!("open({:?}, O_DIRECTORY)", self.dir))?;
        Ok(self.handle.get_or_init(|| opened).as_fd())
    }

    /// Writes a control file of the group.
    pub(super) fn write(&self, name: &str, value: &str) -> sys::Result<()> {
        self.write_all(name, [value])
    }

    /// Writes several commands into one control file.
    pub(super) fn write_all<'a>(&self, name: &str, values: impl IntoIterator<Item = &'a str>) -> sys::Result<()> {
        let path = self.dir.join(name);
        match self.handle.get() {
            Some(handle) => file::write_at(handle, name, &path, values),
            None => file::write_at(CWD, &path, &path, values),
        }
    }

    /// Reads a control file of the group.
    pub(super) fn read(&self, name: &str) -> Result<String, Error> {
        let path = self.dir.join(name);
        let text = match self.handle.get() {
            Some(handle) => file::read_at(handle, name, &path),
            None => file::read(&path),
        };
        text.map_err(|source| Error::Read { path, source })
    }

    /// Makes the group's directory; true if it is new. One that is there is taken over if nobody is in it.
    pub(super) fn make(&self) -> Result<bool, Error> {
        let made = self.make_dir()?;
        if made == Made::Fresh {
            return Ok(true);
        }
        match self.procs()?.len() {
            0 => Ok(false),
            processes => Err(Error::InUse { path: self.dir.clone(), processes }),
        }
    }

    /// Makes the directory with those above it.
    pub(super) fn make_dir(&self) -> Result<Made, Error> {
        let create = |dir: &Path, source| refused(dir, source, |path, source| Error::Create { path, source });
        match file::make_dir(&self.dir).map_err(|source| create(&self.dir, source))? {
            Made::NoParent => {}
            made => return Ok(made),
        }
        for dir in self.way().into_iter().skip(1).chain([self.dir.clone()]) {
            file::make_dir(&dir).map_err(|source| create(&dir, source))?;
        }
        Ok(Made::Fresh)
    }

    /// The directories from the hierarchy's root down to the one above the group.
    fn way(&self) -> Vec<PathBuf> {
        let below = self.dir.strip_prefix(&self.hierarchy.mount).unwrap_or(Path::new(""));
        let mut way: Vec<PathBuf> = below.ancestors().skip(1).map(|above| self.hierarchy.mount.join(above)).collect();
        way.reverse();
        way
    }

    /// Gives a new group what its settings need before they can be written.
    pub(super) fn prepare(&self, settings: &[Setting]) -> Result<(), Error> {
        match self.hierarchy.version {
            Version::V2 => self.switch_on(settings),
            Version::V1 if self.has("cpuset") => self.way().iter().skip(1).try_for_each(|dir| inherit_cpuset(dir)),
            Version::V1 => Ok(()),
        }
    }

    /// What can only be done after the settings.
    pub(super) fn finish(&self) -> Result<(), Error> {
        let cpuset = self.hierarchy.version == Version::V1 && self.has("cpuset");
        if cpuset { inherit_cpuset(&self.dir) } else { Ok(()) }
    }

    /// Has a v2 group get the controllers that the limits need, and those that statistics want.
    fn switch_on(&self, settings: &[Setting]) -> Result<(), Error> {
        let mut needed: Vec<&str> = settings.iter().map(|setting| setting.controller.as_ref()).collect();
        needed.sort_unstable();
        needed.dedup();
        needed.retain(|name| self.has(name));
        let mut wanted = MEASURED.to_vec();
        wanted.retain(|name| self.has(name) && !needed.contains(name));
        if needed.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        self.handle().map_err(|source| Error::Read { path: self.dir.clone(), source })?;
        let on = self.read("cgroup.controllers")?;
        let missing = |name: &&str| !on.split_whitespace().any(|known| known == *name);
        needed.retain(missing);
        wanted.retain(missing);
        if needed.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        self.way().iter().try_for_each(|dir| hand_on(dir, &needed, &wanted))
    }

    /// Has a v2 group belong to a user, as far as the kernel lets groups be handed on (cgroups(7), "Delegation"): the
    /// directory and the files that it names, not those of the group's own limits.
    pub(super) fn give_to(&self, uid: u32) -> Result<(), Error> {
        /// Kernels before 4.15 do not tell.
        const NAMED_BEFORE: &str = "cgroup.procs cgroup.subtree_control cgroup.threads";
        let list = Path::new("/sys/kernel/cgroup/delegate");
        let names = file::read_if_there(list).map_err(|source| Error::Read { path: list.into(), source })?;
        let names = names.as_deref().unwrap_or(NAMED_BEFORE);
        for path in std::iter::once(self.dir.clone()).chain(names.split_whitespace().map(|name| self.dir.join(name))) {
            match std::os::unix::fs::lchown(&path, Some(uid), None) {
                // A group does not have the files of all controllers.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => named(other, || format!("lchown({path:?}, {uid})")).map_err(|source| Error::Control {
                    verb: "give away",
                    path,
                    source,
                })?,
            }
        }
        Ok(())
    }

    pub(super) fn attach(&self, pid: i32) -> Result<(), Error> {
        let attach = |path: PathBuf, source| Error::Attach { pid, path, source };
        self.write("cgroup.procs", &pid.to_string()).map_err(|source| refused(&self.dir, source, attach))
    }

    /// The file by which a thread enters a v1 group.
    pub(super) fn tasks(&self) -> Result<(PathBuf, OwnedFd), Error> {
        let path = self.dir.join("tasks");
        let opened = named(rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()), || {
            format!("open({path:?}, O_WRONLY)")
        });
        let opened =
            opened.map_err(|source| refused(&self.dir, source, |path, source| Error::Read { path, source }))?;
        Ok((path, opened))
    }

    /// The group's directory and all below it, children after their parents.
    pub(super) fn tree(&self) -> Result<Vec<PathBuf>, Error> {
        let mut found = vec![(self.dir.clone(), 0)];
        let mut next = 0;
        while let Some((dir, depth)) = found.get(next).cloned() {
            next += 1;
            match std::fs::read_dir(&dir) {
                Ok(entries) if depth < MAX_DEPTH => {
                    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                    found.extend(dirs.map(|entry| (entry.path(), depth + 1)));
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    let source = sys::Error { call: format!("open({dir:?}, O_DIRECTORY)"), source };
                    return Err(Error::Read { path: dir, source });
                }
            }
        }
        Ok(found.into_iter().map(|(dir, _)| dir).collect())
    }

    pub(super) fn procs(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        for dir in self.tree()? {
            let path = dir.join("cgroup.procs");
            match file::read_if_there(&path) {
                Ok(text) => {
                    pids.extend(text.iter().flat_map(|text| text.lines()).filter_map(|pid| pid.parse::<i32>().ok()))
                }
                // A threaded group names its processes only at its root, which the walk has passed.
                Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Ok(pids)
    }
}

/// Switches on, for the children of a v2 group, what they need, and if it may be what is wanted for measuring.
fn hand_on(dir: &Path, needed: &[&str], wanted: &[&str]) -> Result<(), Error> {
    let path = dir.join("cgroup.subtree_control");
    let on = file::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let missing = |name: &&&str| !on.split_whitespace().any(|known| known == **name);
    let orders = |names: &[&str]| names.iter().filter(missing).map(|name| format!("+{name}")).collect::<Vec<_>>();
    let (needed, wanted) = (orders(needed), orders(wanted));
    let all: Vec<&str> = needed.iter().chain(&wanted).map(String::as_str).collect();
    if all.is_empty() || file::write(&path, &all.join(" ")).is_ok() {
        return Ok(());
    }
    // All or nothing is how the kernel takes them; one by one it says which it refuses.
    for order in &needed {
        let enable = |path, source| Error::Enable { controller: order[1..].to_owned(), path, source };
        let enabled = match file::write(&path, order) {
            Err(error) if error.errno() == Some(libc::EBUSY) && make_room(dir)? => file::write(&path, order),
            other => other,
        };
        enabled.map_err(|source| refused(dir, source, enable))?;
    }
    for order in &wanted {
        // Without it only its statistics are missing, and a group that may not have it is no failure.
        if file::write(&path, order).is_err() {
            break;
        }
    }
    Ok(())
}

/// Takes this process out of a v2 group that has no other, into one below, as a group with processes cannot hand
/// controllers on: a service's is such a group. False where others are in it, who are not ours to move.
fn make_room(dir: &Path) -> Result<bool, Error> {
    let path = dir.join("cgroup.procs");
    let own = std::process::id().to_string();
    let inside = file::read(&path).map_err(|source| Error::Read { path, source })?;
    if inside.trim() != own {
        return Ok(false);
    }
    let leaf = dir.join(LEAF);
    file::make_dir(&leaf).map_err(|source| refused(&leaf, source, |path, source| Error::Create { path, source }))?;
    let attach = |path, source| Error::Attach { pid: std::process::id().cast_signed(), path, source };
    file::write(&leaf.join("cgroup.procs"), &own).map_err(|source| refused(&leaf, source, attach))?;
    Ok(true)
}

/// A new v1 cpuset is empty, and an empty one takes no process: what is empty gets what the group above has.
fn inherit_cpuset(dir: &Path) -> Result<(), Error> {
    let read = |path: PathBuf| file::read(&path).map_err(|source| Error::Read { path, source });
    let above = dir.parent().unwrap_or(dir);
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if read(dir.join(name))?.trim().is_empty() {
            let value = read(above.join(name))?;
            let create = |path: PathBuf, source| Error::Create { path, source };
            file::write(&dir.join(name), value.trim()).map_err(|source| refused(dir, source, create))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_down_begins_at_the_root_and_ends_above_the_group() {
        let hierarchy = Hierarchy { version: Version::V2, mount: "/cg".into(), controllers: Vec::new() };
        let way = |dir: &str| Group::new(hierarchy.clone(), dir.into()).way();
        assert_eq!(way("/cg/a/b/c"), [Path::new("/cg"), Path::new("/cg/a"), Path::new("/cg/a/b")]);
        assert_eq!(way("/cg/a"), [Path::new("/cg")]);
    }
}
