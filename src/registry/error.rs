//! What can go wrong with a registry, in the words of Docker where Docker has words that people
//! search for, and how the HTTP client's errors become that.

use std::error::Error as StdError;
use std::time::Duration;

use oci_distribution::errors::{OciEnvelope, OciErrorCode};

use super::{credential, mirror};
use crate::error::{Failure, Kind};
use crate::oci::Digest;

/// How much of a registry's own words an error repeats.
const MAX_QUOTED: usize = 300;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot reach the registry {registry}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What the system said.
        source: Source,
    },
    /// A connection that broke, stalled, or spoke no proper HTTP.
    #[error("the connection to the registry {registry} broke")]
    Broken {
        /// Host and port.
        registry: String,
        /// What the HTTP client said.
        source: Source,
    },
    /// Fewer bytes than announced, with no error from the connection.
    #[error("the registry {registry} sent {received} of the {expected} bytes of {digest}")]
    Truncated {
        /// Host and port.
        registry: String,
        /// The blob.
        digest: Digest,
        /// How many came.
        received: u64,
        /// How many were announced.
        expected: u64,
    },
    /// There is no such tag or manifest.
    #[error("manifest for {reference} not found: {reason}")]
    UnknownManifest {
        /// The reference as people write it.
        reference: String,
        /// The registry's words.
        reason: String,
    },
    /// The repository has no such blob.
    #[error("blob {digest} not found in {repository}: {reason}")]
    UnknownBlob {
        /// The blob.
        digest: Digest,
        /// The repository as people write it.
        repository: String,
        /// The registry's words.
        reason: String,
    },
    /// The registry wants to know who asks, or does not let this one.
    #[error("pull access denied for {repository}, repository does not exist or may require 'docker login': {reason}")]
    Denied {
        /// The repository as people write it.
        repository: String,
        /// Whether credentials were sent.
        logged_in: bool,
        /// The registry's words.
        reason: String,
    },
    /// The same, of writing.
    #[error("push access denied for {repository}, repository does not exist or may require 'docker login': {reason}")]
    PushDenied {
        /// The repository as people write it.
        repository: String,
        /// Whether credentials were sent.
        logged_in: bool,
        /// The registry's words.
        reason: String,
    },
    /// The registry has forgotten an upload that was going on.
    #[error("the registry {registry} has lost the upload of blob {digest}: {reason}")]
    UploadLost {
        /// Host and port.
        registry: String,
        /// The blob.
        digest: Digest,
        /// The registry's words.
        reason: String,
    },
    /// What is to be sent cannot be read.
    #[error("cannot read {digest} to send it")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// The credentials are wrong.
    #[error("the registry {registry} refuses the credentials for it: {reason}")]
    BadCredentials {
        /// Host and port.
        registry: String,
        /// The registry's words.
        reason: String,
    },
    /// Too many requests.
    #[error("the registry {registry} limits the rate of requests{wait}: {reason}", wait = Wait(*retry_after))]
    RateLimited {
        /// Host and port.
        registry: String,
        /// When to come back, if it says so.
        retry_after: Option<Duration>,
        /// The registry's words.
        reason: String,
    },
    /// What is no address of a file.
    #[error("{address:?} is no address of a file: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// Why.
        reason: String,
    },
    /// A file that does not come.
    #[error("cannot download {address}")]
    Download {
        /// Where it is.
        address: String,
        /// What the system or the HTTP client said.
        source: Source,
    },
    /// A server that does not give a file; in Docker's words.
    #[error("failed to GET {address} with status {status}: {reason}")]
    NoFile {
        /// Where it should be.
        address: String,
        /// The status, with its words.
        status: String,
        /// Its number.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// Any other status than success.
    #[error("the registry {registry} answered {what} with status {status}: {reason}")]
    Status {
        /// Host and port.
        registry: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// When to come back, if it says so.
        retry_after: Option<Duration>,
        /// The registry's words.
        reason: String,
    },
    /// A document larger than is read.
    #[error("{what} is larger than the {limit} bytes that are accepted")]
    TooLarge {
        /// Manifest or token.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// Bytes that are not those of the digest.
    #[error("{what} has the digest {actual}, and {expected} was asked for")]
    WrongDigest {
        /// The document or blob.
        what: String,
        /// What they should hash to.
        expected: Digest,
        /// What they hash to.
        actual: String,
    },
    /// A header or token that cannot be understood.
    #[error("the registry {registry} sent {what} that cannot be understood: {reason}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// Header or document.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A challenge that would send credentials where they must not go.
    #[error("the registry {registry} wants credentials sent to {realm:?}, which is refused: {reason}")]
    UnsafeRealm {
        /// Host and port.
        registry: String,
        /// The address in the challenge.
        realm: String,
        /// Why not.
        reason: &'static str,
    },
    /// A redirect to where a stranger must not lead.
    #[error("the registry {registry} redirects to {target:?}, which is refused: {reason}")]
    UnsafeRedirect {
        /// Host and port.
        registry: String,
        /// Where to.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// There is no such repository.
    #[error("repository {repository} not found: {reason}")]
    UnknownRepository {
        /// The repository as people write it.
        repository: String,
        /// The registry's words.
        reason: String,
    },
    /// What an administrator says about the registry makes no sense.
    #[error("cannot find the hosts of the registry {registry}")]
    Hosts {
        /// The registry.
        registry: String,
        /// Why.
        source: mirror::Error,
    },
    /// No host of the registry may be asked for this.
    #[error("no host of the registry {registry} may be asked to {what}: its hosts.toml does not have that capability")]
    NoHost {
        /// The registry.
        registry: String,
        /// Pull, resolve or push.
        what: &'static str,
    },
    /// The credentials for the registry cannot be had.
    #[error("cannot get the credentials for the registry {registry}")]
    Credential {
        /// Host and port.
        registry: String,
        /// Why.
        source: credential::Error,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up an HTTP client")]
    Setup {
        /// Why.
        source: Source,
    },
}

/// What this room returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

struct Wait(Option<Duration>);

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(f, " and asks to come back in {} s", wait.as_secs()))
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::UploadLost { .. } => Kind::Unavailable,
            Self::Address { .. } => Kind::InvalidArgument,
            Self::Download { .. } | Self::NoFile { code: 500.., .. } => Kind::Unavailable,
            Self::NoFile { code: 404 | 410, .. } => Kind::NotFound,
            Self::NoFile { .. } => Kind::FailedPrecondition,
            Self::Truncated { .. } | Self::WrongDigest { .. } => Kind::DataLoss,
            Self::Protocol { .. } => Kind::DataLoss,
            Self::UnknownManifest { .. } | Self::UnknownBlob { .. } | Self::UnknownRepository { .. } => Kind::NotFound,
            Self::Hosts { source, .. } => source.kind(),
            Self::NoHost { .. } => Kind::FailedPrecondition,
            Self::Denied { logged_in: false, .. }
            | Self::PushDenied { logged_in: false, .. }
            | Self::BadCredentials { .. } => Kind::Unauthenticated,
            Self::Source { source, .. } => Kind::of_io(source),
            Self::Denied { .. } | Self::PushDenied { .. } | Self::UnsafeRealm { .. } | Self::UnsafeRedirect { .. } => {
                Kind::PermissionDenied
            }
            Self::RateLimited { .. } | Self::TooLarge { .. } => Kind::ResourceExhausted,
            Self::Status { status: 500.., .. } => Kind::Unavailable,
            Self::Status { .. } => Kind::FailedPrecondition,
            Self::Credential { source, .. } => source.kind(),
            Self::Setup { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Denied { logged_in: false, .. } | Self::PushDenied { logged_in: false, .. } => {
                "check the spelling, or log in to the registry: wherry login REGISTRY"
            }
            Self::Denied { .. } => "check the spelling, and that this account may pull it",
            Self::PushDenied { .. } => "check the spelling, and that this account may push to it",
            Self::BadCredentials { .. } => "log in again; credentials are read from ~/.docker/config.json",
            Self::RateLimited { .. } => "try again later; logging in often raises the limit",
            Self::Unreachable { .. } => "check the registry's name, the network and the proxy settings",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl Error {
    /// Whether logging in once more may help.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::PushDenied { .. })
    }

    /// What the HTTP client could not do, with the address left out: it may carry a signature.
    pub(super) fn of_request(registry: &str, error: reqwest::Error) -> Self {
        let (registry, connect) = (registry.to_owned(), error.is_connect());
        let source: Source = Box::new(error.without_url());
        if connect { Self::Unreachable { registry, source } } else { Self::Broken { registry, source } }
    }

    /// What went wrong in the middle of a blob.
    pub(super) fn of_stream(registry: &str, error: std::io::Error) -> Self {
        Self::Broken { registry: registry.to_owned(), source: Box::new(error) }
    }

    /// What a status other than success means for what was asked.
    pub(super) fn of_answer(asked: &Asked<'_>, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        match (status, code_in(body)) {
            (404, Some(OciErrorCode::NameUnknown)) if matches!(asked.what, What::Manifest { .. }) => {
                let (repository, reason) = (asked.repository.clone(), quoted(&reason_in(body)));
                Self::UnknownRepository { repository, reason }
            }
            _ => Self::of_status(asked, status, retry_after, &reason_in(body)),
        }
    }

    /// The same, of a reason that is known.
    pub(super) fn of_status(asked: &Asked<'_>, status: u16, retry_after: Option<Duration>, reason: &str) -> Self {
        let (registry, reason) = (asked.registry.to_owned(), quoted(reason));
        let repository = asked.repository.clone();
        match (status, &asked.what) {
            (401 | 403, what) if what.is_of_a_push() => {
                Self::PushDenied { repository, logged_in: asked.logged_in, reason }
            }
            // It is not about a repository.
            (401 | 403, What::Search { .. }) => {
                Self::Status { registry, what: asked.what.to_string(), status, retry_after, reason }
            }
            (401 | 403, _) => Self::Denied { repository, logged_in: asked.logged_in, reason },
            (404, What::Manifest { reference }) => Self::UnknownManifest { reference: reference.clone(), reason },
            // The upload, that is: the repository itself is known by now.
            (404 | 416, What::Sent { digest } | What::Chunk { digest }) => {
                Self::UploadLost { registry, digest: digest.clone(), reason }
            }
            (404, What::Blob { digest }) => Self::UnknownBlob { digest: digest.clone(), repository, reason },
            (429, _) => Self::RateLimited { registry, retry_after, reason },
            (_, what) => Self::Status { registry, what: what.to_string(), status, retry_after, reason },
        }
    }
}

/// What was asked of whom, for the error.
pub(super) struct Asked<'a> {
    /// Host and port.
    pub registry: &'a str,
    /// The repository as people write it.
    pub repository: String,
    /// Whether credentials were sent.
    pub logged_in: bool,
    /// The thing itself.
    pub what: What,
}

