//! What a policy says, for people: who must sign, by the fingerprints of their keys.

use super::check::key;
use super::error::Result;
use super::policy::{Keyless, Roots, Signer, Sigstore};

/// One who may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatory {
    /// A key's kind and fingerprint, or a person's or workflow's name and who vouches for it.
    pub name: String,
    /// Where the key or the roots of trust are.
    pub from: String,
}

/// Those of whom one must have signed. What a key's file holds is told as it is: unusable too.
pub fn signatory(sigstore: &Sigstore) -> Result<Vec<Signatory>> {
    let of_key = |material| Ok(Signatory { name: key(material)?.to_string(), from: material.to_string() });
    match &sigstore.signer {
        Signer::Keys(keys) => keys.iter().map(of_key).collect(),
        Signer::Keyless(Keyless { roots, issuer, subject }) => {
            let (Roots::Authorities(from) | Roots::TrustedRoot(from)) = roots;
            Ok(vec![Signatory { name: format!("{subject} of {issuer}"), from: from.to_string() }])
        }
    }
}
