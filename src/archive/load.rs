//! Reading: blobs as they come, then what they mean.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Error, MAX_DOCUMENT, MAX_IMAGES, MAX_MEMBERS, NAME, REF_NAME, Result, refused};
use crate::content::{self, Blob, Lease};
use crate::image::{self, Ready};
use crate::oci::{Descriptor, Digest, Index, Manifest, MediaType};
use crate::reference::Reference;
use crate::snapshot::inflate;
use crate::snapshot::tar::{self, Kind, Reader};

/// How much is read at a time.
const BUFFER: usize = 256 << 10;

/// How deep a directory is looked into: blobs are at `blobs/sha256/<hex>`.
const MAX_DIRECTORIES: usize = 4;

/// How many symlinks of an archive are followed to a layer.
const MAX_LINKS: usize = 8;

/// What an archive held: images whose blobs are here, to be recorded. Until then nobody collects those.
pub struct Loaded {
    /// Each image, with its names; none if the archive gives it none.
    pub images: Vec<(Ready, Vec<Reference>)>,
    /// Keeps the blobs.
    pub lease: Lease,
}

/// An entry of Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// Reads an archive, plain or compressed.
pub fn load(images: &image::Store, content: &content::Store, input: Box<dyn Read + Send>) -> Result<Loaded> {
    let lease = content.lease()?;
    let input = inflate(BufReader::with_capacity(BUFFER, input)).map_err(Error::Read)?;
    let mut members = Members::new(content);
    let mut archive = Reader::new(BufReader::with_capacity(BUFFER, input)).with_max_entries(MAX_MEMBERS);
    while let Some(entry) = archive.next() {
        members.take(&entry?, &mut archive)?;
    }
    Ok(Loaded { images: members.images(images)?, lease })
}

/// Reads an image layout that lies in a directory of the user's own.
pub fn load_directory(images: &image::Store, content: &content::Store, root: &Path) -> Result<Loaded> {
    let lease = content.lease()?;
    let mut members = Members::new(content);
    let mut ahead = vec![PathBuf::new()];
    let mut count = 0;
    while let Some(inside) = ahead.pop() {
        for entry in std::fs::read_dir(root.join(&inside)).map_err(Error::Read)? {
            let name = inside.join(entry.map_err(Error::Read)?.file_name());
            let metadata = std::fs::metadata(root.join(&name)).map_err(Error::Read)?;
            count += 1;
            if count > MAX_MEMBERS {
                return refused(format!("the directory has more than {MAX_MEMBERS} files"));
            }
            // Docker's list, if somebody has unpacked an archive here, is not kept up by the tools for layouts.
            if metadata.is_file() && name != Path::new("manifest.json") {
                let file = std::fs::File::open(root.join(&name)).map_err(Error::Read)?;
                let member = member_name(name.as_os_str().as_encoded_bytes())?;
                members.file(member, metadata.len(), &mut BufReader::with_capacity(BUFFER, file))?;
            } else if metadata.is_dir() && name.components().count() < MAX_DIRECTORIES {
                ahead.push(name);
            }
        }
    }
    Ok(Loaded { images: members.images(images)?, lease })
}

/// What came out of an archive so far.
struct Members<'a> {
    content: &'a content::Store,
    /// `index.json` and the like, by their names.
    documents: HashMap<String, Vec<u8>>,
    /// Blobs by the names that their members had.
    blobs: HashMap<String, Blob>,
    links: HashMap<String, String>,
}

impl<'a> Members<'a> {
    fn new(content: &'a content::Store) -> Self {
        Self { content, documents: HashMap::new(), blobs: HashMap::new(), links: HashMap::new() }
    }

    fn take<R: BufRead>(&mut self, entry: &tar::Entry, archive: &mut Reader<R>) -> Result<()> {
        let name = member_name(&entry.path)?;
        match &entry.kind {
            Kind::Directory => Ok(()),
            Kind::File { sparse: Some(_), .. } => refused(format!("{name:?} is a sparse file")),
            Kind::File { size, sparse: None } => self.file(name, *size, archive),
            Kind::Symlink(target) | Kind::Link(target) => {
                let text = String::from_utf8_lossy(target).into_owned();
                self.links.insert(name, text);
                Ok(())
            }
            _ => refused(format!("{name:?} is neither a file nor a directory")),
        }
    }

