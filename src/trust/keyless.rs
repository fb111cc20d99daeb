//! Signatures that a log has, and those of signers who are known by a certificate: sigstore's verification, with the
//! roots that the policy names and nothing from a network.
//!
//! ```text
//! cosign's annotations ─┐
//!                       ├─▶ sigstore bundle ─▶ verify: chain, time of signing, log, signature ─▶ issuer, subject
//! a bundle as it is ────┘
//! ```
//!
//! The time of signing is the log's or a timestamp authority's, never the signature's own word: a certificate lives
//! for ten minutes, and must have been alive then.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Digest as _;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::bundle::VerificationMaterialContent;
use sigstore_verify::types::{Artifact, Bundle, Sha256Hash, SignatureContent};
use sigstore_verify::{PublicKeyVerificationPolicy, SubjectAltName, VerificationPolicy, VerificationResult, Verifier};

use super::certificate::{self, Authority};
use super::crypto::{self, Key};
use super::error::{Error, Result};
use super::policy::{Keyless, Material, Roots};

/// What somebody outside says, when it is wrong.
type Said<T> = std::result::Result<T, String>;

/// The signer's certificate, those above it, and the log's receipt, in cosign's annotations.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const RECEIPT: &str = "dev.sigstore.cosign/bundle";

/// The most certificates above a signer's.
const MAX_CHAIN: usize = 8;

/// What a bundle must sign to be a signature of an image. Other statements about it, on what it was made of, say, are
/// no consent to run it, whoever signed them.
const PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
pub(super) const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Roots of trust, ready to verify with.
pub(super) struct Trust {
    /// One for each authority of a policy, since each allows something else; otherwise one.
    anchors: Vec<Anchor>,
    /// Certificates of the policy itself: they are no way to themselves.
    known: Vec<Vec<u8>>,
    /// Whether the roots have logs of certificates, in one of which a certificate must be.
    certificates_logged: bool,
}

struct Anchor {
    verifier: Verifier,
    /// The most authorities of the signature's own between this and a signer.
    below: Option<usize>,
}

impl Trust {
    /// Logs alone, for signatures by keys.
    pub fn of_logs(logs: &[Key]) -> Result<Self> {
        Self::whole(&root(logs, None).to_string()).map_err(|reason| unusable("the keys of the logs", reason))
    }

    /// The roots that a policy names for signers without keys.
    pub fn of_roots(roots: &Roots, logs: &[Key]) -> Result<Self> {
        let (Roots::Authorities(material) | Roots::TrustedRoot(material)) = roots;
        let bytes = material.bytes()?;
        let read = match roots {
            Roots::Authorities(_) => certificates(&bytes).and_then(|known| Self::of_authorities(known, logs)),
            Roots::TrustedRoot(_) => String::from_utf8(bytes).map_err(|e| e.to_string()).and_then(|r| Self::whole(&r)),
        };
        read.map_err(|reason| unusable(&material.to_string(), reason))
    }

    fn of_authorities(known: Vec<Vec<u8>>, logs: &[Key]) -> Said<Self> {
        let anchor = |der: &Vec<u8>| {
            let authority = Authority::read(der)?;
            let (verifier, _) = verifier(&root(logs, Some((der, &authority))).to_string())?;
            Ok(Anchor { verifier, below: authority.below })
        };
        let anchors = known.iter().map(anchor).collect::<Said<_>>()?;
        Ok(Self { anchors, known, certificates_logged: false })
    }

    /// A trusted root, which names each authority that there is: others between them and a signer do not count.
    fn whole(json: &str) -> Said<Self> {
        let (verifier, root) = verifier(json)?;
        let anchors = vec![Anchor { verifier, below: Some(0) }];
        Ok(Self { anchors, known: authorities(&root), certificates_logged: !root.ctlogs.is_empty() })
    }

