//! The hooks of a container's life that fall to this door: after its start and after its end. The others run
//! while the engine makes it.

use super::error::Error;
use super::status::Status;
use super::store::Entry;
use crate::bundle::Bundle;
use crate::engine::linux::hook::{self, Hooks};
use crate::oci::runtime::Spec;

/// Runs the hooks of a container whose program has been started.
pub fn poststart(entry: &Entry, spec: &Spec) -> Result<(), Error> {
    let hooks = Hooks::plan(spec.hooks().as_ref())?.poststart;
    if hooks.is_empty() {
        return Ok(());
    }
    Ok(hook::run_all(&hooks, &super::state::for_hooks(entry, Status::Running))?)
}

/// Runs the hooks of a container that has ended: all of them, whatever comes of the others.
pub fn poststop(entry: &Entry) -> Result<(), Error> {
    // As it was at create: the bundle may be gone.
    let (bundle, _) = Bundle::read_from(&entry.record.bundle, &entry.config())?;
    let hooks = Hooks::plan(bundle.spec().hooks().as_ref())?.poststop;
    if hooks.is_empty() {
        return Ok(());
    }
    let state = super::state::for_hooks(entry, Status::Stopped);
    let ran: Vec<_> = hooks.iter().map(|hook| hook.run(&state)).collect();
    ran.into_iter().collect::<Result<(), _>>().map_err(Error::from)
}