    fn file(&mut self, name: String, size: u64, archive: &mut dyn Chunks) -> Result<()> {
        match name.as_str() {
            "index.json" | "manifest.json" | "oci-layout" => {
                if size > MAX_DOCUMENT {
                    return refused(format!("{name} has {size} bytes, more than {MAX_DOCUMENT}"));
                }
                let mut bytes = Vec::new();
                each_chunk(archive, |chunk| {
                    bytes.extend_from_slice(chunk);
                    Ok(())
                })?;
                match self.documents.insert(name.clone(), bytes) {
                    Some(_) => refused(format!("{name} is there twice")),
                    None => Ok(()),
                }
            }
            // What older versions of Docker wrote beside each layer, and nothing reads.
            "repositories" => Ok(()),
            _ if name.ends_with("/json") || name.ends_with("/VERSION") => Ok(()),
            _ => {
                let blob = match digest_of(&name)? {
                    Some(digest) => self.announced(&digest, size, archive)?,
                    None => self.unannounced(archive)?,
                };
                match self.blobs.insert(name.clone(), blob) {
                    Some(_) => refused(format!("{name} is there twice")),
                    None => Ok(()),
                }
            }
        }
    }

    /// A blob whose name says its digest.
    fn announced(&self, digest: &Digest, size: u64, archive: &mut dyn Chunks) -> Result<Blob> {
        let descriptor = Descriptor::new(MediaType::default(), digest.clone(), size);
        if let Some(blob) = self.content.blob(digest) {
            // It is here, verified when it came.
            return Ok(blob);
        }
        let mut ingest = self.content.ingest(&descriptor)?;
        each_chunk(archive, |chunk| Ok(ingest.append(chunk)?))?;
        Ok(ingest.commit()?)
    }

    /// A blob whose digest is not known before.
    fn unannounced(&self, archive: &mut dyn Chunks) -> Result<Blob> {
        let mut ingest = self.content.ingest_unnamed()?;
        each_chunk(archive, |chunk| Ok(ingest.append(chunk)?))?;
        Ok(ingest.commit()?)
    }

    fn images(&self, images: &image::Store) -> Result<Vec<(Ready, Vec<Reference>)>> {
        let loaded = match (self.documents.get("index.json"), self.documents.get("manifest.json")) {
            (Some(index), list) => self.of_layout(images, index, list.map(Vec::as_slice))?,
            (None, Some(list)) => self.of_docker(images, list, |_| true)?,
            (None, None) => return Err(Error::Missing { member: "index.json or manifest.json".to_owned() }),
        };
        match loaded.len() {
            0 => refused("it holds no images"),
            more if more > MAX_IMAGES => refused(format!("it holds more than {MAX_IMAGES} images")),
            _ => Ok(merged(loaded)),
        }
    }

    /// What the index lists, and of Docker's list beside it what has no name.
    fn of_layout(
        &self,
        images: &image::Store,
        index: &[u8],
        list: Option<&[u8]>,
    ) -> Result<Vec<(Ready, Vec<Reference>)>> {
        let index = parse::<Index>("index.json", index)?;
        if index.manifests.len() > MAX_IMAGES {
            return refused(format!("index.json lists more than {MAX_IMAGES} images"));
        }
        let mut loaded = Vec::new();
        for entry in &index.manifests {
            let names = names_of(&entry.annotations)?;
            let shown = names.first().map_or_else(|| entry.digest.to_string(), Reference::familiar);
            if !self.content.has(&entry.digest) {
                return Err(Error::Missing { member: format!("the manifest {}", entry.digest) });
            }
            let ready = images.ready(&shown, entry)?;
            ready.iter().try_for_each(|ready| check_names(&names, ready))?;
            loaded.extend(ready.into_iter().map(|ready| (ready, names.clone())));
        }
        if let Some(list) = list {
            let nameless = self.of_docker(images, list, |entry| self.is_left_out(entry, &loaded))?;
            loaded.extend(nameless);
            self.check_agreement(list, &loaded)?;
        }
        Ok(loaded)
    }

