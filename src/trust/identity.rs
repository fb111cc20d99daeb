//! Whether a signature that names one image speaks for another (containers-policy.json(5), `signedIdentity`). Pure.

use serde::Deserialize;

use crate::reference::Reference;

/// For which images a signature speaks, by the name that is signed in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Typed")]
pub enum SignedIdentity {
    /// For the image of exactly that tag or digest.
    MatchExact,
    /// As before, and for an image asked for by digest if the repository is the same.
    #[default]
    MatchRepoDigestOrExact,
    /// For any image of that repository. What cosign signs names a repository only.
    MatchRepository,
    /// If it names this image, whatever is pulled.
    ExactReference {
        /// With a tag or a digest.
        docker_reference: String,
    },
    /// If it names an image of this repository, whatever is pulled.
    ExactRepository {
        /// Without tag and digest.
        docker_repository: String,
    },
    /// As [`Self::MatchRepoDigestOrExact`], for a copy of a namespace.
    RemapIdentity {
        /// Where the copies are.
        prefix: String,
        /// Where they were signed.
        signed_prefix: String,
    },
    /// Ours: for any image whose digest it signs, under whatever name or none. Bundles name no image.
    MatchDigest,
}

/// As it is in a policy. A field that its type does not have is refused, as an unknown one is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
    docker_reference: Option<String>,
    docker_repository: Option<String>,
    prefix: Option<String>,
    signed_prefix: Option<String>,
}

impl TryFrom<Typed> for SignedIdentity {
    type Error = String;

    fn try_from(typed: Typed) -> Result<Self, String> {
        let Typed { kind, docker_reference, docker_repository, prefix, signed_prefix } = typed;
        let identity = match (&*kind, docker_reference, docker_repository, prefix, signed_prefix) {
            ("matchExact", None, None, None, None) => Self::MatchExact,
            ("matchRepoDigestOrExact", None, None, None, None) => Self::MatchRepoDigestOrExact,
            ("matchRepository", None, None, None, None) => Self::MatchRepository,
            ("matchDigest", None, None, None, None) => Self::MatchDigest,
            ("exactReference", Some(docker_reference), None, None, None) => Self::ExactReference { docker_reference },
            ("exactRepository", None, Some(docker_repository), None, None) => {
                Self::ExactRepository { docker_repository }
            }
            ("remapIdentity", None, None, Some(prefix), Some(signed_prefix)) => {
                Self::RemapIdentity { prefix, signed_prefix }
            }
            _ => {
                return Err(format!("signedIdentity of type {kind:?} is not known, or has not the fields of its type"));
            }
        };
        identity.flaw().map_or(Ok(identity), Err)
    }
}

/// A name as it is written in a signature: one without tag means no tag, not `latest`.
struct Written {
    reference: Reference,
    bare: bool,
}

impl Written {
    fn parse(text: &str) -> Option<Self> {
        let last = text.rsplit('/').next().unwrap_or_default();
        Some(Self { reference: text.parse().ok()?, bare: !last.contains([':', '@']) })
    }

    fn is(&self, image: &Reference) -> bool {
        !self.bare && self.reference == *image
    }

    fn same_repository(&self, other: &Reference) -> bool {
        self.reference.registry() == other.registry() && self.reference.repository() == other.repository()
    }
}

impl SignedIdentity {
    /// What is wrong with it, if it can never be satisfied.
    fn flaw(&self) -> Option<String> {
        match self {
            Self::ExactReference { docker_reference: text } => match Written::parse(text) {
                Some(Written { bare: false, .. }) => None,
                _ => Some(format!("{text:?} is no reference with a tag or a digest")),
            },
            Self::ExactRepository { docker_repository: text } => match Written::parse(text) {
                Some(Written { bare: true, .. }) => None,
                _ => Some(format!("{text:?} is no repository")),
            },
            Self::RemapIdentity { prefix, signed_prefix } => {
                let bad = [prefix, signed_prefix]
                    .into_iter()
                    .find(|text| super::scope::check(text).is_err() || text.starts_with('*'));
                bad.map(|text| format!("{text:?} is no registry, namespace or repository"))
            }
            _ => None,
        }
    }

    /// Whether a signature for `signed` speaks for `image`.
    pub(super) fn admits(&self, image: &Reference, signed: Option<&str>) -> bool {
        if *self == Self::MatchDigest {
            return true;
        }
        let Some(signed) = signed.and_then(Written::parse) else { return false };
        match self {
            Self::MatchDigest => true,
            Self::MatchExact => signed.is(image),
            Self::MatchRepoDigestOrExact => by_digest_or_exactly(&signed, image),
            Self::MatchRepository => signed.same_repository(image),
            Self::ExactReference { docker_reference } => {
                Written::parse(docker_reference).is_some_and(|wanted| !wanted.bare && signed.is(&wanted.reference))
            }
            Self::ExactRepository { docker_repository } => {
                Written::parse(docker_repository).is_some_and(|wanted| wanted.same_repository(&signed.reference))
            }
            Self::RemapIdentity { prefix, signed_prefix } => {
                remapped(image, prefix, signed_prefix).is_some_and(|image| by_digest_or_exactly(&signed, &image))
            }
        }
    }
}

