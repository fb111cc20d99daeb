//! Reading and writing a file at a place of the caller's, without moving a cursor.

use std::fs::File;
use std::io;

/// Reads once, `most` bytes at the most, into memory that nobody clears first. Empty at the end.
#[cfg(unix)]
pub fn read_at(file: &File, most: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), offset)?;
    Ok(bytes)
}

/// Reads once, `most` bytes at the most. Empty at the end.
#[cfg(windows)]
pub fn read_at(file: &File, most: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let read = std::os::windows::fs::FileExt::seek_read(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads once, as much as `buffer` takes at the most. Nothing at the end.
#[cfg(unix)]
pub fn read_into(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Reads once, as much as `buffer` takes at the most. Nothing at the end.
#[cfg(windows)]
pub fn read_into(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// Writes all of `bytes`.
pub fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_at(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => (bytes, offset) = (&bytes[written..], offset + written as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes once; how many bytes that took.
#[cfg(unix)]
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

/// Writes once; how many bytes that took.
#[cfg(windows)]
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

/// Writes once, at the end wherever that is by then; how many bytes that took.
#[cfg(target_os = "linux")]
pub fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    Ok(pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_written_and_appended_to_wherever_its_cursor_is() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(write_at(&file, b"one two", 2).unwrap(), 7);
        assert_eq!(read_at(&file, 3, 2).unwrap(), b"one");
        assert_eq!(read_at(&file, 100, 6).unwrap(), b"two");
        assert_eq!(read_at(&file, 100, 9).unwrap(), b"");
        #[cfg(target_os = "linux")]
        {
            assert_eq!(append(&file, b"!").unwrap(), 1);
            assert_eq!(read_at(&file, 100, 0).unwrap(), b"\0\0one two!");
        }
    }
}
