//! What is known of the containers: one directory each, no daemon.
//!
//! ```text
//! ROOT/<id>/            the directory itself is locked while one command works on the container
//!   state.json          what was asked for and which process it became; replaced whole, never changed
//!   config.json         the specification as it was at create: later changes to the bundle have no effect
//!   start.sock          exists from create until start
//!   notify/notify.sock  the container's side of $NOTIFY_SOCKET, where there is one
//! ```
//!
//! `state.json` is there before anything else of the container is made, and names its cgroup: whenever a command is
//! killed, `delete` finds what there may be to clear. The process in it is written before the engine lets the process
//! outlive its maker; a record without one has no process, whatever is in its cgroup.
//!
//! ROOT is on a filesystem that a reboot empties, so nothing here is synced to a disk.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Context;
use super::error::Error;
use super::status::Status;
use crate::bundle::{self, Bundle, MAX_CONFIG_BYTES};
use crate::cgroup::{Cgroup, Manager, Rdt};
use crate::engine::Engine;
use crate::oci::runtime::LinuxNamespaceType;
use crate::sys::lock::FileLock;
use crate::sys::named;
use crate::sys::process::Identity;

/// The version of `state.json` that is written. Older ones are read as long as they are listed here.
const VERSION: u32 = 1;

/// The largest `state.json` that is read: annotations are the only part of it that can be large, and come from a
/// specification of at most [`MAX_CONFIG_BYTES`].
const MAX_RECORD_BYTES: u64 = 2 * MAX_CONFIG_BYTES;

/// Everything that is recorded of one container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which form this is.
    pub version: u32,
    /// The container's name.
    pub id: String,
    /// The version of the runtime specification that its configuration says.
    pub oci_version: String,
    /// Where its bundle was.
    pub bundle: PathBuf,
    /// Where its root filesystem is.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// What the user says about it.
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup; `None` where there is none to have.
    pub cgroup: Option<Place>,
    /// Its share of the caches and of the memory's bandwidth, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<Rdt>,
    /// Whether its processes are in a pid namespace that ends with the first of them.
    pub own_pids: bool,
    /// Whether there are hooks to run after its end; most have none, and need not have their configuration read again.
    pub poststop: bool,
    /// What runs its program, as was decided at create.
    #[serde(default = "linux", skip_serializing_if = "is_linux")]
    pub engine: Engine,
    /// Whether whoever created it may lack the right to make cgroups.
    pub rootless: bool,
    /// Its first process, once there is one. Set while others look at the record.
    init: Cell<Option<Identity>>,
}

/// What is needed to find a cgroup again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Place {
    /// Who makes it.
    pub manager: Manager,
    /// Where it was to be: known before it is made.
    pub path: PathBuf,
    /// The group itself, once there is one.
    pub group: Option<Cgroup>,
}

/// The engine of records from before there was a choice.
fn linux() -> Engine {
    Engine::Linux
}

fn is_linux(engine: &Engine) -> bool {
    *engine == Engine::Linux
}

/// The containers below one root.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// One container: its directory and what is recorded there.
#[derive(Debug)]
pub struct Entry {
    /// Its directory.
    pub directory: PathBuf,
    /// The record.
    pub record: Record,
}

/// A container that no other command works on meanwhile.
#[derive(Debug)]
pub struct Locked {
    /// The container.
    pub entry: Entry,
    _lock: FileLock,
}

impl Store {
    /// The containers below `root`, which need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a container of this name is, or would be.
    pub fn directory(&self, id: &str) -> Result<PathBuf, Error> {
        check_id(id)?;
        Ok(self.root.join(id))
    }

    /// Makes a new container's directory with its record in it.
    pub fn create(&self, record: Record) -> Result<Locked, Error> {
        let directory = self.directory(&record.id)?;
        self.make_root()?;
        // Others may pass through: what a container is shown of it, such as its notify socket, is inside.
        match std::fs::DirBuilder::new().mode(0o711).create(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(Error::Exists),
            made => named(made, || format!("mkdir({directory:?}, 0711)")).map_err(Error::sys("keep its state"))?,
        }
        let lock = lock(&directory)?;
        let entry = Entry { directory, record };
        entry.save().map_err(Error::sys("keep its state"))?;
        Ok(Locked { entry, _lock: lock })
    }

