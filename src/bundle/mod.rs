//! A bundle: the directory with a `config.json` that an engine takes (runtime-spec bundle.md).
//!
//! ```text
//! <container>/
//!   config.json   the runtime specification, written once at start
//!   rootfs/       where the root filesystem is attached, inside of the container's own mount namespace
//! ```
//!
//! What goes into the specification is decided by pure functions in `spec`: intent in, data out. Wasm
//! grants travel in the same specification: its mounts are the preopened directories, its environment
//! the guest's.

mod capabilities;
pub mod seccomp;
mod spec;

use std::path::{Path, PathBuf};

pub use capabilities::{DEFAULT_CAPABILITIES, InvalidCapability, capabilities};
pub use spec::{Bind, Intent, Network, User, spec};

use crate::error::{Failure, Kind};
use crate::oci::runtime::Spec;

/// The largest `config.json` that is read. A spec with every mount and seccomp rule that was seen in
/// the field is below 200 KiB; what is larger is not one.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// A directory and the specification in it.
#[derive(Debug)]
pub struct Bundle {
    directory: PathBuf,
    spec: Spec,
}

/// Why a bundle cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot {verb} bundle file {path:?}")]
    Io {
        /// Read or write.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a runtime specification.
    #[error("bundle file {path:?} is not a runtime specification")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The file is too large to be one.
    #[error("bundle file {path:?} is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Parse { .. } | Self::TooLarge { .. } => Kind::InvalidArgument,
        }
    }
}

impl Bundle {
    /// Writes `spec` into `directory`, which exists, replacing a specification of before whole.
    pub fn write(directory: &Path, spec: Spec) -> Result<Self, Error> {
        let path = directory.join("config.json");
        let temp = directory.join("config.json.new");
        let failed = |source| Error::Io { verb: "write", path: path.clone(), source };
        let json = serde_json::to_vec(&spec).map_err(|e| failed(e.into()))?;
        std::fs::write(&temp, json).and_then(|()| std::fs::rename(&temp, &path)).map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), spec })
    }

    /// Reads the bundle at `directory`.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("config.json");
        let failed = |source| Error::Io { verb: "read", path: path.clone(), source };
        if std::fs::metadata(&path).map_err(failed)?.len() > MAX_CONFIG_BYTES {
            return Err(Error::TooLarge { path });
        }
        let json = std::fs::read(&path).map_err(failed)?;
        let spec = serde_json::from_slice(&json).map_err(|source| Error::Parse { path, source })?;
        Ok(Self { directory: directory.to_owned(), spec })
    }

    /// The bundle's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is to be made.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where the root filesystem is, or is to be attached.
    pub fn rootfs(&self) -> PathBuf {
        let path = self.spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path());
        self.directory.join(path)
    }
}
