//! Removing names, and images that have none left.

use std::collections::HashSet;

use super::{Error, Image, MAX_INDEX_ENTRIES, Result, Store, choose, record};
use crate::content::Collection;
use crate::oci::{Descriptor, Digest, Document, MAX_MANIFEST_BYTES, MediaType, Platform};
use crate::reference::Reference;
use crate::state::ImageRow;

/// One thing that a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name was taken from its image; as people write it.
    Untagged(String),
    /// An image or one of its blobs is gone.
    Deleted(Digest),
}

/// A container that is made of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The container, as shown.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

impl Store {
    /// Removes a name, and the image if that was its last; or an image by its id with all its names,
    /// if that is one or `force` says so. Of a name that holds images of several platforms, only those of
    /// `platforms` if there are any. `in_use` tells of a container that is made of an image: a stopped one is in the
    /// way unless forced, a running one always.
    pub fn remove(
        &self,
        name_or_id: &str,
        platforms: &[Platform],
        force: bool,
        in_use: &dyn Fn(&Image) -> Option<Use>,
    ) -> Result<Vec<Removed>> {
        let rows = self.rows_for(name_or_id, platforms)?;
        let name = is_named(name_or_id, &rows).then_some(name_or_id);
        if name.is_none() && !force {
            refuse_several_names(&rows)?;
        }
        for row in &self.orphans(&rows)? {
            let image = record::image_of(row)?;
            if let Some(used) = in_use(&image) {
                refuse_used(name, force, &image, used)?;
            }
        }
        Ok(self.remove_rows(&rows)?.removed)
    }

    /// The rows that a name or an id means, all of them or one at least for each of the platforms.
    fn rows_for(&self, name_or_id: &str, platforms: &[Platform]) -> Result<Vec<ImageRow>> {
        let rows = self.rows_of(name_or_id)?;
        if rows.is_empty() {
            return Err(Error::not_found(name_or_id));
        }
        if platforms.is_empty() {
            return Ok(rows);
        }
        let found = rows.iter().map(|row| Ok(record::image_of(row)?.platform)).collect::<Result<Vec<_>>>()?;
        for wanted in platforms {
            if !found.iter().any(|platform| platform.satisfies(wanted)) {
                return Err(self.missing(name_or_id, Some(wanted))?);
            }
        }
        let of_platforms = |(row, platform): (ImageRow, Platform)| {
            platforms.iter().any(|wanted| platform.satisfies(wanted)).then_some(row)
        };
        Ok(rows.into_iter().zip(found).filter_map(of_platforms).collect())
    }

    /// Those of `rows` whose image has no other row.
    pub(super) fn orphans<'a>(&self, rows: &'a [ImageRow]) -> Result<Vec<&'a ImageRow>> {
        let mut orphans: Vec<&ImageRow> = Vec::new();
        for row in rows {
            let others = self.db.images().of_config(&row.config)?;
            if others.iter().all(|other| rows.contains(other)) && orphans.iter().all(|o| o.config != row.config) {
                orphans.push(row);
            }
        }
        Ok(orphans)
    }

    /// The names of rows that are gone, as far as no image of another platform has them.
    pub(super) fn untagged(&self, rows: &[ImageRow]) -> Result<Vec<Removed>> {
        let mut gone = Vec::new();
        for row in rows {
            if self.db.images().named(&row.name)?.is_empty() {
                gone.push(row.clone());
            }
        }
        let mut names = familiar_names(&gone)?;
        names.dedup();
        Ok(names.into_iter().map(Removed::Untagged).collect())
    }

    /// The images without a row, and the blobs that nothing needs any more: also when no image went, since
    /// one image may have been packed in two ways. What a pull beside this needs stays.
    pub(super) fn deleted(
        &self,
        orphans: &[&ImageRow],
        collection: Option<Collection<'_>>,
    ) -> Result<(Vec<Removed>, u64)> {
        let ids: Vec<Digest> = orphans.iter().filter_map(|row| row.config.parse().ok()).collect();
        let collection = collection.map_or_else(|| self.content.collection(), |given| Ok(Some(given)))?;
        let (mut garbage, freed) = self.collect_garbage(collection)?;
        garbage.retain(|digest| !ids.contains(digest));
        garbage.sort_unstable();
        Ok((ids.into_iter().chain(garbage).map(Removed::Deleted).collect(), freed))
    }

    /// Removes the blobs that no row needs; none, while others collect.
    pub(super) fn collect_garbage(&self, collection: Option<Collection<'_>>) -> Result<(Vec<Digest>, u64)> {
        let Some(collection) = collection else { return Ok((Vec::new(), 0)) };
        // Read while nobody can pull: no blob of a row that comes later is missed.
        let rows = self.db.images().list()?;
        let keep = self.needed(&rows)?;
        let removed = collection.keep_only(&keep)?;
        let kept: HashSet<&str> = keep.iter().map(Digest::as_str).collect();
        self.db.dropped().forget(|blob| !kept.contains(blob))?;
        let ids: HashSet<&str> = rows.iter().map(|row| row.config.as_str()).collect();
        self.db.used().forget(|id| ids.contains(id))?;
        Ok(removed)
    }
}

