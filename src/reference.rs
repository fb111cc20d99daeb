//! What the user types for an image, read exactly as Docker reads it, and written back.
//!
//! The grammar is that of the distribution project's `reference` package, and so is the guess which
//! part is a registry:
//!
//! ```text
//! alpine                       docker.io  library/alpine  :latest
//! ghcr.io/a/b:tag              ghcr.io    a/b             :tag
//! host:5000/x@sha256:…         host:5000  x               @sha256:…
//! localhost/x                  localhost  x               :latest
//! a/b                          docker.io  a/b             :latest
//! └ registry if it has a `.` or `:`, is `localhost`, or has an upper-case letter
//! ```
//!
//! Pure: no name is looked up anywhere. A [`Reference`] that exists is valid.

use std::fmt;
use std::str::FromStr;

use crate::error::{Failure, Kind};
use crate::oci::Digest;

/// The registry that is meant when none is typed.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// The longest repository path (distribution/reference, `RepositoryNameTotalLengthMax`).
pub const MAX_REPOSITORY_LENGTH: usize = 255;
/// The longest tag (distribution-spec, "Pulling manifests").
pub const MAX_TAG_LENGTH: usize = 128;

/// A registry, a repository in it, and a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is empty, or has no repository.
    #[error("invalid reference format: {text:?} names no repository")]
    Empty {
        /// What was typed.
        text: String,
    },
    /// It does not follow the grammar.
    #[error("invalid reference format: {text:?}")]
    Format {
        /// What was typed.
        text: String,
    },
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({repository}) must be lowercase")]
    UpperCase {
        /// The repository as typed.
        repository: String,
        /// The whole name as typed.
        text: String,
    },
    /// The repository is longer than [`MAX_REPOSITORY_LENGTH`].
    #[error("invalid reference format: repository name must not be more than {MAX_REPOSITORY_LENGTH} characters")]
    TooLong,
    /// It looks like an image's id.
    #[error("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")]
    Identifier {
        /// What was typed.
        text: String,
    },
    /// What follows the `@` is no digest.
    #[error("invalid reference format: {text:?}")]
    Digest {
        /// What was typed.
        text: String,
        /// Why not.
        reason: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Digest { reason, .. } => Some(reason.clone()),
            Self::UpperCase { text, .. } => Some(format!("did you mean {} instead of {text}?", text.to_lowercase())),
            _ => Some("a reference is [registry[:port]/]repository[:tag][@sha256:digest]".to_owned()),
        }
    }
}

impl Reference {
    /// The registry, `docker.io` if none was typed.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry, such as `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository as people write it, without tag or digest: `alpine`.
    pub fn name(&self) -> String {
        let full = format!("{}/{}", self.registry, self.repository);
        let short = match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            _ if self.registry != DEFAULT_REGISTRY => return full,
            Some(official) => official,
            None => &self.repository,
        };
        // `docker.io/localhost/x` is another repository than `localhost/x`.
        match parse_name(short) {
            Ok((registry, repository)) if registry == self.registry && repository == self.repository => {
                short.to_owned()
            }
            _ => full,
        }
    }

    /// The reference as people write it: `alpine:latest`.
    pub fn familiar(&self) -> String {
        self.name() + &self.suffix()
    }

    /// The same repository, by digest alone.
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The same, tag and all, of that digest.
    pub fn pinned_to(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), ..self.clone() }
    }

    /// The tag of the same repository that stands for a digest: `sha256-<hex>` (distribution-spec, "Referrers Tag
    /// Schema", which cuts a longer digest so that it is a tag).
    pub fn tagged_by(&self, digest: &Digest) -> Self {
        let hex = &digest.hex()[..digest.hex().len().min(64)];
        Self { tag: Some(format!("{}-{hex}", digest.algorithm())), digest: None, ..self.clone() }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(text, digest)?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].split_once(':') {
            Some((last, tag)) => (&rest[..name_start + last.len()], Some(tag)),
            None => (rest, None),
        };
        let (registry, repository) = parse_name(name)?;
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(Error::Format { text: shown(text) });
        }
        let default = digest.is_none().then_some(DEFAULT_TAG);
        let tag = tag.or(default).map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Registry and repository of a name without tag and digest.
fn parse_name(name: &str) -> Result<(&str, String), Error> {
    if name.is_empty() {
        return Err(Error::Empty { text: String::new() });
    }
    if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Error::Identifier { text: name.to_owned() });
    }
    let (registry, path) = split_registry(name);
    let official = registry == DEFAULT_REGISTRY && !path.contains('/');
    let repository = if official { format!("{OFFICIAL_PREFIX}{path}") } else { path.to_owned() };
    if path.is_empty() {
        Err(Error::Empty { text: shown(name) })
    } else if path.bytes().any(|b| b.is_ascii_uppercase()) {
        Err(Error::UpperCase { repository: shown(path), text: shown(name) })
    } else if !is_registry(registry) || !repository.split('/').all(is_path_component) {
        Err(Error::Format { text: shown(name) })
    } else if repository.len() > MAX_REPOSITORY_LENGTH {
        Err(Error::TooLong)
    } else {
        Ok((registry, repository))
    }
}

