//! The directory of layers: how it is marked, where things are, and what is removed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys;
use crate::sys::dir::Dir;
use crate::sys::lease::{Clearing, Leases};
use crate::sys::lock::FileLock;
use crate::sys::mount::Recipe;

use super::chain::LayerId;
use super::error::Error;
use super::mark::Marks;
use super::meta::Powers;

/// The version of `store.json` and `layer.json` that this code writes.
const VERSION: u32 = 1;

/// How long a sweep waits for those who use layers for a moment. Who unpacks some has a lease instead.
const PATIENCE: Duration = Duration::from_secs(2);

/// The layers of one data root.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    powers: Powers,
    /// Found out when first needed: most commands never are.
    marks: OnceLock<Marks>,
}

/// What [`Store::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Layers removed.
    pub removed: usize,
    /// Nothing was looked at, since layers are in use right now; the next sweep will.
    pub busy: bool,
}

/// `store.json`
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    marks: Marks,
}

/// `layer.json`
#[derive(Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) version: u32,
    pub(super) diff_id: crate::oci::Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<LayerId>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl LayerRecord {
    pub(super) fn new(diff_id: crate::oci::Digest, parent: Option<LayerId>, entries: u64, bytes: u64) -> Self {
        Self { version: VERSION, diff_id, parent, entries, bytes }
    }
}

impl Store {
    /// The layers in the directory `root`, which is made if need be.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let store = Self { root: root.to_owned(), powers: Powers::of_process(), marks: OnceLock::new() };
        make_private_dir(root)?;
        Ok(store)
    }

    /// How layers are marked here. The first time ever, this is found out by mounting.
    pub fn marks(&self) -> Result<Marks, Error> {
        if let Some(marks) = self.marks.get() {
            return Ok(*marks);
        }
        let marks = self.read_or_find_marks()?;
        Ok(*self.marks.get_or_init(|| marks))
    }

    /// Removes the layers that are neither among `keep` nor needed by somebody who unpacks right now, and what a crash
    /// left half-done. `keep` is asked when nobody can begin to use any, so that it misses none.
    pub fn sweep<E: From<Error>>(&self, keep: impl FnOnce() -> Result<HashSet<LayerId>, E>) -> Result<Swept, E> {
        let Some(clearing) = self.clear_up()? else { return Ok(Swept { removed: 0, busy: true }) };
        Ok(self.sweep_all_but(&keep()?, &clearing)?)
    }

    /// The right to remove layers, but those that are held.
    pub(super) fn clear_up(&self) -> Result<Option<Clearing>, Error> {
        self.leases().clear_up(PATIENCE).map_err(|e| failed("clear up", &self.root, e))
    }

    /// Who unpacks layers holds their names here.
    pub(super) fn leases(&self) -> Leases {
        Leases::new(self.root.join("leases"), self.lock_path())
    }

    fn sweep_all_but(&self, keep: &HashSet<LayerId>, clearing: &Clearing) -> Result<Swept, Error> {
        let mut kept: HashSet<&OsStr> = keep.iter().map(|id| OsStr::new(id.file_name())).collect();
        kept.extend(clearing.names().iter().map(OsStr::new));
        let root = Dir::open(&self.root).map_err(|e| failed("open", &self.root, e))?;
        let mut removed = 0;
        for (name, _) in root.entries().map_err(|e| failed("list", &self.root, e))? {
            if is_layer_name(&name) && !kept.contains(&*name) {
                self.remove_layer(&name)?;
                removed += 1;
            }
        }
        self.clear_temporary(clearing)?;
        Ok(Swept { removed, busy: false })
    }

    /// Removes what is temporary and belongs to nobody at work.
    pub(super) fn clear_temporary(&self, clearing: &Clearing) -> Result<(), Error> {
        let path = self.tmp()?;
        let tmp = Dir::open(&path).map_err(|e| failed("open", &path, e))?;
        for name in self.left_over(clearing)? {
            tmp.remove_tree(&name).map_err(|e| failed("remove", &path.join(&name), e))?;
        }
        Ok(())
    }

    /// What is temporary and belongs to nobody at work.
    pub(super) fn left_over(&self, clearing: &Clearing) -> Result<Vec<OsString>, Error> {
        let path = self.tmp()?;
        let tmp = Dir::open(&path).map_err(|e| failed("open", &path, e))?;
        let owner = |name: &OsStr| Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let mut names: Vec<OsString> =
            tmp.entries().map_err(|e| failed("list", &path, e))?.into_iter().map(|(name, _)| name).collect();
        names.retain(|name| !owner(name).is_some_and(|owner| clearing.names().contains(&owner)));
        Ok(names)
    }

    /// Moves a layer out of sight at once, so that a crash cannot leave half of it as a layer.
    pub(super) fn remove_layer(&self, name: &OsStr) -> Result<(), Error> {
        let mut gone = name.to_owned();
        gone.push(".removed");
        let tmp = self.tmp()?;
        let (from, to) = (self.root.join(name), tmp.join(&gone));
        // One who was killed before may have left it there.
        Dir::open(&tmp).and_then(|tmp| tmp.remove_tree(&gone)).map_err(|e| failed("remove", &to, e))?;
        rename(&from, &to)
    }

    /// Bytes of files in each of a chain's layers as they were unpacked; `None` of one that is not there.
    pub fn sizes(&self, layers: &[crate::oci::Layer]) -> Vec<Option<u64>> {
        LayerId::of_chain(layers).iter().map(|id| self.size_of(id)).collect()
    }

    /// Bytes of files in a layer, if it is there.
    pub fn size_of(&self, id: &LayerId) -> Option<u64> {
        let record = fs::read(self.layer_path(id).join("layer.json")).ok()?;
        serde_json::from_slice::<LayerRecord>(&record).ok().map(|record| record.bytes)
    }

    pub(super) fn powers(&self) -> Powers {
        self.powers
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn layer_path(&self, id: &LayerId) -> PathBuf {
        self.root.join(id.file_name())
    }

    /// Where a layer's files are once it is complete.
    pub(super) fn diff_path(&self, id: &LayerId) -> PathBuf {
        self.layer_path(id).join("diff")
    }

    /// The directory of what is not complete.
    pub(super) fn tmp(&self) -> Result<PathBuf, Error> {
        let tmp = self.root.join("tmp");
        make_private_dir(&tmp)?;
        Ok(tmp)
    }

    fn read_or_find_marks(&self) -> Result<Marks, Error> {
        let path = self.root.join("store.json");
        if let Some(record) = read_record(&path)? {
            return Ok(record.marks);
        }
        let lock = self.root.join("store.lock");
        let _lock = FileLock::exclusive(&lock).map_err(|e| failed("lock", &lock, e))?;
        if let Some(record) = read_record(&path)? {
            return Ok(record.marks);
        }
        let marks = self.find_marks()?;
        let json = serde_json::to_vec(&Record { version: VERSION, marks }).expect("plain data serialises");
        write_durably(&path, &json)?;
        Ok(marks)
    }

    /// Tries, under the lock, whole root filesystems, not single features: what counts is whether the mount works here.
    fn find_marks(&self) -> Result<Marks, Error> {
        let tmp = self.tmp()?;
        let probe = tmp.join("probe");
        let dir = Dir::open(&tmp).map_err(|e| failed("open", &tmp, e))?;
        let clear = || dir.remove_tree(OsStr::new("probe")).map_err(|e| failed("remove", &probe, e));
        clear()?;
        make_private_dir(&probe)?;
        let found = [Marks::Trusted, Marks::User].into_iter().find(|marks| mounts(&probe, *marks).is_ok());
        clear()?;
        Ok(found.unwrap_or(Marks::Plain))
    }
}

