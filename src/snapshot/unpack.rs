//! One archive → one layer directory.
//!
//! An archive says what changed, and leaves out what it takes for granted: directories that the layers
//! below have, symlinks there on the way (`lib/x` where `lib -> usr/lib` is below), files that a hard link
//! refers to. Unpacking each layer alone would then hide the real directory's mode, turn the symlink into a
//! directory and break the link. So a layer is unpacked *knowing those below it* ([`View`]), yet without
//! waiting for them: only when an archive leaves something out is `below` asked, which waits until
//! they are there. Archives of Docker, BuildKit and umoci leave out little, so layers unpack in parallel.
//!
//! Where an entry goes, by the kernel and from the layer's root handle, never by a host path:
//!
//! ```text
//! path ─ meaning() ─► parent + name          `..` refused, whiteouts told apart
//! parent ─► recently used handle ─► openat2(BENEATH | NO_SYMLINKS) ─► walk()
//!                                                                       component by component:
//!                                                                       this layer, then below;
//!                                                                       symlinks followed within the root
//! name ─► *at() call with O_EXCL / no-follow; EEXIST ─► replaced, the last entry of a name counts
//! ```
//!
//! That is four calls a file: open, write, time, close; owner and mode only where a new file does not have
//! them already. A directory that hands nothing on to what is made in it has its owner and mode from its
//! making, and costs one call more, for its time. All others are 0700 and ours until the end, so that
//! nothing made in them inherits a group or an ACL. Times come last, the deepest first, by name from the parent's
//! handle: what is made in a directory would disturb its time.
//!
//! Whiteouts hide what is *below*, never what the same layer has, in whatever order they come (image-spec
//! layer.md): on a directory of this layer one makes the directory opaque. An entry where a whiteout
//! was: a directory becomes opaque, another file just takes its place.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::FileType;

use crate::sys;
use crate::sys::dir::{Device, Dir, Info, Node};

use super::copy;
use super::error::{Error, MAX_LINKS, Refusal, shown};
use super::mark::{Marks, Slot};
use super::meta::{Meta, Powers};
use super::path::{self, Clean, Meaning};
use super::tar::{self, Entry, Extent, Kind, Reader};
use super::view::View;

/// How many directory handles are kept. Archives go depth first: the last few parents are what comes next.
const KEPT_HANDLES: usize = 16;

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of file data.
    pub bytes: u64,
}

/// Unpacks `archive` into the empty directory `root`. `below` is called when the layers below have to be
/// known, and may wait for them.
pub fn unpack<R: BufRead>(
    root: Dir,
    archive: &mut Reader<R>,
    marks: Marks,
    powers: Powers,
    below: &dyn Fn() -> Result<View, Error>,
) -> Result<Report, Error> {
    let mut layer = Layer {
        root: Rc::new(Place { asked: Clean::new(), real: Clean::new(), dir: root }),
        marks,
        powers,
        below,
        view: OnceCell::new(),
        directories: HashMap::new(),
        opaque: HashSet::new(),
        kept: VecDeque::new(),
        report: Report::default(),
    };
    while let Some(entry) = archive.next() {
        let entry = entry.map_err(|source| Error::Archive { source })?;
        layer.report.entries += 1;
        layer.apply(&entry, archive).map_err(|failure| failure.about(&entry))?;
    }
    layer.finish()
}

/// A failure of one entry, before its path is added.
enum Failure {
    Refused(Refusal),
    Write(sys::Error),
    Whole(Error),
}

