//! One request: an instance of the server, its call, and the answer that comes of it.
//!
//! ```text
//!   answer ── over a limit ──────────────────────────▶ 400 408 413 503 504
//!     │
//!     ├─ Guest: store, instance, call, boxed once     polled here until it says how the answer begins,
//!     │                                               then by whoever sends the body (`body::Writing`)
//!     └─ trap, no answer, an error ──────────────────▶ 500, and the reason among the program's own messages
//! ```

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;
use wasmtime::{Store, ThrownException, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p2::bindings::{Proxy, http::types::Scheme};
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p3};

use super::body::{Answer, Received, RequestBody, Writing};
use super::io::Deadline;
use super::{Handler, Server};
use crate::engine::wasm::host::Host;
use crate::engine::wasm::view::Number;
use crate::engine::wasm::{MAX_CAUSE, shown, trap};

/// What answers the requests of one worker.
pub(super) struct Instances {
    server: Arc<Server>,
    /// Those that have answered a request and may answer another, the last one last.
    idle: Mutex<Vec<Instance>>,
}

/// The most instances of a worker that wait for a request.
const MAX_IDLE: usize = 64;

/// An instance and all that is its own.
struct Instance {
    store: Store<Host>,
    exports: Exports,
    /// How many requests it has answered.
    answered: u32,
}

#[derive(Clone)]
enum Exports {
    Two(Arc<Proxy>),
    Three(Arc<Service>),
}

/// The right to be one of the requests at a time.
pub(super) struct Permit(Arc<Server>);

impl Permit {
    fn take(server: &Arc<Server>) -> Option<Self> {
        let others = server.running.fetch_add(1, Ordering::SeqCst);
        // Counted off again when this is dropped.
        let permit = Self(server.clone());
        if server.asleep.load(Ordering::SeqCst) {
            server.awaken.notify_one();
        }
        (others < server.limits().max_requests).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 && *self.0.ending.borrow() {
            self.0.disconnected.notify_waiters();
        }
    }
}

/// A guest at work. It has reported what went wrong when it has ended.
pub(super) struct Guest(Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>);

/// It went wrong, and was reported.
pub(super) struct Failed;

impl Guest {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.0.as_mut().poll(cx)
    }

    /// Lets it do what it does when its answer is complete.
    pub(super) fn go_on(self, until: Instant, permit: Option<Permit>) {
        drop(tokio::spawn(async move {
            drop(tokio::time::timeout_at(until, self.0).await);
            drop(permit);
        }));
    }
}

/// How an answer begins, or the guest's word for why there is none.
type Beginning = Result<Response<WasiBody>, String>;

/// Where the guest tells it, while it runs.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Option<Beginning>>>);

