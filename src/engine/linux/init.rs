//! The init stage: what the child does between its clone and its program, a step at a time and in the
//! only order that works. A step that fails ends the stage, and tells the supervisor which it was.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::credential::{self, Facts, become_user, drop_privileges};
use super::handshake::{self, Failed, FromInit, ToInit};
use super::hook::{self, Hook};
use super::mounts::{self, Seal, Step};
use super::plan::Plan;
use super::process::{self, ProcessPlan};
use super::stage::{self, Done, End, step, wait_for};
use super::wall::Wall;
use super::{Options, Request, Stdio, console, device, gate, program, root, stream};
use crate::cgroup::Entrance;
use crate::engine::wasm;
use crate::error::{chain, tolerate};
use crate::oci::runtime::{ContainerState, PosixRlimitType, Spec};
use crate::sys::procfs::Procfs;
use crate::sys::{self, named};

/// Runs the stage, then the program; returns the exit status of what had no program to become.
pub(super) fn main(
    mut plan: Plan,
    request: Request<'_>,
    root: Option<OwnedFd>,
    entrance: Option<&Entrance>,
    socket: OwnedFd,
) -> i32 {
    let Request { stdio, wasm, bundle, options, .. } = request;
    let is_wasm = wasm.is_some();
    if let Err(end) = stage::begin().and_then(|()| stage::enter_cgroup(entrance)) {
        return report(end, &socket);
    }
    let loaded = match isolate(&plan, root, stdio, &socket, wasm.map(|wasm| (wasm, bundle.spec())), &options) {
        Ok(loaded) => loaded,
        Err(end) => return report(end, &socket),
    };
    if let Err(end) = credential::await_filter(&mut plan.process, &socket) {
        return report(end, &socket);
    }
    if !is_wasm {
        program::give_home(&mut plan.process);
    }
    let socket = match options.gate {
        None => socket,
        Some(ref gate) => match at_the_gate(socket, gate) {
            Ok(socket) => socket,
            Err(end) => return end.status(),
        },
    };
    let ready = run_hooks(&plan, &plan.hooks.start_container, ContainerState::Created);
    let ready = ready.and_then(|()| match loaded {
        None => drop_privileges(&plan.process, &socket).map(|()| None),
        Some(loaded) => wall_in(&plan.process, loaded, bundle.spec(), options.sockets, &socket).map(Some),
    });
    match ready {
        Ok(Some((program, invocation))) => {
            drop(socket);
            run_wasm(program, invocation)
        }
        Ok(None) => report(End::Failed(program::execute(&plan.process)), &socket),
        Err(end) => report(end, &socket),
    }
}

/// Raises the walls around a Wasm program, and takes from this process what is left of its rights.
fn wall_in(
    plan: &ProcessPlan,
    (program, invocation): (wasm::Program, wasm::Invocation),
    spec: &Spec,
    sockets: Vec<OwnedFd>,
    socket: &OwnedFd,
) -> Done<(wasm::Program, wasm::Invocation)> {
    let refused = |error: &dyn std::error::Error| End::Failed(Failed::in_words(error));
    let mut invocation = invocation;
    if program.serves() {
        let sockets = sockets.into_iter().map(std::net::TcpListener::from).collect();
        invocation.listen(sockets).map_err(|error| refused(&error))?;
    }
    let wall = Wall::around(&program, &invocation);
    wall.shut_out().map_err(|error| refused(&error))?;
    drop_privileges(plan, socket)?;
    if process::has_filter(spec) {
        wall.filter().map_err(|error| refused(&error))?;
    }
    Ok((program, invocation))
}

/// Tells who is at the other end why it goes no further.
pub(super) fn report(end: End, socket: &OwnedFd) -> i32 {
    let status = end.status();
    if let End::Failed(failed) = end {
        // Nobody hears it if the supervisor is gone, and then nobody needs to.
        tolerate(handshake::write(socket, &FromInit::Failed(failed)));
    }
    status
}

/// Says that all is ready, and waits for the word to start from who comes to the gate.
fn at_the_gate(socket: OwnedFd, gate: &OwnedFd) -> Done<OwnedFd> {
    handshake::send(&socket, &FromInit::Ready, &[])?;
    drop(socket);
    gate::wait(gate)
}

