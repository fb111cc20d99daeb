//! Talking to registries (distribution-spec 1.1): yields untrusted bytes, writes nothing.
//!
//! ```text
//! Reference ─▶ mirror     which hosts serve the registry, and whom to trust there
//!           ─▶ endpoint   where: scheme, host, whether plain http is meant
//!           ─▶ host       its connections, and where its redirects may lead
//!           ─▶ auth       who: credentials → challenge → token
//!           ─▶ manifest   what: bounded, digest-checked bytes and the type they were sent as
//!           ─▶ blob       a stream from any offset; its reader judges it
//!           ─▶ referrers  what refers to a manifest: signatures, bills of materials
//!           ─▶ upload     the other way: a blob that is missing there, then the manifest that names it
//! ```
//!
//! Requests are made directly, over the HTTP client of `oci_distribution`, and that crate's types say what was answered. Its own
//! requests hide what must be looked at: they read a body of any length into memory, drop the Content-Type and
//! Retry-After headers, send a password to whatever address a challenge names, and know neither identity tokens nor mirrors.
//!
//! Security decisions of this room: plain http for loopback addresses only; credentials go to
//! the registry they belong to, or to the token server it names over TLS, and never to a mirror; a redirect never
//! carries them to another origin and never leads from https to http.

mod auth;
mod credential;
mod endpoint;
mod error;
mod host;
mod http;
mod keep;
mod mirror;
mod notice;
mod piece;
mod referrers;
mod retry;
mod search;
mod tags;
mod upload;
mod web;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host::Host;
use http::Access;
use mirror::Can;
use notice::Notices;
use tokio::sync::Mutex;

use crate::oci::{Descriptor, Digest};
use crate::reference::Reference;

pub use credential::{Credentials, Error as CredentialError};
pub use error::{Error, Result};
pub use http::Document;
pub use keep::Kept;
pub use mirror::Error as HostsError;
pub use retry::{Attempts, Patience};
pub use search::Found as FoundRepository;
pub use tags::MAX_TAGS;
pub use upload::{Contents, Delivery, Named, Parcel};
pub use web::Download;

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
    /// Where an administrator says which hosts serve a registry.
    directories: Vec<PathBuf>,
    notices: Notices,
    hosts: Mutex<HashMap<String, Vec<Arc<Host>>>>,
    repositories: Mutex<HashMap<Key, Arc<http::Repository>>>,
}

/// Registry, repository, access, and the place of the host among those of the registry.
type Key = (String, String, Access, usize);

/// Who sent some bytes, so that it can be told when they were wrong.
#[derive(Clone)]
pub struct Source(Arc<Host>);

/// A blob's bytes as they arrive: not verified, perhaps too few or too many.
pub struct Body {
    start: u64,
    host: Arc<Host>,
    stream: BoxStream<'static, std::io::Result<Vec<u8>>>,
}

impl Client {
    /// A client that logs in with these credentials, and that knows mirrors and certificates from these directories, the
    /// first that has something about a registry. Nothing is opened before the first request.
    pub fn new(credentials: Credentials, patience: Patience, directories: Vec<PathBuf>) -> Self {
        let (hosts, repositories, notices) = (Mutex::default(), Mutex::default(), Notices::default());
        Self { inner: Arc::new(Inner { credentials, patience, directories, notices, hosts, repositories }) }
    }

    /// What registries have said beside their answers since this was last asked: for the user.
    pub fn notices(&self) -> Vec<String> {
        self.inner.notices.take()
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
        let can = if reference.digest().is_some() { Can::is_for_pull } else { Can::is_for_resolve };
        self.pulling(reference, can, |repository| async move { repository.manifest(reference).await }).await
    }

    /// All of a blob that is small enough for memory, as the caller has seen by its size; verified.
    pub async fn small_blob(&self, reference: &Reference, blob: &Descriptor, on_retry: OnRetry<'_>) -> Result<Vec<u8>> {
        let read = |repository: Arc<http::Repository>| async move {
            let mut body = repository.rest(blob, 0).await?;
            let mut bytes = Vec::new();
            // One byte too many is enough to know that it is not the blob.
            while bytes.len() as u64 <= blob.size
                && let Some(chunk) = body.next().await
            {
                bytes.extend_from_slice(&chunk?);
            }
            check_digest(&format!("blob {}", blob.digest), &blob.digest, &bytes)?;
            Ok(bytes)
        };
        // What a mirror has wrong the next host may have right.
        self.trying(on_retry, async || self.pulling(reference, Can::is_for_pull, read).await).await
    }

