//! A directory as a handle: every path below it is resolved by the kernel from the handle, never from
//! the root of the host, and never through a symlink.
//!
//! Two kinds of names are taken. A *name* is one component, and a call with it touches exactly that
//! entry of this directory, not what a symlink of that name leads to. A *path* is several, relative,
//! and is only ever walked through real directories ([`Dir::open_beneath`]). What a symlink means is
//! for the caller to decide, who can read it.
//!
//! openat2(2) is there since Linux 5.6 and missing in some seccomp profiles; without it the path is
//! walked one `O_NOFOLLOW` component at a time, which is slower and as strict.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Error, Result, named};

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> Self {
        dir.fd
    }
}

/// A device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// The unit.
    pub minor: u32,
}

/// A file that is neither data, directory nor symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A character device.
    Char(Device),
    /// A block device.
    Block(Device),
    /// A named pipe.
    Fifo,
    /// A socket; nobody listens on it.
    Socket,
}

/// A point in time since 1970, with nanoseconds that count up from the second, also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// What an entry is, and to whom it belongs.
#[derive(Clone, Debug)]
pub struct Info {
    /// What it is.
    pub kind: FileType,
    /// Permission bits with set-id and sticky, without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Last modification.
    pub modified: Time,
    /// For a device: its number.
    pub device: Device,
    /// Filesystem and inode: equal for two names of one file.
    pub inode: (u64, u64),
    /// How many names it has.
    pub links: u64,
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory by a path of ours, which is trusted.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = named(rustix::fs::open(path, DIRECTORY, Mode::empty()), || format!("open({path:?}, O_DIRECTORY)"))?;
        Ok(Self { fd })
    }

    /// The root directory of a mount, attached or not.
    pub fn from_mount(mount: OwnedFd) -> Result<Self> {
        // The handle of a mount is an O_PATH one, which can be walked from but not listed.
        let fd = named(rustix::fs::openat(&mount, ".", DIRECTORY, Mode::empty()), || {
            format!("openat({}, \".\", O_DIRECTORY)", mount.as_raw_fd())
        })?;
        Ok(Self { fd })
    }

    /// Another handle to the same directory.
    pub fn duplicate(&self) -> Result<Self> {
        let fd = named(self.fd.try_clone(), || format!("fcntl({}, F_DUPFD_CLOEXEC)", self.raw()))?;
        Ok(Self { fd })
    }

    /// Opens the directory at `path` below this one. Every component must be a real directory: a symlink
    /// is refused with ELOOP or ENOTDIR, `..` out of this directory with EXDEV.
    pub fn open_beneath(&self, path: &Path) -> Result<Self> {
        match self.open_beneath_at_once(path) {
            Err(error) if error.errno() == Some(Errno::NOSYS.raw_os_error()) => self.open_beneath_by_steps(path),
            other => other,
        }
    }

    #[cfg(target_os = "linux")]
    fn open_beneath_at_once(&self, path: &Path) -> Result<Self> {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = named(rustix::fs::openat2(&self.fd, path, DIRECTORY, Mode::empty(), resolve), || {
            format!("openat2({}, {path:?}, O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)", self.raw())
        })?;
        Ok(Self { fd })
    }

    #[cfg(not(target_os = "linux"))]
    fn open_beneath_at_once(&self, path: &Path) -> Result<Self> {
        named(Err(Errno::NOSYS), || format!("openat2({}, {path:?})", self.raw()))
    }

    fn open_beneath_by_steps(&self, path: &Path) -> Result<Self> {
        use std::path::Component;
        let mut at = self.duplicate()?;
        for component in path.components() {
            match component {
                Component::Normal(name) => at = at.open_dir(name)?,
                Component::CurDir => {}
                _ => return named(Err(Errno::XDEV), || format!("openat({}, {path:?}, beneath)", self.raw())),
            }
        }
        Ok(at)
    }

    /// Opens the directory `name` in this one.
    pub fn open_dir(&self, name: &OsStr) -> Result<Self> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let fd = self
            .at(name, "openat", "O_DIRECTORY | O_NOFOLLOW", |fd| rustix::fs::openat(fd, name, flags, Mode::empty()))?;
        Ok(Self { fd })
    }

    /// Opens the regular file `name` for reading. A fifo or device of that name neither blocks nor acts.
    pub fn open_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.at(name, "openat", "O_RDONLY | O_NOFOLLOW", |fd| rustix::fs::openat(fd, name, flags, Mode::empty()))
            .map(File::from)
    }

    /// Makes the regular file `name`, which must not exist yet, and opens it for writing. The umask applies.
    pub fn make_file(&self, name: &OsStr, mode: u32) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(name, "openat", "O_WRONLY | O_CREAT | O_EXCL", |fd| {
            rustix::fs::openat(fd, name, flags, Mode::from_raw_mode(mode as _))
        })
        .map(File::from)
    }

    /// Makes the directory `name`. The umask applies.
    pub fn make_dir(&self, name: &OsStr, mode: u32) -> Result<()> {
        self.at(name, "mkdirat", "", |fd| rustix::fs::mkdirat(fd, name, Mode::from_raw_mode(mode as _)))
    }

    /// Makes the symlink `name`, whose text is `target`.
    pub fn make_symlink(&self, name: &OsStr, target: &OsStr) -> Result<()> {
        self.at(name, "symlinkat", "", |fd| rustix::fs::symlinkat(target, fd, name))
    }

    /// Makes the special file `name`. The umask applies.
    pub fn make_node(&self, name: &OsStr, node: Node, mode: u32) -> Result<()> {
        let (kind, device) = match node {
            Node::Char(device) => (FileType::CharacterDevice, device),
            Node::Block(device) => (FileType::BlockDevice, device),
            Node::Fifo => (FileType::Fifo, Device { major: 0, minor: 0 }),
            Node::Socket => (FileType::Socket, Device { major: 0, minor: 0 }),
        };
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::from_raw_mode(mode as _);
        self.at(name, "mknodat", "", |fd| rustix::fs::mknodat(fd, name, kind, mode, number))
    }

    /// Gives the file `from_name` of `from` the further name `name` here. A symlink is linked itself.
    pub fn link(&self, name: &OsStr, from: &Self, from_name: &OsStr) -> Result<()> {
        named(rustix::fs::linkat(&from.fd, from_name, &self.fd, name, AtFlags::empty()), || {
            format!("linkat({}, {from_name:?}, {}, {name:?})", from.raw(), self.raw())
        })
    }

    /// Removes the file `name`, whatever it is but a directory.
    pub fn remove_file(&self, name: &OsStr) -> Result<()> {
        self.at(name, "unlinkat", "", |fd| rustix::fs::unlinkat(fd, name, AtFlags::empty()))
    }

    /// Removes `name` and all that is below it, following nothing. One that is already gone is fine.
    ///
    /// Iterative, with one open handle a level: a tree that somebody made very deep cannot exhaust the stack.
    pub fn remove_tree(&self, name: &OsStr) -> Result<()> {
        match self.remove_file(name) {
            Err(error) if error.is(Errno::NOENT) => return Ok(()),
            Err(error) if error.is(Errno::ISDIR) || error.is(Errno::PERM) => {}
            other => return other,
        }
        let mut open = vec![(self.open_to_empty(name)?, name.to_owned())];
        while let Some((dir, _)) = open.last() {
            match dir.remove_files_until_dir()? {
                Some(below) => {
                    let child = dir.open_to_empty(&below)?;
                    open.push((child, below));
                }
                None => {
                    let (_, done) = open.pop().expect("the loop holds a last element");
                    let parent = open.last().map_or(self, |(dir, _)| dir);
                    parent.at(&done, "unlinkat", "AT_REMOVEDIR", |fd| {
                        rustix::fs::unlinkat(fd, &*done, AtFlags::REMOVEDIR)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Opens a directory of ours to empty it, also one whose mode forbids that to its owner.
    fn open_to_empty(&self, name: &OsStr) -> Result<Self> {
        match self.open_dir(name) {
            Err(error) if error.is(Errno::ACCESS) => {
                self.set_mode(name, 0o700)?;
                self.open_dir(name)
            }
            opened => opened,
        }
    }

    fn remove_files_until_dir(&self) -> Result<Option<OsString>> {
        if self.info_of_self()?.mode & 0o300 != 0o300 {
            self.set_own_mode(0o700)?;
        }
        for (name, _) in self.entries()? {
            match self.remove_file(&name) {
                Ok(()) => {}
                // Linux says EISDIR, POSIX and macOS say EPERM.
                Err(error) if error.is(Errno::ISDIR) || error.is(Errno::PERM) => return Ok(Some(name)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What `name` is; `None` when there is no such entry.
    pub fn info(&self, name: &OsStr) -> Result<Option<Info>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Info::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => named(Err(errno), || format!("fstatat({}, {name:?}, AT_SYMLINK_NOFOLLOW)", self.raw())),
        }
    }

    /// What this directory is.
    pub fn info_of_self(&self) -> Result<Info> {
        named(rustix::fs::fstat(&self.fd), || format!("fstat({})", self.raw())).map(|stat| Info::of(&stat))
    }

    /// The text of the symlink `name`.
    pub fn read_link(&self, name: &OsStr) -> Result<OsString> {
        let text = self.at(name, "readlinkat", "", |fd| rustix::fs::readlinkat(fd, name, Vec::new()))?;
        Ok(OsString::from_vec(text.into_bytes()))
    }

    /// The names in this directory, but `.` and `..`, in the kernel's order.
    pub fn entries(&self) -> Result<Vec<(OsString, FileType)>> {
        let read = || -> rustix::io::Result<_> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.fd)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
                }
            }
            Ok(names)
        };
        named(read(), || format!("getdents64({})", self.raw()))
    }

    /// Sets the owner of `name` itself.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
        self.at(name, "fchownat", "AT_SYMLINK_NOFOLLOW", |fd| {
            rustix::fs::chownat(fd, name, owner(uid), group(gid), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Sets the mode of `name`, which the caller has just made and knows not to be a symlink: Linux before
    /// 6.6 has no fchmodat that does not follow one.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<()> {
        self.at(name, "fchmodat", "", |fd| {
            rustix::fs::chmodat(fd, name, Mode::from_raw_mode(mode as _), AtFlags::empty())
        })
    }

    /// Sets the time of `name` itself.
    pub fn set_time(&self, name: &OsStr, time: Time) -> Result<()> {
        self.at(name, "utimensat", "AT_SYMLINK_NOFOLLOW", |fd| {
            rustix::fs::utimensat(fd, name, &time.timestamps(), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Sets this directory's owner.
    pub fn set_own_owner(&self, uid: u32, gid: u32) -> Result<()> {
        set_file_owner(&self.fd, uid, gid)
    }

    /// Sets this directory's mode.
    pub fn set_own_mode(&self, mode: u32) -> Result<()> {
        set_file_mode(&self.fd, mode)
    }

    /// Sets this directory's time.
    pub fn set_own_time(&self, time: Time) -> Result<()> {
        set_file_time(&self.fd, time)
    }

    /// A path that leads to `name` in this directory for the calls that know no handles. It works in
    /// this process only, and where /proc is mounted.
    pub fn proc_path(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/self/fd").join(self.raw().to_string()).join(name)
    }

    /// Sets an extended attribute of `name` itself, also of a symlink (setxattrat(2) is Linux 6.13).
    pub fn set_xattr(&self, name: &OsStr, key: &CStr, value: &[u8]) -> Result<()> {
        self.at(name, "lsetxattr", key.to_str().unwrap_or("…"), |_| {
            rustix::fs::lsetxattr(self.proc_path(name), key, value, XattrFlags::empty())
        })
    }

    /// The extended attributes of `name` itself.
    pub fn xattrs(&self, name: &OsStr) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let path = self.proc_path(name);
        read_xattrs(|buffer| rustix::fs::llistxattr(&path, buffer), |key, b| rustix::fs::lgetxattr(&path, key, b))
            .or_else(|errno| named(Err(errno), || format!("llistxattr({path:?})")))
    }

    /// The extended attributes of this directory.
    pub fn own_xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        read_xattrs(
            |buffer| rustix::fs::flistxattr(&self.fd, buffer),
            |key, buffer| rustix::fs::fgetxattr(&self.fd, key, buffer),
        )
        .or_else(|errno| named(Err(errno), || format!("flistxattr({})", self.raw())))
    }

    /// One extended attribute of this directory, if set and at most as long as `buffer`.
    pub fn own_xattr<'b>(&self, key: &CStr, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        match rustix::fs::fgetxattr(&self.fd, key, &mut *buffer) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(errno) => named(Err(errno), || format!("fgetxattr({}, {key:?})", self.raw())),
        }
    }

    /// Sets an extended attribute of this directory.
    pub fn set_own_xattr(&self, key: &CStr, value: &[u8]) -> Result<()> {
        set_file_xattr(&self.fd, key, value)
    }

    /// Removes the ACL that new entries would inherit.
    pub fn forget_default_acl(&self) -> Result<()> {
        remove_file_xattr(&self.fd, c"system.posix_acl_default")
    }

    /// Flushes the whole filesystem that this directory is on to its disk.
    #[cfg(target_os = "linux")]
    pub fn sync_filesystem(&self) -> Result<()> {
        named(rustix::fs::syncfs(&self.fd), || format!("syncfs({})", self.raw()))
    }

    /// Flushes everything to disk.
    #[cfg(not(target_os = "linux"))]
    pub fn sync_filesystem(&self) -> Result<()> {
        self.sync()
    }

    /// Flushes this directory's entries to disk.
    pub fn sync(&self) -> Result<()> {
        named(rustix::fs::fsync(&self.fd), || format!("fsync({})", self.raw()))
    }

    fn at<T>(
        &self,
        name: &OsStr,
        call: &str,
        flags: &str,
        run: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T> {
        // A name with a slash would be a path, which these calls would resolve through symlinks.
        let result = match name.as_bytes() {
            b"" | b"." | b".." => Err(Errno::INVAL),
            bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
            _ => run(self.fd.as_fd()),
        };
        let comma = if flags.is_empty() { "" } else { ", " };
        named(result, || format!("{call}({}, {name:?}{comma}{flags})", self.raw()))
    }

    fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Info {
    #[expect(clippy::unnecessary_cast, reason = "the fields' types differ between platforms")]
    fn of(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            modified: Time { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            device: Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) },
            inode: (stat.st_dev as u64, stat.st_ino as u64),
            links: stat.st_nlink as u64,
        }
    }
}

impl Time {
    fn timestamps(self) -> Timestamps {
        let time = Timespec { tv_sec: self.seconds, tv_nsec: self.nanos.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

impl Error {
    fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno.raw_os_error())
    }
}

/// What an open file is, also one opened as a path only.
pub fn file_info(file: impl AsFd) -> Result<Info> {
    let fd = file.as_fd();
    named(rustix::fs::fstat(fd), || format!("fstat({})", fd.as_raw_fd())).map(|stat| Info::of(&stat))
}

/// Sets the owner of an open file.
pub fn set_file_owner(file: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    let fd = file.as_fd();
    named(rustix::fs::fchown(fd, owner(uid), group(gid)), || format!("fchown({}, {uid}, {gid})", fd.as_raw_fd()))
}

/// Sets the mode of an open file.
pub fn set_file_mode(file: impl AsFd, mode: u32) -> Result<()> {
    let fd = file.as_fd();
    named(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode as _)), || format!("fchmod({}, {mode:#o})", fd.as_raw_fd()))
}

/// Sets the time of an open file.
pub fn set_file_time(file: impl AsFd, time: Time) -> Result<()> {
    let fd = file.as_fd();
    named(rustix::fs::futimens(fd, &time.timestamps()), || format!("futimens({}, {})", fd.as_raw_fd(), time.seconds))
}

/// Sets an extended attribute of an open file.
pub fn set_file_xattr(file: impl AsFd, key: &CStr, value: &[u8]) -> Result<()> {
    let fd = file.as_fd();
    named(rustix::fs::fsetxattr(fd, key, value, XattrFlags::empty()), || {
        format!("fsetxattr({}, {key:?}, {} bytes)", fd.as_raw_fd(), value.len())
    })
}

/// Removes an extended attribute of an open file; one that is not set, or cannot be, is fine.
pub fn remove_file_xattr(file: impl AsFd, key: &CStr) -> Result<()> {
    let fd = file.as_fd();
    match rustix::fs::fremovexattr(fd, key) {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        other => named(other, || format!("fremovexattr({}, {key:?})", fd.as_raw_fd())),
    }
}

fn owner(uid: u32) -> Option<Uid> {
    Some(Uid::from_raw(uid))
}

fn group(gid: u32) -> Option<Gid> {
    Some(Gid::from_raw(gid))
}

/// XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h: no list and no value is longer.
const XATTR_MAX: usize = 65536;

/// Enough for nearly all of them.
const XATTR_USUAL: usize = 1024;

fn read_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; XATTR_USUAL];
    let mut value = vec![0; XATTR_USUAL];
    let length = match list(&mut names) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            names.resize(XATTR_MAX, 0);
            list(&mut names)?
        }
        length => length?,
    };
    let mut found = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(key) = CStr::from_bytes_with_nul(name) else { continue };
        let length = match get(key, &mut value) {
            Err(Errno::RANGE) => {
                value.resize(XATTR_MAX, 0);
                get(key, &mut value)?
            }
            Ok(length) => length,
            // Listed, but for another's eyes, or gone since.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => continue,
            Err(errno) => return Err(errno),
        };
        found.push((key.to_bytes().to_vec(), value[..length].to_vec()));
    }
    Ok(found)
}

/// Copies the bytes of `from` to the empty file `to`, leaving holes holes. Filesystems that can share
/// blocks do (copy_file_range(2), which [`std::io::copy`] uses).
pub fn copy_data(from: &File, to: &File) -> Result<()> {
    use rustix::fs::SeekFrom;
    let size = named(from.metadata(), || format!("fstat({})", from.as_raw_fd()))?.len();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data until the end.
            Err(Errno::NXIO) => break,
            // The filesystem keeps no account of holes.
            Err(Errno::INVAL) => at,
            Err(errno) => return named(Err(errno), || format!("lseek({}, {at}, SEEK_DATA)", from.as_raw_fd())),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size);
        copy_range(from, to, start, end)?;
        at = end;
    }
    named(rustix::fs::ftruncate(to, size), || format!("ftruncate({}, {size})", to.as_raw_fd()))
}

fn copy_range(mut from: &File, mut to: &File, start: u64, end: u64) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let copied = (|| {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut from.take(end - start), &mut to)
    })();
    named(copied, || format!("copy_file_range({}, {}, {start}..{end})", from.as_raw_fd(), to.as_raw_fd())).map(drop)
}
