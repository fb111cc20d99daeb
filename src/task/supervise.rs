//! The supervisor: the parent of a container's init process, until its end.
//!
//! It is what a thousand containers multiply, so it is one thread around one poll(2), with buffers only
//! while there is something in them. It reads the container's output only while every attached client
//! has room for more: a slow client slows the container, as a slow terminal does, and costs no memory.
//! The log is written first; a log that cannot be written is noted in the exit, and does not end the container.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};

use super::session::Session;
use super::streams::{Heard, Input, Outputs, Plumbing, hear, obey, waits};
use super::wire::{self, Kind, Parsed};
use super::{Error, Execution, Exit, Orders, StartFailure, State, launch, state};
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Hierarchies};
use crate::engine::linux::{self, Request, Running};
use crate::engine::wasm;
use crate::engine::wasm::view::{Board, Numbers};
use crate::error::{Failure, chain, tolerate};
use crate::event::{Actor, Event, Journal, Type};
use crate::log::{Stream, Writer};
use crate::sys::process::{self, Identity};
use crate::sys::{self, socket};

/// How far a client may lag behind before the container has to wait for it.
const MAX_BACKLOG: usize = 256 << 10;

/// The longest description of a program to execute: what execve(2) takes of arguments and environment by default.
const MAX_EXECUTION: usize = 2 << 20;

/// How long a client that takes nothing is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most clients at a time; each is a file descriptor of ours.
const MAX_CLIENTS: usize = 64;

/// Follows the orders that come over standard input. This is the whole life of the supervisor process;
/// it returns the arguments of the cleanup that is left to do, if any.
pub fn supervise() -> Option<Vec<String>> {
    // What the launcher's own parent left open is nobody's business here, or in the container.
    sys::process::close_all_but(3, &[]).ok()?;
    // The launcher is told of everything that goes wrong; without one there is nobody to tell.
    let launcher = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let (orders, files) = launch::receive(&launcher).ok()?;
    detach().ok()?;
    let started = start(&orders, files);
    match started {
        Ok(mut task) => {
            task.clients.push(Client::new(launcher, orders.attached, true));
            task.announce();
            if orders.attached {
                task.note("attach", task.actor.clone());
            }
            task.note("start", task.actor.clone());
            // It costs only memory where it fails.
            tolerate(process::forget_code());
            task.run();
            task.finish(&orders)
        }
        Err(failure) => {
            refuse(&orders, &launcher, failure);
            None
        }
    }
}

/// Leaves the launcher's session, and its standard input to [`supervise`].
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::thread::set_name(c"wherry-supervis")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(())
}

fn refuse(orders: &Orders, launcher: &UnixStream, failure: StartFailure) {
    let state = State::Failed { code: failure.status, error: failure.message.clone(), finished_at: Timestamp::now() };
    let failure = match state.write(&orders.directory, true) {
        Ok(()) => failure,
        Err(error) => StartFailure { message: format!("{}; and {}", failure.message, chain(&error)), ..failure },
    };
    let mut frame = Vec::new();
    wire::put(&mut frame, Kind::Failed, &serde_json::to_vec(&failure).expect("plain data"));
    // A launcher that was killed has no use for it, and the state file says the same.
    tolerate((&mut &*launcher).write_all(&frame));
}

impl StartFailure {
    pub(super) fn of(error: &dyn Failure, status: u8) -> Self {
        Self { message: chain(error), hint: error.hint(), status }
    }

    fn general(error: &dyn Failure) -> Self {
        Self::of(error, 125)
    }

    fn of_engine(error: &linux::Error) -> Self {
        match error {
            linux::Error::Init(failed) => Self::of(error, failed.status.unwrap_or(125)),
            _ => Self::general(error),
        }
    }
}

struct Task {
    running: Running,
    cgroup: Option<Cgroup>,
    listener: UnixListener,
    socket_path: std::path::PathBuf,
    log: Option<Writer>,
    log_error: Option<String>,
    outputs: Outputs,
    input: Option<Input>,
    clients: Vec<Client>,
    started_at: Timestamp,
    exited: Option<u8>,
    /// The container's directory, with the bundle that a further program is executed by.
    directory: std::path::PathBuf,
    /// What the Wasm engine shows of its program.
    board: Board,
    /// Whether somebody limited its memory, so that the kernel may have killed it.
    limited: bool,
    journal: Journal,
    actor: Actor,
}

