//! runc's command line, for the engines that drive a runtime: `wherry oci …`, or the binary as `wherry-oci`.
//!
//! ```text
//! argv ─options─▶ global options, a command, its options and words
//!        │
//!        ▼             store: one directory for each container, locked while a command works on it
//!   one file a command ──┬──▶ bundle, engine, cgroup: what makes and ends containers
//!        │               └──▶ log: lines that engines parse
//!        ▼
//!   exit status: the program's for run and exec; else 0, or 1 (255 for exec) and one line that says why
//! ```
//!
//! There is no daemon, and no thread: the engine clones only a process with a single one, so signals are read
//! from a handle in one poll. What a command does not need is not made: options are looked up in tables, and the
//! help is text made from them.
//!
//! Commands that put a process of ours where a container can see it begin by executing the binary again from a handle
//! that cannot be written (CVE-2019-5736).

mod cgroup;
mod checkpoint;
mod create;
mod criu;
mod delete;
mod error;
mod events;
mod exec;
mod features;
mod foreground;
mod help;
mod hooks;
mod kill;
mod launch;
mod list;
mod log;
mod notify;
mod options;
mod pause;
mod ps;
mod restore;
mod run;
mod sockets;
mod spec;
mod start;
mod state;
mod stats;
mod status;
mod store;
mod update;
mod wasm;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use error::Error;
use log::{Format, Level, Log};
use options::{Flag, Given, option, switch};
use store::Store;

use crate::config::{Environment, Settings};
use crate::error::{Failure, chain};

/// The version of the runtime specification that is implemented.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// What a command comes to: an exit status, or why there is none.
type Outcome = Result<u8, Error>;

/// A command: how it is called and what it does.
struct Command {
    name: &'static str,
    /// Its words, for the usage line.
    words: &'static str,
    /// How many words it takes.
    count: (usize, usize),
    about: &'static str,
    flags: &'static [Flag],
    /// Whether what follows the first word is not for us to look at.
    stops: bool,
    /// Whether it makes a process that a container can see.
    sealed: bool,
    /// The exit status of its failure.
    failure: u8,
    run: fn(&Context<'_>, &Given) -> Outcome,
}

impl Command {
    /// A command of one word, the container's name, with no options.
    const fn new(name: &'static str, about: &'static str, run: fn(&Context<'_>, &Given) -> Outcome) -> Self {
        let (words, count) = ("<container-id>", (1, 1));
        Self { name, words, count, about, flags: &[], stops: false, sealed: false, failure: 1, run }
    }
}

/// Every command, in the order of the help.
const COMMANDS: [&Command; 17] = [
    &checkpoint::COMMAND,
    &create::COMMAND,
    &delete::COMMAND,
    &events::COMMAND,
    &exec::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &pause::PAUSE,
    &ps::COMMAND,
    &restore::COMMAND,
    &pause::RESUME,
    &run::COMMAND,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
    &features::COMMAND,
];

/// The options before the command.
static GLOBAL: [Flag; 10] = [
    switch("debug", None, "also log what is only of use to find a fault"),
    option("log", None, "FILE", "add log lines to this file (default: standard error)"),
    option("log-format", None, "FORMAT", "the form of log lines: text or json (default: text)"),
    option("log-level", None, "LEVEL", "what is logged: debug, warning or error (default: warning)"),
    option("root", None, "DIR", "where the state of containers is (default: /run/wherry/oci)"),
    switch("systemd-cgroup", None, "have systemd make the cgroups; cgroupsPath is then slice:prefix:name"),
    option(
        "cgroup-manager",
        None,
        "MANAGER",
        "who makes the cgroups: cgroupfs, systemd or disabled (default: cgroupfs)",
    ),
    option(
        "rootless",
        None,
        "VALUE",
        "go on without cgroups that may not be made: true, false or auto (default: auto)",
    ),
    switch("help", Some('h'), "show this help"),
    switch("version", Some('v'), "show the version"),
];

/// Who makes cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Manager {
    /// We do, or systemd does.
    Made(crate::cgroup::Manager),
    /// Nobody.
    Disabled,
}

/// What every command works with.
struct Context<'a> {
    store: Store,
    log: &'a Log,
    manager: Manager,
    /// Whether a cgroup that may not be made is done without.
    rootless: bool,
}