    /// Opens the stream of a blob in `reference`'s repository, from `offset` on if the registry can.
    /// One attempt: who keeps what has arrived decides how to go on.
    pub async fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<Body> {
        let open = |repository: Arc<http::Repository>| async move { repository.rest(blob, offset).await };
        self.pulling(reference, Can::is_for_pull, open).await
    }

    /// Asks the hosts of the registry in their order, until one has it. Of those before the last any failure is
    /// tolerated: a mirror is there to help. What is told is the last one's.
    async fn pulling<T, F: Future<Output = Result<T>>>(
        &self,
        reference: &Reference,
        can: fn(Can) -> bool,
        work: impl Fn(Arc<http::Repository>) -> F,
    ) -> Result<T> {
        let hosts = self.hosts(reference.registry()).await?;
        let places: Vec<usize> = (0..hosts.len()).filter(|place| can(hosts[*place].can())).collect();
        let Some((last, mirrors)) = places.split_last() else {
            return Err(Error::NoHost { registry: reference.registry().to_owned(), what: "pull" });
        };
        for place in mirrors.iter().filter(|place| !hosts[**place].is_discredited()) {
            match self.repository_at(reference, Access::Pull, &[], *place).await {
                Ok(repository) => match work(repository).await {
                    Ok(done) => return Ok(done),
                    // What it does not have it need not have; but who cannot be talked to is not asked for every layer.
                    Err(
                        Error::UnknownManifest { .. } | Error::UnknownBlob { .. } | Error::UnknownRepository { .. },
                    ) => {}
                    Err(_) => hosts[*place].discredit(),
                },
                Err(_) => hosts[*place].discredit(),
            }
        }
        work(self.repository_at(reference, Access::Pull, &[], *last).await?).await
    }

    /// Asks those whose bytes of a blob were wrong no more. Whether there is somebody else who can be asked.
    pub async fn blame(&self, reference: &Reference, sources: &[Source]) -> Result<bool> {
        let hosts = self.hosts(reference.registry()).await?;
        let last = hosts.iter().rev().find(|host| host.can().is_for_pull());
        let is_mirror = |source: &&Source| last.is_some_and(|last| !Arc::ptr_eq(last, &source.0));
        let mirrors: Vec<&Source> = sources.iter().filter(is_mirror).collect();
        mirrors.iter().for_each(|mirror| mirror.0.discredit());
        Ok(!mirrors.is_empty())
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

    /// Where, who and how of one repository: found out once. That is at the registry itself, or at the first host that is
    /// there to be pushed to.
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
        let hosts = self.hosts(reference.registry()).await?;
        let place = match access {
            Access::Pull => hosts.iter().rposition(|host| host.can().is_for_resolve()),
            Access::Push => hosts.iter().position(|host| host.can().push),
        };
        let what = if access == Access::Pull { "pull" } else { "push" };
        let none = || Error::NoHost { registry: reference.registry().to_owned(), what };
        self.repository_at(reference, access, sources, place.ok_or_else(none)?).await
    }

    async fn repository_at(
        &self,
        reference: &Reference,
        access: Access,
        sources: &[String],
        place: usize,
    ) -> Result<Arc<http::Repository>> {
        let key = (reference.registry().to_owned(), reference.repository().to_owned(), access, place);
        let host = self.hosts(reference.registry()).await?[place].clone();
        let mut repositories = self.inner.repositories.lock().await;
        if let Some(repository) = repositories.get(&key) {
            return Ok(repository.clone());
        }
        let opened = http::Repository::open(host, reference, access, sources, &self.inner.credentials).await?;
        let repository = Arc::new(opened);
        repositories.insert(key, repository.clone());
        Ok(repository)
    }

    /// The hosts of a registry in the order in which they are asked.
    async fn hosts(&self, registry: &str) -> Result<Vec<Arc<Host>>> {
        let mut known = self.inner.hosts.lock().await;
        if let Some(hosts) = known.get(registry) {
            return Ok(hosts.clone());
        }
        let unclear = |source| Error::Hosts { registry: registry.to_owned(), source };
        let configured = mirror::hosts_of(&self.inner.directories, registry).map_err(unclear)?;
        let open = |configured| Host::new(configured, registry, self.inner.notices.clone()).map(Arc::new);
        let hosts = configured.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        known.insert(registry.to_owned(), hosts.clone());
        Ok(hosts)
    }
}

impl Body {
    /// The offset that the first byte has in the blob: less than was asked for if the registry
    /// cannot begin in the middle.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Who sends it.
    pub fn source(&self) -> Source {
        Source(self.host.clone())
    }

    /// The next bytes; `None` at the end of what the registry sends.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        Some(self.stream.next().await?.map_err(|error| {
            // Whoever asks again is sent to the next host, if there is one.
            self.host.discredit();
            Error::of_stream(self.host.shown(), error)
        }))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
