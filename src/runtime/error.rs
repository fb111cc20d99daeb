//! Why a command failed. Engines look for some of these words in what runc says, so they are runc's.

use std::path::PathBuf;

use super::options::Wrong;
use super::status::Status;
use crate::error::{Failure, Kind};
use crate::{bundle, cgroup, engine, sys};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Usage(#[from] Wrong),
    #[error("{0}")]
    Words(String),
    #[error("container id cannot be empty")]
    EmptyId,
    #[error("invalid container ID format: {problem}")]
    InvalidId { problem: String },
    #[error("container does not exist")]
    NotExist,
    #[error("container with given ID already exists")]
    Exists,
    #[error("container not running")]
    NotRunning,
    #[error("container not paused")]
    NotPaused,
    #[error("cannot {verb} a container that is {status}")]
    WrongStatus { verb: &'static str, status: Status },
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped { id: String, status: Status },
    #[error("unknown signal {text:?}")]
    Signal { text: String },
    #[error("its state {path:?} cannot be read")]
    Record { path: PathBuf, source: serde_json::Error },
    #[error("its state was written by a newer wherry (version {version})")]
    NewerRecord { version: u32 },
    #[error("cannot {what}")]
    Sys { what: &'static str, source: sys::Error },
    #[error("{what} {path:?} cannot be read")]
    Json { what: &'static str, path: PathBuf, source: serde_json::Error },
    #[error("{what}: {reason}")]
    Refused { what: String, reason: String },
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    #[error(transparent)]
    Engine(#[from] engine::linux::Error),
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error("cannot run the WebAssembly program {program:?}")]
    Wasm { program: String, source: engine::wasm::Error },
    #[error(transparent)]
    Grant(#[from] engine::wasm::grant::Invalid),
    #[error("{what} is not possible: a WebAssembly program runs in the container")]
    IsWasm { what: &'static str, hint: &'static str },
    #[error(transparent)]
    Hook(#[from] engine::linux::hook::HookFailed),
    #[error("cannot {verb} container {id}")]
    Cannot { verb: &'static str, id: String, source: Box<Error> },
}

impl Error {
    /// Says what a system call was for.
    pub fn sys(what: &'static str) -> impl FnOnce(sys::Error) -> Self {
        move |source| Self::Sys { what, source }
    }

    /// Refuses an option or a wish by name.
    pub fn refuse(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), reason: reason.into() }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Usage(_) | Self::Words(_) | Self::EmptyId | Self::InvalidId { .. } => Kind::InvalidArgument,
            Self::Signal { .. } | Self::Json { .. } => Kind::InvalidArgument,
            Self::NotExist => Kind::NotFound,
            Self::Exists => Kind::AlreadyExists,
            Self::NotRunning | Self::NotPaused | Self::WrongStatus { .. } | Self::NotStopped { .. } => {
                Kind::FailedPrecondition
            }
            Self::Record { .. } => Kind::DataLoss,
            Self::Wasm { source, .. } => source.kind(),
            Self::Grant(source) => source.kind(),
            Self::NewerRecord { .. } | Self::Refused { .. } | Self::IsWasm { .. } => Kind::Unsupported,
            Self::Sys { source, .. } => source.kind(),
            Self::Bundle(source) => source.kind(),
            Self::Engine(source) => source.kind(),
            Self::Hook(source) => source.kind(),
            Self::Cgroup(source) => source.kind(),
            Self::Cannot { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(source) => source.hint(),
            Self::Cgroup(source) => source.hint(),
            Self::Wasm { source, .. } => source.hint(),
            Self::IsWasm { hint, .. } => Some((*hint).to_owned()),
            Self::Cannot { source, .. } => source.hint(),
            _ => None,
        }
    }
}
