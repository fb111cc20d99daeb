//! `rm`: everything of a container goes, its record last, so that a removal that was killed can be repeated.

use std::path::Path;

use super::{Container, Error, Status, Store, io};
use crate::sys::lock::FileLock;
use crate::task;

impl Store {
    /// Removes the container; a running one only if `force` ends it first.
    pub fn remove(&self, container: &Container, force: bool) -> Result<(), Error> {
        if matches!(container.status, Status::Running { .. }) {
            if !force {
                return Err(container.wrong("remove", Some("stop the container before removing or force remove")));
            }
            self.end(container)?;
        }
        if container.directory.exists() {
            let _lock = self.lock(container)?;
            if matches!(&container.status, Status::Exited(exit) if exit.error.is_some()) {
                task::forget(&container.directory)?;
            }
            container.record.rootfs.remove(&container.directory)?;
            gone(&container.directory)?;
        }
        let id = &container.record.id;
        gone(&self.run_directory_of(id))?;
        let containers = self.db.containers();
        let fleeting = containers.is_fleeting(id)?;
        // Until now it was in use.
        self.db.used().note(container.record.image_id.as_str());
        if containers.remove(id)? {
            self.note("destroy", container.actor());
        }
        // Looking at every other container is more than a run for a moment should cost.
        if fleeting { Ok(()) } else { self.sweep() }
    }

    /// Removes the directories of creates that were killed. One that is going on keeps them all for now.
    fn sweep(&self) -> Result<(), Error> {
        let lock = FileLock::try_exclusive(&self.places.containers.join(".lock"));
        let lock = lock.map_err(|source| Error::Sys { what: "lock the containers' directory", source })?;
        let Some(_lock) = lock else { return Ok(()) };
        let containers = &self.places.containers;
        for entry in io("read", containers, std::fs::read_dir(containers))? {
            let entry = io("read", containers, entry)?;
            let id = entry.file_name().to_string_lossy().into_owned();
            if id.len() == 64 && self.db.containers().get(&id)?.is_none() {
                gone(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn gone(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => io("remove", path, other),
    }
}
