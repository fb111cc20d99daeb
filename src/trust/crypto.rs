//! The cryptography of this room: keys, and the provider that sigstore's crates compute with. All of it is
//! `ring`'s, by way of rustls, and sha2's.

use std::cell::RefCell;
use std::sync::Once;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};
use sha2::Digest as _;
use sigstore_verify::crypto::provider::{CryptoProvider, HashContext, install_default_provider};
use sigstore_verify::crypto::{Error, KeyAlgorithm, SigningScheme, VerificationKey};
use sigstore_verify::types::{DerPublicKey, HashAlgorithm, SignatureBytes};

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub der: DerPublicKey,
    schemes: &'static [SigningScheme],
}

impl Key {
    /// The key in a PEM file, as `cosign generate-key-pair` and `openssl pkey -pubout` write it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(pem).map_err(|_| "it is no text in PEM".to_owned())?;
        Self::from_der(DerPublicKey::from_pem(text.trim()).map_err(|error| error.to_string())?)
    }

    /// The key in a SubjectPublicKeyInfo.
    pub fn from_der(der: DerPublicKey) -> Result<Self, String> {
        install();
        let schemes = schemes(KeyAlgorithm::from_spki(&der).map_err(|error| error.to_string())?)?;
        let key = Self { der, schemes };
        // What cannot be used is said when the policy is read, not when it is needed.
        for scheme in schemes {
            key.to_verify(*scheme).map_err(|error| error.to_string())?;
        }
        Ok(key)
    }

    /// Whether the signature is this key's, of these bytes.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = SignatureBytes::from_bytes(signature);
        let mut keys = self.schemes.iter().filter_map(|scheme| self.to_verify(*scheme).ok());
        keys.any(|key| key.verify(message, &signature).is_ok())
    }

    fn to_verify(&self, scheme: SigningScheme) -> Result<VerificationKey, Error> {
        VerificationKey::from_spki_with_scheme(&self.der, scheme)
    }

    /// What sort of key it is, in a word.
    fn algorithm(&self) -> &'static str {
        match self.schemes[0].key_algorithm() {
            KeyAlgorithm::EcdsaP256 => "ECDSA P-256",
            KeyAlgorithm::EcdsaP384 => "ECDSA P-384",
            KeyAlgorithm::Ed25519 => "Ed25519",
            _ => "RSA",
        }
    }
}

/// The kind of key, and the SHA-256 of it as ssh shows those of its own.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = STANDARD_NO_PAD.encode(sha2::Sha256::digest(self.der.as_bytes()));
        write!(f, "{} key SHA256:{digest}", self.algorithm())
    }
}

/// In which ways cosign and others sign with such a key; by SHA-256 whatever the curve, as cosign does.
fn schemes(algorithm: KeyAlgorithm) -> Result<&'static [SigningScheme], String> {
    Ok(match algorithm {
        KeyAlgorithm::EcdsaP256 => &[SigningScheme::EcdsaP256Sha256],
        KeyAlgorithm::EcdsaP384 => &[SigningScheme::EcdsaP384Sha256, SigningScheme::EcdsaP384Sha384],
        KeyAlgorithm::Ed25519 => &[SigningScheme::Ed25519],
        KeyAlgorithm::Rsa => &[SigningScheme::RsaPkcs1Sha256, SigningScheme::RsaPssSha256],
        other => return Err(format!("keys for {other:?} are not supported")),
    })
}

/// Gives sigstore's crates something to compute with; before anything of theirs is called.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // Nobody else installs one in this process; if somebody had, theirs would do.
    ONCE.call_once(|| crate::error::tolerate(install_default_provider(&Ring)));
}

thread_local! {
    static MESSAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work`, in which a signature of the digest of `message` can be checked.
///
/// Sigstore's crates check some signatures by a digest, and ring computes those itself and takes none. A signature
/// of a digest is good exactly if that is the digest of the message and the signature is good for the message.
pub(super) fn with_message<T>(message: &[u8], work: impl FnOnce() -> T) -> T {
    MESSAGE.set(message.to_vec());
    let done = work();
    MESSAGE.set(Vec::new());
    done
}

/// Hashes and signatures by sha2 and ring.
#[derive(Debug)]
struct Ring;

enum Hash {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Hash {
    fn new(algorithm: HashAlgorithm) -> Result<Self, Error> {
        Ok(match algorithm {
            HashAlgorithm::Sha2256 => Self::Sha256(sha2::Sha256::new()),
            HashAlgorithm::Sha2384 => Self::Sha384(sha2::Sha384::new()),
            HashAlgorithm::Sha2512 => Self::Sha512(sha2::Sha512::new()),
            other => return Err(Error::UnsupportedAlgorithm(format!("{other:?} is not supported"))),
        })
    }
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(data),
            Self::Sha384(hash) => hash.update(data),
            Self::Sha512(hash) => hash.update(data),
        }
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        match *self {
            Self::Sha256(hash) => hash.finalize().to_vec(),
            Self::Sha384(hash) => hash.finalize().to_vec(),
            Self::Sha512(hash) => hash.finalize().to_vec(),
        }
    }
}

impl CryptoProvider for Ring {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>, Error> {
        Ok(Box::new(Hash::new(algorithm)?))
    }

    fn verify_raw(&self, scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), Error> {
        let unsupported = || Error::UnsupportedAlgorithm(format!("{} is not supported", scheme.name()));
        let algorithm = algorithm(scheme).ok_or_else(unsupported)?;
        let verdict = algorithm.verify_signature(key, data, signature);
        verdict.map_err(|_| Error::Verification(format!("the signature by {} is not good", scheme.name())))
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let message = MESSAGE.with_borrow(Vec::clone);
        let unsupported = || Error::UnsupportedAlgorithm(format!("{} takes no digest", scheme.name()));
        let mut hash = self.hash(scheme.hash_algorithm().ok_or_else(unsupported)?)?;
        hash.update(&message);
        if hash.finalize() != digest {
            return Err(Error::Verification("the digest is not that of the message".to_owned()));
        }
        self.verify_raw(scheme, key, &message, signature)
    }
}

fn algorithm(scheme: SigningScheme) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    let (key, signature) = identifiers(scheme)?;
    let all = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    all.iter().copied().find(|known| known.public_key_alg_id() == key && known.signature_alg_id() == signature)
}

fn identifiers(scheme: SigningScheme) -> Option<(AlgorithmIdentifier, AlgorithmIdentifier)> {
    Some(match scheme {
        SigningScheme::EcdsaP256Sha256 => (alg_id::ECDSA_P256, alg_id::ECDSA_SHA256),
        SigningScheme::EcdsaP256Sha384 => (alg_id::ECDSA_P256, alg_id::ECDSA_SHA384),
        SigningScheme::EcdsaP384Sha256 => (alg_id::ECDSA_P384, alg_id::ECDSA_SHA256),
        SigningScheme::EcdsaP384Sha384 => (alg_id::ECDSA_P384, alg_id::ECDSA_SHA384),
        SigningScheme::Ed25519 => (alg_id::ED25519, alg_id::ED25519),
        SigningScheme::RsaPkcs1Sha256 => (alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA256),
        SigningScheme::RsaPkcs1Sha384 => (alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA384),
        SigningScheme::RsaPkcs1Sha512 => (alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA512),
        SigningScheme::RsaPssSha256 => (alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA256),
        SigningScheme::RsaPssSha384 => (alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA384),
        SigningScheme::RsaPssSha512 => (alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA512),
        _ => return None,
    })
}