/// Does what the arguments say; the exit status. `program` is how we were called, for the help.
pub fn main(program: &str, arguments: impl Iterator<Item = OsString>) -> u8 {
    let mut words = arguments;
    let parsed = options::parse(&GLOBAL, true, &mut words).map_err(Error::from);
    let (global, log) = match parsed.and_then(|global| Ok((open_log(&global)?, global))) {
        Ok((log, global)) => (global, log),
        Err(error) => return refuse(&Log::PLAIN, &error, 1),
    };
    match prepare(program, &global) {
        Ok(Prepared::Said) => 0,
        Ok(Prepared::Command(command, given)) => {
            perform(command, &global, &given, &log).unwrap_or_else(|error| refuse(&log, &error, command.failure))
        }
        Err(error) => refuse(&log, &error, 1),
    }
}

/// What is to be done about the words.
enum Prepared {
    /// It was help that was asked for, and given.
    Said,
    Command(&'static Command, Given),
}

fn prepare(program: &str, global: &Given) -> Result<Prepared, Error> {
    let mut words = global.words.iter().cloned();
    let name = words.next().map(|word| word.to_string_lossy().into_owned());
    let say = |text: &str| {
        say(text)?;
        Ok(Prepared::Said)
    };
    let named = |name: &str| COMMANDS.into_iter().find(|command| command.name == name);
    let name = match name.as_deref() {
        _ if global.has("version") => return say(&help::version(program)),
        _ if global.has("help") => return say(&help::overview(program)),
        None => return say(&help::overview(program)),
        Some("help" | "h") => {
            let of = words.next().and_then(|word| named(&word.to_string_lossy()));
            return say(&of.map_or_else(|| help::overview(program), |command| help::command(program, command)));
        }
        Some(name) => name.to_owned(),
    };
    let command = named(&name).ok_or_else(|| Error::Words(format!("there is no command {name:?}; see --help")))?;
    let words: Vec<OsString> = words.collect();
    if help::is_asked_for(command, &words) {
        return say(&help::command(program, command));
    }
    let given = options::parse(command.flags, command.stops, &mut words.into_iter())?;
    check_count(command, &given)?;
    Ok(Prepared::Command(command, given))
}

fn check_count(command: &Command, given: &Given) -> Result<(), Error> {
    let (least, most) = command.count;
    let problem = match given.words.len() {
        count if (least..=most).contains(&count) => return Ok(()),
        _ if least == most => format!("exactly {least}"),
        count if count < least => format!("a minimum of {least}"),
        _ => format!("a maximum of {most}"),
    };
    Err(Error::Words(format!("{:?} requires {problem} argument(s)", command.name)))
}

fn perform(command: &Command, global: &Given, given: &Given, log: &Log) -> Outcome {
    if command.sealed {
        let sealed = crate::sys::process::ensure_sealed(std::env::args_os(), std::env::vars_os());
        sealed.map_err(Error::sys("execute itself from where it cannot be written"))?;
    }
    let store = Store::new(root(global)?);
    (command.run)(&Context { store, log, manager: manager(global)?, rootless: rootless(global)? }, given)
}

/// Tells why, and gives the exit status.
fn refuse(log: &Log, error: &Error, status: u8) -> u8 {
    let hint = error.hint().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
    log.error(&format!("{}{hint}", chain(error)));
    status
}

/// Prints to standard output, whose end may have been closed.
fn say(text: &str) -> Result<(), Error> {
    use std::io::Write;
    let written = std::io::stdout().write_all(text.as_bytes());
    crate::sys::named(written, || format!("write({} bytes)", text.len())).map_err(Error::sys("print"))
}

fn open_log(global: &Given) -> Result<Log, Error> {
    let format = match global.text("log-format")? {
        None | Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some(other) => return Err(Error::Words(format!("invalid log-format: {other}"))),
    };
    let least = match global.text("log-level")? {
        _ if global.has("debug") => Level::Debug,
        None | Some("warning") => Level::Warning,
        Some("debug") => Level::Debug,
        Some("error") => Level::Error,
        Some(other) => return Err(Error::Words(format!("invalid log-level: {other}"))),
    };
    let path = global.path("log");
    let opened = Log::open(path.as_deref(), format, least);
    crate::sys::named(opened, || format!("open({path:?}, O_APPEND)")).map_err(Error::sys("open the log"))
}

/// The directory of the containers, whole: it is also read after the working directory may have changed.
fn root(global: &Given) -> Result<PathBuf, Error> {
    let root = match global.get("root") {
        None => standard_root(),
        Some(root) => std::path::absolute(Path::new(root)).unwrap_or_default(),
    };
    let above = root.components().fold(0_usize, |depth, part| match part {
        std::path::Component::Normal(_) => depth + 1,
        std::path::Component::ParentDir => depth.saturating_sub(1),
        _ => depth,
    });
    if above == 0 {
        return Err(Error::refuse("--root", "it must not be / or empty"));
    }
    Ok(root)
}

/// `/run/wherry/oci`, or the same below the user's own directory for what a reboot may forget.
fn standard_root() -> PathBuf {
    let environment = Environment { variable: |name| std::env::var_os(name), privileged: is_privileged() };
    Settings::new(None, None, &environment).run.join("oci")
}

/// Whether this is the machine's root. In a user namespace it is an ordinary user who plays root, unless that user
/// says to be root there too.
fn is_privileged() -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    std::env::var_os("XDG_RUNTIME_DIR").is_none()
        || !cgroup::in_user_namespace()
        || std::env::var_os("USER").is_some_and(|user| user == "root")
}

