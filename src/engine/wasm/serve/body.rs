//! The bodies of requests and of answers, within their limits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Sleep;
use wasmtime_wasi_http::WasiBody;

use super::io::Deadline;
use super::request::{Guest, Permit};

/// What is known of a request's body while the guest reads it.
#[derive(Default)]
pub(super) struct Received {
    /// All of it has come.
    pub(super) ended: AtomicBool,
    /// It is larger than it may be.
    pub(super) too_large: AtomicBool,
}

/// The body of a request.
pub(super) struct RequestBody {
    inner: Incoming,
    left: u64,
    received: Arc<Received>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, limit: u64) -> (Self, Arc<Received>) {
        let received = Arc::new(Received { ended: inner.is_end_stream().into(), too_large: false.into() });
        (Self { inner, left: limit, received: received.clone() }, received)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let Some(frame) = frame.transpose()? else {
            self.received.ended.store(true, Ordering::Relaxed);
            return Poll::Ready(None);
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = self.left.checked_sub(length) else {
            self.received.too_large.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(wasmtime_wasi_http::Error::HttpRequestBodySize(None))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Why an answer that has begun does not come to its end. Its connection, or its stream, is ended for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("the program ended before its answer did")]
    Guest,
    #[error("the request takes too long")]
    TooLong,
    #[error("the answer is too large")]
    TooLarge,
    #[error(transparent)]
    Body(wasmtime_wasi_http::Error),
}

/// The body of an answer.
pub(super) enum Answer {
    /// Ours.
    Text(Full<Bytes>),
    /// The guest's.
    Guest(Box<Writing>),
}

/// An answer that the guest is writing. Polling it is what drives the guest.
pub(super) struct Writing {
    pub(super) inner: WasiBody,
    pub(super) guest: Option<Guest>,
    /// How many bytes it may still have.
    pub(super) left: u64,
    /// How many bytes are still to come by its own account.
    pub(super) promised: Option<u64>,
    /// Nothing more will be asked of it.
    pub(super) ended: bool,
    pub(super) until: Pin<Box<Sleep>>,
    pub(super) deadline: Deadline,
    pub(super) permit: Option<Permit>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Guest(writing) => writing.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Guest(writing) => writing.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Guest(writing) => writing.inner.size_hint(),
        }
    }
}

impl Writing {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
                return Poll::Ready(self.checked(frame));
            }
            let Some(guest) = &mut self.guest else { return Poll::Pending };
            match guest.poll(cx) {
                Poll::Ready(ended) => {
                    self.guest = None;
                    if ended.is_err() {
                        return Poll::Ready(Some(Err(Cut::Guest)));
                    }
                }
                Poll::Pending => return self.until.as_mut().poll(cx).map(|()| Some(Err(Cut::TooLong))),
            }
        }
    }

    fn checked(
        &mut self,
        frame: Option<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>,
    ) -> Option<Result<Frame<Bytes>, Cut>> {
        let Some(frame) = frame else {
            self.ended = true;
            return None;
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Some(Err(Cut::Body(error))),
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        // Of an answer that says its length the end is not asked for.
        self.promised = self.promised.map(|promised| promised.saturating_sub(length));
        self.ended |= self.promised == Some(0);
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Some(Ok(frame))
            }
            None => Some(Err(Cut::TooLarge)),
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.deadline.set(None);
        // What the guest does after the last byte of its answer it may do, for as long as a request may take.
        if let (Some(guest), true) = (self.guest.take(), self.ended) {
            guest.go_on(self.until.deadline(), self.permit.take());
        }
    }
}
