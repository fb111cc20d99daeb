//! Whether the layers on the disk are what their images say.
//!
//! A layer is compared by unpacking its blob once more beside it and looking at both trees: exact, whatever an archive
//! says of whiteouts, implied directories and links into the layers below, and nothing has to be kept for it. It costs
//! the time and, for as long as it takes, the space of unpacking that layer.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;

use crate::oci::Layer;
use crate::sys::dir::{Dir, Info};
use crate::sys::lease::Lease;
use crate::{content, sys};

use super::chain::LayerId;
use super::error::Error;
use super::mark::Marks;
use super::prepare::{Source, unpack_into};
use super::store::{LayerRecord, Store, failed, is_layer_name, make_private_dir};
use super::view::View;

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It has no directory.
    #[error("it is not there")]
    Missing,
    /// A directory that others may enter: layers hold set-id programs.
    #[error("its directory has the mode {mode:04o} instead of 0700")]
    Open {
        /// The permissions.
        mode: u32,
    },
    /// What is in its directory is not what belongs there.
    #[error("its directory has {found}, where there should be layer.json and diff")]
    Contents {
        /// The names, sorted.
        found: String,
    },
    /// Its record cannot be read.
    #[error("its layer.json cannot be read: {reason}")]
    Record {
        /// Why.
        reason: String,
    },
    /// Its record is another layer's.
    #[error("its layer.json is of another layer")]
    OtherLayer,
    /// The layer below it is gone.
    #[error("the layer below it, {parent}, is not there")]
    Parent {
        /// That layer.
        parent: LayerId,
    },
    /// Its record tells of another archive.
    #[error("its layer.json tells of {said} entries and bytes, its archive has {actual}")]
    Counts {
        /// Entries and bytes, as recorded.
        said: String,
        /// As counted now.
        actual: String,
    },
    /// Its files are not its archive's.
    #[error("/{path} {how}", path = path.display())]
    Differs {
        /// The path in the layer.
        path: PathBuf,
        /// In what.
        how: &'static str,
    },
    /// Its files are not what they were when its blob was dropped.
    #[error("its files are not what they were when its blob was dropped")]
    Seal,
    /// Its files cannot be looked at.
    #[error("its files cannot be compared with its archive: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// What a killed process left in the directory of what is not complete.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// How many names.
    pub count: usize,
}

/// A directory to unpack a layer into, which goes with this.
struct Scratch<'a> {
    store: &'a Store,
    name: String,
    _lease: Lease,
}

