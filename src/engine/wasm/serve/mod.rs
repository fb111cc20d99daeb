//! HTTP servers: components that export a `wasi:http` handler, behind listening sockets.
//!
//! ```text
//!  main thread                       one worker for each processor
//!  ───────────                       ─────────────────────────────
//!  accepts; counts connections ────▶ one event loop, which never shares a request with another thread
//!  moves the epoch while requests     connection  hyper, HTTP/1.1 or 2 by the first bytes; all its limits
//!   run, so that none keeps a worker  request     store, instance, call: polled by the connection's own task
//!  SIGTERM: tells all to finish,      body        what the guest writes, as it writes it; driving the guest is
//!   waits, ends                                   part of reading it
//! ```
//!
//! Each request gets an instance of its own, from memory that was reserved once: making one costs less than the
//! system calls that a request needs anyway, and nothing that a request leaves behind is seen by another. A client
//! that goes away takes its request's instance with it.
//!
//! Every limit is in [`Serve`](super::grant::serve::Serve). Crossing one ends a request, at the most a connection.
//!
//! Not here: who listens where. The sockets come with the invocation, bound before the walls went up.

mod body;
mod connection;
mod io;
mod request;
mod worker;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use wasmtime_wasi_http::p2::bindings as http2;
use wasmtime_wasi_http::p3::bindings as http3;

use super::grant::serve::Serve;
use super::host::Streams;
use super::offer::Role;
use super::program::Loaded;
use super::trap::Dumps;
use super::view::Board;
use super::{Error, Invocation, Stdio, cause};
use crate::error::tolerate;
use worker::Worker;

/// How long a guest may compute before the other requests of its worker have their turn.
const TICK: Duration = Duration::from_millis(5);

/// What all workers share.
struct Server {
    handler: Handler,
    invocation: Invocation,
    streams: Streams,
    /// Where it is written down what the instances do.
    board: Board,
    /// Where core dumps go, if there are to be any.
    dumps: Option<Dumps>,
    /// How many requests are being answered.
    running: AtomicUsize,
    /// How many connections there are.
    connections: AtomicUsize,
    /// Told when a connection has ended.
    disconnected: Notify,
    /// Whether nobody moves the epoch.
    asleep: AtomicBool,
    /// Told when somebody has to.
    awaken: Notify,
    /// Whether the server is to end.
    ending: watch::Sender<bool>,
}

/// The component, linked.
enum Handler {
    Two(http2::ProxyPre<super::host::Host>),
    Three(http3::ServicePre<super::host::Host>),
}

impl Server {
    fn limits(&self) -> &Serve {
        &self.invocation.grants.serve
    }

    /// Says what went wrong where the program's own messages go.
    fn report(&self, text: &str) {
        // There is nobody else to be told.
        tolerate(self.streams.stderr.write_line(text));
    }
}

/// Serves `program` on the sockets of `invocation` until it is told to end; the exit code.
pub(super) fn serve(program: Loaded, invocation: Invocation, stdio: Stdio, board: Board) -> Result<u8, Error> {
    let failed = |source: std::io::Error| Error::Engine { source: source.into() };
    let listeners = listeners(&invocation).map_err(failed)?;
    let signals = signal::Signals::new().map_err(|error| Error::Engine { source: error.into() })?;
    let server = Arc::new(Server {
        handler: handler(program)?,
        dumps: Dumps::of(&invocation)?,
        invocation,
        streams: stdio.into(),
        board,
        running: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
        disconnected: Notify::new(),
        asleep: AtomicBool::new(true),
        awaken: Notify::new(),
        ending: watch::channel(false).0,
    });
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (0..count).map(|_| Worker::start(&server)).collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(oversee(&server, workers, listeners, signals)).map_err(failed)
}

fn handler(program: Loaded) -> Result<Handler, Error> {
    let failed = |error| Error::Load { source: cause(error) };
    match program {
        Loaded::Component(Role::Server2, pre) => http2::ProxyPre::new(pre).map(Handler::Two).map_err(failed),
        Loaded::Component(Role::Server3, pre) => http3::ServicePre::new(pre).map(Handler::Three).map_err(failed),
        _ => Err(Error::NotCommand { what: "it is no HTTP server".into() }),
    }
}

