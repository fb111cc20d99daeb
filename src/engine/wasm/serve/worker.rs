//! A worker: one thread, one event loop, and the connections that it was given.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Server;
use super::connection;
use super::request::Instances;

/// The main thread's end of a worker.
pub(super) struct Worker {
    connections: Arc<AtomicUsize>,
    /// As long as the number of connections that are allowed, at the most.
    queue: UnboundedSender<(TcpStream, Counted)>,
}

/// A connection, counted until this is dropped.
pub(super) struct Counted {
    server: Arc<Server>,
    of_worker: Arc<AtomicUsize>,
}

impl Counted {
    fn new(server: &Arc<Server>, of_worker: &Arc<AtomicUsize>) -> Self {
        server.connections.fetch_add(1, Ordering::SeqCst);
        of_worker.fetch_add(1, Ordering::Relaxed);
        Self { server: server.clone(), of_worker: of_worker.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of_worker.fetch_sub(1, Ordering::Relaxed);
        self.server.connections.fetch_sub(1, Ordering::SeqCst);
        self.server.disconnected.notify_waiters();
    }
}

impl Worker {
    /// Starts a thread, which goes on until the process ends.
    pub(super) fn start(server: &Arc<Server>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (queue, incoming) = unbounded_channel();
        let server = server.clone();
        let body = move || runtime.block_on(work(&server, incoming));
        std::thread::Builder::new().name("wherry-serve".into()).spawn(body)?;
        Ok(Self { connections: Arc::default(), queue })
    }

    /// How many connections it has.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gives it one more.
    pub(super) fn take(&self, server: &Arc<Server>, stream: TcpStream) {
        let counted = Counted::new(server, &self.connections);
        // A worker ends with the process only; what could not be sent is closed and counted off.
        drop(self.queue.send((stream, counted)));
    }
}

async fn work(server: &Arc<Server>, mut incoming: UnboundedReceiver<(TcpStream, Counted)>) {
    let instances = Arc::new(Instances::new(server.clone()));
    while let Some((stream, counted)) = incoming.recv().await {
        let instances = instances.clone();
        // A socket that cannot be registered is one that has gone.
        if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
            tokio::spawn(async move {
                connection::serve(stream, instances).await;
                drop(counted);
            });
        }
    }
}