impl Store {
    /// The blobs that these rows need: for their images, and of their indexes what vouches for those.
    pub(super) fn needed(&self, rows: &[ImageRow]) -> Result<HashSet<Digest>> {
        let (mut needed, mut indexes) = (HashSet::new(), HashSet::new());
        for row in rows {
            needed.extend(record::blobs_of(row)?);
            indexes.extend(record::facts_of(row)?.indexes);
        }
        for index in &indexes {
            let attestations = self.attestations(index, &needed);
            needed.extend(attestations);
        }
        Ok(needed)
    }

    /// What of an index vouches for images that are `needed`, as far as it is here. A push of the whole index needs it.
    fn attestations(&self, index: &Digest, needed: &HashSet<Digest>) -> Vec<Digest> {
        // What cannot be read is told elsewhere, and has nothing that could be kept.
        let read = |digest: &Digest, media_type: &MediaType| {
            let bytes = self.content.peek(digest, MAX_MANIFEST_BYTES as u64).ok()?;
            Document::parse(media_type, &bytes).ok()
        };
        let Some(Document::Index(index)) = read(index, &MediaType::default()) else { return Vec::new() };
        let is_needed = |digest: &str| needed.iter().any(|needed| needed.as_str() == digest);
        let vouches = |entry: &&Descriptor| choose::vouches(entry, is_needed);
        let mut found = Vec::new();
        for entry in index.manifests.iter().take(MAX_INDEX_ENTRIES).filter(vouches) {
            let Some(Document::Manifest(manifest)) = read(&entry.digest, &entry.media_type) else { continue };
            found.extend(manifest.layers.iter().chain([&manifest.config, entry]).map(|blob| blob.digest.clone()));
        }
        found
    }

    /// Removes those of these blobs that no row needs: a pull took them in that came to nothing.
    pub(super) fn release(&self, names: &HashSet<String>) -> Result<()> {
        let Some(collection) = self.content.collection()? else { return Ok(()) };
        let needed = self.needed(&self.db.images().list()?)?;
        let named: HashSet<Digest> = names.iter().filter_map(|name| name.parse().ok()).collect();
        collection.remove(&named.difference(&needed).cloned().collect())?;
        Ok(())
    }
}

/// Whether what was typed is the name of these rows rather than their id.
fn is_named(typed: &str, rows: &[ImageRow]) -> bool {
    let Ok(typed) = typed.parse::<Reference>() else { return false };
    // By digest, a name means its whole repository's.
    let same = |name: Reference| name == typed || (typed.digest().is_some() && name.name() == typed.name());
    rows.iter().any(|row| row.name.parse().is_ok_and(same))
}

fn refuse_several_names(rows: &[ImageRow]) -> Result<()> {
    let mut names = familiar_names(rows)?;
    names.dedup();
    match (names.len(), rows.first()) {
        (0 | 1, _) | (_, None) => Ok(()),
        (_, Some(row)) => Err(Error::SeveralNames { id: record::image_of(row)?.id.short().to_owned(), names }),
    }
}

fn refuse_used(name: Option<&str>, force: bool, image: &Image, used: Use) -> Result<()> {
    let (id, Use { container, running }) = (image.id.short().to_owned(), used);
    match name {
        Some(name) if !force => Err(Error::NameInUse { name: name.to_owned(), container, id }),
        _ if running || !force => Err(Error::InUse { id, container, running }),
        _ => Ok(()),
    }
}

/// The names of rows as people write them.
fn familiar_names(rows: &[ImageRow]) -> Result<Vec<String>> {
    let names = rows.iter().filter_map(|row| record::name_of(row).transpose());
    names.map(|name| Ok(name?.reference.familiar())).collect()
}
