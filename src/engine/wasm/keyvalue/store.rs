//! A store on disk.
//!
//! ```text
//! DIRECTORY/
//!   v.<key>     one value; replaced by rename, never changed. In a key, everything but a-z, 0-9, - and _ is %xx,
//!               capitals too, since some filesystems do not tell them from small letters
//!   t.<number>  being written
//!   lock        held while something is changed: by one program at a time, of whichever container
//! ```
//!
//! The program may have the same directory as its own, and can put anything there: nothing is followed that is a link,
//! and nothing is read that is not a file.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// The most bytes of a value.
const MAX_VALUE: u64 = 16 << 20;
/// The most bytes of a file's name, less than what filesystems have (`NAME_MAX`, 255).
const MAX_NAME: usize = 250;
/// The most keys of a store: to list them, all their names are read.
const MAX_KEYS: usize = 100_000;
/// How long a change waits for another one to be over.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until it looks again.
const PAUSE: Duration = Duration::from_millis(1);

/// Why something cannot be done with a store.
#[derive(Debug)]
pub enum Failed {
    /// Nothing is called so.
    NoSuchStore,
    /// It can only be read.
    Denied,
    /// Another reason.
    Other(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<Errno> for Failed {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// One store. Clones are the same.
#[derive(Clone, Debug)]
pub struct Store {
    directory: Arc<OwnedFd>,
    readonly: bool,
}

impl Store {
    /// The store in the directory `below` of `volume`; made if it is missing and can be.
    pub(super) fn open(volume: &Path, below: &Path, readonly: bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Not open(2), which the wall around this process does not let through.
        let mut directory = openat(CWD, volume, flags, Mode::empty())?;
        for part in below.components() {
            if !readonly {
                match mkdirat(&directory, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            directory = openat(&directory, part.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(Self { directory: Arc::new(directory), readonly })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failed> {
        // Not waiting, should it be a pipe that somebody put there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&*self.directory, name(key)?, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => File::from(file?),
        };
        if !file.metadata()?.is_file() {
            return Err(Failed::Other("what is kept for this key is not a file".into()));
        }
        let mut value = Vec::new();
        file.take(MAX_VALUE + 1).read_to_end(&mut value)?;
        check_value(&value)?;
        Ok(Some(value))
    }

    /// Whether a key has a value.
    pub(super) fn exists(&self, key: &str) -> Result<bool, Failed> {
        match statat(&*self.directory, name(key)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a key a value.
    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), Failed> {
        let _lock = self.lock()?;
        self.put(key, value)
    }

    /// Takes a key's value away, if it has one.
    pub(super) fn delete(&self, key: &str) -> Result<(), Failed> {
        let _lock = self.lock()?;
        match unlinkat(&*self.directory, name(key)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds to the number that is a key's value, in digits; the sum. A key without a value has none yet: 0.
    pub(super) fn increment(&self, key: &str, delta: u64) -> Result<u64, Failed> {
        let _lock = self.lock()?;
        let value = self.get(key)?.map_or_else(|| "0".to_owned(), |value| String::from_utf8_lossy(&value).into_owned());
        let number: u64 = value.parse().map_err(|_| Failed::Other("the value is not a number".into()))?;
        let sum = number.checked_add(delta).ok_or_else(|| Failed::Other("the number becomes too large".into()))?;
        self.put(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    /// All keys, in order.
    pub(super) fn keys(&self) -> Result<Vec<String>, Failed> {
        let mut keys = Vec::new();
        for entry in Dir::read_from(&*self.directory)? {
            let entry = entry?;
            keys.extend(entry.file_name().to_str().ok().and_then(key_of));
            if keys.len() > MAX_KEYS {
                return Err(Failed::Other(format!("there are more than {MAX_KEYS} keys")));
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), Failed> {
        check_value(value)?;
        let name = name(key)?;
        if !self.exists(key)? && self.keys()?.len() >= MAX_KEYS {
            return Err(Failed::Other(format!("there are {MAX_KEYS} keys, and no more can be kept")));
        }
        let part = format!("t.{:016x}", RandomState::new().hash_one(&name));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&*self.directory, &part, flags, Mode::from_raw_mode(0o644))?);
        let written = file.write_all(value).map_err(Failed::from);
        let written = written.and_then(|()| Ok(renameat(&*self.directory, &part, &*self.directory, &name)?));
        if written.is_err() {
            // The error at hand is the one that matters.
            crate::error::tolerate(unlinkat(&*self.directory, &part, AtFlags::empty()));
        }
        written
    }

    fn lock(&self) -> Result<File, Failed> {
        if self.readonly {
            return Err(Failed::Denied);
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lock = File::from(openat(self.directory.as_fd(), "lock", flags, Mode::from_raw_mode(0o644))?);
        let until = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if Instant::now() > until => {
                    return Err(Failed::Other("somebody else is changing the store".into()));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
    }
}

fn check_value(value: &[u8]) -> Result<(), Failed> {
    let too_large = || Failed::Other(format!("the value is larger than {MAX_VALUE} bytes"));
    if value.len() as u64 > MAX_VALUE { Err(too_large()) } else { Ok(()) }
}

/// The name of a key's file.
fn name(key: &str) -> Result<String, Failed> {
    let mut name = "v.".to_owned();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
        if name.len() > MAX_NAME {
            return Err(Failed::Other("the key is too long".into()));
        }
    }
    Ok(name)
}

/// The key whose file is called `name`.
fn key_of(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = name.strip_prefix("v.")?.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Path::new("a/b"), false).unwrap();
        (directory, store)
    }

    #[test]
    fn values_are_kept() {
        let (directory, store) = store();
        for key in ["a", "A", "", "../../x", "ü/\0", "with space.txt", &"k".repeat(248)] {
            assert_eq!(store.get(key).unwrap(), None, "{key:?}");
            store.set(key, key.as_bytes()).unwrap();
            assert!(store.exists(key).unwrap(), "{key:?}");
        }
        let again = Store::open(directory.path(), Path::new("a/b"), true).unwrap();
        assert_eq!(again.keys().unwrap().len(), 7);
        for key in again.keys().unwrap() {
            assert_eq!(again.get(&key).unwrap().unwrap(), key.as_bytes(), "{key:?}");
            assert!(matches!(again.set(&key, b""), Err(Failed::Denied)), "{key:?}");
            store.delete(&key).unwrap();
        }
        assert_eq!(store.keys().unwrap(), Vec::<String>::new());
        // One file is left: the lock.
        assert_eq!(std::fs::read_dir(directory.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let (_directory, store) = store();
        assert!(store.set("k", &vec![0; MAX_VALUE as usize + 1]).is_err());
        assert!(store.set(&"k".repeat(249), b"").is_err() && store.set(&"ü".repeat(42), b"").is_err());
        assert_eq!(store.keys().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn counting_is_atomic() {
        let (_directory, store) = store();
        let count = || (0..50).for_each(|_| assert!(store.increment("n", 2).is_ok()));
        std::thread::scope(|scope| drop((scope.spawn(count), scope.spawn(count))));
        assert_eq!(store.get("n").unwrap().unwrap(), b"200");
        store.set("n", b"x").unwrap();
        assert!(store.increment("n", 1).is_err());
        store.set("n", u64::MAX.to_string().as_bytes()).unwrap();
        assert!(store.increment("n", 1).is_err());
    }

    /// What a program that has the directory too can put there.
    #[test]
    fn nothing_leads_out() {
        let (directory, store) = store();
        let (inside, outside) = (directory.path().join("a/b"), directory.path().join("secret"));
        std::fs::write(&outside, "secret").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("v.link")).unwrap();
        std::fs::create_dir(inside.join("v.directory")).unwrap();
        assert!(store.get("link").is_err() && store.get("directory").is_err());
        store.set("link", b"mine").unwrap();
        assert_eq!(std::fs::read(&outside).unwrap(), b"secret");
        assert_eq!(store.get("link").unwrap().unwrap(), b"mine");
        std::os::unix::fs::symlink(directory.path(), directory.path().join("a/out")).unwrap();
        assert!(Store::open(directory.path(), Path::new("a/out/c"), false).is_err());
        std::fs::remove_file(inside.join("lock")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("lock")).unwrap();
        assert!(store.set("k", b"").is_err());
    }
}
