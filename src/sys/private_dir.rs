//! A directory that only this user can write, and files in it that can be believed.
//!
//! What is kept here may be executed as native code, so nobody else may have written it. The
//! directory is opened once and checked by its handle; everything in it is then reached through that
//! handle, without following symbolic links, so that a path which changes meanwhile changes nothing.
//! Where there are no such handles (Windows) paths are used and the user's profile is trusted.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{Error, Result, named};

#[cfg(unix)]
use handles as imp;
#[cfg(not(unix))]
use paths as imp;

/// A directory that no other user can write.
#[derive(Debug)]
pub struct PrivateDir(imp::Dir);

/// An open regular file that no other user can have written.
///
/// The only ways to one are [`PrivateDir::open`], and [`PrivateFile::inherited`] from a process that
/// had one.
#[derive(Debug)]
pub struct PrivateFile(File);

impl PrivateDir {
    /// Opens `path`, making it (mode 0700) when its parent exists and it does not. Refused when it is a
    /// symbolic link, when it belongs to somebody else or when others may write to it.
    pub fn open(path: &Path) -> Result<Self> {
        imp::Dir::open(path).map(Self)
    }

    /// Opens the regular file `name`; `None` when there is none. A file that others can write, or that
    /// is anything but a regular file, is refused.
    pub fn get(&self, name: &str) -> Result<Option<PrivateFile>> {
        match self.0.get(name) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(PrivateFile).map(Some),
        }
    }

    /// Makes `name` hold what `write` writes: all of it after a crash at any point, or what it held before.
    pub fn put(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        let temporary = temporary_name(name);
        let written = self.fill(&temporary, write).and_then(|()| self.0.rename(&temporary, name));
        if written.is_err() {
            // The reason to report is the first failure; a leftover is swept by `remove_stale`.
            self.0.remove(&temporary).ok();
        }
        written
    }

    fn fill(&self, temporary: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        let mut file = self.0.create(temporary)?;
        named(write(&mut file), || format!("write({temporary:?})"))?;
        named(file.sync_all(), || format!("fsync({temporary:?})"))
    }

    /// Lets `name` be another name of the file `of`, and of no other any more.
    pub fn link(&self, of: &str, name: &str) -> Result<()> {
        match self.0.link(of, name) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(name)?;
                self.0.link(of, name)
            }
            other => other,
        }
    }

    /// The names of all files in it.
    pub fn names(&self) -> Result<Vec<String>> {
        self.0.names()
    }

    /// Removes `name`; false when there was none.
    pub fn remove(&self, name: &str) -> Result<bool> {
        match self.0.remove(name) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl PrivateFile {
    /// Takes over a descriptor that the parent process got from a [`PrivateFile`] of its own. The owner
    /// is not compared again: this process may run as another user by now.
    #[cfg(unix)]
    pub fn inherited(fd: std::os::fd::OwnedFd) -> Result<Self> {
        let file = File::from(fd);
        handles::check_mode(&file, "inherited")?;
        Ok(Self(file))
    }

    /// The file, to read.
    pub fn as_file(&self) -> &File {
        &self.0
    }

    /// The file, to hand over.
    pub fn into_file(self) -> File {
        self.0
    }
}

/// A name that no other writer, in this process or another, uses at the same time.
fn temporary_name(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(".{name}.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn refused(call: String, why: &str) -> Error {
    Error { call, source: io::Error::new(io::ErrorKind::PermissionDenied, why) }
}

#[cfg(unix)]
mod handles {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, linkat, mkdirat, openat, renameat, unlinkat};

    use super::super::{Result, named};
    use super::refused;

    /// The bits by which somebody else than the owner may write.
    const OTHERS_WRITE: u32 = 0o022;

    #[derive(Debug)]
    pub struct Dir {
        fd: OwnedFd,
    }

    impl Dir {
        pub fn open(path: &Path) -> Result<Self> {
            match mkdirat(CWD, path, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => named(Err(error), || format!("mkdir({path:?}, 0700)"))?,
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
            let call = || format!("open({path:?}, O_DIRECTORY | O_NOFOLLOW)");
            let fd = named(openat(CWD, path, flags, Mode::empty()), call)?;
            check(&fd, FileType::Directory, call)?;
            Ok(Self { fd })
        }

        pub fn get(&self, name: &str) -> Result<File> {
            // O_NONBLOCK: a FIFO put in the place of a file must not make us wait for its writer.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let call = || format!("openat({name:?}, O_RDONLY | O_NOFOLLOW)");
            let fd = named(openat(&self.fd, name, flags, Mode::empty()), call)?;
            check(&fd, FileType::RegularFile, call)?;
            Ok(fd.into())
        }

        pub fn create(&self, name: &str) -> Result<File> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
            named(fd, || format!("openat({name:?}, O_CREAT | O_EXCL, 0600)")).map(File::from)
        }

        pub fn rename(&self, from: &str, to: &str) -> Result<()> {
            named(renameat(&self.fd, from, &self.fd, to), || format!("renameat({from:?}, {to:?})"))
        }

        pub fn names(&self) -> Result<Vec<String>> {
            let call = || "getdents64()".to_owned();
            let entries = named(rustix::fs::Dir::read_from(&self.fd), call)?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let names = named(names.collect::<rustix::io::Result<Vec<String>>>(), call)?;
            Ok(names.into_iter().filter(|name| name != "." && name != "..").collect())
        }

        pub fn link(&self, of: &str, name: &str) -> Result<()> {
            let linked = linkat(&self.fd, of, &self.fd, name, AtFlags::empty());
            named(linked, || format!("linkat({of:?}, {name:?})"))
        }

        pub fn remove(&self, name: &str) -> Result<()> {
            named(unlinkat(&self.fd, name, AtFlags::empty()), || format!("unlinkat({name:?})"))
        }
    }

    fn check(fd: &OwnedFd, kind: FileType, call: impl Fn() -> String) -> Result<()> {
        let stat = named(fstat(fd), &call)?;
        if FileType::from_raw_mode(stat.st_mode) != kind {
            return Err(refused(call(), "it is not of the kind that was put there"));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(refused(call(), "it belongs to another user"));
        }
        if stat.st_mode & OTHERS_WRITE != 0 {
            return Err(refused(call(), "other users can write to it"));
        }
        Ok(())
    }

    pub fn check_mode(file: &File, what: &str) -> Result<()> {
        let call = || format!("fstat({what})");
        let stat = named(fstat(file), call)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || stat.st_mode & OTHERS_WRITE != 0 {
            return Err(refused(call(), "it is not a regular file that only its owner can write"));
        }
        Ok(())
    }
}

#[cfg(not(unix))]
mod paths {
    use std::fs::{File, OpenOptions};
    use std::path::{Path, PathBuf};

    use super::super::{Result, named};

    #[derive(Debug)]
    pub struct Dir {
        path: PathBuf,
    }

    impl Dir {
        pub fn open(path: &Path) -> Result<Self> {
            named(std::fs::create_dir_all(path), || format!("mkdir({path:?})"))?;
            Ok(Self { path: path.to_owned() })
        }

        pub fn get(&self, name: &str) -> Result<File> {
            named(open_executable(&self.path.join(name)), || format!("open({name:?})"))
        }

        pub fn create(&self, name: &str) -> Result<File> {
            let file = OpenOptions::new().write(true).create_new(true).open(self.path.join(name));
            named(file, || format!("create({name:?})"))
        }

        pub fn rename(&self, from: &str, to: &str) -> Result<()> {
            let done = std::fs::rename(self.path.join(from), self.path.join(to));
            named(done, || format!("rename({from:?}, {to:?})"))
        }

        pub fn names(&self) -> Result<Vec<String>> {
            let call = || format!("readdir({:?})", self.path);
            let entries = named(std::fs::read_dir(&self.path), call)?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            named(names.collect::<std::io::Result<Vec<String>>>(), call)
        }

        pub fn link(&self, of: &str, name: &str) -> Result<()> {
            let linked = std::fs::hard_link(self.path.join(of), self.path.join(name));
            named(linked, || format!("link({of:?}, {name:?})"))
        }

        pub fn remove(&self, name: &str) -> Result<()> {
            named(std::fs::remove_file(self.path.join(name)), || format!("remove({name:?})"))
        }
    }

    /// A file that is to be mapped as code must be opened with the right to execute.
    #[cfg(windows)]
    fn open_executable(path: &Path) -> std::io::Result<File> {
        use std::os::windows::fs::OpenOptionsExt;
        const FILE_GENERIC_READ: u32 = 0x0012_0089;
        const FILE_GENERIC_EXECUTE: u32 = 0x0012_00a0;
        OpenOptions::new().access_mode(FILE_GENERIC_READ | FILE_GENERIC_EXECUTE).open(path)
    }

    #[cfg(not(windows))]
    fn open_executable(path: &Path) -> std::io::Result<File> {
        File::open(path)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn dir() -> (tempfile::TempDir, PrivateDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(&parent.path().join("private")).unwrap();
        (parent, dir)
    }

    #[test]
    fn what_was_put_is_got_and_removed() {
        let (parent, dir) = dir();
        assert!(dir.get("a").unwrap().is_none());
        dir.put("a", |file| file.write_all(b"one")).unwrap();
        dir.put("a", |file| file.write_all(b"two")).unwrap();
        let mut text = String::new();
        dir.get("a").unwrap().unwrap().as_file().read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
        dir.put("b", |file| file.write_all(b"other")).unwrap();
        dir.link("a", "b").unwrap();
        assert!(dir.remove("a").unwrap());
        assert_eq!(std::fs::read(parent.path().join("private/b")).unwrap(), b"two");
        assert!(!dir.remove("a").unwrap());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let (parent, dir) = dir();
        dir.put("a", |file| file.write_all(b"old")).unwrap();
        dir.put("a", |_| Err(io::Error::other("disk on fire"))).unwrap_err();
        let names: Vec<_> = std::fs::read_dir(parent.path().join("private")).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(std::fs::read(parent.path().join("private/a")).unwrap(), b"old");
    }

    #[test]
    fn the_directory_is_made_for_its_owner_alone() {
        let (parent, _dir) = dir();
        let mode = std::fs::metadata(parent.path().join("private")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_others_can_write_or_redirect_is_refused() {
        let (parent, dir) = dir();
        let path = parent.path().join("private");
        std::fs::write(path.join("open"), "x").unwrap();
        std::fs::set_permissions(path.join("open"), PermissionsExt::from_mode(0o666)).unwrap();
        std::fs::write(parent.path().join("elsewhere"), "x").unwrap();
        symlink(parent.path().join("elsewhere"), path.join("link")).unwrap();
        std::fs::create_dir(path.join("directory")).unwrap();
        std::fs::write(path.join("foreign"), "x").unwrap();
        std::os::unix::fs::chown(path.join("foreign"), Some(12345), None).unwrap();
        for name in ["open", "link", "directory", "foreign"] {
            assert!(dir.get(name).is_err(), "{name} was accepted");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        PrivateDir::open(&path).unwrap_err();
        symlink(&path, parent.path().join("alias")).unwrap();
        PrivateDir::open(&parent.path().join("alias")).unwrap_err();
    }
}
