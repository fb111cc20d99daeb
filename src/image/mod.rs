//! Names → images: pulling, finding, listing, removing.
//!
//! ```text
//! Reference ─ find ─▶ index ─ choose ─▶ manifest ─ admit ─ kind ─▶ Found ─ fetch ─▶ layers ─ register ─▶ row in the database
//!                                                                        └ incoming ─▶ read meanwhile     last of all
//! ```
//!
//! A row is written when every blob that it needs is in the store, so an image that can be listed is
//! whole. It carries all that `run` wants to know, so that finding an image reads no blob.
//!
//! | kind | config | layers |
//! |---|---|---|
//! | image | OCI or Docker image config | tar, gzip, zstd |
//! | Wasm layers (runwasi) | OCI image config | raw WebAssembly |
//! | CNCF Wasm artifact | `application/vnd.wasm.config.v0+json` | one `application/wasm` |
//! | wasm-to-oci | `application/vnd.wasm.config.v1+json` | one raw WebAssembly |
//!
//! One name may hold images for several platforms, a Linux one and a Wasm one say. This room knows no
//! layer directories and no containers: who removes an image is told by a caller whether it is in use.

pub mod change;
mod check;
mod choose;
mod download;
mod dropped;
mod error;
mod fetch;
mod healthcheck;
mod incoming;
mod kind;
mod local;
mod make;
mod manifest_list;
mod parts;
mod pieces;
mod prune;
mod pull;
mod push;
mod record;
mod remove;
mod stored;
mod tag;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::content;
use crate::oci::{Descriptor, Digest, ImageConfig, Layer, Platform};
use crate::reference::Reference;
use crate::state::{Db, ImageRow};
use crate::trust::Guard;

pub use check::{Audit, Audited, Part};
pub use choose::{MAX_INDEX_DEPTH, MAX_INDEX_ENTRIES};
pub use download::PARALLEL_LAYERS;
pub use dropped::Unpacked;
pub use error::{Error, Result};
pub use incoming::Incoming;
pub use kind::MAX_CONFIG_BYTES;
pub use manifest_list::{Described, Entry, Inspected, Spec, escaped, indented, list_json};
pub use prune::Pruned;
pub use pull::{Found, Pulled};
pub use push::{Artifact, PARALLEL_UPLOADS, Pushed};
pub use remove::{Removed, Use};
pub use stored::{Ready, Root};

/// The images of one data root. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    content: content::Store,
    judge: Judge,
    guard: Guard,
}

/// What the Wasm engine says of programs before there is one: this room knows no engine.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    /// Whether a component can import the interface of this name.
    pub offers: fn(&str) -> bool,
    /// Why a program that begins so is none that runs.
    pub refuses: fn(&[u8]) -> Option<String>,
}

/// An image that is here: its blobs are in the content store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    names: Vec<Name>,
    id: Digest,
    manifest: Descriptor,
    platform: Platform,
    config: ImageConfig,
    layers: Vec<Layer>,
    size: u64,
    pulled_unix_ns: i64,
}

/// A name that an image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The reference. By digest alone, if its tag has moved on to another image.
    pub reference: Reference,
    /// What the reference resolved to: an index's digest or the manifest's.
    pub digest: Digest,
}

/// Sees a pull happen.
pub trait Progress: Sync {
    /// Something happened. Called from one thread at a time, often; it must not block.
    fn event(&self, event: &Event);
}

/// What happens in a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The image for the platform is found.
    Resolved {
        /// What is pulled.
        reference: Reference,
    },
    /// A layer is to be fetched.
    Layer {
        /// Its blob.
        digest: Digest,
        /// The blob's size.
        size: u64,
    },
    /// A layer of the image is in the store already.
    Exists {
        /// Its blob.
        digest: Digest,
    },
    /// So much of a layer has arrived.
    Received {
        /// Its blob.
        digest: Digest,
        /// Bytes so far.
        bytes: u64,
    },
    /// Another process is fetching the layer.
    Waiting {
        /// Its blob.
        digest: Digest,
    },
    /// So much of a layer had come before, and need not come again.
    Resumed {
        /// Its blob.
        digest: Digest,
        /// Bytes so far.
        bytes: u64,
    },
    /// All of a layer has come.
    Verifying {
        /// Its blob.
        digest: Digest,
    },
    /// A layer is in the store, verified.
    Complete {
        /// Its blob.
        digest: Digest,
    },
    /// A push begins.
    Pushing {
        /// What is pushed.
        reference: Reference,
    },
    /// A blob is to be sent, unless it is there already.
    Preparing {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// The repository has the blob already.
    There {
        /// The blob.
        digest: Digest,
    },
    /// The repository has taken the blob from another one of the same registry.
    Mounted {
        /// The blob.
        digest: Digest,
        /// The other repository.
        from: String,
    },
    /// So much of a blob is on its way.
    Sent {
        /// The blob.
        digest: Digest,
        /// Bytes so far.
        bytes: u64,
    },
    /// The repository has taken the blob.
    Uploaded {
        /// The blob.
        digest: Digest,
    },
    /// The registry is asked again after a pause.
    Retry {
        /// The layer, or `None` for a manifest.
        digest: Option<Digest>,
        /// How long from now.
        wait: Duration,
        /// Why.
        cause: String,
    },
}