fn manager(global: &Given) -> Result<Manager, Error> {
    use crate::cgroup::{Bus, Manager as By};
    let systemd = || -> Result<Manager, Error> {
        if is_privileged() {
            return Ok(Manager::Made(By::Systemd(Bus::System)));
        }
        let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Ok(Manager::Made(By::Systemd(Bus::user(address.as_deref(), runtime.as_deref())?)))
    };
    match global.text("cgroup-manager")? {
        Some("systemd") => systemd(),
        Some("disabled") => Ok(Manager::Disabled),
        None | Some("cgroupfs") if global.has("systemd-cgroup") => systemd(),
        None | Some("cgroupfs") => Ok(Manager::Made(By::Cgroupfs)),
        Some(other) => Err(Error::refuse("--cgroup-manager", format!("there is no manager {other:?}"))),
    }
}

fn rootless(global: &Given) -> Result<bool, Error> {
    match global.text("rootless")?.map(str::to_ascii_lowercase).as_deref() {
        None | Some("auto") => Ok(!rustix::process::geteuid().is_root() || cgroup::in_user_namespace()),
        Some("true" | "1" | "t") => Ok(true),
        Some("false" | "0" | "f") => Ok(false),
        Some(other) => Err(Error::refuse("--rootless", format!("{other:?} is not true, false or auto"))),
    }
}

impl Context<'_> {
    /// The container that the first word names.
    fn entry(&self, given: &Given) -> Result<store::Entry, Error> {
        self.store.load(&id(given)?)
    }

    /// The same, when no other command works on it any more.
    fn locked(&self, given: &Given) -> Result<store::Locked, Error> {
        self.store.lock(&id(given)?)
    }
}

/// The container's name: the first word.
fn id(given: &Given) -> Result<String, Error> {
    let word = given.words.first().ok_or(Error::EmptyId)?;
    word.clone().into_string().map_err(|word| Error::InvalidId { problem: format!("{word:?} is not UTF-8") })
}

/// The containers whose names match the first word, a regular expression.
fn matching(context: &Context<'_>, given: &Given) -> Result<Vec<store::Entry>, Error> {
    let pattern = crate::sys::regex::Regex::new(&id(given)?).map_err(Error::sys("match containers"))?;
    let ids = context.store.ids()?.into_iter().filter(|id| pattern.matches(id));
    ids.map(|id| context.store.load(&id)).filter(|entry| !matches!(entry, Err(Error::NotExist))).collect()
}

/// Goes on after something that must not keep a container from being made or removed, and says so.
fn warn_of<T>(log: &Log, result: Result<T, Error>) {
    if let Err(error) = result {
        log.warn(&chain(&error));
    }
}
