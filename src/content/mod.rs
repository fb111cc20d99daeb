//! Bytes by digest, and the only judge of "verified".
//!
//! An [OCI image layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md), so
//! that other tools can read the store as it lies:
//!
//! ```text
//! content/
//!   oci-layout                 {"imageLayoutVersion":"1.0.0"}
//!   index.json                 an empty index: names are in the database
//!   blobs/sha256/<hex>         complete, verified, never written again
//!   ingest/<hex>.<pid>.<n>     being written; its writer holds a lock on it
//!   ingest/<digest>.part       what has come of a download, to go on with (`partial`)
//!   ingest/<digest>.state      how much of it counts; its writer holds a lock on it
//!   ingest/.lock               shared while a temporary file is made and locked, exclusive while swept
//!   leases/<pid>.<n>           the digests of blobs that a process at work needs
//!   lease.lock                 shared while a digest is written into a lease, exclusive to collect garbage
//! ```
//!
//! A blob appears by one step, [`Ingest::commit`]: size and digest are right, the bytes are on the
//! disk, then the file is renamed to its digest. There is no other way, so a blob that exists is
//! whole whatever was killed and whenever the power went. Two processes that write the same digest
//! both succeed; the second rename replaces equal bytes.
//!
//! What a killed writer left is recognised by its lock, which the system has dropped: no living
//! writer's file is ever removed, however slow it is.
//!
//! This room knows no images: who collects garbage says what to keep.

mod check;
mod collect;
mod ingest;
mod partial;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, Weak};

use crate::error::{Failure, Kind};
use crate::oci::Digest;
use crate::sys::lease::{self, Leases};

pub use collect::{Collection, Lease};
pub use ingest::{Blob, Ingest, Unnamed};
pub use partial::{Claimed, Growing, Partial};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// The store of blobs. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<Path>,
    swept: Arc<Once>,
    leases: Leases,
    /// This process's lease, while it has one.
    held: Arc<Mutex<Weak<lease::Lease>>>,
}

/// Why bytes could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the store.
    #[error("cannot {intent} {}", path.display())]
    Io {
        /// What was tried.
        intent: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no blob of this digest.
    #[error("blob {digest} is not in the store")]
    Missing {
        /// The digest.
        digest: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("blob {digest} has {actual} bytes, and {expected} were announced", actual = Actual { size: *actual, expected: *expected })]
    Size {
        /// The digest.
        digest: Digest,
        /// What its descriptor says.
        expected: u64,
        /// What came; one that exceeds `expected` was cut off there.
        actual: u64,
    },
    /// The bytes hash to something else.
    #[error("blob {expected} has the digest {actual}: it was damaged or tampered with")]
    Digest {
        /// What its descriptor says.
        expected: Digest,
        /// What its bytes hash to.
        actual: Digest,
    },
    /// A blob is larger than its reader takes.
    #[error("blob {digest} is larger than the {limit} bytes that are accepted of it")]
    TooLarge {
        /// The digest.
        digest: Digest,
        /// The reader's limit.
        limit: u64,
    },
}

struct Actual {
    size: u64,
    expected: u64,
}

impl std::fmt::Display for Actual {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.size > self.expected { f.write_str("more") } else { write!(f, "{}", self.size) }
    }
}

/// Every format that is met here is told by fewer bytes.
const BEGINNING: u64 = 16;

/// What this room returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Missing { .. } => Kind::NotFound,
            Self::Size { .. } | Self::Digest { .. } => Kind::DataLoss,
            Self::TooLarge { .. } => Kind::ResourceExhausted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } if Kind::of_io(source) == Kind::ResourceExhausted => {
                Some("free some space, or keep images elsewhere with --root".to_owned())
            }
            _ => None,
        }
    }
}

fn io(intent: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { intent, path: path.to_owned(), source }
}

impl Store {
    /// Opens the store in `root`, making it if it is not there.
    pub fn open(root: &Path) -> Result<Self> {
        let leases = Leases::new(root.join("leases"), root.join("lease.lock"));
        let store = Self { root: root.into(), swept: Arc::new(Once::new()), leases, held: Arc::default() };
        // Written last, so that its presence means that all is there.
        if !root.join("oci-layout").exists() {
            store.make()?;
        }
        Ok(store)
    }

    fn make(&self) -> Result<()> {
        for dir in ["blobs/sha256", "ingest"] {
            let path = self.root.join(dir);
            std::fs::create_dir_all(&path).map_err(io("make", &path))?;
        }
        for (name, text) in [("index.json", EMPTY_INDEX), ("oci-layout", LAYOUT)] {
            self.write_whole(name, text)?;
        }
        sync_dir(&self.root)
    }