impl Failure {
    fn about(self, entry: &Entry) -> Error {
        let entry = shown(&entry.path);
        match self {
            Self::Refused(source) => Error::Refused { entry, source },
            Self::Write(source) => Error::Write { entry, source },
            Self::Whole(error) => error,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(source: Refusal) -> Self {
        Self::Refused(source)
    }
}

impl From<path::Invalid> for Failure {
    fn from(source: path::Invalid) -> Self {
        Self::Refused(source.into())
    }
}

impl From<sys::Error> for Failure {
    fn from(source: sys::Error) -> Self {
        Self::Write(source)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Whole(error)
    }
}

impl From<tar::Error> for Failure {
    fn from(source: tar::Error) -> Self {
        Self::Whole(Error::Archive { source })
    }
}

/// A directory of the layer, open.
struct Place {
    /// The path by which entries ask for it, perhaps through symlinks.
    asked: Clean,
    /// Where it is.
    real: Clean,
    dir: Dir,
}

/// A directory as an entry describes it, the last one if there are several.
struct Described {
    meta: Meta,
    /// Made with its owner and mode, and without attributes: only its time is missing.
    as_made: bool,
}

/// A layer in the making.
struct Layer<'a> {
    root: Rc<Place>,
    marks: Marks,
    powers: Powers,
    below: &'a dyn Fn() -> Result<View, Error>,
    view: OnceCell<View>,
    /// What each directory gets at the end, by real path. All of them are here.
    directories: HashMap<Clean, Described>,
    /// Directories below which the layers below do not count, by real path.
    opaque: HashSet<Clean>,
    /// Recently used parents, latest first.
    kept: VecDeque<Rc<Place>>,
    report: Report,
}

type Outcome<T> = Result<T, Failure>;

impl Layer<'_> {
    fn apply<R: BufRead>(&mut self, entry: &Entry, archive: &mut Reader<R>) -> Outcome<()> {
        match path::meaning(&entry.path)? {
            Meaning::Ignored => Ok(()),
            Meaning::Root => self.describe_root(entry),
            Meaning::Opaque { dir } => {
                let place = self.place(&dir)?;
                self.make_opaque(&place.real, &place.dir)
            }
            Meaning::Whiteout { parent, name } => self.whiteout(&parent, OsStr::from_bytes(&name)),
            Meaning::Entry { parent, name } => {
                let place = self.place(&parent)?;
                self.write(entry, &place, OsStr::from_bytes(&name), archive)
            }
        }
    }

    fn describe_root(&mut self, entry: &Entry) -> Outcome<()> {
        match entry.kind {
            Kind::Directory => {
                self.describe(Clean::new(), Meta::of_entry(entry, self.marks, self.powers));
                Ok(())
            }
            _ => Err(Refusal::Root.into()),
        }
    }

    fn write<R: BufRead>(
        &mut self,
        entry: &Entry,
        place: &Place,
        name: &OsStr,
        archive: &mut Reader<R>,
    ) -> Outcome<()> {
        let meta = Meta::of_entry(entry, self.marks, self.powers);
        match &entry.kind {
            Kind::Directory => self.directory(place, name, meta),
            Kind::File { size, sparse } => {
                let file = self.replacing(place, name, |dir| dir.make_file(name, meta.mode & 0o777))?;
                match sparse {
                    None => self.write_data(&file, archive)?,
                    Some(map) => self.write_sparse(&file, *size, map, archive)?,
                }
                Ok(meta.put_on_new_file(&file, self.powers)?)
            }
            Kind::Link(target) => self.hard_link(place, name, target),
            Kind::Symlink(target) => {
                // As a file system counts it, and Docker.
                self.report.bytes += target.len() as u64;
                self.replacing(place, name, |dir| dir.make_symlink(name, OsStr::from_bytes(target)))?;
                Ok(meta.put_on_new_name(&place.dir, name, FileType::Symlink, self.powers)?)
            }
            Kind::Fifo => self.node(place, name, Node::Fifo, &meta),
            Kind::Char { major: 0, minor: 0 } => Err(Refusal::Mark.into()),
            Kind::Char { major, minor } => self.device(place, name, Node::Char(device(*major, *minor)), &meta),
            Kind::Block { major, minor } => self.device(place, name, Node::Block(device(*major, *minor)), &meta),
        }
    }

    fn directory(&mut self, place: &Place, name: &OsStr, meta: Meta) -> Outcome<()> {
        let real = self.real_path(place, name)?;
        if meta.can_be_made(self.powers) {
            match place.dir.make_dir(name, meta.mode) {
                Err(error) if exists(&error) => {}
                made => {
                    made?;
                    self.directories.insert(real, Described { meta, as_made: true });
                    return Ok(());
                }
            }
        }
        self.make_directory(place, name, &real)?;
        self.describe(real, meta);
        Ok(())
    }

    /// Remembers what a directory gets at the end.
    fn describe(&mut self, real: Clean, meta: Meta) {
        self.directories.insert(real, Described { meta, as_made: false });
    }

    /// Makes `name` a directory, if it is not one already. Where it takes the place of a whiteout or of
    /// another file of this layer, nothing of that name below shows.
    fn make_directory(&mut self, place: &Place, name: &OsStr, real: &[u8]) -> Outcome<()> {
        match place.dir.make_dir(name, 0o700) {
            Err(error) if exists(&error) => {}
            made => return Ok(made?),
        }
        match self.marks.look(&place.dir, name)? {
            Slot::Present { info, .. } if info.kind == FileType::Directory => return Ok(()),
            _ => place.dir.remove_file(name)?,
        }
        self.kept.clear();
        place.dir.make_dir(name, 0o700)?;
        let dir = place.dir.open_dir(name)?;
        self.make_opaque(real, &dir)
    }

