//! Reading and writing the kernel's control files, with errors that read like strace lines.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::sys::{self, named};

/// Longest value quoted in an error.
const QUOTED: usize = 80;

/// Writes a control file. One write(2) is one command: the kernel takes it whole or refuses it. The file is
/// never created, so a missing controller is NotFound, not a misleading PermissionDenied.
pub(super) fn write(path: &Path, value: &str) -> sys::Result<()> {
    let mut file = named(OpenOptions::new().write(true).open(path), || format!("open({path:?}, O_WRONLY)"))?;
    named(file.write_all(value.as_bytes()), || format!("write({path:?}, {:?})", quote(value)))
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
    named(std::fs::read_to_string(path), || format!("read({path:?})"))
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

/// Makes a directory; true when it was not there before.
pub(super) fn make_dir(path: &Path) -> sys::Result<bool> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        other => named(other.map(|()| true), || format!("mkdir({path:?})")),
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
}
