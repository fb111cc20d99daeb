//! Sparse files in all four shapes that GNU tar has written: the old GNU header, and pax 0.0, 0.1, 1.0
//! (GNU tar manual, "Storing Sparse Files").
//!
//! Whatever the shape, the outcome is a checked list of runs: ascending, apart, inside of the file, and
//! summing up to exactly the data that is there. A map is bounded by [`MAX_EXTENTS`] before it is kept.

use std::io::BufRead;

use super::header::number;
use super::pax::parse_decimal;
use super::{BLOCK, Error, MAX_EXTENTS, MAX_FILE, Reader, malformed};

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub length: u64,
}

/// The `GNU.sparse.*` keys of a pax header.
#[derive(Debug, Default)]
pub(super) struct SparseKeys {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    real_size: Option<u64>,
    /// Format 0.1's comma-separated map, or 0.0's pairs of keys, as one list of numbers.
    numbers: Option<Vec<u64>>,
}

impl SparseKeys {
    pub(super) fn any(&self) -> bool {
        self.major.is_some() || self.size.is_some() || self.real_size.is_some() || self.numbers.is_some()
    }

    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let bad = || format!("GNU.sparse.{} is not a number", String::from_utf8_lossy(key));
        let decimal = || parse_decimal(value).ok_or_else(bad);
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(decimal()?),
            b"minor" => self.minor = Some(decimal()?),
            b"size" => self.size = Some(decimal()?),
            b"realsize" => self.real_size = Some(decimal()?),
            // The count is implied by the list.
            b"numblocks" => drop(decimal()?),
            b"map" => self.numbers = Some(comma_list(value).ok_or_else(bad)?),
            b"offset" | b"numbytes" => self.push(key == b"offset", decimal()?)?,
            _ => return Err(format!("GNU.sparse.{} is unknown", String::from_utf8_lossy(key))),
        }
        Ok(())
    }

    /// Format 0.0: offset and numbytes in turn.
    fn push(&mut self, is_offset: bool, value: u64) -> Result<(), String> {
        let numbers = self.numbers.get_or_insert_default();
        if is_offset != numbers.len().is_multiple_of(2) || numbers.len() >= 2 * MAX_EXTENTS {
            return Err("GNU.sparse.offset and GNU.sparse.numbytes do not pair up, or are too many".into());
        }
        numbers.push(value);
        Ok(())
    }

    /// The size of the whole file, if this is a sparse one.
    pub(super) fn size(&self) -> Option<u64> {
        self.any().then(|| self.real_size.or(self.size).unwrap_or(u64::MAX))
    }

    /// The map, where the header holds it; format 1.0 puts it in front of the data.
    pub(super) fn map(&self, start: u64) -> Result<Option<Vec<Extent>>, Error> {
        match (self.major, self.minor, &self.numbers) {
            (Some(1), Some(0), None) => Ok(None),
            (None | Some(0), _, Some(numbers)) => Ok(Some(pairs(numbers))),
            _ => Err(malformed(start, "a sparse file of an unknown version, or without a map")),
        }
    }
}

fn comma_list(value: &[u8]) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(parse_decimal).collect();
    numbers.filter(|numbers| numbers.len().is_multiple_of(2) && numbers.len() <= 2 * MAX_EXTENTS)
}

fn pairs(numbers: &[u64]) -> Vec<Extent> {
    numbers.chunks_exact(2).map(|pair| Extent { offset: pair[0], length: pair[1] }).collect()
}

/// Format 1.0: decimal lines at the start of the data, filled up to a block.
pub(super) fn leading_map<R: BufRead>(reader: &mut Reader<R>, start: u64) -> Result<Vec<Extent>, Error> {
    let mut lines = Lines { reader, block: [0; BLOCK], used: BLOCK, start };
    let count = lines.number()?;
    if count > MAX_EXTENTS as u64 {
        return Err(Error::Limit { at: start, what: "a sparse map's length", limit: MAX_EXTENTS as u64 });
    }
    let mut map = Vec::new();
    for _ in 0..count {
        map.push(Extent { offset: lines.number()?, length: lines.number()? });
    }
    Ok(map)
}

/// Decimal lines out of an entry's data, a block at a time.
struct Lines<'a, R> {
    reader: &'a mut Reader<R>,
    block: [u8; BLOCK],
    used: usize,
    start: u64,
}

impl<R: BufRead> Lines<'_, R> {
    fn number(&mut self) -> Result<u64, Error> {
        let mut digits = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(malformed(self.start, "a number in a sparse map is too long")),
            }
        }
        parse_decimal(&digits).ok_or_else(|| malformed(self.start, "a sparse map holds something else than numbers"))
    }

    fn byte(&mut self) -> Result<u8, Error> {
        if self.used == BLOCK {
            let left = self.reader.data.checked_sub(BLOCK as u64);
            let left = left.ok_or_else(|| malformed(self.start, "a sparse map is longer than the entry's data"))?;
            let full = self.reader.block()?;
            self.block = full.ok_or(Error::Truncated { at: self.reader.at, what: "a sparse map" })?;
            self.reader.data = left;
            self.used = 0;
        }
        self.used += 1;
        Ok(self.block[self.used - 1])
    }
}

/// The old GNU header: four runs in the header block, 21 in each extension block.
pub(super) fn old_gnu(
    header: &[u8; BLOCK],
    mut next_block: impl FnMut() -> Result<Option<[u8; BLOCK]>, Error>,
    start: u64,
) -> Result<(u64, Vec<Extent>), Error> {
    if &header[257..265] != b"ustar  \0" {
        return Err(malformed(start, "an old GNU sparse file outside of a GNU archive"));
    }
    let size = number(&header[483..495], "real size").map_err(|what| malformed(start, what))?;
    let mut map = Vec::new();
    read_runs(&header[386..482], &mut map).map_err(|what| malformed(start, what))?;
    let mut extended = header[482] != 0;
    while extended {
        let block = next_block()?.ok_or(Error::Truncated { at: start, what: "a sparse map" })?;
        read_runs(&block[..504], &mut map).map_err(|what| malformed(start, what))?;
        if map.len() > MAX_EXTENTS {
            return Err(Error::Limit { at: start, what: "a sparse map's length", limit: MAX_EXTENTS as u64 });
        }
        extended = block[504] != 0;
    }
    Ok((size, map))
}

fn read_runs(bytes: &[u8], map: &mut Vec<Extent>) -> Result<(), String> {
    for run in bytes.chunks_exact(24) {
        if run[0] == 0 {
            break;
        }
        map.push(Extent { offset: number(&run[..12], "offset")?, length: number(&run[12..], "length")? });
    }
    Ok(())
}

/// A map that means something, or the reason why it does not.
pub(super) fn checked(mut map: Vec<Extent>, size: u64, stored: u64, start: u64) -> Result<Vec<Extent>, Error> {
    if size > MAX_FILE {
        return Err(Error::Limit { at: start, what: "a sparse file's size", limit: MAX_FILE });
    }
    let mut end = 0u64;
    let mut data = 0u64;
    for extent in &map {
        let stop = extent.offset.checked_add(extent.length);
        match stop {
            Some(stop) if extent.offset >= end && stop <= size => end = stop,
            _ => return Err(malformed(start, "a sparse map's runs overlap or leave the file")),
        }
        data += extent.length;
    }
    // A run of no bytes at the file's end only says where that is.
    map.retain(|extent| extent.length > 0);
    match data == stored {
        true => Ok(map),
        false => Err(malformed(start, format!("a sparse map speaks of {data} bytes, the entry has {stored}"))),
    }
}
