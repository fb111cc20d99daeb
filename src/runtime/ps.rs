//! `ps`: the processes of a container: by number, or as the system's `ps` shows them.

use super::options::{Flag, Given, option};
use super::{Command, Context, Error, Outcome, cgroup, say};
use crate::sys::named;

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
    let mut ps = std::process::Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef")
    } else {
        ps.args(options)
    };
    let output = named(ps.output(), || "execve(\"ps\")".into()).map_err(Error::sys("list processes"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::refuse("ps", said));
    }
    filter(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The head of `listing` and the lines of these processes.
fn filter(listing: &str, pids: &[i32]) -> Result<String, Error> {
    let mut lines = listing.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::refuse("ps", "couldn't find PID field in ps output"))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(head).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_column_that_is_called_pid() {
        let listing = "UID   PID  PPID CMD\nroot    7    12 sleep 12\nroot   12     1 sh\n";
        assert_eq!(filter(listing, &[12]).unwrap(), "UID   PID  PPID CMD\nroot   12     1 sh\n");
        assert!(filter("A B\n1 2\n", &[1]).is_err());
    }
}
