//! Whether the records of images, their documents and their blobs fit together, and what can be fetched again.

use super::download::Download;
use super::{Error, Image, MAX_CONFIG_BYTES, Result, Silent, Store, kind, record};
use crate::oci::{Descriptor, Digest, Document, MAX_MANIFEST_BYTES, Manifest, Platform};
use crate::reference::Reference;
use crate::registry::Client;
use crate::state::ImageRow;

/// A row of the table of images, looked at.
#[derive(Debug)]
pub struct Audit {
    row: ImageRow,
    /// What the row says, or why it cannot be read.
    pub read: Result<Audited>,
}

/// What a row says.
#[derive(Debug)]
pub struct Audited {
    /// The image.
    pub image: Image,
    /// All that it needs, documents first.
    pub parts: Vec<Part>,
}

/// A blob that an image needs, by how it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A manifest or an index.
    Document(Digest),
    /// A config or a layer.
    Blob(Descriptor),
}

impl Part {
    /// Its digest.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Document(digest) => digest,
            Self::Blob(blob) => &blob.digest,
        }
    }
}

impl Audit {
    /// The name as it is recorded, with the platform.
    pub fn shown(&self) -> String {
        format!("{} ({})", self.row.name, self.row.platform)
    }

    /// The name by which a registry knows it, if it has one.
    pub fn reference(&self) -> Option<Reference> {
        record::name_of(&self.row).ok()?.map(|name| name.reference)
    }
}

impl Store {
    /// Every row, read. Their blobs are not looked at.
    pub fn audit(&self) -> Result<Vec<Audit>> {
        let audit = |row: ImageRow| {
            let read = audited(&row);
            Audit { row, read }
        };
        Ok(self.db.images().list()?.into_iter().map(audit).collect())
    }

    /// Whether the row is still there: others may remove it meanwhile.
    pub fn still_has(&self, audit: &Audit) -> Result<bool> {
        let rows = self.db.images().list()?;
        Ok(rows.iter().any(|row| (&row.name, &row.platform) == (&audit.row.name, &audit.row.platform)))
    }

    /// What is wrong between a row and the documents that it was made of, which are here and whole.
    pub fn disagreement(&self, audit: &Audit) -> Option<String> {
        match self.compare(&audit.row) {
            Ok(what) => what.map(|what| format!("its record and its manifest disagree about {what}")),
            Err(error) => Some(crate::error::chain(&error)),
        }
    }

    fn compare(&self, row: &ImageRow) -> Result<Option<&'static str>> {
        let facts = record::facts_of(row)?;
        let manifest = self.manifest(row, &facts.image.manifest)?;
        let config = self.content.read(&manifest.config.digest, MAX_CONFIG_BYTES)?;
        let described = kind::describe(&row.name, &facts.image.manifest.digest, &manifest, &config)?;
        let own = described.config.platform();
        let named = !own.os.is_empty() && !own.architecture.is_empty();
        Ok([
            (row.manifest != facts.image.manifest.digest.as_str(), "which manifest it is"),
            (manifest.config != facts.config, "the config"),
            (described.id != facts.image.id || row.config != described.id.as_str(), "the id"),
            (described.layers != facts.image.layers, "the layers"),
            (named && !same_platform(&own, &facts.image.platform), "the platform"),
            (row.platform != record::platform_key(&facts.image.platform), "the platform"),
            (row.index.as_deref() != facts.indexes.first().map(Digest::as_str), "the index"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what)))
    }

    fn manifest(&self, row: &ImageRow, descriptor: &Descriptor) -> Result<Manifest> {
        let refused =
            |source| Error::Document { reference: row.name.clone(), digest: descriptor.digest.clone(), source };
        let bytes = self.content.read(&descriptor.digest, MAX_MANIFEST_BYTES as u64)?;
        match Document::parse(&descriptor.media_type, &bytes).map_err(refused)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                Err(Error::Incomplete { reference: row.name.clone(), digest: descriptor.digest.clone() })
            }
        }
    }

    /// Fetches one part again from where `reference` is.
    pub async fn fetch_again(&self, client: &Client, reference: &Reference, part: &Part) -> Result<()> {
        let _lease = self.content.lease()?;
        match part {
            Part::Blob(blob) => Download::new(client, reference, &self.content).quietly(blob, &Silent).await,
            Part::Document(digest) => {
                let document = client.manifest(&reference.with_digest(digest), &|_, _| {}).await?;
                let mut ingest = self.content.ingest(&document.descriptor)?;
                ingest.append(&document.bytes)?;
                ingest.commit()?;
                Ok(())
            }
        }
    }

    /// Removes a row that nothing can be made of any more.
    pub fn forget(&self, audit: &Audit) -> Result<()> {
        self.db.images().remove(&[(&audit.row.name, &audit.row.platform)])?;
        Ok(())
    }

    /// The blobs that no record needs.
    pub fn unneeded(&self) -> Result<Vec<Digest>> {
        let blobs = self.content.blobs()?;
        let needed = self.needed(&self.db.images().list()?)?;
        Ok(blobs.into_iter().filter(|digest| !needed.contains(digest)).collect())
    }

    /// Removes the blobs that no record and nobody at work needs. How many, and their bytes.
    pub fn collect(&self) -> Result<(usize, u64)> {
        let (removed, freed) = self.collect_garbage(self.content.collection()?)?;
        Ok((removed.len(), freed))
    }
}

fn audited(row: &ImageRow) -> Result<Audited> {
    let facts = record::facts_of(row)?;
    let documents = facts.indexes.iter().chain([&facts.image.manifest.digest]).cloned().map(Part::Document);
    let blobs = facts.image.layers.iter().map(|layer| &layer.blob).chain([&facts.config]).cloned().map(Part::Blob);
    let parts = documents.chain(blobs).collect();
    Ok(Audited { image: facts.image, parts })
}

/// All spellings of WebAssembly are one.
fn same_platform(one: &Platform, other: &Platform) -> bool {
    record::platform_key(one) == record::platform_key(other) || one.satisfies(other) || other.satisfies(one)
}