impl Begun {
    fn tell(&self, answer: Beginning) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<Beginning> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The answer to `request`.
pub(super) async fn answer(
    instances: Arc<Instances>,
    request: Request<Incoming>,
    deadline: Deadline,
) -> Response<Answer> {
    let server = instances.server.clone();
    let limits = server.limits();
    let until = Instant::now() + limits.request_timeout;
    if let Err(status) = check(&request, limits.max_request_body) {
        return text(status);
    }
    let Some(permit) = Permit::take(&server) else {
        server.board.add(Number::RequestsRefused, 1);
        let mut busy = text(StatusCode::SERVICE_UNAVAILABLE);
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return busy;
    };
    deadline.set(Some(until));
    let (bodyless, limit) = (request.method() == Method::HEAD, limits.max_request_body);
    let (parts, body) = request.into_parts();
    let (body, received) = RequestBody::new(body, limit);
    let begun = Begun::default();
    let mut guest = start(&instances, Request::from_parts(parts, body), begun.clone());
    let mut sleep = Box::pin(tokio::time::sleep_until(until));
    let waited = std::future::poll_fn(|cx| {
        let ended = guest.poll(cx);
        match begun.take() {
            Some(answer) => Poll::Ready(Waited::Begun(answer, ended)),
            None if ended.is_ready() => Poll::Ready(Waited::Ended),
            None => sleep.as_mut().poll(cx).map(|()| Waited::TooLong),
        }
    });
    let waited = waited.await;
    if received.too_large.load(Ordering::Relaxed) {
        deadline.set(None);
        return last(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match waited {
        Waited::Begun(Ok(response), ended) => {
            let (head, inner) = response.into_parts();
            let promised = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            let writing = Writing {
                inner,
                guest: ended.is_pending().then_some(guest),
                left: limits.max_response_body,
                promised,
                ended: bodyless || has_no_body(head.status),
                until: sleep,
                deadline,
                permit: Some(permit),
            };
            Response::from_parts(head, Answer::Guest(Box::new(writing)))
        }
        refused => {
            deadline.set(None);
            refuse(&server, refused, &received)
        }
    }
}

/// What became of a guest before its answer began.
enum Waited {
    Begun(Beginning, Poll<Result<(), Failed>>),
    Ended,
    TooLong,
}

fn refuse(server: &Server, waited: Waited, received: &Received) -> Response<Answer> {
    match waited {
        Waited::TooLong if !received.ended.load(Ordering::Relaxed) => last(StatusCode::REQUEST_TIMEOUT),
        Waited::TooLong => {
            server.report("wherry: a request was ended: it took too long");
            last(StatusCode::GATEWAY_TIMEOUT)
        }
        Waited::Begun(Err(code), _) => {
            server.report(&format!("wherry: the program answered with an error: {code}"));
            text(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Waited::Ended | Waited::Begun(..) => text(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Refuses what no guest has to see.
fn check(request: &Request<Incoming>, limit: u64) -> Result<(), StatusCode> {
    use http_body::Body as _;
    if request.body().size_hint().lower() > limit {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let host = request.headers().get(header::HOST);
    match host {
        // HTTP/1.1 without a host has to be refused (RFC 9112, 3.2); of 1.0 the guest would know no authority either.
        None if request.uri().authority().is_none() => Err(StatusCode::BAD_REQUEST),
        Some(host) if host.to_str().is_err() => Err(StatusCode::BAD_REQUEST),
        _ => Ok(()),
    }
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// An answer of ours: its status in words.
fn text(status: StatusCode) -> Response<Answer> {
    let words = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Answer::Text(Full::new(Bytes::from(words))));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// The same, as the last one of its connection: what is still to come of the request is not waited for.
fn last(status: StatusCode) -> Response<Answer> {
    let mut response = text(status);
    if response.version() < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The guest that answers `request`.
fn start(instances: &Arc<Instances>, request: Request<RequestBody>, begun: Begun) -> Guest {
    let instances = instances.clone();
    Guest(Box::pin(async move {
        let board = &instances.server.board;
        let counted = board.request();
        let Err(error) = instances.run(request, begun).await else {
            counted.served();
            return Ok(());
        };
        if is_trap(&error) {
            board.trap(&trap::name(&error));
            counted.trapped();
        }
        instances.server.report(&reason(&error));
        Err(Failed)
    }))
}

impl Instances {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, idle: Mutex::default() }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    async fn run(&self, request: Request<RequestBody>, begun: Begun) -> wasmtime::Result<()> {
        let mut instance = self.take().await?;
        let store = &mut instance.store;
        // One tick, then others have their turn, and the time that the request has is looked at.
        store.set_epoch_deadline(1);
        let answered = match &instance.exports {
            Exports::Two(proxy) => answer2(store, proxy, request, begun).await,
            Exports::Three(service) => answer3(store, service, request, begun).await,
        };
        match (&answered, &self.server.dumps) {
            (Ok(()), _) => self.give_back(instance),
            (Err(error), Some(dumps)) => {
                dumps.write(error, store).iter().for_each(|said| self.server.report(said.trim_end()))
            }
            (Err(_), None) => {}
        }
        answered
    }

    async fn take(&self) -> wasmtime::Result<Instance> {
        if let Some(instance) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(instance);
        }
        let server = &self.server;
        let host = Host::new(&server.invocation, server.streams.clone(), server.board.clone())?;
        let engine = match &server.handler {
            Handler::Two(pre) => pre.engine(),
            Handler::Three(pre) => pre.engine(),
        };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limits);
        store.set_hostcall_fuel(server.invocation.grants.limit.host_copy);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let exports = match &server.handler {
            Handler::Two(pre) => Exports::Two(Arc::new(pre.instantiate_async(&mut store).await?)),
            Handler::Three(pre) => Exports::Three(Arc::new(pre.instantiate_async(&mut store).await?)),
        };
        Ok(Instance { store, exports, answered: 0 })
    }

    /// Keeps an instance for the next request, if it may answer one.
    fn give_back(&self, mut instance: Instance) {
        instance.answered += 1;
        if instance.answered < self.server.limits().instance_reuse {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(instance);
            }
        }
    }
}

/// A code of `wasi:http`, which may hold text of the guest's, fit to be printed.
fn word(code: impl std::fmt::Debug) -> String {
    shown(&format!("{code:?}"), MAX_CAUSE)
}

/// By WASI 0.2: the guest sets the answer while it runs, and goes on to write its body.
async fn answer2(
    store: &mut Store<Host>,
    proxy: &Proxy,
    request: Request<RequestBody>,
    begun: Begun,
) -> wasmtime::Result<()> {
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |answer| begun.tell(answer.map_err(word)))?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// By WASI 0.3: the guest returns the answer, and its tasks go on to write the body.
async fn answer3(
    store: &mut Store<Host>,
    service: &Service,
    request: Request<RequestBody>,
    begun: Begun,
) -> wasmtime::Result<()> {
    let (request, sent) = p3::Request::from_http(store.data_mut().http().hooks, request);
    let ran = store.run_concurrent(async |accessor| {
        match service.handle(accessor, request).await? {
            Ok(response) => {
                let response = accessor.with(|mut store| response.into_http(&mut store, sent))?;
                begun.tell(Ok(response));
            }
            Err(code) => begun.tell(Err(word(code))),
        }
        std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        wasmtime::error::Ok(())
    });
    ran.await?
}

/// Why a guest did not get to its end, as it is reported.
fn reason(error: &wasmtime::Error) -> String {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return format!("wherry: the program ended itself with {code} in a request");
    }
    if is_trap(error) {
        return trap::report(error).trim_end().to_owned();
    }
    format!("wherry: a request failed: {}", error.root_cause())
}

fn is_trap(error: &wasmtime::Error) -> bool {
    error.is::<Trap>() || error.is::<ThrownException>()
}
