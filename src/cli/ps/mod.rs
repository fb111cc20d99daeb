//! `wherry ps`: the containers.

mod choice;

use serde_json::{Value, json};

use self::choice::Choice;
use super::filter::Filter;
use super::template::{self, Format};
use super::{Context, Outcome, human, output, publish};
use crate::container::{Container, Status};
use crate::error::Failure;

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
    /// Only some: name=, id=, label=, status=, ancestor=, before=, since=, exited=, network=, publish=, expose=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
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
    let choice = Choice::new(&args.filter, &all)?;
    let any = args.all || last.is_some() || choice.of_all_states();
    let wanted = |c: &&Container| (any || matches!(c.status, Status::Running { .. })) && choice.has(c);
    let shown: Vec<&Container> = all.iter().filter(wanted).take(last.unwrap_or(usize::MAX)).collect();
    let sizes = if args.size { Some(sizes(&shown, context)?) } else { None };
    output::print(&show(&args, &shown, sizes.as_deref())?)?;
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
    ("Size", "SIZE"),
    ("CreatedAt", "CREATED AT"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("State", "STATE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
];

/// How many of them are in the table.
const COLUMNS: usize = 7;

/// What each wrote, and what it has with its image.
fn sizes(containers: &[&Container], context: &Context) -> Result<Vec<String>, Box<dyn Failure>> {
    let images = context.host()?.images()?;
    let size = |container: &&Container| {
        let written = container.written();
        // Of an image that is gone nothing is known any more.
        let image = images.get(container.record.image_id.as_str(), None)?.map_or(0, |image| image.size());
        Ok(format!("{} (virtual {})", human::size(written), human::size(written + image)))
    };
    containers.iter().map(size).collect()
}

fn show(args: &Args, containers: &[&Container], sizes: Option<&[String]>) -> Result<String, template::Error> {
    let format = Format::parse(args.format.as_deref())?;
    let mut rows: Vec<Value> = containers.iter().map(|c| row(c, args.no_trunc)).collect();
    for (row, size) in rows.iter_mut().zip(sizes.into_iter().flatten()) {
        row["Size"] = size.as_str().into();
    }
    if args.quiet {
        return Ok(rows.iter().map(|row| format!("{}\n", text(row, "ID"))).collect());
    }
    let columns = COLUMNS + usize::from(sizes.is_some());
    format.show(&rows, HEADINGS, |rows| output::columns(rows, &HEADINGS[..columns]))
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
        "Labels": record.config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
        "Mounts": record.host_config.binds.iter().filter_map(|bind| bind.split(':').next()).collect::<Vec<_>>().join(","),
        "Networks": record.host_config.network_mode,
        "Platform": record.platform,
    })
}

fn status(status: &Status, now: i64) -> String {
    let since = |then: jiff::Timestamp| human::duration(u64::try_from(now - then.as_second()).unwrap_or(0));
    match status {
        Status::Created { .. } => "Created".to_owned(),
        Status::Running { started_at, paused, .. } => {
            format!("Up {}{}", since(*started_at), if *paused { " (Paused)" } else { "" })
        }
        Status::Exited(exit) => format!("Exited ({}) {} ago", exit.code, since(exit.finished_at)),
        Status::Dead => "Dead".to_owned(),
    }
}
