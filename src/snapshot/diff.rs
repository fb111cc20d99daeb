//! What a container has changed, as a layer; and all that it has, as one archive.
//!
//! An overlay's upper directory is the change already: its marks become whiteouts. A copy is compared with the layers that
//! it was made of: what is not as it was there is new, what is no more is gone. Trees are walked by handle: of a directory first
//! the files, then the directories, each in the order of their names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::chain::LayerId;
use super::error::Error;
use super::mark::{Marker, Marks};
use super::meta::{Meta, Powers};
use super::pack::Packer;
use super::rootfs::Rootfs;
use super::store::Store;
use super::view::View;
use crate::sys;
use crate::sys::dir::{Dir, Info};

/// The names of an archive's whiteouts.
const GONE: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// By which overlayfs says that a directory's or a file's content is elsewhere. Our mounts do not make such; a kernel that is
/// configured to would have written a change that this archive cannot say.
const ELSEWHERE: [&[u8]; 4] =
    [b"trusted.overlay.redirect", b"trusted.overlay.metacopy", b"user.overlay.redirect", b"user.overlay.metacopy"];

impl Store {
    /// Writes what a container with this root filesystem, made of `layers`, has changed, as a layer's archive. How many
    /// entries that has: none for no change. The files at `mounted` are left out where they are empty: something was
    /// mounted on them, which is all that they were made for.
    pub fn diff(
        &self,
        rootfs: &Rootfs,
        layers: &[LayerId],
        mounted: &[&Path],
        out: &mut dyn Write,
    ) -> Result<u64, Error> {
        let ours =
            |path: &Path, info: &Info| info.kind == FileType::RegularFile && info.size == 0 && mounted.contains(&path);
        let packer = Packer::new(out, self.powers());
        match rootfs {
            Rootfs::Overlay { upper, userxattr, .. } => {
                let marks = if *userxattr { Marks::User } else { Marks::Trusted };
                upper_of(&open(upper)?, marks, &ours, packer)
            }
            Rootfs::Copy { dir } => {
                let layers: Vec<PathBuf> = layers.iter().map(|id| self.diff_path(id)).collect();
                Compare::new(&layers, self.marks()?, self.powers())?.write(&open(dir)?, &ours, packer)
            }
            Rootfs::Layers { .. } => packer.finish(),
        }
    }

    /// Writes all that a container with this root filesystem has.
    pub fn export(&self, rootfs: &Rootfs, out: &mut dyn Write) -> Result<(), Error> {
        let failed = |source| Error::Look { path: PathBuf::from("/"), source };
        let root = Dir::from_mount(rootfs.contents().map_err(failed)?).map_err(failed)?;
        let mut packer = Packer::new(out, self.powers());
        each(&root, |dir, name, path, info| {
            packer.entry(dir, name, path, info, Marks::Plain)?;
            Ok(info.kind == FileType::Directory)
        })?;
        packer.finish().map(drop)
    }
}

fn open(path: &Path) -> Result<Dir, Error> {
    Dir::open(path).map_err(|source| Error::Look { path: path.to_owned(), source })
}

fn look<T>(path: &Path, result: sys::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Look { path: path.to_owned(), source })
}

/// Goes through a tree. All that is in a directory follows it at once, so that whoever unpacks can put a directory's time right
/// when it leaves it, as GNU tar does. `visit` says whether to go into an entry. What vanishes meanwhile was not there.
fn each(root: &Dir, mut visit: impl FnMut(&Dir, &OsStr, &Path, &Info) -> Result<bool, Error>) -> Result<(), Error> {
    let mut ahead = inside(root, Path::new(""), &mut visit)?;
    while let Some(path) = ahead.pop() {
        // Opened again for each: a tree may be deeper than there are descriptors.
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let Some(dir) = below(root, parent)? else { continue };
        let Some(info) = look(&path, dir.info(name))? else { continue };
        if visit(&dir, name, &path, &info)? {
            ahead.extend(inside(root, &path, &mut visit)?);
        }
    }
    Ok(())
}

/// Visits what is in a directory, but for the directories; these, the first one last.
fn inside(
    root: &Dir,
    path: &Path,
    visit: &mut impl FnMut(&Dir, &OsStr, &Path, &Info) -> Result<bool, Error>,
) -> Result<Vec<PathBuf>, Error> {
    let Some(dir) = below(root, path)? else { return Ok(Vec::new()) };
    let mut directories = Vec::new();
    for name in names(&dir, path)? {
        let at = path.join(&name);
        match look(&at, dir.info(&name))? {
            Some(info) if info.kind == FileType::Directory => directories.push(at),
            Some(info) => drop(visit(&dir, &name, &at, &info)?),
            None => {}
        }
    }
    directories.reverse();
    Ok(directories)
}

fn below(root: &Dir, path: &Path) -> Result<Option<Dir>, Error> {
    if path.as_os_str().is_empty() {
        return look(path, root.duplicate()).map(Some);
    }
    match root.open_beneath(path) {
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
        opened => look(path, opened).map(Some),
    }
}

/// In their order, but marks before what takes the place of what they hide.
fn names(dir: &Dir, path: &Path) -> Result<Vec<OsString>, Error> {
    let mut names: Vec<OsString> = look(path, dir.entries())?.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable_by(|a, b| {
        let mark = |name: &OsString| name.as_bytes().starts_with(GONE.as_bytes());
        mark(b).cmp(&mark(a)).then_with(|| a.cmp(b))
    });
    Ok(names)
}

