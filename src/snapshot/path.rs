//! What a path in an archive means: where it is, and whether its name is a whiteout. Pure.
//!
//! | name | meaning (image-spec layer.md, "Whiteouts") |
//! |---|---|
//! | `a/.wh..wh..opq` | `a` shows nothing of the layers below |
//! | `a/.wh.b` | `a/b` of the layers below is gone |
//! | `.wh..wh.…` | AUFS's own bookkeeping: skipped, as Docker and containerd do |
//! | `.wh.`, `.wh..`, `.wh...` | nothing, the directory, its parent: refused |
//! | `.wh.a/b` | something inside of a whiteout: refused |
//!
//! Leading slashes and `.` mean nothing and are dropped: some builders write `/` and `./`, and all paths
//! are relative to the layer's root. `..` is refused: no builder writes it, and what it means depends on
//! whether symlinks are followed before it.

/// A path of real components, without `.`, `..` and doubled slashes; empty for the root.
pub type Clean = Vec<u8>;

/// The most components of a path. PATH_MAX would allow twice as many; no filesystem tree is a tenth as deep.
pub const MAX_DEPTH: usize = 1024;

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an archive's path stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The layer's root itself.
    Root,
    /// An entry `name` in the directory `parent`.
    Entry {
        /// Its directory.
        parent: Clean,
        /// Its name.
        name: Vec<u8>,
    },
    /// `name` in `parent` of the layers below is gone.
    Whiteout {
        /// The directory.
        parent: Clean,
        /// The name that is gone.
        name: Vec<u8>,
    },
    /// Nothing in `dir` of the layers below shows.
    Opaque {
        /// The directory.
        dir: Clean,
    },
    /// AUFS's bookkeeping.
    Ignored,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A `..` component.
    #[error("the path contains \"..\"")]
    Parent,
    /// More than [`MAX_DEPTH`] components.
    #[error("the path has more than {MAX_DEPTH} components")]
    Depth,
    /// A whiteout of no name, `.` or `..`, or an entry below a whiteout.
    #[error("the whiteout names nothing that can be removed")]
    Whiteout,
}

/// The path without what means nothing.
pub fn clean(path: &[u8]) -> Result<Clean, Invalid> {
    let mut clean = Vec::with_capacity(path.len());
    let mut depth = 0;
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(Invalid::Parent),
            _ => depth += 1,
        }
        if depth > 1 {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    if depth > MAX_DEPTH { Err(Invalid::Depth) } else { Ok(clean) }
}

/// A clean path's directory and name; `None` for the root.
pub fn split(clean: &[u8]) -> Option<(&[u8], &[u8])> {
    if clean.is_empty() {
        return None;
    }
    match clean.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((&clean[..slash], &clean[slash + 1..])),
        None => Some((b"", clean)),
    }
}

/// Whether a clean path is `dir`, or below it.
pub fn is_at_or_below(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.strip_prefix(dir);
    dir.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// A clean path with one more component.
pub fn join(dir: &[u8], name: &[u8]) -> Clean {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// What the path of an entry stands for.
pub fn meaning(path: &[u8]) -> Result<Meaning, Invalid> {
    let clean = clean(path)?;
    let Some((parent, name)) = split(&clean) else { return Ok(Meaning::Root) };
    if let Some(above) = parent.split(|byte| *byte == b'/').find(|part| part.starts_with(WHITEOUT)) {
        return if above.starts_with(META) { Ok(Meaning::Ignored) } else { Err(Invalid::Whiteout) };
    }
    let parent = parent.to_vec();
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Entry { parent, name: name.to_vec() }),
        Some(_) if name == OPAQUE => Ok(Meaning::Opaque { dir: parent }),
        Some(_) if name.starts_with(META) => Ok(Meaning::Ignored),
        Some(b"" | b"." | b"..") => Err(Invalid::Whiteout),
        Some(gone) => Ok(Meaning::Whiteout { parent, name: gone.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_root_and_never_leave_it() {
        for (written, cleaned) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("/a/./b", "a/b"), ("./", ""), ("/", "")] {
            assert_eq!(clean(written.as_bytes()).unwrap(), cleaned.as_bytes(), "{written}");
        }
        for escape in ["..", "../x", "a/../b", "a/..", "/.."] {
            assert_eq!(clean(escape.as_bytes()), Err(Invalid::Parent), "{escape}");
        }
        assert!(clean("a/".repeat(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(clean("a/".repeat(MAX_DEPTH + 1).as_bytes()), Err(Invalid::Depth));
    }

    #[test]
    fn below_is_by_components() {
        for (path, dir) in [("a/b", "a"), ("a", "a"), ("a", ""), ("", "")] {
            assert!(is_at_or_below(path.as_bytes(), dir.as_bytes()), "{path} {dir}");
        }
        for (path, dir) in [("ab", "a"), ("a", "a/b"), ("", "a"), ("b/a", "a")] {
            assert!(!is_at_or_below(path.as_bytes(), dir.as_bytes()), "{path} {dir}");
        }
    }

    #[test]
    fn whiteouts() {
        let is = |path: &str| meaning(path.as_bytes());
        assert_eq!(is("a/.wh.b"), Ok(Meaning::Whiteout { parent: b"a".into(), name: b"b".into() }));
        assert_eq!(is("./.wh.b/"), Ok(Meaning::Whiteout { parent: b"".into(), name: b"b".into() }));
        assert_eq!(is(".wh....x"), Ok(Meaning::Whiteout { parent: b"".into(), name: b"...x".into() }));
        assert_eq!(is("a/.wh..wh..opq"), Ok(Meaning::Opaque { dir: b"a".into() }));
        assert_eq!(is(".wh..wh..opq"), Ok(Meaning::Opaque { dir: b"".into() }));
        for aufs in [".wh..wh.plnk", ".wh..wh.plnk/1.2", "a/.wh..wh.aufs", ".wh..wh.orph/x/y"] {
            assert_eq!(is(aufs), Ok(Meaning::Ignored), "{aufs}");
        }
        for nothing in [".wh.", ".wh..", ".wh...", "a/.wh.", "a/.wh../", ".wh.a/b", "x/.wh.a/.wh.b"] {
            assert_eq!(is(nothing), Err(Invalid::Whiteout), "{nothing}");
        }
        assert_eq!(is("a/wh.b"), Ok(Meaning::Entry { parent: b"a".into(), name: b"wh.b".into() }));
    }
}
