//! `wherry ps`: the containers.

use serde_json::{Value, json};

use super::template::{self, Format};
use super::{Context, Outcome, human, output, publish};
use crate::container::{Container, Status};

/// List containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Format output: table, json, 'table TEMPLATE', or a template such as '{{.Names}} {{.Status}}'
    #[arg(long)]
    format: Option<String>,
}

/// How much of a command is shown.
const COMMAND_WIDTH: usize = 20;

/// Lists the containers, newest first.
pub fn run(args: Args, context: &Context) -> Outcome {
    let all = context.host()?.containers()?.list()?;
    let last = if args.latest { Some(1) } else { args.last };
    let wanted = |c: &&Container| args.all || last.is_some() || matches!(c.status, Status::Running { .. });
    let shown: Vec<&Container> = all.iter().filter(wanted).take(last.unwrap_or(usize::MAX)).collect();
    output::print(&show(&args, &shown)?)?;
    Ok(0)
}

/// The fields of a line, with their headings; the first are those of the table.
const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("CreatedAt", "CREATED AT"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("State", "STATE"),
];

/// How many of them are in the table.
const COLUMNS: usize = 7;

fn show(args: &Args, containers: &[&Container]) -> Result<String, template::Error> {
    let format = Format::parse(args.format.as_deref())?;
    let rows: Vec<Value> = containers.iter().map(|c| row(c, args.no_trunc)).collect();
    if args.quiet {
        return Ok(rows.iter().map(|row| format!("{}\n", text(row, "ID"))).collect());
    }
    format.show(&rows, HEADINGS, |rows| output::columns(rows, &HEADINGS[..COLUMNS]))
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

/// What Docker's templates and JSON call it.
pub fn row(container: &Container, whole: bool) -> Value {
    let record = &container.record;
    let command = record.command().join(" ");
    let command = if whole { command } else { human::shortened(&command, COMMAND_WIDTH) };
    let now = jiff::Timestamp::now().as_second();
    json!({
        "ID": if whole { &record.id } else { record.short_id() },
        "Image": record.image,
        "Command": format!("\"{command}\""),
        "CreatedAt": record.created.to_string(),
        "RunningFor": human::ago(record.created.as_second(), now),
        "State": container.status.word(),
        "Status": status(&container.status, now),
        "Ports": publish::line(&container.ports()),
        "Names": container.name,
        "Networks": record.host_config.network_mode,
        "Platform": record.platform,
    })
}

fn status(status: &Status, now: i64) -> String {
    let since = |then: jiff::Timestamp| human::duration(u64::try_from(now - then.as_second()).unwrap_or(0));
    match status {
        Status::Created { .. } => "Created".to_owned(),
        Status::Running { started_at, .. } => format!("Up {}", since(*started_at)),
        Status::Exited(exit) => format!("Exited ({}) {} ago", exit.code, since(exit.finished_at)),
        Status::Dead => "Dead".to_owned(),
    }
}