    fn write_data<R: BufRead>(&mut self, file: &File, archive: &mut Reader<R>) -> Outcome<()> {
        let mut offset = 0;
        loop {
            let chunk = archive.chunk()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let length = chunk.len();
            write_at(file, chunk, offset)?;
            archive.consume(length);
            offset += length as u64;
            self.report.bytes += length as u64;
        }
    }

    fn write_sparse<R: BufRead>(
        &mut self,
        file: &File,
        size: u64,
        map: &[Extent],
        archive: &mut Reader<R>,
    ) -> Outcome<()> {
        for extent in map {
            let (mut offset, mut left) = (extent.offset, extent.length);
            while left > 0 {
                let chunk = archive.chunk()?;
                let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                write_at(file, &chunk[..length], offset)?;
                archive.consume(length);
                (offset, left) = (offset + length as u64, left - length as u64);
                self.report.bytes += length as u64;
            }
        }
        Ok(sys::named(file.set_len(size), || format!("ftruncate({size})"))?)
    }

    fn node(&mut self, place: &Place, name: &OsStr, node: Node, meta: &Meta) -> Outcome<()> {
        self.replacing(place, name, |dir| dir.make_node(name, node, meta.mode & 0o777))?;
        Ok(meta.put_on_new_name(&place.dir, name, FileType::Fifo, self.powers)?)
    }

    fn device(&mut self, place: &Place, name: &OsStr, node: Node, meta: &Meta) -> Outcome<()> {
        match self.node(place, name, node, meta) {
            Err(Failure::Write(error)) if error.errno() == Some(libc::EPERM) => Err(Refusal::Device.into()),
            made => made,
        }
    }

    /// Gives an existing file the further name `name`. One that is only below is copied up first, as
    /// overlayfs does for link(2).
    fn hard_link(&mut self, place: &Place, name: &OsStr, target: &[u8]) -> Outcome<()> {
        let invalid = |source| Refusal::Target { target: shown(target), source };
        let no_target = || Refusal::NoTarget { target: shown(target) };
        let clean = path::clean(target).map_err(invalid)?;
        let (parent, target_name) = path::split(&clean).ok_or(Refusal::DirectoryTarget { target: shown(target) })?;
        let from = self.place(parent)?;
        let target_name = OsStr::from_bytes(target_name);
        let info = match self.marks.look(&from.dir, target_name)? {
            Slot::Present { info, .. } => info,
            Slot::Gone => return Err(no_target().into()),
            Slot::Absent => self.copy_up(&from, target_name)?.ok_or_else(no_target)?,
        };
        if info.kind == FileType::Directory {
            return Err(Refusal::DirectoryTarget { target: shown(target) }.into());
        }
        let itself = place.dir.info(name)?.is_some_and(|there| there.inode == info.inode);
        if itself {
            return Ok(());
        }
        self.replacing(place, name, |dir| dir.link(name, &from.dir, target_name))
    }

    /// Copies a file of the layers below into this one; `None` when there is none. A directory is only told of.
    fn copy_up(&mut self, place: &Place, name: &OsStr) -> Outcome<Option<Info>> {
        let real = self.real_path(place, name)?;
        let Some(seen) = self.look_below(&real)? else { return Ok(None) };
        if seen.info.kind != FileType::Directory {
            let source = copy::Source { dir: &seen.parent, name, info: &seen.info, marks: self.marks };
            copy::file(&source, &place.dir, self.marks, self.powers)?;
        }
        Ok(place.dir.info(name)?.or(Some(seen.info)))
    }

    fn whiteout(&mut self, parent: &[u8], name: &OsStr) -> Outcome<()> {
        let place = match self.place(parent) {
            // umoci says so of all that was in a directory which became a file: that hides them already.
            Err(Failure::Refused(Refusal::NotDirectory { .. })) => return Ok(()),
            place => place?,
        };
        match self.marks.mark_gone(&place.dir, name) {
            Err(error) if exists(&error) => {}
            made => return Ok(made?),
        }
        match self.marks.look(&place.dir, name)? {
            Slot::Present { info, .. } if info.kind == FileType::Directory => {
                let real = self.real_path(&place, name)?;
                let dir = place.dir.open_dir(name)?;
                self.make_opaque(&real, &dir)
            }
            _ => Ok(()),
        }
    }

    fn make_opaque(&mut self, real: &[u8], dir: &Dir) -> Outcome<()> {
        self.marks.mark_opaque(dir)?;
        self.opaque.insert(real.to_vec());
        Ok(())
    }

