//! Bundles of others: their configuration may be in a file of any name, which may be no file at all, and is carried out
//! with additions of ours.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use super::{Bundle, Error, MAX_CONFIG_BYTES, read_spec};
use crate::oci::runtime::Spec;

impl Bundle {
    /// Reads the bundle at `directory` whose configuration is the file `config`, and that file's bytes. What the
    /// specification says need not make sense: see [`Bundle::validate`].
    pub fn read_from(directory: &Path, config: &Path) -> Result<(Self, Vec<u8>), Error> {
        let failed = |source| Error::Io { verb: "read", path: config.to_owned(), source };
        if !std::fs::metadata(config).map_err(failed)?.is_file() {
            return Err(Error::NotRegular { path: config.to_owned() });
        }
        let file = open(config).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::NotRegular { path: config.to_owned() });
        }
        let mut json = Vec::with_capacity(metadata.len().min(MAX_CONFIG_BYTES) as usize + 1);
        file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut json).map_err(failed)?;
        if json.len() as u64 > MAX_CONFIG_BYTES {
            return Err(Error::TooLarge { path: config.to_owned() });
        }
        let (spec, ignored) = read_spec(&json)?;
        Ok((Self { directory: directory.to_owned(), spec, ignored }, json))
    }

    /// Changes what is to be made; what the directory holds stays as it is.
    pub fn revise(&mut self, change: impl FnOnce(&mut Spec)) {
        change(&mut self.spec);
    }
}

/// Opens what was a regular file a moment ago. Should it be a FIFO by now, opening does not wait for its other end.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path)
}
