//! A content digest, `algorithm:hex`, parsed strictly: a digest becomes a file name, so nothing but
//! the canonical form of a registered algorithm is one (image-spec descriptor.md, "Digests").

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A content digest whose algorithm is registered and whose hex has that algorithm's exact length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Text that is not a digest.
#[derive(Debug, thiserror::Error)]
#[error("invalid digest {text:?}: expected sha256:<64 lower-case hex digits> or sha512:<128>")]
pub struct InvalidDigest {
    text: String,
}

impl Digest {
    /// The sha256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        &self.0[..self.colon()]
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        &self.0[self.colon() + 1..]
    }

    /// The first twelve hex digits, as Docker shows an id.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hasher of this digest's algorithm, to check bytes against it.
    pub fn hasher(&self) -> Hasher {
        if self.algorithm() == "sha512" { Hasher(Algorithm::Sha512(sha2::Sha512::new())) } else { Hasher::sha256() }
    }

    fn colon(&self) -> usize {
        "sha256".len() // both registered algorithms have names of this length
    }
}

impl std::str::FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDigest { text: text.chars().take(160).collect() };
        let (algorithm, hex) = text.split_once(':').ok_or_else(invalid)?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(invalid()),
        };
        let canonical = hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if canonical { Ok(Self(text.to_owned())) } else { Err(invalid()) }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hashes a stream into a [`Digest`].
#[derive(Clone)]
pub struct Hasher(Algorithm);

#[derive(Clone)]
enum Algorithm {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A sha256 hasher.
    pub fn sha256() -> Self {
        Self(Algorithm::Sha256(sha2::Sha256::new()))
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Sha256(hasher) => hasher.update(bytes),
            Algorithm::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            Algorithm::Sha256(hasher) => Digest(format!("sha256:{}", hex(&hasher.finalize()))),
            Algorithm::Sha512(hasher) => Digest(format!("sha512:{}", hex(&hasher.finalize()))),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(b"0123456789abcdef"[usize::from(n)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_the_canonical_form() {
        let good = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256(b"").as_str(), good);
        let digest: Digest = good.parse().unwrap();
        assert_eq!((digest.algorithm(), digest.short()), ("sha256", "e3b0c44298fc"));
        for bad in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &good[..70],
            &format!("{good}0"),
            &format!(" {good}"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} must not parse");
        }
    }

    #[test]
    fn a_sha512_digest_hashes_with_sha512() {
        let text = format!("sha512:{}", "0".repeat(128));
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.hasher().finish().algorithm(), "sha512");
    }
}
