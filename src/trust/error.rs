//! What can go wrong with trust: a policy that cannot be used, and an image that it does not admit.

use std::path::PathBuf;

use super::find::{MAX_PAYLOAD_BYTES, MAX_SIGNATURES};
use super::place::MAX_FILE_BYTES;
use crate::error::{Failure, Kind};
use crate::oci::{Digest, InvalidDocument};
use crate::registry;

/// The result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image is not trusted. Whatever it is, the image is not admitted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("cannot read {path:?}, which the signature policy needs")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write the signature policy {path:?}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path:?} is larger than {MAX_FILE_BYTES} bytes, the most that a policy, a key or a certificate may be")]
    FileSize { path: PathBuf },
    #[error("there is no place for a signature policy on this machine")]
    NoPlace,
    #[error("the signature policy {path:?} is invalid")]
    Policy { path: PathBuf, source: InvalidPolicy },
    #[error("{what} of the signature policy is no key that can be used: {reason}")]
    Key { what: String, reason: String },
    #[error("{what} of the signature policy cannot be used as roots of trust: {reason}")]
    Roots { what: String, reason: String },
    #[error("{reference} is rejected by the signature policy: {scope} is of type reject")]
    Rejected { reference: String, scope: String },
    #[error("{reference} is rejected by the signature policy: {scope} requires {what}, which cannot be checked here")]
    Unsupported { reference: String, scope: String, what: &'static str },
    #[error("{reference} has no signature, and the signature policy requires one for {scope}")]
    Unsigned { reference: String, scope: String },
    #[error(
        "no signature of {reference} is what the signature policy requires for {scope} ({requirement}): {}",
        reasons.join("; ")
    )]
    Unsatisfied { reference: String, scope: String, requirement: String, reasons: Vec<String> },
    #[error("{reference} has more than {MAX_SIGNATURES} signatures, the most that are looked at")]
    TooManySignatures { reference: String },
    #[error("a signature of {reference} has {size} bytes; at most {MAX_PAYLOAD_BYTES} are read")]
    SignatureSize { reference: String, size: u64 },
    #[error("the signatures of {reference} are not in a manifest")]
    SignatureManifest { reference: String, source: InvalidDocument },
    #[error("the signatures of {reference} are in an index, and must be in a manifest")]
    SignatureIndex { reference: String },
    #[error("cannot look for signatures of {digest}")]
    Registry { digest: Digest, source: registry::Error },
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum InvalidPolicy {
    #[error(transparent)]
    Json(#[from] serde_path_to_error::Error<serde_json::Error>),
    #[error("{scope} has an empty list of requirements")]
    NoRequirement { scope: String },
    #[error("{scope}: {why}")]
    Requirement { scope: String, why: String },
    #[error("it has more than {max} scopes")]
    TooManyScopes { max: usize },
    #[error("{scope:?} is no scope: {why}")]
    Scope { scope: String, why: &'static str },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => Kind::of_io(source),
            Self::FileSize { .. } | Self::TooManySignatures { .. } | Self::SignatureSize { .. } => {
                Kind::ResourceExhausted
            }
            Self::NoPlace | Self::Policy { .. } | Self::Key { .. } | Self::Roots { .. } => Kind::FailedPrecondition,
            Self::Rejected { .. } | Self::Unsigned { .. } | Self::Unsatisfied { .. } => Kind::PermissionDenied,
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::SignatureManifest { .. } | Self::SignatureIndex { .. } => Kind::DataLoss,
            Self::Registry { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry { source, .. } => source.hint(),
            Self::Rejected { reference, .. }
            | Self::Unsupported { reference, .. }
            | Self::Unsigned { reference, .. }
            | Self::Unsatisfied { reference, .. } => {
                Some(format!("wherry trust show {reference} tells what is required, and by which file"))
            }
            Self::Read { .. } | Self::Policy { .. } | Self::FileSize { .. } => {
                Some("nothing is pulled while the policy cannot be read; it is as in containers-policy.json(5)".into())
            }
            _ => None,
        }
    }
}
