//! Pulling: from a reference to an image that is here.

use std::collections::HashSet;
use std::time::Duration;

use super::download::Download;
use super::dropped::{self, Unpacked};
use super::incoming::Incoming;
use super::record::{self, Facts};
use super::{Error, Event, Image, MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, Progress, Result, Store, choose};
use crate::content::Lease;
use crate::error::tolerate;
use crate::oci::{
    Descriptor, Digest, Document, InvalidDocument, LayerFormat, MAX_MANIFEST_BYTES, Manifest, MediaType, Platform,
};
use crate::reference::Reference;
use crate::registry::{self, Client};
use crate::state::ImageRow;
use crate::trust::Admitted;

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// What the reference resolved to: an index's digest or the manifest's.
    pub digest: Digest,
    /// Whether anything is new: the image, or its name's meaning it.
    pub fresh: bool,
}

/// A manifest and the way to it.
struct Resolved {
    /// The digest of each index passed, outermost first.
    indexes: Vec<Digest>,
    /// The platform that the last index gives for it.
    platform: Option<Platform>,
    descriptor: Descriptor,
    manifest: Manifest,
}

/// An image that was found in a registry and can be had here. From here to its row nobody may collect garbage.
pub struct Found {
    store: Store,
    download: Download,
    reference: Reference,
    resolved: Resolved,
    admitted: Admitted,
    image: Image,
    missing: Vec<Descriptor>,
    incoming: Incoming,
    lease: Lease,
}

impl Store {
    /// Finds the image that `reference` names, for `platform` or for this machine, and looks which of its layers
    /// are here; of those that are `unpacked`, if that is told, no blob is wanted. What follows: [`Found::fetch`] beside whoever reads [`Found::incoming`], then [`Found::register`].
    pub async fn find(
        &self,
        client: &Client,
        reference: &Reference,
        platform: Option<&Platform>,
        unpacked: Option<&Unpacked<'_>>,
        progress: &dyn Progress,
    ) -> Result<Found> {
        let lease = self.content.lease()?;
        let own = self.content.lease()?;
        let download = Download::new(client, reference, &self.content);
        let pull = Pull { store: self, download, reference, shown: reference.familiar(), progress };
        let found = pull.find(platform, unpacked, lease).await;
        if found.is_err() {
            // What was read to find that out is of no use; the failure is what is told.
            let names = own.names();
            drop(own);
            tolerate(self.release(&names));
        }
        found
    }
}

impl Store {
    /// The name of each image in the repository of `reference`.
    pub async fn all_tags(
        &self,
        client: &Client,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Vec<Reference>> {
        let on_retry = |wait, cause: &registry::Error| {
            progress.event(&Event::Retry { digest: None, wait, cause: cause.to_string() });
        };
        let tags = client.tags(reference, &on_retry).await?;
        // A tag that is none, or would be part of another name, is not taken.
        tags.iter().map(|tag| Ok(format!("{}:{tag}", reference.name()).parse()?)).collect()
    }
}

impl Found {
    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Why the signature policy admits it.
    pub fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// Its layers, to be read while they are fetched.
    pub fn incoming(&self) -> Incoming {
        self.incoming.clone()
    }

    /// Fetches the layers that are not here. When it fails or is killed, what was complete stays.
    pub async fn fetch(&self, progress: &dyn Progress) -> Result<()> {
        // However this ends, no reader waits for ever.
        let _end = Ending(&self.incoming);
        self.download.all(&self.incoming, &self.missing, progress).await
    }

    /// Lets go of what has come of layers that are not complete, on a disk that is full.
    pub fn free_space(&self) {
        self.download.free_space(&self.missing);
    }

    /// Lets go of all that was fetched of an image that is refused, as far as no other image needs it.
    pub fn discard(self) -> Result<()> {
        let (store, names) = (self.store.clone(), self.lease.names());
        drop(self);
        store.release(&names)
    }

    /// Gives the name to the image, whose blobs are all here.
    pub fn register(self) -> Result<Pulled> {
        if let Err(error) = self.require_programs() {
            tolerate(self.discard());
            return Err(error);
        }
        let digest = self.resolved.indexes.first().unwrap_or(&self.resolved.descriptor.digest).clone();
        let Resolved { indexes, manifest: Manifest { config, .. }, .. } = self.resolved;
        let row =
            record::row_of(&Facts { reference: Some(&self.reference), indexes, config, image: self.image.clone() })?;
        let before = self.store.db.images().named(&row.name)?;
        let old = before.iter().find(|old| old.platform == row.platform);
        let same = old.is_some_and(|old| old.manifest == row.manifest);
        // Nothing is written, and nothing has to reach the disk, when all is as it was.
        let unchanged = old.is_some_and(|old| ImageRow { pulled_unix_ns: row.pulled_unix_ns, ..old.clone() } == row);
        if !unchanged {
            self.store.db.images().put(&row, record::dangling_name)?;
        }
        let image = self.store.with_names(self.image)?;
        self.store.db.used().note(image.id.as_str());
        Ok(Pulled { image, digest, fresh: !same || !self.missing.is_empty() })
    }

