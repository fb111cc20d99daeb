//! Finding the signatures of an image: beside it, in its repository.
//!
//! ```text
//! the tag sha256-<hex>.sig    a manifest whose layers are payloads, signed in their annotations (cosign's and
//!                             containers/image's way)
//! referrers                   manifests that refer to the image, each with one of sigstore's bundles (cosign's newer
//!                             way)
//! ```
//!
//! Every byte is a stranger's. Nothing here believes any; counts and sizes are bounded.

use std::collections::BTreeMap;

use super::error::{Error, Result};
use crate::oci::{Descriptor, Digest, Document, Manifest};
use crate::reference::Reference;
use crate::registry::{Client, Error as RegistryError, OnRetry};

/// The most signatures of one image that are looked at. Many signers leave a dozen.
pub(super) const MAX_SIGNATURES: usize = 64;
/// The most bytes of what is signed, or of a bundle. A payload has some hundred, a bundle some thousand.
pub(super) const MAX_PAYLOAD_BYTES: u64 = 256 << 10;

/// The type of a layer that is a payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// How the type of a bundle begins, whatever its version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The annotation that says what a bundle states.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// A signature, as it was found.
#[derive(Debug)]
pub(super) struct Signature {
    /// The image that it was found at.
    pub subject: Digest,
    pub form: Form,
}

#[derive(Debug)]
pub(super) enum Form {
    /// A payload, and what was said of it.
    Simple { payload: Vec<u8>, annotations: BTreeMap<String, String> },
    /// Sigstore's bundle.
    Bundle { bytes: Vec<u8> },
}

/// Where signatures are looked for.
pub(super) struct Finder<'a> {
    pub client: &'a Client,
    pub image: &'a Reference,
    pub on_retry: OnRetry<'a>,
}

impl Finder<'_> {
    /// The signatures of the image of this digest.
    pub async fn of(&self, subject: &Digest) -> Result<Vec<Signature>> {
        let mut found = Vec::new();
        if let Some(manifest) = self.tagged(subject).await? {
            let payloads = manifest.layers.iter().filter(|layer| layer.media_type.as_str() == SIMPLE_SIGNING);
            self.require_few(payloads.clone().count())?;
            for layer in payloads {
                let payload = self.bytes(subject, layer).await?;
                let annotations = layer.annotations.clone();
                found.push(Signature { subject: subject.clone(), form: Form::Simple { payload, annotations } });
            }
        }
        let referrers: Vec<Descriptor> = self.referrers(subject).await?.into_iter().filter(may_sign).collect();
        self.require_few(found.len() + referrers.len())?;
        for referrer in referrers {
            let bytes = self.bundle(subject, &referrer).await?;
            found.push(Signature { subject: subject.clone(), form: Form::Bundle { bytes } });
        }
        Ok(found)
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let listed = self.client.referrers(self.image, subject, None).await;
        listed.map_err(|source| Error::Registry { digest: subject.clone(), source })
    }

    /// The bundle of a referrer: its manifest has one layer, which is it.
    async fn bundle(&self, subject: &Digest, referrer: &Descriptor) -> Result<Vec<u8>> {
        let manifest = self.document(subject, &self.image.with_digest(&referrer.digest)).await?;
        match manifest {
            Some(Document::Manifest(Manifest { layers, .. })) if layers.len() == 1 => {
                self.bytes(subject, &layers[0]).await
            }
            // A list may name what was removed, or never was: then it is no signature.
            _ => Ok(Vec::new()),
        }
    }

    async fn tagged(&self, subject: &Digest) -> Result<Option<Manifest>> {
        let Some(tag) = self.tag(subject) else { return Ok(None) };
        match self.document(subject, &tag).await? {
            Some(Document::Manifest(manifest)) => Ok(Some(manifest)),
            Some(Document::Index(_)) => Err(Error::SignatureIndex { reference: self.image.familiar() }),
            None => Ok(None),
        }
    }

    async fn document(&self, subject: &Digest, name: &Reference) -> Result<Option<Document>> {
        let document = match self.client.manifest(name, self.on_retry).await {
            Err(RegistryError::UnknownManifest { .. }) => return Ok(None),
            document => document.map_err(|source| Error::Registry { digest: subject.clone(), source })?,
        };
        let parsed = Document::parse(&document.descriptor.media_type, &document.bytes);
        let invalid = |source| Error::SignatureManifest { reference: self.image.familiar(), source };
        parsed.map(Some).map_err(invalid)
    }

    /// The tag that holds an image's signatures; a digest by sha512 is too long for one.
    fn tag(&self, subject: &Digest) -> Option<Reference> {
        let Self { image, .. } = self;
        let tag = format!("{}-{}.sig", subject.algorithm(), subject.hex());
        format!("{}/{}:{tag}", image.registry(), image.repository()).parse().ok()
    }

    fn require_few(&self, signatures: usize) -> Result<()> {
        match signatures {
            0..=MAX_SIGNATURES => Ok(()),
            _ => Err(Error::TooManySignatures { reference: self.image.familiar() }),
        }
    }

    async fn bytes(&self, subject: &Digest, blob: &Descriptor) -> Result<Vec<u8>> {
        let reference = self.image.familiar();
        if blob.size > MAX_PAYLOAD_BYTES {
            return Err(Error::SignatureSize { reference, size: blob.size });
        }
        let read = self.client.small_blob(self.image, blob, self.on_retry).await;
        read.map_err(|source| Error::Registry { digest: subject.clone(), source })
    }
}

/// Whether a referrer is a bundle, and does not say itself that it states something else than a signature.
fn may_sign(referrer: &Descriptor) -> bool {
    let is_bundle = referrer.artifact_type.as_deref().is_some_and(|kind| kind.starts_with(BUNDLE));
    is_bundle && referrer.annotations.get(PREDICATE).is_none_or(|predicate| predicate == super::keyless::PREDICATE)
}
