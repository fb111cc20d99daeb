//! Leases and garbage collection.
//!
//! Blobs are referenced by records that are written after them. Who is between the two (a pull)
//! holds a [`Lease`], shared; who removes blobs holds the same lock alone, and reads the records only
//! when it has it. So a blob is removed only if no record names it and nobody is about to write one.
//! A collector never waits for a long pull: it is told to come back another time.

use std::collections::HashSet;
use std::fs::{File, TryLockError};

use super::{Result, Store, io};
use crate::oci::Digest;

const LEASE_LOCK: &str = "lease.lock";

/// While this lives, no blob is removed.
#[derive(Debug)]
pub struct Lease {
    _lock: File,
}

/// The right to remove blobs, to the exclusion of every lease.
#[derive(Debug)]
pub struct Collection<'a> {
    store: &'a Store,
    _lock: File,
}

impl Store {
    /// Keeps all blobs, those that come later included, from being removed.
    pub fn lease(&self) -> Result<Lease> {
        let lock = self.lock_file(LEASE_LOCK)?;
        lock.lock_shared().map_err(io("lock", &self.root))?;
        Ok(Lease { _lock: lock })
    }

    /// Begins to collect garbage; `None` while anyone holds a lease.
    pub fn collection(&self) -> Result<Option<Collection<'_>>> {
        let lock = self.lock_file(LEASE_LOCK)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Collection { store: self, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io("lock", &self.root)(source)),
        }
    }
}

impl Collection<'_> {
    /// Removes all blobs but those in `keep`. The digests removed, and how many bytes that freed.
    pub fn keep_only(self, keep: &HashSet<Digest>) -> Result<(Vec<Digest>, u64)> {
        let garbage: Vec<Digest> = self.blobs()?.into_iter().filter(|digest| !keep.contains(digest)).collect();
        let mut freed = 0;
        for digest in &garbage {
            let path = self.store.path_of(digest);
            freed += self.store.size_of(digest).unwrap_or(0);
            std::fs::remove_file(&path).map_err(io("remove", &path))?;
        }
        Ok((garbage, freed))
    }

    fn blobs(&self) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.store.root.join("blobs").join(algorithm);
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
    fn a_lease_keeps_collectors_out_and_not_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
        let leases = (one.lease().unwrap(), two.lease().unwrap());
        assert!(one.collection().unwrap().is_none());
        drop(leases);
        assert!(one.collection().unwrap().is_some());
    }
}
