//! Which images are admitted: the signature policy, and the signatures of images.
//!
//! ```text
//! policy.json ─ parse ─▶ Policy ─ of(reference) ─▶ requirements
//!                                                      │ accept, reject, unsupported: decided without a network
//!                                                      ▼ sigstore
//! digests of index and manifest ─ find ─▶ signatures ─ check ─▶ Admitted, for each requirement one signature
//! ```
//!
//! It fails closed: a policy that cannot be read, a key that cannot be used, a registry that does not answer, a
//! signature that is not understood admit nothing. Everything is verified on this machine, with what the policy
//! names; no server is asked whether a signature is good.
//!
//! What it does not do: it signs nothing, and it says nothing about images that are here already.

mod certificate;
mod change;
mod check;
mod crypto;
mod error;
mod find;
mod identity;
mod keyless;
mod payload;
mod place;
mod policy;
mod scope;
mod show;

use std::path::PathBuf;
use std::sync::Arc;

use check::Check;
use find::Finder;

use crate::oci::Digest;
use crate::reference::Reference;
use crate::registry::{Client, OnRetry};

pub use change::Change;
pub use check::Satisfied;
pub use error::{Error, InvalidPolicy, Result};
pub use identity::SignedIdentity;
pub use place::InForce;
pub use policy::{Keyless, Material, Policy, Requirement, Roots, Signer, Sigstore, Subject};
pub use show::{Signatory, signatory};

/// The most reasons that are told when no signature will do.
const MAX_REASONS: usize = 6;

/// Decides which images are admitted, by the policy that is in force when it is asked.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    places: Arc<[PathBuf]>,
    /// Whether somebody said that the policy is there.
    named: bool,
}

/// An image that the policy admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The part of the policy that decided.
    pub scope: String,
    /// Which signatures satisfied which requirements; none where none is required.
    pub by: Vec<Satisfied>,
}

impl Guard {
    /// By the first policy that is at one of these paths; anything is admitted if none is.
    pub fn standard(places: Vec<PathBuf>) -> Self {
        Self { places: places.into(), named: false }
    }

    /// By the policy at this path, which must be there.
    pub fn named(path: PathBuf) -> Self {
        Self { places: [path].into(), named: true }
    }

    /// The policy that is in force now.
    pub fn in_force(&self) -> Result<InForce> {
        let path = if self.named { self.places.first().map(PathBuf::as_path) } else { place::in_force(&self.places) };
        let Some(path) = path else { return Ok(InForce { path: None, policy: Policy::absent() }) };
        let parsed = Policy::parse(&place::read(path)?);
        let policy = parsed.map_err(|source| Error::Policy { path: path.to_owned(), source })?;
        Ok(InForce { path: Some(path.to_owned()), policy })
    }

    /// Admits the image that `image` was resolved to, or says why not. It is known by the digest of its manifest and
    /// those of the indexes that led there; who signs one of these has signed what is in it.
    pub async fn admit(
        &self,
        client: &Client,
        image: &Reference,
        digests: &[&Digest],
        on_retry: OnRetry<'_>,
    ) -> Result<Admitted> {
        let in_force = self.in_force()?;
        let (scope, requirements) = in_force.policy.of(image);
        let mut pending = prepare(image, &scope, requirements)?;
        let finder = Finder { client, image, on_retry };
        let (mut by, mut reasons, mut seen) = (Vec::new(), Vec::new(), 0);
        for digest in digests {
            if pending.is_empty() {
                break;
            }
            let signatures = finder.of(digest).await?;
            seen += signatures.len();
            pending.retain(|check| {
                let judged = signatures.iter().map(|signature| check.judge(image, signature));
                match first(judged, &mut reasons) {
                    Some(satisfied) => by.push(satisfied),
                    None => return true,
                }
                false
            });
        }
        match pending.first() {
            None => Ok(Admitted { scope, by }),
            Some(_) if seen == 0 => Err(Error::Unsigned { reference: image.familiar(), scope }),
            Some(check) => {
                Err(Error::Unsatisfied { reference: image.familiar(), scope, requirement: check.words(), reasons })
            }
        }
    }
}

/// What has to be checked with signatures; an error if no signature can help.
fn prepare(image: &Reference, scope: &str, requirements: &[Requirement]) -> Result<Vec<Check>> {
    let (reference, scope) = (image.familiar(), scope.to_owned());
    let mut checks = Vec::new();
    for requirement in requirements {
        match requirement {
            Requirement::Accept => {}
            Requirement::Reject => return Err(Error::Rejected { reference, scope }),
            Requirement::Unsupported(what) => return Err(Error::Unsupported { reference, scope, what }),
            Requirement::Sigstore(sigstore) => checks.push(Check::prepare(sigstore)?),
        }
    }
    Ok(checks)
}

/// The first success; the reasons of failures before it, as many as anybody reads.
fn first<T>(mut judged: impl Iterator<Item = std::result::Result<T, String>>, reasons: &mut Vec<String>) -> Option<T> {
    judged.find_map(|verdict| match verdict {
        Ok(done) => Some(done),
        Err(reason) => {
            if reasons.len() < MAX_REASONS && !reasons.contains(&reason) {
                reasons.push(reason);
            }
            None
        }
    })
}
