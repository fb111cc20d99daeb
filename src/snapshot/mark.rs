//! How "gone" and "opaque" are written into a layer's directory.
//!
//! | marks | gone | opaque | when |
//! |---|---|---|---|
//! | `Trusted` | character device 0:0 | `trusted.overlay.opaque=y` | root: what overlayfs reads |
//! | `User` | character device 0:0 | `user.overlay.opaque=y` | in a user namespace, mounted with `userxattr` |
//! | `Plain` | file `.wh.NAME` | file `.wh..wh..opq` | no overlayfs here: root filesystems are copied |
//!
//! Which one a store uses is found out once, by mounting, and recorded in it (`store`).
//!
//! A layer's own attributes in overlayfs's namespace must not act as marks. They are kept escaped, as
//! overlayfs itself does for nesting since Linux 6.7 (`trusted.overlay.overlay.x` shows as
//! `trusted.overlay.x`), and mean nothing to older kernels.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use crate::sys;
use crate::sys::dir::{Device, Dir, Info, Node};
use rustix::fs::FileType;

const GONE: Device = Device { major: 0, minor: 0 };
const OPAQUE_FILE: &str = ".wh..wh..opq";

/// A way to write marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Marks {
    /// For an overlay mounted by root.
    Trusted,
    /// For an overlay mounted in a user namespace.
    User,
    /// For copying.
    Plain,
}

/// What a layer says of a name.
#[derive(Debug)]
pub enum Slot {
    /// Nothing: the layers below decide.
    Absent,
    /// It is gone.
    Gone,
    /// It is there. `fresh`: it hides a directory of that name below, rather than merging with it.
    Present {
        /// What is there.
        info: Info,
        /// Whether a mark beside it says that what was below is gone.
        fresh: bool,
    },
}

impl Marks {
    /// The name of what mounts such layers.
    pub fn driver(self) -> &'static str {
        if self == Self::Plain { "copy" } else { "overlay" }
    }

    /// What `dir` says of `name`.
    pub fn look(self, dir: &Dir, name: &OsStr) -> sys::Result<Slot> {
        let fresh = self == Self::Plain && dir.info(&marker(name))?.is_some();
        Ok(match dir.info(name)? {
            None if fresh => Slot::Gone,
            None => Slot::Absent,
            Some(info) if self.is_gone(&info) => Slot::Gone,
            Some(info) => Slot::Present { info, fresh },
        })
    }

    /// Whether an entry is itself the mark of a name that is gone.
    pub fn is_gone(self, info: &Info) -> bool {
        self != Self::Plain && info.kind == FileType::CharacterDevice && info.device == GONE
    }

    /// Marks `name` in `dir` as gone. EEXIST when an entry of the name is there.
    pub fn mark_gone(self, dir: &Dir, name: &OsStr) -> sys::Result<()> {
        match self {
            Self::Plain => write_marker(dir, &marker(name)),
            Self::Trusted | Self::User => dir.make_node(name, Node::Char(GONE), 0),
        }
    }

    /// Marks `dir` as opaque.
    pub fn mark_opaque(self, dir: &Dir) -> sys::Result<()> {
        match self.opaque_key() {
            Some(key) => sys::dir::set_file_xattr(dir, key, b"y"),
            None => write_marker(dir, OsStr::new(OPAQUE_FILE)),
        }
    }

    /// Whether `dir` is opaque.
    pub fn is_opaque(self, dir: &Dir) -> sys::Result<bool> {
        match self.opaque_key() {
            Some(key) => Ok(dir.own_xattr(key, &mut [0; 8])? == Some(b"y")),
            None => Ok(dir.info(OsStr::new(OPAQUE_FILE))?.is_some()),
        }
    }

    /// Of the entry `name`, seen while copying a layer: what it marks, if it is no content.
    pub fn marker_of(self, name: &OsStr) -> Option<Marker> {
        if self != Self::Plain {
            return None;
        }
        let gone = name.as_bytes().strip_prefix(b".wh.")?;
        Some(if name == OPAQUE_FILE { Marker::Opaque } else { Marker::Gone(OsStr::from_bytes(gone).to_owned()) })
    }

    /// The name under which an archive's attribute is stored: escaped if overlayfs would act on it.
    pub fn stored_xattr(self, name: &[u8]) -> Option<CString> {
        let stored = match self.xattr_prefix().and_then(|prefix| Some((prefix, name.strip_prefix(prefix)?))) {
            Some((prefix, rest)) => [prefix, b"overlay.", rest].concat(),
            None => name.to_vec(),
        };
        CString::new(stored).ok()
    }

    /// The name under which a stored attribute is content; `None` for a mark.
    pub fn content_xattr(self, stored: &[u8]) -> Option<CString> {
        let content = match self.xattr_prefix().and_then(|prefix| Some((prefix, stored.strip_prefix(prefix)?))) {
            Some((prefix, rest)) => [prefix, rest.strip_prefix(b"overlay.")?].concat(),
            None => stored.to_vec(),
        };
        CString::new(content).ok()
    }

    fn xattr_prefix(self) -> Option<&'static [u8]> {
        match self {
            Self::Trusted => Some(b"trusted.overlay."),
            Self::User => Some(b"user.overlay."),
            Self::Plain => None,
        }
    }

    fn opaque_key(self) -> Option<&'static CStr> {
        match self {
            Self::Trusted => Some(c"trusted.overlay.opaque"),
            Self::User => Some(c"user.overlay.opaque"),
            Self::Plain => None,
        }
    }
}

/// What a file in a layer with plain marks stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Marker {
    /// Its directory is opaque.
    Opaque,
    /// This name is gone.
    Gone(OsString),
}

fn marker(name: &OsStr) -> OsString {
    let mut marker = OsString::from(".wh.");
    marker.push(name);
    marker
}

fn write_marker(dir: &Dir, name: &OsStr) -> sys::Result<()> {
    match dir.make_file(name, 0o600) {
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}
