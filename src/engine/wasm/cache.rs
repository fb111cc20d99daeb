//! Compiled code on disk.
//!
//! ```text
//! cache/wasm/                    0700, ours
//!   <key>                        one compiled program; replaced by rename, never changed
//!     0        ELF               what wasmtime made; mapped from offset 0
//!     length   trailer           "WHERRYWASM000001", kind, CRC-32 of the ELF, its length, the key
//!   seen-<identity>              another name of an entry: the file that it was made of, unchanged since
//!   .<key>.<pid>.<n>             being written
//! ```
//!
//! The key is the SHA-256 of the program and of everything else that its code depends on, so an entry
//! is never out of date, only unused. The trailer is not a defence against an enemy, who cannot write
//! here: it tells a truncated or rotten file from a good one before it is executed. Such an entry
//! counts as missing.
//!
//! Hashing a program at each start costs more than all the rest of the start does. A program that is a file is
//! found by what the kernel says of that file instead ([`Identity`]), and then neither it nor the code is read
//! through: the code's length and trailer are still looked at, its checksum was when the name was made.

use std::fs::File;
use std::io::ErrorKind::{AlreadyExists, NotFound, PermissionDenied, TooManyLinks, Unsupported};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;
use sha2::{Digest as _, Sha256};

use super::identity::Identity;
use super::settings::Purpose;
use super::view::Board;
use super::{Error, Kind, Source};
use crate::sys;
use crate::sys::private_dir::{PrivateDir, PrivateFile};

const MAGIC: &[u8; 16] = b"WHERRYWASM000001";
const TRAILER: usize = 16 + 4 + 4 + 8 + 32;

/// A program's compiled code: an open file, so that it can be loaded where paths lead elsewhere.
#[derive(Debug)]
pub struct Compiled {
    pub(super) file: PrivateFile,
    pub(super) kind: Kind,
    pub(super) purpose: Purpose,
    pub(super) board: Board,
    key: Key,
}

impl Compiled {
    /// The same, its run to be written down on `board`.
    #[must_use]
    pub fn shown_on(self, board: Board) -> Self {
        Self { board, ..self }
    }

    /// The shape of the program that was compiled.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name of the code, the same for every program of the same bytes.
    pub fn name(&self) -> String {
        self.key.name()
    }

    /// Whether it is an HTTP server.
    pub fn serves(&self) -> bool {
        self.purpose.serves()
    }

    /// The open file, to hand to the process that will [`load`](super::load) it.
    pub fn into_file(self) -> File {
        self.file.into_file()
    }

    /// Takes over what [`Compiled::into_file`] gave in the process that started this one. Nothing else
    /// may be passed: what is in the file will be executed.
    #[cfg(unix)]
    pub fn inherited(fd: std::os::fd::OwnedFd) -> Result<Self, Error> {
        let refused = |source: io::Error| Error::Load { source: source.into() };
        let file = PrivateFile::inherited(fd).map_err(|error| Error::Load { source: error.into() })?;
        let trailer = Trailer::of(file.as_file()).map_err(refused)?.ok_or_else(|| refused(damaged()))?;
        Ok(trailer.of_file(file))
    }
}

/// So that it can be kept when everything else is closed.
#[cfg(unix)]
impl std::os::fd::AsFd for Compiled {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_file().as_fd()
    }
}

/// The directory of compiled code.
pub(super) struct Cache {
    directory: PathBuf,
    dir: PrivateDir,
}

/// A program and everything else that its compiled code depends on, as one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(source: &Source, fingerprint: &[u8; 32]) -> Self {
        Self(Sha256::new().chain_update(fingerprint).chain_update(&source.bytes).finalize().into())
    }

    fn name(&self) -> String {
        hex(&self.0)
    }

    fn of_name(name: &str) -> Option<Self> {
        let byte = |at: usize| u8::from_str_radix(name.get(2 * at..2 * at + 2)?, 16).ok();
        let key = std::array::from_fn(|at| byte(at).unwrap_or(0));
        Some(Self(key)).filter(|key| key.name() == name)
    }
}