/// One client: the launcher, or one that came by the socket to ask for something.
struct Client {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Whether the container's input is its, and ends with it.
    launcher: bool,
    /// Whether it is told what the container writes.
    follows: bool,
    gone: bool,
    /// What it wants to have executed, as far as it has come.
    execution: Vec<u8>,
    /// What was executed for it.
    session: Option<Session>,
}

fn start(orders: &Orders, files: launch::Received) -> Result<Task, StartFailure> {
    let sys_failed = |what| move |source| StartFailure::general(&Error::Sys { what, source });
    let bundle = Bundle::read(&orders.directory).map_err(|e| StartFailure::general(&e))?;
    let log = Writer::open(&orders.directory.join("log"));
    let log = sys::named(log, || "open(\"log\")".into()).map_err(sys_failed("open the container's log"))?;
    let wasm = files.wasm.map(wasm::Compiled::inherited).transpose().map_err(|e| StartFailure::general(&e))?;
    let board = if wasm.is_some() { Board::shared() } else { Ok(Board::default()) };
    let board = board.map_err(sys_failed("make the page that the Wasm engine writes to"))?;
    let wasm = wasm.map(|wasm| wasm.shown_on(board.clone()));
    let socket_path = orders.run.join(super::ATTACH);
    let listener = listen(&socket_path).map_err(sys_failed("listen for clients"))?;
    let plumbing = Plumbing::lay(orders.terminal, orders.stdin).map_err(sys_failed("make the container's streams"))?;
    let cgroup = make_cgroup(&bundle)?;
    let id = orders.directory.file_name().unwrap_or_default().to_string_lossy();
    let request = Request {
        bundle: &bundle,
        id: &id,
        root: files.root,
        stdio: plumbing.inner,
        wasm,
        cgroup: cgroup.as_ref(),
        // They are the program's alone: when it stops listening, nobody waits in vain to be accepted.
        options: linux::Options { sockets: files.sockets, ..linux::Options::default() },
        made: &|_| Ok(()),
    };
    let running = linux::create(request);
    let running = running.map_err(|error| {
        let failure = StartFailure::of_engine(&error);
        match cgroup.as_ref().map(Cgroup::remove) {
            Some(Err(error)) => {
                StartFailure { message: format!("{}; and {}", failure.message, chain(&error)), ..failure }
            }
            _ => failure,
        }
    })?;
    let (outputs, input) = plumbing.outer.connect(&running).map_err(sys_failed("connect the terminal"))?;
    let task = Task {
        running,
        cgroup,
        listener,
        socket_path,
        log: Some(log),
        log_error: None,
        outputs,
        input,
        clients: Vec::new(),
        started_at: Timestamp::now(),
        exited: None,
        directory: orders.directory.clone(),
        board,
        limited: has_memory_limit(&bundle),
        journal: orders.journal.clone(),
        actor: orders.actor.clone(),
    };
    task.record(&orders.directory)?;
    Ok(task)
}

fn listen(path: &Path) -> sys::Result<UnixListener> {
    // Whoever reaches the socket may execute in the container: whatever the umask of who started us, that is the owner.
    let directory = path.parent().unwrap_or(path);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    sys::named(made, || format!("mkdir({directory:?}, 0700)"))?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            sys::named(Err(error), || format!("unlink({path:?})"))?
        }
        _ => {}
    }
    let listener = socket::listen(path)?;
    sys::named(listener.set_nonblocking(true), || "fcntl(O_NONBLOCK)".into())?;
    Ok(listener)
}

fn has_memory_limit(bundle: &Bundle) -> bool {
    let resources = bundle.spec().linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources.and_then(|resources| resources.memory().as_ref()?.limit()).is_some_and(|limit| limit > 0)
}

fn make_cgroup(bundle: &Bundle) -> Result<Option<Cgroup>, StartFailure> {
    let linux = bundle.spec().linux().clone().unwrap_or_default();
    let Some(path) = linux.cgroups_path() else { return Ok(None) };
    let resources = linux.resources().clone().unwrap_or_default();
    let made = Hierarchies::detect().and_then(|hierarchies| Cgroup::create(hierarchies, path, &resources));
    made.map(Some).map_err(|e| StartFailure::general(&e))
}

