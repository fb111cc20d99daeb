//! Removing what nobody needs: images without a tag, or without a container.

use std::collections::HashSet;

use super::{Image, Removed, Result, Store};
use crate::content::Collection;
use crate::state::ImageRow;

/// What was removed, and how many bytes of blobs that freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names and images, as a removal tells of them.
    pub removed: Vec<Removed>,
    /// Bytes.
    pub freed: u64,
}

impl Store {
    /// Removes the images that `unneeded` says of, with all their names, and the blobs that none needs any more.
    pub fn prune(&self, unneeded: &dyn Fn(&Image) -> bool) -> Result<Pruned> {
        let images = self.list()?.into_iter().filter(|image| unneeded(image));
        let chosen: HashSet<(String, String)> =
            images.map(|image| (image.id.to_string(), image.manifest.digest.to_string())).collect();
        let mut rows = self.db.images().list()?;
        rows.retain(|row| chosen.contains(&(row.config.clone(), row.manifest.clone())));
        self.remove_rows(&rows)
    }

    /// Removes an image with all its names, and the blobs that none needs any more. Nothing is done, if somebody at work
    /// holds it, a pull say, or if `unneeded` says so when nobody can begin to.
    pub fn evict(&self, image: &Image, unneeded: &dyn Fn() -> bool) -> Result<Option<Pruned>> {
        let Some(collection) = self.content.collection()? else { return Ok(None) };
        if collection.is_held(&image.manifest.digest) || !unneeded() {
            return Ok(None);
        }
        let mut rows = self.db.images().of_config(image.id.as_str())?;
        rows.retain(|row| row.manifest == image.manifest.digest.as_str());
        self.remove_rows_in(&rows, Some(collection)).map(Some)
    }

    /// Removes rows, and what none needs any more.
    pub(super) fn remove_rows(&self, rows: &[ImageRow]) -> Result<Pruned> {
        self.remove_rows_in(rows, None)
    }

    fn remove_rows_in(&self, rows: &[ImageRow], collection: Option<Collection<'_>>) -> Result<Pruned> {
        let orphans = self.orphans(rows)?;
        let keys: Vec<(&str, &str)> = rows.iter().map(|row| (row.name.as_str(), row.platform.as_str())).collect();
        self.db.images().remove(&keys)?;
        let mut removed = self.untagged(rows)?;
        let (deleted, freed) = self.deleted(&orphans, collection)?;
        removed.extend(deleted);
        Ok(Pruned { removed, freed })
    }
}

impl Image {
    /// Whether it has no tag: its names have moved on, or it was never given one.
    pub fn is_dangling(&self) -> bool {
        self.names.iter().all(|name| name.reference.tag().is_none())
    }
}
