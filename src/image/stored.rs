//! Images as a whole: all that belongs to a name, to be sent or written elsewhere; and the other way, an image whose
//! blobs are here already.

use std::collections::{BTreeSet, HashSet};

use super::tag::unix_ns;
use super::{Error, Image, MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, Result, Store, choose, kind, record};
use crate::oci::{Descriptor, Digest, Document, MAX_MANIFEST_BYTES, Manifest, Platform};
use crate::reference::Reference;
use crate::state::ImageRow;

/// What a name means: an index with all that it lists, or one platform's image.
#[derive(Clone, Debug)]
pub struct Root {
    /// The name; an image found by its id may have none.
    pub reference: Option<Reference>,
    /// The index, or the manifest with its platform.
    pub descriptor: Descriptor,
    /// The images in it.
    pub images: Vec<Image>,
    /// All blobs that belong to it, each after those that it names.
    pub blobs: Vec<Descriptor>,
}

/// An image whose blobs are all here, not yet recorded.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The image.
    pub image: Image,
    /// The digests of the indexes that lead to it, outermost first.
    pub indexes: Vec<Digest>,
    config: Descriptor,
}

impl Ready {
    /// The config's blob, which is the image's id but for some artifacts.
    pub fn config(&self) -> &Digest {
        &self.config.digest
    }
}

impl Store {
    /// All that `name_or_id` means, for these platforms or, with none, for all that are here. An index that is here with
    /// all of its parts comes whole; of any other, the images that are here.
    pub fn roots(&self, name_or_id: &str, platforms: &[Platform]) -> Result<Vec<Root>> {
        let mut rows = self.rows_of(name_or_id)?;
        let by_name = rows.iter().all(|row| row.name == rows[0].name);
        if !by_name {
            // By its id: one of its names is enough.
            rows.truncate(1);
        }
        if rows.is_empty() {
            return Err(Error::not_found(name_or_id));
        }
        let dropped = self.dropped()?;
        if platforms.is_empty()
            && let Some(root) = self.whole_index(&rows, &dropped)?
        {
            return Ok(vec![root]);
        }
        let roots = rows.iter().map(|row| self.manifest_root(row, &dropped)).collect::<Result<Vec<_>>>()?;
        let fits = |root: &Root| root.images.iter().any(|i| platforms.iter().any(|p| i.platform().satisfies(p)));
        let chosen: Vec<Root> = roots.into_iter().filter(|root| platforms.is_empty() || fits(root)).collect();
        if chosen.is_empty() {
            return Err(Error::NoPlatform {
                reference: name_or_id.to_owned(),
                wanted: Box::new(platforms[0].clone()),
                available: rows
                    .iter()
                    .map(record::image_of)
                    .collect::<Result<Vec<_>>>()?
                    .iter()
                    .map(|i| i.platform.clone())
                    .collect(),
            });
        }
        Ok(chosen)
    }

    /// The index of a name's rows, if all that it lists is here.
    fn whole_index(&self, rows: &[ImageRow], dropped: &HashSet<Digest>) -> Result<Option<Root>> {
        let Some(index) = rows[0].index.as_ref() else { return Ok(None) };
        let digest: Digest = index.parse().map_err(|error| self.unreadable(&rows[0], &error))?;
        let Some(size) = self.content.size_of(&digest) else { return Ok(None) };
        let bytes = self.content.read(&digest, MAX_MANIFEST_BYTES as u64)?;
        let Some(media_type) = media_type_of(&bytes) else { return Ok(None) };
        let descriptor = Descriptor::new(media_type.as_str().into(), digest, size);
        let mut blobs = Vec::new();
        if !self.gather(&descriptor, MAX_INDEX_DEPTH, dropped, &mut blobs)? {
            return Ok(None);
        }
        let images = rows.iter().map(record::image_of).collect::<Result<Vec<_>>>()?;
        Ok(Some(Root { reference: name_of(&rows[0])?, descriptor, images, blobs: distinct(blobs) }))
    }

    fn manifest_root(&self, row: &ImageRow, dropped: &HashSet<Digest>) -> Result<Root> {
        let image = record::image_of(row)?;
        let mut blobs = Vec::new();
        if !self.gather(&image.manifest, MAX_INDEX_DEPTH, dropped, &mut blobs)? {
            let reference = row.name.clone();
            return Err(Error::Incomplete { reference, digest: image.manifest.digest.clone() });
        }
        let mut descriptor = image.manifest.clone();
        descriptor.platform = Some(image.platform.clone());
        Ok(Root { reference: name_of(row)?, descriptor, images: vec![image], blobs: distinct(blobs) })
    }

    /// Collects what a document leads to, itself last. Whether all of it is here, or was dropped on purpose.
    fn gather(
        &self,
        document: &Descriptor,
        depth: usize,
        dropped: &HashSet<Digest>,
        blobs: &mut Vec<Descriptor>,
    ) -> Result<bool> {
        if depth == 0 || !self.content.has(&document.digest) {
            return Ok(false);
        }
        let bytes = self.content.read(&document.digest, MAX_MANIFEST_BYTES as u64)?;
        let reference = document.digest.to_string();
        let failed = |source| Error::Document { reference, digest: document.digest.clone(), source };
        let parts = match Document::parse(&document.media_type, &bytes).map_err(failed)? {
            Document::Index(index) => {
                for entry in &index.manifests {
                    if !self.gather(entry, depth - 1, dropped, blobs)? {
                        return Ok(false);
                    }
                }
                Vec::new()
            }
            Document::Manifest(Manifest { config, layers, .. }) => layers.into_iter().chain([config]).collect(),
        };
        let here = parts.iter().all(|part| self.content.has(&part.digest) || dropped.contains(&part.digest));
        blobs.extend(parts);
        blobs.push(document.clone());
        Ok(here)
    }

