//! Files as entries of a tar archive: ustar where that has room, pax records where it has not.
//!
//! Times are in whole seconds, as docker's layers have them: a pax record for each file would make a layer of many small
//! files a third larger. A name of a file that was written already is a hard link to it. Sockets are left out, which no
//! archive can hold.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use tar::{EntryType, Header};

use super::error::Error;
use super::mark::Marks;
use super::meta::{Meta, Powers};
use super::tar::BLOCK;
use crate::sys;
use crate::sys::dir::{Dir, Info};

/// What the name field of a header holds.
const MAX_NAME: usize = 100;

/// The largest numbers of seven and of eleven octal digits.
const MAX_ID: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// How many bytes are copied at a time.
const PIECE: usize = 256 << 10;

/// Writes an archive.
pub struct Packer<'a> {
    out: &'a mut dyn Write,
    powers: Powers,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    entries: u64,
}

/// What goes into headers.
struct Item<'a> {
    path: &'a [u8],
    kind: EntryType,
    link: &'a [u8],
    size: u64,
    device: Option<(u32, u32)>,
    meta: &'a Meta,
}

impl<'a> Packer<'a> {
    pub fn new(out: &'a mut dyn Write, powers: Powers) -> Self {
        Self { out, powers, links: HashMap::new(), buffer: vec![0; PIECE], entries: 0 }
    }

    /// Writes the entry `name` of `dir`, which has this path in the archive and these attributes where it is stored.
    pub fn entry(&mut self, dir: &Dir, name: &OsStr, path: &Path, info: &Info, marks: Marks) -> Result<(), Error> {
        let failed = |source| Error::Look { path: path.to_owned(), source };
        let xattrs = dir.xattrs(name).map_err(failed)?;
        let meta = Meta::of_stored(info, xattrs, marks, Marks::Plain, self.powers);
        let bytes = path.as_os_str().as_bytes();
        if info.links > 1 && info.kind != FileType::Directory {
            if let Some(first) = self.links.get(&info.inode).cloned() {
                return self.head(&Item { link: &first, ..item(bytes, EntryType::Link, &meta) });
            }
            self.links.insert(info.inode, bytes.to_owned());
        }
        let device = Some((info.device.major, info.device.minor));
        match info.kind {
            FileType::RegularFile => self.file(dir, name, path, &meta),
            FileType::Directory => self.head(&item(&[bytes, b"/"].concat(), EntryType::Directory, &meta)),
            FileType::Symlink => {
                let target = dir.read_link(name).map_err(failed)?;
                self.head(&Item { link: target.as_bytes(), ..item(bytes, EntryType::Symlink, &meta) })
            }
            FileType::CharacterDevice => self.head(&Item { device, ..item(bytes, EntryType::Char, &meta) }),
            FileType::BlockDevice => self.head(&Item { device, ..item(bytes, EntryType::Block, &meta) }),
            FileType::Fifo => self.head(&item(bytes, EntryType::Fifo, &meta)),
            _ => Ok(()),
        }
    }

    /// Writes an empty file that stands for something: that a name is gone, or that a directory hides what is below.
    pub fn whiteout(&mut self, path: &Path) -> Result<(), Error> {
        let meta = Meta { mode: 0o600, ..Meta::implied() };
        self.head(&item(path.as_os_str().as_bytes(), EntryType::Regular, &meta))
    }

    /// Ends the archive; how many entries it has.
    pub fn finish(self) -> Result<u64, Error> {
        self.out.write_all(&[0; 2 * BLOCK]).and_then(|()| self.out.flush()).map_err(unwritable)?;
        Ok(self.entries)
    }

    /// A file that grows or shrinks meanwhile has the size that it had when it was opened.
    fn file(&mut self, dir: &Dir, name: &OsStr, path: &Path, meta: &Meta) -> Result<(), Error> {
        let failed = |source| Error::Look { path: path.to_owned(), source };
        let unreadable = |source: io::Error| Error::Unreadable { path: path.to_owned(), source };
        let file = dir.open_file(name).map_err(failed)?;
        let size = sys::dir::file_info(&file).map_err(failed)?.size;
        self.head(&Item { size, ..item(path.as_os_str().as_bytes(), EntryType::Regular, meta) })?;
        let (mut left, mut file) = (size, file.take(size));
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match file.read(&mut self.buffer[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(unreadable)?,
            };
            if read == 0 {
                self.buffer[..most].fill(0);
            }
            let length = if read == 0 { most } else { read };
            self.out.write_all(&self.buffer[..length]).map_err(unwritable)?;
            left -= length as u64;
        }
        self.pad(size)
    }

    fn head(&mut self, item: &Item<'_>) -> Result<(), Error> {
        self.entries += 1;
        let records = records(item);
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_path("pax").map_err(unwritable)?;
            header.set_size(records.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            self.out.write_all(header.as_bytes()).and_then(|()| self.out.write_all(&records)).map_err(unwritable)?;
            self.pad(records.len() as u64)?;
        }
        let header = header(item).map_err(unwritable)?;
        self.out.write_all(header.as_bytes()).map_err(unwritable)
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let over = (size % BLOCK as u64) as usize;
        self.out.write_all(&[0; BLOCK][..(BLOCK - over) % BLOCK]).map_err(unwritable)
    }
}

fn item<'a>(path: &'a [u8], kind: EntryType, meta: &'a Meta) -> Item<'a> {
    Item { path, kind, link: b"", size: 0, device: None, meta }
}

/// The header, with what fits into it.
fn header(item: &Item<'_>) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(item.kind);
    let fields = header.as_ustar_mut().expect("a ustar header is one");
    copy(&mut fields.name, item.path);
    copy(&mut fields.linkname, item.link);
    header.set_mode(item.meta.mode);
    header.set_uid(u64::from(item.meta.uid).min(MAX_ID));
    header.set_gid(u64::from(item.meta.gid).min(MAX_ID));
    header.set_size(item.size.min(MAX_SIZE));
    header.set_mtime(u64::try_from(item.meta.time.seconds).unwrap_or(0).min(MAX_SIZE));
    if let Some((major, minor)) = item.device {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    header.set_cksum();
    Ok(header)
}

fn copy(field: &mut [u8; MAX_NAME], bytes: &[u8]) {
    let length = bytes.len().min(MAX_NAME);
    field[..length].copy_from_slice(&bytes[..length]);
}

/// The pax records for what does not fit into a header.
fn records(item: &Item<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| records.extend(record(key, value));
    if item.path.len() > MAX_NAME {
        add(b"path", item.path);
    }
    if item.link.len() > MAX_NAME {
        add(b"linkpath", item.link);
    }
    if item.size > MAX_SIZE {
        add(b"size", item.size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", item.meta.uid), (b"gid", item.meta.gid)] {
        if u64::from(id) > MAX_ID {
            add(key, id.to_string().as_bytes());
        }
    }
    let seconds = item.meta.time.seconds;
    if u64::try_from(seconds).map_or(true, |seconds| seconds > MAX_SIZE) {
        add(b"mtime", seconds.to_string().as_bytes());
    }
    // A further name has the attributes of the first.
    for (key, value) in item.meta.xattrs.iter().filter(|_| item.kind != EntryType::Link) {
        add(&[b"SCHILY.xattr.", key.to_bytes()].concat(), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits too.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn unwritable(source: io::Error) -> Error {
    Error::Output { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        for length in 80..120 {
            let record = record(b"k", &vec![b'v'; length]);
            let text = String::from_utf8(record.clone()).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), record.len());
        }
    }
}
