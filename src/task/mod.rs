//! One running container, from its start to its exit status, by one owner.
//!
//! ```text
//!  CLI or daemon ──launch──▶ supervisor ──engine──▶ the program
//!      │  ▲                   │ parent, single-threaded, no async runtime
//!      │  └─── frames ────────┤ stdio → log and attached clients
//!      └─ may die ────────────┘ exit status → state.json, once
//! ```
//!
//! The supervisor is a process of the same binary, executed from a handle that cannot be written and
//! detached from whoever launched it. The launcher's end of the socket that carries the orders becomes
//! the first attached client, so that not a byte of output is missed between the start and the attach.
//!
//! The container's state is the file `state.json` in its directory ([`State`]). Only the supervisor
//! replaces it. When that says `running` and no such process exists, the supervisor was killed or the
//! machine rebooted; whoever looks then says so ([`State::settled`]).

mod ask;
mod forget;
mod launch;
mod relay;
mod session;
mod state;
mod streams;
mod supervise;
pub mod wire;

use std::path::PathBuf;

pub use ask::{execute, look};
pub use forget::forget;
pub use launch::{Files, Launched, Waiting, prepare};
pub use relay::{Attachment, End, relay, signal};
use serde::{Deserialize, Serialize};
pub use state::{Exit, State};
pub use supervise::supervise;

use crate::engine::Engine;
use crate::error::{Failure, Kind};
use crate::event::{Actor, Journal};
use crate::sys::{self, pty};

/// The name under which the binary is executed to supervise a container.
pub const SUPERVISE: &str = "wherry-supervise";

/// The socket of a supervisor, in the directory for what a reboot may forget.
const ATTACH: &str = "attach.sock";

/// What the supervisor is told; the root filesystem's mount, the compiled program and its sockets come with it as
/// files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The container's directory: its bundle, its log, its state.
    pub directory: PathBuf,
    /// The directory for what a reboot may forget.
    pub run: PathBuf,
    /// What the last step of the start does.
    pub engine: Engine,
    /// The terminal's size, for a program that has one.
    pub terminal: Option<pty::Size>,
    /// Whether the program's standard input is open, to be written by clients; it is empty otherwise.
    pub stdin: bool,
    /// Whether the launcher stays attached; the input then ends when it goes away.
    pub attached: bool,
    /// Where it is written down what happens.
    pub journal: Journal,
    /// The container, as its events name it.
    pub actor: Actor,
    /// How many listening sockets come with the orders, for a program that is a server.
    #[serde(default)]
    pub sockets: usize,
    /// The arguments with which our binary removes the container after its end, if it is to be removed.
    pub cleanup: Option<Vec<String>>,
}

/// A further program to execute in a running container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Execution {
    /// Its name among events.
    pub id: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// All of its environment but `HOME`, which follows from the user.
    pub env: Vec<String>,
    /// Where it starts, if not where the container's program did.
    pub cwd: Option<PathBuf>,
    /// Who it runs as, as it was typed, if not as the container's program.
    pub user: Option<String>,
    /// The terminal's size, if it is to have one.
    pub terminal: Option<pty::Size>,
    /// Whether its standard input is open.
    pub stdin: bool,
    /// Whether it has all capabilities.
    pub privileged: bool,
}

/// Why a container could not be started, as it crossed from the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StartFailure {
    /// The chain of what went wrong.
    pub message: String,
    /// What might help.
    pub hint: Option<String>,
    /// The exit status that stands for it: 125, 126 or 127.
    pub status: u8,
}

impl Failure for StartFailure {
    fn kind(&self) -> Kind {
        match self.status {
            127 => Kind::NotFound,
            126 => Kind::PermissionDenied,
            _ => Kind::FailedPrecondition,
        }
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// Why a supervisor could not be reached, or its state not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("cannot {what}")]
    Sys {
        /// What was being done.
        what: &'static str,
        /// The call.
        source: sys::Error,
    },
    /// The container's state file cannot be read or written.
    #[error("cannot {what} {path:?}")]
    State {
        /// Read or write.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cgroup of a container that lost its supervisor cannot be removed.
    #[error("cannot remove the cgroup that a killed supervisor left")]
    Cgroup(#[from] crate::cgroup::Error),
    /// The bundle of a container that lost its supervisor cannot be read.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::Error),
    /// The container could not be started.
    #[error(transparent)]
    Start(#[from] StartFailure),
    /// The supervisor died, or is not one.
    #[error("the container's supervisor {what}")]
    Supervisor {
        /// What it did.
        what: &'static str,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Sys { source, .. } => source.kind(),
            Self::State { source, .. } => Kind::of_io(source),
            Self::Cgroup(source) => source.kind(),
            Self::Bundle(source) => source.kind(),
            Self::Start(failure) => failure.kind(),
            Self::Supervisor { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Start(failure) => failure.hint(),
            _ => None,
        }
    }
}