/// Whether an overlay of a marked layer mounts and hides what the marks hide.
fn mounts(probe: &Path, marks: Marks) -> sys::Result<()> {
    let at = |name: &str| probe.join(format!("{name}-{marks:?}"));
    let make = |path: &Path| sys::named(fs::create_dir(path), || format!("mkdir({path:?})"));
    for name in ["base", "top", "upper", "work"] {
        make(&at(name))?;
    }
    make(&at("base").join("opaque"))?;
    for hidden in ["gone", "opaque/hidden"] {
        sys::named(fs::File::create(at("base").join(hidden)), || format!("open({hidden:?}, O_CREAT)"))?;
    }
    make(&at("top").join("opaque"))?;
    let top = Dir::open(&at("top"))?;
    marks.mark_gone(&top, OsStr::new("gone"))?;
    marks.mark_opaque(&top.open_dir(OsStr::new("opaque"))?)?;
    let recipe = Recipe::Overlay {
        lower: vec![at("top"), at("base")],
        upper: Some(at("upper")),
        work: Some(at("work")),
        userxattr: marks == Marks::User,
    };
    let merged = Dir::from_mount(recipe.detached(false)?)?;
    let hidden =
        merged.info(OsStr::new("gone"))?.is_none() && merged.open_dir(OsStr::new("opaque"))?.entries()?.is_empty();
    // Writing is tried too: an upper directory on some filesystems mounts, but read-only.
    merged.make_file(OsStr::new("written"), 0o600)?;
    if hidden { Ok(()) } else { sys::named(Err(io::ErrorKind::Unsupported), || "overlay marks".into()) }
}

pub(super) fn is_layer_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    matches!(name.len(), 64 | 128) && name.iter().all(u8::is_ascii_hexdigit)
}

fn read_record(path: &Path) -> Result<Option<Record>, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => sys::named(bytes, || format!("read({path:?})")).map_err(|e| failed("read", path, e))?,
    };
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.to_owned(), source })?;
    if record.version != VERSION {
        return Err(Error::Version { path: path.to_owned(), found: record.version, known: VERSION });
    }
    Ok(Some(record))
}

pub(super) fn failed(action: &'static str, path: &Path, source: sys::Error) -> Error {
    Error::Store { action, path: path.to_owned(), source }
}

pub(super) fn make_private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    sys::named(made, || format!("mkdir({path:?}, 0700)")).map_err(|e| failed("make the directory", path, e))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    sys::named(fs::rename(from, to), || format!("rename({from:?}, {to:?})")).map_err(|e| failed("move", from, e))
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<fs::File, Error> {
    let written = fs::File::create(path).and_then(|mut file| file.write_all(bytes).map(|()| file));
    sys::named(written, || format!("write({path:?})")).map_err(|e| failed("write", path, e))
}

/// Old or new, also after a power cut. Under a lock, as the temporary has a fixed name.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let file = write_file(&temporary, bytes)?;
    sys::named(file.sync_all(), || format!("fsync({temporary:?})")).map_err(|e| failed("flush", &temporary, e))?;
    rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

pub(super) fn sync_dir(path: &Path) -> Result<(), Error> {
    Dir::open(path).and_then(|dir| dir.sync()).map_err(|e| failed("flush", path, e))
}
