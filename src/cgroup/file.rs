//! Reading and writing the kernel's control files, with errors that read like strace lines.
//!
//! A start writes some dozen of them, so each takes no more calls than it must: open, one write or read for each
//! command or page, close.

use std::io;
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{self, named};

/// Longest value quoted in an error.
const QUOTED: usize = 80;
/// A page: most control files fit.
const PAGE: usize = 4096;

/// Writes a control file. One write(2) is one command: the kernel takes it whole or refuses it. The file is
/// never created, so a missing controller is NotFound, not a misleading PermissionDenied.
pub(super) fn write(path: &Path, value: &str) -> sys::Result<()> {
    write_at(CWD, path, path, [value])
}

/// Writes several commands into one control file, of which `at` is the directory; `path` is its name in errors.
pub(super) fn write_at<'a>(
    at: impl AsFd,
    name: impl rustix::path::Arg,
    path: &Path,
    values: impl IntoIterator<Item = &'a str>,
) -> sys::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = named(rustix::fs::openat(at, name, flags, Mode::empty()), || format!("open({path:?}, O_WRONLY)"))?;
    for value in values {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()));
        named(written, || format!("write({path:?}, {:?})", quote(value)))?;
    }
    Ok(())
}

fn quote(value: &str) -> &str {
    let mut end = value.len().min(QUOTED);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// Reads a control file whole.
pub(super) fn read(path: &Path) -> sys::Result<String> {
    read_at(CWD, path, path)
}

/// Reads a control file whole, of which `at` is the directory; `path` is its name in errors.
pub(super) fn read_at(at: impl AsFd, name: impl rustix::path::Arg, path: &Path) -> sys::Result<String> {
    let call = || format!("read({path:?})");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = named(rustix::fs::openat(at, name, flags, Mode::empty()), call)?;
    let mut text = Vec::new();
    loop {
        let mut page = [0; PAGE];
        let count = named(rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut page)), call)?;
        text.extend_from_slice(&page[..count]);
        if count == 0 {
            let bad = |_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8");
            return named(String::from_utf8(text).map_err(bad), call);
        }
    }
}

/// Reads a file that only some kernels, or only groups with the controller, have.
pub(super) fn read_if_there(path: &Path) -> sys::Result<Option<String>> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file or directory was not there. ENODEV is what a group says that has just been removed.
pub(super) fn is_missing(error: &sys::Error) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV))
}

/// The value of `key` in a file of `key value` lines.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A number; `max`, and v1's way to say the same (a page short of 2⁶³), are none.
pub(super) fn limit(text: &str) -> Option<u64> {
    /// PAGE_COUNTER_MAX of the kernel, in bytes, for the largest page size in use (64 KiB).
    const UNLIMITED: u64 = (i64::MAX as u64) & !0xffff;
    text.trim().parse().ok().filter(|limit| *limit < UNLIMITED)
}

/// What making a directory came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// It is new.
    Fresh,
    /// It was there.
    There,
    /// The directory above is missing.
    NoParent,
}

/// Makes a directory.
pub(super) fn make_dir(path: &Path) -> sys::Result<Made> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(Made::Fresh),
        Err(Errno::EXIST) => Ok(Made::There),
        Err(Errno::NOENT) => Ok(Made::NoParent),
        Err(errno) => named(Err(errno), || format!("mkdir({path:?})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_control_files() {
        let text = "user_usec 5\nusage_usec 12\nusage_usec_total 7\n";
        assert_eq!(field(text, "usage_usec"), Some(12));
        assert_eq!(field(text, "usec"), None);
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("4096\n"), Some(4096));
        assert_eq!(limit("9223372036854771712\n"), None, "v1's unlimited with pages of 4 KiB");
    }

    #[test]
    fn a_missing_file_is_missing_and_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(&dir.path().join("memory.max"), "1").unwrap_err();
        assert!(is_missing(&error), "{error}");
        assert!(!dir.path().join("memory.max").exists());
        assert_eq!(read_if_there(&dir.path().join("memory.max")).unwrap(), None);
    }

    #[test]
    fn files_of_more_than_a_page_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cgroup.procs");
        let text = "12345\n".repeat(3 * PAGE);
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read(&path).unwrap(), text);
    }

    #[test]
    fn a_directory_is_new_or_there_or_has_nothing_above() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(make_dir(&path).unwrap(), Made::NoParent);
        assert_eq!(make_dir(&dir.path().join("a")).unwrap(), Made::Fresh);
        assert_eq!(make_dir(&path).unwrap(), Made::Fresh);
        assert_eq!(make_dir(&path).unwrap(), Made::There);
    }
}
