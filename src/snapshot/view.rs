//! The layers below one, looked at as overlayfs will show them: the first layer from the top that says
//! anything about a name decides.
//!
//! Slow, a few calls per layer and component; asked only for what an archive leaves out: directories that
//! it implies, and hard links to files of other layers.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::FileType;

use crate::sys;
use crate::sys::dir::{Dir, Info};

use super::mark::{Marks, Slot};
use super::path;

/// The layers below.
#[derive(Debug)]
pub struct View {
    /// Top first. Opened when asked: a chain can be longer than the limit on open files.
    layers: Vec<PathBuf>,
    marks: Marks,
}

/// An entry that the view shows.
#[derive(Debug)]
pub struct Seen {
    /// The directory that holds it, in one of the layers.
    pub parent: Dir,
    /// What it is.
    pub info: Info,
}

/// What one layer says.
enum Says {
    Nothing,
    Gone,
    Here(Seen),
}

impl View {
    /// A view of these layers, base first.
    pub fn new(base_first: &[PathBuf], marks: Marks) -> Self {
        Self { layers: base_first.iter().rev().cloned().collect(), marks }
    }

    /// The topmost layer's root.
    pub fn top(&self) -> sys::Result<Option<Dir>> {
        self.layers.first().map(|path| Dir::open(path)).transpose()
    }

    /// What is at `clean`, a path without symlinks.
    pub fn look(&self, clean: &[u8]) -> sys::Result<Option<Seen>> {
        for layer in &self.layers {
            match self.ask(Dir::open(layer)?, clean)? {
                Says::Nothing => {}
                Says::Gone => return Ok(None),
                Says::Here(seen) => return Ok(Some(seen)),
            }
        }
        Ok(None)
    }

    fn ask(&self, root: Dir, clean: &[u8]) -> sys::Result<Says> {
        let Some((parents, name)) = path::split(clean) else { return Ok(Says::Nothing) };
        let mut dir = root;
        let mut opaque = self.marks.is_opaque(&dir)?;
        for component in parents.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let component = OsStr::from_bytes(component);
            match self.marks.look(&dir, component)? {
                Slot::Absent => return Ok(if opaque { Says::Gone } else { Says::Nothing }),
                Slot::Present { info, fresh } if info.kind == FileType::Directory => {
                    dir = dir.open_dir(component)?;
                    opaque |= fresh || self.marks.is_opaque(&dir)?;
                }
                Slot::Gone | Slot::Present { .. } => return Ok(Says::Gone),
            }
        }
        Ok(match self.marks.look(&dir, OsStr::from_bytes(name))? {
            Slot::Present { info, .. } => Says::Here(Seen { parent: dir, info }),
            Slot::Absent if !opaque => Says::Nothing,
            Slot::Absent | Slot::Gone => Says::Gone,
        })
    }
}
