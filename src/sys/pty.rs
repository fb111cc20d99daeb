//! Pseudo-terminals: the pair for a container, the size, and the raw mode of the user's own terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::{Result, named};

/// Opens the multiplexor `ptmx` of the devpts instance mounted at the directory `devpts`.
pub fn open_master(devpts: BorrowedFd<'_>) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = named(rustix::fs::openat(devpts, "ptmx", flags, Mode::empty()), || "openat(\"ptmx\")".into())?;
    named(rustix::pty::unlockpt(&master), || "ioctl(TIOCSPTLCK)".into())?;
    Ok(master)
}

/// Opens the terminal of `master` without going by a path that a container could have replaced
/// (CVE-2025-52565).
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    use rustix::pty::OpenptFlags;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    named(rustix::pty::ioctl_tiocgptpeer(master, flags), || "ioctl(TIOCGPTPEER)".into())
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// The size of the terminal `fd`.
pub fn size(fd: impl AsFd) -> Result<Size> {
    let size = named(tcgetwinsize(fd), || "ioctl(TIOCGWINSZ)".into())?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of the terminal `fd`.
pub fn set_size(fd: impl AsFd, size: Size) -> Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    named(tcsetwinsize(fd, size), || "ioctl(TIOCSWINSZ)".into())
}

/// The user's terminal in raw mode, put back as it was when this is dropped.
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts the terminal `fd` into raw mode.
    pub fn enter(fd: BorrowedFd<'_>) -> Result<Self> {
        let terminal = named(fd.try_clone_to_owned(), || "dup()".into())?;
        let before = named(tcgetattr(&terminal), || "ioctl(TCGETS)".into())?;
        let mut raw = before.clone();
        raw.make_raw();
        named(tcsetattr(&terminal, OptionalActions::Drain, &raw), || "ioctl(TCSETS, raw)".into())?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nobody is left to tell: if the terminal has gone away there is nothing to restore.
        crate::error::tolerate(tcsetattr(&self.terminal, OptionalActions::Drain, &self.before));
    }
}
