//! Which cgroup hierarchies this machine has mounted, and which one has each controller.
//!
//! ```text
//! unified   /sys/fs/cgroup                          cgroup2: all controllers
//! legacy    /sys/fs/cgroup/{cpu,memory,…}           one v1 hierarchy for each controller, or for a few
//! hybrid    the legacy ones, and cgroup2 on /sys/fs/cgroup/unified with what they left over
//! ```
//!
//! A controller is in one hierarchy at a time, so nothing else of this room asks "v1 or v2?" of a machine: it
//! asks where one controller is. A hybrid machine needs no case of its own.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Error, file};

/// Where every distribution mounts it. A cgroup2 there is all that counts: nothing else is looked for.
const USUAL_MOUNT: &str = "/sys/fs/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// The interface that a hierarchy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Control files of cgroup v1.
    V1,
    /// Control files of cgroup v2.
    V2,
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    pub(super) version: Version,
    pub(super) mount: PathBuf,
    pub(super) controllers: Vec<String>,
}

/// All hierarchies that groups are made in; the unified one, where there is one, comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    pub(super) list: Vec<Hierarchy>,
}

impl Hierarchies {
    /// The hierarchies mounted in this mount namespace, looked up once for the process.
    pub fn detect() -> Result<&'static Self, Error> {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let usual = Path::new(USUAL_MOUNT);
        let found = if is_cgroup2(usual) { Self::at(usual)? } else { Self::search()? };
        Ok(FOUND.get_or_init(|| found))
    }

    /// Looks through all mounts.
    fn search() -> Result<Self, Error> {
        let mut list = parse(&read(MOUNTS)?);
        for hierarchy in list.iter_mut().filter(|hierarchy| hierarchy.version == Version::V2) {
            hierarchy.controllers = available(&hierarchy.mount)?;
        }
        if list.is_empty() { Err(Error::NotMounted) } else { Ok(Self { list }) }
    }

    /// Only the unified hierarchy mounted on `mount`.
    pub fn at(mount: &Path) -> Result<Self, Error> {
        let controllers = available(mount)?;
        Ok(Self { list: vec![Hierarchy { version: Version::V2, mount: mount.into(), controllers }] })
    }

    /// Whether every controller is in the unified hierarchy: no v1 anywhere.
    pub fn is_unified(&self) -> bool {
        self.list.iter().all(|hierarchy| hierarchy.version == Version::V2)
    }

    /// The interface of a controller; none where this machine does not have it.
    pub fn version(&self, controller: &str) -> Option<Version> {
        let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|known| known == controller);
        self.list.iter().find(has).map(|hierarchy| hierarchy.version)
    }
}

/// Where a process is.
pub(super) struct Own {
    cgroups: String,
    mounts: String,
}

impl Own {
    /// Where this process is.
    pub(super) fn read() -> Result<Self, Error> {
        Ok(Self { cgroups: read("/proc/self/cgroup")?, mounts: read(MOUNTS)? })
    }

    /// Where another process is.
    pub(super) fn of(pid: i32) -> Result<Self, Error> {
        Ok(Self { cgroups: read(&format!("/proc/{pid}/cgroup"))?, mounts: read(MOUNTS)? })
    }

    /// What the two files would say.
    #[cfg(test)]
    pub(super) fn example(cgroups: &str, mounts: &str) -> Self {
        Self { cgroups: cgroups.into(), mounts: mounts.into() }
    }

    /// The directory of the process's group in a hierarchy; none if the group is not below what is mounted.
    pub(super) fn group(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        let controllers =
            if hierarchy.version == Version::V2 { String::new() } else { hierarchy.controllers.join(",") };
        let path = self
            .cgroups
            .lines()
            .find_map(|line| line.split_once(':')?.1.strip_prefix(&*controllers)?.strip_prefix(':'))?;
        // A container's engine may mount only its own group, without a cgroup namespace: Docker in Docker.
        let root = self.mounts.lines().filter_map(split_line).find(|mount| mount.point == hierarchy.mount)?.root;
        Some(hierarchy.mount.join(Path::new(path).strip_prefix(root).ok()?))
    }
}

/// Where a file system of this type is mounted first.
pub(super) fn mount_of(filesystem: &str) -> Result<Option<PathBuf>, Error> {
    let mounts = read(MOUNTS)?;
    let found = mounts.lines().filter_map(split_line).find(|mount| mount.filesystem == filesystem);
    Ok(found.map(|mount| mount.point))
}