impl Cache {
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let dir =
            PrivateDir::open(directory).map_err(|source| Error::Cache { directory: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), dir })
    }

    /// The code kept under `key`; `None` when there is none or it is damaged.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Compiled>, Error> {
        let Some(file) = self.dir.get(&key.name()).map_err(|source| self.failed(source))? else {
            return Ok(None);
        };
        let trailer = verified(file.as_file(), key)
            .map_err(|source| self.failed(sys::Error { call: format!("read({:?})", key.name()), source }))?;
        Ok(trailer.map(|trailer| trailer.of_file(file)))
    }

    /// The code made of the file `of`; `None` when it has not been remembered as it is now.
    pub(super) fn recall(&self, of: &Identity) -> Result<Option<Compiled>, Error> {
        let name = seen(of);
        let Some(file) = self.dir.get(&name).map_err(|source| self.failed(source))? else {
            return Ok(None);
        };
        let trailer = Trailer::of(file.as_file())
            .map_err(|source| self.failed(sys::Error { call: format!("read({name:?})"), source }))?;
        Ok(trailer.map(|trailer| trailer.of_file(file)))
    }

    /// Remembers that `compiled`, which was verified, was made of the file `of`.
    pub(super) fn remember(&self, of: &Identity, compiled: &Compiled) -> Result<(), Error> {
        match self.dir.link(&compiled.key.name(), &seen(of)) {
            // The entry has gone since, or the filesystem gives a file one name only.
            Err(error) if matches!(error.source.kind(), NotFound | PermissionDenied | Unsupported | TooManyLinks) => {
                Ok(())
            }
            // Somebody else has just remembered the same.
            Err(error) if error.source.kind() == AlreadyExists => Ok(()),
            linked => linked.map_err(|source| self.failed(source)),
        }
    }

    /// Keeps `code` under `key`, and opens it.
    pub(super) fn put(&self, key: &Key, kind: Kind, purpose: Purpose, code: &[u8]) -> Result<Compiled, Error> {
        let trailer = Trailer { kind, purpose, crc: crc_of(code), length: code.len() as u64, key: *key };
        let write = |file: &mut File| {
            file.write_all(code)?;
            file.write_all(&trailer.to_bytes())
        };
        self.dir.put(&key.name(), write).map_err(|source| self.failed(source))?;
        let gone = || sys::Error { call: format!("openat({:?})", key.name()), source: io::ErrorKind::NotFound.into() };
        let file = self.dir.get(&key.name()).and_then(|file| file.ok_or_else(gone));
        Ok(trailer.of_file(file.map_err(|source| self.failed(source))?))
    }

    /// Removes the code of these names, by all the names that it has. Who has it open goes on.
    pub(super) fn discard(&self, names: &[String]) -> Result<(), Error> {
        let failed = |source| self.failed(source);
        let all = self.dir.names().map_err(failed)?;
        for name in all.iter().filter(|name| name.starts_with(SEEN)) {
            let trailer = match self.dir.get(name).map_err(failed)? {
                Some(file) => Trailer::of(file.as_file()).ok().flatten(),
                None => None,
            };
            if trailer.is_some_and(|trailer| names.contains(&trailer.key.name())) {
                self.dir.remove(name).map_err(failed)?;
            }
        }
        names.iter().try_for_each(|name| self.dir.remove(name).map(drop).map_err(failed))
    }

    /// The names of whole programs that are not what they say.
    pub(super) fn damaged(&self) -> Result<Vec<String>, Error> {
        let mut damaged = Vec::new();
        for name in self.dir.names().map_err(|source| self.failed(source))? {
            // Other names of entries, and what is being written, are not these.
            if let Some(key) = Key::of_name(&name)
                && self.dir.get(&name).map_err(|source| self.failed(source))?.is_some()
                && self.get(&key)?.is_none()
            {
                damaged.push(name);
            }
        }
        Ok(damaged)
    }

    fn failed(&self, source: sys::Error) -> Error {
        Error::Cache { directory: self.directory.clone(), source }
    }
}

/// What the names begin with by which code is found of an unchanged file.
const SEEN: &str = "seen-";

fn seen(identity: &Identity) -> String {
    format!("{SEEN}{}", hex(&identity.digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What stands at the end of an entry.
struct Trailer {
    kind: Kind,
    purpose: Purpose,
    crc: u32,
    length: u64,
    key: Key,
}

impl Trailer {
    /// What is in the file that ends with it.
    fn of_file(self, file: PrivateFile) -> Compiled {
        Compiled { file, kind: self.kind, purpose: self.purpose, board: Board::default(), key: self.key }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let kind: u32 = match (self.kind, self.purpose) {
            (Kind::Module, Purpose::Metered) => 5,
            (Kind::Module, _) => 1,
            (Kind::Component, Purpose::Command) => 2,
            (Kind::Component, Purpose::Server2) => 3,
            (Kind::Component, Purpose::Server3) => 4,
            (Kind::Component, Purpose::Metered) => 6,
        };
        let mut bytes = Vec::with_capacity(TRAILER);
        bytes.extend(MAGIC);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(self.key.0);
        bytes
    }

    fn from_bytes(bytes: &[u8; TRAILER]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (kind, purpose) = match u32::from_le_bytes(*kind) {
            1 => (Kind::Module, Purpose::Command),
            2 => (Kind::Component, Purpose::Command),
            3 => (Kind::Component, Purpose::Server2),
            4 => (Kind::Component, Purpose::Server3),
            5 => (Kind::Module, Purpose::Metered),
            6 => (Kind::Component, Purpose::Metered),
            _ => return None,
        };
        let (crc, length) = (u32::from_le_bytes(*crc), u64::from_le_bytes(*length));
        Some(Self { kind, purpose, crc, length, key: Key(*rest.first_chunk()?) })
    }

    /// The trailer of a whole entry; `None` when the file is not as long as it says, or has none.
    fn of(mut file: &File) -> io::Result<Option<Self>> {
        let size = file.metadata()?.len();
        let Some(length) = size.checked_sub(TRAILER as u64) else { return Ok(None) };
        let mut bytes = [0; TRAILER];
        file.seek(SeekFrom::Start(length))?;
        file.read_exact(&mut bytes)?;
        Ok(Self::from_bytes(&bytes).filter(|trailer| trailer.length == length))
    }
}

fn verified(mut file: &File, key: &Key) -> io::Result<Option<Trailer>> {
    let Some(trailer) = Trailer::of(file)?.filter(|trailer| trailer.key == *key) else { return Ok(None) };
    file.rewind()?;
    let crc = crc_of_all(file.take(trailer.length))?;
    Ok((crc == trailer.crc).then_some(trailer))
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The CRC-32 of everything that `from` yields.
fn crc_of_all(mut from: impl Read) -> io::Result<u32> {
    let mut crc = Crc::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(crc.sum()),
            n => crc.update(&buffer[..n]),
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not compiled code, or damaged")
}
