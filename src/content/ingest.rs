//! Taking in one blob: write, verify, commit.
//!
//! ```text
//! ingest() ──▶ writing ──commit()──▶ Blob            size and digest right, on disk, renamed
//!                 │  └────commit()──▶ Error           temporary file removed
//!                 └─ dropped ───────▶ temporary file removed
//!                 └─ process killed ▶ lock gone; the next ingest of a process sweeps the file
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Error, Result, Store, io, partial, sync_dir};
use crate::oci::{Descriptor, Digest, Hasher};

/// Bytes that are in the store, whole and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A blob being taken in. Dropped without commit, it leaves nothing.
pub struct Ingest {
    store: Store,
    digest: Digest,
    size: u64,
    temp: Temp,
    hasher: Hasher,
    written: u64,
}

/// A blob being taken in whose digest will be known when all of it is there. Dropped without commit, it leaves nothing.
pub struct Unnamed {
    store: Store,
    temp: Temp,
    hasher: Hasher,
    written: u64,
}

/// A temporary file that is removed unless it was put in place.
struct Temp {
    file: File,
    path: PathBuf,
    placed: bool,
}

impl Blob {
    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Store {
    /// Begins to take in the blob that `descriptor` announces.
    pub fn ingest(&self, descriptor: &Descriptor) -> Result<Ingest> {
        self.swept.call_once(|| self.sweep());
        let digest = descriptor.digest.clone();
        self.hold(&digest)?;
        let temp = self.temporary(&digest)?;
        let hasher = digest.hasher();
        Ok(Ingest { store: self.clone(), digest, size: descriptor.size, temp, hasher, written: 0 })
    }

    /// Takes in bytes that are whole in memory, unless they are here.
    pub fn put(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        if !self.has(&descriptor.digest) {
            let mut ingest = self.ingest(descriptor)?;
            bytes.chunks(1 << 20).try_for_each(|chunk| ingest.append(chunk))?;
            ingest.commit()?;
        }
        Ok(())
    }

    /// Begins to take in bytes that nobody has announced.
    pub fn ingest_unnamed(&self) -> Result<Unnamed> {
        self.swept.call_once(|| self.sweep());
        let temp = self.temporary(&Digest::sha256(b""))?;
        Ok(Unnamed { store: self.clone(), temp, hasher: Hasher::sha256(), written: 0 })
    }

    /// The blob of this digest, if it is here.
    pub fn blob(&self, digest: &Digest) -> Option<Blob> {
        let size = self.has(digest).then(|| self.size_of(digest)).flatten();
        size.map(|size| Blob { digest: digest.clone(), size })
    }

    /// A new file in `ingest/`, locked. The shared lock on the directory keeps a sweeper from
    /// finding it in the moment between its making and its locking.
    fn temporary(&self, digest: &Digest) -> Result<Temp> {
        let dir = self.root.join("ingest");
        let making = ingest_lock(&dir).map_err(io("open the lock of", &dir))?;
        making.lock_shared().map_err(io("lock", &dir))?;
        loop {
            let path = dir.join(format!("{}.{}", digest.short(), unique_suffix()));
            match File::options().write(true).create_new(true).open(&path) {
                // Another pid namespace may have a process of our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(io("make", &path)(error)),
                Ok(file) => {
                    file.lock().map_err(io("lock", &path))?;
                    return Ok(Temp { file, path, placed: false });
                }
            }
        }
    }

    /// Removes what killed writers left. It is housekeeping: what cannot be removed now waits for
    /// the next process's first ingest, and an ingest does not fail for it.
    pub(super) fn sweep(&self) {
        let dir = self.root.join("ingest");
        let (Ok(lock), Ok(entries)) = (ingest_lock(&dir), std::fs::read_dir(&dir)) else { return };
        if lock.try_lock().is_err() {
            return; // somebody is making a file this moment, or sweeps already
        }
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| !is_lock(path) && !partial::is_one(path))
            .for_each(|path| remove_if_stale(&path));
        self.sweep_partials();
    }
}

/// `<pid>.<n>`, which no other call in this process gives.
pub(super) fn unique_suffix() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

const INGEST_LOCK: &str = ".lock";

fn ingest_lock(dir: &Path) -> io::Result<File> {
    open_lock(&dir.join(INGEST_LOCK))
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == INGEST_LOCK)
}

/// Whether a file in `ingest/` was a killed writer's.
pub(super) fn is_left_over(path: &Path) -> bool {
    let unlocked = |file: File| matches!(file.try_lock(), Ok(()));
    !is_lock(path) && !partial::is_one(path) && File::open(path).is_ok_and(unlocked)
}

fn remove_if_stale(path: &Path) {
    let Ok(file) = File::options().write(true).open(path) else { return };
    if matches!(file.try_lock(), Ok(())) {
        // A failure leaves the file for the next sweep.
        std::fs::remove_file(path).ok();
    }
}

impl Ingest {
    /// How many bytes were written so far: where a resumed download goes on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Forgets what was written, for a download that has to begin again.
    pub fn restart(&mut self) -> Result<()> {
        use std::io::Seek;
        let truncated = self.temp.file.set_len(0).and_then(|()| self.temp.file.rewind());
        truncated.map_err(io("truncate", &self.temp.path))?;
        (self.hasher, self.written) = (self.digest.hasher(), 0);
        Ok(())
    }

