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
//!
//! A bundle may also be a stranger's. Then `parse` makes the specification of its text, and `validate` says whether
//! that can be meant, before anything is made.

mod capabilities;
mod device;
mod given;
mod mounts;
mod parse;
pub mod profile;
mod resources;
pub mod seccomp;
mod spec;
mod validate;

use std::path::{Path, PathBuf};

pub use capabilities::{DEFAULT_CAPABILITIES, InvalidCapability, capabilities};
pub use device::{Device, Rule};
pub use mounts::{Bind, Tmpfs};
pub use resources::{OfDevice, Resources, limits};
pub use spec::{Intent, Namespace, Namespaces, Rlimit, User, spec};
pub use validate::{Facts, Invalid, MAX_ID_BYTES, valid_id, validate};

use crate::error::{Failure, Kind};
use crate::oci::runtime::Spec;

/// The largest `config.json` that is read. A spec with every mount and seccomp rule that was seen in
/// the field is below 200 KiB, and the kernel takes 2 MiB of arguments and environment (execve(2)); what is larger
/// is not one.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// A directory and the specification in it.
#[derive(Debug)]
pub struct Bundle {
    directory: PathBuf,
    spec: Spec,
    ignored: Vec<String>,
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
    /// The file is not a runtime specification. One line, with the field if there is one.
    #[error("config.json: {problem}")]
    Parse {
        /// The field and what is wrong with it.
        problem: String,
    },
    /// A seccomp profile cannot be read.
    #[error("seccomp profile: {problem}")]
    Profile {
        /// What is wrong with it.
        problem: String,
    },
    /// The specification cannot be meant.
    #[error("config.json: {0}")]
    Invalid(#[from] Invalid),
    /// The file is too large to be one.
    #[error("bundle file {path:?} is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Reading it could block, or do something to a device.
    #[error("bundle file {path:?} is not a regular file")]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Parse { .. }
            | Self::Profile { .. }
            | Self::Invalid(_)
            | Self::TooLarge { .. }
            | Self::NotRegular { .. } => Kind::InvalidArgument,
        }
    }
}

impl Bundle {
    /// What `spec` describes, in a directory that need not have a file of it.
    pub fn unwritten(directory: &Path, spec: Spec) -> Self {
        Self { directory: directory.to_owned(), spec, ignored: Vec::new() }
    }

    /// Writes `spec` into `directory`, which exists, replacing a specification of before whole.
    pub fn write(directory: &Path, spec: Spec) -> Result<Self, Error> {
        let path = directory.join("config.json");
        let temp = directory.join("config.json.new");
        let failed = |source| Error::Io { verb: "write", path: path.clone(), source };
        let json = serde_json::to_vec(&spec).map_err(|e| failed(e.into()))?;
        std::fs::write(&temp, json).and_then(|()| std::fs::rename(&temp, &path)).map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), spec, ignored: Vec::new() })
    }

    /// Reads the bundle at `directory`. What its specification says need not make sense: see [`Bundle::validate`].
    pub fn read(directory: &Path) -> Result<Self, Error> {
        Self::read_from(directory, &directory.join("config.json")).map(|(bundle, _)| bundle)
    }

    /// Whether the specification can be meant; see [`validate`].
    pub fn validate(&self, facts: &Facts<'_>) -> Result<(), Error> {
        Ok(validate(&self.spec, facts)?)
    }

    /// What the specification asks for that this build does not know and that is not to fail for it: one line each,
    /// to be logged as a warning.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
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

/// Reads a specification from its text, and with it what [`Bundle::ignored`] tells.
pub fn read_spec(json: &[u8]) -> Result<(Spec, Vec<String>), Error> {
    parse::parse(json).map_err(|mistake| Error::Parse { problem: mistake.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(config: &[u8]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        directory
    }

    #[test]
    fn a_mistake_is_one_line_with_the_field() {
        let at = bundle(br#"{"root": {"path": 7}}"#);
        let error = Bundle::read(at.path()).unwrap_err();
        assert_eq!(
            crate::error::chain(&error),
            "config.json: root.path: invalid type: integer `7`, expected path string at line 1 column 19"
        );
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }

    #[test]
    fn what_cannot_be_meant_is_one_line_with_the_field() {
        let at = bundle(br#"{"ociVersion": "1.0.0", "root": {"path": ""}}"#);
        let error = Bundle::read(at.path()).unwrap().validate(&Facts::default()).unwrap_err();
        assert_eq!(crate::error::chain(&error), "config.json: root.path: is empty");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let mut config = br#"{"root":{"path":"r"}}"#.to_vec();
        config.resize(MAX_CONFIG_BYTES as usize, b' ');
        Bundle::read(bundle(&config).path()).unwrap();
        config.push(b' ');
        assert!(matches!(Bundle::read(bundle(&config).path()), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        assert_eq!(Bundle::read(directory.path()).unwrap_err().kind(), Kind::NotFound);
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(Bundle::read(directory.path()), Err(Error::NotRegular { .. })));
        std::fs::remove_dir(&path).unwrap();
        #[cfg(unix)]
        {
            // Reading a FIFO that nobody writes would wait for ever; a link to a file is fine, to a device is not.
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            assert!(matches!(Bundle::read(directory.path()), Err(Error::NotRegular { .. })));
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
            assert!(matches!(Bundle::read(directory.path()), Err(Error::NotRegular { .. })));
            std::fs::remove_file(&path).unwrap();
            std::fs::write(directory.path().join("real"), br#"{"root":{"path":"r"}}"#).unwrap();
            std::os::unix::fs::symlink("real", &path).unwrap();
            Bundle::read(directory.path()).unwrap();
        }
    }

    #[test]
    fn a_nul_in_the_directorys_name_is_an_error() {
        assert_eq!(Bundle::read(Path::new("a\0b")).unwrap_err().kind(), Kind::InvalidArgument);
    }
}
