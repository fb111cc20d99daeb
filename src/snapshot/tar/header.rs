//! One header block: its checksum, numbers and names. Pure.
//!
//! | offset | field | | offset | field |
//! |---|---|---|---|---|
//! | 0 | name, 100 | | 257 | magic, 6, and version, 2 |
//! | 100 | mode, 8 | | 265, 297 | user and group name: ignored, an image's numbers count |
//! | 108, 116 | uid, gid, 8 each | | 329, 337 | device major, minor, 8 each |
//! | 124 | size, 12 | | 345 | ustar: prefix of the name, 155 (star: 131) |
//! | 136 | mtime, 12 | | 386 | old GNU: sparse map |
//! | 148 | checksum, 8 | | 508 | star: `tar\0` |
//! | 156 | type; 157: link name, 100 | | | |

use super::BLOCK;

/// What a header block says, before extension headers are taken into account.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) major: u64,
    pub(super) minor: u64,
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, String> {
        check_sum(block)?;
        let kind = block[156];
        let device = matches!(kind, b'3' | b'4');
        let device_number = |field: &[u8], what| if device { number(field, what) } else { Ok(0) };
        Ok(Self {
            path: path(block),
            link: text(&block[157..257]).to_vec(),
            kind,
            // Some writers put the whole st_mode here; only the lower bits mean anything.
            mode: (number(&block[100..108], "mode")? & 0o7777) as u32,
            uid: number(&block[108..116], "uid")?,
            gid: number(&block[116..124], "gid")?,
            size: number(&block[124..136], "size")?,
            modified: signed(&block[136..148], "mtime")?,
            major: device_number(&block[329..337], "device major")?,
            minor: device_number(&block[337..345], "device minor")?,
        })
    }
}

/// The name, with the prefix that ustar and star split off. GNU's own format has other things there.
fn path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&block[..100]);
    let posix = &block[257..265] == b"ustar\x0000";
    let star = &block[508..] == b"tar\0";
    let prefix: &[u8] = match (posix, star) {
        (true, true) => text(&block[345..476]),
        (true, false) => text(&block[345..500]),
        (false, _) => b"",
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The sum of all bytes with the checksum's own taken as spaces; historic writers summed signed ones.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), String> {
    let expected = number(&block[148..156], "checksum")? as i64;
    let counted = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
    let unsigned: i64 = block.iter().enumerate().map(counted).map(i64::from).sum();
    let signed: i64 = block.iter().enumerate().map(counted).map(|byte| i64::from(byte as i8)).sum();
    if expected == unsigned || expected == signed {
        Ok(())
    } else {
        Err(format!("the header's checksum is {expected}, its bytes sum up to {unsigned}; this is no tar header"))
    }
}

/// A number that cannot be negative.
pub(super) fn number(field: &[u8], what: &str) -> Result<u64, String> {
    u64::try_from(signed(field, what)?).map_err(|_| format!("the {what} is negative"))
}

/// Octal digits within spaces and NULs, or GNU's big-endian binary with the top bit set.
fn signed(field: &[u8], what: &str) -> Result<i64, String> {
    if field[0] & 0x80 != 0 {
        return binary(field).ok_or_else(|| format!("the {what} is out of range"));
    }
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    let padding = digits[end..].iter().all(|byte| matches!(byte, b' ' | 0));
    if !padding || !digits[..end].iter().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err(format!("the {what} is not an octal number: {:?}", String::from_utf8_lossy(field)));
    }
    // Twelve octal digits at most: 36 bits.
    Ok(digits[..end].iter().fold(0, |value, digit| value << 3 | i64::from(digit - b'0')))
}

/// Two's complement; the top bit marks the format, the one below it is the sign.
fn binary(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { i128::from(field[0] | 0x80) - 0x100 } else { i128::from(field[0] & 0x7f) };
    let value = field[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte));
    i64::try_from(value).ok()
}
