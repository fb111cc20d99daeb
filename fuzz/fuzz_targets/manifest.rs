//! A manifest or index as a registry or an archive might give it: never both at once, and its digests are digests.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wherry::oci::{Document, MediaType};

const SENT_AS: [&str; 5] =
    [MediaType::INDEX, MediaType::MANIFEST, MediaType::DOCKER_LIST, MediaType::DOCKER_MANIFEST, "text/html"];

fuzz_target!(|bytes: &[u8]| {
    let parsed: Vec<Document> =
        SENT_AS.iter().filter_map(|sent| Document::parse(&MediaType::from(*sent), bytes).ok()).collect();
    let indexes = parsed.iter().filter(|document| matches!(document, Document::Index(_))).count();
    assert!(indexes == 0 || indexes == parsed.len(), "the same bytes are an index and a manifest");
    for document in &parsed {
        let named = match document {
            Document::Manifest(manifest) => manifest.layers.iter().chain([&manifest.config]).collect::<Vec<_>>(),
            Document::Index(index) => index.manifests.iter().collect(),
        };
        for descriptor in named {
            assert!(descriptor.digest.hex().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        }
    }
});