    /// Makes a new file with `make`; what has its name already makes room.
    fn replacing<T>(&mut self, place: &Place, name: &OsStr, make: impl Fn(&Dir) -> sys::Result<T>) -> Outcome<T> {
        match make(&place.dir) {
            Err(error) if exists(&error) => {}
            made => return Ok(made?),
        }
        let info = place.dir.info(name)?;
        if info.is_some_and(|info| info.kind == FileType::Directory) {
            self.forget_directories(&path::join(&place.real, name.as_bytes()));
        }
        place.dir.remove_tree(name)?;
        self.kept.clear();
        Ok(make(&place.dir)?)
    }

    fn forget_directories(&mut self, removed: &[u8]) {
        let stays = |real: &Clean| !path::is_at_or_below(real, removed);
        self.directories.retain(|real, _| stays(real));
        self.opaque.retain(stays);
    }

    fn real_path(&self, place: &Place, name: &OsStr) -> Outcome<Clean> {
        let real = path::join(&place.real, name.as_bytes());
        let depth = real.iter().filter(|byte| **byte == b'/').count() + 1;
        if real.len() > tar::MAX_PATH || depth > path::MAX_DEPTH { Err(Refusal::TooDeep.into()) } else { Ok(real) }
    }

    /// The directory that `asked` leads to, made where an archive only implies it.
    fn place(&mut self, asked: &[u8]) -> Outcome<Rc<Place>> {
        if asked.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(at) = self.kept.iter().position(|place| place.asked == asked) {
            if at > 0 {
                let used = self.kept.remove(at).expect("position() found it");
                self.kept.push_front(used);
            }
            return Ok(Rc::clone(&self.kept[0]));
        }
        let place = Rc::new(self.open_or_walk(asked)?);
        self.kept.truncate(KEPT_HANDLES - 1);
        self.kept.push_front(Rc::clone(&place));
        Ok(place)
    }

