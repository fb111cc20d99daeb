//! Pushing: an image that is here, an index with all that it names, or a program that becomes an artifact, into a
//! repository.
//!
//! | here is | pushed is |
//! |---|---|
//! | one image | its manifest |
//! | an index and all that it names | the index |
//! | an index and some of what it names | the manifest of the image that would be run, which is told |
//! | any, and a platform is asked for | the manifest of that platform |
//!
//! What the repository has already is not sent, blob or manifest, and what another one of the same registry has is mounted.
//! All of that is asked for at once. Manifests go last and children first, so that a push that is cut off has given no name to anything. Bytes go as they are in the
//! content store: an image keeps its digest.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::parts::{Part, Parts};
use super::{Error, Event, Image, MAX_CONFIG_BYTES, Progress, Result, Store, choose, record};
use crate::content;
use crate::oci::{
    Descriptor, Digest, Layer, LayerFormat, MAX_MANIFEST_BYTES, Manifest, MediaType, Platform, WasmConfig,
};
use crate::reference::Reference;
use crate::registry::{self, Client, Contents, Delivery, Parcel};

/// So many blobs are sent at a time: as many as Docker.
pub const PARALLEL_UPLOADS: usize = 5;

/// From so many repositories blobs may be mounted in one push: a token has to name them all.
const MAX_SOURCES: usize = 8;

/// A layer's file name, so that a copy gets it back.
const TITLE: &str = "org.opencontainers.image.title";

/// So many bytes are read at a time: few system calls, and no more memory than a connection has under way.
const PIECE: u64 = 512 << 10;

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
    /// The index that the name means, if not all of it is here and one manifest of it was pushed instead.
    pub instead_of: Option<Digest>,
}

impl Store {
    /// Pushes what `name` means, a name or an id, under the name `reference`: for one platform, or all that is here.
    pub async fn push(
        &self,
        client: &Client,
        name: &str,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        // Until the push has ended nobody may collect its blobs.
        let lease = self.content.lease()?;
        let (parts, instead_of) = self.choose(name, platform)?;
        let push = Push { store: self, client, reference, progress, lease };
        Ok(Pushed { instead_of, ..push.run(&parts).await? })
    }

    /// The tags under which images are here in `reference`'s repository.
    pub fn tags_of(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let mut tags = Vec::new();
        for row in self.db.images().list()? {
            let name = record::name_of(&row)?.map(|name| name.reference);
            let same = |name: &Reference| name.name() == reference.name() && name.digest().is_none();
            tags.extend(name.filter(same));
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }

    /// What is to be pushed, and the index that it is pushed instead of.
    fn choose(&self, name: &str, platform: Option<&Platform>) -> Result<(Parts, Option<Digest>)> {
        let rows = self.rows_of(name)?;
        let images = rows.iter().map(record::image_of).collect::<Result<Vec<_>>>()?;
        let available = images.iter().map(|image| image.platform.clone()).collect();
        let Some(image) = choose::among(images, platform) else {
            let reference = name.to_owned();
            let wanted = Box::new(platform.cloned().unwrap_or_else(Platform::host));
            return Err(match rows[..] {
                [] => Error::NothingToPush { name: reference },
                _ => Error::NoPlatform { reference, wanted, available },
            });
        };
        let row = rows.iter().find(|row| row.manifest == image.manifest.digest.as_str());
        let index: Option<Digest> = row.and_then(|row| row.index.as_ref()).and_then(|digest| digest.parse().ok());
        let index = index.filter(|_| platform.is_none());
        let dropped = self.dropped()?;
        if let Some(index) = &index
            && let Some(whole) = Parts::of(&self.content, &dropped, name, index)?
        {
            return Ok((whole, None));
        }
        let digest = image.manifest.digest;
        let parts = Parts::of(&self.content, &dropped, name, &digest)?;
        Ok((parts.ok_or(content::Error::Missing { digest })?, index))
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
        let lease = self.content.lease()?;
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
        let documents = vec![Part { descriptor, bytes }];
        let blobs = manifest.layers.into_iter().chain([manifest.config]).collect();
        Push { store: self, client, reference, progress, lease }.run(&Parts { blobs, documents }).await
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
    pub(super) fn keep(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::new(media_type.into(), Digest::sha256(bytes), bytes.len() as u64);
        self.content.put(&descriptor, bytes)?;
        Ok(descriptor)
    }
}

struct Push<'a> {
    store: &'a Store,
    client: &'a Client,
    reference: &'a Reference,
    progress: &'a dyn Progress,
    lease: content::Lease,
}

impl Push<'_> {
    async fn run(&self, parts: &Parts) -> Result<Pushed> {
        self.progress.event(&Event::Pushing { reference: self.reference.clone() });
        for blob in &parts.blobs {
            self.progress.event(&Event::Preparing { digest: blob.digest.clone(), size: blob.size });
        }
        let sources = self.sources(&parts.blobs)?;
        self.client.prepare(self.reference, &sources.repositories, &self.retry(None)).await?;
        let names = self.names(parts);
        let blobs = stream::iter(largest_first(&parts.blobs).into_iter().map(Ok));
        let blobs = blobs.try_for_each_concurrent(PARALLEL_UPLOADS, |blob| self.blob(blob, sources.of(&blob.digest)));
        let ((), there) = future::try_join(blobs, self.named(&names, parts).map(Ok)).await?;
        for ((name, part), there) in names.iter().zip(&parts.documents).zip(there) {
            if !there {
                self.document(name, part).await?;
            }
        }
        // There is always the one that was asked for.
        let last = parts.documents.last().ok_or_else(|| Error::NothingToPush { name: self.reference.familiar() })?;
        Ok(Pushed { digest: last.descriptor.digest.clone(), size: last.descriptor.size, instead_of: None })
    }

