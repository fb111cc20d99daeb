//! Pushing: an image that is here, or a program that becomes an artifact, into a repository.
//!
//! What the repository has already is not sent; the manifest goes last, so that a push that is cut off has given no
//! name to anything. Bytes go as they are in the content store: an image keeps its digest.

use std::collections::{BTreeMap, HashSet};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;

use super::{Error, Event, Image, MAX_CONFIG_BYTES, PARALLEL_LAYERS, Progress, Result, Store};
use crate::content;
use crate::oci::{
    Descriptor, Digest, Document, Layer, LayerFormat, MAX_MANIFEST_BYTES, Manifest, MediaType, WasmConfig,
};
use crate::reference::Reference;
use crate::registry::{self, Client, Contents};

/// A layer's file name, so that a copy gets it back.
const TITLE: &str = "org.opencontainers.image.title";

/// So many bytes are read at a time.
const PIECE: usize = 128 << 10;

/// A program as it is to be found in a registry.
#[derive(Clone, Debug, Default)]
pub struct Artifact {
    /// What is said of it; the layer's digest is filled in.
    pub config: WasmConfig,
    /// The name of its file, if it has one.
    pub title: Option<String>,
    /// The author's key-value pairs.
    pub annotations: BTreeMap<String, String>,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's size.
    pub size: u64,
}

impl Store {
    /// Pushes an image under the name `reference`.
    pub async fn push(
        &self,
        client: &Client,
        reference: &Reference,
        image: &Image,
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        let bytes = self.content.read(&image.manifest.digest, MAX_MANIFEST_BYTES as u64)?;
        let failed =
            |source| Error::Document { reference: reference.familiar(), digest: image.manifest.digest.clone(), source };
        match Document::parse(&image.manifest.media_type, &bytes).map_err(failed)? {
            Document::Manifest(manifest) => {
                let push = Push { content: &self.content, client, reference, progress };
                push.run(&image.manifest, &manifest, &bytes).await
            }
            Document::Index(_) => Err(Error::NoManifest { reference: reference.familiar() }),
        }
    }

    /// Pushes the program `bytes` as the artifact of the CNCF: a config and one layer, which is the program.
    pub async fn push_artifact(
        &self,
        client: &Client,
        reference: &Reference,
        bytes: &[u8],
        artifact: Artifact,
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        // Until the push has ended nobody may collect its blobs.
        let _lease = self.content.lease()?;
        let mut layer = self.keep(MediaType::WASM, bytes)?;
        layer.annotations.extend(artifact.title.map(|title| (TITLE.to_owned(), title)));
        let config = WasmConfig { layer_digests: vec![layer.digest.clone()], ..artifact.config };
        let config = self.keep(MediaType::WASM_CONFIG, &serde_json::to_vec(&config).expect("plain data"))?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.into()),
            artifact_type: None,
            config,
            layers: vec![layer],
            subject: None,
            annotations: artifact.annotations,
        };
        let bytes = serde_json::to_vec(&manifest).expect("plain data");
        let descriptor = self.keep(MediaType::MANIFEST, &bytes)?;
        let push = Push { content: &self.content, client, reference, progress };
        push.run(&descriptor, &manifest, &bytes).await
    }

    /// What the image's author says of it as an artifact of the CNCF, if it is one.
    pub fn artifact_of(&self, image: &Image) -> Result<Option<Artifact>> {
        let is_program = |layer: &Layer| layer.format == LayerFormat::Wasm;
        if image.names.is_empty() || !image.layers.iter().all(is_program) {
            return Ok(None);
        }
        let unreadable = |reason: String| Error::Record { name: image.id.to_string(), reason };
        let bytes = self.content.read(&image.manifest.digest, MAX_MANIFEST_BYTES as u64)?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if manifest.config.media_type.as_str() != MediaType::WASM_CONFIG {
            return Ok(None);
        }
        let config = self.content.read(&manifest.config.digest, MAX_CONFIG_BYTES)?;
        let config = serde_json::from_slice(&config).map_err(|error| unreadable(error.to_string()))?;
        let title = manifest.layers.first().and_then(|layer| layer.annotations.get(TITLE).cloned());
        Ok(Some(Artifact { config, title, annotations: manifest.annotations }))
    }

    /// Keeps bytes of our own in the content store.
    fn keep(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::new(media_type.into(), Digest::sha256(bytes), bytes.len() as u64);
        if !self.content.has(&descriptor.digest) {
            let mut ingest = self.content.ingest(&descriptor)?;
            bytes.chunks(1 << 20).try_for_each(|chunk| ingest.append(chunk))?;
            ingest.commit()?;
        }
        Ok(descriptor)
    }
}

struct Push<'a> {
    content: &'a content::Store,
    client: &'a Client,
    reference: &'a Reference,
    progress: &'a dyn Progress,
}

impl Push<'_> {
    async fn run(&self, descriptor: &Descriptor, manifest: &Manifest, bytes: &[u8]) -> Result<Pushed> {
        self.progress.event(&Event::Pushing { reference: self.reference.clone() });
        let mut seen = HashSet::new();
        let blobs = manifest.layers.iter().chain([&manifest.config]).filter(|blob| seen.insert(&blob.digest));
        let blobs: Vec<&Descriptor> = blobs.collect();
        for blob in &blobs {
            self.progress.event(&Event::Preparing { digest: blob.digest.clone(), size: blob.size });
        }
        let all = stream::iter(blobs.into_iter().map(Ok));
        all.try_for_each_concurrent(PARALLEL_LAYERS, |blob| self.blob(blob)).await?;
        self.client.name(self.reference, descriptor, bytes, &self.retry(None)).await?;
        Ok(Pushed { digest: descriptor.digest.clone(), size: descriptor.size })
    }

    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        let digest = &blob.digest;
        let retry = self.retry(Some(digest));
        if self.client.has(self.reference, blob, &retry).await? {
            self.progress.event(&Event::There { digest: digest.clone() });
            return Ok(());
        }
        let contents = Blob { content: self.content, digest };
        let sent = |bytes| self.progress.event(&Event::Sent { digest: digest.clone(), bytes });
        self.client.upload(self.reference, blob, &contents, &sent, &retry).await?;
        self.progress.event(&Event::Uploaded { digest: digest.clone() });
        Ok(())
    }

    fn retry(&self, digest: Option<&Digest>) -> impl Fn(std::time::Duration, &registry::Error) + Sync {
        move |wait, cause: &registry::Error| {
            self.progress.event(&Event::Retry { digest: digest.cloned(), wait, cause: cause.to_string() });
        }
    }
}

/// A blob of the content store, to be read as often as it takes.
struct Blob<'a> {
    content: &'a content::Store,
    digest: &'a Digest,
}

impl Contents for Blob<'_> {
    fn read(&self) -> std::io::Result<BoxStream<'static, std::io::Result<Bytes>>> {
        let file = self.content.open_blob(self.digest).map_err(std::io::Error::other)?;
        let file = tokio::fs::File::from_std(file);
        let pieces = stream::try_unfold(file, |mut file| async move {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = file.read_buf(&mut piece).await?;
            Ok((read > 0).then(|| (piece.freeze(), file)))
        });
        Ok(pieces.boxed())
    }
}
