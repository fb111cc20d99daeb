//! What images are admitted, as containers-policy.json(5) says it, with three words of our own. Pure.
//!
//! A policy that is not understood wholly is no policy: an unknown field or type, a field twice, an empty list of
//! requirements are errors, and nothing is pulled. What is understood but cannot be checked here (OpenPGP) is kept
//! as such, and refuses the images that it is about.
//!
//! Ours, in a file for wherry alone, since others refuse what they do not know: `trustedRootPath` and
//! `trustedRootData` in `fulcio`, sigstore's own roots of trust in one file; `subjectURI` there, the identity of a
//! workflow; `matchDigest` as a `signedIdentity`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use super::error::InvalidPolicy;
use super::identity::SignedIdentity;
use super::scope;
use crate::reference::Reference;

/// The most scopes that a policy may have, over all transports.
const MAX_SCOPES: usize = 4096;
/// The most keys that one requirement may name.
const MAX_KEYS: usize = 64;

/// The transport that registries are.
pub(super) const REGISTRIES: &str = "docker";

/// What is required of images.
#[derive(Debug)]
pub struct Policy {
    default: Vec<Requirement>,
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// One thing that is required of an image; of several, all are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Accept,
    /// It is not admitted.
    Reject,
    /// A signature in sigstore's form.
    Sigstore(Box<Sigstore>),
    /// What cannot be checked here.
    Unsupported(&'static str),
}

/// Which signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigstore {
    /// Who must have signed.
    pub signer: Signer,
    /// The keys of transparency logs of which one must have the signature, if any are named.
    pub logs: Vec<Material>,
    /// For which images a signature speaks.
    pub identity: SignedIdentity,
}

/// Who must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The owner of one of these keys.
    Keys(Vec<Material>),
    /// Somebody whom these roots know.
    Keyless(Keyless),
}

/// Somebody who proved to a certificate authority who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyless {
    /// The authority, and more.
    pub roots: Roots,
    /// Who vouched for them to the authority.
    pub issuer: String,
    /// Who they are.
    pub subject: Subject,
}

/// Where roots of trust are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Certificates of authorities, in PEM.
    Authorities(Material),
    /// Sigstore's `trusted_root.json`: authorities, logs, and authorities of time.
    TrustedRoot(Material),
}

/// The name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A person.
    Email(String),
    /// A workflow, or another machine.
    Uri(String),
    /// Any whose name begins so.
    UriPrefix(String),
}

/// A key or certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// In a file.
    Path(PathBuf),
    /// In the policy.
    Data(Vec<u8>),
}

impl Policy {
    /// Reads a policy.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPolicy> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let document: Document = serde_path_to_error::deserialize(&mut json)?;
        json.end().map_err(|error| {
            let track = serde_path_to_error::Track::new();
            serde_path_to_error::Error::new(track.path(), error)
        })?;
        let transports = document.transports.unwrap_or_default().0;
        if transports.values().map(|scopes| scopes.0.len()).sum::<usize>() > MAX_SCOPES {
            return Err(InvalidPolicy::TooManyScopes { max: MAX_SCOPES });
        }
        let scopes = |(transport, scopes): (String, Unique<Vec<Written>>)| {
            let read = |(name, list)| {
                let shown = format!("{transport}:{name}");
                Ok((name, requirements(&shown, list)?))
            };
            let read = scopes.0.into_iter().map(read).collect::<Result<_, InvalidPolicy>>()?;
            Ok((transport, read))
        };
        Ok(Self {
            default: requirements("default", document.default)?,
            transports: transports.into_iter().map(scopes).collect::<Result<_, InvalidPolicy>>()?,
        })
    }

    /// What is in force where there is no policy: anything is accepted.
    pub fn absent() -> Self {
        Self { default: vec![Requirement::Accept], transports: BTreeMap::new() }
    }

    /// The scope that an image of a registry is in, in words, and what is required of it.
    pub fn of(&self, image: &Reference) -> (String, &[Requirement]) {
        let registries = self.transports.get(REGISTRIES);
        let found = registries.and_then(|scopes| {
            scope::candidates(image).into_iter().find_map(|name| Some((words(&name), scopes.get(&name)?.as_slice())))
        });
        found.unwrap_or(("default".to_owned(), &self.default))
    }

    /// Everything that is in force for registries: the default first, then by scope.
    pub fn registries(&self) -> impl Iterator<Item = (String, &[Requirement])> {
        let scopes = self.transports.get(REGISTRIES).into_iter().flatten();
        let scopes = scopes.map(|(name, list)| (words(name), list.as_slice()));
        [("default".to_owned(), self.default.as_slice())].into_iter().chain(scopes)
    }
}