fn isolate(
    plan: &Plan,
    root: Option<OwnedFd>,
    stdio: Stdio,
    socket: &OwnedFd,
    wasm: Option<(wasm::Compiled, &Spec)>,
    options: &Options,
) -> Done<Option<(wasm::Program, wasm::Invocation)>> {
    users(plan, socket)?;
    close_foreign(plan, root.as_ref(), &stdio, socket, wasm.as_ref().map(|(compiled, _)| compiled), options)?;
    let proc = step(Procfs::ours(), "find the host's procfs")?;
    about_itself(&plan.process, &proc, options)?;
    // Until here its files in /proc had to be its own.
    stage::hide()?;
    let facts = Facts::gather()?;
    let root = root::enter(plan, root)?;
    // Whatever was inherited: where mounts go has to be passable for the container's users.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let (mounts, last) = mounts::split(&plan.mounts);
    let mut seals = Vec::new();
    for mount in mounts {
        seals.extend(make(mount, root.as_fd())?);
    }
    if !plan.hosts_wasm && mounts::has_dev_of_its_own(&plan.mounts) {
        let populated = device::populate(root.as_fd(), &plan.devices, plan.namespaces.users_differ());
        step(populated, "fill /dev")?;
    }
    let has_terminal = matches!(stdio, Stdio::Terminal(_));
    let terminal = stream::connect(stdio, root.as_fd(), !plan.hosts_wasm, socket)?;
    // Loaded while the compile cache's file can be read, before the filter and the limits apply.
    let program = wasm.map(|(compiled, spec)| load(compiled, spec)).transpose()?;
    wait_for(socket, &ToInit::Joined)?;
    if options.outlive {
        stage::die_with_parent(false)?;
    }
    if plan.namespaces.cgroup {
        step(sys::process::unshare_cgroup(), "make a cgroup namespace")?;
    }
    for mount in last {
        seals.extend(make(mount, root.as_fd())?);
    }
    if plan.asks_for_hooks {
        handshake::send(socket, &FromInit::Mounted, &[])?;
        wait_for(socket, &ToInit::Hooked)?;
    }
    run_hooks(plan, &plan.hooks.create_container, ContainerState::Created)?;
    root::change(&root, options.pivot)?;
    if plan.hosts_wasm && has_terminal {
        root::forget_terminals()?;
    }
    system(plan, &proc)?;
    let slash = root::open_slash()?;
    make_directory(slash.as_fd(), &plan.process.cwd)?;
    root::protect(plan, slash.as_fd())?;
    seals.into_iter().try_for_each(|seal| step(seal.apply(), "write-protect a mount"))?;
    drop((slash, root, terminal));
    let process = &plan.process;
    confine(process, &proc)?;
    drop(proc);
    step(console::give_streams(process.uid), "give the streams to the user")?;
    let entered = program::enter_directory(&process.cwd, true)?;
    become_user(process, &facts)?;
    if !entered {
        program::enter_directory(&process.cwd, false)?;
    }
    if options.gate.is_some() && program.is_none() && !process.args.is_empty() {
        program::look_up(process)?;
    }
    step(sys::process::cloexec_from(3 + options.preserve_fds), "close the files of the host")?;
    Ok(program)
}

/// The program and what it is given, read while the host's files are still seen.
fn load(compiled: wasm::Compiled, spec: &Spec) -> Done<(wasm::Program, wasm::Invocation)> {
    let refused = |error: &dyn std::error::Error| End::Failed(Failed::in_words(error));
    let program = wasm::load(compiled).map_err(|error| refused(&error))?;
    let mut invocation = crate::engine::grants(spec).map_err(|error| refused(&error))?;
    invocation.read_names().map_err(|error| refused(&error))?;
    Ok((program, invocation))
}

/// Closes what only the parent needs. Until a program is executed close-on-exec does not help, and it may be long until
/// then: a lock of the parent's would stay held, and the other end of the program's own input would never end.
fn close_foreign(
    plan: &Plan,
    root: Option<&OwnedFd>,
    stdio: &Stdio,
    socket: &OwnedFd,
    wasm: Option<&wasm::Compiled>,
    options: &Options,
) -> Done {
    let streams = match stdio {
        Stdio::Files(files) => files.iter().map(AsFd::as_fd).collect(),
        Stdio::Terminal(_) | Stdio::Inherit => Vec::new(),
    };
    let others = [root, options.gate.as_ref()].into_iter().flatten().chain(&options.sockets).map(AsFd::as_fd);
    let others = others.chain(wasm.map(AsFd::as_fd));
    let mounts = plan.mounts.iter().flat_map(Step::handles);
    let keep: Vec<BorrowedFd<'_>> = [socket.as_fd()].into_iter().chain(others).chain(streams).chain(mounts).collect();
    step(sys::process::close_all_but(3 + options.preserve_fds, &keep), "close the files of its maker")
}

/// Takes its place among users and in the namespaces that are joined.
fn users(plan: &Plan, socket: &OwnedFd) -> Done {
    let namespaces = &plan.namespaces;
    if namespaces.user.is_some() {
        wait_for(socket, &ToInit::Mapped)?;
    }
    let joined = namespaces.enter_in_child();
    joined
        .map_err(|(path, error)| End::Failed(Failed::at(&format!("join the namespace {}", path.display()), &error)))?;
    if namespaces.users_differ() {
        credential::become_root_of_namespace()?;
        // The change of user has taken it away.
        stage::die_with_parent(true)?;
    }
    Ok(())
}

