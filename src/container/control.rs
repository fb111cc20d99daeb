//! `pause`, `unpause`, `rename` and `update`: what is changed of a container that stays.
//!
//! Whether a container stands still is the kernel's to say. A file of the run directory says only for which containers it
//! is asked, so that a list of a thousand looks at no cgroup: it is there before the first process stands still, and goes
//! after the last goes on.

use std::fs;
use std::path::PathBuf;

use super::intent::resources;
use super::usage::cgroup;
use super::{Container, Error, HostConfig, Record, StartOptions, Status, Store, io, name};
use crate::bundle;
use crate::cgroup::{Cgroup, Hierarchies};
use crate::engine::Engine;
use crate::error::tolerate;

/// The file of a run directory that says that a container may stand still.
const PAUSED: &str = "paused";

impl Store {
    /// Makes all processes of the container stand still.
    pub fn pause(&self, container: &Container) -> Result<(), Error> {
        let _lock = self.lock(container)?;
        match self.find(&container.record.id)?.status {
            Status::Running { paused: false, .. } => {}
            Status::Running { paused: true, .. } => return Err(container.refused("is already paused")),
            _ => return Err(container.refused("is not running")),
        }
        let group = self.group(container)?;
        let mark = self.pause_mark(container);
        io("write", &mark, fs::write(&mark, ""))?;
        if let Err(error) = group.freeze() {
            tolerate(group.thaw());
            tolerate(fs::remove_file(&mark));
            return Err(error.into());
        }
        self.note("pause", container.actor());
        Ok(())
    }

    /// Lets them go on.
    pub fn unpause(&self, container: &Container) -> Result<(), Error> {
        let _lock = self.lock(container)?;
        if !matches!(self.find(&container.record.id)?.status, Status::Running { paused: true, .. }) {
            return Err(container.refused("is not paused"));
        }
        self.thaw(container)?;
        self.note("unpause", container.actor());
        Ok(())
    }

    pub(super) fn thaw(&self, container: &Container) -> Result<(), Error> {
        self.group(container)?.thaw()?;
        // One that is left is found out by whoever looks.
        tolerate(fs::remove_file(self.pause_mark(container)));
        Ok(())
    }

    /// Whether a container that runs stands still.
    pub(super) fn is_paused(&self, container: &Container) -> bool {
        let asked = self.pause_mark(container).exists();
        // Of one that ends in this moment nothing can be told any more.
        asked && cgroup(container).ok().flatten().is_some_and(|group| group.is_frozen().unwrap_or(false))
    }

    fn pause_mark(&self, container: &Container) -> PathBuf {
        self.run_directory_of(&container.record.id).join(PAUSED)
    }

    fn group(&self, container: &Container) -> Result<Cgroup, Error> {
        cgroup(container)?.ok_or_else(|| Error::NoCgroup { name: container.name.clone() })
    }

    /// Ends the container as [`Store::stop`] does, if it runs, and starts it.
    pub fn restart(&self, container: &Container, signal: Option<i32>, seconds: Option<i64>) -> Result<(), Error> {
        self.stop(container, signal, seconds)?;
        // Its status is another one now.
        drop(self.start(&self.find(&container.record.id)?, StartOptions::default())?);
        self.note("restart", container.actor());
        Ok(())
    }

    /// Gives the container another name.
    pub fn rename(&self, container: &Container, new: &str) -> Result<(), Error> {
        let new = name::check(new)?;
        if new == container.name {
            return Err(Error::SameName);
        }
        match self.db.containers().rename(&container.record.id, &new) {
            Err(crate::state::Error::NameTaken { name, owner }) => Err(Error::NameTaken { name, owner }),
            other => {
                other?;
                let renamed = Container { name: new, ..container.clone() };
                self.note("rename", renamed.actor().with("oldName", format!("/{}", container.name)));
                Ok(())
            }
        }
    }

    /// Changes the limits of the container: at once if it runs, and for its next start in any case.
    pub fn update<E: From<Error>>(
        &self,
        container: &Container,
        change: impl FnOnce(&mut HostConfig) -> Result<(), E>,
    ) -> Result<(), E> {
        let _lock = self.lock(container)?;
        let container = self.find(&container.record.id)?;
        let mut record = container.record.clone();
        change(&mut record.host_config)?;
        let limits = limits(&record)?;
        if matches!(container.status, Status::Running { .. }) {
            let mut group = self.group(&container)?;
            let hierarchies = Hierarchies::detect().map_err(Error::from)?;
            group.update(hierarchies, &limits).map_err(Error::from)?;
        }
        let json = serde_json::to_string(&record).expect("a record is plain data");
        self.db.containers().update(&record.id, |_| Ok::<_, crate::state::Error>(json)).map_err(Error::from)?;
        self.note("update", container.actor());
        Ok(())
    }
}

fn limits(record: &Record) -> Result<crate::oci::runtime::LinuxResources, Error> {
    // A Wasm program's memory is also the engine's business, which was told at its start.
    if record.engine == Engine::Wasm && record.host_config.memory != 0 {
        return Err(Error::UpdateOfWasm);
    }
    Ok(bundle::limits(&resources(&record.host_config, record.engine)?))
}

impl Container {
    fn refused(&self, problem: &'static str) -> Error {
        Error::Refused { name: self.name.clone(), problem }
    }
}