    fn open_or_walk(&mut self, asked: &[u8]) -> Outcome<Place> {
        match self.root.dir.open_beneath(Path::new(OsStr::from_bytes(asked))) {
            Ok(dir) => Ok(Place { asked: asked.to_vec(), real: asked.to_vec(), dir }),
            Err(error) if leads_elsewhere(&error) => self.walk(asked),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes one component at a time, as the kernel would in the finished root filesystem with this layer
    /// on top: `..` and absolute symlinks stay within the root.
    fn walk(&mut self, asked: &[u8]) -> Outcome<Place> {
        let mut at = Place { asked: asked.to_vec(), real: Clean::new(), dir: self.root.dir.duplicate()? };
        let mut ahead: VecDeque<Vec<u8>> = components(asked).collect();
        let mut links = 0;
        while let Some(component) = ahead.pop_front() {
            if component == b".." {
                at.real = path::split(&at.real).map(|(parent, _)| parent.to_vec()).unwrap_or_default();
                at.dir = self.open_real(&at.real)?;
                continue;
            }
            let name = OsStr::from_bytes(&component);
            let Some(target) = self.step(&mut at, name)? else { continue };
            links += 1;
            if links > MAX_LINKS {
                return Err(Refusal::Loop.into());
            }
            if target.starts_with(b"/") {
                at.real.clear();
                at.dir = self.root.dir.duplicate()?;
            }
            let rest = std::mem::take(&mut ahead);
            ahead = components(&target).chain(rest).collect();
        }
        Ok(at)
    }

    fn open_real(&self, real: &[u8]) -> Outcome<Dir> {
        if real.is_empty() {
            return Ok(self.root.dir.duplicate()?);
        }
        Ok(self.root.dir.open_beneath(Path::new(OsStr::from_bytes(real)))?)
    }

    /// Goes into the directory `name`; or returns the text of the symlink that is there.
    fn step(&mut self, at: &mut Place, name: &OsStr) -> Outcome<Option<Vec<u8>>> {
        let real = self.real_path(at, name)?;
        match self.marks.look(&at.dir, name)? {
            Slot::Present { info, .. } if info.kind == FileType::Directory => {}
            Slot::Present { info, .. } if info.kind == FileType::Symlink => {
                return Ok(Some(at.dir.read_link(name)?.as_bytes().to_vec()));
            }
            Slot::Present { .. } => return Err(Refusal::NotDirectory { parent: shown(&real) }.into()),
            Slot::Gone => {
                self.make_directory(at, name, &real)?;
                self.describe(real.clone(), Meta::implied());
            }
            Slot::Absent => {
                if let Some(target) = self.imply(at, name, &real)? {
                    return Ok(Some(target));
                }
            }
        }
        at.dir = at.dir.open_dir(name)?;
        at.real = real;
        Ok(None)
    }

    /// Makes a directory that the archive takes for granted, like the one below; or returns the text of the
    /// symlink that is below.
    fn imply(&mut self, at: &Place, name: &OsStr, real: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let meta = match self.look_below(real)? {
            None => Meta::implied(),
            Some(seen) if seen.info.kind == FileType::Directory => {
                let xattrs = seen.parent.open_dir(name)?.own_xattrs()?;
                Meta::of_stored(&seen.info, xattrs, self.marks, self.marks, self.powers)
            }
            Some(seen) if seen.info.kind == FileType::Symlink => {
                return Ok(Some(seen.parent.read_link(name)?.as_bytes().to_vec()));
            }
            Some(_) => return Err(Refusal::NotDirectory { parent: shown(real) }.into()),
        };
        at.dir.make_dir(name, 0o700)?;
        self.describe(real.to_vec(), meta);
        Ok(None)
    }

    /// What the layers below have at `real`, unless a directory of this layer hides it.
    fn look_below(&self, real: &[u8]) -> Outcome<Option<super::view::Seen>> {
        let mut above = real;
        while let Some((parent, _)) = path::split(above) {
            if self.opaque.contains(parent) {
                return Ok(None);
            }
            above = parent;
        }
        Ok(self.view()?.look(real)?)
    }

    fn view(&self) -> Result<&View, Error> {
        if let Some(view) = self.view.get() {
            return Ok(view);
        }
        let view = (self.below)()?;
        Ok(self.view.get_or_init(|| view))
    }

    /// Describes the directories, the deepest first: a mode may forbid to go through.
    fn finish(mut self) -> Result<Report, Error> {
        if !self.directories.contains_key(&Clean::new()) {
            let root = self.root_below().map_err(|failure| failure.about_path(b"/"))?;
            self.describe(Clean::new(), root);
        }
        let mut directories: Vec<(Clean, Described)> = self.directories.drain().collect();
        // Descending: what is below a directory comes before it.
        directories.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        let mut parents = Vec::new();
        for (real, described) in directories {
            let put = self.finish_directory(&real, &described, &mut parents);
            put.map_err(|failure| failure.about_path(&real))?;
        }
        Ok(self.report)
    }

    /// Describes one directory. `parents` are open directories, each below the one before it.
    fn finish_directory(&self, real: &[u8], described: &Described, parents: &mut Vec<(Clean, Dir)>) -> Outcome<()> {
        let Some((parent, name)) = path::split(real) else {
            return Ok(described.meta.put_on_dir(&self.root.dir, self.powers)?);
        };
        let name = OsStr::from_bytes(name);
        while parents.last().is_some_and(|(open, _)| !path::is_at_or_below(parent, open)) {
            parents.pop();
        }
        if parents.last().is_none_or(|(open, _)| open != parent) {
            parents.push((parent.to_vec(), self.open_real(parent)?));
        }
        let (_, parent) = parents.last().expect("the parent is the last one");
        match described.as_made {
            true => parent.set_time(name, described.meta.time)?,
            false => described.meta.put_on_dir(&parent.open_dir(name)?, self.powers)?,
        }
        Ok(())
    }

    /// The root as the layers below have it.
    fn root_below(&self) -> Outcome<Meta> {
        let Some(top) = self.view()?.top()? else { return Ok(Meta::implied()) };
        let (info, xattrs) = (top.info_of_self()?, top.own_xattrs()?);
        Ok(Meta::of_stored(&info, xattrs, self.marks, self.marks, self.powers))
    }
}

impl Failure {
    fn about_path(self, path: &[u8]) -> Error {
        match self {
            Self::Refused(source) => Error::Refused { entry: shown(path), source },
            Self::Write(source) => Error::Write { entry: shown(path), source },
            Self::Whole(error) => error,
        }
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

fn device(major: u32, minor: u32) -> Device {
    Device { major, minor }
}

fn exists(error: &sys::Error) -> bool {
    error.source.kind() == ErrorKind::AlreadyExists
}

/// Whether a path is not simply a directory in this layer.
fn leads_elsewhere(error: &sys::Error) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR))
}

fn write_at(file: &File, bytes: &[u8], offset: u64) -> sys::Result<()> {
    sys::named(file.write_all_at(bytes, offset), || format!("pwrite64({} bytes, {offset})", bytes.len()))
}
