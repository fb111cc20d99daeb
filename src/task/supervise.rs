//! The supervisor: the parent of a container's init process, until its end.
//!
//! It is what a thousand containers multiply, so it is one thread around one poll(2), with buffers only
//! while there is something in them. It reads the container's output only while every attached client
//! has room for more: a slow client slows the container, as a slow terminal does, and costs no memory.
//! The log is written first; a log that cannot be written is noted in the exit, and does not end the container.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::wire::{self, Kind, Parsed};
use super::{Error, Exit, Orders, StartFailure, State, launch, state};
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Hierarchies};
use crate::engine::linux::{self, Request, Running, Stdio};
use crate::engine::wasm;
use crate::error::{Failure, chain, tolerate};
use crate::log::{Stream, Writer};
use crate::sys::process::{self, Identity};
use crate::sys::{self, pty, socket};

/// How far a client may lag behind before the container has to wait for it.
const MAX_BACKLOG: usize = 256 << 10;

/// The most clients at a time; each is a file descriptor of ours.
const MAX_CLIENTS: usize = 64;

/// Follows the orders that come over standard input. This is the whole life of the supervisor process;
/// it returns the arguments of the cleanup that is left to do, if any.
pub fn supervise() -> Option<Vec<String>> {
    // What the launcher's own parent left open is nobody's business here, or in the container.
    sys::process::close_all_but(3, &[]).ok()?;
    // The launcher is told of everything that goes wrong; without one there is nobody to tell.
    let launcher = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let (orders, root, wasm) = launch::receive(&launcher).ok()?;
    detach().ok()?;
    let started = start(&orders, root, wasm);
    match started {
        Ok(mut task) => {
            task.clients.push(Client::new(launcher, orders.attached));
            task.announce();
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
    fn of(error: &dyn Failure, status: u8) -> Self {
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
}

/// Where the program's output is read, by stream.
type Outputs = Vec<(Stream, OwnedFd)>;

/// The program's standard input, and what it has not taken yet.
struct Input {
    fd: OwnedFd,
    pending: Vec<u8>,
    ending: bool,
    terminal: bool,
}

/// One attached client.
struct Client {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    launcher: bool,
    gone: bool,
}

fn start(orders: &Orders, root: Option<OwnedFd>, program: Option<OwnedFd>) -> Result<Task, StartFailure> {
    let sys_failed = |what| move |source| StartFailure::general(&Error::Sys { what, source });
    let bundle = Bundle::read(&orders.directory).map_err(|e| StartFailure::general(&e))?;
    let log = Writer::open(&orders.directory.join("log"));
    let log = sys::named(log, || "open(\"log\")".into()).map_err(sys_failed("open the container's log"))?;
    let wasm = program.map(wasm::Compiled::inherited).transpose().map_err(|e| StartFailure::general(&e))?;
    let socket_path = orders.run.join(super::ATTACH);
    let listener = listen(&socket_path).map_err(sys_failed("listen for clients"))?;
    let plumbing = Plumbing::lay(orders).map_err(sys_failed("make the container's streams"))?;
    let cgroup = make_cgroup(&bundle)?;
    let id = orders.directory.file_name().unwrap_or_default().to_string_lossy();
    let request = Request {
        bundle: &bundle,
        id: &id,
        root,
        stdio: plumbing.inner,
        wasm,
        cgroup: cgroup.as_ref(),
        options: linux::Options::default(),
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
    let (outputs, input) = plumbing.outer.connect(orders, &running).map_err(sys_failed("connect the terminal"))?;
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
    };
    task.record(&orders.directory)?;
    Ok(task)
}

fn listen(path: &Path) -> sys::Result<UnixListener> {
    sys::named(std::fs::create_dir_all(path.parent().unwrap_or(path)), || format!("mkdir({:?})", path.parent()))?;
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

fn make_cgroup(bundle: &Bundle) -> Result<Option<Cgroup>, StartFailure> {
    let linux = bundle.spec().linux().clone().unwrap_or_default();
    let Some(path) = linux.cgroups_path() else { return Ok(None) };
    let resources = linux.resources().clone().unwrap_or_default();
    let made = Hierarchies::detect().and_then(|hierarchies| Cgroup::create(hierarchies, path, &resources));
    made.map(Some).map_err(|e| StartFailure::general(&e))
}

/// The container's ends of its streams, and ours.
struct Plumbing {
    inner: Stdio,
    outer: Outer,
}

enum Outer {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal,
}

impl Plumbing {
    fn lay(orders: &Orders) -> sys::Result<Self> {
        if let Some(size) = orders.terminal {
            return Ok(Self { inner: Stdio::Terminal(Some(size)), outer: Outer::Terminal });
        }
        let pipe = || sys::named(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC), || "pipe2()".into());
        let (inner_stdin, stdin) = match orders.stdin {
            true => pipe().map(|(read, write)| (read, Some(write)))?,
            false => (OwnedFd::from(sys::named(File::open("/dev/null"), || "open(\"/dev/null\")".into())?), None),
        };
        let (stdout, inner_stdout) = pipe()?;
        let (stderr, inner_stderr) = pipe()?;
        // Only our ends do not block: the flag belongs to the open file, and a program expects streams that do.
        for fd in [Some(&stdout), Some(&stderr), stdin.as_ref()].into_iter().flatten() {
            nonblocking(fd.as_fd())?;
        }
        let inner = Stdio::Files([inner_stdin, inner_stdout, inner_stderr]);
        Ok(Self { inner, outer: Outer::Pipes { stdin, stdout, stderr } })
    }
}

impl Outer {
    fn connect(self, orders: &Orders, running: &Running) -> sys::Result<(Outputs, Option<Input>)> {
        let input = |fd, terminal| Input { fd, pending: Vec::new(), ending: false, terminal };
        match (self, &running.console) {
            (Self::Pipes { stdin, stdout, stderr }, _) => {
                let outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
                Ok((outputs, stdin.map(|fd| input(fd, false))))
            }
            (Self::Terminal, Some(master)) => {
                nonblocking(master.as_fd())?;
                let copy = || sys::named(master.try_clone(), || "dup()".into());
                let stdin = if orders.stdin { Some(input(copy()?, true)) } else { None };
                Ok((vec![(Stream::Stdout, copy()?)], stdin))
            }
            (Self::Terminal, None) => sys::named(Err(Errno::NOTTY), || "the init stage sent no terminal".into()),
        }
    }
}

fn nonblocking(fd: BorrowedFd<'_>) -> sys::Result<()> {
    sys::named(rustix::io::ioctl_fionbio(fd, true), || "ioctl(FIONBIO)".into())
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
        let full = self.clients.iter().any(|c| c.outgoing.len() > MAX_BACKLOG);
        let mut fds =
            vec![PollFd::new(&self.running.child.pidfd, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        let outputs = if full { &[][..] } else { &self.outputs[..] };
        fds.extend(outputs.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)));
        let input = self.input.as_ref();
        for client in &self.clients {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, self.hears(client));
            interest.set(PollFlags::OUT, !client.outgoing.is_empty());
            fds.push(PollFd::new(&client.stream, interest));
        }
        if let Some(input) = input.filter(|i| !i.pending.is_empty()) {
            fds.push(PollFd::new(&input.fd, PollFlags::OUT));
        }
        // An interrupted or failed poll is like one that found nothing: the loop looks again.
        let found = poll(&mut fds, None).is_ok();
        let ready = |at: usize| found && !fds[at].revents().is_empty();
        let outputs = (0..outputs.len()).map(|at| ready(2 + at)).collect();
        Ready { exited: ready(0), listener: ready(1), outputs }
    }

    /// Whether what a client sends is read: the launcher, whose is the input, is not heard while the program has not
    /// taken what was sent before.
    fn hears(&self, client: &Client) -> bool {
        !client.launcher || self.input.as_ref().is_none_or(|input| input.pending.len() < wire::MAX_PAYLOAD)
    }

    fn pump_outputs(&mut self, ready: &[bool]) {
        let mut at = 0;
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.retain(|(stream, fd)| {
            let keep = !ready.get(at).copied().unwrap_or(false) || self.read_output(*stream, fd.as_fd());
            at += 1;
            keep
        });
        self.outputs = outputs;
    }

    /// Reads once from the container; false when nothing more will come.
    fn read_output(&mut self, stream: Stream, fd: BorrowedFd<'_>) -> bool {
        let mut chunk = [0; wire::MAX_PAYLOAD];
        let bytes = match rustix::io::read(fd, &mut chunk[..]) {
            Ok(0) => return false,
            Ok(count) => &chunk[..count],
            Err(Errno::AGAIN | Errno::INTR) => return true,
            // EIO: the last process with the terminal open has closed it.
            Err(_) => return false,
        };
        if let Some(Err(error)) = self.log.as_mut().map(|log| log.write(stream, bytes)) {
            self.log_error.get_or_insert_with(|| format!("its log is incomplete: {error}"));
        }
        let kind = if stream == Stream::Stdout { Kind::Stdout } else { Kind::Stderr };
        for client in &mut self.clients {
            wire::put(&mut client.outgoing, kind, bytes);
        }
        true
    }

    /// Reads what is left in the pipes of a program that has ended.
    fn drain(&mut self) {
        for (stream, fd) in std::mem::take(&mut self.outputs) {
            let waiting = |fd: &OwnedFd| {
                let mut poll_fd = [PollFd::new(fd, PollFlags::IN)];
                let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
                poll(&mut poll_fd, Some(&now)).is_ok_and(|n| n > 0) && poll_fd[0].revents().contains(PollFlags::IN)
            };
            while waiting(&fd) && self.read_output(stream, fd.as_fd()) {}
        }
    }

    fn pump_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        match rustix::io::write(&input.fd, &input.pending) {
            Ok(count) => drop(input.pending.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The program has closed its input; what is sent to it goes nowhere.
            Err(_) => self.input = None,
        }
        if self.input.as_ref().is_some_and(|i| i.ending && i.pending.is_empty()) {
            self.input = None;
        }
    }

    fn accept(&mut self, ready: bool) {
        if let Some((stream, _)) = ready.then(|| self.listener.accept().ok()).flatten()
            && self.clients.len() < MAX_CLIENTS
        {
            self.clients.push(Client::new(stream, false));
        }
    }

    fn serve_clients(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        for client in &mut clients {
            if self.hears(client) {
                client.receive();
            }
            while let Some((kind, payload)) = client.next_frame() {
                self.obey(kind, &payload);
            }
            client.flush();
            if client.gone && client.launcher {
                self.end_input();
            }
        }
        clients.retain(|c| !c.gone);
        self.clients.extend(clients);
    }

    fn obey(&mut self, kind: Kind, payload: &[u8]) {
        match (kind, payload) {
            (Kind::Stdin, bytes) => {
                if let Some(input) = self.input.as_mut().filter(|i| !i.ending) {
                    input.pending.extend_from_slice(bytes);
                }
            }
            (Kind::StdinEnd, _) => self.end_input(),
            (Kind::Resize, &[r0, r1, c0, c1]) => {
                let size = pty::Size { rows: u16::from_be_bytes([r0, r1]), columns: u16::from_be_bytes([c0, c1]) };
                // A container without a terminal has no size, and one that has ended needs none.
                if let Some(console) = &self.running.console {
                    tolerate(pty::set_size(console, size));
                }
            }
            (Kind::Signal, &[number]) => {
                // It fails only when the program has ended, which the client hears next.
                tolerate(process::signal(self.running.child.pidfd.as_fd(), number.into()));
            }
            _ => {}
        }
    }

    /// Ends the program's input once it has taken all of it. A terminal stays open: it has no end.
    fn end_input(&mut self) {
        if let Some(input) = self.input.as_mut().filter(|i| !i.terminal) {
            input.ending = true;
        }
    }

    /// Records the end, tells the clients, and tidies up.
    fn finish(mut self, orders: &Orders) -> Option<Vec<String>> {
        let code = self.exited.unwrap_or(255);
        if let Some(Err(error)) = self.log.take().map(Writer::finish) {
            self.log_error.get_or_insert_with(|| format!("its log is incomplete: {error}"));
        }
        let mut problems: Vec<String> = self.log_error.take().into_iter().collect();
        if let Some(Err(error)) = self.cgroup.as_ref().map(|cgroup| cgroup.kill().and_then(|()| cgroup.remove())) {
            problems.push(chain(&error));
        }
        let error = (!problems.is_empty()).then(|| problems.join("; "));
        let exit = Exit { code, started_at: self.started_at, finished_at: Timestamp::now(), error };
        // Without a state file whoever looks next finds that this supervisor has gone, which is true too.
        let lasting = orders.cleanup.is_none();
        tolerate(State::Exited(exit).write(&orders.directory, lasting));
        tolerate(std::fs::remove_file(&self.socket_path));
        self.say_goodbye(code);
        orders.cleanup.clone().filter(|_| orders.directory.exists())
    }

    /// Gives every client the rest of the output and the exit status, and the launcher time to act on it.
    fn say_goodbye(&mut self, code: u8) {
        for client in &mut self.clients {
            wire::put(&mut client.outgoing, Kind::Exited, &[code]);
            if client.stream.set_nonblocking(false).is_ok() {
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
    fn new(stream: UnixStream, launcher: bool) -> Self {
        let gone = stream.set_nonblocking(true).is_err();
        Self { stream, incoming: Vec::new(), outgoing: Vec::new(), launcher, gone }
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
