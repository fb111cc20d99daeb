//! What a simple signature signs: a digest and a name (containers' "simple signing", as cosign writes it). Pure.
//!
//! Read strictly: the critical part must have these fields and no others, once each, so that no two readers can
//! see two things in one payload.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::oci::Digest;

/// The type that cosign writes, as containers/image requires it.
const COSIGN: &str = "cosign container image signature";

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    /// The image: a manifest's or an index's digest.
    pub digest: Digest,
    /// The name that the signer gave to it.
    pub name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    critical: Critical,
    #[serde(default, rename = "optional")]
    _optional: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    name: String,
}

impl Payload {
    /// Reads what was signed; call it only after the signature was verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole: Whole = serde_json::from_slice(bytes).map_err(|error| format!("its payload is invalid: {error}"))?;
        let Critical { kind, image, identity } = whole.critical;
        if kind != COSIGN {
            return Err(format!("its payload is of type {kind:?}, not {COSIGN:?}"));
        }
        Ok(Self { digest: image.digest, name: identity.name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(json: &str) -> Result<Payload, String> {
        Payload::parse(json.replace("DIGEST", DIGEST).replace("TYPE", COSIGN).as_bytes())
    }

    #[test]
    fn what_cosign_and_skopeo_write_is_read() {
        let cosign = r#"{"critical":{"identity":{"docker-reference":"r.io/a"},"image":{"docker-manifest-digest":"DIGEST"},"type":"TYPE"},"optional":null}"#;
        let skopeo = r#"{"critical":{"type":"TYPE","image":{"docker-manifest-digest":"DIGEST"},"identity":{"docker-reference":"r.io/a:1"}},"optional":{"creator":"x","timestamp":1}}"#;
        assert_eq!(parse(cosign).unwrap(), Payload { digest: DIGEST.parse().unwrap(), name: "r.io/a".into() });
        assert_eq!(parse(skopeo).unwrap().name, "r.io/a:1");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not() {
        let good = r#"{"critical":{"identity":{"docker-reference":"r.io/a"},"image":{"docker-manifest-digest":"DIGEST"},"type":"TYPE"},"optional":{}}"#;
        assert!(parse(good).is_ok());
        for (from, to) in [
            ("TYPE", "atomic container signature"),
            ("\"type\"", "\"Type\""),
            ("\"optional\":{}", "\"optional\":{},\"extra\":1"),
            ("\"optional\":{}", "\"optional\":[]"),
            ("\"image\":{", "\"image\":{\"docker-manifest-digest\":\"DIGEST\","),
            ("\"identity\":{", "\"identity\":{\"more\":1,"),
            ("DIGEST", "sha256:00"),
            ("DIGEST", "md5:d41d8cd98f00b204e9800998ecf8427e"),
            ("\"docker-reference\":\"r.io/a\"", "\"docker-reference\":null"),
            ("{\"critical\"", "[{\"critical\""),
            ("\"optional\":{}}", "\"optional\":{}} trailing"),
        ] {
            assert!(parse(&good.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
    }
}