fn words(scope: &str) -> String {
    if scope.is_empty() { "all registries".to_owned() } else { scope.to_owned() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Written>,
    transports: Option<Unique<Unique<Vec<Written>>>>,
}

/// A requirement as it is written.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Written {
    InsecureAcceptAnything {},
    Reject {},
    SigstoreSigned(Box<WrittenSigstore>),
    SignedBy(#[expect(dead_code, reason = "read to be refused")] WrittenSignedBy),
    SignedBaseLayer(#[expect(dead_code, reason = "read to be refused")] WrittenBaseLayer),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenSigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<Base64>,
    key_datas: Option<Vec<Base64>>,
    fulcio: Option<WrittenFulcio>,
    pki: Option<IgnoredAny>,
    rekor_public_key_path: Option<PathBuf>,
    rekor_public_key_paths: Option<Vec<PathBuf>>,
    rekor_public_key_data: Option<Base64>,
    rekor_public_key_datas: Option<Vec<Base64>>,
    signed_identity: Option<SignedIdentity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenFulcio {
    ca_path: Option<PathBuf>,
    ca_data: Option<Base64>,
    trusted_root_path: Option<PathBuf>,
    trusted_root_data: Option<Base64>,
    oidc_issuer: String,
    subject_email: Option<String>,
    #[serde(rename = "subjectURI")]
    subject_uri: Option<String>,
}

/// Never looked into: what it requires is not checked but refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the names are what counts: others are refused")]
struct WrittenSignedBy {
    key_type: Option<IgnoredAny>,
    key_path: Option<IgnoredAny>,
    key_paths: Option<IgnoredAny>,
    key_data: Option<IgnoredAny>,
    signed_identity: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the names are what counts: others are refused")]
struct WrittenBaseLayer {
    base_layer_identity: Option<IgnoredAny>,
}

/// Bytes in base64, as Go writes them.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Base64(Vec<u8>);

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self(STANDARD.decode(text)?))
    }
}

/// A map that has each key once.
struct Unique<V>(BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Each<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = entries.next_entry::<String, V>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format!("{key:?} is there twice")));
                    }
                    map.insert(key, value);
                }
                Ok(Unique(map))
            }
        }
        deserializer.deserialize_map(Each(PhantomData))
    }
}

fn requirements(scope: &str, list: Vec<Written>) -> Result<Vec<Requirement>, InvalidPolicy> {
    if list.is_empty() {
        return Err(InvalidPolicy::NoRequirement { scope: scope.to_owned() });
    }
    let read = list.into_iter().map(requirement).collect::<Result<_, String>>();
    read.map_err(|why| InvalidPolicy::Requirement { scope: scope.to_owned(), why })
}

fn requirement(written: Written) -> Result<Requirement, String> {
    Ok(match written {
        Written::InsecureAcceptAnything {} => Requirement::Accept,
        Written::Reject {} => Requirement::Reject,
        Written::SignedBy(_) => Requirement::Unsupported("an OpenPGP signature (signedBy)"),
        Written::SignedBaseLayer(_) => Requirement::Unsupported("a signed base layer (signedBaseLayer)"),
        Written::SigstoreSigned(sigstore) if sigstore.pki.is_some() => {
            one_signer(&sigstore)?;
            Requirement::Unsupported("a certificate of one's own authority (sigstoreSigned with pki)")
        }
        Written::SigstoreSigned(sigstore) => Requirement::Sigstore(Box::new(signed(*sigstore)?)),
    })
}

/// Exactly one way to say who signs.
fn one_signer(written: &WrittenSigstore) -> Result<(), String> {
    let WrittenSigstore { key_path, key_paths, key_data, key_datas, fulcio, pki, .. } = written;
    let ways = [
        key_path.is_some(),
        key_paths.is_some(),
        key_data.is_some(),
        key_datas.is_some(),
        fulcio.is_some(),
        pki.is_some(),
    ];
    match ways.into_iter().filter(|way| *way).count() {
        1 => Ok(()),
        _ => Err("exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki must be there".to_owned()),
    }
}