    /// Docker's list beside an index may leave images out, but not name others: another tool would load those instead.
    fn check_agreement(&self, list: &[u8], loaded: &[(Ready, Vec<Reference>)]) -> Result<()> {
        for entry in parse::<Vec<DockerEntry>>("manifest.json", list)? {
            let config = self.member(&entry.config)?.digest();
            if !loaded.iter().any(|(ready, _)| ready.config() == config) {
                return refused(format!("manifest.json lists the config {config}, which no image of index.json has"));
            }
        }
        Ok(())
    }

    /// Whether Docker's index beside its list lacks an image: that of Docker 28 lacks those without a name, if there are
    /// others with one.
    fn is_left_out(&self, entry: &DockerEntry, loaded: &[(Ready, Vec<Reference>)]) -> bool {
        let known = |config: &Digest| loaded.iter().any(|(ready, _)| ready.config() == config);
        let config = member_name(entry.config.as_bytes()).ok().and_then(|name| self.blobs.get(&name));
        entry.repo_tags.iter().flatten().next().is_none() && config.is_some_and(|blob| !known(blob.digest()))
    }

    fn of_docker(
        &self,
        images: &image::Store,
        list: &[u8],
        wanted: impl Fn(&DockerEntry) -> bool,
    ) -> Result<Vec<(Ready, Vec<Reference>)>> {
        let entries = parse::<Vec<DockerEntry>>("manifest.json", list)?;
        if entries.len() > MAX_IMAGES {
            return refused(format!("manifest.json lists more than {MAX_IMAGES} images"));
        }
        let mut loaded = Vec::new();
        for entry in entries.into_iter().filter(wanted) {
            let tags = entry.repo_tags.iter().flatten();
            let names =
                tags.map(|name| Ok(name.parse().map_err(image::Error::from)?)).collect::<Result<Vec<Reference>>>()?;
            let shown = names.first().map_or_else(|| entry.config.clone(), Reference::familiar);
            let manifest = self.manifest(&entry)?;
            let ready = images.ready(&shown, &manifest)?;
            ready.iter().try_for_each(|ready| check_names(&names, ready))?;
            loaded.extend(ready.into_iter().map(|ready| (ready, names.clone())));
        }
        Ok(loaded)
    }

    /// The manifest that Docker's list leaves out: of the config and the layers as they are in the archive.
    fn manifest(&self, entry: &DockerEntry) -> Result<Descriptor> {
        let config = self.member(&entry.config)?;
        let layers = entry.layers.iter().map(|name| self.layer(name)).collect::<Result<Vec<_>>>()?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(MediaType::CONFIG.into(), config.digest().clone(), config.size()),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).expect("plain data serialises");
        let descriptor = Descriptor::new(MediaType::MANIFEST.into(), Digest::sha256(&bytes), bytes.len() as u64);
        self.content.put(&descriptor, &bytes)?;
        Ok(descriptor)
    }

    fn layer(&self, name: &str) -> Result<Descriptor> {
        let blob = self.member(name)?;
        let media_type = match self.content.beginning(blob.digest())?[..] {
            [0x1f, 0x8b, ..] => MediaType::LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => MediaType::LAYER_ZSTD,
            [0, b'a', b's', b'm', ..] => MediaType::WASM,
            _ => MediaType::LAYER,
        };
        Ok(Descriptor::new(media_type.into(), blob.digest().clone(), blob.size()))
    }

    /// A blob by its member's name, through the symlinks that Docker wrote for layers that images share.
    fn member(&self, name: &str) -> Result<&Blob> {
        let mut at = member_name(name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            if let Some(blob) = self.blobs.get(&at) {
                return Ok(blob);
            }
            let Some(target) = self.links.get(&at) else { break };
            let dir = at.rsplit_once('/').map_or("", |(dir, _)| dir);
            at = resolved(dir, target).ok_or_else(|| Error::Refused {
                what: format!("{at:?} is a link to {target:?}, which is not in the archive"),
            })?;
        }
        Err(Error::Missing { member: name.to_owned() })
    }
}

