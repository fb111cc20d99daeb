//! Copying: one file between layers, and layers onto each other into one plain directory, for where there is
//! no overlayfs.
//!
//! Base first, each directory before what is in it: what a layer marks as gone is removed, then its entries
//! are put in place. Iterative, and two handles at a time: a tree may be deeper than the limit on open files.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::sys;
use crate::sys::dir::{self, Dir, Info, Node};

use super::mark::{Marker, Marks};
use super::meta::{Meta, Powers};

/// A file in a layer.
pub struct Source<'a> {
    /// Its directory.
    pub dir: &'a Dir,
    /// Its name.
    pub name: &'a OsStr,
    /// What it is.
    pub info: &'a Info,
    /// How its layer is marked.
    pub marks: Marks,
}

/// Copies a file that is no directory, under the same name, into `target`, where the name is free.
pub fn file(source: &Source<'_>, target: &Dir, marks: Marks, powers: Powers) -> sys::Result<()> {
    let Source { dir, name, info, .. } = *source;
    let meta = Meta::of_stored(info, dir.xattrs(name)?, source.marks, marks, powers);
    let node = match info.kind {
        FileType::RegularFile => {
            let copy = target.make_file(name, info.mode & 0o777)?;
            dir::copy_data(&dir.open_file(name)?, &copy)?;
            return meta.put_on_new_file(&copy, powers);
        }
        FileType::Symlink => {
            target.make_symlink(name, &dir.read_link(name)?)?;
            return meta.put_on_new_name(target, name, info.kind, powers);
        }
        FileType::CharacterDevice => Node::Char(info.device),
        FileType::BlockDevice => Node::Block(info.device),
        FileType::Socket => Node::Socket,
        _ => Node::Fifo,
    };
    target.make_node(name, node, info.mode & 0o777)?;
    meta.put_on_new_name(target, name, info.kind, powers)
}

/// Puts the layers, base first, onto each other in the empty directory `target`.
pub fn layers(base_first: &[PathBuf], target: &Dir, marks: Marks, powers: Powers) -> sys::Result<()> {
    let mut merge = Merge { target, marks, powers, directories: BTreeMap::new() };
    for layer in base_first {
        merge.layer(&Dir::open(layer)?)?;
    }
    merge.finish()
}

struct Merge<'a> {
    target: &'a Dir,
    marks: Marks,
    powers: Powers,
    /// What each directory gets at the end. The topmost layer that has it counts.
    directories: BTreeMap<PathBuf, Meta>,
}

impl Merge<'_> {
    fn layer(&mut self, root: &Dir) -> sys::Result<()> {
        let mut links = HashMap::new();
        let mut ahead = vec![PathBuf::new()];
        while let Some(path) = ahead.pop() {
            let (from, to) = (open(root, &path)?, open(self.target, &path)?);
            if self.marks.is_opaque(&from)? {
                clear(&to)?;
            }
            let meta =
                Meta::of_stored(&from.info_of_self()?, from.own_xattrs()?, self.marks, Marks::Plain, self.powers);
            self.directories.insert(path.clone(), meta);
            let entries = self.remove_gone(&from, &to)?;
            for (name, info) in entries {
                let source = Source { dir: &from, name: &name, info: &info, marks: self.marks };
                if self.entry(&source, &to, path.join(&name), &mut links)? {
                    ahead.push(path.join(&name));
                }
            }
        }
        Ok(())
    }

    /// Removes what this directory marks as gone; returns its content.
    fn remove_gone(&self, from: &Dir, to: &Dir) -> sys::Result<Vec<(OsString, Info)>> {
        let mut content = Vec::new();
        for (name, _) in from.entries()? {
            let Some(info) = from.info(&name)? else { continue };
            match self.marks.marker_of(&name) {
                Some(Marker::Opaque) => {}
                Some(Marker::Gone(gone)) => to.remove_tree(&gone)?,
                None if self.marks.is_gone(&info) => to.remove_tree(&name)?,
                None => content.push((name, info)),
            }
        }
        Ok(content)
    }

    /// Puts one entry in place; true for a directory, whose content is to follow.
    fn entry(
        &self,
        source: &Source<'_>,
        to: &Dir,
        path: PathBuf,
        links: &mut HashMap<(u64, u64), PathBuf>,
    ) -> sys::Result<bool> {
        let there = to.info(source.name)?.map(|info| info.kind);
        if source.info.kind == FileType::Directory {
            if there != Some(FileType::Directory) {
                to.remove_tree(source.name)?;
                to.make_dir(source.name, 0o700)?;
            }
            return Ok(true);
        }
        if there.is_some() {
            to.remove_tree(source.name)?;
        }
        match links.get(&source.info.inode) {
            Some(first) => self.link(first, to, source.name)?,
            None => {
                file(source, to, Marks::Plain, self.powers)?;
                if source.info.links > 1 {
                    links.insert(source.info.inode, path);
                }
            }
        }
        Ok(false)
    }

    fn link(&self, first: &Path, to: &Dir, name: &OsStr) -> sys::Result<()> {
        let (parent, first_name) = (first.parent().unwrap_or(Path::new("")), first.file_name().unwrap_or_default());
        to.link(name, &open(self.target, parent)?, first_name)
    }

    fn finish(self) -> sys::Result<()> {
        // Children sort after their parents: in reverse, the deepest come first.
        for (path, meta) in self.directories.iter().rev() {
            match open(self.target, path) {
                // A layer further up removed it, or put something else there.
                Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {}
                dir => meta.put_on_dir(&dir?, self.powers)?,
            }
        }
        Ok(())
    }
}

fn open(root: &Dir, path: &Path) -> sys::Result<Dir> {
    if path.as_os_str().as_bytes().is_empty() { root.duplicate() } else { root.open_beneath(path) }
}

/// Removes all that is in a directory.
pub fn clear(dir: &Dir) -> sys::Result<()> {
    for (name, _) in dir.entries()? {
        dir.remove_tree(&name)?;
    }
    Ok(())
}
