//! What a container is doing, as one value whose variants carry what is known in them.

use jiff::Timestamp;

use crate::sys::process::Identity;
use crate::task::{Exit, State};

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was never started, or its start failed and left nothing but this.
    Created {
        /// The exit status and the reason of a start that failed.
        failure: Option<(u8, String)>,
    },
    /// Its program runs.
    Running {
        /// The program's process.
        process: Identity,
        /// Its supervisor.
        supervisor: Identity,
        /// Since when.
        started_at: Timestamp,
        /// Whether it stands still.
        paused: bool,
    },
    /// Its program ended.
    Exited(Exit),
    /// Its directory is gone: a removal that was not finished.
    Dead,
}

impl Status {
    pub(super) fn of(state: Option<State>, directory_exists: bool) -> Self {
        match state {
            _ if !directory_exists => Self::Dead,
            None => Self::Created { failure: None },
            Some(State::Running { process, supervisor, started_at, .. }) => {
                Self::Running { process, supervisor, started_at, paused: false }
            }
            Some(State::Exited(exit)) => Self::Exited(exit),
            Some(State::Failed { code, error, .. }) => Self::Created { failure: Some((code, error)) },
        }
    }

    /// The word that Docker has for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Running { paused: false, .. } => "running",
            Self::Running { paused: true, .. } => "paused",
            Self::Exited(_) => "exited",
            Self::Dead => "dead",
        }
    }

    /// The exit status, once there is one.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exited(exit) => exit.code,
            Self::Created { failure: Some((code, _)) } => *code,
            _ => 0,
        }
    }
}