    /// That a key's signature of a payload is in a log.
    pub fn logged(
        &self,
        key: &Key,
        payload: &[u8],
        annotations: &BTreeMap<String, String>,
        signature: &[u8],
    ) -> Said<()> {
        let material = json!({"publicKey": {"hint": ""}});
        let bundle = bundle(material, payload, annotations, signature)?;
        let policy = PublicKeyVerificationPolicy::new(key.der.clone());
        let Anchor { verifier, .. } = self.anchors.first().ok_or("there is no log")?;
        let verified = crypto::with_message(payload, || verifier.verify(payload, &bundle, &policy));
        match verified.map_err(|error| crate::error::chain(&error))? {
            result if result.tlog_verified() && result.integrated_time().is_some() => Ok(()),
            _ => Err("it is in no log".to_owned()),
        }
    }

    /// Who signed a payload, by the certificate beside it.
    pub fn signer(
        &self,
        who: &Keyless,
        payload: &[u8],
        annotations: &BTreeMap<String, String>,
        signature: &[u8],
    ) -> Said<String> {
        let leaf = annotations.get(CERTIFICATE).ok_or("it has no certificate")?;
        let leaf = certificates(leaf.as_bytes())?;
        if leaf.len() > 1 {
            return Err("it has more than one certificate of a signer".to_owned());
        }
        let chain = annotations.get(CHAIN).map(|chain| certificates(chain.as_bytes())).transpose()?;
        let all = [leaf, chain.unwrap_or_default()].concat();
        let all: Vec<Value> = all.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
        let material = json!({"x509CertificateChain": {"certificates": all}});
        let bundle = bundle(material, payload, annotations, signature)?;
        self.identified(who, payload.into(), payload, bundle)
    }

    fn identified(&self, who: &Keyless, artifact: Artifact<'_>, message: &[u8], mut bundle: Bundle) -> Said<String> {
        let between = self.prune(&mut bundle)?;
        let leaf = bundle.signing_certificate().ok_or("it has no certificate")?;
        certificate::require_one_issuer(leaf.as_bytes())?;
        let policy = VerificationPolicy::any_identity().require_issuer(&who.issuer);
        let policy = if self.certificates_logged { policy } else { policy.skip_sct() };
        let mut reason = "there is no authority".to_owned();
        for Anchor { verifier, below } in &self.anchors {
            if below.is_some_and(|below| between > below) {
                reason = format!("its certificate has {between} authorities above it that are not the policy's");
                continue;
            }
            match crypto::with_message(message, || verifier.verify(artifact.clone(), &bundle, &policy)) {
                Ok(result) => return admitted(who, &result),
                Err(error) => reason = crate::error::chain(&error),
            }
        }
        Err(reason)
    }

    /// Removes what is no way from a signer to the roots from the chain in a bundle. How many are left between them.
    fn prune(&self, bundle: &mut Bundle) -> Said<usize> {
        let VerificationMaterialContent::X509CertificateChain { certificates } =
            &mut bundle.verification_material.content
        else {
            return Ok(0);
        };
        if certificates.len() > MAX_CHAIN + 1 {
            return Err(format!("there are more than {MAX_CHAIN} certificates above the signer's"));
        }
        let mut seen: Vec<Vec<u8>> = self.known.clone();
        let mut is_leaf = true;
        certificates.retain(|certificate| {
            let der = certificate.raw_bytes.as_bytes();
            let leads_on = !certificate::is_self_issued(der) && !seen.iter().any(|seen| seen == der);
            seen.push(der.to_vec());
            std::mem::take(&mut is_leaf) || leads_on
        });
        Ok(certificates.len().saturating_sub(1))
    }

    /// Who signed the image of this digest in a bundle, and as what.
    pub fn bundled(&self, who: &Keyless, bytes: &[u8], image: &crate::oci::Digest) -> Said<(String, Option<String>)> {
        let (bundle, name) = statement(bytes, image)?;
        let signer = self.identified(who, hash(image)?.into(), &[], bundle)?;
        Ok((signer, name))
    }

