//! Blobs that are not kept once their layers are unpacked, where that is wished.
//!
//! Before a layer's blob goes, the layer's files are sealed: `system check` compares them with that instead.

use std::collections::HashSet;

use super::{Error, Host};
use crate::content;
use crate::image::{self, Image, Progress};
use crate::oci::{Descriptor, Layer, LayerFormat};
use crate::reference::Reference;
use crate::snapshot::{self, Fault, LayerId};
use crate::state::Seal;

impl Host {
    /// Does with the blobs of an image that was pulled what is wished: keeps them, or drops those that are unpacked.
    pub(super) fn keep_or_drop(&self, image: &Image, origin: &Reference, keep: bool) -> Result<(), Error> {
        if keep {
            return Ok(self.images()?.keep_blobs(image)?);
        }
        self.seal(image)?;
        self.images()?.drop_blobs(image, origin, &|layers| self.unpacked(layers))?;
        Ok(())
    }

    /// Drops again what a push, a save or a repair has fetched again.
    pub fn drop_again(&self) -> Result<(), Error> {
        self.images()?.drop_again(&|layers| self.unpacked(layers))?;
        Ok(())
    }

    /// Which of an image's layers are unpacked.
    pub(super) fn unpacked(&self, layers: &[Layer]) -> Vec<bool> {
        let Ok(snapshots) = self.snapshots() else { return Vec::new() };
        LayerId::of_chain(layers).iter().map(|id| snapshots.has(id)).collect()
    }

    /// Notes what the files of an image's layers are, of those of which that is not known.
    fn seal(&self, image: &Image) -> Result<(), Error> {
        let (db, snapshots) = (self.db()?, self.snapshots()?);
        let known = db.dropped().seals()?;
        let here: HashSet<String> = snapshots.all()?.iter().map(LayerId::to_string).collect();
        db.dropped().unseal(|layer| !here.contains(layer))?;
        for (id, layer) in LayerId::of_chain(image.layers()).iter().zip(image.layers()) {
            let Some(instance) = snapshots.instance(id) else { continue };
            let sealed = known.get(&id.to_string()).is_some_and(|seal| seal.instance == instance);
            if !sealed && matches!(layer.format, LayerFormat::Tar(_)) {
                let digest = snapshots.seal(id)?.to_string();
                db.dropped().seal(&id.to_string(), &Seal { instance, digest })?;
            }
        }
        Ok(())
    }

    /// Fetches blobs again that were dropped. They stay as long as `lease`.
    pub fn bring_back(
        &self,
        runtime: &tokio::runtime::Runtime,
        blobs: &[Descriptor],
        progress: &dyn Progress,
        lease: &content::Lease,
    ) -> Result<(), Error> {
        let images: &image::Store = self.images()?;
        for blob in blobs {
            runtime.block_on(images.bring_back(self.registry(), blob, progress, lease))?;
        }
        Ok(())
    }
}

/// What is wrong with the files of a layer, by its seal; nothing, if it has none.
pub(super) fn seal_fault(snapshots: &snapshot::Store, id: &LayerId, seal: Option<&Seal>) -> Option<Fault> {
    let seal = seal.filter(|seal| snapshots.instance(id).as_ref() == Some(&seal.instance))?;
    match snapshots.seal(id) {
        Ok(now) if now.as_str() == seal.digest => None,
        Ok(_) => Some(Fault::Seal),
        Err(error) => Some(Fault::Unreadable { reason: crate::error::chain(&error) }),
    }
}
