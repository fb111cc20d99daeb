//! What certificates say and sigstore's verification does not read, or takes for granted of a policy's own authorities.
//! Pure.
//!
//! To webpki an anchor is a name and a key: how long it lasts, whether it is an authority at all, for what and how many
//! others below it, is not asked. podman asks, and a policy must not admit more here than there.

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::Utf8StringRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};

/// What somebody outside says, when it is wrong.
type Said<T> = Result<T, String>;

/// Where Fulcio writes who vouched for a signer: as bytes in older days, as a string now, usually both
/// (`docs/oid-info.md` of sigstore/fulcio).
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");

/// `id-kp-codeSigning` and `anyExtendedKeyUsage` (RFC 5280, section 4.2.1.12).
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// An authority that a policy names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// From when and until when it is one, as RFC 3339 has it.
    pub valid: [String; 2],
    /// The most authorities that may stand between it and a signer.
    pub below: Option<usize>,
}

impl Authority {
    /// Reads a certificate, which must be an authority's.
    pub fn read(der: &[u8]) -> Said<Self> {
        let certificate = parse(der)?;
        let fields = &certificate.tbs_certificate;
        let name = &fields.subject;
        let unreadable = |_| format!("the certificate of {name} cannot be read");
        let constraints = fields.get::<BasicConstraints>().map_err(unreadable)?;
        let Some((_, BasicConstraints { ca: true, path_len_constraint })) = constraints else {
            return Err(format!("{name} is no authority: its certificate is that of a signer"));
        };
        let usage = fields.get::<ExtendedKeyUsage>().map_err(unreadable)?;
        if usage.is_some_and(|(_, usage)| !usage.0.iter().any(|usage| [CODE_SIGNING, ANY_USAGE].contains(usage))) {
            return Err(format!("{name} is no authority for code signing"));
        }
        let valid = [fields.validity.not_before, fields.validity.not_after].map(|time| time.to_string());
        Ok(Self { valid, below: path_len_constraint.map(usize::from) })
    }
}

/// Whether a certificate is by whom it is for, and so leads nowhere.
pub(super) fn is_self_issued(der: &[u8]) -> bool {
    parse(der).is_ok_and(|certificate| certificate.tbs_certificate.issuer == certificate.tbs_certificate.subject)
}

/// That a signer's certificate does not name one issuer to older readers and another to newer ones.
pub(super) fn require_one_issuer(der: &[u8]) -> Said<()> {
    let certificate = parse(der)?;
    let extensions = certificate.tbs_certificate.extensions.unwrap_or_default();
    let of = |id| extensions.iter().filter(move |extension| extension.extn_id == id).map(|e| e.extn_value.as_bytes());
    let older: Vec<&[u8]> = of(ISSUER).collect();
    let newer: Vec<&[u8]> = of(ISSUER_V2)
        .map(|value| Utf8StringRef::from_der(value).map(|text| text.as_str().as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| "the issuer in its certificate is no string")?;
    match (&older[..], &newer[..]) {
        ([], _) | (_, []) if older.len() + newer.len() <= 1 => Ok(()),
        ([older], [newer]) if older == newer => Ok(()),
        _ => Err("its certificate names two issuers".to_owned()),
    }
}

fn parse(der: &[u8]) -> Said<Certificate> {
    Certificate::from_der(der).map_err(|error| format!("a certificate is invalid: {error}"))
}
