//! Talking to registries (distribution-spec 1.1): yields untrusted bytes, writes nothing.
//!
//! ```text
//! Reference ─▶ endpoint   where: scheme, host, whether plain http is meant
//!           ─▶ auth       who: credentials → challenge → token
//!           ─▶ manifest   what: bounded, digest-checked bytes and the type they were sent as
//!           ─▶ blob       a stream from any offset; its reader judges it
//!           ─▶ referrers  what refers to a manifest: signatures, bills of materials
//!           ─▶ upload     the other way: a blob that is missing there, then the manifest that names it
//! ```
//!
//! Security decisions of this room: plain http for loopback addresses only; credentials go to
//! the registry they belong to, or to the token server it names over TLS; a redirect never carries them
//! to another origin and never leads from https to http.

mod auth;
mod credential;
mod endpoint;
mod error;
mod http;
mod keep;
mod piece;
mod referrers;
mod retry;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::Access;
use tokio::sync::Mutex;

use crate::oci::{Descriptor, Digest};
use crate::reference::Reference;

pub use credential::{Credentials, Error as CredentialError};
pub use error::{Error, Result};
pub use http::Document;
pub use keep::Kept;
pub use retry::{Attempts, Patience};
pub use upload::{Contents, Delivery, Named, Parcel};

/// Told when a request is to be made again: how long from now, and why.
pub type OnRetry<'a> = &'a (dyn Fn(Duration, &Error) + Sync);

/// A client of all registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    credentials: Credentials,
    patience: Patience,
    repositories: Mutex<HashMap<(String, String, Access), Arc<http::Repository>>>,
}

/// A blob's bytes as they arrive: not verified, perhaps too few or too many.
pub struct Body {
    start: u64,
    registry: String,
    stream: BoxStream<'static, std::io::Result<Vec<u8>>>,
}

impl Client {
    /// A client that logs in with these credentials. Nothing is opened before the first request.
    pub fn new(credentials: Credentials, patience: Patience) -> Self {
        Self { inner: Arc::new(Inner { credentials, patience, repositories: Mutex::default() }) }
    }

    /// Counts the attempts of one piece of work, for a caller with a retry loop of its own.
    pub fn attempts(&self) -> Attempts {
        Attempts::new(self.inner.patience)
    }

    /// Fetches the manifest or index that `reference` names, by its digest if it has one.
    pub async fn manifest(&self, reference: &Reference, on_retry: OnRetry<'_>) -> Result<Document> {
        self.trying(on_retry, || self.try_manifest(reference)).await
    }

    async fn try_manifest(&self, reference: &Reference) -> Result<Document> {
        self.repository(reference, Access::Pull).await?.manifest(reference).await
    }

    /// Opens the stream of a blob in `reference`'s repository, from `offset` on if the registry can.
    /// One attempt: who keeps what has arrived decides how to go on.
    pub async fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<Body> {
        self.repository(reference, Access::Pull).await?.rest(blob, offset).await
    }

    async fn trying<T>(&self, on_retry: OnRetry<'_>, work: impl AsyncFn() -> Result<T>) -> Result<T> {
        let mut attempts = self.attempts();
        loop {
            let error = match work().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(pause) = attempts.after(&error) else { return Err(error) };
            on_retry(pause, &error);
            tokio::time::sleep(pause).await;
        }
    }

    /// Where, who and how of one repository: found out once.
    async fn repository(&self, reference: &Reference, access: Access) -> Result<Arc<http::Repository>> {
        self.repository_with(reference, access, &[]).await
    }

    /// The same. Who is the first to ask for it may name repositories whose blobs are to be mounted.
    async fn repository_with(
        &self,
        reference: &Reference,
        access: Access,
        sources: &[String],
    ) -> Result<Arc<http::Repository>> {
        let key = (reference.registry().to_owned(), reference.repository().to_owned(), access);
        let mut repositories = self.inner.repositories.lock().await;
        if let Some(repository) = repositories.get(&key) {
            return Ok(repository.clone());
        }
        let repository = Arc::new(http::Repository::open(reference, access, sources, &self.inner.credentials).await?);
        repositories.insert(key, repository.clone());
        Ok(repository)
    }
}

impl Body {
    /// The offset that the first byte has in the blob: less than was asked for if the registry
    /// cannot begin in the middle.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The next bytes; `None` at the end of what the registry sends.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        let chunk = self.stream.next().await?;
        Some(chunk.map_err(|error| Error::of_stream(&self.registry, error)))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("patience", &self.inner.patience).finish_non_exhaustive()
    }
}

/// The digest that bytes must have, or else an error that names both.
fn check_digest(what: &str, expected: &Digest, bytes: &[u8]) -> Result<()> {
    let mut hasher = expected.hasher();
    hasher.update(bytes);
    match hasher.finish() {
        actual if actual == *expected => Ok(()),
        actual => {
            Err(Error::WrongDigest { what: what.to_owned(), expected: expected.clone(), actual: actual.to_string() })
        }
    }
}