    /// That one of the keys has signed the image of this digest in a bundle which, if it must be, is in a log. The
    /// key, and the name that the image was given.
    pub fn bundled_by_key<'k>(
        &self,
        keys: &'k [Key],
        must_be_logged: bool,
        bytes: &[u8],
        image: &crate::oci::Digest,
    ) -> Said<(&'k Key, Option<String>)> {
        let (bundle, name) = statement(bytes, image)?;
        let mut reason = "it is by none of the keys that are required".to_owned();
        if !must_be_logged {
            // Sigstore's verification knows no signature that is in no log.
            let SignatureContent::DsseEnvelope(envelope) = &bundle.content else { return Err(reason) };
            let (signed, signature) = (envelope.pae(), envelope.signature.sig.as_bytes());
            let key = keys.iter().find(|key| key.signed(&signed, signature)).ok_or(reason)?;
            return Ok((key, name));
        }
        let Anchor { verifier, .. } = self.anchors.first().ok_or("there is no log")?;
        for key in keys {
            let policy = PublicKeyVerificationPolicy::new(key.der.clone());
            match verifier.verify(hash(image)?, &bundle, &policy) {
                Ok(result) if !result.tlog_verified() => reason = "it is in no log".to_owned(),
                Ok(_) => return Ok((key, name)),
                Err(error) => reason = crate::error::chain(&error),
            }
        }
        Err(reason)
    }
}

/// The signer, if the certificate was verified and is for whom the policy names.
fn admitted(who: &Keyless, result: &VerificationResult) -> Said<String> {
    if !result.certificate_verified() || !result.tlog_verified() || result.verified_timestamps().is_empty() {
        return Err("its certificate, its log or its time was not verified".to_owned());
    }
    let (email, uri) = match result.identity() {
        Some(SubjectAltName::Email(email)) => (Some(email.as_str()), None),
        Some(SubjectAltName::Uri(uri)) => (None, Some(uri.as_str())),
        _ => (None, None),
    };
    let name = email.or(uri).unwrap_or("nobody");
    if result.issuer() != Some(who.issuer.as_str()) {
        return Err(format!("{name} is known by {:?}, not by {}", result.issuer().unwrap_or_default(), who.issuer));
    }
    if !who.subject.is(email, uri) {
        return Err(format!("it is by {name}, not by {}", who.subject));
    }
    Ok(format!("{name} of {}", who.issuer))
}

/// The receipt of a log as cosign keeps it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Receipt {
    signed_entry_timestamp: String,
    payload: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
}

/// Cosign's annotations as the bundle that they mean, of the first version, for which a log's receipt is enough.
fn bundle(material: Value, payload: &[u8], annotations: &BTreeMap<String, String>, signature: &[u8]) -> Said<Bundle> {
    let receipt = annotations.get(RECEIPT).ok_or("it has no receipt of a log")?;
    let Receipt { signed_entry_timestamp, payload: entry } =
        serde_json::from_str(receipt).map_err(|error| format!("its receipt of a log is invalid: {error}"))?;
    let body = STANDARD.decode(&entry.body).map_err(|_| "the body of its receipt is not in base64")?;
    let Body { kind, api_version } =
        serde_json::from_slice(&body).map_err(|error| format!("the body of its receipt is invalid: {error}"))?;
    let mut material = material;
    material["tlogEntries"] = json!([{
        "logIndex": entry.log_index.to_string(),
        "logId": {"keyId": STANDARD.encode(unhex(&entry.log_id)?)},
        "kindVersion": {"kind": kind, "version": api_version},
        "integratedTime": entry.integrated_time.to_string(),
        "inclusionPromise": {"signedEntryTimestamp": signed_entry_timestamp},
        "canonicalizedBody": entry.body,
    }]);
    let digest = STANDARD.encode(sha2::Sha256::digest(payload));
    let whole = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": material,
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": digest},
            "signature": STANDARD.encode(signature),
        },
    });
    Bundle::from_json(&whole.to_string()).map_err(|error| crate::error::chain(&error))
}

fn unhex(text: &str) -> Said<Vec<u8>> {
    Ok(Sha256Hash::from_hex(text).map_err(|_| "the id of its log is no SHA-256")?.as_bytes().to_vec())
}

/// A statement about an image, as far as it counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<StatedSubject>,
}

