//! An image's row in the database, and back. The record is versioned: a later wherry reads today's.

use serde::{Deserialize, Serialize};

use super::{Error, Image, Name, Result};
use crate::oci::{Descriptor, Digest, ImageConfig, Layer, LayerFormat, Platform};
use crate::reference::Reference;
use crate::state::ImageRow;

const VERSION: u32 = 1;

/// What the row's JSON says, beyond its columns.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    platform: Platform,
    /// The digests of the indexes that led to the manifest, outermost first.
    indexes: Vec<Digest>,
    manifest: Descriptor,
    /// The config's blob.
    config: Descriptor,
    /// The config as wherry understands it.
    image: ImageConfig,
    layers: Vec<LayerRecord>,
}

#[derive(Serialize, Deserialize)]
struct LayerRecord {
    blob: Descriptor,
    diff_id: Digest,
}

/// What was found out about an image.
pub(super) struct Facts<'a> {
    /// Its name, unless it has none.
    pub reference: Option<&'a Reference>,
    pub indexes: Vec<Digest>,
    pub config: Descriptor,
    pub image: Image,
}

/// The row of an image that is here now.
pub(super) fn row_of(facts: &Facts<'_>) -> Result<ImageRow> {
    let image = &facts.image;
    let layer = |layer: &Layer| LayerRecord { blob: layer.blob.clone(), diff_id: layer.diff_id.clone() };
    let record = Record {
        version: VERSION,
        platform: image.platform.clone(),
        indexes: facts.indexes.clone(),
        manifest: image.manifest.clone(),
        config: facts.config.clone(),
        image: image.config.clone(),
        layers: image.layers.iter().map(layer).collect(),
    };
    let name = facts.reference.map_or_else(|| format!("{NAMELESS}{}", image.manifest.digest), Reference::to_string);
    let record_json = serde_json::to_string(&record).map_err(unreadable(&name))?;
    Ok(ImageRow {
        name,
        platform: platform_key(&image.platform),
        manifest: image.manifest.digest.to_string(),
        index: facts.indexes.first().map(Digest::to_string),
        config: image.id.to_string(),
        size: image.size,
        pulled_unix_ns: image.pulled_unix_ns,
        record_json,
    })
}

/// The image of a row, with that row's name.
pub(super) fn image_of(row: &ImageRow) -> Result<Image> {
    let record = read(row)?;
    let layers = record.layers.into_iter().map(|layer| layer_of(row, layer)).collect::<Result<_>>()?;
    Ok(Image {
        names: name_of(row)?.into_iter().collect(),
        id: digest(row, &row.config)?,
        manifest: record.manifest,
        platform: record.platform,
        config: record.image,
        layers,
        size: row.size,
        pulled_unix_ns: row.pulled_unix_ns,
    })
}

/// All that a row says.
pub(super) fn facts_of(row: &ImageRow) -> Result<Facts<'static>> {
    let Record { indexes, config, .. } = read(row)?;
    Ok(Facts { reference: None, indexes, config, image: image_of(row)? })
}

/// What the row of an image without a name is called, before its manifest's digest. No reference begins so.
const NAMELESS: &str = "@";

/// The name of a row and what it resolved to; `None` for an image that was given no name.
pub(super) fn name_of(row: &ImageRow) -> Result<Option<Name>> {
    if is_nameless(row) {
        return Ok(None);
    }
    let reference = row.name.parse().map_err(unreadable(&row.name))?;
    Ok(Some(Name { reference, digest: digest(row, row.index.as_ref().unwrap_or(&row.manifest))? }))
}

/// The name under which an image stays when its tag moves on to another: the one by digest.
pub(super) fn dangling_name(row: &ImageRow) -> String {
    match name_of(row) {
        Ok(Some(name)) => name.reference.with_digest(&name.digest).to_string(),
        Ok(None) => row.name.clone(),
        // A name that cannot be read still must not be lost.
        Err(_) => format!("{}@{}", row.name, row.manifest),
    }
}

/// Whether a row's image was given no name.
pub(super) fn is_nameless(row: &ImageRow) -> bool {
    row.name.starts_with(NAMELESS)
}

/// All blobs that a row needs.
pub(super) fn blobs_of(row: &ImageRow) -> Result<Vec<Digest>> {
    let record = read(row)?;
    let documents = record.indexes.into_iter().chain([record.manifest.digest, record.config.digest]);
    Ok(documents.chain(record.layers.into_iter().map(|layer| layer.blob.digest)).collect())
}

/// The key of a platform in the table. All spellings of WebAssembly are one.
pub(super) fn platform_key(platform: &Platform) -> String {
    if platform.is_wasm() { Platform::wasm().to_string() } else { platform.to_string() }
}

fn read(row: &ImageRow) -> Result<Record> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_str(&row.record_json).map_err(unreadable(&row.name))?;
    if version != VERSION {
        return Err(unreadable(&row.name)(format!("it has version {version}, and this wherry knows {VERSION}")));
    }
    serde_json::from_str(&row.record_json).map_err(unreadable(&row.name))
}

fn layer_of(row: &ImageRow, layer: LayerRecord) -> Result<Layer> {
    let unknown = || unreadable(&row.name)(format!("it has a layer of the type {}", layer.blob.media_type));
    let format: LayerFormat = layer.blob.media_type.layer_format().ok_or_else(unknown)?;
    Ok(Layer { blob: layer.blob, format, diff_id: layer.diff_id })
}

fn digest(row: &ImageRow, text: &str) -> Result<Digest> {
    text.parse().map_err(unreadable(&row.name))
}

fn unreadable<E: ToString>(name: &str) -> impl Fn(E) -> Error {
    move |reason| Error::Record { name: name.to_owned(), reason: reason.to_string() }
}