    /// What each document is to be called: the last one as was asked for, others by their digests.
    fn names(&self, parts: &Parts) -> Vec<Reference> {
        let digests = parts.documents.iter().map(|part| self.reference.with_digest(&part.descriptor.digest));
        let mut names: Vec<Reference> = digests.collect();
        if let Some(last) = names.last_mut() {
            last.clone_from(self.reference);
        }
        names
    }

    /// Which documents are there under their names. Their blobs are asked for all the same: a push mends a repository
    /// that has lost some.
    async fn named(&self, names: &[Reference], parts: &Parts) -> Vec<bool> {
        let asked = names.iter().zip(&parts.documents).map(|(name, part)| async move {
            // Whether the list of those that refer to its subject has it is not known from its being there.
            referrer(part).is_none() && self.client.is_named(name, &part.descriptor).await
        });
        stream::iter(asked).buffered(PARALLEL_UPLOADS).collect().await
    }

    /// Sends a manifest. What it refers to is told to the registry by the registry itself, or else by us.
    async fn document(&self, reference: &Reference, part: &Part) -> Result<()> {
        let named = self.client.name(reference, &part.descriptor, &part.bytes, &self.retry(None)).await?;
        match referrer(part) {
            Some((subject, referrer)) if !named.knows_subject => {
                Ok(self.client.enter_referrer(reference, &subject, &referrer).await?)
            }
            _ => Ok(()),
        }
    }

    async fn blob(&self, blob: &Descriptor, from: Option<&str>) -> Result<()> {
        let digest = &blob.digest;
        let contents = Blob { content: &self.store.content, digest };
        let sent = |bytes| self.progress.event(&Event::Sent { digest: digest.clone(), bytes });
        let parcel = Parcel { reference: self.reference, blob, contents: &contents, from };
        let retry = self.retry(Some(digest));
        let mut delivered = self.client.deliver(parcel, &sent, &retry).await;
        // It was dropped. Only now it is known that the registry neither has it nor can take it from elsewhere.
        if matches!(delivered, Err(registry::Error::Source { .. })) && !self.store.content.has(digest) {
            self.store.bring_back(self.client, blob, self.progress, &self.lease).await?;
            delivered = self.client.deliver(parcel, &sent, &retry).await;
        }
        let event = match delivered {
            Ok(Delivery::There) => Event::There { digest: digest.clone() },
            Ok(Delivery::Mounted(from)) => Event::Mounted { digest: digest.clone(), from },
            Ok(Delivery::Sent) => Event::Uploaded { digest: digest.clone() },
            Err(error) => {
                // A registry that finds other bytes than it was told of may be right.
                if let registry::Error::Status { status: 400, .. } = error {
                    self.store.content.verify(digest)?;
                }
                return Err(error.into());
            }
        };
        self.progress.event(&event);
        Ok(())
    }

    /// Where blobs may be mounted from: the other repositories of this registry that images here are named after.
    fn sources(&self, blobs: &[Descriptor]) -> Result<Sources> {
        let mut sources = Sources::default();
        for row in self.store.db.images().list()? {
            let Some(name) = record::name_of(&row)? else { continue };
            let other = name.reference;
            if other.registry() != self.reference.registry() || other.repository() == self.reference.repository() {
                continue;
            }
            let has = record::blobs_of(&row)?;
            let has = blobs.iter().map(|blob| &blob.digest).filter(|digest| has.contains(digest));
            sources.enter(other.repository(), has);
        }
        Ok(sources)
    }

    fn retry(&self, digest: Option<&Digest>) -> impl Fn(Duration, &registry::Error) + Sync {
        move |wait, cause: &registry::Error| {
            self.progress.event(&Event::Retry { digest: digest.cloned(), wait, cause: cause.to_string() });
        }
    }
}