/// Runs hooks in the container's namespaces, where this process has the pid that it sees itself.
fn run_hooks(plan: &Plan, hooks: &[Hook], status: ContainerState) -> Done {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut state = plan.about.clone();
    state.set_status(status).set_pid(Some(rustix::process::getpid().as_raw_nonzero().get()));
    let json = serde_json::to_vec(&state).expect("plain data");
    hook::run_all(hooks, &json).map_err(|failed| End::Failed(Failed::in_hook(&failed)))
}

fn make(mount: &Step, root: BorrowedFd<'_>) -> Done<Option<Seal>> {
    step(mount.make(root), &mount.describe())
}

/// What belongs to its namespaces. `proc` is the host's procfs: the image's may be anything.
fn system(plan: &Plan, proc: &Procfs) -> Done {
    if let Some(hostname) = &plan.hostname {
        let set = rustix::system::sethostname(hostname.as_bytes());
        step(named(set, || format!("sethostname({hostname:?})")), "set the host name")?;
    }
    if let Some(domainname) = &plan.domainname {
        let set = rustix::system::setdomainname(domainname.as_bytes());
        step(named(set, || format!("setdomainname({domainname:?})")), "set the domain name")?;
    }
    if plan.namespaces.network {
        step(sys::process::loopback_up(), "bring the loopback interface up")?;
    }
    step(plan.sysctls.apply(proc), "set a sysctl")
}

fn make_directory(slash: BorrowedFd<'_>, cwd: &Path) -> Done {
    match mounts::target(slash, cwd, true) {
        // On a read-only bundle it has to be there; entering it will say so if not.
        Err(error) if error.errno() == Some(Errno::ROFS.raw_os_error()) => Ok(()),
        made => step(made, "make the working directory").map(drop),
    }
}

/// What a process says of itself in procfs, before it enters anything.
pub(super) fn about_itself(plan: &ProcessPlan, proc: &Procfs, options: &Options) -> Done {
    if let Some(score) = plan.oom_score_adj {
        step(proc.set_oom_score(None, score), "set the OOM score")?;
    }
    if options.keyring {
        // Without one of its own it would see the host's (keyctl(2)).
        let made = plan.labels.with_keyring(proc, sys::process::new_session_keyring);
        step(made, "make a session keyring")?;
    }
    Ok(())
}

/// What the program takes over from the process that executes it, beside its rights.
pub(super) fn confine(plan: &ProcessPlan, proc: &Procfs) -> Done {
    if !plan.labels.is_empty() {
        step(plan.labels.apply(proc), "ask for the security module's label")?;
    }
    step(plan.schedule.apply(), "set the scheduling")?;
    limits(plan)
}

fn limits(plan: &ProcessPlan) -> Done {
    for (typ, soft, hard) in &plan.rlimits {
        let limit = |value: &u64| (*value != u64::MAX).then_some(*value);
        let set = rustix::process::setrlimit(resource(*typ), Rlimit { current: limit(soft), maximum: limit(hard) });
        step(named(set, || format!("setrlimit({typ:?}, {soft}, {hard})")), "set a resource limit")?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    Ok(())
}

fn resource(typ: PosixRlimitType) -> Resource {
    use PosixRlimitType as T;
    match typ {
        T::RlimitCpu => Resource::Cpu,
        T::RlimitFsize => Resource::Fsize,
        T::RlimitData => Resource::Data,
        T::RlimitStack => Resource::Stack,
        T::RlimitCore => Resource::Core,
        T::RlimitRss => Resource::Rss,
        T::RlimitNproc => Resource::Nproc,
        T::RlimitNofile => Resource::Nofile,
        T::RlimitMemlock => Resource::Memlock,
        T::RlimitAs => Resource::As,
        T::RlimitLocks => Resource::Locks,
        T::RlimitSigpending => Resource::Sigpending,
        T::RlimitMsgqueue => Resource::Msgqueue,
        T::RlimitNice => Resource::Nice,
        T::RlimitRtprio => Resource::Rtprio,
        T::RlimitRttime => Resource::Rttime,
    }
}

/// Runs the Wasm program with what the specification grants.
fn run_wasm(program: wasm::Program, invocation: wasm::Invocation) -> i32 {
    let last_words = |error: wasm::Error| {
        // The streams are the container's by now: this is the program's last word, in its log.
        tolerate(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("wherry: {}\n", chain(&error))));
        125
    };
    wasm::run(program, invocation).map_or_else(last_words, i32::from)
}