fn signed(written: WrittenSigstore) -> Result<Sigstore, String> {
    one_signer(&written)?;
    let logs = materials(
        "rekorPublicKeyPath, rekorPublicKeyPaths, rekorPublicKeyData and rekorPublicKeyDatas",
        (written.rekor_public_key_path, written.rekor_public_key_paths),
        (written.rekor_public_key_data, written.rekor_public_key_datas),
    )?;
    let signer = match written.fulcio {
        Some(fulcio) => Signer::Keyless(keyless(fulcio, logs.is_some())?),
        None => {
            let (paths, data) = ((written.key_path, written.key_paths), (written.key_data, written.key_datas));
            Signer::Keys(materials("keyPath, keyPaths, keyData and keyDatas", paths, data)?.unwrap_or_default())
        }
    };
    Ok(Sigstore { signer, logs: logs.unwrap_or_default(), identity: written.signed_identity.unwrap_or_default() })
}

type OneOrMore<T> = (Option<T>, Option<Vec<T>>);

/// The keys of at most one of four fields; a list that is there has at least one.
fn materials(
    fields: &str,
    paths: OneOrMore<PathBuf>,
    data: OneOrMore<Base64>,
) -> Result<Option<Vec<Material>>, String> {
    let path = |path| Material::Path(path);
    let bytes = |data: Base64| Material::Data(data.0);
    let lists = [
        paths.0.map(|one| vec![path(one)]),
        paths.1.map(|all| all.into_iter().map(path).collect()),
        data.0.map(|one| vec![bytes(one)]),
        data.1.map(|all| all.into_iter().map(bytes).collect::<Vec<_>>()),
    ];
    let mut lists = lists.into_iter().flatten();
    match (lists.next(), lists.next()) {
        (_, Some(_)) => Err(format!("at most one of {fields} may be there")),
        (Some(list), _) if list.is_empty() || list.len() > MAX_KEYS => {
            Err(format!("{fields} name at least one key and at most {MAX_KEYS}"))
        }
        (Some(list), _) if list.iter().any(relative) => Err("the path of a key must be absolute".to_owned()),
        (list, None) => Ok(list),
    }
}

/// Nobody knows where wherry is started: a relative path would let the directory choose the key.
fn relative(material: &Material) -> bool {
    matches!(material, Material::Path(path) if !path.is_absolute())
}

fn keyless(written: WrittenFulcio, logs: bool) -> Result<Keyless, String> {
    let material = |path: Option<PathBuf>, data: Option<Base64>, fields: &str| match (path, data) {
        (Some(_), Some(_)) => Err(format!("at most one of {fields} may be there")),
        (path, data) => Ok(path.map(Material::Path).or(data.map(|data| Material::Data(data.0)))),
    };
    let authorities = material(written.ca_path, written.ca_data, "caPath and caData")?;
    let whole = material(written.trusted_root_path, written.trusted_root_data, "trustedRootPath and trustedRootData")?;
    let roots = match (authorities, whole) {
        (Some(_), None) if !logs => return Err("with fulcio and its CA there must be a rekorPublicKey".to_owned()),
        (Some(authorities), None) => Roots::Authorities(authorities),
        (None, Some(_)) if logs => {
            return Err("a trusted root names its logs; no rekorPublicKey may be beside it".to_owned());
        }
        (None, Some(whole)) => Roots::TrustedRoot(whole),
        _ => return Err("fulcio needs its CA (caPath, caData) or a trusted root, not both".to_owned()),
    };
    if let Roots::Authorities(material) | Roots::TrustedRoot(material) = &roots
        && relative(material)
    {
        return Err("the path of roots of trust must be absolute".to_owned());
    }
    if written.oidc_issuer.is_empty() {
        return Err("oidcIssuer is empty".to_owned());
    }
    Ok(Keyless { roots, issuer: written.oidc_issuer, subject: subject(written.subject_email, written.subject_uri)? })
}

