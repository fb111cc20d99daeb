//! `ps`: the processes of a container: by number, or as the system's `ps` shows them.

use super::options::{Flag, Given, option};
use super::{Command, Context, Error, Outcome, cgroup, say};
use crate::engine::linux::listing;

static FLAGS: [Flag; 1] = [option("format", Some('f'), "FORMAT", "table or json (default: table)")];

/// `ps`.
pub const COMMAND: Command = Command {
    words: "<container-id> [ps options]",
    count: (1, usize::MAX),
    flags: &FLAGS,
    stops: true,
    ..Command::new("ps", "list the processes of a container", run)
};

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let entry = context.entry(given)?;
    let format = given.text("format")?.unwrap_or("table");
    let mut pids = match cgroup::with(&entry, |group| Ok(group.procs()?))? {
        Some(pids) => pids,
        None => entry.record.init().filter(|init| init.alive()).map(|init| init.pid).into_iter().collect(),
    };
    pids.sort_unstable();
    match format {
        "json" => say(&format!("{}\n", serde_json::Value::from(pids)))?,
        "table" => say(&table(&given.words[1..], &pids)?)?,
        _ => return Err(Error::Words("invalid format option".to_owned())),
    }
    Ok(0)
}

/// What the system's `ps` says of these processes.
fn table(options: &[std::ffi::OsString], pids: &[i32]) -> Result<String, Error> {
    match listing::of(options, pids) {
        Ok(lines) => Ok(lines.iter().map(|line| format!("{line}\n")).collect()),
        Err(listing::Error::Sys(source)) => Err(Error::sys("list processes")(source)),
        Err(listing::Error::Refused { said }) => Err(Error::refuse("ps", said)),
        Err(listing::Error::NoPid) => Err(Error::refuse("ps", "couldn't find PID field in ps output")),
    }
}
