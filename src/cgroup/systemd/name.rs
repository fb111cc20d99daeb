//! Names of systemd's units, from `slice:prefix:name`: which scope, in which slice, and where its group is.

use std::path::{Path, PathBuf};

use super::Bus;
use crate::cgroup::Error;

/// The longest name of a unit (UNIT_NAME_MAX of systemd, with the NUL).
const MAX_NAME: usize = 255;

/// A scope in a slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) scope: String,
    pub(super) slice: String,
    /// The container's part of the name, for people.
    pub(super) container: String,
}

impl Names {
    /// Understands a `cgroupsPath` in systemd's form. An empty slice is `system.slice`, of a user's systemd
    /// `user.slice`; an empty prefix leaves the name alone.
    pub(super) fn parse(path: &Path, bus: &Bus) -> Result<Self, Error> {
        let bad = |reason| Error::BadUnit { name: path.display().to_string(), reason };
        let text = path.to_str().ok_or_else(|| bad("it is not UTF-8"))?;
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else { return Err(bad("it has to be slice:prefix:name")) };
        if name.is_empty() {
            return Err(bad("the name is empty"));
        }
        if name.ends_with(".slice") {
            return Err(bad("a slice holds no processes, so a container cannot be one"));
        }
        let slice = match (slice, bus) {
            ("", Bus::System) => "system.slice",
            ("", Bus::User { .. }) => "user.slice",
            (slice, _) => slice,
        };
        let scope = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        for unit in [slice, &scope] {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
            if unit.len() > MAX_NAME || !unit.bytes().all(allowed) {
                return Err(bad("a unit's name has up to 255 letters, digits, and of : - _ . \\"));
            }
        }
        expand(slice)?;
        Ok(Self { scope, slice: slice.to_owned(), container: name.to_owned() })
    }

    /// The scope's group, below the one of its systemd.
    pub(super) fn group(&self) -> Result<PathBuf, Error> {
        Ok(expand(&self.slice)?.join(&self.scope))
    }
}

/// Where a slice is: `a-b.slice` is below `a.slice`, and `-.slice` is the root.
fn expand(slice: &str) -> Result<PathBuf, Error> {
    let bad = |reason| Error::BadUnit { name: slice.to_owned(), reason };
    let stem = slice.strip_suffix(".slice").ok_or_else(|| bad("a slice's name ends in .slice"))?;
    let mut path = PathBuf::new();
    if stem == "-" {
        return Ok(path);
    }
    let mut above = String::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(bad("a part of the slice's name is empty"));
        }
        path.push(format!("{above}{part}.slice"));
        above = format!("{above}{part}-");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_below_those_that_its_name_begins_with() {
        for (slice, path) in [
            ("system.slice", "system.slice"),
            ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
            ("-.slice", ""),
            (
                "kubepods-besteffort-pod1_2.slice",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
            ),
        ] {
            assert_eq!(expand(slice).unwrap(), Path::new(path), "{slice}");
        }
        for slice in ["", ".slice", "a", "a.scope", "--.slice", "-a.slice", "a-.slice", "a--b.slice"] {
            assert!(expand(slice).is_err(), "{slice}");
        }
    }

    #[test]
    fn a_path_names_a_scope_in_a_slice() {
        let user = Bus::User { socket: "/run/user/1/bus".into() };
        let table = [
            ("system.slice:docker:1234", &Bus::System, "system.slice/docker-1234.scope"),
            (":wherry:web", &Bus::System, "system.slice/wherry-web.scope"),
            (":wherry:web", &user, "user.slice/wherry-web.scope"),
            ("a-b.slice:cri:x", &user, "a.slice/a-b.slice/cri-x.scope"),
            ("-.slice::x", &Bus::System, "x.scope"),
        ];
        for (path, bus, group) in table {
            assert_eq!(Names::parse(Path::new(path), bus).unwrap().group().unwrap(), Path::new(group), "{path}");
        }
        let long = format!("a.slice:b:{}", "c".repeat(256));
        for path in [
            "",
            "/wherry/web",
            "a.slice:b",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a:b:c",
            "../x.slice:b:c",
            "a.slice:b:../c",
            "a.slice:b:c.slice",
            "a.slice:b:a b",
            &long,
        ] {
            let error = Names::parse(Path::new(path), &Bus::System).unwrap_err();
            assert!(matches!(error, Error::BadUnit { .. }), "{path}: {error}");
        }
    }
}
