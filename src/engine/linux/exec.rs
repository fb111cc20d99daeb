//! Executing a further program in a container: the child joins the namespaces of the container's init, by a handle
//! to that process, and gets the rights that its own description gives it, under the container's filter.
//!
//! ```text
//!  parent                                child
//!  enter pid and time for its children
//!  clone3 (into the cgroup) ──────────▶  the other namespaces, all at once
//!  go back                               streams, limits, user
//!  recorded; Joined ──────────────────▶
//!                                        capabilities, filter, execve
//!         ◀─── end of file: it runs; Failed: it does not
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::credential::{self, Facts};
use super::handshake::ToInit;
use super::listener::{About, Listener};
use super::namespace::{self, Away};
use super::process::ProcessPlan;
use super::schedule::Affinity;
use super::stage::{self, Done, End, step, wait_for};
use super::{Created, Error, Options, Running, Stdio, Until, Way, console, init, program, root, stream};
use crate::cgroup::Cgroup;
use crate::oci::runtime::{Process, Spec};
use crate::sys;
use crate::sys::process::{Child, Identity, enter, ns};
use crate::sys::procfs::Procfs;

/// What to execute, and where.
pub struct Exec<'a> {
    /// The container's init.
    pub init: Identity,
    /// Which container it is.
    pub about: About<'a>,
    /// The program.
    pub process: &'a Process,
    /// Its standard streams.
    pub stdio: Stdio,
    /// The cgroup to be in.
    pub cgroup: Option<&'a Cgroup>,
    /// How it is done.
    pub options: Options,
    /// Told of the process as soon as there is one; until it returns, the process dies with the caller.
    pub made: &'a dyn Fn(&Child) -> sys::Result<()>,
}

/// Executes a program in a running container; returns when it runs.
pub fn exec(exec: Exec<'_>) -> Result<Running, Error> {
    let Exec { init, about, process, stdio, cgroup, options, made } = exec;
    let plan = ProcessPlan::new(process, about.spec, false)?;
    let affinity = Affinity::plan(process)?;
    let failed = |what| move |source| Error::Sys { what, source };
    let target = init.open().map_err(failed("find the container's init process"))?.ok_or(Error::Stopped)?;
    let (ours, theirs) = sys::socket::packet_pair().map_err(failed("reach the new process"))?;
    // The new process is born among the container's: none of them must get at it while it is still ours.
    sys::process::hide().map_err(failed("hide from the container"))?;
    let mut flags = namespaces(about.spec);
    let moves_in = flags & ns::USER != 0 && !rustix::process::geteuid().is_root();
    if moves_in {
        // An ordinary user has no rights over the others before; this process is not needed outside any more.
        enter(target.as_fd(), ns::USER).map_err(failed("join the container's user namespace"))?;
        flags &= !ns::USER;
    }
    let mut away = Away::nowhere();
    for flag in [ns::PID, ns::TIME].into_iter().filter(|flag| flags & flag != 0) {
        away.enter_fd(target.as_fd(), flag).map_err(failed("join the container's namespaces"))?;
    }
    flags &= !(ns::PID | ns::TIME);
    let way = Way::into(cgroup)?;
    let child = sys::process::clone(0, way.birthplace, || {
        // Or it would never hear of our end.
        sys::process::close_in_child(ours.as_fd());
        Entrant { plan, affinity, target: target.as_fd(), flags, way: &way, options }.main(stdio, &theirs)
    });
    let returned = if moves_in { Ok(()) } else { away.back_if_possible() };
    drop(theirs);
    let child = child.map_err(failed("clone the new process"))?;
    let mut created = Created { child, socket: ours, console: None, listener: Listener::of(&about) };
    // From here on the process is ended and reaped if anything fails: while it is not, the container cannot end.
    let reached = returned
        .and_then(|()| created.record(&way, made))
        .and_then(|()| created.equip(about.spec, false))
        .and_then(|()| created.attend(Until::Runs, |_| Ok(())));
    created.finish(reached)
}

/// `ns::*` of the namespaces in which the container is not where we are.
fn namespaces(spec: &Spec) -> u64 {
    let listed = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    listed.fold(0, |flags, namespace| flags | namespace::flag(namespace.typ()).0)
}

/// The new process, on its way in.
struct Entrant<'a> {
    plan: ProcessPlan,
    affinity: Affinity,
    target: BorrowedFd<'a>,
    flags: u64,
    way: &'a Way<'a>,
    options: Options,
}

impl Entrant<'_> {
    fn main(mut self, stdio: Stdio, socket: &OwnedFd) -> i32 {
        let joined = self.join(stdio, socket).and_then(|()| credential::await_filter(&mut self.plan, socket));
        program::give_home(&mut self.plan);
        match joined.and_then(|()| credential::drop_privileges(&self.plan, socket)) {
            Ok(()) => init::report(End::Failed(program::execute(&self.plan)), socket),
            Err(end) => init::report(end, socket),
        }
    }

    fn join(&self, stdio: Stdio, socket: &OwnedFd) -> Done {
        let Self { plan, affinity, target, flags, way, options } = self;
        let (target, flags) = (*target, *flags);
        stage::begin()?;
        step(affinity.apply_initial(), "set the first processors")?;
        stage::enter_cgroup(way.entrance.as_ref())?;
        // The last moment at which /proc is the host's.
        let proc = step(Procfs::ours(), "find the host's procfs")?;
        init::about_itself(plan, &proc, options)?;
        let last = Facts::last_capability()?;
        if flags & ns::USER != 0 {
            step(enter(target, ns::USER), "join the container's user namespace")?;
        }
        let facts = Facts::here(last);
        if flags & !ns::USER != 0 {
            step(enter(target, flags & !ns::USER), "join the container's namespaces")?;
        }
        if flags & ns::USER != 0 {
            credential::become_root_of_namespace()?;
            stage::die_with_parent(true)?;
        }
        let slash = root::open_slash()?;
        let terminal = stream::connect(stdio, slash.as_fd(), false, socket)?;
        drop((slash, terminal));
        init::confine(plan, &proc)?;
        drop(proc);
        step(console::give_streams(plan.uid), "give the streams to the user")?;
        let entered = program::enter_directory(&plan.cwd, true)?;
        credential::become_user(plan, &facts)?;
        if !entered {
            program::enter_directory(&plan.cwd, false)?;
        }
        wait_for(socket, &ToInit::Joined)?;
        step(affinity.apply_final(), "set the processors")?;
        stage::die_with_parent(!options.outlive)?;
        step(sys::process::cloexec_from(3 + options.preserve_fds), "close the files of the host")
    }
}
