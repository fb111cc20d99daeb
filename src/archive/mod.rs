//! Images as files: what `save` writes and `load` reads.
//!
//! One archive is two things at once, as Docker writes it since its version 25:
//!
//! ```text
//! oci-layout, index.json    an OCI image layout: names are annotations of the index's entries
//! manifest.json             Docker's own list, for tools that know no other: config, tags, layers
//! blobs/sha256/<hex>        all blobs, each once, byte for byte as they were pulled
//! ```
//!
//! Read are these, OCI layouts alone, and Docker's older archives (`<id>/layer.tar`), plain or compressed by gzip or
//! zstd, from a pipe in one pass: blobs go into the content store as they come, each verified, and what they mean is
//! looked at when all have come. An image has its name last of all.
//!
//! It is a stranger's file: names of members are never paths of ours, documents are bounded, and who is refused has the
//! blobs collected that nothing names.

mod load;
mod save;

use crate::error::{Failure, Kind};
use crate::snapshot::tar;
use crate::{content, image};

pub use load::{Loaded, load, load_directory};
pub use save::{Plan, plan};

/// The largest `index.json` or `manifest.json`.
const MAX_DOCUMENT: u64 = 4 << 20;

/// The most members of an archive.
const MAX_MEMBERS: u64 = 100_000;

/// The most images of an archive.
const MAX_IMAGES: usize = 10_000;

/// The full name of an image, as containerd and Docker write it.
const NAME: &str = "io.containerd.image.name";

/// Its tag; other tools write its whole name there.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The images, or their records.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A blob.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// The archive is no tar archive.
    #[error("cannot read the archive")]
    Archive(#[from] tar::Error),
    /// The archive cannot be read from where it is.
    #[error("cannot read the archive")]
    Read(#[source] std::io::Error),
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] std::io::Error),
    /// Something in the archive is refused.
    #[error("the archive is refused: {what}")]
    Refused {
        /// What, and why.
        what: String,
    },
    /// The archive names something that it does not have.
    #[error("the archive is incomplete: {member} is missing")]
    Missing {
        /// What is not there.
        member: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Image(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Archive(tar::Error::Read { source, .. }) => Kind::of_io(source),
            Self::Archive(_) | Self::Refused { .. } | Self::Missing { .. } => Kind::InvalidArgument,
            Self::Read(source) | Self::Write(source) => Kind::of_io(source),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Image(error) => error.hint(),
            Self::Content(error) => error.hint(),
            _ => None,
        }
    }
}

/// What this room returns.
pub type Result<T> = std::result::Result<T, Error>;

fn refused<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::Refused { what: what.into() })
}
