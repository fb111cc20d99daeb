//! What can go wrong with images.

use crate::error::{Failure, Kind};
use crate::oci::{Digest, InvalidDocument, MediaType, Platform};
use crate::{content, reference, registry, state, trust};

use super::{MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_INDEX_ENTRIES};

/// Why an image could not be pulled, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The signature policy does not admit it.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// It could not be stored, or was not what its digest says.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// It could not be recorded or looked up.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A name that is no reference.
    #[error(transparent)]
    Reference(#[from] reference::Error),
    /// A part of it is not here.
    #[error("{reference} is not here as a whole: {digest} is missing")]
    Incomplete {
        /// The image.
        reference: String,
        /// What is missing.
        digest: Digest,
    },
    /// A blob was not kept, and cannot be had again.
    #[error("{digest} was not kept once it was unpacked, and cannot be fetched again from {from}")]
    Gone {
        /// The blob.
        digest: Digest,
        /// The repositories that were asked.
        from: String,
        /// What the last of them said.
        source: Box<Error>,
    },
    /// Whoever read the layers as they came wants no more of them, and knows why.
    #[error("the layers are not wanted any more")]
    Abandoned,
    /// A manifest or index that cannot be read.
    #[error("the manifest {digest} of {reference} is refused")]
    Document {
        /// What was pulled.
        reference: String,
        /// The document.
        digest: Digest,
        /// Why.
        source: InvalidDocument,
    },
    /// A document of another size than the index says.
    #[error("the manifest {digest} of {reference} has {actual} bytes, and its index says {expected}")]
    DocumentSize {
        /// What was pulled.
        reference: String,
        /// The document.
        digest: Digest,
        /// What the index says.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// Indexes in indexes in indexes.
    #[error("{reference} is an index of indexes, more than {MAX_INDEX_DEPTH} deep")]
    IndexDepth {
        /// What was pulled.
        reference: String,
    },
    /// An index that lists too much.
    #[error("the index of {reference} lists {entries} manifests; at most {MAX_INDEX_ENTRIES} are accepted")]
    IndexEntries {
        /// What was pulled.
        reference: String,
        /// How many.
        entries: usize,
    },
    /// An index that has nothing for the platform.
    #[error("no matching manifest for {wanted} in {reference}, which has {available}", available = join(available))]
    NoPlatform {
        /// What was pulled.
        reference: String,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// Those that there are.
        available: Vec<Platform>,
    },
    /// One image, for another platform.
    #[error(
        "image with reference {reference} was found but does not provide the specified platform ({wanted}): it is for {actual}"
    )]
    WrongPlatform {
        /// What was pulled.
        reference: String,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// The image's.
        actual: Box<Platform>,
    },
    /// WebAssembly for a host of another kind.
    #[error("{reference} cannot be run here: {why}")]
    Foreign {
        /// What was pulled.
        reference: String,
        /// What it is.
        why: &'static str,
    },
    /// A component that needs what is not offered.
    #[error("{reference} cannot be run here: it imports what is not offered: {}", named(imports))]
    Imports {
        /// What was pulled.
        reference: String,
        /// The names.
        imports: Vec<String>,
    },
    /// A layer that says it is WebAssembly and is not.
    #[error("layer {digest} of {reference} is refused: {reason}")]
    Program {
        /// What was pulled.
        reference: String,
        /// The layer.
        digest: Digest,
        /// What is wrong with its bytes.
        reason: String,
    },
    /// An entry point with a function after `#`, as runwasi has it.
    #[error("{reference} wants to start at {entry:?}: the function cannot be chosen, a program begins where WASI says")]
    Function {
        /// What was pulled.
        reference: String,
        /// The first word of its command.
        entry: String,
    },
    /// A config that is no kind of image.
    #[error("{reference} is not an image that can be run: its config has the media type {media_type}")]
    ConfigType {
        /// What was pulled.
        reference: String,
        /// The config's type.
        media_type: MediaType,
    },
    /// A config larger than is read.
    #[error("the config of {reference} has {size} bytes; at most {MAX_CONFIG_BYTES} are accepted")]
    ConfigSize {
        /// What was pulled.
        reference: String,
        /// How many.
        size: u64,
    },
    /// A config that does not parse.
    #[error("the config of {reference} is not valid")]
    Config {
        /// What was pulled.
        reference: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A layer that is no filesystem and no WebAssembly.
    #[error("layer {number} of {reference} has the media type {media_type}, which cannot be unpacked")]
    LayerType {
        /// What was pulled.
        reference: String,
        /// Which layer, from 1.
        number: usize,
        /// Its type.
        media_type: MediaType,
    },
    /// Config and manifest disagree about the layers.
    #[error("{reference} has {layers} layers, and its config describes {described}")]
    LayerCount {
        /// What was pulled.
        reference: String,
        /// In the manifest.
        layers: usize,
        /// In the config.
        described: usize,
    },
    /// A Wasm artifact with any other number of modules than one.
    #[error(
        "the Wasm artifact {reference} must have exactly one WebAssembly layer, and has {layers} layers: several programs are not put together here, compose them into one component first"
    )]
    WasmLayers {
        /// What was pulled.
        reference: String,
        /// How many layers.
        layers: usize,
    },
    /// A Wasm artifact whose config describes another layer.
    #[error("the config of the Wasm artifact {reference} describes another layer than the one it has")]
    WasmDigest {
        /// What was pulled.
        reference: String,
    },
    /// A record that this build cannot read.
    #[error("the record of image {name} cannot be read: {reason}")]
    Record {
        /// The image's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A manifest list that is there, and was not to be amended.
    #[error("refusing to amend an existing manifest list with no --amend flag")]
    ListExists,
    /// No manifest list of that name is being put together.
    #[error("No such manifest: {name}")]
    NoList {
        /// The list.
        name: String,
    },
    /// A list where one image is meant.
    #[error("{name} is a manifest list")]
    IsList {
        /// What was typed.
        name: String,
    },
    /// A list does not have the image.
    #[error("manifest for image {image} does not exist in {list}")]
    NotInList {
        /// The image.
        image: String,
        /// The list.
        list: String,
    },
    /// A platform that nothing is built for.
    #[error("manifest entry for image has unsupported os/arch combination: {os}/{architecture}")]
    UnknownPlatform {
        /// The operating system.
        os: String,
        /// The processor.
        architecture: String,
    },
    /// An image of a list that does not say what it is for.
    #[error("manifest {image} must have an OS and Architecture to be pushed to a registry")]
    NoOsArch {
        /// The image.
        image: String,
    },
    /// A list of images that are elsewhere.
    #[error("cannot use source images from a different registry than the target image: {source_registry} != {target}")]
    OtherRegistry {
        /// The image's.
        source_registry: String,
        /// The list's.
        target: String,
    },
    /// There is nothing of that name to push.
    #[error("An image does not exist locally with the tag: {name}")]
    NothingToPush {
        /// What was to be pushed.
        name: String,
    },
    /// Nothing of that name or id.
    #[error("No such image: {name}")]
    NotFound {
        /// What was typed, with the tag that it means.
        name: String,
    },
    /// The beginning of several ids.
    #[error("{id:?} is the beginning of several images' ids: {}", matches.join(", "))]
    AmbiguousId {
        /// What was typed.
        id: String,
        /// The ids.
        matches: Vec<String>,
    },
    /// Removal by id of an image that has several names.
    #[error("conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories")]
    SeveralNames {
        /// The id as shown.
        id: String,
        /// Its names.
        names: Vec<String>,
    },
    /// Removal of an image that a container is made of.
    #[error("conflict: unable to delete {id} ({}) - image is being used by {} container {container}", if *running { "cannot be forced" } else { "must be forced" }, if *running { "running" } else { "stopped" })]
    InUse {
        /// The id as shown.
        id: String,
        /// The container.
        container: String,
        /// Whether it runs.
        running: bool,
    },
    /// Removal of the last name of an image that a container is made of.
    #[error(
        "conflict: unable to remove repository reference {name:?} (must force) - container {container} is using its referenced image {id}"
    )]
    NameInUse {
        /// The name as typed.
        name: String,
        /// The container.
        container: String,
        /// The image's id as shown.
        id: String,
    },
}