    /// A layer that is to be a program must be one, and not the machine code that somebody made of it.
    fn require_programs(&self) -> Result<()> {
        for layer in self.image().layers.iter().filter(|layer| layer.format == LayerFormat::Wasm) {
            let digest = layer.blob.digest.clone();
            let first = self.store.content.beginning(&digest)?;
            if let Some(reason) = (self.store.judge.refuses)(&first) {
                return Err(Error::Program { reference: self.reference.familiar(), digest, reason });
            }
        }
        Ok(())
    }
}

struct Ending<'a>(&'a Incoming);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.fail_rest();
    }
}

struct Pull<'a> {
    store: &'a Store,
    download: Download,
    reference: &'a Reference,
    shown: String,
    progress: &'a dyn Progress,
}

impl Pull<'_> {
    async fn find(self, wanted: Option<&Platform>, unpacked: Option<&Unpacked<'_>>, lease: Lease) -> Result<Found> {
        let resolved = self.resolve(wanted).await?;
        let admitted = self.admit(&resolved).await?;
        self.progress.event(&Event::Resolved { reference: self.reference.clone() });
        let config = self.config(&resolved.manifest.config).await?;
        let (image, needs) = self.describe(&resolved, &config)?;
        self.require_platform(wanted, &image.platform)?;
        self.require_offered(needs)?;
        let missing = self.missing(&image, unpacked);
        Ok(Found {
            store: self.store.clone(),
            incoming: Incoming::new(&self.store.content, missing.iter().map(|blob| blob.digest.clone())),
            missing,
            download: self.download,
            resolved,
            admitted,
            image,
            reference: self.reference.clone(),
            lease,
        })
    }

    /// What was resolved is admitted by the signature policy, before anything that it names is fetched. The name is not
    /// asked for again: it is these digests that must be signed.
    async fn admit(&self, resolved: &Resolved) -> Result<Admitted> {
        let digests: Vec<&Digest> = resolved.indexes.iter().chain([&resolved.descriptor.digest]).collect();
        let on_retry = self.on_retry();
        Ok(self.store.guard.admit(&self.download.client, self.reference, &digests, &on_retry).await?)
    }

    /// Follows indexes to the manifest for the platform. Every document passed is kept.
    async fn resolve(&self, wanted: Option<&Platform>) -> Result<Resolved> {
        let (mut indexes, mut platform) = (Vec::new(), None);
        let mut document = match self.known().await? {
            Some(document) => document,
            None => self.fetch(self.reference).await?,
        };
        while indexes.len() <= MAX_INDEX_DEPTH {
            self.store.content.put(&document.descriptor, &document.bytes)?;
            match self.parse(&document.descriptor, &document.bytes)? {
                Document::Manifest(manifest) => {
                    return Ok(Resolved { indexes, platform, descriptor: document.descriptor, manifest });
                }
                Document::Index(index) => {
                    let entry = choose::entry(&self.shown, &index, wanted)?;
                    indexes.push(document.descriptor.digest);
                    platform = entry.platform.clone();
                    document = self.entry(entry).await?;
                }
            }
        }
        Err(Error::IndexDepth { reference: self.shown.clone() })
    }

    /// What the name means here, if the registry says that it means the same there. That costs a registry less than
    /// the document, and is not counted by those that count.
    async fn known(&self) -> Result<Option<registry::Document>> {
        if self.reference.digest().is_some() {
            return Ok(None);
        }
        let rows = self.store.db.images().named(&self.reference.to_string())?;
        let meant: Vec<Descriptor> = rows.iter().map(meant_by).collect::<Result<Vec<_>>>()?.concat();
        if meant.is_empty() {
            return Ok(None);
        }
        // A registry that does not answer this is asked for the document, and its refusal of that is told.
        let Ok(Some(told)) = self.download.client.digest(self.reference).await else { return Ok(None) };
        let same = |descriptor: &Descriptor| descriptor.digest == told;
        let Some(descriptor) = meant.into_iter().find(|d| same(d) && self.store.content.has(&d.digest)) else {
            return Ok(None);
        };
        let bytes = self.store.content.read(&descriptor.digest, MAX_MANIFEST_BYTES as u64)?;
        Ok(Some(registry::Document { descriptor, bytes }))
    }

    fn on_retry(&self) -> impl Fn(Duration, &registry::Error) + Sync {
        |wait, cause| self.progress.event(&Event::Retry { digest: None, wait, cause: cause.to_string() })
    }

    async fn fetch(&self, reference: &Reference) -> Result<registry::Document> {
        Ok(self.download.client.manifest(reference, &self.on_retry()).await?)
    }

    /// A manifest that an index names: from the store if it is there, else from the registry. It must
    /// be as the index says.
    async fn entry(&self, entry: &Descriptor) -> Result<registry::Document> {
        if self.store.content.has(&entry.digest) {
            let bytes = self.store.content.read(&entry.digest, MAX_MANIFEST_BYTES as u64)?;
            return Ok(registry::Document { descriptor: entry.clone(), bytes });
        }
        let document = self.fetch(&self.reference.with_digest(&entry.digest)).await?;
        let (reference, digest) = (self.shown.clone(), entry.digest.clone());
        if document.descriptor.size != entry.size {
            let (expected, actual) = (entry.size, document.descriptor.size);
            return Err(Error::DocumentSize { reference, digest, expected, actual });
        }
        // What it was sent as is checked against its own words later; here, against the index's.
        let sent = &document.descriptor.media_type;
        if (sent.is_manifest() || sent.is_index()) && *sent != entry.media_type {
            let source = InvalidDocument::TypeMismatch { sent: sent.clone(), says: entry.media_type.clone() };
            return Err(Error::Document { reference, digest, source });
        }
        let descriptor = Descriptor { media_type: entry.media_type.clone(), ..document.descriptor };
        Ok(registry::Document { descriptor, ..document })
    }

    fn parse(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Document> {
        Document::parse(&descriptor.media_type, bytes).map_err(|source| Error::Document {
            reference: self.shown.clone(),
            digest: descriptor.digest.clone(),
            source,
        })
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        if config.size > MAX_CONFIG_BYTES {
            return Err(Error::ConfigSize { reference: self.shown.clone(), size: config.size });
        }
        if !self.store.content.has(&config.digest) {
            self.download.quietly(config, self.progress).await?;
        }
        Ok(self.store.content.read(&config.digest, MAX_CONFIG_BYTES)?)
    }

    fn describe(&self, resolved: &Resolved, config: &[u8]) -> Result<(Image, Vec<String>)> {
        let descriptor = Descriptor { platform: resolved.platform.clone(), ..resolved.descriptor.clone() };
        self.store.image_of(&self.shown, &descriptor, &resolved.manifest, config)
    }

    /// An image that is for another platform than was asked for is refused; when nothing was
    /// asked for, an index has chosen, and a lone image is taken as it is.
    fn require_platform(&self, wanted: Option<&Platform>, actual: &Platform) -> Result<()> {
        if let Some(why) = actual.foreign() {
            return Err(Error::Foreign { reference: self.shown.clone(), why });
        }
        match wanted {
            Some(wanted) if !actual.satisfies(wanted) => Err(Error::WrongPlatform {
                reference: self.shown.clone(),
                wanted: Box::new(wanted.clone()),
                actual: Box::new(actual.clone()),
            }),
            _ => Ok(()),
        }
    }

    /// What an artifact says that it imports must be offered. That is its word: compiling it will tell for sure.
    fn require_offered(&self, needs: Vec<String>) -> Result<()> {
        let imports: Vec<String> = needs.into_iter().filter(|name| !(self.store.judge.offers)(name)).collect();
        if imports.is_empty() { Ok(()) } else { Err(Error::Imports { reference: self.shown.clone(), imports }) }
    }

    /// The layers that are not here, each once.
    fn missing(&self, image: &Image, unpacked: Option<&Unpacked<'_>>) -> Vec<Descriptor> {
        let wanted = unpacked.map(|unpacked| dropped::wanted(&image.layers, unpacked));
        let spared = |digest: &Digest| wanted.as_ref().is_some_and(|wanted| !wanted.contains(digest));
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for blob in image.layers.iter().map(|layer| &layer.blob).filter(|blob| seen.insert(&blob.digest)) {
            if self.store.content.has(&blob.digest) || spared(&blob.digest) {
                self.progress.event(&Event::Exists { digest: blob.digest.clone() });
            } else {
                self.progress.event(&Event::Layer { digest: blob.digest.clone(), size: blob.size });
                missing.push(blob.clone());
            }
        }
        missing
    }
}

/// What the name of a row may resolve to. An index is kept without its type, and says itself what it is.
fn meant_by(row: &ImageRow) -> Result<Vec<Descriptor>> {
    let index = row.index.as_ref().and_then(|digest| digest.parse().ok());
    let index = index.map(|digest| Descriptor::new(MediaType::default(), digest, 0));
    Ok(index.into_iter().chain([record::image_of(row)?.manifest]).collect())
}
