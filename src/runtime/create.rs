//! `create`: a container whose program waits for `start`.

use super::options::{Flag, Given, option, switch};
use super::{Command, Context, Error, Outcome, id, launch};

/// What `create`, `run` and `restore` have in common.
pub const BUNDLE: Flag = option("bundle", Some('b'), "DIR", "the bundle's directory (default: the current one)");
/// Another name for the configuration.
pub const CONFIG: Flag = option("config", Some('f'), "FILE", "the configuration (default: config.json in the bundle)");
/// Where the terminal goes.
pub const CONSOLE: Flag =
    option("console-socket", None, "SOCKET", "the unix socket that the terminal's master side is sent to");
/// Where the pidfd goes.
pub const PIDFD: Flag =
    option("pidfd-socket", None, "SOCKET", "the unix socket that a pidfd of the process is sent to");
/// Where the pid goes.
pub const PID_FILE: Flag = option("pid-file", None, "FILE", "write the process' pid to this file");
/// Leaving the old root.
pub const NO_PIVOT: Flag = switch("no-pivot", None, "do not pivot_root(2): for a root filesystem on a ramdisk");
/// The session keyring.
pub const NO_KEYRING: Flag = switch("no-new-keyring", None, "keep the session keyring of the caller");
/// More files.
pub const PRESERVE: Flag =
    option("preserve-fds", None, "N", "pass N descriptors on, besides the standard streams and $LISTEN_FDS");
/// Orphans.
pub const NO_SUBREAPER: Flag = switch("no-subreaper", None, "do not become the parent of processes that lose theirs");

static FLAGS: [Flag; 9] = [BUNDLE, CONFIG, CONSOLE, PIDFD, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE, NO_SUBREAPER];

/// `create`.
pub const COMMAND: Command =
    Command { flags: &FLAGS, sealed: true, ..Command::new("create", "create a container from a bundle", run) };

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let made = launch::make(context, given, true, true);
    // Its process waits at the gate in the container's directory: nothing here is needed for it any more.
    made.map(|_| 0).map_err(|error| failed(given, error))
}

fn failed(given: &Given, error: Error) -> Error {
    Error::Cannot { verb: "create", id: id(given).unwrap_or_default(), source: Box::new(error) }
}