pub(super) enum What {
    Manifest {
        reference: String,
    },
    Blob {
        digest: Digest,
    },
    /// The list of a repository's tags.
    Tags {
        repository: String,
    },
    Token,
    Ping,
    /// Repositories that have to do with something.
    Search {
        term: String,
    },
    /// Whether a blob is there already.
    Presence {
        digest: Digest,
    },
    /// A place to send a blob to.
    Upload {
        digest: Digest,
    },
    /// To take a blob from another repository, or else a place to send it to.
    Mount {
        digest: Digest,
    },
    /// A part of the blob, or how much of it has come.
    Chunk {
        digest: Digest,
    },
    /// The blob itself.
    Sent {
        digest: Digest,
    },
    /// A manifest, by its name.
    Name {
        reference: String,
    },
    /// What refers to a manifest.
    Referrers {
        digest: Digest,
    },
}

impl What {
    /// Whether a status is that of success.
    pub fn is_answered_by(&self, status: u16) -> bool {
        match self {
            Self::Presence { .. } => matches!(status, 200 | 404),
            Self::Blob { .. } => matches!(status, 200 | 206),
            Self::Upload { .. } => status == 202,
            Self::Mount { .. } => matches!(status, 201 | 202),
            Self::Chunk { .. } => matches!(status, 202 | 204),
            // Old registries say that they have accepted it.
            Self::Sent { .. } | Self::Name { .. } => matches!(status, 200..=202 | 204),
            _ => status == 200,
        }
    }