/// Docker's guess: `localhost`, and what could only be a host, is a registry.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((LEGACY_DEFAULT_REGISTRY, path)) => (DEFAULT_REGISTRY, path),
        Some((first, path)) if is_host_like(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_host_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// `domain-name [":" port]`, where the name is dotted labels or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return is_ipv6(address),
        Some((address, port)) => return is_ipv6(address) && port.strip_prefix(':').is_some_and(is_port),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    host.split('.').all(is_domain_component) && port.is_none_or(is_port)
}

fn is_ipv6(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_domain_component(text: &str) -> bool {
    let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    inner && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

/// Runs of lower-case letters and digits, parted by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let bounded = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    bounded && separators.into_iter().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let rest = text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    rest && text.len() <= MAX_TAG_LENGTH && text.bytes().next().is_some_and(word)
}

fn parse_digest(text: &str, digest: &str) -> Result<Digest, Error> {
    digest
        .parse()
        .map_err(|reason: crate::oci::InvalidDigest| Error::Digest { text: shown(text), reason: reason.to_string() })
}

/// Enough of what was typed to recognise it.
fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Reference, Error> {
        text.replace("DIGEST", DIGEST).parse()
    }

    #[test]
    fn read_as_docker_reads() {
        for (typed, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("ghcr.io/a/b:tag", "ghcr.io/a/b:tag", "ghcr.io/a/b:tag"),
            ("host:5000/x@DIGEST", "host:5000/x@DIGEST", "host:5000/x@DIGEST"),
            ("host:5000/x:1@DIGEST", "host:5000/x:1@DIGEST", "host:5000/x:1@DIGEST"),
            ("alpine@DIGEST", "docker.io/library/alpine@DIGEST", "alpine@DIGEST"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("Host/x", "Host/x:latest", "Host/x:latest"),
            ("a__b/c---d/e.f_g", "docker.io/a__b/c---d/e.f_g:latest", "a__b/c---d/e.f_g:latest"),
            ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
            ("x:T_.-", "docker.io/library/x:T_.-", "x:T_.-"),
            ("xn--n3h.com/x", "xn--n3h.com/x:latest", "xn--n3h.com/x:latest"),
        ] {
            let reference = parse(typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
            assert_eq!(reference.to_string(), full.replace("DIGEST", DIGEST), "{typed}");
            assert_eq!(reference.familiar(), familiar.replace("DIGEST", DIGEST), "{typed}");
        }
    }

    #[test]
    fn refused_as_docker_refuses() {
        for bad in [
            ":tag",
            "@DIGEST",
            "/x",
            "x/",
            "a//b",
            "-x",
            "x-",
            "a..b",
            "a___b",
            "a/-b/c",
            "x:",
            "x:-a",
            "x:a b",
            "x@",
            "x@sha256:abc",
            "x@md5:d41d8cd98f00b204e9800998ecf8427e",
            "host:port/x",
            "host:/x",
            "-host.com/x",
            "x y",
            "https://ghcr.io/a",
            "a/b:c/d",
            "x@DIGEST:tag",
            "[::1/x",
            "[zz]/x",
            "host.com:99999/x",
            "ünicode",
            "../x",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} must not parse");
        }
        assert_eq!(parse(""), Err(Error::Empty { text: String::new() }));
        let upper = parse("ghcr.io/Abc/d").unwrap_err();
        assert_eq!(upper.to_string(), "invalid reference format: repository name (Abc/d) must be lowercase");
        let upper = parse("Alpine").unwrap_err();
        assert_eq!(upper.to_string(), "invalid reference format: repository name (Alpine) must be lowercase");
        let id = "a".repeat(64);
        assert!(matches!(parse(&id), Err(Error::Identifier { .. })));
        assert!(parse(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn lengths_are_limited() {
        let repository = |length: usize| format!("ghcr.io/{}", "a".repeat(length));
        assert!(parse(&repository(MAX_REPOSITORY_LENGTH)).is_ok());
        assert_eq!(parse(&repository(MAX_REPOSITORY_LENGTH + 1)), Err(Error::TooLong));
        let tag = |length: usize| format!("x:{}", "t".repeat(length));
        assert!(parse(&tag(MAX_TAG_LENGTH)).is_ok());
        assert!(parse(&tag(MAX_TAG_LENGTH + 1)).is_err());
    }

    proptest! {
        #[test]
        fn written_and_read_again_it_is_the_same(
            registry in prop::option::of("(localhost|[a-z0-9]{1,8}(-[a-z0-9]{1,4})?(\\.[a-zA-Z0-9]{1,5}){1,2})(:[1-9][0-9]{0,3})?"),
            path in "[a-z0-9]{1,6}((_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}(\\.[a-z0-9]{1,4})?){0,3}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            digest in prop::option::of("sha256:[0-9a-f]{64}"),
        ) {
            let typed = [
                registry.map(|r| r + "/").unwrap_or_default(),
                path,
                tag.map(|t| format!(":{t}")).unwrap_or_default(),
                digest.map(|d| format!("@{d}")).unwrap_or_default(),
            ].concat();
            let reference: Reference = typed.parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }

        #[test]
        fn no_text_panics_and_what_parses_survives(typed in ".{0,80}") {
            if let Ok(reference) = typed.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
