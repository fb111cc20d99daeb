//! HTTP servers: components that export a `wasi:http` handler, behind a listening socket.

use super::program::Loaded;
use super::view::Board;
use super::{Error, Invocation, Stdio};

/// Serves `program` until it is told to end; the exit code. What it does is written down on the board.
pub(super) fn serve(_program: &Loaded, _invocation: &Invocation, _stdio: Stdio, _board: &Board) -> Result<u8, Error> {
    Err(Error::NotCommand { what: "it is an HTTP server".into() })
}