/// Whether an entry is there for our sake only.
type Ours<'a> = &'a dyn Fn(&Path, &Info) -> bool;

/// The change that an overlay's upper directory is.
fn upper_of(root: &Dir, marks: Marks, ours: Ours<'_>, mut packer: Packer<'_>) -> Result<u64, Error> {
    each(root, |dir, name, path, info| {
        if ours(path, info) {
            return Ok(false);
        }
        if marks.is_gone(info) {
            packer.whiteout(&beside(path, name))?;
            return Ok(false);
        }
        refuse_elsewhere(dir, name, path)?;
        packer.entry(dir, name, path, info, marks)?;
        if info.kind != FileType::Directory {
            return Ok(false);
        }
        let inner = look(path, dir.open_dir(name))?;
        if look(path, marks.is_opaque(&inner))? {
            packer.whiteout(&path.join(OPAQUE))?;
        }
        Ok(true)
    })?;
    packer.finish()
}

fn refuse_elsewhere(dir: &Dir, name: &OsStr, path: &Path) -> Result<(), Error> {
    let xattrs = look(path, dir.xattrs(name))?;
    match xattrs.iter().any(|(key, _)| ELSEWHERE.contains(&key.as_slice())) {
        true => Err(Error::Elsewhere { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// The whiteout of a name.
fn beside(path: &Path, name: &OsStr) -> PathBuf {
    let mut gone = OsString::from(GONE);
    gone.push(name);
    path.with_file_name(gone)
}

/// A copy beside the layers that it was made of.
struct Compare {
    view: View,
    marks: Marks,
    powers: Powers,
    /// What the layers have in each directory.
    base: BTreeMap<PathBuf, BTreeSet<OsString>>,
}

impl Compare {
    fn new(layers: &[PathBuf], marks: Marks, powers: Powers) -> Result<Self, Error> {
        let mut base = BTreeMap::new();
        for layer in layers {
            merge(&open(layer)?, marks, &mut base)?;
        }
        Ok(Self { view: View::new(layers, marks), marks, powers, base })
    }

    fn write(&self, root: &Dir, ours: Ours<'_>, mut packer: Packer<'_>) -> Result<u64, Error> {
        let mut there: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::from([(PathBuf::new(), BTreeSet::new())]);
        each(root, |dir, name, path, info| {
            let parent = path.parent().unwrap_or(Path::new("")).to_owned();
            there.entry(parent).or_default().insert(name.to_owned());
            if info.kind == FileType::Directory {
                there.entry(path.to_owned()).or_default();
            }
            if !ours(path, info) && !self.is_as_it_was(dir, name, path, info)? {
                packer.entry(dir, name, path, info, Marks::Plain)?;
            }
            Ok(info.kind == FileType::Directory)
        })?;
        for (path, names) in &there {
            let gone = self.base.get(path).into_iter().flatten().filter(|name| !names.contains(*name));
            for name in gone {
                packer.whiteout(&beside(&path.join(name), name))?;
            }
        }
        packer.finish()
    }

    fn is_as_it_was(&self, dir: &Dir, name: &OsStr, path: &Path, info: &Info) -> Result<bool, Error> {
        let Some(was) = look(path, self.view.look(path.as_os_str().as_bytes()))? else { return Ok(false) };
        let same_kind = was.info.kind == info.kind && was.info.device == info.device;
        let size = info.kind != FileType::RegularFile || was.info.size == info.size;
        if !same_kind || !size {
            return Ok(false);
        }
        if info.kind == FileType::Symlink {
            return Ok(look(path, dir.read_link(name))? == look(path, was.parent.read_link(name))?);
        }
        let meta = |dir: &Dir, info: &Info, marks| -> Result<Meta, Error> {
            let mut meta = Meta::of_stored(info, look(path, dir.xattrs(name))?, marks, Marks::Plain, self.powers);
            meta.xattrs.sort();
            Ok(meta)
        };
        Ok(meta(dir, info, Marks::Plain)? == meta(&was.parent, &was.info, self.marks)?)
    }
}

/// Puts a layer's names onto those of the layers below it.
fn merge(root: &Dir, marks: Marks, base: &mut BTreeMap<PathBuf, BTreeSet<OsString>>) -> Result<(), Error> {
    if look(Path::new("/"), marks.is_opaque(root))? {
        base.clear();
    }
    base.entry(PathBuf::new()).or_default();
    each(root, |dir, name, path, info| {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        let gone = match marks.marker_of(name) {
            Some(Marker::Opaque) => {
                forget(base, &parent);
                base.insert(parent, BTreeSet::new());
                return Ok(false);
            }
            Some(Marker::Gone(gone)) => Some(gone),
            None => marks.is_gone(info).then(|| name.to_owned()),
        };
        if let Some(gone) = gone {
            forget(base, &parent.join(&gone));
            base.entry(parent).or_default().remove(&gone);
            return Ok(false);
        }
        base.entry(parent).or_default().insert(name.to_owned());
        let directory = info.kind == FileType::Directory;
        if !directory || look(path, marks.is_opaque(&look(path, dir.open_dir(name))?))? {
            forget(base, path);
        }
        if directory {
            base.entry(path.to_owned()).or_default();
        }
        Ok(directory)
    })
}

/// Forgets a directory and all below it.
fn forget(base: &mut BTreeMap<PathBuf, BTreeSet<OsString>>, path: &Path) {
    base.retain(|known, _| !known.starts_with(path));
}
