//! HTTP requests that a program sends: by the same grants as its sockets, to the name and port in the request.
//!
//! ```text
//!   request ── destination ─→ granted by name or by address, or `HTTP-request-denied`
//!           ── resolve ─────→ our resolver; what a name leads to may be prohibited all the same
//!           ── connect ─────→ TCP, then TLS; one connection for each request
//!           ── exchange ────→ HTTP/1.1, while the connection is driven; the rest of it goes with the body
//! ```
//!
//! What a browser or a library would do beside that is not done: no redirect is followed, no proxy of the environment is
//! used, no connection is kept, nothing is decompressed. Every failure has the error code that WASI has for it.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use super::super::net::{Access, Unresolved, tls};
use super::network::Name;

/// The most requests under way at a time: each has a socket and buffers.
const MAX_CONNECTIONS: usize = 128;
/// The most bytes of a request's target, as servers have it (nginx: four buffers of 8 KiB).
const MAX_URI: usize = 32 << 10;
/// The most bytes of a response's head that are read before the request fails.
const MAX_HEAD: usize = 128 << 10;
/// The most fields of a response's head.
const MAX_FIELDS: usize = 256;
/// How long it may take to look up and connect, unless the request says.
const CONNECT: Duration = Duration::from_secs(60);
/// How long a server may think, and pause, unless the request says: what other hosts of WASI wait.
const ANSWER: Duration = Duration::from_secs(600);

/// What stands between a program's requests and the network.
#[derive(Clone)]
pub struct Outgoing {
    access: Access,
    connections: Arc<Semaphore>,
}

impl Default for Outgoing {
    /// Nothing is let through.
    fn default() -> Self {
        Self::new(Access::default())
    }
}

impl Outgoing {
    /// Lets through what `access` has.
    pub(in super::super) fn new(access: Access) -> Self {
        Self { access, connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Finished,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Finished)>> + Send> {
        Box::new(send(self.clone(), request, Times::of(options)))
    }
}

/// How long the parts of a request may take.
#[derive(Clone, Copy)]
struct Times {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Times {
    fn of(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        Self {
            connect: options.connect_timeout.unwrap_or(CONNECT),
            first_byte: options.first_byte_timeout.unwrap_or(ANSWER),
            between_bytes: options.between_bytes_timeout.unwrap_or(ANSWER),
        }
    }
}

async fn send(
    outgoing: Outgoing,
    mut request: Request<WasiBody>,
    times: Times,
) -> Result<(Response<WasiBody>, Finished)> {
    let target = Target::of(request.uri())?;
    let host = target.granted(&outgoing.access)?;
    let permit = outgoing.connections.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
    let deadline = Instant::now() + times.connect;
    let addresses = tokio::time::timeout_at(deadline, addresses(&outgoing.access, &host, target.port));
    let addresses = addresses.await.map_err(|_| Error::DnsTimeout)??;
    let stream = tokio::time::timeout_at(deadline, connect(&addresses, &target));
    let stream = stream.await.map_err(|_| Error::ConnectionTimeout)??;
    *request.uri_mut() = origin_form(request.uri())?;
    exchange(stream, request, times, permit).await
}

/// Where a request goes.
#[derive(Debug, PartialEq)]
struct Target {
    host: String,
    port: u16,
    tls: bool,
}

/// A destination that was granted.
#[derive(Debug, PartialEq)]
enum Granted {
    Address(IpAddr),
    Name(Name),
}

impl Target {
    fn of(uri: &Uri) -> Result<Self> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        if uri.path_and_query().is_some_and(|path| path.as_str().len() > MAX_URI) {
            return Err(Error::HttpRequestUriTooLong);
        }
        // A name and password would be sent nowhere; what follows them would be taken for the host.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(Error::HttpRequestUriInvalid);
        }
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = match (authority.port(), tls) {
            (Some(port), _) => port.as_u16(),
            (None, true) => 443,
            (None, false) => 80,
        };
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        Ok(Self { host: host.to_owned(), port, tls })
    }

    fn granted(&self, access: &Access) -> Result<Granted> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            let peer = SocketAddr::new(address, self.port);
            return if access.may_connect(peer) {
                Ok(Granted::Address(address))
            } else {
                Err(Error::HttpRequestDenied)
            };
        }
        let name = Name::parse(&self.host).map_err(|_| Error::HttpRequestDenied)?;
        if access.may_name(&name, self.port) { Ok(Granted::Name(name)) } else { Err(Error::HttpRequestDenied) }
    }

    fn server_name(&self) -> Result<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)
    }
}

