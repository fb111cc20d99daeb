//! Landlock: giving up, for this process and for ever, what of the filesystem and the network it does not need. No
//! privilege is needed, only `no_new_privs`.
//!
//! | ABI | kernel | what it adds |
//! |---|---|---|
//! | 1 | 5.13 | rights on files and directories |
//! | 2 | 5.19 | moving a file to another directory, which ABI 1 always refuses |
//! | 3 | 6.2 | truncate |
//! | 4 | 6.7 | TCP: bind and connect, by port |
//! | 5 | 6.10 | ioctl of devices |
//! | 6 | 6.12 | abstract sockets and signals of others |
//!
//! Why not the crate: it is larger than what is used here, and decides by itself what to do without where a kernel
//! has less.

#![expect(unsafe_code, reason = "the landlock calls have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Result, named};

/// `LANDLOCK_ACCESS_FS_*` of linux/landlock.h.
pub mod access {
    /// Executing a file.
    pub const EXECUTE: u64 = 1;
    /// Opening a file to write it.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Opening a file to read it.
    pub const READ_FILE: u64 = 1 << 2;
    /// Listing a directory.
    pub const READ_DIR: u64 = 1 << 3;
    /// Making character and block devices, sockets and FIFOs.
    pub const MAKE_SPECIAL: u64 = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11;
    /// What the first ABI knows, [`EXECUTE`] to making symbolic links.
    pub const FIRST: u64 = (1 << 13) - 1;
    /// Moving and linking a file to another directory (ABI 2).
    pub const REFER: u64 = 1 << 13;
    /// Truncating (ABI 3).
    pub const TRUNCATE: u64 = 1 << 14;
    /// ioctl(2) of a device that is opened from now on (ABI 5).
    pub const IOCTL_DEV: u64 = 1 << 15;
}

/// `LANDLOCK_ACCESS_NET_BIND_TCP`.
pub const BIND_TCP: u64 = 1;
/// `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
pub const CONNECT_TCP: u64 = 2;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `_SIGNAL`.
const SCOPES: u64 = 3;

const RULE_PATH_BENEATH: libc::c_int = 1;
const RULE_NET_PORT: libc::c_int = 2;
const CREATE_RULESET_VERSION: libc::c_uint = 1;

/// `struct landlock_ruleset_attr`, as far as ABI 6 has it. An older kernel is given the part that it knows.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPort {
    allowed_access: u64,
    port: u64,
}

/// The ABI of this kernel's Landlock; 0 where there is none, or it is switched off.
pub fn abi() -> u32 {
    // SAFETY: with this flag the kernel reads no structure: the pointer is null and the size 0.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Everything that is given up, but for what is allowed before it is put into force.
#[derive(Debug)]
pub struct Ruleset {
    fd: OwnedFd,
    files: u64,
    network: u64,
}

impl Ruleset {
    /// Gives up all rights on files that a kernel of this ABI knows, the abstract sockets and signals of others, and
    /// those of `network` ([`BIND_TCP`], [`CONNECT_TCP`]).
    pub fn new(abi: u32, network: u64) -> Result<Self> {
        let files = files_of(abi);
        let network = if abi >= 4 { network } else { 0 };
        let attr = RulesetAttr {
            handled_access_fs: files,
            handled_access_net: network,
            scoped: if abi >= 6 { SCOPES } else { 0 },
        };
        let size = match abi {
            0..=3 => 8_usize,
            4..=5 => 16,
            _ => size_of::<RulesetAttr>(),
        };
        // SAFETY: `attr` outlives the call, which reads the first `size` bytes of it and writes nothing.
        let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0) };
        checked(fd, || format!("landlock_create_ruleset({files:#x}, {network:#x})"))?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd as i32) }, files, network })
    }

    /// Allows `rights` ([`access`]), as far as this kernel knows them, on everything below `directory`.
    pub fn allow_beneath(&self, directory: BorrowedFd<'_>, rights: u64) -> Result<()> {
        let rule = PathBeneath { allowed_access: rights & self.files, parent_fd: directory.as_raw_fd() };
        self.add(RULE_PATH_BENEATH, &raw const rule as *const libc::c_void, || {
            format!("landlock_add_rule(PATH_BENEATH, {}, {rights:#x})", directory.as_raw_fd())
        })
    }

    /// Allows the TCP port `port`, of any address, to be listened at ([`BIND_TCP`]) or connected to ([`CONNECT_TCP`]).
    pub fn allow_port(&self, right: u64, port: u16) -> Result<()> {
        if self.network & right == 0 {
            return Ok(());
        }
        let rule = NetPort { allowed_access: right, port: port.into() };
        self.add(RULE_NET_PORT, &raw const rule as *const libc::c_void, || {
            format!("landlock_add_rule(NET_PORT, {port}, {right})")
        })
    }

    fn add(&self, typ: libc::c_int, rule: *const libc::c_void, call: impl FnOnce() -> String) -> Result<()> {
        // SAFETY: `rule` points to a structure of the type that `typ` stands for, which outlives the call.
        let done = unsafe { libc::syscall(libc::SYS_landlock_add_rule, self.fd.as_raw_fd(), typ, rule, 0) };
        checked(done, call)
    }

    /// Puts it into force for this thread and what it will start. `no_new_privs` is set already.
    pub fn enforce(self) -> Result<()> {
        // SAFETY: the call takes no pointers.
        let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.fd.as_fd().as_raw_fd(), 0) };
        checked(done, || format!("landlock_restrict_self({})", self.fd.as_raw_fd()))
    }
}

/// The rights on files that a kernel of this ABI knows.
fn files_of(abi: u32) -> u64 {
    let later = [(2, access::REFER), (3, access::TRUNCATE), (5, access::IOCTL_DEV)];
    later.iter().filter(|(since, _)| abi >= *since).fold(access::FIRST, |all, (_, right)| all | right)
}

fn checked(done: libc::c_long, call: impl FnOnce() -> String) -> Result<()> {
    if done < 0 { named(Err(io::Error::last_os_error()), call) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::sys::{ending, seccomp};

    #[test]
    fn what_is_not_allowed_is_refused_and_what_is_goes_on() {
        if abi() < 2 {
            return;
        }
        let allowed = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("secret"), "x").unwrap();
        assert!(ending::alone(|| {
            seccomp::set_no_new_privs().unwrap();
            let rules = Ruleset::new(abi(), BIND_TCP | CONNECT_TCP).unwrap();
            let directory = File::open(allowed.path()).unwrap();
            let rights = access::READ_FILE | access::READ_DIR | access::WRITE_FILE | access::FIRST;
            rules.allow_beneath(directory.as_fd(), rights & !access::MAKE_SPECIAL).unwrap();
            rules.enforce().unwrap();
            fs::write(allowed.path().join("a"), "b").unwrap();
            let refused = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
            let read = fs::read(other.path().join("secret")).is_err_and(refused);
            let above = fs::read(allowed.path().join("../../etc/passwd")).is_err();
            let connect = abi() < 4 || std::net::TcpStream::connect("127.0.0.1:9").is_err_and(refused);
            read && above && connect
        }));
    }

    #[test]
    fn a_kernel_is_asked_for_what_it_knows() {
        assert_eq!(files_of(1), 0x1fff);
        assert_eq!(files_of(3), 0x7fff);
        assert_eq!(files_of(9), 0xffff);
    }
}
