//! The sockets by which a caller is handed a terminal or a process.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::error::Error;
use super::options::Given;
use crate::engine::linux::console::{self, Role};
use crate::sys::socket;

/// A connection over which one file is to go.
#[derive(Debug)]
pub struct Handover(UnixStream);

impl Handover {
    /// Connects to the socket that the option names, if it was given: before there is anything that would have to
    /// be undone.
    pub fn to(given: &Given, flag: &str) -> Result<Option<Self>, Error> {
        let connect = |path: PathBuf| socket::connect(&path).map_err(Error::sys("reach the caller's socket"));
        Ok(given.path(flag).map(connect).transpose()?.map(Self))
    }

    /// Hands the master side of a terminal over.
    pub fn send_master(self, master: BorrowedFd<'_>) -> Result<(), Error> {
        console::send_master(&self.0, master).map_err(Error::sys("hand the terminal over"))
    }

    /// Hands a handle to a process over.
    pub fn send_pidfd(self, pidfd: BorrowedFd<'_>, role: Role) -> Result<(), Error> {
        console::send_pidfd(&self.0, pidfd, role).map_err(Error::sys("hand the process over"))
    }
}

/// Refuses what cannot be: a terminal that nobody would have, and a socket for a terminal that is not made.
pub fn check_console(terminal: bool, detach: bool, given: &Given) -> Result<(), Error> {
    let socket = given.path("console-socket").is_some();
    match (terminal, detach) {
        (true, true) if !socket => {
            Err(Error::refuse("terminal", "a detached process needs a --console-socket to hand its terminal over"))
        }
        (false, _) if socket => Err(Error::refuse("--console-socket", "the process has no terminal to hand over")),
        (_, false) if socket => Err(Error::refuse("--console-socket", "it is only for what detaches")),
        _ => Ok(()),
    }
}
