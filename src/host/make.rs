//! Images made here: of an archive of files (`import`), or of what a container changed (`commit`).
//!
//! The layer's bytes pass once: hashed as they are, hashed as they are without compression, and written. It is unpacked
//! before the image has a name, so what cannot be a layer is refused and nothing of it stays visible.

use std::io::{self, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::Host;
#[cfg(target_os = "linux")]
use crate::container::{self, Container};
use crate::content::Unnamed;
use crate::error::{Failure, Kind};
use crate::image::change;
use crate::oci::{Descriptor, Digest, Hasher, MediaType, Platform};
use crate::reference::Reference;
use crate::{content, snapshot};

/// How many bytes are read at a time.
const PIECE: usize = 256 << 10;

/// What is said of a new image.
#[derive(Clone, Debug, Default)]
pub struct Making {
    /// Its name, if it gets one.
    pub reference: Option<Reference>,
    /// Who makes it.
    pub author: String,
    /// A comment; none for the usual one.
    pub message: Option<String>,
    /// Instructions that change its config.
    pub changes: Vec<String>,
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error(transparent)]
    Change(#[from] change::Invalid),
    #[error("cannot read {from}")]
    Read { from: String, source: io::Error },
    #[error("cannot write the layer")]
    Write { source: io::Error },
    #[error("{from} is no archive of files")]
    Archive { from: String, source: snapshot::Error },
    #[error("the image {image} of container {container} is not here any more: there is nothing to put the changes on")]
    NoBase { container: String, image: String },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Change(source) => source.kind(),
            Self::Read { source, .. } | Self::Write { source } => Kind::of_io(source),
            Self::Archive { source, .. } => source.kind(),
            Self::NoBase { .. } => Kind::FailedPrecondition,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoBase { .. } => Some("pull the image again, or `wherry export` the container".to_owned()),
            _ => None,
        }
    }
}

impl Host {
    /// Makes an image of one layer, the archive `input`, which may be compressed. Its id.
    pub fn import(
        &self,
        input: Box<dyn Read + Send>,
        from: &str,
        platform: &Platform,
        making: &Making,
    ) -> Result<Digest, super::Error> {
        let mut exec = Map::new();
        change_all(&mut exec, &making.changes)?;
        let lease = self.content()?.lease()?;
        let (layer, diff_id) = self.take_in(input, from)?;
        let message = making.message.clone().unwrap_or_else(|| format!("Imported from {from}"));
        let now = jiff::Timestamp::now().to_string();
        let mut config = json!({
            "architecture": platform.architecture, "os": platform.os, "created": now, "config": exec,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": now, "comment": message}],
        });
        if let Some(variant) = &platform.variant {
            config["variant"] = json!(variant);
        }
        let ready = self.images()?.make(None, Some(layer), &config)?;
        let unpacked = self.snapshots()?.unpack(self.content()?, ready.image.layers(), &());
        unpacked.map_err(|source| Error::Archive { from: from.to_owned(), source })?;
        let id = self.images()?.register(ready, making.reference.as_ref())?.id().clone();
        drop(lease);
        let name = making.reference.as_ref().map_or_else(|| id.to_string(), Reference::familiar);
        self.note_image("import", id.as_str(), &name);
        Ok(id)
    }

    /// Makes an image of a container: of its image, and what the container changed in it. Its id.
    #[cfg(target_os = "linux")]
    pub fn commit(&self, container: &Container, pause: bool, making: &Making) -> Result<Digest, super::Error> {
        let record = &container.record;
        // Before anything stands still for it: whether the instructions can be followed.
        change_all(&mut Map::new(), &making.changes)?;
        let _lease = self.content()?.lease()?;
        let platform = record.platform.parse().ok();
        let base = self.images()?.get(record.image_id.as_str(), platform.as_ref())?;
        let no_base = || Error::NoBase { container: container.name.clone(), image: record.image.clone() };
        let base = base.ok_or_else(no_base)?;
        let mut config = self.images()?.config_of(&base)?;
        let layer = self.changed(container, pause)?;
        describe(&mut config, container, making, layer.as_ref().map(|(_, diff_id)| diff_id))?;
        let ready = self.images()?.make(Some(&base), layer.map(|(blob, _)| blob), &config)?;
        self.snapshots()?.unpack(self.content()?, ready.image.layers(), &())?;
        let id = self.images()?.register(ready, making.reference.as_ref())?.id().clone();
        let name = making.reference.as_ref().map_or_else(String::new, Reference::familiar);
        let comment = making.message.as_deref().unwrap_or_default();
        self.containers()?.note_commit(container, id.as_str(), &name, comment);
        Ok(id)
    }

    /// What a container changed, as a blob, and its digest before compression; nothing for no change.
    #[cfg(target_os = "linux")]
    fn changed(&self, container: &Container, pause: bool) -> Result<Option<(Descriptor, Digest)>, super::Error> {
        let mut layer = Packed::new(self.content()?.ingest_unnamed()?);
        let entries = self.containers()?.changes(container, pause, &mut layer).map_err(Box::new)?;
        if entries == 0 {
            return Ok(None);
        }
        layer.finish().map(Some)
    }