    fn make_root(&self) -> Result<(), Error> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        named(made, || format!("mkdir({:?}, 0700)", self.root)).map_err(Error::sys("make the directory of containers"))
    }

    /// The container of this name.
    pub fn load(&self, id: &str) -> Result<Entry, Error> {
        Entry::read(self.directory(id)?)
    }

    /// The container of this name, when no other command works on it any more.
    pub fn lock(&self, id: &str) -> Result<Locked, Error> {
        let lock = lock(&self.directory(id)?)?;
        Ok(Locked { entry: self.load(id)?, _lock: lock })
    }

    /// Removes a directory in which there is no record, as a create leaves that was killed at once.
    pub fn sweep(&self, id: &str) -> Result<(), Error> {
        let directory = self.directory(id)?;
        match lock(&directory) {
            Err(Error::NotExist) => Ok(()),
            Err(error) => Err(error),
            Ok(_lock) if directory.join("state.json").exists() => Ok(()),
            Ok(_lock) => remove(&directory),
        }
    }

    /// The names of all containers, in order.
    pub fn ids(&self) -> Result<Vec<String>, Error> {
        let listed = named(std::fs::read_dir(&self.root), || format!("open({:?})", self.root));
        let entries = match listed {
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
            listed => listed.map_err(Error::sys("list the containers"))?,
        };
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| check_id(name).is_ok() && self.root.join(name).is_dir())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

impl Record {
    /// What is known of a container before anything of it is made.
    pub fn new(context: &Context<'_>, id: &str, bundle: &Bundle, engine: Engine) -> Result<Self, Error> {
        let spec = bundle.spec();
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let own = |typ| namespaces.into_iter().flatten().any(|ns| ns.typ() == typ && ns.path().is_none());
        Ok(Self {
            version: VERSION,
            id: id.to_owned(),
            oci_version: spec.version().clone(),
            bundle: bundle.directory().to_owned(),
            rootfs: bundle.rootfs(),
            created: jiff::Timestamp::now().to_string(),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            cgroup: super::cgroup::place(&context.manager, id, spec),
            rdt: None,
            own_pids: own(LinuxNamespaceType::Pid),
            poststop: spec.hooks().as_ref().is_some_and(|hooks| hooks.poststop().is_some()),
            engine,
            rootless: context.rootless,
            init: Cell::new(None),
        })
    }

    /// The container's first process, once there is one.
    pub fn init(&self) -> Option<Identity> {
        self.init.get()
    }
}

impl Locked {
    /// Records the container's first process, and all else that is to be written down.
    pub fn set_init(&self, init: Identity) -> crate::sys::Result<()> {
        self.entry.record.init.set(Some(init));
        self.entry.save()
    }

    /// Takes note of the cgroup that was made. It is written down with what comes next.
    pub fn note_cgroup(&mut self, group: Option<Cgroup>) {
        if let Some(place) = &mut self.entry.record.cgroup {
            place.group = group;
        }
    }

    /// Takes note of the share that was made, and writes it down: nothing else leads to it.
    pub fn set_rdt(&mut self, rdt: Rdt) -> crate::sys::Result<()> {
        self.entry.record.rdt = Some(rdt);
        self.save()
    }

    /// Writes the record down.
    pub fn save(&self) -> crate::sys::Result<()> {
        self.entry.save()
    }

    /// Removes the container's directory: it does not exist any more.
    pub fn remove(self) -> Result<(), Error> {
        remove(&self.entry.directory)
    }
}