    /// Writes a small file in one step; two processes that both do so write the same.
    fn write_whole(&self, name: &str, text: &str) -> Result<()> {
        let path = self.root.join(name);
        let temp = self.root.join(format!(".{name}.{}", ingest::unique_suffix()));
        std::fs::write(&temp, text).map_err(io("write", &temp))?;
        File::open(&temp).and_then(|file| file.sync_all()).map_err(io("sync", &temp))?;
        std::fs::rename(&temp, &path).map_err(io("put in place", &path))
    }

    /// Where the blob of this digest is, or would be.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// Whether the blob is here, which is to say whole and verified. Who has a lease can count on it from then on;
    /// what could not be held, a collector may take at any moment, and is not had.
    pub fn has(&self, digest: &Digest) -> bool {
        self.hold(digest).is_ok() && self.path_of(digest).exists()
    }

    /// The size of the blob, if it is here.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.path_of(digest)).ok().map(|metadata| metadata.len())
    }

    /// Opens the blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        self.hold(digest)?;
        self.open_unheld(digest)
    }

    fn open_unheld(&self, digest: &Digest) -> Result<File> {
        let path = self.path_of(digest);
        File::open(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { digest: digest.clone() },
            _ => io("open", &path)(source),
        })
    }

    /// Reads a small blob into memory, at most `limit` bytes, and checks it once more: disks rot.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        self.hold(digest)?;
        self.peek(digest, limit)
    }

    /// The same, and the blob is not held: for who collects garbage, or does not mind that it goes.
    pub fn peek(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_unheld(digest)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io("read", &self.path_of(digest)))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { digest: digest.clone(), limit });
        }
        let mut hasher = digest.hasher();
        hasher.update(&bytes);
        match hasher.finish() {
            actual if actual == *digest => Ok(bytes),
            actual => Err(Error::Digest { expected: digest.clone(), actual }),
        }
    }

    /// The first bytes of a blob, as many as tell what it is.
    pub fn beginning(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open_blob(digest)?.take(BEGINNING).read_to_end(&mut bytes);
        read.map_err(io("read", &self.path_of(digest)))?;
        Ok(bytes)
    }

    /// Reads the whole blob and checks size and digest.
    pub fn verify(&self, digest: &Digest) -> Result<u64> {
        let path = self.path_of(digest);
        let (mut file, mut hasher) = (self.open_blob(digest)?, digest.hasher());
        let (mut buffer, mut size) = (vec![0; 128 << 10], 0);
        loop {
            match file.read(&mut buffer).map_err(io("read", &path))? {
                0 => break,
                n => (hasher.update(&buffer[..n]), size += n as u64),
            };
        }
        match hasher.finish() {
            actual if actual == *digest => Ok(size),
            actual => Err(Error::Digest { expected: digest.clone(), actual }),
        }
    }
}

/// Makes a rename in `dir` durable. Windows has no such call and orders metadata itself.
fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    use crate::oci::{Descriptor, MediaType};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("content")).unwrap();
        (dir, store)
    }

    fn put(store: &Store, bytes: &[u8]) -> Digest {
        let mut ingest = store.ingest(&descriptor(bytes)).unwrap();
        ingest.write_all(bytes).unwrap();
        ingest.commit().unwrap().digest().clone()
    }

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::default(), Digest::sha256(bytes), bytes.len() as u64)
    }

    #[test]
    fn it_is_an_image_layout() {
        let (dir, store) = store();
        let digest = put(&store, b"hello");
        let read = |name| std::fs::read_to_string(dir.path().join("content").join(name)).unwrap();
        assert_eq!(read("oci-layout"), LAYOUT);
        assert!(serde_json::from_str::<crate::oci::Index>(&read("index.json")).is_ok());
        assert_eq!(read(&format!("blobs/sha256/{}", digest.hex())), "hello");
    }

    #[test]
    fn reading_has_a_limit_and_checks() {
        let (_dir, store) = store();
        let digest = put(&store, b"hello");
        assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
        assert_eq!(store.verify(&digest).unwrap(), 5);
        assert!(matches!(store.read(&digest, 4), Err(Error::TooLarge { limit: 4, .. })));
        std::fs::write(store.path_of(&digest), "jello").unwrap();
        assert!(matches!(store.read(&digest, 5), Err(Error::Digest { .. })));
        assert!(matches!(store.verify(&digest), Err(Error::Digest { .. })));
        assert!(matches!(store.open_blob(&Digest::sha256(b"no")), Err(Error::Missing { .. })));
    }

    #[test]
    fn many_openers_make_one_store() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/content");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| put(&Store::open(&root).unwrap(), b"same"));
            }
        });
        assert!(Store::open(&root).unwrap().has(&Digest::sha256(b"same")));
    }
}
