//! One connection: which HTTP it speaks, and hyper with every limit that it has.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::io::{Deadline, Io};
use super::request::{self, Instances};

/// How an HTTP/2 connection of a client that knows begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many streams a client may have reset that we have not looked at yet: the rapid reset of CVE-2023-44487.
const MAX_RESETS: usize = 20;
/// How many streams we may have reset for its mistakes (CVE-2025-8671).
const MAX_MISTAKES: usize = 100;
/// How much of an answer waits in memory for a client, for each stream of HTTP/2 and for a connection of HTTP/1.
const MAX_WAITING: usize = 64 << 10;
/// How much of a request's body waits for the guest, for each stream and for the connection.
const WINDOW: u32 = 64 << 10;

/// Serves one connection to its end.
pub(super) async fn serve(mut stream: TcpStream, instances: Arc<Instances>) {
    // A failure shows in the next call.
    drop(stream.set_nodelay(true));
    let limits = instances.server().limits();
    let mut ending = instances.server().ending.subscribe();
    // Without a first byte, in time, there is nobody to answer.
    let first = tokio::select! {
        first = first_bytes(&mut stream) => first,
        () = tokio::time::sleep(limits.client_timeout) => return,
        _ = ending.wait_for(|ending| *ending) => return,
    };
    let Ok(first) = first else { return };
    let deadline = Deadline::default();
    let is_http2 = *first == *PREFACE;
    let io = Io::new(stream, first, limits.client_timeout, deadline.clone());
    if is_http2 { http2(io, instances).await } else { http1(io, instances, deadline).await }
}

/// The first bytes of a connection: as many as the preface has, or fewer that differ from it.
async fn first_bytes(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let left = PREFACE.len() - first.len();
        if (&mut *stream).take(left as u64).read_buf(&mut first).await? == 0 {
            break;
        }
    }
    Ok(first.freeze())
}

async fn http1(io: Io, instances: Arc<Instances>, deadline: Deadline) {
    let limits = instances.server().limits();
    let mut builder = http1::Builder::new();
    builder
        .timer(Timer)
        .header_read_timeout(limits.client_timeout)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_header_size)
        .max_buf_size(MAX_WAITING.max(limits.max_header_size));
    let mut ending = instances.server().ending.subscribe();
    let service = service_fn(|request: Request<Incoming>| {
        let answer = request::answer(instances.clone(), request, deadline.clone());
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    // How a connection ended is the client's business: the guest's errors are reported where they happen.
    tokio::select! {
        ended = connection.as_mut() => return drop(ended),
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn http2(io: Io, instances: Arc<Instances>) {
    let limits = instances.server().limits();
    let mut builder = http2::Builder::new(Executor { longest: limits.request_timeout + limits.client_timeout });
    builder
        .timer(Timer)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_MISTAKES)
        .max_send_buf_size(MAX_WAITING)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW.saturating_mul(16))
        // A client that is gone without a word is found by asking.
        .keep_alive_interval(limits.client_timeout)
        .keep_alive_timeout(limits.client_timeout);
    let mut ending = instances.server().ending.subscribe();
    let service = {
        let instances = instances.clone();
        service_fn(move |request: Request<Incoming>| {
            let answer = request::answer(instances.clone(), request, Deadline::default());
            async { Ok::<_, Infallible>(answer.await) }
        })
    };
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return drop(ended),
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

/// Runs the streams of HTTP/2, each as a task of the same worker, and none for longer than a request may take: its
/// client may take nothing of the answer while it goes on to take those of others.
#[derive(Clone)]
struct Executor {
    longest: Duration,
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        drop(tokio::spawn(tokio::time::timeout(self.longest, future)));
    }
}

/// The event loop's clock.
struct Timer;

struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }
}
