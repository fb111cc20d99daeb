//! Taking in one blob that comes over a network: what has come stays when the writer ends, however it ends,
//! and the next writer goes on with it.
//!
//! ```text
//! claim() ─▶ Here                          somebody was faster
//!         ─▶ Theirs                        another process writes it now: so many bytes so far
//!         ─▶ Ours ── commit() ──▶ Blob     size and digest right, on disk, renamed
//!              │  └─ commit() ──▶ Error    wrong: removed
//!              └─ dropped, killed ▶ kept   from [`KEPT_FROM`] on; a sweep removes those that are too old or too many
//! ```
//!
//! The file grows at its front, where it is hashed, and by pieces ahead of it. Only what is in front counts: the
//! state file says how much that is, so that bytes behind a hole are never taken for received. It needs no flush:
//! what a power cut makes of the two is found out by the digest, and then fetched again.
//!
//! A state file is removed by who holds its lock, so whoever gets the lock looks whether the name is still the
//! file's.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::ingest::{Blob, place};
use super::{Error, Result, Store, io};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::sys::lock::FileLock;
use crate::sys::positioned;

/// Less than this is fetched again sooner than it is hashed and looked after.
pub const KEPT_FROM: u64 = 256 << 10;
/// How long an unfinished download waits for somebody to go on with it.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many bytes of unfinished downloads are kept together; the latest are.
pub const KEPT_BYTES: u64 = 8 << 30;

/// How a state file begins; eight more bytes say how much counts.
const MAGIC: &[u8; 8] = b"wherry 1";
/// How much is read at a time to hash what is there.
const BUFFER: usize = 1 << 20;

/// What claiming a blob comes to.
pub enum Claimed {
    /// It is in the store.
    Here,
    /// Another writer has it; so much has come.
    Theirs(u64),
    /// It is this caller's to write.
    Ours(Box<Partial>),
}

/// A blob being taken in, perhaps with what an earlier writer left.
pub struct Partial {
    store: Store,
    digest: Digest,
    size: u64,
    file: File,
    path: PathBuf,
    state: FileLock,
    state_path: PathBuf,
    hasher: Hasher,
    written: u64,
    fate: Fate,
}

/// A file that grows while it is read.
#[derive(Debug)]
pub struct Growing(File);

/// What becomes of the files when the writer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Removed,
    /// It is a blob now.
    Placed,
}

impl Store {
    /// Begins to take in the blob that `descriptor` announces, or goes on where another ended. Hashes what is
    /// there, which takes its time.
    pub fn claim(&self, descriptor: &Descriptor) -> Result<Claimed> {
        self.swept.call_once(|| self.sweep());
        let digest = &descriptor.digest;
        self.hold(digest)?;
        loop {
            if self.has(digest) {
                return Ok(Claimed::Here);
            }
            let (path, state_path) = self.partial_paths(digest);
            let Some(state) = lock(&state_path)? else { return Ok(Claimed::Theirs(self.come_so_far(digest))) };
            if !state.is(&state_path) {
                continue; // its holder ended, and took the name away
            }
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut partial = Partial {
                store: self.clone(),
                digest: digest.clone(),
                size: descriptor.size,
                file: file.map_err(io("open", &path))?,
                path,
                state,
                state_path,
                hasher: digest.hasher(),
                written: 0,
                fate: Fate::Kept,
            };
            if self.has(digest) {
                partial.fate = Fate::Removed; // committed between the two looks
                return Ok(Claimed::Here);
            }
            partial.recall()?;
            return Ok(Claimed::Ours(Box::new(partial)));
        }
    }

    /// Removes what has come of a blob, unless somebody is writing it.
    pub fn forget_partial(&self, digest: &Digest) -> Result<()> {
        let (path, state_path) = self.partial_paths(digest);
        if !path.exists() && !state_path.exists() {
            return Ok(());
        }
        match lock(&state_path)? {
            Some(state) if state.is(&state_path) => remove_both(&path, &state_path),
            _ => Ok(()),
        }
    }

