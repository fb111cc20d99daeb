//! What takes up the disk: images, containers, and what can be made again.
//!
//! A blob or a layer that several images have is counted once. An image's size is that of its blobs and of its layers as
//! they are unpacked.

use std::collections::{HashMap, HashSet};

use super::{Error, Host};
use crate::image::Image;
use crate::oci::Digest;
use crate::snapshot::LayerId;
use crate::sys::tree::bytes_in;

/// What takes up the disk.
#[derive(Debug)]
pub struct Usage {
    /// Each image.
    pub images: Vec<ImageUsage>,
    /// Bytes of all images together.
    pub images_size: u64,
    /// Bytes of those images that no container is made of, and of no other.
    pub images_reclaimable: u64,
    /// Bytes of compiled code and of downloads that have not ended.
    pub cache_size: u64,
}

/// What one image takes up.
#[derive(Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Bytes of its blobs and layers.
    pub size: u64,
    /// Those of them that other images have too.
    pub shared: u64,
    /// How many containers are made of it.
    pub containers: usize,
}

/// A part of an image on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Blob(Digest),
    Layer(LayerId),
}

impl Host {
    /// What takes up the disk now.
    pub fn usage(&self) -> Result<Usage, Error> {
        let images = self.images()?.list()?;
        let parts = images.iter().map(|image| self.parts(image)).collect::<Result<Vec<_>, _>>()?;
        let mut users: HashMap<&Part, (usize, bool, u64)> = HashMap::new();
        let counts = self.container_counts()?;
        let containers: Vec<usize> = images.iter().map(|image| counts.get(image.id()).copied().unwrap_or(0)).collect();
        for (parts, containers) in parts.iter().zip(&containers) {
            for (part, size) in parts {
                let (count, active, _) = users.entry(part).or_insert((0, false, *size));
                *count += 1;
                *active |= *containers > 0;
            }
        }
        let sum = |parts: &[(Part, u64)], keep: &dyn Fn(&Part) -> bool| {
            parts.iter().filter(|(part, _)| keep(part)).map(|(_, size)| size).sum::<u64>()
        };
        let images_size = users.values().map(|(_, _, size)| size).sum();
        let images_reclaimable = users.values().filter(|(_, active, _)| !active).map(|(_, _, size)| size).sum();
        let usage = images.into_iter().zip(&parts).zip(containers).map(|((image, parts), containers)| ImageUsage {
            image,
            size: sum(parts, &|_| true),
            shared: sum(parts, &|part| users.get(part).is_some_and(|(count, ..)| *count > 1)),
            containers,
        });
        let caches = [self.settings.root.join("cache"), self.settings.root.join("content/ingest")];
        let cache_size = caches.iter().map(|dir| bytes_in(dir)).sum();
        Ok(Usage { images: usage.collect(), images_size, images_reclaimable, cache_size })
    }

    /// Bytes of all layers of all images, as they were unpacked.
    pub fn layer_bytes(&self) -> Result<u64, Error> {
        let layers: std::collections::HashSet<LayerId> =
            self.images()?.list()?.iter().flat_map(|image| LayerId::of_chain(image.layers())).collect();
        Ok(layers.iter().filter_map(|id| self.snapshots().ok()?.size_of(id)).sum())
    }

    pub(super) fn parts(&self, image: &Image) -> Result<Vec<(Part, u64)>, Error> {
        let mut parts = Vec::new();
        let mut blobs: Vec<&Digest> = vec![&image.manifest().digest, image.id()];
        blobs.extend(image.layers().iter().map(|layer| &layer.blob.digest));
        for digest in blobs {
            parts.extend(self.content()?.size_of(digest).map(|size| (Part::Blob(digest.clone()), size)));
        }
        for id in LayerId::of_chain(image.layers()) {
            parts.extend(self.snapshots()?.size_of(&id).map(|size| (Part::Layer(id), size)));
        }
        parts.dedup();
        Ok(parts)
    }

    /// How many containers are made of each image, by its id.
    #[cfg(target_os = "linux")]
    pub fn container_counts(&self) -> Result<HashMap<Digest, usize>, Error> {
        let mut counts = HashMap::new();
        for container in self.containers()?.list().map_err(Box::new)? {
            *counts.entry(container.record.image_id.clone()).or_insert(0) += 1;
        }
        Ok(counts)
    }

    /// Where there are no containers none is made of an image.
    #[cfg(not(target_os = "linux"))]
    pub fn container_counts(&self) -> Result<HashMap<Digest, usize>, Error> {
        Ok(HashMap::new())
    }

    #[cfg(target_os = "linux")]
    pub(super) fn layers_of_containers(&self) -> Result<HashSet<LayerId>, Error> {
        let containers = self.containers()?.list().map_err(Box::new)?;
        Ok(containers.into_iter().flat_map(|container| container.record.layers).collect())
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn layers_of_containers(&self) -> Result<HashSet<LayerId>, Error> {
        Ok(HashSet::new())
    }

    /// Bytes of the files in each layer of an image. A layer that was never unpacked counts as what is here of it.
    pub fn layer_sizes(&self, image: &Image) -> Result<Vec<u64>, Error> {
        let unpacked = self.snapshots()?.sizes(image.layers());
        let blobs = image.layers().iter().map(|layer| layer.blob.size);
        Ok(unpacked.into_iter().zip(blobs).map(|(size, blob)| size.unwrap_or(blob)).collect())
    }

    /// What Docker calls the size of an image: bytes of the files in its layers, whatever other images share them.
    pub fn files_size(&self, image: &Image) -> Result<u64, Error> {
        Ok(self.layer_sizes(image)?.iter().sum())
    }
}
