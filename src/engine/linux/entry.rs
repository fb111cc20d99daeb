//! The program that a specification names, as a file, before there is a container to look for it in: so that what
//! runs it is chosen by its bytes, and by nothing that an image or its orchestrator says about them.
//!
//! It is found as execve(2) would find it in the container: itself if its name has a slash, else in each directory of
//! the PATH. What cannot be executed is passed over, except WebAssembly, which nobody gives the permission to.
//! Links are resolved inside the root filesystem. A name that leads out of one mount into another by a link is not
//! followed there: such a program is a Linux one, and its start will tell.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

use super::program::candidates;
use crate::engine::wasm;

/// A file tree as a container will see it.
pub struct Tree<'a> {
    /// Its root filesystem.
    pub root: BorrowedFd<'a>,
    /// What is mounted in it from elsewhere, in the order of the mounts: the place in the container, and the source.
    pub binds: Vec<(PathBuf, PathBuf)>,
}

/// A program that was found.
pub struct Entry {
    /// The file, to be read from its beginning.
    pub file: File,
    /// Its first bytes.
    pub magic: Vec<u8>,
}

impl Tree<'_> {
    /// The program that `name` means for a process in the directory `cwd` with this `path` in its environment.
    pub fn find(&self, name: &str, cwd: &Path, path: Option<&str>) -> Result<Entry> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let mut refused = Errno::NOENT;
        for candidate in candidates(&name, path.map(str::as_bytes)) {
            let path = Path::new("/").join(cwd).join(std::ffi::OsStr::from_bytes(candidate.as_bytes()));
            match self.open(&path).and_then(look) {
                Ok(Some(entry)) => return Ok(entry),
                Ok(None) => refused = Errno::ACCESS,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn open(&self, path: &Path) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let within = self.binds.iter().rev().find_map(|(at, from)| Some((from, path.strip_prefix(at).ok()?)));
        match within {
            None => Ok(openat2(self.root, path, flags, Mode::empty(), resolve)?.into()),
            Some((from, rest)) if rest.as_os_str().is_empty() => {
                Ok(rustix::fs::openat(CWD, from, flags, Mode::empty())?.into())
            }
            Some((from, rest)) => {
                let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let from = rustix::fs::openat(CWD, from, directory, Mode::empty())?;
                Ok(openat2(from, rest, flags, Mode::empty(), resolve)?.into())
            }
        }
    }
}

/// The program that a file is, if it is one.
fn look(file: File) -> Result<Option<Entry>> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let mut magic = vec![0; 8];
    let length = file.read_at(&mut magic, 0).map_err(failed)?;
    magic.truncate(length);
    let may_run = metadata.mode() & 0o111 != 0 || wasm::begins(&magic);
    Ok(may_run.then_some(Entry { file, magic }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn put(at: &Path, bytes: &[u8], mode: u32) {
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, bytes).unwrap();
        fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_program_is_found_as_execve_would_and_wasm_without_permission() {
        let root = tempfile::tempdir().unwrap();
        put(&root.path().join("a/tool"), b"text", 0o644);
        put(&root.path().join("b/tool"), b"#!/bin/sh", 0o755);
        put(&root.path().join("b/app"), MODULE, 0o644);
        fs::create_dir(root.path().join("a/app")).unwrap();
        symlink("/b/app", root.path().join("link")).unwrap();
        let fd = fs::File::open(root.path()).unwrap();
        let tree = Tree { root: fd.as_fd(), binds: Vec::new() };
        let magic = |name: &str, cwd: &str| tree.find(name, Path::new(cwd), Some("/a:/b")).map(|entry| entry.magic);
        assert_eq!(magic("tool", "/").unwrap(), b"#!/bin/s");
        for (name, cwd) in [("app", "/"), ("/b/app", "/"), ("./app", "/b"), ("../b/app", "/a"), ("/link", "/")] {
            assert_eq!(magic(name, cwd).unwrap(), MODULE, "{name} in {cwd}");
        }
        assert_eq!(magic("/a/tool", "/"), Err(Errno::ACCESS));
        assert_eq!(magic("/a", "/"), Err(Errno::ACCESS));
        assert_eq!(magic("absent", "/"), Err(Errno::NOENT));
        assert_eq!(magic("/../../../etc/passwd", "/"), Err(Errno::NOENT), "the root is the root");
    }

    #[test]
    fn what_is_mounted_is_looked_at_where_it_comes_from() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(&root.path().join("srv/app.wasm"), b"hidden", 0o755);
        put(&other.path().join("app.wasm"), MODULE, 0o644);
        let fd = fs::File::open(root.path()).unwrap();
        let whole = Tree { root: fd.as_fd(), binds: vec![("/srv".into(), other.path().into())] };
        let found = |tree: &Tree<'_>, name: &str| tree.find(name, Path::new("/"), None).map(|entry| entry.magic);
        assert_eq!(found(&whole, "/srv/app.wasm").unwrap(), MODULE);
        let file = Tree { root: fd.as_fd(), binds: vec![("/x.wasm".into(), other.path().join("app.wasm"))] };
        assert_eq!(found(&file, "/x.wasm").unwrap(), MODULE);
        assert_eq!(found(&file, "/srv/app.wasm").unwrap(), b"hidden");
    }
}