    fn is_of_a_push(&self) -> bool {
        let is_of_a_blob = matches!(
            self,
            Self::Presence { .. } | Self::Upload { .. } | Self::Mount { .. } | Self::Chunk { .. } | Self::Sent { .. }
        );
        is_of_a_blob || matches!(self, Self::Name { .. })
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manifest { reference } => write!(f, "the request for the manifest of {reference}"),
            Self::Blob { digest } => write!(f, "the request for blob {digest}"),
            Self::Tags { repository } => write!(f, "the request for the tags of {repository}"),
            Self::Token => f.write_str("the request for a token"),
            Self::Ping => f.write_str("the first request"),
            Self::Search { term } => write!(f, "the search for {term:?}"),
            Self::Presence { digest } => write!(f, "the question for blob {digest}"),
            Self::Upload { digest } => write!(f, "the wish to upload blob {digest}"),
            Self::Mount { digest } => write!(f, "the wish to mount blob {digest}"),
            Self::Sent { digest } | Self::Chunk { digest } => write!(f, "the upload of blob {digest}"),
            Self::Referrers { digest } => write!(f, "the question for what refers to {digest}"),
            Self::Name { reference } => write!(f, "the upload of the manifest of {reference}"),
        }
    }
}

/// The error body of the distribution specification, read leniently: what cannot be understood is
/// quoted as it came.
pub(super) fn reason_in(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(Envelope { errors }) if !errors.is_empty() => {
            let of = |entry: &Entry| format!("{}: {}", entry.code.to_lowercase().replace('_', " "), entry.message);
            errors.iter().map(of).collect::<Vec<_>>().join("; ")
        }
        _ => String::from_utf8_lossy(body).into_owned(),
    }
}

