//! Leases and garbage collection.
//!
//! Blobs are referenced by records that are written after them. Who is between the two (a pull) holds a [`Lease`]:
//! every blob that it asks for or takes in, it holds until the lease ends ([`crate::sys::lease`]). Who removes blobs has
//! the leases' lock alone, and reads the records only when it has it. So a blob is removed only if no record names it and
//! nobody is about to write one, and a removal beside a long pull frees all that this pull does not need.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Result, Store, io};
use crate::oci::Digest;
use crate::sys::lease::{self, Clearing};

/// How long a collector waits for others, who write down a name or collect: that takes moments.
const PATIENCE: Duration = Duration::from_secs(5);

/// While this lives, the blobs that this process asked the store for, or took in, are not removed.
#[derive(Debug)]
pub struct Lease {
    held: Arc<lease::Lease>,
}

impl Lease {
    /// The digests that are held by this process.
    pub fn names(&self) -> HashSet<String> {
        self.held.names()
    }
}

/// The right to remove blobs.
#[derive(Debug)]
pub struct Collection<'a> {
    store: &'a Store,
    clearing: Clearing,
}

impl Store {
    /// From here on, the blobs that are asked for are kept, whether they are here or come later.
    pub fn lease(&self) -> Result<Lease> {
        let mut current = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = current.upgrade() {
            return Ok(Lease { held });
        }
        let held = Arc::new(self.leases.take().map_err(|error| io("hold blobs in", &self.root)(error.source))?);
        *current = Arc::downgrade(&held);
        Ok(Lease { held })
    }

    /// Keeps this blob as long as this process has a lease; without one, that is nobody's wish.
    pub(super) fn hold(&self, digest: &Digest) -> Result<()> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        match held {
            Some(held) => held.hold([digest.as_str()]).map_err(|error| io("hold a blob in", &self.root)(error.source)),
            None => Ok(()),
        }
    }

    /// Begins to collect garbage; `None` while others do, for long.
    pub fn collection(&self) -> Result<Option<Collection<'_>>> {
        let clearing = self.leases.clear_up(PATIENCE).map_err(|error| io("clear up", &self.root)(error.source))?;
        Ok(clearing.map(|clearing| Collection { store: self, clearing }))
    }

    /// The digests of all blobs that are here.
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.root.join("blobs").join(algorithm);
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(io("list", &dir))?,
            };
            for entry in entries {
                let name = entry.map_err(io("list", &dir))?.file_name();
                // What is no digest was not put there by us, and is left alone.
                found.extend(format!("{algorithm}:{}", name.to_string_lossy()).parse::<Digest>().ok());
            }
        }
        Ok(found)
    }
}

impl Collection<'_> {
    /// Whether somebody at work needs this blob.
    pub fn is_held(&self, digest: &Digest) -> bool {
        self.clearing.names().contains(digest.as_str())
    }

    /// The blobs that are neither in `keep` nor needed by somebody at work.
    pub fn garbage(&self, keep: &HashSet<Digest>) -> Result<Vec<Digest>> {
        let needed = |digest: &Digest| keep.contains(digest) || self.is_held(digest);
        Ok(self.store.blobs()?.into_iter().filter(|digest| !needed(digest)).collect())
    }

    /// Removes these blobs, but those that are needed by somebody at work. How many bytes that freed.
    pub fn remove(self, blobs: &HashSet<Digest>) -> Result<u64> {
        let free = blobs.iter().filter(|digest| !self.is_held(digest));
        free.map(|digest| self.store.size_of(digest).map_or(Ok(0), |size| self.remove_one(digest).map(|()| size))).sum()
    }

    fn remove_one(&self, digest: &Digest) -> Result<()> {
        let path = self.store.path_of(digest);
        std::fs::remove_file(&path).map_err(io("remove", &path))
    }

    /// Removes all blobs but those in `keep` and those that are needed by somebody at work. The digests removed, and
    /// how many bytes that freed.
    pub fn keep_only(self, keep: &HashSet<Digest>) -> Result<(Vec<Digest>, u64)> {
        let garbage = self.garbage(keep)?;
        let mut freed = 0;
        for digest in &garbage {
            freed += self.store.size_of(digest).unwrap_or(0);
            self.remove_one(digest)?;
        }
        Ok((garbage, freed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, MediaType};

    fn put(store: &Store, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let descriptor = Descriptor::new(MediaType::default(), digest.clone(), bytes.len() as u64);
        let mut ingest = store.ingest(&descriptor).unwrap();
        ingest.append(bytes).unwrap();
        ingest.commit().unwrap();
        digest
    }

    #[test]
    fn what_is_not_kept_goes_and_strangers_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (kept, garbage) = (put(&store, b"kept"), put(&store, b"garbage"));
        let stranger = dir.path().join("blobs/sha256/README");
        std::fs::write(&stranger, "").unwrap();
        let keep = HashSet::from([kept.clone()]);
        let (removed, freed) = store.collection().unwrap().unwrap().keep_only(&keep).unwrap();
        assert_eq!((removed, freed), (vec![garbage.clone()], 7));
        assert!(store.has(&kept) && !store.has(&garbage) && stranger.exists());
    }

    #[test]
    fn a_lease_keeps_what_was_asked_for_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
        let (asked, garbage) = (put(&two, b"asked for"), put(&two, b"garbage"));
        let lease = one.lease().unwrap();
        assert!(one.has(&asked) && two.has(&garbage));
        let new = put(&one.clone(), b"taken in");
        let collect = || two.collection().unwrap().unwrap().keep_only(&HashSet::new()).unwrap().0;
        assert_eq!(collect(), [garbage]);
        assert!(one.has(&asked) && one.has(&new));
        drop(lease);
        assert_eq!(collect().len(), 2);
    }

    #[test]
    fn leases_of_one_process_end_with_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let blob = put(&store, b"x");
        let (one, two) = (store.lease().unwrap(), store.lease().unwrap());
        assert!(store.has(&blob));
        drop(one);
        let collect = || store.collection().unwrap().unwrap().keep_only(&HashSet::new()).unwrap().0;
        assert_eq!(collect(), []);
        drop(two);
        assert_eq!(collect(), [blob]);
    }
}