fn read(path: &str) -> Result<String, Error> {
    let path = Path::new(path);
    file::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn is_cgroup2(path: &Path) -> bool {
    /// CGROUP2_SUPER_MAGIC of linux/magic.h.
    const MAGIC: u64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == MAGIC)
}

/// The controllers that a v2 group may hand to its children.
fn available(group: &Path) -> Result<Vec<String>, Error> {
    let path = group.join("cgroup.controllers");
    let text = file::read(&path).map_err(|source| Error::Read { path, source })?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Hierarchies in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)), unified first. Named v1 hierarchies, such
/// as systemd's, are left out: they have no controllers and belong to others. Of several mounts of
/// one hierarchy the first counts.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut list: Vec<Hierarchy> = Vec::new();
    for found in mountinfo.lines().filter_map(parse_line) {
        let same = |known: &Hierarchy| known.version == found.version && known.controllers == found.controllers;
        if !list.iter().any(same) {
            list.push(found);
        }
    }
    list.sort_by_key(|hierarchy| hierarchy.version == Version::V1);
    list
}

/// One line of mountinfo, as far as it counts here.
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    filesystem: &'a str,
    options: &'a str,
}

fn split_line(line: &str) -> Option<Mount<'_>> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
    let mut words = filesystem.split(' ');
    let filesystem = words.next()?;
    Some(Mount { root, point, filesystem, options: words.nth(1)? })
}

fn parse_line(line: &str) -> Option<Hierarchy> {
    let found = split_line(line)?;
    match found.filesystem {
        "cgroup2" => Some(Hierarchy { version: Version::V2, mount: found.point, controllers: Vec::new() }),
        "cgroup" => {
            let controllers = found.options.split(',').filter(|option| is_controller(option)).map(str::to_owned);
            let controllers: Vec<String> = controllers.collect();
            (!controllers.is_empty()).then_some(Hierarchy { version: Version::V1, mount: found.point, controllers })
        }
        _ => None,
    }
}

/// Among a v1 mount's options are flags of the superblock, too (cgroups(7)).
fn is_controller(option: &str) -> bool {
    const FLAGS: [&str; 8] =
        ["rw", "ro", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "favordynmods", "nofavordynmods"];
    !FLAGS.contains(&option) && !option.contains('=')
}

/// Mount points have blanks and backslashes as `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:32 / /srv/second\\040memory rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn a_hybrid_machine_has_the_unified_hierarchy_first() {
        let found = parse(HYBRID);
        let mounts: Vec<&str> = found.iter().map(|hierarchy| hierarchy.mount.to_str().unwrap()).collect();
        assert_eq!(mounts, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"]);
        assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
        let all = Hierarchies { list: found };
        assert_eq!(all.version("cpuacct"), Some(Version::V1));
        assert_eq!(all.version("hugetlb"), None);
        assert!(!all.is_unified());
    }

    #[test]
    fn mount_points_may_have_blanks() {
        let found = parse(HYBRID.lines().last().unwrap());
        assert_eq!(found[0].mount, Path::new("/srv/second memory"));
        assert_eq!(unescape("a\\"), Path::new("a\\"));
        assert_eq!(unescape("a\\9xyz"), Path::new("a\\9xyz"));
    }

    #[test]
    fn the_own_group_is_found_by_all_controllers_of_a_hierarchy() {
        let all = parse(HYBRID);
        let own = Own::example;
        let here = own("9:name=systemd:/init\n4:memory:/a b/c\n1:cpu,cpuacct:/\n0::/x\n", HYBRID);
        let group = |at: usize| here.group(&all[at]).unwrap();
        assert_eq!(group(0), Path::new("/sys/fs/cgroup/unified/x"));
        assert_eq!(group(1), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(group(2), Path::new("/sys/fs/cgroup/memory/a b/c"));
        assert_eq!(own("1:cpu:/\n", HYBRID).group(&all[1]), None);
    }

    #[test]
    fn the_own_group_is_looked_for_below_what_is_mounted() {
        let mounts = "9 1 0:2 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let all = parse(mounts);
        let group = |cgroups: &str| Own::example(cgroups, mounts).group(&all[0]);
        assert_eq!(group("0::/docker/x/init\n").unwrap(), Path::new("/sys/fs/cgroup/init"));
        assert_eq!(group("0::/docker/y\n"), None);
    }

    #[test]
    fn this_machine_has_hierarchies() {
        assert!(!Hierarchies::detect().unwrap().list.is_empty());
    }
}
