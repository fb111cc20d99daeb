//! What the files of a layer are, as one digest: so that it can be told later whether they still are, when the blob that
//! they came from is not kept.
//!
//! All that [`super::check`] compares goes in: names, kinds, modes, owners, times, links, attributes and bytes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::chain::LayerId;
use super::check::{at, content_xattrs, names};
use super::error::Error;
use super::mark::Marks;
use super::store::{Store, failed};
use crate::oci::{Digest, Hasher};
use crate::sys;
use crate::sys::dir::{Dir, Info};

/// How many bytes are read at a time.
const PIECE: usize = 128 << 10;

impl Store {
    /// The digest of a layer's files as they are now.
    pub fn seal(&self, id: &LayerId) -> Result<Digest, Error> {
        let (path, marks) = (self.diff_path(id), self.marks()?);
        let sealed = Dir::open(&path).and_then(|root| seal(&root, marks));
        sealed.map_err(|e| failed("read", &path, e))
    }

    /// Which unpacking of a layer this is: another one has other times of directories, and another name here.
    pub fn instance(&self, id: &LayerId) -> Option<String> {
        let record = self.layer_path(id).join("layer.json").metadata().ok()?;
        Some(format!("{}-{}.{}", record.ino(), record.mtime(), record.mtime_nsec()))
    }
}

fn seal(root: &Dir, marks: Marks) -> sys::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::sha256(), vec![0; PIECE]);
    // A file is read once, however many names it has.
    let mut known: HashMap<(u64, u64), usize> = HashMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let dir = at(root, &path)?;
        text(&mut hasher, path.as_os_str().as_bytes());
        facts(&mut hasher, &dir.info_of_self()?);
        xattrs(&mut hasher, dir.own_xattrs()?);
        for name in names(&dir)? {
            let Some(info) = dir.info(&name)? else { continue };
            text(&mut hasher, name.as_bytes());
            if marks.is_gone(&info) {
                text(&mut hasher, b"gone"); // a mark has no owner and no time of its own
                continue;
            }
            match info.kind {
                FileType::Directory => {
                    pending.push(path.join(&name));
                    continue;
                }
                FileType::Symlink => text(&mut hasher, dir.read_link(&name)?.as_bytes()),
                FileType::RegularFile => {
                    let count = known.len();
                    match known.get(&info.inode) {
                        Some(first) => text(&mut hasher, &first.to_le_bytes()),
                        None => contents(&mut hasher, &dir, &name, &mut buffer)?,
                    }
                    known.entry(info.inode).or_insert(count);
                }
                _ => {}
            }
            facts(&mut hasher, &info);
            xattrs(&mut hasher, dir.xattrs(&name)?);
        }
    }
    Ok(hasher.finish())
}

/// A text with its length before it, so that no two sequences of them are the same bytes.
fn text(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// What the kernel says of an entry. A directory's size and links are its filesystem's business.
fn facts(hasher: &mut Hasher, info: &Info) {
    let Info { kind, mode, uid, gid, modified, device, .. } = info;
    text(hasher, format!("{kind:?} {mode:o} {uid} {gid} {modified:?} {device:?}").as_bytes());
    if info.kind != FileType::Directory {
        text(hasher, format!("{} {}", info.size, info.links).as_bytes());
    }
}

fn xattrs(hasher: &mut Hasher, xattrs: Vec<(Vec<u8>, Vec<u8>)>) {
    let xattrs = content_xattrs(xattrs);
    hasher.update(&(xattrs.len() as u64).to_le_bytes());
    for (name, value) in xattrs {
        text(hasher, &name);
        text(hasher, &value);
    }
}

fn contents(hasher: &mut Hasher, dir: &Dir, name: &OsStr, buffer: &mut [u8]) -> sys::Result<()> {
    let mut file = dir.open_file(name)?;
    loop {
        match sys::named(file.read(buffer), || format!("read({name:?})"))? {
            0 => return Ok(()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