/// Which repository may have which blob.
#[derive(Default)]
struct Sources {
    repositories: Vec<String>,
    of: HashMap<Digest, usize>,
}

impl Sources {
    fn enter<'a>(&mut self, repository: &str, has: impl Iterator<Item = &'a Digest>) {
        for digest in has {
            let known = self.repositories.iter().position(|known| known == repository);
            let at = match known {
                Some(at) => at,
                None if self.repositories.len() >= MAX_SOURCES => return,
                None => {
                    self.repositories.push(repository.to_owned());
                    self.repositories.len() - 1
                }
            };
            self.of.entry(digest.clone()).or_insert(at);
        }
    }

    fn of(&self, digest: &Digest) -> Option<&str> {
        self.of.get(digest).map(|at| self.repositories[*at].as_str())
    }
}

/// The order in which blobs are sent: a large one that came last would go alone.
fn largest_first(blobs: &[Descriptor]) -> Vec<&Descriptor> {
    let mut order: Vec<&Descriptor> = blobs.iter().collect();
    order.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    order
}

/// What a manifest or an index refers to, and its entry in the list of those that do.
fn referrer(part: &Part) -> Option<(Digest, Descriptor)> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Referring {
        subject: Option<Descriptor>,
        artifact_type: Option<String>,
        config: Option<Descriptor>,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let referring: Referring = serde_json::from_slice(&part.bytes).ok()?;
    let config_type = referring.config.map(|config| config.media_type.0);
    let artifact_type = referring.artifact_type.or(config_type);
    let annotations = referring.annotations.unwrap_or_default();
    Some((referring.subject?.digest, Descriptor { artifact_type, annotations, ..part.descriptor.clone() }))
}

/// A blob of the content store, to be read as often as it takes.
struct Blob<'a> {
    content: &'a content::Store,
    digest: &'a Digest,
}

impl Contents for Blob<'_> {
    fn read(&self, from: u64, length: u64) -> std::io::Result<BoxStream<'static, std::io::Result<Bytes>>> {
        let mut file = self.content.open_blob(self.digest).map_err(std::io::Error::other)?;
        file.seek(SeekFrom::Start(from))?;
        let pieces = stream::try_unfold((file, length), |(file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || piece(file, left));
            let (file, piece) = read.await.map_err(std::io::Error::other)??;
            let left = left - piece.len() as u64;
            Ok(Some((piece, (file, left))))
        });
        Ok(pieces.boxed())
    }
}

/// The next bytes of a file, and the file.
fn piece(file: std::fs::File, left: u64) -> std::io::Result<(std::fs::File, Bytes)> {
    let length = left.min(PIECE);
    let mut piece = Vec::with_capacity(length as usize);
    let mut part = file.take(length);
    part.read_to_end(&mut piece)?;
    if (piece.len() as u64) < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok((part.into_inner(), piece.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_mounted_from_the_first_that_has_it_and_not_from_any_number() {
        let digests: Vec<Digest> = (0..20_u8).map(|n| Digest::sha256(&[n])).collect();
        let mut sources = Sources::default();
        sources.enter("a", digests[..2].iter());
        sources.enter("b", digests[1..3].iter());
        assert_eq!(
            digests[..4].iter().map(|d| sources.of(d)).collect::<Vec<_>>(),
            [Some("a"), Some("a"), Some("b"), None]
        );
        for (n, digest) in digests.iter().enumerate() {
            sources.enter(&format!("r{n}"), [digest].into_iter());
        }
        assert_eq!(sources.repositories.len(), MAX_SOURCES);
        assert_eq!(sources.of(&digests[19]), None);
    }

    #[test]
    fn a_referrer_is_entered_with_its_type_and_annotations() {
        let zero = format!("sha256:{}", "0".repeat(64));
        let subject = serde_json::json!({"mediaType": MediaType::MANIFEST, "digest": zero, "size": 1});
        let part = |manifest: serde_json::Value| {
            let bytes = manifest.to_string().into_bytes();
            Part { descriptor: Descriptor::new(MediaType::MANIFEST.into(), Digest::sha256(&bytes), 1), bytes }
        };
        let config = serde_json::json!({"mediaType": "application/x", "digest": zero, "size": 1});
        let (about, entry) = referrer(&part(
            serde_json::json!({"subject": subject, "config": config, "layers": [], "annotations": {"a": "b"}}),
        ))
        .unwrap();
        assert_eq!((about.as_str(), entry.artifact_type.as_deref()), (zero.as_str(), Some("application/x")));
        assert_eq!(entry.annotations["a"], "b");
        let own = part(serde_json::json!({"subject": subject, "config": config, "artifactType": "y"}));
        assert_eq!(referrer(&own).unwrap().1.artifact_type.as_deref(), Some("y"));
        assert!(referrer(&part(serde_json::json!({"config": config}))).is_none());
    }
}
