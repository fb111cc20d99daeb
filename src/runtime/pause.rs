//! `pause` and `resume`: all processes of a container stop, and go on.

use super::options::Given;
use super::status::Status;
use super::{Command, Context, Error, Outcome, cgroup};

/// `pause`.
pub const PAUSE: Command = Command::new("pause", "suspend all processes of a container", pause);

/// `resume`.
pub const RESUME: Command = Command::new("resume", "let the processes of a paused container go on", resume);

fn pause(context: &Context<'_>, given: &Given) -> Outcome {
    let container = context.locked(given)?;
    match container.entry.status() {
        Status::Running | Status::Created => cgroup::need(&container.entry, |group| Ok(group.freeze()?))?,
        _ => return Err(Error::NotRunning),
    }
    Ok(0)
}

fn resume(context: &Context<'_>, given: &Given) -> Outcome {
    let container = context.locked(given)?;
    match container.entry.status() {
        Status::Paused => cgroup::need(&container.entry, |group| Ok(group.thaw()?))?,
        _ => return Err(Error::NotPaused),
    }
    Ok(0)
}