impl Task {
    /// Writes down that the container runs.
    fn record(&self, directory: &Path) -> Result<(), StartFailure> {
        let gone = || StartFailure::general(&Error::Supervisor { what: "cannot find itself in /proc" });
        let supervisor = Identity::of(std::process::id() as i32).ok_or_else(gone)?;
        // A program that has ended already is still ours to reap, and shows no start time any more.
        let pid = self.running.child.pid.as_raw_nonzero().get();
        let process = Identity::of(pid).unwrap_or(Identity { pid, start_time: 0 });
        let state = State::Running { process, supervisor, started_at: self.started_at, boot: state::boot() };
        state.write(directory, false).map_err(|e| StartFailure::general(&e))
    }

    fn announce(&mut self) {
        for client in &mut self.clients {
            wire::put(&mut client.outgoing, Kind::Started, &[]);
            client.flush();
        }
    }

    /// Until the program has ended and all that it wrote has been read.
    fn run(&mut self) {
        while self.exited.is_none() {
            let ready = self.wait();
            self.pump_outputs(&ready.outputs);
            self.accept(ready.listener);
            self.serve_clients();
            // After the clients: an end that arrives by itself is nothing that the next poll would wake up for.
            self.pump_input();
            if ready.exited {
                self.exited = Some(process::reap(self.running.child.pidfd.as_fd()).unwrap_or(255));
            }
        }
        self.drain();
    }

    fn wait(&self) -> Ready {
        let full = self.clients.iter().any(|c| c.follows && !c.has_room());
        let mut fds =
            vec![PollFd::new(&self.running.child.pidfd, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        let outputs = if full { &[][..] } else { &self.outputs[..] };
        fds.extend(outputs.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)));
        for client in &self.clients {
            if let Some(session) = &client.session {
                session.watch(&mut fds, client.has_room());
            }
            if !client.gone {
                let mut interest = PollFlags::empty();
                interest.set(PollFlags::IN, self.hears(client));
                interest.set(PollFlags::OUT, !client.outgoing.is_empty());
                fds.push(PollFd::new(&client.stream, interest));
            }
        }
        if let Some(input) = self.input.as_ref().and_then(Input::wants) {
            fds.push(PollFd::from_borrowed_fd(input, PollFlags::OUT));
        }
        // An interrupted or failed poll is like one that found nothing: the loop looks again.
        let found = poll(&mut fds, None).is_ok();
        let ready = |at: usize| found && !fds[at].revents().is_empty();
        let outputs = (0..outputs.len()).map(|at| ready(2 + at)).collect();
        Ready { exited: ready(0), listener: ready(1), outputs }
    }

    /// Whether what a client sends is read: one whose the input is is not heard while the program has not taken what was
    /// sent before.
    fn hears(&self, client: &Client) -> bool {
        match &client.session {
            Some(session) => session.hears(),
            None => !client.launcher || self.input.as_ref().is_none_or(|input| !input.is_full()),
        }
    }

    fn pump_outputs(&mut self, ready: &[bool]) {
        let mut at = 0;
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.retain(|(stream, fd)| {
            let keep = !ready.get(at).copied().unwrap_or(false) || self.read_output(*stream, fd);
            at += 1;
            keep
        });
        self.outputs = outputs;
    }

    /// Reads once from the container; false when nothing more will come.
    fn read_output(&mut self, stream: Stream, fd: &OwnedFd) -> bool {
        let mut chunk = [0; wire::MAX_PAYLOAD];
        let bytes = match hear(fd.as_fd(), &mut chunk) {
            Heard::Bytes(count) => &chunk[..count],
            Heard::Nothing => return true,
            Heard::End => return false,
        };
        if let Some(Err(error)) = self.log.as_mut().map(|log| log.write(stream, bytes)) {
            self.log_error.get_or_insert_with(|| format!("its log is incomplete: {error}"));
        }
        let kind = if stream == Stream::Stdout { Kind::Stdout } else { Kind::Stderr };
        for client in self.clients.iter_mut().filter(|client| client.follows) {
            wire::put(&mut client.outgoing, kind, bytes);
        }
        true
    }

    /// Reads what is left in the pipes of a program that has ended.
    fn drain(&mut self) {
        for (stream, fd) in std::mem::take(&mut self.outputs) {
            while waits(&fd) && self.read_output(stream, &fd) {}
        }
    }