    /// The images that a document leads to, an index or a manifest, whose blobs must all be here or dropped on purpose. Attestations are no
    /// images; what an index lists and is not here is left out, unless there is nothing else.
    pub fn ready(&self, shown: &str, document: &Descriptor) -> Result<Vec<Ready>> {
        let mut ready = Vec::new();
        self.ready_below(shown, document, &mut Vec::new(), &mut ready)?;
        match ready.is_empty() {
            true => Err(Error::Incomplete { reference: shown.to_owned(), digest: document.digest.clone() }),
            false => Ok(ready),
        }
    }

    fn ready_below(
        &self,
        shown: &str,
        document: &Descriptor,
        above: &mut Vec<Digest>,
        ready: &mut Vec<Ready>,
    ) -> Result<()> {
        let bytes = self.content.read(&document.digest, MAX_MANIFEST_BYTES as u64)?;
        if bytes.len() as u64 != document.size {
            let (digest, expected, actual) = (document.digest.clone(), document.size, bytes.len() as u64);
            return Err(Error::DocumentSize { reference: shown.to_owned(), digest, expected, actual });
        }
        let failed = |source| Error::Document { reference: shown.to_owned(), digest: document.digest.clone(), source };
        match Document::parse(&document.media_type, &bytes).map_err(failed)? {
            Document::Manifest(manifest) => ready.push(self.assemble(shown, document, &manifest, above)?),
            Document::Index(index) => {
                if above.len() >= MAX_INDEX_DEPTH {
                    return Err(Error::IndexDepth { reference: shown.to_owned() });
                }
                above.push(document.digest.clone());
                for entry in choose::images(shown, &index)? {
                    if self.content.has(&entry.digest) {
                        self.ready_below(shown, entry, above, ready)?;
                    }
                }
                above.pop();
            }
        }
        Ok(())
    }

    fn assemble(&self, shown: &str, descriptor: &Descriptor, manifest: &Manifest, indexes: &[Digest]) -> Result<Ready> {
        let dropped = self.dropped()?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            match self.content.size_of(&blob.digest) {
                None if dropped.contains(&blob.digest) => {}
                None => {
                    return Err(Error::Incomplete { reference: shown.to_owned(), digest: blob.digest.clone() });
                }
                Some(actual) if actual != blob.size => {
                    let (digest, expected) = (blob.digest.clone(), blob.size);
                    return Err(Error::DocumentSize { reference: shown.to_owned(), digest, expected, actual });
                }
                Some(_) => {}
            }
        }
        let config = self.content.read(&manifest.config.digest, MAX_CONFIG_BYTES)?;
        let (image, _) = self.image_of(shown, descriptor, manifest, &config)?;
        Ok(Ready { image, indexes: indexes.to_vec(), config: manifest.config.clone() })
    }

    /// The image that a manifest and its config describe, and what its program says that it imports.
    pub(super) fn image_of(
        &self,
        shown: &str,
        descriptor: &Descriptor,
        manifest: &Manifest,
        config: &[u8],
    ) -> Result<(Image, Vec<String>)> {
        let described = kind::describe(shown, &descriptor.digest, manifest, config)?;
        let own = described.config.platform();
        // Old images name no platform in their config.
        let named = !own.os.is_empty() && !own.architecture.is_empty();
        let blobs = manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.size);
        let image = Image {
            names: Vec::new(),
            id: described.id,
            platform: if named { own } else { descriptor.platform.clone().unwrap_or_else(Platform::host) },
            manifest: Descriptor { platform: None, ..descriptor.clone() },
            config: described.config,
            layers: described.layers,
            size: blobs.fold(descriptor.size, u64::saturating_add),
            pulled_unix_ns: unix_ns(),
        };
        Ok((image, described.needs))
    }

    /// Records an image under a name, or without one. What had the name for its platform stays, without it.
    pub fn register(&self, ready: Ready, reference: Option<&Reference>) -> Result<Image> {
        let Ready { image, indexes, config } = ready;
        let row = record::row_of(&record::Facts { reference, indexes, config, image: image.clone() })?;
        self.db.images().put(&row, record::dangling_name)?;
        self.with_names(image)
    }

    fn unreadable(&self, row: &ImageRow, reason: &dyn ToString) -> Error {
        Error::Record { name: row.name.clone(), reason: reason.to_string() }
    }
}

fn name_of(row: &ImageRow) -> Result<Option<Reference>> {
    Ok(record::name_of(row)?.map(|name| name.reference))
}

/// Each blob once, where it comes first.
fn distinct(mut blobs: Vec<Descriptor>) -> Vec<Descriptor> {
    let mut seen = BTreeSet::new();
    blobs.retain(|blob| seen.insert(blob.digest.clone()));
    blobs
}

/// What an index or a manifest says that it is; by its form, where it does not say.
pub(super) fn media_type_of(bytes: &[u8]) -> Option<String> {
    use crate::oci::MediaType;
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    match (value.get("mediaType"), value.get("manifests"), value.get("layers")) {
        (Some(said), ..) => said.as_str().map(str::to_owned),
        (None, Some(_), None) => Some(MediaType::INDEX.to_owned()),
        (None, None, Some(_)) => Some(MediaType::MANIFEST.to_owned()),
        _ => None,
    }
}