    /// Writes more of the blob; refused as soon as it is more than was announced.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let total = self.written + bytes.len() as u64;
        if total > self.size {
            return Err(Error::Size { digest: self.digest.clone(), expected: self.size, actual: total });
        }
        self.temp.file.write_all(bytes).map_err(io("write", &self.temp.path))?;
        self.hasher.update(bytes);
        self.written = total;
        Ok(())
    }

    /// Verifies size and digest, and makes the blob part of the store, durably.
    pub fn commit(mut self) -> Result<Blob> {
        if self.written != self.size {
            return Err(Error::Size { digest: self.digest, expected: self.size, actual: self.written });
        }
        let actual = self.hasher.clone().finish();
        if actual != self.digest {
            return Err(Error::Digest { expected: self.digest, actual });
        }
        self.temp.file.sync_all().map_err(io("sync", &self.temp.path))?;
        self.temp.place(&self.store.path_of(&self.digest))?;
        Ok(Blob { digest: self.digest, size: self.size })
    }
}

impl Unnamed {
    /// Writes more of the blob.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.temp.file.write_all(bytes).map_err(io("write", &self.temp.path))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was written a blob of the store, durably, under the digest that it has.
    pub fn commit(mut self) -> Result<Blob> {
        let digest = self.hasher.finish();
        self.store.hold(&digest)?;
        self.temp.file.sync_all().map_err(io("sync", &self.temp.path))?;
        self.temp.place(&self.store.path_of(&digest))?;
        Ok(Blob { digest, size: self.written })
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map(|()| bytes.len()).map_err(|error| match error {
            Error::Io { source, .. } => source,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Temp {
    fn place(&mut self, target: &Path) -> Result<()> {
        place(&self.path, target)?;
        self.placed = true;
        Ok(())
    }
}

/// Gives a file, whose bytes are on the disk, the name of its blob.
pub(super) fn place(path: &Path, target: &Path) -> Result<()> {
    let dir = target.parent().unwrap_or(Path::new("."));
    if !dir.exists() {
        // The first blob of an algorithm other than sha256.
        std::fs::create_dir_all(dir).map_err(io("make", dir))?;
    }
    std::fs::rename(path, target).map_err(io("put in place", target))?;
    sync_dir(dir)
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.placed {
            // If this fails, the lock goes with the process and the next sweep removes the file.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    fn announced(bytes: &[u8], size: u64) -> Descriptor {
        Descriptor::new(MediaType::default(), Digest::sha256(bytes), size)
    }

    fn left_over(store: &Store) -> usize {
        let entries = std::fs::read_dir(store.root.join("ingest")).unwrap();
        entries.filter(|entry| !is_lock(&entry.as_ref().unwrap().path())).count()
    }

    #[test]
    fn what_is_not_as_announced_is_refused_and_leaves_nothing() {
        let (_dir, store) = store();
        let take = |announced: &Descriptor, bytes: &[u8]| {
            let mut ingest = store.ingest(announced)?;
            ingest.append(bytes)?;
            ingest.commit()
        };
        let size = |error| matches!(error, Err(Error::Size { .. }));
        assert!(size(take(&announced(b"hello", 5), b"hell")), "truncated");
        assert!(size(take(&announced(b"hello", 5), b"hello!")), "trailing bytes");
        assert!(size(take(&announced(b"hello", 6), b"hello")), "wrong size");
        assert!(matches!(take(&announced(b"hello", 5), b"jello"), Err(Error::Digest { .. })), "other bytes");
        assert!(!store.has(&Digest::sha256(b"hello")));
        assert_eq!(left_over(&store), 0);
        assert_eq!(take(&announced(b"hello", 5), b"hello").unwrap().size(), 5);
    }

    #[test]
    fn sha512_is_a_digest_too() {
        let (_dir, store) = store();
        let digest: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
        let mut hasher = digest.hasher();
        hasher.update(b"hello");
        let digest = hasher.finish();
        let mut ingest = store.ingest(&Descriptor::new(MediaType::default(), digest.clone(), 5)).unwrap();
        ingest.write_all(b"hello").unwrap();
        ingest.commit().unwrap();
        assert_eq!(store.read(&digest, 9).unwrap(), b"hello");
    }

    #[test]
    fn a_restart_forgets() {
        let (_dir, store) = store();
        let mut ingest = store.ingest(&announced(b"hello", 5)).unwrap();
        ingest.append(b"xyz").unwrap();
        ingest.restart().unwrap();
        ingest.append(b"hel").unwrap();
        assert_eq!(ingest.written(), 3);
        ingest.append(b"lo").unwrap();
        let blob = ingest.commit().unwrap();
        assert_eq!(store.read(blob.digest(), 9).unwrap(), b"hello");
    }

    #[test]
    fn two_writers_of_one_digest_both_succeed() {
        let (_dir, store) = store();
        let mut writers = [0, 1].map(|_| store.ingest(&announced(b"hello", 5)).unwrap());
        for half in [b"hel".as_slice(), b"lo"] {
            writers.iter_mut().for_each(|writer| writer.append(half).unwrap());
        }
        for writer in writers {
            writer.commit().unwrap();
        }
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn a_sweep_spares_the_living_and_removes_the_dead() {
        let (dir, store) = store();
        let mut living = store.ingest(&announced(b"hello", 5)).unwrap();
        // A killed writer: a file that nobody holds a lock on.
        std::fs::write(dir.path().join("ingest/0123456789ab.77.0"), "half a lay").unwrap();
        let another_process = Store::open(dir.path()).unwrap();
        drop(another_process.ingest(&announced(b"x", 1)).unwrap());
        assert_eq!(left_over(&store), 1, "the living one");
        living.append(b"hello").unwrap();
        living.commit().unwrap();
    }
}