fn subject(email: Option<String>, uri: Option<String>) -> Result<Subject, String> {
    match (email, uri) {
        (Some(email), None) if !email.is_empty() => Ok(Subject::Email(email)),
        (None, Some(uri)) => match uri.strip_suffix('*') {
            None if !uri.is_empty() && !uri.contains('*') => Ok(Subject::Uri(uri)),
            // So that no name is cut in its middle: `…/me/app*` would be also `…/me/apple`.
            Some(prefix)
                if prefix.ends_with(['/', '@']) && prefix.matches('/').count() > 2 && !prefix.contains('*') =>
            {
                Ok(Subject::UriPrefix(prefix.to_owned()))
            }
            _ => Err(format!(
                "subjectURI {uri:?} is neither a URI nor the beginning of one: `*` may only be last, after `/` or `@`"
            )),
        },
        _ => Err("fulcio needs either subjectEmail or subjectURI".to_owned()),
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("insecureAcceptAnything"),
            Self::Reject => f.write_str("reject"),
            Self::Unsupported(what) => f.write_str(what),
            Self::Sigstore(sigstore) => match &sigstore.signer {
                Signer::Keys(keys) if keys.len() == 1 => f.write_str("a signature by a key"),
                Signer::Keys(keys) => write!(f, "a signature by one of {} keys", keys.len()),
                Signer::Keyless(keyless) => write!(f, "a signature by {} of {}", keyless.subject, keyless.issuer),
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(name) | Self::Uri(name) => f.write_str(name),
            Self::UriPrefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Subject {
    /// Whether the name in a certificate is this one, or begins so.
    pub(super) fn is(&self, email: Option<&str>, uri: Option<&str>) -> bool {
        match self {
            Self::Email(expected) => email == Some(expected),
            Self::Uri(expected) => uri == Some(expected),
            Self::UriPrefix(prefix) => {
                uri.is_some_and(|uri| uri.len() > prefix.len() && uri.starts_with(prefix.as_str()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Policy, InvalidPolicy> {
        Policy::parse(json.as_bytes())
    }

    fn requirement_of(json: &str) -> Result<Requirement, InvalidPolicy> {
        parse(&format!(r#"{{"default":[{json}]}}"#)).map(|policy| policy.default[0].clone())
    }

    #[test]
    fn the_narrowest_scope_decides_and_the_default_at_last() {
        let policy = parse(
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{
                "r.io":[{"type":"insecureAcceptAnything"}],
                "r.io/a/b":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}],
                "r.io/a/b:1":[{"type":"reject"},{"type":"insecureAcceptAnything"}],
                "*.example.com":[{"type":"insecureAcceptAnything"}]},
              "docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
        )
        .unwrap();
        let of = |image: &str| policy.of(&image.parse().unwrap());
        assert_eq!(of("r.io/a/b:1").1, [Requirement::Reject, Requirement::Accept]);
        assert!(matches!(of("r.io/a/b:2"), (scope, [Requirement::Unsupported(_)]) if scope == "r.io/a/b"));
        assert_eq!(of("r.io/a/bc"), ("r.io".to_owned(), &[Requirement::Accept][..]));
        assert_eq!(of("x.example.com:5000/a").0, "*.example.com");
        assert_eq!(of("example.com/a"), ("default".to_owned(), &[Requirement::Reject][..]));
        assert_eq!(of("alpine").0, "default");
        let everywhere = parse(
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
        );
        assert_eq!(everywhere.unwrap().of(&"alpine".parse().unwrap()).0, "all registries");
        assert_eq!(Policy::absent().of(&"alpine".parse().unwrap()).1, [Requirement::Accept]);
    }

    #[test]
    fn a_policy_that_is_not_understood_is_none() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"default":[]}"#,
            r#"{"default":[{"type":"reject"}],"more":1}"#,
            r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#,
            r#"{"default":[{"type":"reject"}]} {}"#,
            r#"{"default":[{"type":"Reject"}]}"#,
            r#"{"default":[{"type":"reject","keyPath":"/k"}]}"#,
            r#"{"default":[{"type":"insecureAcceptAnything","more":true}]}"#,
            r#"{"default":[{}]}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"r.io":[]}}}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{"r.io":[{"type":"reject"}],"r.io":[{"type":"insecureAcceptAnything"}]}}}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{},"docker":{}}}"#,
            r#"{"default":[{"type":"reject"}],"transports":{"atomic":{"x":[{"type":"nonsense"}]}}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_must_have_signed_is_said_in_exactly_one_way() {
        let key = r#""keyPath":"/k""#;
        assert!(matches!(
            requirement_of(&format!(r#"{{"type":"sigstoreSigned",{key}}}"#)),
            Ok(Requirement::Sigstore(sigstore)) if sigstore.identity == SignedIdentity::MatchRepoDigestOrExact
        ));
        let data = requirement_of(
            r#"{"type":"sigstoreSigned","keyDatas":["YQ==","Yg=="],"signedIdentity":{"type":"matchRepository"}}"#,
        );
        let Requirement::Sigstore(sigstore) = data.unwrap() else { panic!("sigstore") };
        assert_eq!(sigstore.signer, Signer::Keys(vec![Material::Data(b"a".into()), Material::Data(b"b".into())]));
        for bad in [
            "",
            r#","keyPath":"/k","keyData":"YQ==""#,
            r#","keyPath":"relative""#,
            r#","keyPaths":[]"#,
            r#","keyData":"***""#,
            r#","keyPath":"/k","keyPath":"/l""#,
            r#","keyPath":"/k","signedIdentity":{"type":"matchAnything"}"#,
            r#","keyPath":"/k","signedIdentity":{"type":"matchExact","dockerReference":"r.io/a:1"}"#,
            r#","keyPath":"/k","signedIdentity":{"type":"exactReference","dockerReference":"r.io/a"}"#,
            r#","keyPath":"/k","signedIdentity":{"type":"exactRepository","dockerRepository":"r.io/a:1"}"#,
            r#","keyPath":"/k","signedIdentity":{"type":"remapIdentity","prefix":"r.io"}"#,
            r#","keyPath":"/k","rekorPublicKeyPath":"/a","rekorPublicKeyData":"YQ==""#,
            r#","keyPath":"/k","rekorPublicKeyDatas":[]"#,
        ] {
            assert!(requirement_of(&format!(r#"{{"type":"sigstoreSigned"{bad}}}"#)).is_err(), "{bad}");
        }
        let pki = requirement_of(r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/x"}}"#);
        assert!(matches!(pki, Ok(Requirement::Unsupported(_))));
    }

    #[test]
    fn who_a_keyless_signer_must_be() {
        let fulcio = |inner: &str, log: &str| {
            requirement_of(&format!(
                r#"{{"type":"sigstoreSigned","fulcio":{{"oidcIssuer":"https://i",{inner}}}{log}}}"#
            ))
        };
        let log = r#","rekorPublicKeyPath":"/r""#;
        for (good, log) in [
            (r#""caPath":"/c","subjectEmail":"me@x""#, log),
            (
                r#""caData":"YQ==","subjectURI":"https://github.com/me/app/.github/workflows/r.yml@refs/heads/main""#,
                log,
            ),
            (r#""trustedRootPath":"/t","subjectURI":"https://github.com/me/app/.github/workflows/r.yml@*""#, ""),
        ] {
            assert!(fulcio(good, log).is_ok(), "{good}");
        }
        for (bad, log) in [
            (r#""caPath":"/c","subjectEmail":"me@x""#, ""),
            (r#""caPath":"c","subjectEmail":"me@x""#, log),
            (r#""caPath":"/c","caData":"YQ==","subjectEmail":"me@x""#, log),
            (r#""caPath":"/c","trustedRootPath":"/t","subjectEmail":"me@x""#, log),
            (r#""trustedRootPath":"/t","subjectEmail":"me@x""#, log),
            (r#""subjectEmail":"me@x""#, log),
            (r#""caPath":"/c""#, log),
            (r#""caPath":"/c","subjectEmail":"""#, log),
            (r#""caPath":"/c","subjectEmail":"me@x","subjectURI":"https://x/""#, log),
            (r#""caPath":"/c","subjectURI":"https://github.com/me/app*""#, log),
            (r#""caPath":"/c","subjectURI":"*""#, log),
            (r#""caPath":"/c","subjectURI":"https://*""#, log),
            (r#""caPath":"/c","subjectURI":"https://x/*/y@*""#, log),
        ] {
            assert!(fulcio(bad, log).is_err(), "{bad}");
        }
        let prefix = Subject::UriPrefix("https://g/me/w.yml@".to_owned());
        assert!(prefix.is(None, Some("https://g/me/w.yml@refs/tags/1")));
        assert!(!prefix.is(None, Some("https://g/me/w.yml@")) && !prefix.is(Some("https://g/me/w.yml@x"), None));
        assert!(!Subject::Email("a@x".to_owned()).is(None, Some("a@x")));
    }

    #[test]
    fn the_limit_of_scopes_is_a_limit() {
        let scopes: Vec<String> = (0..=MAX_SCOPES).map(|n| format!(r#""r.io/{n}":[{{"type":"reject"}}]"#)).collect();
        let json = format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{{}}}}}}}"#, scopes.join(","));
        assert!(matches!(parse(&json), Err(InvalidPolicy::TooManyScopes { .. })));
    }
}