impl Entry {
    fn read(directory: PathBuf) -> Result<Self, Error> {
        let path = directory.join("state.json");
        let bytes = match std::fs::metadata(&path).map(|found| found.len() <= MAX_RECORD_BYTES) {
            Ok(true) => std::fs::read(&path),
            Ok(false) => Err(std::io::Error::other("it is too large")),
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Err(Error::NotExist);
            }
            bytes => named(bytes, || format!("read({path:?})")).map_err(Error::sys("read its state"))?,
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|source| Error::Record { path, source })?;
        if record.version > VERSION {
            return Err(Error::NewerRecord { version: record.version });
        }
        Ok(Self { directory, record })
    }

    /// Replaces the record whole.
    fn save(&self) -> crate::sys::Result<()> {
        let json = serde_json::to_vec(&self.record).expect("a record has nothing that JSON has not");
        replace(&self.directory.join("state.json"), &json)
    }

    /// Where the specification's copy is.
    pub fn config(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// The cgroup that was made for it.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.record.cgroup.as_ref()?.group.as_ref()
    }

    /// The uid of whoever created the container.
    pub fn owner(&self) -> Option<u32> {
        std::fs::metadata(&self.directory).ok().map(|found| found.uid())
    }

    /// Whether a command works on it now.
    pub fn is_held(&self) -> bool {
        FileLock::directory_is_held(&self.directory).unwrap_or(false)
    }

    /// What it is doing: what the record and the kernel say together.
    pub fn status(&self) -> Status {
        Status::of(self)
    }
}

/// Writes a file beside `path` and puts it in its place.
pub fn replace(path: &Path, bytes: &[u8]) -> crate::sys::Result<()> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".new");
    let written = std::fs::write(&temp, bytes).and_then(|()| std::fs::rename(&temp, path));
    named(written, || format!("write({path:?}, {} bytes)", bytes.len()))
}

/// Locks a container's directory; it may have been removed while we waited.
fn lock(directory: &Path) -> Result<FileLock, Error> {
    match FileLock::directory(directory) {
        Ok(lock) if lock.is(directory) => Ok(lock),
        Ok(_) => Err(Error::NotExist),
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Err(Error::NotExist),
        Err(error) => Err(Error::sys("lock its state")(error)),
    }
}

fn remove(directory: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => named(removed, || format!("rmdir({directory:?})")).map_err(Error::sys("remove its state")),
    }
}

/// The names of containers are those of directories, and of cgroups.
fn check_id(id: &str) -> Result<(), Error> {
    match bundle::valid_id(id) {
        _ if id.is_empty() => Err(Error::EmptyId),
        checked => checked.map_err(|invalid| Error::InvalidId { problem: invalid.problem }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn record(id: &str) -> Record {
        Record {
            version: VERSION,
            id: id.to_owned(),
            oci_version: "1.2.0".to_owned(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            annotations: BTreeMap::new(),
            cgroup: None,
            rdt: None,
            own_pids: true,
            poststop: false,
            engine: Engine::Linux,
            rootless: false,
            init: Cell::new(None),
        }
    }

    #[test]
    fn names_are_those_of_directories() {
        for good in ["a", "A_b+c-d.e", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "ä", "a\0"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_given_once_and_is_free_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("deep/root"));
        assert_eq!(store.ids().unwrap(), [""; 0]);
        let made = store.create(record("c")).unwrap();
        assert!(matches!(store.create(record("c")), Err(Error::Exists)));
        assert_eq!(store.ids().unwrap(), ["c"]);
        let me = Identity::of(std::process::id().cast_signed()).unwrap();
        made.set_init(me).unwrap();
        assert_eq!(store.load("c").unwrap().record.init(), Some(me));
        made.remove().unwrap();
        assert!(matches!(store.load("c"), Err(Error::NotExist)));
        assert!(matches!(store.lock("c"), Err(Error::NotExist)));
    }

    #[test]
    fn a_directory_without_a_record_is_swept_and_one_with_it_is_not() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        std::fs::create_dir(root.path().join("torn")).unwrap();
        drop(store.create(record("whole")).unwrap());
        for id in ["torn", "whole", "never"] {
            store.sweep(id).unwrap();
        }
        assert_eq!(store.ids().unwrap(), ["whole"]);
    }

    #[test]
    fn a_record_of_a_later_version_is_not_guessed_at() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        drop(store.create(Record { version: VERSION + 1, ..record("c") }).unwrap());
        assert!(matches!(store.load("c"), Err(Error::NewerRecord { .. })));
    }

    #[test]
    fn a_lock_on_a_removed_container_is_none() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let held = store.create(record("c")).unwrap();
        assert!(held.entry.is_held());
        let directory = held.entry.directory.clone();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock(&directory));
            held.remove().unwrap();
            assert!(matches!(waiting.join().unwrap(), Err(Error::NotExist)));
        });
    }
}
