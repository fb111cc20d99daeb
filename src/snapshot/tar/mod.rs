//! A streaming reader of tar archives, as layers come in: ustar, star, GNU and pax.
//!
//! Foreign bytes, read by many other tools too. Where two of them would read different files out of the
//! same bytes, an attacker shows one to the scanner and the other to us (CVE-2025-62518). So: what Go's
//! archive/tar and GNU tar agree on is read as they read it; what they disagree on is refused, with the
//! offset and the reason. The layer's digest vouches for the bytes, thus a missing end marker is fine, and
//! what follows the end marker is nobody's (but hashed, by who feeds us).
//!
//! ```text
//! next() ─► skip what is left of the last entry's data ─► header block
//!             ├ x, g, L, K   remembered for the entry that follows; bounded by MAX_EXTENSION
//!             ├ zero block   the end, if another one or the end of input follows
//!             └ an entry     merged with what was remembered ─► Entry; its data by chunk()/consume()
//! ```
//!
//! Memory is bounded: one extension record, one sparse map, one entry. It does not look at what a path
//! means (`path`), nor write anything (`unpack`).

mod header;
mod pax;
mod sparse;

use std::io::BufRead;

use header::Header;
use pax::Pax;
pub use sparse::Extent;

/// The size of a block; all in an archive is a multiple of it.
pub const BLOCK: usize = 512;

/// The longest extended header or long name. Go's archive/tar has the same limit since CVE-2022-2879.
pub const MAX_EXTENSION: u64 = 1 << 20;

/// The longest path or link target: PATH_MAX of linux/limits.h.
pub const MAX_PATH: usize = 4096;

/// The most extended attributes of one entry. Real ones have one or two.
pub const MAX_XATTRS: usize = 128;

/// XATTR_NAME_MAX of linux/limits.h.
pub const MAX_XATTR_NAME: usize = 255;

/// XATTR_SIZE_MAX of linux/limits.h.
pub const MAX_XATTR_VALUE: usize = 65536;

/// The most data runs of a sparse file: a map of 2 MiB in memory.
pub const MAX_EXTENTS: usize = 1 << 17;

/// The largest file, holes included: the limit of ext4 with 4 KiB blocks.
pub const MAX_FILE: u64 = 16 << 40;

