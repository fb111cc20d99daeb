//! Blobs that are not kept once their layers are unpacked.
//!
//! ```text
//! unpacked, flushed ─▶ noted, on the disk ─▶ removed, under the collectors' lock ─▶ fetched again when a push or a save needs it
//! ```
//!
//! A blob is noted before it is removed, so one that is missing and not noted is damage, whenever a process was killed. It
//! stays as long as one image here has not unpacked the layer, or somebody at work holds it. Programs for WebAssembly,
//! configs and manifests are read to run an image, and stay.
//!
//! This room knows no layers on the disk: a caller says which are unpacked.

use std::collections::{HashMap, HashSet};

use super::download::Download;
use super::{Error, Image, Progress, Result, Store, record};
use crate::content::Lease;
use crate::oci::{Descriptor, Digest, Layer, LayerFormat};
use crate::reference::Reference;
use crate::registry::Client;

/// Says which of an image's layers are unpacked.
pub type Unpacked<'a> = dyn Fn(&[Layer]) -> Vec<bool> + 'a;

/// The blobs among those of `layers` that have to be here: programs, and what is not unpacked.
pub(super) fn wanted<'a>(layers: &'a [Layer], unpacked: &Unpacked<'_>) -> HashSet<&'a Digest> {
    let flags = unpacked(layers).into_iter().chain(std::iter::repeat(false));
    let wanted = layers.iter().zip(flags).filter(|(layer, unpacked)| !unpacked || !is_archive(layer));
    wanted.map(|(layer, _)| &layer.blob.digest).collect()
}

fn is_archive(layer: &Layer) -> bool {
    matches!(layer.format, LayerFormat::Tar(_))
}

impl Store {
    /// Drops the blobs of an image's layers, which came from `origin`, as far as they are unpacked. How many bytes that
    /// freed.
    pub fn drop_blobs(&self, image: &Image, origin: &Reference, unpacked: &Unpacked<'_>) -> Result<u64> {
        let known = self.db.dropped().list()?;
        let archives = image.layers.iter().filter(|layer| is_archive(layer));
        let new: Vec<&str> =
            archives.map(|layer| layer.blob.digest.as_str()).filter(|d| !known.contains_key(*d)).collect();
        if !new.is_empty() {
            self.db.dropped().add(new, &origin.name())?;
        }
        self.drop_again(unpacked)
    }

    /// Removes the blobs that are noted as dropped and are here all the same: a push has fetched them, or who dropped
    /// them was killed. How many bytes that freed.
    pub fn drop_again(&self, unpacked: &Unpacked<'_>) -> Result<u64> {
        let noted = self.db.dropped().list()?;
        if noted.is_empty() {
            return Ok(0);
        }
        let Some(collection) = self.content.collection()? else { return Ok(0) };
        let (mut needed, mut layers) = (HashSet::new(), HashSet::new());
        for row in self.db.images().list()? {
            let blobs = record::blobs_of(&row)?;
            let image = record::image_of(&row)?;
            let of_layers: HashSet<&Digest> = image.layers.iter().map(|layer| &layer.blob.digest).collect();
            needed.extend(blobs.into_iter().filter(|digest| !of_layers.contains(digest)));
            needed.extend(wanted(&image.layers, unpacked).into_iter().cloned());
            layers.extend(of_layers.into_iter().cloned());
        }
        self.db.dropped().forget(|blob| !layers.iter().any(|digest| digest.as_str() == blob))?;
        layers.retain(|digest| noted.contains_key(digest.as_str()) && !needed.contains(digest));
        Ok(collection.remove(&layers)?)
    }

    /// Keeps the blobs of an image's layers from now on.
    pub fn keep_blobs(&self, image: &Image) -> Result<()> {
        let kept: HashSet<&str> = image.layers.iter().map(|layer| layer.blob.digest.as_str()).collect();
        Ok(self.db.dropped().forget(|blob| kept.contains(blob))?)
    }

    /// The blobs that were dropped on purpose.
    pub fn dropped(&self) -> Result<HashSet<Digest>> {
        Ok(self.db.dropped().list()?.keys().filter_map(|digest| digest.parse().ok()).collect())
    }

    /// The blobs that were dropped and may be missing: each image has unpacked their layers.
    pub fn spared(&self, unpacked: &Unpacked<'_>) -> Result<HashSet<Digest>> {
        let mut spared = self.dropped()?;
        if !spared.is_empty() {
            for row in self.db.images().list()? {
                // A record that cannot be read is told of elsewhere.
                let Ok(image) = record::image_of(&row) else { continue };
                let wanted = wanted(&image.layers, unpacked);
                spared.retain(|digest| !wanted.contains(digest));
            }
        }
        Ok(spared)
    }

    /// Fetches a dropped blob again, from where it came or from where an image is that has it. It stays as long as the
    /// caller's lease.
    pub async fn bring_back(
        &self,
        client: &Client,
        blob: &Descriptor,
        progress: &dyn Progress,
        _lease: &Lease,
    ) -> Result<()> {
        if self.content.has(&blob.digest) {
            return Ok(());
        }
        let origins = self.origins(&blob.digest)?;
        let from = origins.iter().map(Reference::name).collect::<Vec<_>>().join(", ");
        let mut failure = Error::Incomplete { reference: from.clone(), digest: blob.digest.clone() };
        for origin in &origins {
            match Download::new(client, origin, &self.content).quietly(blob, progress).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(Error::Gone { digest: blob.digest.clone(), from, source: Box::new(failure) })
    }

    /// The repositories that may have a blob: where it came from, then those that images here are named after.
    fn origins(&self, digest: &Digest) -> Result<Vec<Reference>> {
        let noted: HashMap<String, String> = self.db.dropped().list()?;
        let mut origins: Vec<Reference> =
            noted.get(digest.as_str()).and_then(|name| name.parse().ok()).into_iter().collect();
        for row in self.db.images().list()? {
            if let Some(name) = record::name_of(&row)?
                && record::blobs_of(&row)?.contains(digest)
                && origins.iter().all(|known| known.name() != name.reference.name())
            {
                origins.push(name.reference);
            }
        }
        Ok(origins)
    }
}