/// The addresses to try, in order; none of them prohibited.
async fn addresses(access: &Access, host: &Granted, port: u16) -> Result<Vec<SocketAddr>> {
    let found = match host {
        Granted::Address(address) => vec![*address],
        Granted::Name(name) => access.resolve(name).await.map_err(unresolved)?,
    };
    let peers = found.into_iter().map(|address| SocketAddr::new(address, port));
    let open: Vec<SocketAddr> = peers.filter(|peer| access.may_connect(*peer)).collect();
    if open.is_empty() { Err(Error::DestinationIpProhibited) } else { Ok(open) }
}

fn unresolved(why: Unresolved) -> Error {
    let rcode = match why {
        Unresolved::Denied => return Error::HttpRequestDenied,
        Unresolved::NotFound => Some("NXDOMAIN".to_owned()),
        Unresolved::Temporary => Some("SERVFAIL".to_owned()),
        Unresolved::Permanent => None,
    };
    Error::DnsError { rcode, info_code: None }
}

/// A stream, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(addresses: &[SocketAddr], target: &Target) -> Result<Box<dyn Stream>> {
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return secure(stream, target).await,
            Err(error) => last = unconnected(&error),
        }
    }
    Err(last)
}

async fn secure(stream: TcpStream, target: &Target) -> Result<Box<dyn Stream>> {
    // The head and the body are written apart: the second would wait for the first to be acknowledged.
    stream.set_nodelay(true).map_err(|error| unconnected(&error))?;
    if !target.tls {
        return Ok(Box::new(stream));
    }
    let secured = TlsConnector::from(tls::client()).connect(target.server_name()?, stream).await;
    Ok(Box::new(secured.map_err(|error| insecure(&error))?))
}

fn unconnected(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        // The other wall.
        io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => Error::DestinationUnavailable,
    }
}

fn insecure(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some((*alert).into()), alert_message: Some(format!("{alert:?}")) }
        }
        Some(_) => Error::TlsProtocolError,
        None => match unconnected(error) {
            Error::DestinationUnavailable => Error::TlsProtocolError,
            known => known,
        },
    }
}

/// The target as a server wants it that is no proxy: path and query.
fn origin_form(uri: &Uri) -> Result<Uri> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    path.parse().map_err(|_| Error::HttpRequestUriInvalid)
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<WasiBody>,
    times: Times,
    permit: OwnedSemaphorePermit,
) -> Result<(Response<WasiBody>, Finished)> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut connection = Box::pin(connection);
    let mut driven = false;
    let response = {
        let mut answer = std::pin::pin!(timeout(times.first_byte, sender.send_request(request)));
        let answered = tokio::select! {
            answered = &mut answer => answered,
            ended = &mut connection => {
                driven = true;
                ended.map_err(failed)?;
                answer.await
            }
        };
        answered.map_err(|_| Error::ConnectionReadTimeout)?.map_err(failed)?
    };
    let response = response.map(|incoming| Answer::new(incoming, times.between_bytes).boxed_unsync());
    let finished = async move {
        let ended = if driven { Ok(()) } else { connection.await.map_err(failed) };
        drop(permit);
        ended
    };
    Ok((response, Box::new(finished)))
}

/// The error code for what went wrong in an exchange.
fn failed(error: hyper::Error) -> Error {
    if let Some(Error::HttpRequestBodySize(size)) = error.source().and_then(|source| source.downcast_ref()) {
        return Error::HttpRequestBodySize(*size);
    }
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(MAX_HEAD).ok())
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.source().is_some_and(|source| source.is::<io::Error>()) || error.is_closed() || error.is_canceled()
    {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}

/// A response's body, which must not pause for too long.
struct Answer {
    incoming: Incoming,
    pause: Pin<Box<Sleep>>,
    longest: Duration,
}

impl Answer {
    fn new(incoming: Incoming, longest: Duration) -> Self {
        Self { incoming, pause: Box::pin(sleep(longest)), longest }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Pending => self.pause.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout))),
            Poll::Ready(frame) => {
                let next = Instant::now() + self.longest;
                self.pause.as_mut().reset(next);
                Poll::Ready(frame.map(|frame| frame.map_err(failed)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