impl Store {
    /// Keeps these layers from being removed, as long as the answer lives.
    pub fn hold<'a>(&self, ids: impl IntoIterator<Item = &'a LayerId>) -> Result<Lease, Error> {
        self.lease(ids.into_iter().map(LayerId::file_name))
    }

    /// All layers that have a directory.
    pub fn all(&self) -> Result<Vec<LayerId>, Error> {
        let root = Dir::open(self.root()).map_err(|e| failed("open", self.root(), e))?;
        let names = root.entries().map_err(|e| failed("list", self.root(), e))?;
        let layers = names.iter().filter(|(name, _)| is_layer_name(name));
        Ok(layers.filter_map(|(name, _)| LayerId::of_file_name(name.to_str()?)).collect())
    }

    /// What a crash left half-done; `None` while somebody uses layers for a moment.
    pub fn leftovers(&self) -> Result<Option<Leftovers>, Error> {
        let Some(clearing) = self.clear_up()? else { return Ok(None) };
        Ok(Some(Leftovers { count: self.left_over(&clearing)?.len() }))
    }

    /// Whether the layer has a directory.
    pub fn has(&self, id: &LayerId) -> bool {
        self.diff_path(id).is_dir()
    }

    /// What can be told of a layer without its archive. `wanted` is what an image says: the layer, and what is below.
    pub fn look(&self, id: &LayerId, wanted: Option<(&Layer, Option<&LayerId>)>) -> Option<Fault> {
        let path = self.layer_path(id);
        let Ok(metadata) = path.metadata() else { return Some(Fault::Missing) };
        let mode = metadata.permissions().mode() & 0o7777;
        if mode != 0o700 {
            return Some(Fault::Open { mode });
        }
        let found = match Dir::open(&path).and_then(|dir| names(&dir)) {
            Ok(found) => found,
            Err(error) => return Some(Fault::Unreadable { reason: crate::error::chain(&error) }),
        };
        if found.iter().ne(["diff", "layer.json"].map(OsStr::new)) {
            let found: Vec<_> = found.iter().map(|name| name.to_string_lossy()).collect();
            return Some(Fault::Contents { found: found.join(", ") });
        }
        let record = match self.layer_record(id) {
            Ok(record) => record,
            Err(reason) => return Some(Fault::Record { reason }),
        };
        match wanted {
            Some((layer, parent)) if record.diff_id != layer.diff_id || record.parent.as_ref() != parent => {
                Some(Fault::OtherLayer)
            }
            _ => record.parent.filter(|parent| !self.has(parent)).map(|parent| Fault::Parent { parent }),
        }
    }

    fn layer_record(&self, id: &LayerId) -> Result<LayerRecord, String> {
        let bytes = std::fs::read(self.layer_path(id).join("layer.json")).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// Compares the files of layer `at` of a chain with its archive, down to the last byte.
    pub fn compare(&self, content: &content::Store, layers: &[Layer], at: usize) -> Option<Fault> {
        let ids = LayerId::of_chain(layers);
        match self.try_compare(content, layers, &ids, at) {
            Ok(fault) => fault,
            Err(error) => Some(Fault::Unreadable { reason: crate::error::chain(&error) }),
        }
    }

    fn try_compare(
        &self,
        content: &content::Store,
        layers: &[Layer],
        ids: &[LayerId],
        at: usize,
    ) -> Result<Option<Fault>, Error> {
        let (layer, marks) = (&layers[at], self.marks()?);
        let failure = |source| Error::Blob { digest: layer.blob.digest.clone(), source: Box::new(source) };
        let file = content.open_blob(&layer.blob.digest).map_err(failure)?;
        let scratch = Scratch::new(self)?;
        let below: Vec<PathBuf> = ids[..at].iter().map(|id| self.diff_path(id)).collect();
        let below = || Ok(View::new(&below, marks));
        let blob = Source { bytes: Box::new(file), size: layer.blob.size };
        let report = unpack_into(scratch.root()?, blob, layer, marks, self.powers(), &below)?;
        if let Ok(record) = self.layer_record(&ids[at])
            && (record.entries, record.bytes) != (report.entries, report.bytes)
        {
            let said = format!("{} and {}", record.entries, record.bytes);
            return Ok(Some(Fault::Counts { said, actual: format!("{} and {}", report.entries, report.bytes) }));
        }
        let stored = self.diff_path(&ids[at]);
        let differs = || difference(&scratch.root_again()?, &Dir::open(&stored)?, marks);
        let found = differs().map_err(|e| failed("compare", &stored, e))?;
        Ok(found.map(|(path, how)| Fault::Differs { path, how }))
    }

    /// Removes these layers, so that they can be unpacked again, but those that somebody has in use. Which were removed.
    pub fn remove_damaged(&self, damaged: &[LayerId], in_use: &HashSet<LayerId>) -> Result<Vec<LayerId>, Error> {
        let Some(clearing) = self.clear_up()? else { return Ok(Vec::new()) };
        let free = |id: &&LayerId| !in_use.contains(*id) && !clearing.names().contains(id.file_name());
        let free: Vec<LayerId> = damaged.iter().filter(free).cloned().collect();
        self.clear_temporary(&clearing)?;
        for id in free.iter().filter(|id| self.layer_path(id).exists()) {
            self.remove_layer(OsStr::new(id.file_name()))?;
        }
        self.clear_temporary(&clearing)?;
        Ok(free)
    }
}

impl<'a> Scratch<'a> {
    fn new(store: &'a Store) -> Result<Self, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("check-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lease = store.lease([name.as_str()])?;
        Ok(Self { store, name, _lease: lease })
    }

    fn path(&self) -> Result<PathBuf, Error> {
        Ok(self.store.tmp()?.join(&self.name))
    }

    /// The empty directory.
    fn root(&self) -> Result<Dir, Error> {
        let path = self.path()?;
        self.clear()?;
        make_private_dir(&path)?;
        let root = Dir::open(&path).map_err(|e| failed("open", &path, e))?;
        root.forget_default_acl().map_err(|e| failed("prepare", &path, e))?;
        Ok(root)
    }

    fn root_again(&self) -> sys::Result<Dir> {
        Dir::open(&self.store.root().join("tmp").join(&self.name))
    }

    fn clear(&self) -> Result<(), Error> {
        let tmp = self.store.tmp()?;
        Dir::open(&tmp).and_then(|dir| dir.remove_tree(OsStr::new(&self.name))).map_err(|e| failed("remove", &tmp, e))
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // What cannot be removed now goes with the next sweep.
        crate::error::tolerate(self.clear());
    }
}