/// Progress that nobody sees.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: &Event) {}
}

impl Image {
    /// All names of this image, for its platform.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The image's id: its config's digest.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// The manifest.
    pub fn manifest(&self) -> &Descriptor {
        &self.manifest
    }

    /// What it runs on.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// What it says about itself and its containers.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its layers, base first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Bytes of its blobs together.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When what it is was last pulled, in nanoseconds since 1970.
    pub fn pulled_unix_ns(&self) -> i64 {
        self.pulled_unix_ns
    }
}

impl Store {
    /// The images recorded in `db` whose blobs are in `content`; `judge` speaks for the engine of Wasm artifacts,
    /// and `guard` admits what is pulled.
    pub fn new(db: Db, content: content::Store, judge: Judge, guard: Guard) -> Self {
        Self { db, content, judge, guard }
    }

    /// The image of a name, an id, or the beginning of an id. A name's images are told apart by
    /// `platform`; with none, it is the host's Linux one, else the Wasm one, else whichever there is.
    pub fn get(&self, name_or_id: &str, platform: Option<&Platform>) -> Result<Option<Image>> {
        let rows = self.rows_of(name_or_id)?;
        let images = rows.iter().map(record::image_of).collect::<Result<Vec<_>>>()?;
        let Some(image) = choose::among(images, platform) else { return Ok(None) };
        self.with_names(image).map(Some)
    }

    /// The same of an image that has to be here, and be for `platform` if one is given.
    pub fn require(&self, name_or_id: &str, platform: Option<&Platform>) -> Result<Image> {
        match self.get(name_or_id, platform)? {
            Some(image) => Ok(image),
            None => Err(self.missing(name_or_id, platform)?),
        }
    }

    /// Why there is no such image.
    fn missing(&self, name_or_id: &str, platform: Option<&Platform>) -> Result<Error> {
        let other = platform.zip(self.get(name_or_id, None)?);
        Ok(other.map_or_else(
            || Error::not_found(name_or_id),
            |(wanted, other)| Error::WrongPlatform {
                reference: name_or_id.to_owned(),
                wanted: Box::new(wanted.clone()),
                actual: Box::new(other.platform),
            },
        ))
    }

    /// All images, newest first, each with all its names.
    pub fn list(&self) -> Result<Vec<Image>> {
        let mut images: Vec<Image> = Vec::new();
        for row in self.db.images().list()? {
            let image = record::image_of(&row)?;
            match images.iter_mut().find(|known| known.id == image.id && known.manifest.digest == image.manifest.digest)
            {
                Some(known) => known.names.extend(image.names),
                None => images.push(image),
            }
        }
        Ok(images)
    }

    /// The rows that a name means, else those of the one image whose id begins so.
    fn rows_of(&self, name_or_id: &str) -> Result<Vec<ImageRow>> {
        let named = match name_or_id.parse::<Reference>() {
            Ok(reference) => self.rows_named(&reference)?,
            Err(_) => Vec::new(),
        };
        if named.is_empty() { self.rows_with_id(name_or_id) } else { Ok(named) }
    }

    fn rows_named(&self, reference: &Reference) -> Result<Vec<ImageRow>> {
        let rows = self.db.images().named(&reference.to_string())?;
        let Some(digest) = reference.digest().filter(|_| rows.is_empty()) else { return Ok(rows) };
        // `alpine@sha256:…` also means an image that was pulled by its tag.
        let same = |row: &ImageRow| {
            let here = [Some(&row.manifest), row.index.as_ref()].into_iter().flatten().any(|d| d == digest.as_str());
            let name = row.name.parse::<Reference>();
            here && name.is_ok_and(|name| name.name() == reference.name() && agrees(&name, reference))
        };
        Ok(self.db.images().list()?.into_iter().filter(same).collect())
    }

    fn rows_with_id(&self, id: &str) -> Result<Vec<ImageRow>> {
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Vec::new());
        }
        let rows = self.db.images().with_digest_prefix(&format!("sha256:{hex}"))?;
        let mut ids: Vec<&str> = rows.iter().map(|row| row.config.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        match ids[..] {
            [] | [_] => Ok(rows),
            _ => Err(Error::AmbiguousId { id: id.to_owned(), matches: ids.into_iter().map(str::to_owned).collect() }),
        }
    }

    fn with_names(&self, image: Image) -> Result<Image> {
        let rows = self.db.images().of_config(image.id.as_str())?;
        let same = rows.iter().filter(|row| row.manifest == image.manifest.digest.as_str());
        let names = same.filter_map(|row| record::name_of(row).transpose()).collect::<Result<_>>()?;
        Ok(Image { names, ..image })
    }
}

/// A tag beside the digest must be the image's own.
fn agrees(name: &Reference, asked: &Reference) -> bool {
    asked.tag().is_none_or(|tag| name.tag().is_none_or(|own| own == tag))
}