    /// Unfinished downloads that nobody is at: their digests, sizes and ages.
    pub fn partials(&self) -> Result<Vec<(Digest, u64, Duration)>> {
        let dir = self.root.join("ingest");
        let now = SystemTime::now();
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io("list", &dir))?.flatten() {
            let Some(digest) = digest_of(&entry.path()) else { continue };
            let (path, state_path) = self.partial_paths(&digest);
            let Ok(state) = state_path.metadata() else { continue }; // it has just ended
            let modified = state.modified().ok();
            let age = modified.and_then(|time| now.duration_since(time).ok()).unwrap_or_default();
            let size = path.metadata().map_or(0, |metadata| metadata.len());
            // Locking makes the file, so one that ended between the two is found again, empty, by the next sweep.
            if lock(&state_path)?.is_some() {
                found.push((digest, size, age));
            }
        }
        Ok(found)
    }

    /// Removes the unfinished downloads that are too old or too many, or of no use. It is housekeeping, as the
    /// other sweep.
    pub(super) fn sweep_partials(&self) {
        let Ok(partials) = self.partials() else { return };
        // A writer that was killed while it began, or between its last two steps.
        let useless = |(digest, size, _): &&(Digest, u64, Duration)| *size < KEPT_FROM || self.has(digest);
        let useless: Vec<Digest> = partials.iter().filter(useless).map(|(digest, ..)| digest.clone()).collect();
        for digest in useless.into_iter().chain(too_old_or_many(partials)) {
            self.forget_partial(&digest).ok();
        }
    }

    /// How much counts of what another writer has.
    fn come_so_far(&self, digest: &Digest) -> u64 {
        let state = fs::read(self.partial_paths(digest).1);
        state.ok().and_then(|bytes| counted(&bytes)).unwrap_or(0)
    }

    fn partial_paths(&self, digest: &Digest) -> (PathBuf, PathBuf) {
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        let dir = self.root.join("ingest");
        (dir.join(format!("{name}.part")), dir.join(format!("{name}.state")))
    }
}

fn lock(path: &Path) -> Result<Option<FileLock>> {
    FileLock::try_exclusive(path).map_err(|error| io("lock", path)(error.source))
}

/// Whether a file in `ingest/` is of this kind.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part" || extension == "state")
}

fn digest_of(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?.strip_suffix(".state")?;
    name.replacen('-', ":", 1).parse().ok()
}

fn counted(state: &[u8]) -> Option<u64> {
    let bytes = state.strip_prefix(MAGIC)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// Which of these have to go: those beyond their age, and the oldest of those that are too many together.
fn too_old_or_many(mut partials: Vec<(Digest, u64, Duration)>) -> Vec<Digest> {
    partials.sort_by_key(|(_, _, age)| *age);
    let mut bytes = 0u64;
    let goes = |(digest, size, age): (Digest, u64, Duration)| {
        bytes = bytes.saturating_add(size);
        (age > KEPT_FOR || bytes > KEPT_BYTES).then_some(digest)
    };
    partials.into_iter().filter_map(goes).collect()
}

/// The bytes first: a state without bytes counts for nothing.
fn remove_both(path: &Path, state_path: &Path) -> Result<()> {
    for path in [path, state_path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("remove", path)(error)),
            _ => {}
        }
    }
    Ok(())
}

impl Partial {
    /// How many bytes have come in front: where a download goes on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The file, for who reads what has come while more comes.
    pub fn reader(&self) -> Result<Growing> {
        File::open(&self.path).map(Growing).map_err(io("open", &self.path))
    }

