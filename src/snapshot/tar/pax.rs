//! The records of a pax extended header, `length key=value\n` (pax(1), "pax Extended Header"). Pure.
//!
//! Of a key given twice the last counts; an empty value takes back what was said. Unknown keys are skipped.

use super::sparse::SparseKeys;
use super::{MAX_XATTR_NAME, MAX_XATTR_VALUE, MAX_XATTRS, Modified};

/// What an extended header says.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<Modified>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseKeys,
}

/// Star's prefix, which GNU tar, Go and libarchive write too. libarchive adds the same attributes again
/// as LIBARCHIVE.xattr; those are skipped, as Go does.
const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, String> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (record, rest) = split_record(bytes).ok_or("an extended header has a bad record")?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or("an extended header record without '='")?;
            pax.set(&record[..equals], &record[equals + 1..])?;
            bytes = rest;
        }
        Ok(pax)
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.sparse.any()
    }

    /// Whether this says anything that decides where entries are and what they are called.
    pub(super) fn changes_layout(&self) -> bool {
        self.path.is_some()
            || self.link.is_some()
            || self.size.is_some()
            || self.sparse.any()
            || !self.xattrs.is_empty()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match key {
            b"" => return Err("an extended header record without a key".into()),
            b"path" => self.path = text(value),
            b"linkpath" => self.link = text(value),
            b"size" => self.size = decimal(key, value)?,
            b"uid" => self.uid = decimal(key, value)?,
            b"gid" => self.gid = decimal(key, value)?,
            b"mtime" => self.modified = time(value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.sparse.set(&key[b"GNU.sparse.".len()..], value)?,
            _ if key.starts_with(XATTR) => self.set_xattr(&key[XATTR.len()..], value)?,
            _ => {}
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        if name.is_empty() || name.len() > MAX_XATTR_NAME || name.contains(&0) {
            return Err(format!("the name of an extended attribute is not 1 to {MAX_XATTR_NAME} bytes without NUL"));
        }
        if value.len() > MAX_XATTR_VALUE {
            return Err(format!("an extended attribute is longer than {MAX_XATTR_VALUE} bytes"));
        }
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() == MAX_XATTRS {
            return Err(format!("an entry has more than {MAX_XATTRS} extended attributes"));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// The first record's `key=value`, and what follows the record.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // The length counts itself; MAX_EXTENSION has seven digits.
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(parse_decimal(&bytes[..space])?).ok()?;
    let record = bytes.get(space + 1..length)?;
    let (newline, record) = record.split_last()?;
    (*newline == b'\n').then_some((record, &bytes[length..]))
}

fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn decimal(key: &[u8], value: &[u8]) -> Result<Option<u64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let bad = || format!("{} in an extended header is not a number in range", String::from_utf8_lossy(key));
    parse_decimal(value).map(Some).ok_or_else(bad)
}

/// Digits and nothing else: no sign, no space.
pub(super) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Seconds with an optional sign and fraction; digits beyond nanoseconds are cut.
fn time(value: &[u8]) -> Result<Option<Modified>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_time(value).map(Some).ok_or_else(|| "mtime in an extended header is not a time".into())
}

fn parse_time(value: &[u8]) -> Option<Modified> {
    let (negative, digits) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let nanos = parts.next().map_or(Some(0), nanos)?;
    Some(match (negative, nanos) {
        (false, _) => Modified { seconds, nanos },
        (true, 0) => Modified { seconds: -seconds, nanos: 0 },
        (true, _) => Modified { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

fn nanos(fraction: &[u8]) -> Option<u32> {
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| u32::from(fraction.get(at).map_or(0, |byte| byte - b'0'));
    Some((0..9).fold(0, |value, at| value * 10 + digit(at)))
}