    fn pump_input(&mut self) {
        if self.input.as_mut().is_some_and(|input| !input.pump()) {
            self.input = None;
        }
    }

    fn accept(&mut self, ready: bool) {
        if let Some((stream, _)) = ready.then(|| self.listener.accept().ok()).flatten()
            && self.clients.len() < MAX_CLIENTS
        {
            self.clients.push(Client::new(stream, false, false));
        }
    }

    fn serve_clients(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        for client in &mut clients {
            if !client.gone && self.hears(client) {
                client.receive();
            }
            while let Some((kind, payload)) = client.next_frame() {
                self.obey(client, kind, &payload);
            }
            if let Some((id, code)) = client.pump() {
                self.note("exec_die", self.actor.clone().with("execID", id).with("exitCode", code));
            }
            client.flush();
            if client.gone && client.launcher {
                self.end_input();
            }
        }
        clients.retain(|client| !client.gone || client.session.is_some());
        self.clients.extend(clients);
    }

    fn obey(&mut self, client: &mut Client, kind: Kind, payload: &[u8]) {
        match (kind, payload, &mut client.session) {
            (Kind::Execute, part, None) => {
                client.execution.extend_from_slice(part);
                client.gone |= client.execution.len() > MAX_EXECUTION;
            }
            (Kind::ExecuteEnd, _, None) => self.execute(client),
            (Kind::Look, ..) => {
                wire::put(&mut client.outgoing, Kind::Page, &self.board.bytes().unwrap_or_default());
            }
            (kind, payload, Some(session)) => session.obey(kind, payload),
            (kind, payload, None) => {
                if let Some(signal) = obey(&self.running, &mut self.input, kind, payload) {
                    self.note("kill", self.actor.clone().with("signal", signal));
                }
            }
        }
    }

    /// Executes a further program for a client, which is told whether it runs.
    fn execute(&mut self, client: &mut Client) {
        let Ok(execution) = serde_json::from_slice::<Execution>(&std::mem::take(&mut client.execution)) else {
            client.gone = true;
            return;
        };
        let command = execution.args.join(" ");
        let actor = self.actor.clone().with("execID", &execution.id);
        self.note(&format!("exec_create: {command}"), actor.clone());
        let init = Identity::of(self.running.child.pid.as_raw_nonzero().get());
        let started = match init {
            Some(init) => Session::start(&execution, &self.directory, init, self.cgroup.as_ref()),
            None => Err(StartFailure::of(&linux::Error::Stopped, 1)),
        };
        match started {
            Ok(session) => {
                wire::put(&mut client.outgoing, Kind::Started, &[]);
                client.session = Some(session);
                self.note(&format!("exec_start: {command}"), actor);
            }
            Err(failure) => {
                wire::put(&mut client.outgoing, Kind::Failed, &serde_json::to_vec(&failure).expect("plain data"));
                self.note("exec_die", actor.with("exitCode", failure.status));
            }
        }
    }

    /// Writes down what happened. That it could not be is no reason to do anything else.
    fn note(&self, action: &str, actor: Actor) {
        tolerate(self.journal.note(&Event::now(Type::Container, action, actor)));
    }

    fn end_input(&mut self) {
        if let Some(input) = &mut self.input {
            input.end();
        }
    }

    /// Records the end, tells the clients, and tidies up.
    fn finish(mut self, orders: &Orders) -> Option<Vec<String>> {
        let code = self.exited.unwrap_or(255);
        if let Some(Err(error)) = self.log.take().map(Writer::finish) {
            self.log_error.get_or_insert_with(|| format!("its log is incomplete: {error}"));
        }
        let oom_killed = self.limited && self.oom_kills() > 0;
        let mut problems: Vec<String> = self.log_error.take().into_iter().collect();
        if let Some(Err(error)) = self.cgroup.as_ref().map(Cgroup::kill) {
            problems.push(chain(&error));
        }
        self.end_sessions();
        if let Some(Err(error)) = self.cgroup.as_ref().map(Cgroup::remove) {
            problems.push(chain(&error));
        }
        let error = (!problems.is_empty()).then(|| problems.join("; "));
        let trap = self.board.numbers().as_ref().and_then(Numbers::trap);
        let exit = Exit { code, started_at: self.started_at, finished_at: Timestamp::now(), error, oom_killed, trap };
        // Without a state file whoever looks next finds that this supervisor has gone, which is true too.
        let lasting = orders.cleanup.is_none();
        tolerate(State::Exited(exit.clone()).write(&orders.directory, lasting));
        tolerate(std::fs::remove_file(&self.socket_path));
        self.note_end(&exit);
        self.say_goodbye(code);
        orders.cleanup.clone().filter(|_| orders.directory.exists())
    }

