//! From what the engine may do to what the program may do: user, groups, capabilities, system calls.
//!
//! The filter comes last of what it could refuse, right before the program. Without no_new_privs only CAP_SYS_ADMIN
//! may load one, so it comes before that is given up.

use std::os::fd::{AsRawFd, OwnedFd};

use super::handshake::{self, Failed, FromInit};
use super::process::{Caps, ProcessPlan};
use super::stage::{Done, End, step};
use crate::sys::{self, caps, named};

/// What only the host's `/proc` tells: the container may have none.
pub(super) struct Facts {
    last_capability: usize,
    groups_are_fixed: bool,
}

impl Facts {
    pub fn gather() -> Done<Self> {
        Self::last_capability().map(Self::here)
    }

    pub fn last_capability() -> Done<usize> {
        step(caps::last(), "look at the kernel's capabilities")
    }

    /// With what this user namespace says about groups.
    pub fn here(last_capability: usize) -> Self {
        Self { last_capability, groups_are_fixed: sys::user::groups_are_fixed() }
    }
}

/// Becomes the first user of a user namespace, who owns what is made in it. Where the maps have none, it stays who
/// it is, with all rights over the namespace.
pub(super) fn become_root_of_namespace() -> Done {
    let what = "become the user namespace's root";
    if !sys::user::groups_are_fixed() {
        step(sys::user::set_groups(&[]), what)?;
    }
    match sys::user::become_user(0, 0) {
        Err(error) if error.errno() == Some(rustix::io::Errno::INVAL.raw_os_error()) => Ok(()),
        done => step(done, what),
    }
}

/// Becomes the program's user, with all the capabilities that are left to use until [`drop_privileges`].
pub(super) fn become_user(plan: &ProcessPlan, facts: &Facts) -> Done {
    let (_, held) = step(caps::current(), "look at its capabilities")?;
    step(caps::bound(plan.caps.bounding, facts.last_capability), "bound its capabilities")?;
    step(caps::keep_over_setuid(true), "keep its capabilities over the change of user")?;
    if !(facts.groups_are_fixed && plan.groups.is_empty()) {
        step(sys::user::set_groups(&plan.groups), "leave the host's groups")?;
    }
    step(sys::user::become_user(plan.uid, plan.gid), "become the user")?;
    step(caps::keep_over_setuid(false), "keep its capabilities no longer")?;
    let none = caps::Set::default();
    step(caps::set(held, held, none, none), "regain its capabilities")?;
    if plan.no_new_privileges {
        step(sys::seccomp::set_no_new_privs(), "give up new privileges")?;
    }
    Ok(())
}

/// Waits for the filter that was compiled meanwhile.
pub(super) fn await_filter(plan: &mut ProcessPlan, socket: &OwnedFd) -> Done {
    if plan.filtered {
        plan.filter = Some(handshake::receive_filter(socket)?.ok_or(End::Alone)?);
    }
    Ok(())
}

/// Gives up what the program must not have. A listener for the filter goes to who is at the other end of `socket`.
pub(super) fn drop_privileges(plan: &ProcessPlan, socket: &OwnedFd) -> Done {
    let Caps { effective, permitted, inheritable, ambient, .. } = plan.caps;
    let (_, held) = step(caps::current(), "look at its capabilities")?;
    // A capability that the host does not let us have cannot be handed on.
    let within = |set: caps::Set| caps::Set(set.0 & held.0);
    // Executed by another user than root, a program keeps the ambient ones alone.
    let root = plan.uid == 0;
    let (effective, permitted) = if root { (effective, permitted) } else { (ambient, ambient) };
    if !plan.no_new_privileges {
        load_filter(plan, socket)?;
    }
    let set = caps::set(within(effective), within(permitted), within(inheritable), within(ambient));
    step(set, "set its capabilities")?;
    if plan.no_new_privileges {
        load_filter(plan, socket)?;
    }
    Ok(())
}

/// Loads the filter. Its listener cannot be sent, as sending may be what it listens for: the other side is told its
/// number and takes it, while this side waits for nothing but a read.
fn load_filter(plan: &ProcessPlan, socket: &OwnedFd) -> Done {
    let Some(filter) = &plan.filter else { return Ok(()) };
    let loaded = step(sys::seccomp::load(filter.program(), filter.flags()), "load the seccomp filter")?;
    let Some(listener) = loaded else { return Ok(()) };
    handshake::write(socket, &FromInit::Listener { number: listener.as_raw_fd() })?;
    let mut answer = [0; 64];
    let taken = named(rustix::io::read(socket, &mut answer[..]), || "read()".into());
    match step(taken, "hand the seccomp listener on")? {
        0 => Err(Failed::vanished().into()),
        _ => Ok(()),
    }
}
