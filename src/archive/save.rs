//! Writing: several images into one archive. The same images make the same bytes.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde_json::{Value, json};

use super::{Error, NAME, REF_NAME, Result};
use crate::content;
use crate::image::{self, Image, Root};
use crate::oci::{Descriptor, Digest, Platform};
use crate::reference::Reference;

/// What a tar archive consists of.
const BLOCK: usize = 512;

/// What an archive will hold. While it lives none of its blobs is removed.
pub struct Plan {
    content: content::Store,
    index: Vec<Value>,
    docker: Vec<Value>,
    blobs: BTreeMap<Digest, u64>,
    lease: content::Lease,
}

/// Decides what goes into the archive of images, each by a name or an id, for these platforms or all that are here.
pub fn plan(images: &image::Store, content: &content::Store, names: &[String], platforms: &[Platform]) -> Result<Plan> {
    let lease = content.lease()?;
    let mut plan =
        Plan { content: content.clone(), index: Vec::new(), docker: Vec::new(), blobs: BTreeMap::new(), lease };
    for name in names {
        for root in images.roots(name, platforms)? {
            // By its id, an image is saved without a name.
            let reference = root.reference.as_ref().filter(|_| !is_id(name)).cloned();
            plan.add(&root, reference.as_ref());
        }
    }
    Ok(plan)
}

/// Whether what was typed can only be an id: a name would have been found first.
fn is_id(typed: &str) -> bool {
    let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
    hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Plan {
    fn add(&mut self, root: &Root, reference: Option<&Reference>) {
        let entry = entry(&root.descriptor, reference);
        if !self.index.contains(&entry) {
            self.index.push(entry);
        }
        for blob in &root.blobs {
            self.blobs.insert(blob.digest.clone(), blob.size);
        }
        // Docker's list knows no platforms: the one that a run would take.
        let host = root.images.iter().find(|image| image.platform().satisfies(&Platform::host()));
        if let Some(image) = host.or(root.images.first()) {
            self.add_docker(image, reference);
        }
    }

    fn add_docker(&mut self, image: &Image, reference: Option<&Reference>) {
        let path = |digest: &Digest| json!(path_of(digest));
        let config = path(image.id());
        // An artifact has no config that Docker's list could mean.
        if !self.blobs.contains_key(image.id()) {
            return;
        }
        let at = self.docker.iter().position(|entry| entry["Config"] == config).unwrap_or_else(|| {
            let layers: Vec<Value> = image.layers().iter().map(|layer| path(&layer.blob.digest)).collect();
            self.docker.push(json!({ "Config": config, "RepoTags": [], "Layers": layers }));
            self.docker.len() - 1
        });
        let tag = reference.filter(|reference| reference.tag().is_some()).map(|name| json!(name.familiar()));
        if let (Some(tag), Value::Array(tags)) = (tag, &mut self.docker[at]["RepoTags"])
            && !tags.contains(&tag)
        {
            tags.push(tag);
        }
    }

    /// The blobs that have to be fetched before it can be written: they were not kept.
    pub fn missing(&self) -> Vec<Descriptor> {
        let missing = self.blobs.iter().filter(|(digest, _)| !self.content.has(digest));
        missing.map(|(digest, size)| Descriptor::new(Default::default(), digest.clone(), *size)).collect()
    }

    /// What keeps its blobs here.
    pub fn lease(&self) -> &content::Lease {
        &self.lease
    }

    /// Writes the archive. Where `output` is a file below its buffer, the kernel copies blobs by itself.
    pub fn write(&self, mut output: impl Write) -> Result<()> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.index,
        });
        document(&mut output, "oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
        document(&mut output, "index.json", &index)?;
        document(&mut output, "manifest.json", &json!(self.docker))?;
        for (digest, size) in &self.blobs {
            let file = self.content.open_blob(digest)?;
            // More or less than the header says would be read as the next member.
            let copied = member(&mut output, &path_of(digest), *size, file.take(*size))?;
            if copied != *size {
                let digest = digest.clone();
                return Err(content::Error::Size { digest, expected: *size, actual: copied }.into());
            }
        }
        output.write_all(&[0; 2 * BLOCK]).and_then(|()| output.flush()).map_err(Error::Write)
    }
}

/// What an index says of one of its images.
fn entry(descriptor: &Descriptor, reference: Option<&Reference>) -> Value {
    let mut entry = json!(descriptor);
    if let Some(reference) = reference {
        entry["annotations"][NAME] = json!(reference.to_string());
        if let Some(tag) = reference.tag() {
            entry["annotations"][REF_NAME] = json!(tag);
        }
    }
    entry
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn header(path: &str, size: u64) -> Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).map_err(Error::Write)?;
    header.set_mode(0o444);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Writes one member, and returns how much data it had.
fn member<R: Read, W: Write>(output: &mut W, path: &str, size: u64, mut data: R) -> Result<u64> {
    let header = header(path, size)?;
    let mut write = || {
        output.write_all(header.as_bytes())?;
        // Of types that the standard library knows, so that it is the kernel that copies.
        let copied = std::io::copy(&mut data, output)?;
        output.write_all(&[0; BLOCK][..padding(copied)])?;
        Ok(copied)
    };
    write().map_err(Error::Write)
}

/// How many bytes of a member's last block are not its own.
fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

fn document(output: &mut impl Write, path: &str, value: &Value) -> Result<()> {
    let bytes = value.to_string();
    member(output, path, bytes.len() as u64, bytes.as_bytes()).map(drop)
}
