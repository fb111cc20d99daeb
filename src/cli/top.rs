//! `wherry top`: the processes of a container, as the host sees them.

use std::ffi::OsString;

use super::exec::view;
use super::{Context, Outcome, output};
use crate::engine::Engine;
use crate::engine::linux::listing;

/// Display the running processes of a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wherry top web
  wherry top web -o pid,rss,args

For a WebAssembly container this is the process of its engine, and below it the instances in that.")]
pub struct Args {
    /// A name or an id, and after it options of ps(1)
    #[arg(value_name = "CONTAINER [ps OPTIONS]", required = true, num_args = 1.., trailing_var_arg = true,
          allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// The narrowest column and the space between two, as with Docker.
const NARROWEST: usize = 20;
const GAP: usize = 3;

/// Prints what `ps` says of the container's processes.
pub fn run(args: Args, context: &Context) -> Outcome {
    let (name, options) = args.words.split_first().expect("the parser requires one");
    let containers = context.host()?.containers()?;
    let container = containers.find(&name.to_string_lossy())?;
    let pids = containers.processes(&container)?;
    let mut text = table(&listing::of(options, &pids)?);
    if container.record.engine == Engine::Wasm {
        text = format!("{text}\n{}", view::ps(&container, &containers.view(&container)?));
    }
    output::print(&output::printable(&text))?;
    Ok(0)
}

/// The listing in columns; the last one is the rest of a line.
fn table(lines: &[String]) -> String {
    let titles = lines.first().map_or(0, |head| head.split_whitespace().count());
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| fields(line, titles)).collect();
    let width = |column: usize| {
        let widest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or(0) + GAP).max(NARROWEST)
    };
    let widths: Vec<usize> = (0..titles).map(width).collect();
    let line = |row: &Vec<&str>| {
        let last = row.len().saturating_sub(1);
        let cell =
            |(at, cell): (usize, &&str)| if at == last { (*cell).to_owned() } else { format!("{cell:0$}", widths[at]) };
        row.iter().enumerate().map(cell).collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A line in at most `count` fields.
fn fields(line: &str, count: usize) -> Vec<&str> {
    let mut rest = line.trim();
    let mut fields = Vec::new();
    while fields.len() + 1 < count
        && let Some((field, more)) = rest.split_once(char::is_whitespace)
    {
        fields.push(field);
        rest = more.trim_start();
    }
    fields.push(rest);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_keeps_its_spaces() {
        let lines = ["UID    PID CMD".to_owned(), "root     7 sleep  10 s".to_owned()];
        let expected = format!("{:20}{:20}CMD\n{:20}{:20}sleep  10 s\n", "UID", "PID", "root", "7");
        assert_eq!(table(&lines), expected);
        assert_eq!(table(&[]), "");
    }
}