    /// Takes in an archive as it is, and finds out its digest without compression.
    fn take_in(&self, input: Box<dyn Read + Send>, from: &str) -> Result<(Descriptor, Digest), super::Error> {
        let kept = Arc::new(Mutex::new(Some(self.content()?.ingest_unnamed()?)));
        let tee = Tee { input: input.take(snapshot::MAX_OUTPUT), kept: kept.clone() };
        let diff_id = plain_digest(Box::new(tee)).map_err(|source| Error::Read { from: from.to_owned(), source })?;
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let blob = kept.expect("nobody else takes it").commit()?;
        let media_type = match self.content()?.beginning(blob.digest())?[..] {
            [0x1f, 0x8b, ..] => MediaType::LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => MediaType::LAYER_ZSTD,
            _ => MediaType::LAYER,
        };
        Ok((Descriptor::new(media_type.into(), blob.digest().clone(), blob.size()), diff_id))
    }
}

/// The digest of what compressed bytes are without compression.
fn plain_digest(input: Box<dyn Read + Send>) -> io::Result<Digest> {
    let mut plain = snapshot::inflate(BufReader::with_capacity(PIECE, input))?;
    let (mut hasher, mut buffer, mut length) = (Hasher::sha256(), vec![0; PIECE], 0u64);
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                length += read as u64;
                if length > snapshot::MAX_OUTPUT {
                    return Err(io::Error::from(io::ErrorKind::FileTooLarge));
                }
                hasher.update(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes that are kept as they are read.
struct Tee {
    /// It ends where a layer must: what is compressed may go on without ever becoming anything.
    input: io::Take<Box<dyn Read + Send>>,
    kept: Arc<Mutex<Option<Unnamed>>>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            kept.append(&buffer[..read]).map_err(of_content)?;
        }
        Ok(read)
    }
}

fn of_content(error: content::Error) -> io::Error {
    match error {
        content::Error::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// A layer that is compressed while it is written.
#[cfg(target_os = "linux")]
struct Packed {
    encoder: flate2::write::GzEncoder<Sink>,
    hasher: Hasher,
}

#[cfg(target_os = "linux")]
impl Packed {
    fn new(blob: Unnamed) -> Self {
        // The fastest that compresses at all: the third of the size for the time of hashing it.
        Self {
            encoder: flate2::write::GzEncoder::new(Sink(blob), flate2::Compression::fast()),
            hasher: Hasher::sha256(),
        }
    }

    fn finish(self) -> Result<(Descriptor, Digest), super::Error> {
        let Sink(blob) = self.encoder.finish().map_err(|source| Error::Write { source })?;
        let blob = blob.commit()?;
        let descriptor = Descriptor::new(MediaType::LAYER_GZIP.into(), blob.digest().clone(), blob.size());
        Ok((descriptor, self.hasher.finish()))
    }
}

#[cfg(target_os = "linux")]
impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.encoder.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
struct Sink(Unnamed);

#[cfg(target_os = "linux")]
impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|()| bytes.len()).map_err(of_content)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn change_all(exec: &mut Map<String, Value>, changes: &[String]) -> Result<(), Error> {
    Ok(changes.iter().try_for_each(|line| change::apply(exec, line))?)
}

/// Makes of the image's config that of the new one.
#[cfg(target_os = "linux")]
fn describe(
    config: &mut Value,
    container: &Container,
    making: &Making,
    layer: Option<&Digest>,
) -> Result<(), super::Error> {
    let now = jiff::Timestamp::now().to_string();
    let record = &container.record.config;
    let mut exec = config["config"].as_object().cloned().unwrap_or_default();
    run_as(&mut exec, record);
    change_all(&mut exec, &making.changes)?;
    config["config"] = Value::Object(exec);
    config["created"] = json!(now);
    if !making.author.is_empty() {
        config["author"] = json!(making.author);
    }
    // What older dockers wrote of the container that an image came from is not true of this one.
    if let Some(fields) = config.as_object_mut() {
        fields.retain(|key, _| !matches!(key.as_str(), "container" | "container_config" | "id" | "parent"));
    }
    let mut step = json!({"created": now, "created_by": record.command().join(" ")});
    let said = [("author", Some(&making.author)), ("comment", making.message.as_ref())];
    for (key, text) in
        said.into_iter().filter_map(|(key, text)| Some((key, text?))).filter(|(_, text)| !text.is_empty())
    {
        step[key] = json!(text);
    }
    match layer {
        None => step["empty_layer"] = json!(true),
        Some(diff_id) => append(&mut config["rootfs"]["diff_ids"], json!(diff_id)),
    }
    append(&mut config["history"], step);
    Ok(())
}

fn append(list: &mut Value, value: Value) {
    match list {
        Value::Array(list) => list.push(value),
        other => *other = json!([value]),
    }
}

/// What the container was told to run, as the image's defaults.
#[cfg(target_os = "linux")]
fn run_as(exec: &mut Map<String, Value>, config: &container::Config) {
    let text = |text: &str| (!text.is_empty()).then(|| json!(text));
    let list = |list: &[String]| (!list.is_empty()).then(|| json!(list));
    let fields = [
        ("Cmd", list(&config.cmd)),
        ("Entrypoint", list(&config.entrypoint)),
        ("Env", list(&config.env)),
        ("User", text(&config.user)),
        ("WorkingDir", text(&config.working_dir)),
        ("StopSignal", text(&config.stop_signal)),
        ("Labels", (!config.labels.is_empty()).then(|| json!(config.labels))),
        ("ExposedPorts", (!config.exposed_ports.is_empty()).then(|| json!(config.exposed_ports))),
    ];
    for (key, value) in fields {
        match value {
            Some(value) => drop(exec.insert(key.to_owned(), value)),
            None => drop(exec.remove(key)),
        }
    }
}
