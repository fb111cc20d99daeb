//! What a manifest or an index consists of, as far as it is here: the blobs, and the documents with those that others
//! name before them.

use std::collections::HashSet;

use super::{Error, MAX_INDEX_DEPTH, MAX_INDEX_ENTRIES, Result};
use crate::content;
use crate::oci::{Descriptor, Digest, Document, MAX_MANIFEST_BYTES, MediaType};

/// A manifest or an index and its bytes.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// All of an image or of several.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Configs and layers, each once. Layers that their author keeps to himself are not among them.
    pub blobs: Vec<Descriptor>,
    /// Children before parents; the last is the one that was asked for.
    pub documents: Vec<Part>,
}

impl Parts {
    /// The parts of the document of this digest; `None` if one of them is not here.
    /// Blobs that were dropped on purpose count as here.
    pub fn of(
        content: &content::Store,
        dropped: &HashSet<Digest>,
        reference: &str,
        digest: &Digest,
    ) -> Result<Option<Self>> {
        let mut parts = Self::default();
        let mut walk = Walk { content, dropped, reference, seen: HashSet::new() };
        let top = Descriptor::new(MediaType::default(), digest.clone(), 0);
        Ok(walk.add(&mut parts, &top, 0)?.then_some(parts))
    }
}

struct Walk<'a> {
    content: &'a content::Store,
    dropped: &'a HashSet<Digest>,
    reference: &'a str,
    seen: HashSet<Digest>,
}

impl Walk<'_> {
    fn add(&mut self, parts: &mut Parts, wanted: &Descriptor, depth: usize) -> Result<bool> {
        if depth > MAX_INDEX_DEPTH {
            return Err(Error::IndexDepth { reference: self.reference.to_owned() });
        }
        if !self.seen.insert(wanted.digest.clone()) {
            return Ok(true);
        }
        if !self.content.has(&wanted.digest) {
            return Ok(false);
        }
        let bytes = self.content.read(&wanted.digest, MAX_MANIFEST_BYTES as u64)?;
        let document = Document::parse(&wanted.media_type, &bytes).map_err(|source| Error::Document {
            reference: self.reference.to_owned(),
            digest: wanted.digest.clone(),
            source,
        })?;
        let here = match &document {
            Document::Manifest(manifest) => self.blobs(parts, manifest.layers.iter().chain([&manifest.config])),
            Document::Index(index) if index.manifests.len() > MAX_INDEX_ENTRIES => {
                let (reference, entries) = (self.reference.to_owned(), index.manifests.len());
                return Err(Error::IndexEntries { reference, entries });
            }
            Document::Index(index) => {
                let mut each = index.manifests.iter().map(|entry| self.add(parts, entry, depth + 1));
                each.try_fold(true, |all, here| here.map(|here| all && here))?
            }
        };
        let media_type = own_type(&document, wanted);
        let descriptor = Descriptor::new(media_type, wanted.digest.clone(), bytes.len() as u64);
        parts.documents.push(Part { descriptor, bytes });
        Ok(here)
    }

    fn blobs<'b>(&mut self, parts: &mut Parts, blobs: impl Iterator<Item = &'b Descriptor>) -> bool {
        let mut here = true;
        for blob in blobs.filter(|blob| !is_kept_elsewhere(blob)) {
            if self.seen.insert(blob.digest.clone()) {
                here &= self.content.has(&blob.digest) || self.dropped.contains(&blob.digest);
                parts.blobs.push(blob.clone());
            }
        }
        here
    }
}

/// A document that does not say what it is was sent as something, which is the descriptor's to say.
fn own_type(document: &Document, descriptor: &Descriptor) -> MediaType {
    let (own, usual) = match document {
        Document::Manifest(manifest) => (&manifest.media_type, MediaType::MANIFEST),
        Document::Index(index) => (&index.media_type, MediaType::INDEX),
    };
    let said = &descriptor.media_type;
    let known = said.is_manifest() || said.is_index();
    own.clone().unwrap_or_else(|| if known { said.clone() } else { usual.into() })
}

/// A layer that has an address of its own, and that no other registry is to have.
fn is_kept_elsewhere(blob: &Descriptor) -> bool {
    blob.media_type.is_foreign_layer() && !blob.urls.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    struct World {
        _dir: tempfile::TempDir,
        store: content::Store,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = content::Store::open(&dir.path().join("content")).unwrap();
            Self { _dir: dir, store }
        }

        fn put(&self, bytes: &[u8], media_type: &str) -> Value {
            let descriptor = Descriptor::new(media_type.into(), Digest::sha256(bytes), bytes.len() as u64);
            let mut ingest = self.store.ingest(&descriptor).unwrap();
            ingest.append(bytes).unwrap();
            ingest.commit().unwrap();
            json!({"mediaType": media_type, "digest": descriptor.digest, "size": bytes.len()})
        }

        fn manifest(&self, layers: &[Value]) -> Value {
            let config = self.put(b"{}", MediaType::CONFIG);
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
            self.put(manifest.to_string().as_bytes(), MediaType::MANIFEST)
        }

        fn index(&self, entries: &[Value]) -> Value {
            let index = json!({"schemaVersion": 2, "mediaType": MediaType::INDEX, "manifests": entries});
            self.put(index.to_string().as_bytes(), MediaType::INDEX)
        }

        fn parts(&self, of: &Value) -> Option<Parts> {
            Parts::of(&self.store, &HashSet::new(), "x", &of["digest"].as_str().unwrap().parse().unwrap()).unwrap()
        }
    }

    #[test]
    fn children_come_before_parents_and_shared_blobs_once() {
        let world = World::new();
        let shared = world.put(b"shared", MediaType::LAYER_GZIP);
        let own = world.put(b"own", MediaType::LAYER_GZIP);
        let (one, two) = (world.manifest(&[shared.clone(), own]), world.manifest(&[shared]));
        let index = world.index(&[one.clone(), two.clone()]);
        let parts = world.parts(&index).unwrap();
        let digests: Vec<Value> = parts.documents.iter().map(|part| json!(part.descriptor.digest)).collect();
        assert_eq!(digests, [one["digest"].clone(), two["digest"].clone(), index["digest"].clone()]);
        assert_eq!(parts.blobs.len(), 3, "two layers and one config");
        assert_eq!(parts.documents[0].descriptor.media_type.as_str(), MediaType::MANIFEST);
        assert_eq!(parts.documents[2].descriptor.media_type.as_str(), MediaType::INDEX);
    }

    #[test]
    fn what_is_not_here_is_told_and_what_is_kept_elsewhere_is_not_wanted() {
        let world = World::new();
        let absent = json!({"mediaType": MediaType::LAYER_GZIP, "digest": Digest::sha256(b"absent"), "size": 6});
        let whole = world.manifest(&[]);
        assert!(world.parts(&world.index(&[whole.clone(), world.manifest(std::slice::from_ref(&absent))])).is_none());
        assert!(world.parts(&world.index(&[whole, absent.clone()])).is_none());
        let foreign = json!({
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": absent["digest"], "size": 6, "urls": ["https://example.org/layer"],
        });
        let parts = world.parts(&world.manifest(&[foreign])).unwrap();
        assert_eq!(parts.blobs.len(), 1, "the config");
    }
}
