//! procfs as a handle that is known to be the kernel's.
//!
//! What is written to `/proc` decides over a container's confinement, so nobody must be able to put another file in
//! its place: neither an image with a `/proc` of its own (CVE-2019-16884), nor a mount over a part of it
//! (CVE-2025-52881). The handle is the root of a procfs, by its type and inode, and below it no symlink is
//! followed and no mount is crossed.
//!
//! What a file is about depends on who opens it: below `sys`, the namespaces are those of the opening thread, and
//! `thread-self` is that thread, as it is called in the pid namespace of the procfs.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use super::{Result, named};

/// linux/magic.h, PROC_SUPER_MAGIC; the constant of `libc` differs in type between C libraries.
const MAGIC: u64 = 0x9fa0;

/// PROC_ROOT_INO of fs/proc/root.c.
const ROOT_INODE: u64 = 1;

/// The longest answer of a file that is read here. They are labels and numbers; none has been seen beyond 300 bytes.
const MAX_READ: usize = 4096;

/// A procfs.
#[derive(Debug)]
pub struct Procfs {
    root: OwnedFd,
}

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The calling thread's.
    Own(&'a str),
    /// A process', by its pid in the pid namespace of the procfs.
    Of(i32, &'a str),
    /// The system's, by its path.
    System(&'a Path),
}

impl Procfs {
    /// The one at `/proc` of the mount namespace that this process is in. It costs one look-up; it is for before
    /// the root directory is changed, and it stays good afterwards.
    pub fn ours() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, "/proc", flags, Mode::empty());
        Self::verified(named(root, || "openat(\"/proc\", O_PATH)".into())?)
    }

    /// One that nobody else sees, of the caller's pid namespace, with nothing mounted over it; `processes` leaves
    /// out all but the processes, among that `sys` (kernel 5.8). It costs a mount.
    pub fn private(processes: bool) -> Result<Self> {
        let context = named(fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC), || "fsopen(\"proc\")".into())?;
        if processes {
            let set = fsconfig_set_string(context.as_fd(), "subset", "pid");
            named(set, || "fsconfig(proc: subset=pid)".into())?;
        }
        named(fsconfig_create(context.as_fd()), || "fsconfig(proc, FSCONFIG_CMD_CREATE)".into())?;
        let attributes =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        Self::verified(named(mount, || "fsmount(proc)".into())?)
    }

    fn verified(root: OwnedFd) -> Result<Self> {
        let filesystem = named(rustix::fs::fstatfs(&root), || "fstatfs(\"/proc\")".into())?;
        let stat = named(rustix::fs::fstat(&root), || "fstat(\"/proc\")".into())?;
        if filesystem.f_type as u64 == MAGIC && stat.st_ino == ROOT_INODE {
            return Ok(Self { root });
        }
        let source = std::io::Error::other("this is not the root of a procfs");
        Err(super::Error { call: "fstatfs(\"/proc\")".into(), source })
    }

    /// Writes `bytes` to a file, in one write: what the kernel takes only in part is an error.
    pub fn write(&self, whose: Whose<'_>, bytes: &[u8]) -> Result<()> {
        let path = self.path(whose)?;
        let line = || format!("write(\"/proc/{}\", {:?})", path.display(), String::from_utf8_lossy(bytes));
        let file = self.open(&path, OFlags::WRONLY)?;
        match rustix::io::write(&file, bytes) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => named(Err(Errno::IO), line),
            Err(errno) => named(Err(errno), line),
        }
    }

    /// Reads a file, at most 4 KiB of it.
    pub fn read(&self, whose: Whose<'_>) -> Result<Vec<u8>> {
        let path = self.path(whose)?;
        let file = self.open(&path, OFlags::RDONLY)?;
        let mut bytes = vec![0; MAX_READ];
        let count = named(rustix::io::read(&file, &mut bytes[..]), || format!("read(\"/proc/{}\")", path.display()))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Whether there is such a file.
    pub fn has(&self, whose: Whose<'_>) -> Result<bool> {
        match self.open(&self.path(whose)?, OFlags::PATH) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets how eagerly the kernel ends a process when memory is short, unless it is so already: an ordinary user
    /// may not write a lower value, and not even the same.
    pub fn set_oom_score(&self, process: Option<i32>, score: i32) -> Result<()> {
        const NAME: &str = "oom_score_adj";
        let whose = process.map_or(Whose::Own(NAME), |pid| Whose::Of(pid, NAME));
        let wanted = score.to_string();
        if self.read(whose)?.trim_ascii() == wanted.as_bytes() {
            return Ok(());
        }
        self.write(whose, wanted.as_bytes())
    }

    fn path(&self, whose: Whose<'_>) -> Result<PathBuf> {
        match whose {
            Whose::System(path) => Ok(path.to_owned()),
            Whose::Of(pid, name) => Ok(Path::new(&pid.to_string()).join(name)),
            Whose::Own(name) => {
                let link = rustix::fs::readlinkat(&self.root, "thread-self", Vec::new());
                let link = named(link, || format!("readlinkat({}, \"thread-self\")", self.root.as_raw_fd()))?;
                Ok(Path::new(OsStr::from_bytes(link.as_bytes())).join(name))
            }
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let opened = rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        named(opened, || format!("openat2(\"/proc\", {path:?}, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS)"))
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.root.as_fd()
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "unshare(2) can take descriptors away from other threads")]
mod tests {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    use super::*;

    /// In a thread with namespaces of its own.
    fn apart<T: Send>(flags: UnshareFlags, run: impl FnOnce() -> T + Send) -> T {
        let in_thread = || {
            // SAFETY: the descriptor table stays shared.
            unsafe { unshare_unsafe(flags | UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            run()
        };
        std::thread::scope(|scope| scope.spawn(in_thread).join().unwrap())
    }

    const COMM: Whose<'_> = Whose::Own("comm");

    #[test]
    fn a_thread_writes_its_own_files_through_any_of_them() {
        for proc in [Procfs::ours().unwrap(), Procfs::private(true).unwrap(), Procfs::private(false).unwrap()] {
            apart(UnshareFlags::empty(), || {
                proc.write(COMM, b"written").unwrap();
                assert_eq!(std::fs::read("/proc/thread-self/comm").unwrap(), b"written\n");
                assert_eq!(proc.read(COMM).unwrap(), b"written\n");
            });
        }
    }

    #[test]
    fn a_private_one_for_processes_has_nothing_else() {
        let uptime = Whose::System(Path::new("uptime"));
        assert!(!Procfs::private(true).unwrap().has(uptime).unwrap());
        assert!(Procfs::private(false).unwrap().has(uptime).unwrap());
    }

    #[test]
    fn what_an_image_put_at_proc_is_not_taken_for_it() {
        for cover in ["tmpfs", "/proc/1", "/proc/sys"] {
            let refused = apart(UnshareFlags::empty(), || {
                match cover {
                    "tmpfs" => mount("tmpfs", "/proc", "tmpfs", MountFlags::empty(), None).unwrap(),
                    part => mount_bind(part, "/proc").unwrap(),
                }
                Procfs::ours().unwrap_err()
            });
            assert_eq!(refused.source.to_string(), "this is not the root of a procfs", "{cover}");
        }
    }

    #[test]
    fn what_is_mounted_over_a_part_of_it_is_not_written_to() {
        let decoy = tempfile::NamedTempFile::new().unwrap();
        apart(UnshareFlags::NEWUTS, || {
            mount_bind(decoy.path(), "/proc/sys/kernel/domainname").unwrap();
            mount_bind(decoy.path(), "/proc/thread-self/comm").unwrap();
            let domain = Whose::System(Path::new("sys/kernel/domainname"));
            for whose in [domain, COMM] {
                let error = Procfs::ours().unwrap().write(whose, b"x").unwrap_err();
                assert_eq!(error.errno(), Some(libc::EXDEV), "{error}");
            }
            Procfs::private(false).unwrap().write(domain, b"written").unwrap();
            assert_eq!(rustix::system::uname().domainname().to_bytes(), b"written");
        });
        assert_eq!(std::fs::read(decoy.path()).unwrap(), b"");
    }

    #[test]
    fn settings_are_those_of_the_writers_namespaces() {
        // Opened outside, as the init stage has it from before it changed its root directory.
        let proc = Procfs::ours().unwrap();
        let settings = ["sys/net/ipv4/ip_unprivileged_port_start", "sys/kernel/msgmni", "sys/kernel/domainname"];
        let settings = settings.map(|path| Whose::System(Path::new(path)));
        let read = || settings.map(|setting| String::from_utf8(proc.read(setting).unwrap()).unwrap());
        let host = read();
        apart(UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS, || {
            settings.iter().for_each(|setting| proc.write(*setting, b"77").unwrap());
            assert_eq!(read(), ["77\n"; 3]);
        });
        assert_eq!(read(), host, "the host's have changed");
    }

    #[test]
    fn paths_lead_neither_out_nor_through_links() {
        let proc = Procfs::ours().unwrap();
        for (path, errno) in
            [("../etc/passwd", libc::EXDEV), ("self/comm", libc::ELOOP), ("thread-self/root/etc", libc::ELOOP)]
        {
            assert_eq!(proc.read(Whose::System(Path::new(path))).unwrap_err().errno(), Some(errno), "{path}");
        }
        let error = proc.read(Whose::Own("root/etc/passwd")).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
    }

    #[test]
    fn the_oom_score_of_a_child_is_set() {
        let mut child = std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        Procfs::ours().unwrap().set_oom_score(Some(pid), 123).unwrap();
        assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "123\n");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
