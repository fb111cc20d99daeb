//! Leases: names that living processes need, so that who clears up beside them leaves those alone.
//!
//! ```text
//! LOCK             shared while names are written down, exclusive while it is cleared up
//! DIR/<pid>.<n>    the names, one a line, of one lease; its holder has a lock on it, which dies with the process
//! ```
//!
//! The order makes it safe. A holder writes a name down *before* it looks whether the thing is there or makes it, and
//! gives the lease up *after* it has made a record of it. Who clears up, alone by then, reads the leases first and the
//! records second: a thing in need is in one or the other.
//!
//! Nothing is flushed: after a power cut there is no holder.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lock::FileLock;
use super::{Result, named};

/// How often it is looked whether others have done with the lock.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where the leases of one store are.
#[derive(Clone, Debug)]
pub struct Leases {
    dir: PathBuf,
    lock: PathBuf,
}

/// Names that are needed as long as this lives.
#[derive(Debug)]
pub struct Lease {
    lock: PathBuf,
    path: PathBuf,
    names: Mutex<Names>,
}

/// What one lease has written down.
#[derive(Debug)]
struct Names {
    file: FileLock,
    known: HashSet<String>,
}

/// The right to clear up: as long as this lives, nobody writes another name down.
#[derive(Debug)]
pub struct Clearing {
    names: HashSet<String>,
    _lock: FileLock,
}

impl Leases {
    /// The leases in the directory `dir`, which is made when it is needed, under the lock `lock`.
    pub fn new(dir: PathBuf, lock: PathBuf) -> Self {
        Self { dir, lock }
    }

    /// A lease without names.
    pub fn take(&self) -> Result<Lease> {
        let made = fs::create_dir_all(&self.dir);
        named(made, || format!("mkdir({:?})", self.dir))?;
        // So that nobody takes the file for a dead one's before it is locked.
        let _writing = FileLock::shared(&self.lock)?;
        let path = self.unused()?;
        let file = FileLock::exclusive(&path)?;
        Ok(Lease { lock: self.lock.clone(), path, names: Mutex::new(Names { file, known: HashSet::new() }) })
    }

    /// A new file. Another pid namespace may have a process of our number.
    fn unused(&self) -> Result<PathBuf> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = self.dir.join(format!("{}.{number}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return named(made, || format!("open({path:?}, O_CREAT | O_EXCL)")).map(|_| path),
            }
        }
    }

    /// Waits until nobody writes names down, and reads those of the living. `None` when that takes longer than
    /// `patience`.
    pub fn clear_up(&self, patience: Duration) -> Result<Option<Clearing>> {
        let deadline = Instant::now() + patience;
        let lock = loop {
            match FileLock::try_exclusive(&self.lock)? {
                Some(lock) => break lock,
                None if Instant::now() >= deadline => return Ok(None),
                None => std::thread::sleep(LOOK_AGAIN),
            }
        };
        let mut names = HashSet::new();
        for path in files(&self.dir)? {
            names.extend(names_of(&path)?);
        }
        Ok(Some(Clearing { names, _lock: lock }))
    }
}

/// The names in one file. That of a dead holder has none, and is removed.
fn names_of(path: &Path) -> Result<Vec<String>> {
    let file = match File::open(path) {
        // Its holder has just given it up.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => named(opened, || format!("open({path:?})"))?,
    };
    match file.try_lock() {
        Ok(()) => {
            let removed = fs::remove_file(path);
            named(removed, || format!("unlink({path:?})")).map(|()| Vec::new())
        }
        Err(TryLockError::WouldBlock) => {
            let text = named(io::read_to_string(file), || format!("read({path:?})"))?;
            Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
        Err(TryLockError::Error(error)) => named(Err(error), || format!("flock({path:?}, LOCK_EX | LOCK_NB)")),
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let paths = entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
            named(paths, || format!("getdents64({dir:?})"))
        }
    }
}

impl Lease {
    /// Writes names down; a failure means that they are not held.
    pub fn hold<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&str> = names.into_iter().filter(|name| !held.known.contains(*name)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let _writing = FileLock::shared(&self.lock)?;
        // What an earlier write left half-done, on a full disk, ends with the first of these line ends.
        let text: String = new.iter().map(|name| format!("\n{name}\n")).collect();
        let written = held.file.file().write_all(text.as_bytes());
        named(written, || format!("write({:?})", self.path))?;
        held.known.extend(new.into_iter().map(str::to_owned));
        Ok(())
    }
}

impl Lease {
    /// The names that are held.
    pub fn names(&self) -> HashSet<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).known.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // If it cannot be removed, its lock goes all the same, and the next who clears up removes it.
        fs::remove_file(&self.path).ok();
    }
}

impl Clearing {
    /// The names that living processes need.
    pub fn names(&self) -> &HashSet<String> {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases() -> (tempfile::TempDir, Leases) {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path().join("leases"), dir.path().join("lock"));
        (dir, leases)
    }

    fn held(leases: &Leases) -> Vec<String> {
        let clearing = leases.clear_up(Duration::ZERO).unwrap().unwrap();
        let mut names: Vec<String> = clearing.names().iter().cloned().collect();
        names.sort();
        names
    }

    #[test]
    fn the_living_hold_their_names_and_the_dead_nothing() {
        let (_dir, leases) = leases();
        assert_eq!(held(&leases), [""; 0]);
        let (one, two) = (leases.take().unwrap(), leases.take().unwrap());
        one.hold(["a", "b"]).unwrap();
        two.hold(["b", "c"]).unwrap();
        two.hold(["d"]).unwrap();
        assert_eq!(held(&leases), ["a", "b", "c", "d"]);
        drop(two);
        assert_eq!(held(&leases), ["a", "b"]);
        // A killed holder: a file that nobody has a lock on.
        fs::write(leases.dir.join("1.0"), "z\n").unwrap();
        assert_eq!(held(&leases), ["a", "b"]);
        assert_eq!(files(&leases.dir).unwrap().len(), 1);
    }

    #[test]
    fn who_clears_up_is_alone_and_gives_up_when_it_takes_too_long() {
        let (_dir, leases) = leases();
        let clearing = leases.clear_up(Duration::ZERO).unwrap().unwrap();
        assert!(leases.clear_up(Duration::from_millis(20)).unwrap().is_none());
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| leases.take().unwrap());
            drop(clearing);
            holder.join().unwrap();
        });
        assert!(leases.clear_up(Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn half_a_name_is_no_other_name() {
        let (_dir, leases) = leases();
        let lease = leases.take().unwrap();
        lease.names.lock().unwrap().file.file().write_all(b"\nhal").unwrap();
        lease.hold(["whole"]).unwrap();
        assert_eq!(held(&leases), ["hal", "whole"]);
    }
}