/// A name with a digest is the name of what has that digest, and of nothing else.
fn check_names(names: &[Reference], ready: &Ready) -> Result<()> {
    let manifest = &ready.image.manifest().digest;
    let is_not = |digest: &Digest| digest != manifest && !ready.indexes.contains(digest);
    match names.iter().find(|name| name.digest().is_some_and(is_not)) {
        Some(name) => refused(format!("{manifest} is named {}, which is the name of another", name.familiar())),
        None => Ok(()),
    }
}

/// A member's data, piece by piece.
trait Chunks {
    /// The next piece; empty at the end.
    fn piece(&mut self) -> Result<&[u8]>;

    /// Marks so much of it as taken.
    fn taken(&mut self, length: usize);
}

impl<R: BufRead> Chunks for Reader<R> {
    fn piece(&mut self) -> Result<&[u8]> {
        Ok(self.chunk()?)
    }

    fn taken(&mut self, length: usize) {
        self.consume(length);
    }
}

impl Chunks for BufReader<std::fs::File> {
    fn piece(&mut self) -> Result<&[u8]> {
        self.fill_buf().map_err(Error::Read)
    }

    fn taken(&mut self, length: usize) {
        self.consume(length);
    }
}

/// Hands over the data of the current member.
fn each_chunk(member: &mut dyn Chunks, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    loop {
        let chunk = member.piece()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let length = chunk.len();
        take(chunk)?;
        member.taken(length);
    }
}

/// A member's name, without what means nothing. It never becomes a path, so that what leads out is only a sign of ill
/// will.
fn member_name(path: &[u8]) -> Result<String> {
    let Ok(text) = std::str::from_utf8(path) else { return refused("a member's name is not UTF-8") };
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return refused(format!("the member {text:?} leads out of the archive"));
    }
    Ok(text.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/"))
}

/// Where a relative link leads, within the archive.
fn resolved(dir: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The digest that a blob's name says, if it is a blob of an image layout.
fn digest_of(name: &str) -> Result<Option<Digest>> {
    let Some((algorithm, hex)) = name.strip_prefix("blobs/").and_then(|rest| rest.split_once('/')) else {
        return Ok(None);
    };
    match format!("{algorithm}:{hex}").parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(error) => refused(format!("{name:?} is no blob: {error}")),
    }
}

/// The name that an index's entry is given: the whole one, or what other tools write as one.
fn names_of(annotations: &BTreeMap<String, String>) -> Result<Vec<Reference>> {
    if let Some(name) = annotations.get(NAME) {
        return Ok(vec![name.parse().map_err(image::Error::from)?]);
    }
    // A mere tag is no name; and any text is allowed there.
    let whole = annotations.get(REF_NAME).filter(|name| name.contains(['/', ':']));
    Ok(whole.and_then(|name| name.parse().ok()).into_iter().collect())
}

fn parse<T: for<'de> Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).or_else(|error| refused(format!("{name} cannot be read: {error}")))
}

/// An image that is listed under several names comes once.
fn merged(loaded: Vec<(Ready, Vec<Reference>)>) -> Vec<(Ready, Vec<Reference>)> {
    let mut merged: Vec<(Ready, Vec<Reference>)> = Vec::new();
    for (ready, names) in loaded {
        let same = merged.iter_mut().find(|(known, _)| {
            known.image.manifest().digest == ready.image.manifest().digest && known.indexes == ready.indexes
        });
        match same {
            Some((_, known)) => {
                known.extend(names.into_iter().filter(|name| !known.contains(name)).collect::<Vec<_>>())
            }
            None => merged.push((ready, names)),
        }
    }
    merged
}
