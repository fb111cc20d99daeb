//! `run`: create and start in one, in the foreground unless told otherwise.

use super::create::{BUNDLE, CONFIG, CONSOLE, NO_KEYRING, NO_PIVOT, NO_SUBREAPER, PID_FILE, PIDFD, PRESERVE};
use super::launch::{self, Made};
use super::notify::Notify;
use super::options::{Flag, Given, switch};
use super::{Command, Context, Error, Outcome, delete, foreground, hooks, id, warn_of};
use crate::engine::linux::Running;
use crate::sys::named;

static FLAGS: [Flag; 11] = [
    BUNDLE,
    CONFIG,
    CONSOLE,
    PIDFD,
    switch("detach", Some('d'), "leave the container running in the background"),
    switch("keep", None, "do not delete the container when it has ended"),
    PID_FILE,
    NO_SUBREAPER,
    NO_PIVOT,
    NO_KEYRING,
    PRESERVE,
];

/// `run`.
pub const COMMAND: Command =
    Command { flags: &FLAGS, sealed: true, ..Command::new("run", "create a container and run its program", run) };

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let id = id(given)?;
    let failed = |error| Error::Cannot { verb: "run", id: id.clone(), source: Box::new(error) };
    let detach = given.has("detach");
    if !detach && !given.has("no-subreaper") {
        become_subreaper().map_err(failed)?;
    }
    // Before there is a child whose end could be missed.
    let signals = (!detach).then(foreground::signals).transpose().map_err(failed)?;
    let made = launch::make(context, given, detach, false).map_err(failed)?;
    let (running, notify) = settle(context, made, detach).map_err(failed)?;
    let Some(signals) = signals else {
        return Ok(0);
    };
    let ended = foreground::stay(running, signals, notify);
    if !given.has("keep") {
        clear(context, &id);
    }
    ended.map_err(failed)
}

/// Does what is left to do once the program runs. From here on other commands may work on the container.
fn settle(context: &Context<'_>, made: Made, detach: bool) -> Result<(Running, Option<Notify>), Error> {
    let Made { container, process, bundle, notify } = made;
    if let Err(error) = hooks::poststart(&container.entry, bundle.spec()) {
        warn_of(context.log, delete::destroy(context, container));
        return Err(error);
    }
    let init = container.entry.record.init();
    drop(container);
    match (detach, notify, init) {
        (true, Some(notify), Some(init)) => {
            warn_of(context.log, notify.wait(init));
            Ok((process, None))
        }
        (_, notify, _) => Ok((process, notify)),
    }
}

/// Deletes the container, unless somebody else has.
pub fn clear(context: &Context<'_>, id: &str) {
    match context.store.lock(id) {
        Err(Error::NotExist) => {}
        locked => warn_of(context.log, locked.and_then(|container| delete::destroy(context, container))),
    }
}

/// Whoever loses a parent in the container's session becomes a child of ours, and is reaped.
pub fn become_subreaper() -> Result<(), Error> {
    let set = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    named(set, || "prctl(PR_SET_CHILD_SUBREAPER)".into()).map_err(Error::sys("become a subreaper"))
}