    /// Writes more at the front; refused as soon as it is more than was announced.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_ahead(self.written, bytes)?;
        self.hasher.update(bytes);
        self.count(self.written + bytes.len() as u64)
    }

    /// Writes bytes whose place is known, which do not count yet.
    pub fn write_ahead(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset + bytes.len() as u64;
        if end > self.size {
            return Err(Error::Size { digest: self.digest.clone(), expected: self.size, actual: end });
        }
        positioned::write_all_at(&self.file, bytes, offset).map_err(io("write", &self.path))
    }

    /// Counts what was written ahead, up to `end`: all of it is there.
    pub fn catch_up(&mut self, end: u64) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        while self.written < end {
            let most = buffer.len().min((end - self.written) as usize);
            match positioned::read_into(&self.file, &mut buffer[..most], self.written) {
                Ok(0) => return Err(io("read", &self.path)(ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    self.hasher.update(&buffer[..read]);
                    self.written += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io("read", &self.path)(error)),
            }
        }
        self.count(end)
    }

    /// Forgets what has come, for a download that has to begin again.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(io("truncate", &self.path))?;
        self.hasher = self.digest.hasher();
        self.count(0)
    }

    /// Verifies size and digest, and makes the blob part of the store, durably. What is wrong is removed.
    pub fn commit(mut self) -> Result<Blob> {
        let (digest, size) = (self.digest.clone(), self.size);
        if self.written != size {
            return Err(Error::Size { digest, expected: size, actual: self.written });
        }
        let actual = self.hasher.clone().finish();
        if actual != digest {
            self.fate = Fate::Removed;
            return Err(Error::Digest { expected: digest, actual });
        }
        self.file.sync_all().map_err(io("sync", &self.path))?;
        place(&self.path, &self.store.path_of(&digest))?;
        self.fate = Fate::Placed;
        Ok(Blob { digest, size })
    }

    /// Leaves nothing behind.
    pub fn discard(mut self) {
        self.fate = Fate::Removed;
    }

    /// Goes on with what an earlier writer left, as far as it counts.
    fn recall(&mut self) -> Result<()> {
        let there = self.file.metadata().map_err(io("look at", &self.path))?.len();
        let state = positioned::read_at(self.state.file(), MAGIC.len() + 8, 0);
        let counted = counted(&state.map_err(io("read", &self.state_path))?).unwrap_or(0);
        let end = if counted > self.size || counted > there { 0 } else { counted };
        if there != end {
            self.file.set_len(end).map_err(io("truncate", &self.path))?;
        }
        positioned::write_all_at(self.state.file(), MAGIC, 0).map_err(io("write", &self.state_path))?;
        self.catch_up(end)
    }

    fn count(&mut self, written: u64) -> Result<()> {
        self.written = written;
        let place = MAGIC.len() as u64;
        positioned::write_all_at(self.state.file(), &written.to_le_bytes(), place)
            .map_err(io("write", &self.state_path))
    }
}

impl Growing {
    /// Reads once, as much as `buffer` takes at the most. Nothing at what is the end by now.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        positioned::read_into(&self.0, buffer, offset)
    }
}

