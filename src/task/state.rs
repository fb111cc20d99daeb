//! The state of a task, in one file that is always whole: written beside and renamed over.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::event::Actor;
use crate::sys::process::Identity;

/// The exit status of a container whose end nobody saw, as Docker has it after a crash.
const UNSEEN: u8 = 255;

/// Where a task is in its life. There is no file before the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    /// The program runs.
    Running {
        /// The program's process, as the host sees it.
        process: Identity,
        /// Its supervisor.
        supervisor: Identity,
        /// Since when.
        started_at: Timestamp,
        /// In which boot; pids mean nothing in another.
        boot: String,
    },
    /// The program ended.
    Exited(Exit),
    /// The program could not be started.
    Failed {
        /// The exit status that stands for it.
        code: u8,
        /// Why.
        error: String,
        /// When.
        finished_at: Timestamp,
    },
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit status; 128 and the signal that ended it.
    pub code: u8,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What else there is to say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the kernel killed a process of it for want of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// How a Wasm program trapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trap: Option<String>,
}

impl Exit {
    /// What an event `die` says of it, of the container that `actor` names.
    pub fn told_of(&self, actor: Actor) -> Actor {
        let seconds = self.finished_at.as_second() - self.started_at.as_second();
        let actor = actor.with("exitCode", self.code).with("execDuration", seconds);
        self.trap.iter().fold(actor, |actor, trap| actor.with("trap", trap))
    }
}

impl State {
    /// The state of the container in `directory`; `None` when it was never started.
    pub fn read(directory: &Path) -> Result<Option<Self>, Error> {
        let path = file(directory);
        let failed = |source| Error::State { what: "read", path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|e| failed(e.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Replaces the state of the container in `directory`; if it is to last, it is on the disk after this.
    pub(super) fn write(&self, directory: &Path, lasting: bool) -> Result<(), Error> {
        let path = file(directory);
        let temp = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temp)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            if lasting {
                file.sync_data()?;
            }
            std::fs::rename(&temp, &path)
        };
        write().map_err(|source| Error::State { what: "write", path: path.clone(), source })
    }

    /// The state of the container in `directory` as the kernel confirms it. A task that is said to run, and
    /// whose supervisor does not exist, has ended unseen: that is recorded, with when it was found out.
    pub fn settled(directory: &Path, found_out: impl FnOnce(&Exit)) -> Result<Option<Self>, Error> {
        let state = Self::read(directory)?;
        let Some(Self::Running { supervisor, started_at, boot: then, .. }) = &state else { return Ok(state) };
        let same_boot = *then == boot();
        if same_boot && supervisor.alive() {
            return Ok(state);
        }
        // It may have ended properly between the two looks.
        let again = Self::read(directory)?;
        if again != state {
            return Ok(again);
        }
        let error = if same_boot { "its supervisor was killed" } else { "the machine was restarted" };
        let finished_at = Timestamp::now();
        let exit = Exit {
            code: UNSEEN,
            started_at: *started_at,
            finished_at,
            error: Some(error.to_owned()),
            oom_killed: false,
            trap: None,
        };
        let ended = Self::Exited(exit.clone());
        ended.write(directory, true)?;
        found_out(&exit);
        Ok(Some(ended))
    }
}

/// The identity of this boot of the machine.
pub(super) fn boot() -> String {
    // Only a kernel without procfs lacks it, on which no container runs.
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn file(directory: &Path) -> PathBuf {
    directory.join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(supervisor: Identity) -> State {
        State::Running { process: supervisor, supervisor, started_at: Timestamp::now(), boot: boot() }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(State::read(directory.path()).unwrap(), None);
        let state = running(Identity::of(std::process::id() as i32).unwrap());
        state.write(directory.path(), true).unwrap();
        assert_eq!(State::read(directory.path()).unwrap(), Some(state.clone()));
        assert_eq!(State::settled(directory.path(), |_| panic!("it runs")).unwrap(), Some(state));
    }

    #[test]
    fn a_task_without_a_supervisor_has_ended() {
        let me = Identity::of(std::process::id() as i32).unwrap();
        let reused = Identity { start_time: me.start_time + 1, ..me };
        let directory = tempfile::tempdir().unwrap();
        running(reused).write(directory.path(), false).unwrap();
        let mut told = 0;
        let settled = State::settled(directory.path(), |_| told += 1).unwrap();
        assert_eq!(State::settled(directory.path(), |_| panic!("it is known")).unwrap(), settled);
        assert_eq!(told, 1);
        assert!(matches!(settled, Some(State::Exited(Exit { code: UNSEEN, .. }))));
        assert_eq!(State::read(directory.path()).unwrap(), settled, "and it stays found out");
    }
}