/// The sockets of `invocation`, ready for an event loop.
fn listeners(invocation: &Invocation) -> std::io::Result<Vec<TcpListener>> {
    let copy = |listener: &Arc<TcpListener>| listener.set_nonblocking(true).and_then(|()| listener.try_clone());
    invocation.listeners.iter().map(copy).collect()
}

/// Listens on `port`, to be reached by both families of addresses.
pub(super) fn listen(port: u16) -> std::io::Result<Vec<TcpListener>> {
    let all: [SocketAddr; 2] = [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
    // Where the first is for both there is no need of the second, and where there is no IPv6 it is the only one.
    TcpListener::bind(&all[..]).map(|listener| vec![listener])
}

/// The exit code of a server that was told to end once more while it was finishing: that of a program ended by SIGTERM.
const ENDED_AT_ONCE: u8 = 143;

/// Accepts, keeps time and waits for the end.
async fn oversee(
    server: &Arc<Server>,
    workers: Vec<Worker>,
    listeners: Vec<TcpListener>,
    mut signals: signal::Signals,
) -> std::io::Result<u8> {
    let workers = Arc::new(workers);
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        accepting.spawn(accept(server.clone(), workers.clone(), listener));
    }
    tokio::spawn(keep_time(server.clone()));
    signals.next().await?;
    // The sockets are closed with it: who comes now is refused, and does not wait in vain.
    accepting.shutdown().await;
    server.ending.send_replace(true);
    tokio::select! {
        () = finished(server) => Ok(0),
        () = tokio::time::sleep(server.limits().drain_timeout) => Ok(0),
        again = signals.next() => again.map(|()| ENDED_AT_ONCE),
    }
}

/// Waits until there is neither a connection nor the rest of a request.
async fn finished(server: &Server) {
    loop {
        let told = server.disconnected.notified();
        if server.connections.load(Ordering::SeqCst) == 0 && server.running.load(Ordering::SeqCst) == 0 {
            return;
        }
        told.await;
    }
}

/// How long not to accept when that fails for want of files or memory, which others give back in time.
const SHORT: Duration = Duration::from_millis(50);

async fn accept(server: Arc<Server>, workers: Arc<Vec<Worker>>, listener: tokio::net::TcpListener) {
    loop {
        let told = server.disconnected.notified();
        if server.connections.load(Ordering::SeqCst) >= server.limits().max_connections {
            told.await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let least = workers.iter().min_by_key(|worker| worker.connections());
                if let (Some(worker), Ok(stream)) = (least, stream.into_std()) {
                    worker.take(&server, stream);
                }
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(_) => tokio::time::sleep(SHORT).await,
        }
    }
}

/// Whether a failure to accept is one of the connection that came, and not of ours (accept(2)).
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Moves the epoch while there are requests; an idle server sleeps.
async fn keep_time(server: Arc<Server>) {
    let engine = match &server.handler {
        Handler::Two(pre) => pre.engine().clone(),
        Handler::Three(pre) => pre.engine().clone(),
    };
    loop {
        // First said, then looked: a request that is counted in between sees that it has to wake us.
        server.asleep.store(true, Ordering::SeqCst);
        if server.running.load(Ordering::SeqCst) == 0 {
            server.awaken.notified().await;
        }
        server.asleep.store(false, Ordering::SeqCst);
        tokio::time::sleep(TICK).await;
        engine.increment_epoch();
    }
}

/// Being told to end, on Linux by a descriptor.
#[cfg(target_os = "linux")]
mod signal {
    use std::fs::File;
    use std::io;
    use std::sync::Arc;

    use crate::sys::ready::Watch;
    use crate::sys::{self, ending};

    pub struct Signals {
        file: Arc<File>,
        watch: Watch,
    }

    impl Signals {
        /// From now on those signals come here.
        pub fn new() -> sys::Result<Self> {
            let file = Arc::new(File::from(ending::collect()?));
            Ok(Self { watch: Watch::new(&file), file })
        }

        /// The next signal.
        pub async fn next(&mut self) -> io::Result<()> {
            loop {
                self.watch.readable().await;
                if ending::collected(&self.file)? {
                    return Ok(());
                }
            }
        }
    }
}

/// Elsewhere a signal ends the process as it ends any other.
#[cfg(not(target_os = "linux"))]
mod signal {
    pub struct Signals;

    impl Signals {
        pub fn new() -> std::io::Result<Self> {
            Ok(Self)
        }

        pub async fn next(&mut self) -> std::io::Result<()> {
            std::future::pending().await
        }
    }
}
