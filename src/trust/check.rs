//! Whether a signature is what a requirement wants: who signed, what was signed, and for which image.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::crypto::Key;
use super::error::{Error, Result};
use super::find::{Form, Signature};
use super::keyless::{self, Trust};
use super::payload::Payload;
use super::policy::{Keyless, Material, Requirement, Signer, Sigstore};
use crate::oci::Digest;
use crate::reference::Reference;

/// The annotation with the signature of a payload, in base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A requirement, with all that it needs at hand.
pub(super) struct Check {
    required: Sigstore,
    signer: Ready,
    trust: Trust,
}

/// Who must have signed.
enum Ready {
    Keys { keys: Vec<Key>, must_be_logged: bool },
    Keyless(Keyless),
}

/// A signature that is what was required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Satisfied {
    /// What was required, in words.
    pub requirement: String,
    /// Who signed.
    pub signer: String,
    /// The digest that is signed: the index's or the manifest's.
    pub digest: Digest,
    /// The name that was signed with it, if one was.
    pub name: Option<String>,
}

/// Who signed which image, under what name.
struct Signed {
    signer: String,
    digest: Digest,
    name: Option<String>,
}

impl Check {
    /// Reads the keys and roots that are needed. What cannot be read or used is an error now, whatever the signatures.
    pub fn prepare(required: &Sigstore) -> Result<Self> {
        let logs = keyless::logs(&required.logs)?;
        let (signer, trust) = match &required.signer {
            Signer::Keys(keys) => {
                let keys = keys.iter().map(key).collect::<Result<_>>()?;
                (Ready::Keys { keys, must_be_logged: !logs.is_empty() }, Trust::of_logs(&logs)?)
            }
            Signer::Keyless(who) => (Ready::Keyless(who.clone()), Trust::of_roots(&who.roots, &logs)?),
        };
        Ok(Self { required: required.clone(), signer, trust })
    }

    /// The requirement, in words.
    pub fn words(&self) -> String {
        Requirement::Sigstore(Box::new(self.required.clone())).to_string()
    }

    /// Whether the signature satisfies the requirement for this image, or why not.
    pub fn judge(&self, image: &Reference, signature: &Signature) -> std::result::Result<Satisfied, String> {
        let Signed { signer, digest, name } = match &signature.form {
            Form::Simple { payload, annotations } => self.simple(payload, annotations)?,
            Form::Bundle { bytes } => self.bundle(bytes, &signature.subject)?,
        };
        if digest != signature.subject {
            return Err(format!("it signs {digest}, not {}", signature.subject));
        }
        if !self.required.identity.admits(image, name.as_deref()) {
            let name = name.map_or_else(|| "no name".to_owned(), |name| format!("{name:?}"));
            return Err(format!("it is for {name}, which is not {} by {}", image.familiar(), self.required.identity));
        }
        Ok(Satisfied { requirement: self.words(), signer, digest, name })
    }

    fn simple(&self, payload: &[u8], annotations: &BTreeMap<String, String>) -> std::result::Result<Signed, String> {
        let text = annotations.get(SIGNATURE).ok_or("a payload has no signature beside it")?;
        let signature = STANDARD.decode(text).map_err(|_| "a signature is not in base64")?;
        let signer = match &self.signer {
            Ready::Keys { keys, must_be_logged } => {
                let key = keys.iter().find(|key| key.signed(payload, &signature));
                let key = key.ok_or("it is by none of the keys that are required")?;
                if *must_be_logged {
                    self.trust.logged(key, payload, annotations, &signature)?;
                }
                key.to_string()
            }
            Ready::Keyless(who) => self.trust.signer(who, payload, annotations, &signature)?,
        };
        let Payload { digest, name } = Payload::parse(payload)?;
        Ok(Signed { signer, digest, name: Some(name) })
    }

    fn bundle(&self, bytes: &[u8], subject: &Digest) -> std::result::Result<Signed, String> {
        let (signer, name) = match &self.signer {
            Ready::Keys { keys, must_be_logged } => {
                let (key, name) = self.trust.bundled_by_key(keys, *must_be_logged, bytes, subject)?;
                (key.to_string(), name)
            }
            Ready::Keyless(who) => self.trust.bundled(who, bytes, subject)?,
        };
        Ok(Signed { signer, digest: subject.clone(), name })
    }
}

/// The key in a file or in the policy.
pub(super) fn key(material: &Material) -> Result<Key> {
    Key::from_pem(&material.bytes()?).map_err(|reason| Error::Key { what: material.to_string(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::SignedIdentity;

    /// By `skopeo copy --sign-by-sigstore-private-key` of containers/image 5.39.1, with a key of `skopeo
    /// generate-sigstore-key`.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgu4uoTaIG1xr2awVmmH+tOELatEt\n\
        ogb7rpvOqS+blIExXDFbJsHTpmS9r5WBMpFYveCT4sR06KH20WnBqaUZhA==\n\
        -----END PUBLIC KEY-----\n\
        ";
    const SIGNED: &str =
        "MEQCIAN7mrXiFOGx+iuYeDbZG1A3ZsSnuTvY9qIdY+yio8nLAiA7pRg4w+QxykpSabjUINXyZRdMoB0xuS86h8SFLAs+Qw==";
    const PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"localhost:5999/trust/app:1"},"image":{"docker-manifest-digest":"sha256:2269a29fe14ede42e7c9e56a0014e7f8100a4afb14718054bc3b02ddd4fcb01f"},"type":"cosign container image signature"},"optional":{"creator":"containers/image 5.39.1","timestamp":1795590618}}"#;
    const IMAGE: &str = "sha256:2269a29fe14ede42e7c9e56a0014e7f8100a4afb14718054bc3b02ddd4fcb01f";

    fn judge(
        image: &str,
        subject: &str,
        payload: &str,
        identity: SignedIdentity,
    ) -> std::result::Result<Satisfied, String> {
        let signer = Signer::Keys(vec![Material::Data(PUBLIC.into())]);
        let check = Check::prepare(&Sigstore { signer, logs: Vec::new(), identity }).unwrap();
        let annotations = BTreeMap::from([(SIGNATURE.to_owned(), SIGNED.to_owned())]);
        let form = Form::Simple { payload: payload.as_bytes().to_vec(), annotations };
        check.judge(&image.parse().unwrap(), &Signature { subject: subject.parse().unwrap(), form })
    }

    #[test]
    fn what_skopeo_signs_is_signed() {
        let good = judge("localhost:5999/trust/app:1", IMAGE, PAYLOAD, SignedIdentity::default()).unwrap();
        assert!(good.signer.starts_with("ECDSA P-256 key SHA256:"), "{good:?}");
        let other = IMAGE.replace("sha256:2", "sha256:3");
        let changed = PAYLOAD.replace("1795590618", "1795590619");
        for (image, subject, payload) in [
            ("localhost:5999/trust/app:2", IMAGE, PAYLOAD),
            ("localhost:5999/trust/app:1", &other, PAYLOAD),
            ("localhost:5999/trust/app:1", IMAGE, &changed),
        ] {
            assert!(judge(image, subject, payload, SignedIdentity::default()).is_err(), "{image} {subject} {payload}");
        }
        assert!(judge("localhost:5999/trust/app:2", IMAGE, PAYLOAD, SignedIdentity::MatchRepository).is_ok());
    }

    #[test]
    fn keys_that_cannot_be_used_are_told_at_once() {
        for bad in [
            "",
            "text",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            &PUBLIC.replace("PUBLIC", "PRIVATE"),
        ] {
            assert!(key(&Material::Data(bad.into())).is_err(), "{bad:?}");
        }
    }
}