    /// How many of its processes the kernel killed for want of memory; none where that cannot be told.
    fn oom_kills(&self) -> u64 {
        let watch = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom().ok()).flatten();
        watch.and_then(|watch| watch.kills().ok()).flatten().unwrap_or(0)
    }

    /// The programs that were executed have ended with the container.
    fn end_sessions(&mut self) {
        for client in &mut self.clients {
            if let Some(mut session) = client.session.take() {
                let code = session.finish(&mut client.outgoing);
                wire::put(&mut client.outgoing, Kind::Exited, &[code]);
                let actor = self.actor.clone().with("execID", &session.id).with("exitCode", code);
                tolerate(self.journal.note(&Event::now(Type::Container, "exec_die", actor)));
            }
        }
    }

    fn note_end(&self, exit: &Exit) {
        if exit.oom_killed {
            self.note("oom", self.actor.clone());
        }
        self.note("die", exit.told_of(self.actor.clone()));
    }

    /// Gives every client the rest of the output and the exit status, and the launcher time to act on it.
    fn say_goodbye(&mut self, code: u8) {
        for client in &mut self.clients {
            if client.follows {
                wire::put(&mut client.outgoing, Kind::Exited, &[code]);
            }
            let patient = client.stream.set_nonblocking(false).and(client.stream.set_write_timeout(Some(PATIENCE)));
            if patient.is_ok() {
                client.flush();
            }
            let mut rest = [0; 256];
            while client.launcher && !client.gone && matches!((&client.stream).read(&mut rest), Ok(1..)) {}
        }
    }
}

struct Ready {
    exited: bool,
    listener: bool,
    outputs: Vec<bool>,
}

impl Client {
    fn new(stream: UnixStream, launcher: bool, follows: bool) -> Self {
        let gone = stream.set_nonblocking(true).is_err();
        let (incoming, outgoing, execution) = (Vec::new(), Vec::new(), Vec::new());
        Self { stream, incoming, outgoing, launcher, follows, gone, execution, session: None }
    }

    /// Whether more may be told to it. One that is gone is told nothing, which takes no room.
    fn has_room(&self) -> bool {
        self.gone || self.outgoing.len() <= MAX_BACKLOG
    }

    /// Moves the bytes of the program that was executed for it; that program's name and exit status when it has ended.
    fn pump(&mut self) -> Option<(String, u8)> {
        let room = self.has_room();
        let session = self.session.as_mut()?;
        if self.gone {
            session.end_input();
        }
        let ended = session.pump(&mut self.outgoing, room);
        if let Some(code) = ended {
            wire::put(&mut self.outgoing, Kind::Exited, &[code]);
        }
        if self.gone {
            self.outgoing.clear();
        }
        let code = ended?;
        self.session.take().map(|session| (session.id, code))
    }

    fn receive(&mut self) {
        if self.incoming.len() > wire::MAX_PAYLOAD {
            return;
        }
        let mut chunk = [0; wire::MAX_PAYLOAD];
        match (&self.stream).read(&mut chunk) {
            Ok(0) => self.gone = true,
            Ok(count) => self.incoming.extend_from_slice(&chunk[..count]),
            Err(error) => self.gone |= !is_transient(&error),
        }
    }

    fn next_frame(&mut self) -> Option<(Kind, Vec<u8>)> {
        match wire::parse(&self.incoming) {
            Parsed::Frame(kind, payload, length) => {
                let frame = (kind, payload.to_vec());
                self.incoming.drain(..length);
                Some(frame)
            }
            Parsed::Incomplete => None,
            Parsed::Invalid => {
                self.gone = true;
                None
            }
        }
    }

    fn flush(&mut self) {
        while !self.gone && !self.outgoing.is_empty() {
            match (&self.stream).write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.gone |= !is_transient(&error),
            }
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
