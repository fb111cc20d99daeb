//! Why a layer or a root filesystem cannot be had.

use std::path::PathBuf;

use crate::error::{Failure, Kind};
use crate::oci::Digest;
use crate::{content, sys};

use super::{path, tar};

/// A failure of this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {number} ({diff_id})", diff_id = diff_id.short())]
    Layer {
        /// Its place, from 1 at the base.
        number: usize,
        /// The digest of its uncompressed bytes.
        diff_id: Digest,
        /// Why.
        source: Box<Error>,
    },
    /// A layer's blob cannot be opened.
    #[error("cannot open blob {digest}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// Why.
        source: Box<content::Error>,
    },
    /// The archive itself is bad.
    #[error("cannot read the layer's archive")]
    Archive {
        /// Why.
        source: tar::Error,
    },
    /// The uncompressed bytes are not what the image's configuration says.
    #[error("the layer's uncompressed bytes have the digest {actual}, its image's configuration says {expected}")]
    DiffId {
        /// What the configuration says.
        expected: Digest,
        /// What came out.
        actual: Digest,
    },
    /// An entry's path or type cannot be meant.
    #[error("refused the entry {entry:?}")]
    Refused {
        /// The path as written.
        entry: String,
        /// Why.
        source: Refusal,
    },
    /// An entry could not be written.
    #[error("cannot write the entry {entry:?}")]
    Write {
        /// The path as written.
        entry: String,
        /// Why.
        source: sys::Error,
    },
    /// Something of the store could not be done.
    #[error("cannot {action} {path:?}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: sys::Error,
    },
    /// The store's own record makes no sense.
    #[error("cannot understand {path:?}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The store was written by a newer version.
    #[error("{path:?} has version {found}; this wherry knows version {known}")]
    Version {
        /// The record.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A container's file cannot be looked at.
    #[error("cannot look at {path:?} of the container")]
    Look {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sys::Error,
    },
    /// A container's file cannot be read.
    #[error("cannot read {path:?} of the container")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An archive of a container's files cannot be written.
    #[error("cannot write the archive")]
    Output {
        /// Why.
        source: std::io::Error,
    },
    /// A change that overlayfs has written as a reference to another place.
    #[error("{path:?} was renamed or changed in a way that only overlayfs can say (redirect_dir or metacopy)")]
    Elsewhere {
        /// The file.
        path: PathBuf,
    },
    /// A layer below failed; its own error says why.
    #[error("a layer below could not be unpacked")]
    Below,
}

/// Why an entry is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its path.
    #[error(transparent)]
    Path(#[from] path::Invalid),
    /// Its target's path.
    #[error("the link's target {target:?} is refused")]
    Target {
        /// The target as written.
        target: String,
        /// Why.
        source: path::Invalid,
    },
    /// A hard link to nothing.
    #[error("the link's target {target:?} does not exist in this layer or below")]
    NoTarget {
        /// The target as written.
        target: String,
    },
    /// A hard link to a directory.
    #[error("the link's target {target:?} is a directory")]
    DirectoryTarget {
        /// The target as written.
        target: String,
    },
    /// A parent directory is something else.
    #[error("{parent:?}, which should be a directory, is a file")]
    NotDirectory {
        /// The path in the layer.
        parent: String,
    },
    /// Symlinks lead on and on.
    #[error("more than {MAX_LINKS} symlinks have to be followed")]
    Loop,
    /// Symlinks lead to a path that is too long or too deep.
    #[error("symlinks lead to a path of more than {depth} components or {bytes} bytes", depth = path::MAX_DEPTH, bytes = tar::MAX_PATH)]
    TooDeep,
    /// A character device 0:0, which is how overlayfs writes a removed file.
    #[error("a character device 0:0 would remove a file of the layers below")]
    Mark,
    /// The root is not a directory.
    #[error("the root of a layer can only be a directory")]
    Root,
    /// A device in a store whose owner may make none.
    #[error("only root can make a device")]
    Device,
}

/// How many symlinks may have to be followed to one entry: MAXSYMLINKS of the kernel.
pub const MAX_LINKS: usize = 40;

impl Error {
    /// Whether it is the layer that is refused, whoever unpacks it wherever.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Layer { source, .. } => source.is_refusal(),
            Self::Archive { .. } | Self::DiffId { .. } | Self::Refused { .. } => true,
            _ => false,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Layer { source, .. } => source.kind(),
            Self::Blob { source, .. } => source.kind(),
            Self::Archive { source } => archive_kind(source),
            Self::DiffId { .. } => Kind::DataLoss,
            Self::Refused { .. } => Kind::InvalidArgument,
            Self::Write { source, .. } | Self::Store { source, .. } => source.kind(),
            Self::Look { source, .. } => source.kind(),
            Self::Unreadable { source, .. } | Self::Output { source } => Kind::of_io(source),
            Self::Elsewhere { .. } => Kind::Unsupported,
            Self::Record { .. } => Kind::DataLoss,
            Self::Version { .. } => Kind::FailedPrecondition,
            Self::Below => Kind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Layer { source, .. } => source.hint(),
            Self::Refused { .. } => Some("the image is broken or hostile; its author can rebuild it".into()),
            Self::Write { .. } if self.kind() == Kind::ResourceExhausted => {
                Some("the disk or its inodes are used up; `wherry rmi` frees both".into())
            }
            Self::Write { source, .. } if source.call.contains("chown") => {
                Some("the entry's owner is not mapped in this user namespace".into())
            }
            _ => None,
        }
    }
}

fn archive_kind(error: &tar::Error) -> Kind {
    match error {
        tar::Error::Read { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput => Kind::DataLoss,
        tar::Error::Read { source, .. } => Kind::of_io(source),
        tar::Error::Truncated { .. } | tar::Error::Malformed { .. } => Kind::DataLoss,
        tar::Error::Limit { .. } => Kind::ResourceExhausted,
    }
}

/// Bytes for a message: whatever is not text is escaped, and it is not endless.
pub(super) fn shown(bytes: &[u8]) -> String {
    const ENOUGH: usize = 256;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(ENOUGH)]).into_owned();
    if bytes.len() > ENOUGH { text + "…" } else { text }
}
