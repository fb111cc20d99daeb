//! A user namespace that nobody lives in, for the sake of its maps: what a mount shows its owners through
//! (mount_setattr(2), MOUNT_ATTR_IDMAP).

#![expect(unsafe_code, reason = "clone3(2) has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::pipe::{PipeFlags, pipe_with};

use super::{Result, named, process};

pub use super::user::Range;

/// Makes a user namespace with these maps of users and groups. It lasts as long as the handle.
///
/// A child is born into it, which waits while its maps are written and is gone when this returns.
pub fn user_namespace(users: &[Range], groups: &[Range]) -> Result<OwnedFd> {
    user_namespace_by(|pid| super::user::write_maps(&pid.to_string(), users, groups))
}

/// The same, with the maps that `map` writes for the process that it is told.
pub(super) fn user_namespace_by(map: impl FnOnce(i32) -> Result<()>) -> Result<OwnedFd> {
    let (wait, go) = named(pipe_with(PipeFlags::CLOEXEC), || "pipe2(O_CLOEXEC)".into())?;
    let (pid, pidfd) = born_waiting(&wait, &go)?;
    let made = map(pid).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        named(File::open(&path), || format!("open({path:?})")).map(OwnedFd::from)
    });
    drop(go);
    process::reap(pidfd.as_fd())?;
    made
}

/// A child in a user namespace of its own, which ends when `go` is closed, by whatever end of ours.
fn born_waiting(wait: &OwnedFd, go: &OwnedFd) -> Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_NEWUSER | libc::CLONE_PIDFD) as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    let (wait, go) = (wait.as_raw_fd(), go.as_raw_fd());
    // SAFETY: `args` is a valid clone_args of the size given and `pidfd` outlives the call. Without CLONE_VM and with a
    // null stack this is a fork. The child makes three system calls and nothing else, so that no lock which another
    // thread of the parent held can stop it, and no frame of the parent's is returned to.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>());
        if pid == 0 {
            let mut byte = 0u8;
            libc::close(go);
            libc::read(wait, (&raw mut byte).cast(), 1);
            libc::_exit(0)
        }
        pid
    };
    if pid < 0 {
        return named(Err(io::Error::last_os_error()), || "clone3(CLONE_NEWUSER)".into());
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
    Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_outlives_the_child_that_was_born_for_it() {
        let made = user_namespace(&[(0, 100_000, 10)], &[(0, 200_000, 10)]).unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", made.as_raw_fd())).unwrap();
        assert!(link.to_string_lossy().starts_with("user:["), "{link:?}");
        assert_ne!(link, std::fs::read_link("/proc/self/ns/user").unwrap());
    }

    #[test]
    fn a_map_that_the_kernel_refuses_is_an_error() {
        let error = user_namespace(&[(0, 1, 10), (5, 100, 10)], &[(0, 1, 1)]).unwrap_err();
        assert!(error.call.contains("uid_map"), "{error}");
    }
}
