//! Asking a supervisor for something by its socket: to execute a further program, to show what the Wasm engine tells.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wire::{self, Kind, Parsed};
use super::{ATTACH, Error, Execution, Launched, launch};
use crate::engine::wasm::view::Numbers;
use crate::sys;

/// How long a supervisor may take to answer a question. It has nothing else to do than to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the supervisor whose socket is in `run` execute a program, and waits until that runs or cannot. What comes after
/// is relayed as for a container; where nobody does, it goes on by itself.
pub fn execute(run: &Path, execution: &Execution) -> Result<Launched, Error> {
    let json = serde_json::to_vec(execution).expect("plain data");
    let mut frames = Vec::new();
    json.chunks(wire::MAX_PAYLOAD).for_each(|part| wire::put(&mut frames, Kind::Execute, part));
    wire::put(&mut frames, Kind::ExecuteEnd, &[]);
    launch::await_start(send(run, &frames)?)
}

/// The numbers that the Wasm engine of the container shows whose supervisor's socket is in `run`; none where there is no
/// such engine.
pub fn look(run: &Path) -> Result<Option<Numbers>, Error> {
    let mut frame = Vec::new();
    wire::put(&mut frame, Kind::Look, &[]);
    let socket = send(run, &frame)?;
    let failed = |source| Error::Sys { what: "hear the container's supervisor", source };
    sys::named(socket.set_read_timeout(Some(PATIENCE)), || "setsockopt(SO_RCVTIMEO)".into()).map_err(failed)?;
    let mut received = Vec::new();
    loop {
        match wire::parse(&received) {
            Parsed::Frame(Kind::Page, page, _) => return Ok(Numbers::parse(page)),
            Parsed::Frame(..) | Parsed::Invalid => return Err(Error::Supervisor { what: "speaks out of turn" }),
            Parsed::Incomplete => {}
        }
        let mut chunk = [0; 8192];
        match sys::named((&socket).read(&mut chunk), || "read()".into()).map_err(failed)? {
            0 => return Err(Error::Supervisor { what: "has ended" }),
            count => received.extend_from_slice(&chunk[..count]),
        }
    }
}

fn send(run: &Path, frames: &[u8]) -> Result<UnixStream, Error> {
    let sent = sys::socket::connect(&run.join(ATTACH)).and_then(|mut socket| {
        sys::named(socket.write_all(frames), || format!("write({} bytes)", frames.len()))?;
        Ok(socket)
    });
    sent.map_err(|source| Error::Sys { what: "reach the container's supervisor", source })
}
