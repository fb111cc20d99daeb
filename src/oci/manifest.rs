//! Manifests and indexes (image-spec manifest.md, image-index.md; Docker's schema 2 has the same
//! shape). A document is parsed once, by its media type, and refused when it could be read as both
//! kinds (CVE-2021-41190).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descriptor::null_is_empty;
use super::{Descriptor, MediaType};

/// The largest manifest or index that is read. Registries refuse to store larger ones (4 MiB in the
/// distribution specification, "Pushing Manifests").
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// The most layers an image may have. Docker stops at 127 for the sake of its mount options, which
/// wherry does not use; the limit is against a hostile manifest, 4 MiB of which could name 20 000.
pub const MAX_LAYERS: usize = 1024;

/// The manifest of one image or artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact, when the config does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// What this manifest is about, for referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// The author's key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The manifests, in the author's order of preference.
    #[serde(deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// The author's key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a reference can resolve to.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way through")]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several, by platform.
    Index(Index),
}

/// Bytes that are not a manifest or an index.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDocument {
    /// The JSON does not parse, or lacks a field.
    #[error("it is not a valid {as_what}")]
    Json {
        /// What it was read as.
        as_what: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// It has the fields of both, so that two readers could see two images.
    #[error("it has both `layers` or `config` and `manifests`, so it could be read as two different things")]
    Ambiguous,
    /// The type that the registry sent is not the type in the document.
    #[error("it was sent as {sent} but says that it is {says}")]
    TypeMismatch {
        /// The Content-Type or descriptor's type.
        sent: MediaType,
        /// The `mediaType` field.
        says: MediaType,
    },
    /// A type that is no image at all, or Docker's schema 1.
    #[error("media type {media_type} is neither an image manifest nor an index")]
    MediaType {
        /// The type in question.
        media_type: MediaType,
    },
    /// More than [`MAX_LAYERS`] layers.
    #[error("it has {layers} layers; at most {MAX_LAYERS} are accepted")]
    TooManyLayers {
        /// How many it has.
        layers: usize,
    },
}

/// The fields that tell the kinds apart, read before either kind is believed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peek {
    media_type: Option<MediaType>,
    schema_version: Option<u32>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses what a registry sent as `sent`, a Content-Type or a descriptor's media type; an empty
    /// one leaves the decision to the document itself.
    pub fn parse(sent: &MediaType, bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let json = |as_what| move |source| InvalidDocument::Json { as_what, source };
        let peek: Peek = serde_json::from_slice(bytes).map_err(json("manifest"))?;
        if peek.manifests.is_some() && (peek.layers.is_some() || peek.config.is_some()) {
            return Err(InvalidDocument::Ambiguous);
        }
        let media_type = agreed_type(sent, &peek)?;
        if media_type.is_index() {
            return Ok(Self::Index(serde_json::from_slice(bytes).map_err(json("image index"))?));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(json("image manifest"))?;
        match manifest.layers.len() {
            layers if layers > MAX_LAYERS => Err(InvalidDocument::TooManyLayers { layers }),
            _ => Ok(Self::Manifest(manifest)),
        }
    }
}

fn agreed_type(sent: &MediaType, peek: &Peek) -> Result<MediaType, InvalidDocument> {
    // Parameters such as `; charset=utf-8` say nothing about the type (distribution-spec).
    let sent = MediaType(sent.as_str().split(';').next().unwrap_or_default().trim().to_owned());
    let generic = matches!(sent.as_str(), "" | "application/json" | "application/octet-stream" | "text/plain");
    let media_type = match &peek.media_type {
        Some(says) if !generic && *says != sent => {
            return Err(InvalidDocument::TypeMismatch { sent, says: says.clone() });
        }
        Some(says) => says.clone(),
        None if !generic => sent,
        None if peek.manifests.is_some() => MediaType::INDEX.into(),
        None if peek.schema_version == Some(1) => "application/vnd.docker.distribution.manifest.v1+json".into(),
        None => MediaType::MANIFEST.into(),
    };
    if media_type.is_index() || media_type.is_manifest() {
        Ok(media_type)
    } else {
        Err(InvalidDocument::MediaType { media_type })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn parse(sent: &str, json: &str) -> Result<Document, InvalidDocument> {
        Document::parse(&sent.into(), json.replace("ZERO", ZERO).as_bytes())
    }

    #[test]
    fn kinds_are_told_apart() {
        let manifest = r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"ZERO","size":1},"layers":null}"#;
        assert!(matches!(parse("", manifest), Ok(Document::Manifest(_))));
        assert!(matches!(parse("application/json; charset=utf-8", manifest), Ok(Document::Manifest(_))));
        assert!(matches!(parse("", r#"{"schemaVersion":2,"manifests":[]}"#), Ok(Document::Index(_))));
    }

    #[test]
    fn confusion_is_refused() {
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(matches!(parse(MediaType::INDEX, both), Err(InvalidDocument::Ambiguous)));
        let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(matches!(parse(MediaType::MANIFEST, index), Err(InvalidDocument::TypeMismatch { .. })));
        assert!(matches!(parse("", r#"{"schemaVersion":1}"#), Err(InvalidDocument::MediaType { .. })));
        assert!(matches!(parse("text/html", "{}"), Err(InvalidDocument::MediaType { .. })));
        assert!(matches!(parse("", "<html>"), Err(InvalidDocument::Json { .. })));
        let negative = r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"ZERO","size":-1},"layers":[]}"#;
        assert!(matches!(parse("", negative), Err(InvalidDocument::Json { .. })));
    }

    #[test]
    fn the_layer_limit_is_a_limit() {
        let layers = vec![format!(r#"{{"mediaType":"x","digest":"{ZERO}","size":1}}"#); MAX_LAYERS + 1].join(",");
        let json = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{ZERO}","size":1}},"layers":[{layers}]}}"#);
        assert!(matches!(parse("", &json), Err(InvalidDocument::TooManyLayers { .. })));
    }
}
