//! Where a `cgroupsPath` is in each hierarchy (runtime-spec, config-linux, "Cgroups Path").
//!
//! ```text
//! /a/b   below the hierarchy's root
//! a/b    v1: below the group that the caller is in; v2: beside it, for a group with processes hands on no controllers
//! ```
//!
//! An ordinary user makes groups where they were delegated (cgroups(7)): in a directory that is theirs, with its
//! cgroup.procs, and for a process that is in it already. Where the group above the caller's is not the user's, but
//! the caller's is, it begins there.
//!
//! Relative paths depend on the caller, so a group that was made by one is found again by its record, not by its path.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::hierarchy::Own;
use super::{Error, Hierarchies, Hierarchy, Version};

/// A group's name, the same in every hierarchy, and where it starts.
pub(super) struct Place {
    below: PathBuf,
    own: Option<Own>,
}

impl Place {
    /// Understands a path; a relative one is relative to where this process is now.
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        let below = names(path)?;
        let own = if path.is_absolute() { None } else { Some(Own::read()?) };
        Ok(Self { below, own })
    }

    /// The directory in a hierarchy; `unified` tells that there is no v1 hierarchy beside it.
    pub(super) fn dir(&self, hierarchy: &Hierarchy, unified: bool) -> Result<PathBuf, Error> {
        let Some(own) = &self.own else { return Ok(hierarchy.mount.join(&self.below)) };
        let own = own.group(hierarchy).ok_or_else(|| Error::BadPath { path: self.below.clone() })?;
        let start = if unified && hierarchy.version == Version::V2 { begin(hierarchy, &own, is_ours) } else { &own };
        Ok(start.join(&self.below))
    }
}

/// Where on v2 a process that is in `own` begins groups, as far as they are `ours` to make.
fn begin<'a>(hierarchy: &Hierarchy, own: &'a Path, ours: impl Fn(&Path) -> bool) -> &'a Path {
    match own.parent().filter(|_| own != hierarchy.mount) {
        Some(beside) if ours(beside) || !ours(own) => beside,
        _ => own,
    }
}

/// Whether this process may make groups in this one, and move processes between them.
fn is_ours(dir: &Path) -> bool {
    let may = |path: &Path, access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    may(dir, Access::WRITE_OK | Access::EXEC_OK) && may(&dir.join("cgroup.procs"), Access::WRITE_OK)
}

/// The path of a group `name` for an ordinary user's container, from its hierarchy's root on; none where this user was
/// delegated none. On v1, also beside v2, nobody is.
pub fn delegated(hierarchies: &Hierarchies, name: &str) -> Result<Option<PathBuf>, Error> {
    let [hierarchy] = &hierarchies.list[..] else { return Ok(None) };
    let Some(own) = Own::read()?.group(hierarchy).filter(|_| hierarchy.version == Version::V2) else { return Ok(None) };
    let start = begin(hierarchy, &own, is_ours);
    let path = |start: &Path| Some(Path::new("/").join(start.strip_prefix(&hierarchy.mount).ok()?).join(name));
    Ok(path(start).filter(|_| is_ours(start)))
}

/// A path as names only: no way up, nothing that the kernel would read differently, at least one name.
pub(super) fn names(path: &Path) -> Result<PathBuf, Error> {
    let bad = || Error::BadPath { path: path.into() };
    if path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, 0 | b'\n')) {
        return Err(bad());
    }
    let names = path.components().filter(|component| !matches!(component, Component::RootDir | Component::CurDir));
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Ok(name.to_owned()),
        _ => Err(bad()),
    };
    let below: PathBuf = names.map(name).collect::<Result<_, _>>()?;
    if below.as_os_str().is_empty() { Err(bad()) } else { Ok(below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_only() {
        for path in ["", "/", ".", "./", "..", "wherry/../..", "/../a", "a\0b", "a\nb"] {
            let error = names(Path::new(path)).unwrap_err();
            assert!(matches!(error, Error::BadPath { .. }), "{path:?}: {error}");
        }
        for (path, expected) in [("/a//b/./c", "a/b/c"), ("./a", "a"), ("a/", "a"), ("a..b/...", "a..b/...")] {
            assert_eq!(names(Path::new(path)).unwrap(), Path::new(expected));
        }
    }

    #[test]
    fn a_user_begins_where_groups_are_delegated() {
        let v2 = Hierarchy { version: Version::V2, mount: "/cg".into(), controllers: Vec::new() };
        let begin = |own: &'static str, ours: &[&str]| {
            begin(&v2, Path::new(own), |dir| ours.iter().any(|o| Path::new(o) == dir))
        };
        let session = "/cg/user/session";
        for (own, ours, expected) in [
            (session, &["/cg/user/session", "/cg/user"][..], "/cg/user"),
            (session, &["/cg/user"], "/cg/user"),
            (session, &["/cg/user/session"], "/cg/user/session"),
            // Nowhere: what is said then is of the usual place.
            (session, &[], "/cg/user"),
            ("/cg", &["/cg"], "/cg"),
            ("/cg", &[], "/cg"),
        ] {
            assert_eq!(begin(own, ours), Path::new(expected), "{own} of {ours:?}");
        }
    }

    #[test]
    fn relative_paths_start_where_the_caller_is() {
        let mounts =
            "1 1 0:1 / /cg/memory rw - cgroup cgroup rw,memory\n2 1 0:2 / /cg/unified rw - cgroup2 cgroup rw\n";
        let hierarchy = |version, mount: &str, controllers: &[&str]| Hierarchy {
            version,
            mount: mount.into(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let (v1, v2) = (hierarchy(Version::V1, "/cg/memory", &["memory"]), hierarchy(Version::V2, "/cg/unified", &[]));
        let dir = |cgroups: &str, hierarchy: &Hierarchy, unified| {
            let own = Some(Own::example(cgroups, mounts));
            Place { below: "x/y".into(), own }.dir(hierarchy, unified).unwrap()
        };
        let inside = "4:memory:/user/a\n0::/user/a\n";
        assert_eq!(dir(inside, &v1, false), Path::new("/cg/memory/user/a/x/y"));
        assert_eq!(dir(inside, &v2, false), Path::new("/cg/unified/user/a/x/y"));
        assert_eq!(dir(inside, &v2, true), Path::new("/cg/unified/user/x/y"));
        assert_eq!(dir("0::/\n", &v2, true), Path::new("/cg/unified/x/y"));
        let absolute = Place { below: "x".into(), own: None };
        assert_eq!(absolute.dir(&v2, true).unwrap(), Path::new("/cg/unified/x"));
    }
}