/// A stranger's words on one line of bounded length, with nothing that a terminal would obey.
pub(super) fn quoted(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTED).collect();
    let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() { "it gives no reason".to_owned() } else { words }
}

/// The specification's code for what went wrong, where a registry gives one.
fn code_in(body: &[u8]) -> Option<OciErrorCode> {
    let envelope: OciEnvelope = serde_json::from_slice(body).ok()?;
    envelope.errors.into_iter().next().map(|error| error.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(what: What) -> Asked<'static> {
        Asked { registry: "r.io:443", repository: "r.io/x".to_owned(), logged_in: false, what }
    }

    #[test]
    fn statuses_in_words() {
        let manifest = || asked(What::Manifest { reference: "r.io/x:1".to_owned() });
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        let error = Error::of_status(&manifest(), 404, None, &reason_in(body));
        assert_eq!(error.to_string(), "manifest for r.io/x:1 not found: manifest unknown: manifest unknown");
        assert_eq!(error.kind(), Kind::NotFound);
        let error = Error::of_status(&manifest(), 401, None, "");
        assert!(error.to_string().starts_with("pull access denied for r.io/x, "), "{error}");
        assert_eq!(error.kind(), Kind::Unauthenticated);
        let error = Error::of_status(&manifest(), 429, Some(Duration::from_secs(7)), "slow down");
        assert_eq!(
            error.to_string(),
            "the registry r.io:443 limits the rate of requests and asks to come back in 7 s: slow down"
        );
        assert_eq!(Error::of_status(&manifest(), 503, None, "").kind(), Kind::Unavailable);
    }

    #[test]
    fn a_strangers_words_are_tamed() {
        assert_eq!(quoted("\x1b[2J\r\nevil   page\0"), "[2J evil page");
        assert_eq!(quoted(&"x".repeat(10_000)).len(), MAX_QUOTED);
        assert_eq!(reason_in(b"<html>\xff"), "<html>\u{fffd}");
    }
}
