//! A container's files as an archive: all of them, or what it changed.

use std::io::Write;
use std::path::Path;

use super::usage::cgroup;
use super::{Container, Error, Status, Store, files};
use crate::cgroup::Cgroup;

impl Store {
    /// Writes all files of the container, running or not, as they are without what is mounted over them.
    pub fn export(&self, container: &Container, out: &mut dyn Write) -> Result<(), Error> {
        self.snapshots.export(&container.record.rootfs, out)?;
        self.note("export", container.actor());
        Ok(())
    }

    /// Writes what the container changed in its image, as the archive of a layer; how many entries that has. Its processes
    /// stand still meanwhile if `pause` says so.
    pub fn changes(&self, container: &Container, pause: bool, out: &mut dyn Write) -> Result<u64, Error> {
        let _frozen = match (&container.status, pause) {
            (Status::Running { .. }, true) => Frozen::new(container)?,
            _ => None,
        };
        let mounted = files::NAMES.map(|name| Path::new("etc").join(name));
        let mounted: Vec<&Path> = mounted.iter().map(AsRef::as_ref).collect();
        Ok(self.snapshots.diff(&container.record.rootfs, &container.record.layers, &mounted, out)?)
    }

    /// Writes down that an image was made of the container.
    pub fn note_commit(&self, container: &Container, image: &str, reference: &str, comment: &str) {
        let actor = container.actor().with("comment", comment).with("imageID", image).with("imageRef", reference);
        self.note("commit", actor);
    }
}

/// A container whose processes stand still, until this is dropped.
struct Frozen {
    cgroup: Cgroup,
}

impl Frozen {
    /// None where an ordinary user was delegated no cgroup; and none where the container stands still already.
    fn new(container: &Container) -> Result<Option<Self>, Error> {
        let Some(cgroup) = cgroup(container)? else { return Ok(None) };
        if cgroup.is_frozen()? {
            return Ok(None);
        }
        let frozen = Self { cgroup };
        frozen.cgroup.freeze()?;
        Ok(Some(frozen))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // One that has ended meanwhile has no cgroup any more to be thawed.
        crate::error::tolerate(self.cgroup.thaw());
    }
}
