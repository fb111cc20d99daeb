//! When images were last used, as the times of empty files: a container that runs for a moment pays one look for it,
//! and the database, whose answers are remembered as long as it does not change, is left alone.
//!
//! A use that cannot be written down, on a full disk say, is no reason to run nothing: the image then counts as
//! unused since its last one. Nothing is flushed; what a power cut undoes is one use.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Db, Error, Result};
use crate::error::tolerate;

/// A use that follows another one so soon is not written down.
const GRAIN: Duration = Duration::from_secs(60);

/// When images were last used.
pub struct Used {
    directory: PathBuf,
}

impl Used {
    pub(super) fn beside(db: &Db) -> Self {
        Self { directory: db.beside(".used") }
    }

    /// Notes that the image with this id is used now.
    pub fn note(&self, image: &str) {
        let Some(path) = self.path(image) else { return };
        // One of the future is as good as none: somebody has set the clock.
        if modified(&path).and_then(|at| at.elapsed().ok()).is_none_or(|ago| ago >= GRAIN) {
            tolerate(self.touch(&path));
        }
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        let open = || File::options().create(true).truncate(false).write(true).open(path);
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.directory).and_then(|()| open())
            }
            opened => opened,
        };
        file?.set_modified(SystemTime::now())
    }

    /// When the image was last used, if that was ever noted.
    pub fn at(&self, image: &str) -> Option<SystemTime> {
        modified(&self.path(image)?)
    }

    /// Forgets the images that are not there any more.
    pub fn forget(&self, is_there: impl Fn(&str) -> bool) -> Result<()> {
        let failed = |source| Error::File { intent: "list", path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let image = entry.file_name().to_string_lossy().replacen('-', ":", 1);
            if !is_there(&image) {
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    removed => {
                        removed.map_err(|source| Error::File { intent: "remove", path: entry.path(), source })?
                    }
                }
            }
        }
        Ok(())
    }

    /// The file of an id, if it can be one.
    fn path(&self, image: &str) -> Option<PathBuf> {
        let (algorithm, hex) = image.split_once(':')?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain(algorithm) && plain(hex)).then(|| self.directory.join(format!("{algorithm}-{hex}")))
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_a_minute_and_forgotten_with_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let used = Db::at(&dir.path().join("db.sqlite")).used();
        assert_eq!(used.at("sha256:a"), None);
        used.forget(|_| false).unwrap();
        for image in ["sha256:a", "sha256:b", "../x", "sha256:../../x", ""] {
            used.note(image);
        }
        let path = used.path("sha256:a").unwrap();
        let set = |at: SystemTime| File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        let recent = SystemTime::now() - GRAIN / 2;
        for (at, written) in [(recent, false), (recent - GRAIN, true), (SystemTime::now() + 10 * GRAIN, true)] {
            set(at);
            used.note("sha256:a");
            assert_eq!(used.at("sha256:a").unwrap() != at, written);
        }
        used.forget(|image| image == "sha256:a").unwrap();
        assert!(used.at("sha256:a").is_some() && used.at("sha256:b").is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
