//! `kill`: a signal to a container's first process.

use std::os::fd::AsFd;

use super::options::{Flag, Given, switch};
use super::status::Status;
use super::store::Entry;
use super::{Command, Context, Error, Outcome, cgroup, matching};
use crate::cgroup::Cgroup;
use crate::sys::process::{self, Identity};
use crate::sys::signal;

/// The signal that cannot be refused.
const KILL: i32 = 9;

static FLAGS: [Flag; 2] = [
    switch("all", Some('a'), "send the signal to every process of the container"),
    switch("regex", Some('r'), "kill every container whose id matches the expression given"),
];

/// `kill`.
pub const COMMAND: Command = Command {
    words: "<container-id> [signal]",
    count: (1, 2),
    flags: &FLAGS,
    ..Command::new("kill", "send a signal (default: TERM) to a container's first process", run)
};

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let text = given.words.get(1).map_or_else(|| "TERM".into(), |word| word.to_string_lossy());
    let signal = parse(&text)?;
    let all = given.has("all");
    if given.has("regex") {
        for entry in matching(context, given)? {
            match send(&entry, signal, all) {
                Err(Error::NotRunning) => {}
                sent => sent?,
            }
        }
        return Ok(0);
    }
    match send(&context.entry(given)?, signal, all) {
        Err(Error::NotRunning) if all => Ok(0),
        sent => sent.map(|()| 0),
    }
}

/// A signal by name or number; 0 only asks whether somebody is there.
fn parse(text: &str) -> Result<i32, Error> {
    let number = if text == "0" { Some(0) } else { signal::number(text) };
    number.ok_or_else(|| Error::Signal { text: text.to_owned() })
}

/// Sends a signal to the container's first process, or to all of its processes: those of a container without a
/// pid namespace of its own do not end with the first.
pub fn send(entry: &Entry, signal: i32, all: bool) -> Result<(), Error> {
    let init = entry.record.init().ok_or(Error::NotRunning)?;
    if all || (signal == KILL && !entry.record.own_pids) {
        return send_all(entry, init, signal);
    }
    send_to(init, signal)?;
    if signal == KILL {
        thaw(entry)?;
    }
    Ok(())
}

/// Sends a signal to one process, by a handle: its pid may have passed to another.
fn send_to(process: Identity, signal: i32) -> Result<(), Error> {
    let handle = process.open().map_err(Error::sys("find the process"))?.ok_or(Error::NotRunning)?;
    match process::signal(handle.as_fd(), signal).map_err(Error::sys("signal the process"))? {
        true => Ok(()),
        false => Err(Error::NotRunning),
    }
}

fn send_all(entry: &Entry, init: Identity, signal: i32) -> Result<(), Error> {
    match cgroup::with(entry, |group| send_to_group(group, signal))? {
        Some(()) => Ok(()),
        None => send_to(init, signal),
    }
}

fn send_to_group(group: &Cgroup, signal: i32) -> Result<(), Error> {
    if signal == KILL {
        let empty = group.procs()?.is_empty();
        group.kill()?;
        return if empty { Err(Error::NotRunning) } else { Ok(()) };
    }
    let mut sent = false;
    for process in group.procs()?.into_iter().filter_map(Identity::of) {
        match send_to(process, signal) {
            // It ended meanwhile.
            Err(Error::NotRunning) => {}
            other => {
                other?;
                sent = true;
            }
        }
    }
    if sent { Ok(()) } else { Err(Error::NotRunning) }
}

/// On cgroup v1 a frozen process dies only when it thaws.
fn thaw(entry: &Entry) -> Result<(), Error> {
    if Status::of(entry) != Status::Paused {
        return Ok(());
    }
    cgroup::with(entry, |group| Ok(group.thaw()?)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_what_signal_7_says_and_zero() {
        for (text, expected) in [("KILL", 9), ("sigterm", 15), ("1", 1), ("0", 0), ("RTMIN+1", 35)] {
            assert_eq!(parse(text).unwrap(), expected);
        }
        assert_eq!(parse("SIGNOPE").unwrap_err().to_string(), "unknown signal \"SIGNOPE\"");
    }
}