impl Error {
    /// That nothing has this name or id; or that it can be neither.
    pub fn not_found(typed: &str) -> Self {
        let is_id = typed.len() == 64 && typed.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match typed.parse::<reference::Reference>() {
            Ok(reference) => Self::NotFound { name: reference.familiar() },
            Err(_) if is_id => Self::NotFound { name: typed.to_owned() },
            Err(error) => Self::Reference(error),
        }
    }
}

/// What this room returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The most names of imports that are told.
const MAX_NAMES: usize = 20;

/// A stranger's names, as many as a person reads.
fn named(imports: &[String]) -> String {
    let mut names: Vec<String> = imports.iter().take(MAX_NAMES).map(|name| name.chars().take(100).collect()).collect();
    if imports.len() > MAX_NAMES {
        names.push(format!("and {} more", imports.len() - MAX_NAMES));
    }
    names.join(", ")
}

fn join(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none".to_owned(),
        some => some.iter().map(Platform::to_string).collect::<Vec<_>>().join(", "),
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Gone { source, .. } => source.kind(),
            Self::Trust(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Reference(error) => error.kind(),
            Self::Document { .. } | Self::DocumentSize { .. } | Self::Config { .. } => Kind::DataLoss,
            Self::LayerCount { .. } | Self::WasmDigest { .. } | Self::Record { .. } => Kind::DataLoss,
            Self::IndexDepth { .. } | Self::IndexEntries { .. } | Self::ConfigSize { .. } => Kind::ResourceExhausted,
            Self::NoPlatform { .. } | Self::WrongPlatform { .. } | Self::NotFound { .. } => Kind::NotFound,
            Self::Incomplete { .. } | Self::NothingToPush { .. } => Kind::NotFound,
            Self::Foreign { .. } | Self::Imports { .. } | Self::Function { .. } => Kind::Unsupported,
            Self::Program { .. } => Kind::InvalidArgument,
            Self::ConfigType { .. } | Self::LayerType { .. } | Self::WasmLayers { .. } => Kind::Unsupported,
            Self::NoList { .. } | Self::NotInList { .. } => Kind::NotFound,
            Self::ListExists => Kind::AlreadyExists,
            Self::IsList { .. } | Self::UnknownPlatform { .. } => Kind::InvalidArgument,
            Self::NoOsArch { .. } | Self::OtherRegistry { .. } => Kind::FailedPrecondition,
            Self::AmbiguousId { .. } => Kind::InvalidArgument,
            Self::SeveralNames { .. } | Self::InUse { .. } | Self::NameInUse { .. } | Self::Abandoned => {
                Kind::FailedPrecondition
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Gone { .. } => Some(
                "pull the image with --keep-blobs where it can be had; a container of it can be exported".to_owned(),
            ),
            Self::Trust(error) => error.hint(),
            Self::Content(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Reference(error) => error.hint(),
            Self::NoPlatform { available, .. } => {
                available.first().map(|platform| format!("choose one of them, for example --platform {platform}"))
            }
            Self::AmbiguousId { .. } => Some("give more characters of the id".to_owned()),
            Self::SeveralNames { names, .. } => {
                Some(format!("its names are {}: remove one of them, or all with --force", named(names)))
            }
            Self::InUse { running: true, .. } => Some("stop and remove the container first".to_owned()),
            Self::InUse { .. } | Self::NameInUse { .. } => {
                Some("remove the container first, or use --force".to_owned())
            }
            _ => None,
        }
    }
}