/// The most entries of a layer: about three times the largest images known (whole Windows-like SDK trees).
pub const MAX_ENTRIES: u64 = 4 << 20;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input itself failed: decompression, or the disk.
    #[error("cannot read the archive at byte {at}")]
    Read {
        /// Offset in the uncompressed archive.
        at: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The archive ends in the middle of something.
    #[error("the archive is cut off at byte {at}, inside of {what}")]
    Truncated {
        /// Offset in the uncompressed archive.
        at: u64,
        /// What is incomplete.
        what: &'static str,
    },
    /// The bytes are not a tar archive, or one that tools read differently.
    #[error("the archive is malformed at byte {at}: {what}")]
    Malformed {
        /// Offset in the uncompressed archive.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// More than a limit allows.
    #[error("the archive exceeds a limit at byte {at}: {what} is more than {limit}")]
    Limit {
        /// Offset in the uncompressed archive.
        at: u64,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub modified: Modified,
    /// Extended attributes in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A time: seconds since 1970, and nanoseconds that count up from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modified {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of `size` bytes. With `sparse`, only these runs are in the archive, the rest are holes.
    File {
        /// The size of the file once unpacked.
        size: u64,
        /// The runs of data, in order.
        sparse: Option<Vec<Extent>>,
    },
    /// A further name of the entry with this path.
    Link(Vec<u8>),
    /// A symlink with this text.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A character device.
    Char {
        /// The driver.
        major: u32,
        /// The unit.
        minor: u32,
    },
    /// A block device.
    Block {
        /// The driver.
        major: u32,
        /// The unit.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Reads the entries of the archive in `R`.
pub struct Reader<R> {
    input: R,
    at: u64,
    /// Data of the current entry that nobody took yet.
    data: u64,
    /// Zeros that follow it.
    padding: u64,
    entries: u64,
    max_entries: u64,
    ended: bool,
}

/// What extension headers said about the entry to come.
#[derive(Default)]
struct Pending {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// A reader at the start of an archive.
    pub fn new(input: R) -> Self {
        Self { input, at: 0, data: 0, padding: 0, entries: 0, max_entries: MAX_ENTRIES, ended: false }
    }

    /// The same with another limit on the number of entries.
    pub fn with_max_entries(self, max_entries: u64) -> Self {
        Self { max_entries, ..self }
    }

    /// The next entry, after skipping what is left of this one's data.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend the entry's data")]
    pub fn next(&mut self) -> Option<Result<Entry, Error>> {
        if self.ended {
            return None;
        }
        let entry = self.advance().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }

    /// The next run of the current entry's data; empty when there is no more.
    pub fn chunk(&mut self) -> Result<&[u8], Error> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let (at, most) = (self.at, usize::try_from(self.data).unwrap_or(usize::MAX));
        let bytes = self.input.fill_buf().map_err(|source| Error::Read { at, source })?;
        if bytes.is_empty() {
            return Err(Error::Truncated { at, what: "a file's data" });
        }
        Ok(&bytes[..bytes.len().min(most)])
    }

    /// Marks `length` bytes of the last chunk as taken.
    pub fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.at += length as u64;
        self.data -= length as u64;
    }

    /// The input, positioned somewhere after the archive's end.
    pub fn into_input(self) -> R {
        self.input
    }

    fn advance(&mut self) -> Result<Option<Entry>, Error> {
        self.skip_data()?;
        let mut pending = Pending::default();
        loop {
            let Some(block) = self.header_block(&pending)? else { return Ok(None) };
            let start = self.at - BLOCK as u64;
            let header = Header::parse(&block).map_err(|what| malformed(start, what))?;
            match header.kind {
                b'x' => pending.set_pax(self.extension(&header, "an extended header")?, start)?,
                b'g' => self.check_global(&header, start)?,
                b'L' => set_once(&mut pending.long_path, c_string(self.extension(&header, "a long name")?), start)?,
                b'K' => set_once(&mut pending.long_link, c_string(self.extension(&header, "a long link")?), start)?,
                _ => return self.entry(header, &block, pending, start).map(Some),
            }
        }
    }

    fn skip_data(&mut self) -> Result<(), Error> {
        self.discard_data()?;
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..std::mem::take(&mut self.padding) as usize];
        match self.fill(padding)? {
            filled if filled == padding.len() => Ok(()),
            // As Go has it: the last file may lack its padding. umoci's opaque layers end so.
            0 => Ok(()),
            _ => Err(Error::Truncated { at: self.at, what: "a file's padding" }),
        }
    }

    fn discard_data(&mut self) -> Result<(), Error> {
        loop {
            match self.chunk()?.len() {
                0 => return Ok(()),
                length => self.consume(length),
            }
        }
    }

    /// The next header block; `None` at the end of the archive.
    fn header_block(&mut self, pending: &Pending) -> Result<Option<[u8; BLOCK]>, Error> {
        match self.block()? {
            Some(block) if block != [0; BLOCK] => Ok(Some(block)),
            _ if !pending.is_empty() => Err(Error::Truncated { at: self.at, what: "an entry with extended headers" }),
            None => Ok(None),
            // As Go has it: one zero block is an end only where the input ends too.
            Some(_) => match self.block()? {
                Some(second) if second != [0; BLOCK] => {
                    Err(malformed(self.at - BLOCK as u64, "a header follows a zero block"))
                }
                _ => Ok(None),
            },
        }
    }

    /// A whole block; `None` at the end of input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(Error::Truncated { at: self.at, what: "a header" }),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let bytes = self.input.fill_buf().map_err(|source| Error::Read { at: self.at, source })?;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&bytes[..length]);
            self.input.consume(length);
            self.at += length as u64;
            filled += length;
        }
        Ok(filled)
    }

    /// The data of an extension header, whole.
    fn extension(&mut self, header: &Header, what: &'static str) -> Result<Vec<u8>, Error> {
        if header.size > MAX_EXTENSION {
            return Err(Error::Limit { at: self.at, what, limit: MAX_EXTENSION });
        }
        let padded = header.size.next_multiple_of(BLOCK as u64);
        let mut bytes = vec![0; padded as usize];
        if self.fill(&mut bytes)? < bytes.len() {
            return Err(Error::Truncated { at: self.at, what });
        }
        bytes.truncate(header.size as usize);
        Ok(bytes)
    }

    /// A global header may say nothing that moves or renames entries: GNU tar would apply it and Go would
    /// not. The rest (comments, as git archive writes) is skipped, as containerd does.
    fn check_global(&mut self, header: &Header, start: u64) -> Result<(), Error> {
        let bytes = self.extension(header, "a global header")?;
        match Pax::parse(&bytes).map_err(|what| malformed(start, what))?.changes_layout() {
            true => Err(malformed(start, "a global header sets a path, link, size or sparse map")),
            false => Ok(()),
        }
    }

    fn entry(&mut self, header: Header, block: &[u8; BLOCK], pending: Pending, start: u64) -> Result<Entry, Error> {
        self.entries += 1;
        if self.entries > self.max_entries {
            return Err(Error::Limit { at: start, what: "the number of entries", limit: self.max_entries });
        }
        let Pending { pax, long_path, long_link } = pending;
        let pax = pax.unwrap_or_default();
        let conflict = (long_path.is_some() && pax.path.is_some()) || (long_link.is_some() && pax.link.is_some());
        if conflict || (pax.is_sparse() && header.kind == b'S') {
            return Err(malformed(start, "a pax header and a GNU header say the same thing twice"));
        }
        let stored = pax.size.unwrap_or(header.size);
        if stored > MAX_FILE {
            return Err(Error::Limit { at: start, what: "a file's size", limit: MAX_FILE });
        }
        let written = pax.path.clone().or(long_path).unwrap_or_else(|| header.path.clone());
        let path = pax.sparse.name.clone().unwrap_or(written);
        let link = pax.link.clone().or(long_link).unwrap_or_else(|| header.link.clone());
        check_path(&path, start)?;
        let kind = self.kind(&header, block, &pax, stored, &path, link, start)?;
        Ok(Entry {
            path,
            kind,
            mode: header.mode & 0o7777,
            uid: id(pax.uid, header.uid, "uid", start)?,
            gid: id(pax.gid, header.gid, "gid", start)?,
            modified: pax.modified.unwrap_or(Modified { seconds: header.modified, nanos: 0 }),
            xattrs: pax.xattrs,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where all that was read about an entry meets")]
    fn kind(
        &mut self,
        header: &Header,
        block: &[u8; BLOCK],
        pax: &Pax,
        stored: u64,
        path: &[u8],
        link: Vec<u8>,
        start: u64,
    ) -> Result<Kind, Error> {
        let slash = path.ends_with(b"/");
        let device = |kind: fn(u32, u32) -> Kind| {
            let (Ok(major), Ok(minor)) = (u32::try_from(header.major), u32::try_from(header.minor)) else {
                return Err(malformed(start, "a device number is out of range"));
            };
            Ok(kind(major, minor))
        };
        let kind = match header.kind {
            // The oldest archives know directories by their trailing slash alone.
            0 if slash => Kind::Directory,
            0 | b'0' | b'7' if slash => return Err(malformed(start, "a file's name ends in a slash")),
            0 | b'0' | b'7' | b'S' => return self.file(header, block, pax, stored, start),
            b'1' | b'2' if link.is_empty() => return Err(malformed(start, "a link without a target")),
            b'1' => Kind::Link(checked_link(link, start)?),
            b'2' => Kind::Symlink(checked_link(link, start)?),
            b'3' => device(|major, minor| Kind::Char { major, minor })?,
            b'4' => device(|major, minor| Kind::Block { major, minor })?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let shown = char::from(other).escape_default();
                return Err(malformed(start, format!("an entry of the unsupported type '{shown}'")));
            }
        };
        // Go takes none of these to have data, GNU tar skips what the size says, pax lets a hard link have
        // some: only without data do all read the same archive. A hard link's size may name its target's.
        if stored != 0 && !(header.kind == b'1' && pax.size.is_none()) {
            return Err(malformed(start, "an entry that is not a file has data"));
        }
        if pax.is_sparse() {
            return Err(malformed(start, "an entry that is not a file is sparse"));
        }
        Ok(kind)
    }

    fn file(
        &mut self,
        header: &Header,
        block: &[u8; BLOCK],
        pax: &Pax,
        stored: u64,
        start: u64,
    ) -> Result<Kind, Error> {
        self.data = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        if header.kind == b'S' {
            // The map of an old GNU sparse file goes on in blocks of its own, before the data.
            let (size, map) = sparse::old_gnu(block, || self.block(), start)?;
            let sparse = Some(sparse::checked(map, size, stored, start)?);
            return Ok(Kind::File { size, sparse });
        }
        let Some(size) = pax.sparse.size() else { return Ok(Kind::File { size: stored, sparse: None }) };
        let map = match pax.sparse.map(start)? {
            Some(map) => map,
            None => sparse::leading_map(self, start)?,
        };
        let sparse = Some(sparse::checked(map, size, self.data, start)?);
        Ok(Kind::File { size, sparse })
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_path.is_none() && self.long_link.is_none()
    }

    fn set_pax(&mut self, bytes: Vec<u8>, start: u64) -> Result<(), Error> {
        let pax = Pax::parse(&bytes).map_err(|what| malformed(start, what))?;
        set_once(&mut self.pax, pax, start)
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, start: u64) -> Result<(), Error> {
    match slot.replace(value) {
        Some(_) => Err(malformed(start, "two extension headers of one kind before an entry")),
        None => Ok(()),
    }
}

fn malformed(at: u64, what: impl Into<String>) -> Error {
    Error::Malformed { at, what: what.into() }
}

/// GNU's long names end in a NUL, which is not part of them.
fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn check_path(path: &[u8], start: u64) -> Result<(), Error> {
    if path.is_empty() {
        return Err(malformed(start, "an entry without a name"));
    }
    if path.contains(&0) {
        return Err(malformed(start, "a name with a NUL in it"));
    }
    match path.len() > MAX_PATH {
        true => Err(Error::Limit { at: start, what: "a path's length", limit: MAX_PATH as u64 }),
        false => Ok(()),
    }
}

fn checked_link(link: Vec<u8>, start: u64) -> Result<Vec<u8>, Error> {
    check_path(&link, start)?;
    Ok(link)
}

/// An owner: pax over header, and within what a kernel takes. `u32::MAX` means "leave it" to chown(2).
fn id(pax: Option<u64>, header: u64, what: &'static str, start: u64) -> Result<u32, Error> {
    let id = pax.unwrap_or(header);
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(malformed(start, format!("the {what} {id} is out of range"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::craft::{Block, Tar};

    #[test]
    fn the_number_of_entries_is_limited() {
        let tar = Tar::new().dir("a").dir("b").dir("c").end();
        let mut reader = Reader::new(&tar.0[..]).with_max_entries(2);
        assert!(reader.next().unwrap().is_ok() && reader.next().unwrap().is_ok());
        assert!(matches!(reader.next(), Some(Err(Error::Limit { limit: 2, .. }))));
        assert!(reader.next().is_none(), "after a failure there is nothing more");
    }

    #[test]
    fn data_that_nobody_takes_is_skipped() {
        let tar = Tar::new().file("a", &"x".repeat(700)).file("b", "y").end();
        let mut reader = Reader::new(&tar.0[..]);
        reader.next().unwrap().unwrap();
        let taken = reader.chunk().unwrap().len().min(100);
        reader.consume(taken);
        assert_eq!(reader.next().unwrap().unwrap().path, b"b");
        assert_eq!(reader.chunk().unwrap(), b"y");
    }

    #[test]
    fn star_splits_names_shorter_than_ustar() {
        let mut block = Block::new(b'5', "name");
        block.text(345, b"prefix").text(476, b"00000000000 ").text(508, b"tar\0");
        let tar = Tar::new().block(&block).end();
        assert_eq!(Reader::new(&tar.0[..]).next().unwrap().unwrap().path, b"prefix/name");
    }

    #[test]
    fn old_gnu_maps_are_limited() {
        let mut block = Block::new(b'S', "f");
        block.text(257, b"ustar  \0").octal(483, 12, 0);
        block.0[482] = 1;
        let mut extension = [0; BLOCK];
        for run in extension[..504].chunks_exact_mut(24) {
            run.copy_from_slice(b"00000000000 00000000000 ");
        }
        extension[504] = 1;
        let tar = Tar::new().block(&block).raw(&extension.repeat(MAX_EXTENTS / 21 + 1));
        let error = Reader::new(&tar.0[..]).next().unwrap().unwrap_err();
        assert!(matches!(error, Error::Limit { limit, .. } if limit == MAX_EXTENTS as u64), "{error}");
    }
}