#[derive(Deserialize)]
struct StatedSubject {
    name: Option<String>,
    digest: BTreeMap<String, String>,
}

/// A bundle that is a signature of this image, and the name that it gives to it. Nothing of it is verified yet.
fn statement(bytes: &[u8], image: &crate::oci::Digest) -> Said<(Bundle, Option<String>)> {
    let text = std::str::from_utf8(bytes).map_err(|_| "its bundle is no text")?;
    let bundle =
        Bundle::from_json(text).map_err(|error| format!("its bundle is invalid: {}", crate::error::chain(&error)))?;
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return Err("its bundle signs bytes, not a statement about an image".to_owned());
    };
    if envelope.payload_type != PAYLOAD {
        return Err(format!("its bundle has {:?} as its payload type, not {PAYLOAD:?}", envelope.payload_type));
    }
    let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())
        .map_err(|error| format!("the statement in its bundle is invalid: {error}"))?;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        return Err(format!("its bundle states {:?}, which is no signature of an image", statement.predicate_type));
    }
    let hex = image.hex();
    let subject = statement.subject.into_iter().find(|subject| subject.digest.get("sha256").is_some_and(|d| d == hex));
    let subject = subject.ok_or_else(|| format!("it signs another image than {image}"))?;
    Ok((bundle, subject.name.filter(|name| !name.is_empty())))
}

fn hash(image: &crate::oci::Digest) -> Said<Sha256Hash> {
    match image.algorithm() {
        "sha256" => Sha256Hash::from_hex(image.hex()).map_err(|error| error.to_string()),
        _ => Err("bundles are checked for images by SHA-256 only".to_owned()),
    }
}

fn unusable(what: &str, reason: String) -> Error {
    Error::Roots { what: what.to_owned(), reason }
}

fn verifier(json: &str) -> Said<(Verifier, TrustedRoot)> {
    crypto::install();
    let root = TrustedRoot::from_json(json).map_err(|error| error.to_string())?;
    Ok((Verifier::new(&root).map_err(|error| error.to_string())?, root))
}

/// The certificates of all authorities of a trusted root.
fn authorities(root: &TrustedRoot) -> Vec<Vec<u8>> {
    let chains = root.certificate_authorities.iter().flat_map(|authority| &authority.cert_chain.certificates);
    chains.map(|certificate| certificate.raw_bytes.as_bytes().to_vec()).collect()
}

/// Sigstore's `trusted_root.json` of logs and an authority whose keys and certificate are at hand.
fn root(logs: &[Key], authority: Option<(&Vec<u8>, &Authority)>) -> Value {
    let logs: Vec<Value> = logs
        .iter()
        .map(|key| {
            let der = key.der.as_bytes();
            json!({
                "baseUrl": "", "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": STANDARD.encode(der), "keyDetails": ""},
                "logId": {"keyId": STANDARD.encode(sha2::Sha256::digest(der))},
            })
        })
        .collect();
    let written = |(der, Authority { valid: [start, end], .. }): (&Vec<u8>, &Authority)| {
        let chain = json!({"certificates": [{"rawBytes": STANDARD.encode(der)}]});
        json!({"uri": "", "certChain": chain, "validFor": {"start": start, "end": end}})
    };
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": logs,
        "certificateAuthorities": authority.map(written).into_iter().collect::<Vec<_>>(),
    })
}

/// The certificates of a PEM file, at least one.
fn certificates(pem: &[u8]) -> Said<Vec<Vec<u8>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all: Vec<Vec<u8>> =
        read.map_err(|error| format!("it is no PEM: {error}"))?.iter().map(|der| der.to_vec()).collect();
    match all.len() {
        0 => Err("there is no certificate".to_owned()),
        1..=MAX_CHAIN => Ok(all),
        _ => Err(format!("there are more than {MAX_CHAIN} certificates")),
    }
}

/// The keys of logs.
pub(super) fn logs(materials: &[Material]) -> Result<Vec<Key>> {
    materials.iter().map(super::check::key).collect()
}
