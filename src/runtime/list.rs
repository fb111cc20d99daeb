//! `list`: all containers of one root.

use super::options::{Flag, Given, option, switch};
use super::state::State;
use super::status::Status;
use super::store::Entry;
use super::{Command, Context, Error, Outcome, say, warn_of};

static FLAGS: [Flag; 2] = [
    option("format", Some('f'), "FORMAT", "table or json (default: table)"),
    switch("quiet", Some('q'), "show only the ids"),
];

/// `list`.
pub const COMMAND: Command = Command {
    words: "",
    count: (0, 0),
    flags: &FLAGS,
    ..Command::new("list", "list the containers of a root directory", run)
};

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let found: Vec<(Entry, Status)> = entries(context)?;
    let states = found.iter().map(|(entry, status)| State::new(entry, *status));
    let format = given.text("format")?.unwrap_or("table");
    if given.has("quiet") {
        say(&found.iter().map(|(entry, _)| format!("{}\n", entry.record.id)).collect::<String>())?;
    } else if format == "json" && found.is_empty() {
        // As of a Go program that has no list, which callers know.
        say("null\n")?;
    } else if format == "json" {
        let json = serde_json::to_string(&states.collect::<Vec<_>>()).expect("states are JSON");
        say(&format!("{json}\n"))?;
    } else if format == "table" {
        say(&table(states))?;
    } else {
        return Err(Error::Words("invalid format option".to_owned()));
    }
    Ok(0)
}

fn entries(context: &Context<'_>) -> Result<Vec<(Entry, Status)>, Error> {
    let mut found = Vec::new();
    for id in context.store.ids()? {
        match context.store.load(&id) {
            Ok(entry) => {
                let status = entry.status();
                found.push((entry, status));
            }
            // Deleted meanwhile.
            Err(Error::NotExist) => {}
            Err(error) => {
                warn_of::<()>(context.log, Err(Error::Cannot { verb: "load", id, source: Box::new(error) }));
            }
        }
    }
    Ok(found)
}

fn table<'a>(states: impl Iterator<Item = State<'a>>) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |state: State<'_>| {
        let bundle = state.bundle.to_string_lossy().into_owned();
        let (pid, status) = (state.pid.to_string(), state.status.to_owned());
        [state.id().to_owned(), pid, status, bundle, state.created.to_owned(), state.owner]
    };
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(states.map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: String = widths.iter().zip(row).map(|(width, cell)| format!("{cell:<width$}")).collect();
        format!("{cells}{}\n", row[5])
    };
    rows.iter().map(line).collect()
}