fn by_digest_or_exactly(signed: &Written, image: &Reference) -> bool {
    if image.digest().is_some() { signed.same_repository(image) } else { signed.is(image) }
}

/// The image under the name that it was signed under; as it is, if it is no copy of that namespace.
fn remapped(image: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let full = image.to_string();
    match full.strip_prefix(prefix) {
        Some("") => signed_prefix.parse().ok(),
        Some(rest) if rest.starts_with(['/', ':', '@']) => format!("{signed_prefix}{rest}").parse().ok(),
        _ => Some(image.clone()),
    }
}

impl std::fmt::Display for SignedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MatchExact => f.write_str("matchExact"),
            Self::MatchRepoDigestOrExact => f.write_str("matchRepoDigestOrExact"),
            Self::MatchRepository => f.write_str("matchRepository"),
            Self::ExactReference { docker_reference } => write!(f, "exactReference {docker_reference}"),
            Self::ExactRepository { docker_repository } => write!(f, "exactRepository {docker_repository}"),
            Self::RemapIdentity { prefix, signed_prefix } => write!(f, "remapIdentity {prefix} from {signed_prefix}"),
            Self::MatchDigest => f.write_str("matchDigest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn admits(identity: &SignedIdentity, image: &str, signed: &str) -> bool {
        let fill = |text: &str| text.replace("DIGEST", DIGEST);
        identity.admits(&fill(image).parse().unwrap(), Some(&fill(signed)))
    }

    #[test]
    fn whose_image_a_signature_speaks_for() {
        use SignedIdentity::{
            ExactReference, ExactRepository, MatchDigest, MatchExact, MatchRepoDigestOrExact, MatchRepository,
            RemapIdentity,
        };
        let reference = |text: &str| ExactReference { docker_reference: text.to_owned() };
        let repository = |text: &str| ExactRepository { docker_repository: text.to_owned() };
        let remap = |from: &str, to: &str| RemapIdentity { prefix: from.to_owned(), signed_prefix: to.to_owned() };
        for (identity, image, signed, expected) in [
            (MatchExact, "r.io/a:1", "r.io/a:1", true),
            (MatchExact, "alpine", "docker.io/library/alpine:latest", true),
            (MatchExact, "alpine", "alpine", false),
            (MatchExact, "r.io/a:1", "r.io/a:2", false),
            (MatchExact, "r.io/a:1", "r.io/b:1", false),
            (MatchExact, "r.io/a@DIGEST", "r.io/a:1", false),
            (MatchExact, "r.io/a@DIGEST", "r.io/a@DIGEST", true),
            (MatchRepoDigestOrExact, "r.io/a@DIGEST", "r.io/a:1", true),
            (MatchRepoDigestOrExact, "r.io/a@DIGEST", "r.io/a", true),
            (MatchRepoDigestOrExact, "r.io/a@DIGEST", "r.io/b:1", false),
            (MatchRepoDigestOrExact, "r.io/a:1", "r.io/a:2", false),
            (MatchRepoDigestOrExact, "r.io/a:latest", "r.io/a", false),
            (MatchRepository, "r.io/a:1", "r.io/a", true),
            (MatchRepository, "r.io/a:1", "r.io/a:2", true),
            (MatchRepository, "r.io/a:1", "s.io/a:1", false),
            (MatchRepository, "r.io/a:1", "r.io/a/b:1", false),
            (reference("r.io/z:9"), "r.io/a:1", "r.io/z:9", true),
            (reference("r.io/z:9"), "r.io/z:9", "r.io/z:8", false),
            (repository("r.io/z"), "r.io/a:1", "r.io/z:7", true),
            (repository("r.io/z"), "r.io/z:1", "r.io/a:1", false),
            (remap("m.io/r", "r.io"), "m.io/r/a:1", "r.io/a:1", true),
            (remap("m.io/r", "r.io"), "m.io/r/a:1", "m.io/r/a:1", false),
            (remap("m.io/r", "r.io"), "m.io/rest/a:1", "m.io/rest/a:1", true),
            (remap("m.io/r", "r.io"), "m.io/r/a:1", "r.io/a:2", false),
            (MatchDigest, "r.io/a:1", "elsewhere.io/b:2", true),
        ] {
            assert_eq!(admits(&identity, image, signed), expected, "{identity}: {signed} for {image}");
        }
    }

    #[test]
    fn without_a_name_only_the_digest_can_count() {
        let image: Reference = "r.io/a:1".parse().unwrap();
        assert!(SignedIdentity::MatchDigest.admits(&image, None));
        assert!(!SignedIdentity::MatchRepository.admits(&image, None));
        assert!(!SignedIdentity::MatchRepository.admits(&image, Some("")));
        assert!(!SignedIdentity::MatchRepository.admits(&image, Some("R.io/A")));
    }
}
