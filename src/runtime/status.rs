//! What a container is doing. It is never stored: it follows from the record and from what the kernel knows.
//!
//! ```text
//! creating ──▶ created ──start──▶ running ◀──resume── paused
//!    │            │                  │  └────pause─────▶ ▲
//!    └────────────┴──────────────────┴──▶ stopped ◀──────┘
//! ```

use std::os::unix::fs::MetadataExt;

use super::store::Entry;
use crate::engine::{Engine, linux};

/// The status words of the runtime specification, and `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A create is at work.
    Creating,
    /// Its process waits for start.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended, or its create was killed.
    Stopped,
}

/// What there is to see of a container.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    /// Whether there is a process in the record.
    recorded: bool,
    /// Whether that very process is there.
    alive: bool,
    /// Whether a command holds the container.
    held: bool,
    /// Whether somebody waits at the gate.
    waits: bool,
    /// Whether the process has not executed the program yet, but runs our own binary.
    ours: bool,
    /// Whether the cgroup is frozen.
    frozen: bool,
}

impl Status {
    /// The container's status.
    pub fn of(entry: &Entry) -> Self {
        let Some(init) = entry.record.init() else {
            return Signs { held: entry.is_held(), ..Signs::default() }.into();
        };
        if !init.alive() {
            return Self::Stopped;
        }
        let frozen = super::cgroup::is_frozen(entry);
        let waits = linux::gate::waits(&entry.directory);
        // A WebAssembly program is run by our own binary for good.
        let ours = entry.record.engine == Engine::Linux && is_ours(init.pid);
        Signs { recorded: true, alive: true, held: false, waits, ours, frozen }.into()
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Whether a process runs our own binary. One that must not be looked at has executed something else since.
fn is_ours(pid: i32) -> bool {
    let file = |exe: &str| std::fs::metadata(exe).ok().map(|found| (found.dev(), found.ino()));
    file("/proc/self/exe").is_some_and(|own| file(&format!("/proc/{pid}/exe")) == Some(own))
}

impl From<Signs> for Status {
    fn from(signs: Signs) -> Self {
        match signs {
            Signs { recorded: false, held: true, .. } => Self::Creating,
            Signs { recorded: false, .. } | Signs { alive: false, .. } => Self::Stopped,
            Signs { frozen: true, .. } => Self::Paused,
            Signs { waits: true, .. } => Self::Created,
            // On its way to the gate, or from there to the program.
            Signs { ours: true, .. } => Self::Creating,
            _ => Self::Running,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_the_last_word() {
        let none = Signs::default();
        let alive = Signs { recorded: true, alive: true, ..none };
        for (signs, status) in [
            (Signs { held: true, ..none }, Status::Creating),
            (none, Status::Stopped),
            (Signs { recorded: true, ..none }, Status::Stopped),
            (Signs { waits: true, ..alive }, Status::Created),
            (Signs { waits: true, ours: true, ..alive }, Status::Created),
            (Signs { ours: true, ..alive }, Status::Creating),
            (alive, Status::Running),
            (Signs { frozen: true, ..alive }, Status::Paused),
            (Signs { frozen: true, waits: true, ..alive }, Status::Paused),
            // A leftover socket or group means nothing once the process is gone.
            (Signs { alive: false, waits: true, frozen: true, ..alive }, Status::Stopped),
        ] {
            assert_eq!(Status::from(signs), status, "{signs:?}");
        }
    }
}
