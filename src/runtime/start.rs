//! `start`: the program of a created container runs.

use super::notify::Notify;
use super::options::Given;
use super::status::Status;
use super::store::Locked;
use super::{Command, Context, Error, Outcome, hooks, id, kill, warn_of};
use crate::bundle::Bundle;
use crate::engine::linux;

/// `start`.
pub const COMMAND: Command = Command::new("start", "run the program of a created container", run);

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let id = id(given)?;
    start(context, given).map(|()| 0).map_err(|error| match error {
        Error::NotExist => error,
        error => Error::Cannot { verb: "start", id, source: Box::new(error) },
    })
}

fn start(context: &Context<'_>, given: &Given) -> Result<(), Error> {
    let container = context.locked(given)?;
    let entry = &container.entry;
    let init = match (entry.status(), entry.record.init()) {
        (Status::Created, Some(init)) => init,
        (status, _) => return Err(Error::wrong_status("start", status)),
    };
    let (bundle, _) = Bundle::read_from(&entry.record.bundle, &entry.config())?;
    let mut notify = Notify::wanted(&entry.directory).filter(Notify::has_directory);
    notify.as_mut().map_or(Ok(()), Notify::listen)?;
    let about = linux::About { id: &entry.record.id, bundle: bundle.directory(), spec: bundle.spec() };
    linux::gate::start(&entry.directory, init, &about)?;
    poststart(context, &container, &bundle)?;
    drop(container);
    notify.map_or(Ok(()), |notify| notify.wait(init))
}

/// A hook that fails ends the container (runtime.md, lifecycle, step 9).
fn poststart(context: &Context<'_>, container: &Locked, bundle: &Bundle) -> Result<(), Error> {
    let ran = hooks::poststart(&container.entry, bundle.spec());
    if ran.is_err() {
        warn_of(context.log, kill::send(&container.entry, libc::SIGKILL, false));
    }
    ran
}