impl From<File> for Growing {
    fn from(file: File) -> Self {
        Self(file)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed now is by a later sweep.
        match self.fate {
            Fate::Kept if self.written >= KEPT_FROM => {}
            Fate::Kept | Fate::Removed => drop(remove_both(&self.path, &self.state_path)),
            Fate::Placed => drop(fs::remove_file(&self.state_path)),
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

    fn bytes() -> Vec<u8> {
        (0..3 * KEPT_FROM).map(|n| (n % 251) as u8).collect()
    }

    fn announced(bytes: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::default(), Digest::sha256(bytes), bytes.len() as u64)
    }

    fn ours(store: &Store, blob: &Descriptor) -> Partial {
        match store.claim(blob).unwrap() {
            Claimed::Ours(partial) => *partial,
            Claimed::Here => panic!("it is here"),
            Claimed::Theirs(bytes) => panic!("another has {bytes} bytes of it"),
        }
    }

    fn left_over(store: &Store) -> usize {
        let entries = fs::read_dir(store.root.join("ingest")).unwrap();
        entries.filter(|entry| is_one(&entry.as_ref().unwrap().path())).count()
    }

    #[test]
    fn the_next_writer_goes_on_where_the_last_ended() {
        let ((_dir, store), bytes) = (store(), bytes());
        let blob = announced(&bytes);
        let half = bytes.len() / 2;
        ours(&store, &blob).append(&bytes[..half]).unwrap();
        let mut second = ours(&Store::open(&store.root).unwrap(), &blob);
        assert_eq!(second.written(), half as u64);
        second.append(&bytes[half..]).unwrap();
        assert_eq!(second.commit().unwrap().size(), blob.size);
        assert_eq!(store.verify(&blob.digest).unwrap(), blob.size);
        assert!(matches!(store.claim(&blob).unwrap(), Claimed::Here));
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn what_lies_ahead_of_a_hole_does_not_count() {
        let ((_dir, store), bytes) = (store(), bytes());
        let blob = announced(&bytes);
        let (first, last) = (KEPT_FROM as usize, 2 * KEPT_FROM as usize);
        let mut partial = ours(&store, &blob);
        partial.append(&bytes[..first]).unwrap();
        partial.write_ahead(last as u64, &bytes[last..]).unwrap();
        drop(partial);
        let mut partial = ours(&store, &blob);
        assert_eq!(partial.written(), first as u64);
        partial.write_ahead(last as u64, &bytes[last..]).unwrap();
        partial.append(&bytes[first..last]).unwrap();
        partial.catch_up(blob.size).unwrap();
        partial.commit().unwrap();
        assert!(store.has(&blob.digest));
    }

    #[test]
    fn two_writers_do_not_meet_and_the_second_takes_over() {
        let ((_dir, store), bytes) = (store(), bytes());
        let blob = announced(&bytes);
        let mut first = ours(&store, &blob);
        first.append(&bytes[..300_000]).unwrap();
        assert!(matches!(store.claim(&blob).unwrap(), Claimed::Theirs(300_000)));
        assert!(store.partials().unwrap().is_empty(), "somebody is at it");
        store.forget_partial(&blob.digest).unwrap();
        assert_eq!(left_over(&store), 2, "a living writer's is not removed");
        drop(first);
        assert_eq!(store.partials().unwrap().len(), 1);
        let mut second = ours(&store, &blob);
        second.append(&bytes[300_000..]).unwrap();
        second.commit().unwrap();
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn wrong_bytes_little_and_discarded_leave_nothing() {
        let ((_dir, store), mut bytes) = (store(), bytes());
        let blob = announced(&bytes);
        drop(ours(&store, &blob));
        ours(&store, &blob).append(&bytes[..1000]).unwrap();
        assert_eq!(left_over(&store), 0);
        let mut discarded = ours(&store, &blob);
        discarded.append(&bytes).unwrap();
        discarded.discard();
        assert_eq!(left_over(&store), 0);
        bytes[7] ^= 1;
        let mut wrong = ours(&store, &blob);
        assert!(matches!(wrong.append(&[&bytes[..], b"more"].concat()), Err(Error::Size { .. })));
        wrong.append(&bytes).unwrap();
        assert!(matches!(wrong.commit(), Err(Error::Digest { .. })));
        assert_eq!(left_over(&store), 0);
        assert!(!store.has(&blob.digest));
    }

    #[test]
    fn a_state_that_lies_counts_for_nothing() {
        let ((_dir, store), bytes) = (store(), bytes());
        let blob = announced(&bytes);
        let (path, state) = store.partial_paths(&blob.digest);
        let counting = |n: u64| [&MAGIC[..], &n.to_le_bytes()].concat();
        for lie in [counting(u64::MAX), counting(400_000), b"garbage".to_vec(), Vec::new()] {
            fs::write(&path, &bytes[..300_000]).unwrap();
            fs::write(&state, &lie).unwrap();
            assert_eq!(ours(&store, &blob).written(), 0, "{lie:?}");
        }
    }

    #[test]
    fn what_a_kill_left_of_no_use_goes() {
        let ((_dir, store), bytes) = (store(), bytes());
        let blob = announced(&bytes);
        let (path, state) = store.partial_paths(&blob.digest);
        let sweep = || drop(Store::open(&store.root).unwrap().ingest(&announced(b"x")).unwrap());
        fs::write(&state, "").unwrap();
        sweep();
        assert_eq!(left_over(&store), 0, "a beginning");
        let mut whole = ours(&store, &blob);
        whole.append(&bytes).unwrap();
        whole.commit().unwrap();
        fs::write(&path, &bytes).unwrap();
        fs::write(&state, "").unwrap();
        sweep();
        assert_eq!(left_over(&store), 0, "an end");
    }

    #[test]
    fn old_ones_go_and_the_oldest_of_too_many() {
        let digest = |n: u8| Digest::sha256(&[n]);
        let (hour, gib) = (Duration::from_secs(3600), 1 << 30);
        let partials = vec![
            (digest(1), gib, KEPT_FOR + hour),
            (digest(2), 5 * gib, 2 * hour),
            (digest(3), 2 * gib, hour),
            (digest(4), 2 * gib, 3 * hour),
        ];
        assert_eq!(too_old_or_many(partials), [digest(4), digest(1)]);
        let ((_dir, store), bytes) = (store(), bytes());
        let blob = announced(&bytes);
        ours(&store, &blob).append(&bytes[..300_000]).unwrap();
        let old = SystemTime::now() - KEPT_FOR - hour;
        File::options().write(true).open(store.partial_paths(&blob.digest).1).unwrap().set_modified(old).unwrap();
        // The first ingest of a process sweeps.
        drop(Store::open(&store.root).unwrap().ingest(&announced(b"x")).unwrap());
        assert_eq!(left_over(&store), 0);
    }
}
