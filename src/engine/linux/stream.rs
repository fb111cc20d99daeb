//! The program's standard streams: files, or a terminal of the container's own.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::handshake::{self, FromInit};
use super::stage::{Done, step};
use super::{Stdio, mounts};
use crate::sys::{self, named};

/// Puts the program's streams at 0, 1 and 2. The terminal is made in the devpts below `root`, shown as
/// `/dev/console` there if `console`, and its master side goes to who is at the other end of `socket`.
pub(super) fn connect(stdio: Stdio, root: BorrowedFd<'_>, console: bool, socket: &OwnedFd) -> Done<Option<OwnedFd>> {
    let (files, terminal) = match stdio {
        Stdio::Inherit => return Ok(None),
        Stdio::Files(files) => (files, None),
        Stdio::Terminal(size) => {
            let what = "make its terminal";
            let pts = step(mounts::target(root, Path::new("/dev/pts"), true), what)?;
            let master = step(sys::pty::open_master(pts.as_fd()), what)?;
            let peer = step(sys::pty::open_peer(master.as_fd()), what)?;
            if let Some(size) = size {
                step(sys::pty::set_size(&peer, size), what)?;
            }
            step(sys::process::set_controlling_terminal(peer.as_fd()), what)?;
            if console {
                step(show_console(root, peer.as_fd()), what)?;
            }
            handshake::send(socket, &FromInit::Console, &[master.as_fd()])?;
            let copy = || step(named(peer.try_clone(), || "dup()".into()), what);
            ([copy()?, copy()?, copy()?], Some(peer))
        }
    };
    let [stdin, stdout, stderr] = files;
    let put = rustix::stdio::dup2_stdin(&stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(&stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(&stderr));
    step(named(put, || "dup2()".into()), "connect the streams")?;
    Ok(terminal)
}

/// `/dev/console` is the terminal itself, by handle, and a link of the image's does not put it over something else, like
/// a file of procfs (CVE-2025-52565).
fn show_console(root: BorrowedFd<'_>, peer: BorrowedFd<'_>) -> sys::Result<()> {
    let tree = mounts::clone_tree(&PathBuf::from(format!("/proc/self/fd/{}", peer.as_raw_fd())), false);
    // The terminal is of the container's own devpts, which the host's /proc/self/fd can reach all the same.
    let place = mounts::target_without_links(root, Path::new("/dev/console"), false)?;
    mounts::put(tree?.as_fd(), place.as_fd())
}