/// The first difference between two trees, `made` being the right one. That only the time of a directory is another one
/// is told when there is nothing else: it is another one because of something in it.
fn difference(made: &Dir, stored: &Dir, marks: Marks) -> sys::Result<Option<(PathBuf, &'static str)>> {
    if let Some(how) = of_directories(made, stored)? {
        return Ok(Some((PathBuf::new(), how)));
    }
    let mut pending = vec![PathBuf::new()];
    let mut touched = None;
    while let Some(path) = pending.pop() {
        let (made, stored) = (at(made, &path)?, at(stored, &path)?);
        // Of the root itself few archives tell a time: it has that of its unpacking.
        if !path.as_os_str().is_empty() && made.info_of_self()?.modified != stored.info_of_self()?.modified {
            touched = Some((path.clone(), "has another time"));
        }
        let (right, there) = (names(&made)?, names(&stored)?);
        if let Some(name) = right.difference(&there).next() {
            return Ok(Some((path.join(name), "is missing")));
        }
        if let Some(name) = there.difference(&right).next() {
            return Ok(Some((path.join(name), "is not in its archive")));
        }
        for name in &right {
            let Some((one, other)) = made.info(name)?.zip(stored.info(name)?) else {
                return Ok(Some((path.join(name), "is being removed")));
            };
            if marks.is_gone(&one) && marks.is_gone(&other) {
                continue; // a mark has no owner and no time of its own
            }
            if let Some(how) = of_entries(&made, &stored, name, &one, &other)? {
                return Ok(Some((path.join(name), how)));
            }
            if one.kind == FileType::Directory {
                pending.push(path.join(name));
            }
        }
    }
    Ok(touched)
}

pub(super) fn at(root: &Dir, path: &Path) -> sys::Result<Dir> {
    if path.as_os_str().is_empty() { root.duplicate() } else { root.open_beneath(path) }
}

pub(super) fn names(dir: &Dir) -> sys::Result<BTreeSet<OsString>> {
    Ok(dir.entries()?.into_iter().map(|(name, _)| name).collect())
}

fn of_entries(made: &Dir, stored: &Dir, name: &OsStr, one: &Info, other: &Info) -> sys::Result<Option<&'static str>> {
    if let Some(how) = of_infos(one, other) {
        return Ok(Some(how));
    }
    if content_xattrs(made.xattrs(name)?) != content_xattrs(stored.xattrs(name)?) {
        return Ok(Some("has other extended attributes"));
    }
    Ok(match one.kind {
        FileType::Symlink if made.read_link(name)? != stored.read_link(name)? => Some("points elsewhere"),
        FileType::RegularFile if !same_bytes(made, stored, name)? => Some("has other bytes"),
        _ => None,
    })
}

fn of_directories(made: &Dir, stored: &Dir) -> sys::Result<Option<&'static str>> {
    let how = of_infos(&made.info_of_self()?, &stored.info_of_self()?);
    let same = content_xattrs(made.own_xattrs()?) == content_xattrs(stored.own_xattrs()?);
    Ok(how.or((!same).then_some("has other extended attributes")))
}

/// What is different between two entries by what the kernel says of them. A directory's size and links are its
/// filesystem's business, and its time is looked at elsewhere.
fn of_infos(one: &Info, other: &Info) -> Option<&'static str> {
    let file = one.kind != FileType::Directory;
    [
        (one.kind != other.kind, "is of another kind"),
        (one.mode != other.mode, "has another mode"),
        ((one.uid, one.gid) != (other.uid, other.gid), "has another owner"),
        (file && one.size != other.size, "has another size"),
        (one.device != other.device, "is another device"),
        (file && one.modified != other.modified, "has another time"),
        (file && one.links != other.links, "has another number of links"),
    ]
    .into_iter()
    .find_map(|(differs, how)| differs.then_some(how))
}

/// Attributes that an image can have: others are set by the host's policy.
pub(super) fn content_xattrs(mut xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    xattrs.retain(|(name, _)| name == b"security.capability" || !name.starts_with(b"security."));
    xattrs.sort();
    xattrs
}

fn same_bytes(made: &Dir, stored: &Dir, name: &OsStr) -> sys::Result<bool> {
    let (mut one, mut other) = (made.open_file(name)?, stored.open_file(name)?);
    let (mut right, mut there) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let read = sys::named(one.read(&mut right), || format!("read({name:?})"))?;
        if read == 0 {
            return Ok(true);
        }
        match other.read_exact(&mut there[..read]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            answer => sys::named(answer, || format!("read({name:?})"))?,
        }
        if right[..read] != there[..read] {
            return Ok(false);
        }
    }
}
