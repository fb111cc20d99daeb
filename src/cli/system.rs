//! `wherry system`: the disk and the machine.

use serde_json::{Value, json};

use super::filter::Filter;
use super::template::Format;
use super::{Context, Outcome, human, image, images, info, output};
use crate::error::Failure;
use crate::host::usage::{ImageUsage, Usage};

/// Manage wherry's disk and data
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show disk usage
    Df(DfArgs),
    /// Get events as they happen
    #[cfg(target_os = "linux")]
    Events(super::events::Args),
    /// Display system-wide information
    Info(info::Args),
    /// Remove unused data
    Prune(PruneArgs),
}

/// Does what the second word says.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    match args.command {
        Command::Df(args) => df(args, ctx),
        #[cfg(target_os = "linux")]
        Command::Events(args) => super::events::run(args, ctx),
        Command::Info(args) => info::run(args, ctx),
        Command::Prune(args) => prune(args, ctx),
    }
}

#[derive(Debug, clap::Args)]
struct DfArgs {
    /// Format output: table, json, or a template such as '{{.Type}}: {{.Size}}'
    #[arg(long)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const HEADINGS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

fn df(args: DfArgs, ctx: &Context) -> Outcome {
    let (usage, containers) = (ctx.host()?.usage()?, containers(ctx)?);
    let format = Format::parse(args.format.as_deref())?;
    output::print(&match (args.verbose, format) {
        (true, Format::Table) => verbose(&usage, &containers),
        (true, Format::Json) => format!("{}\n", details(&usage, &containers)),
        (true, Format::Lines(template) | Format::Columns(template)) => {
            template.render(&details(&usage, &containers))? + "\n"
        }
        (false, format) => format.show(&rows(&usage, &containers), HEADINGS, |rows| table(rows, HEADINGS))?,
    })?;
    Ok(0)
}

/// What a container takes up, as it is shown, and whether it runs.
struct Written {
    shown: Value,
    size: u64,
    running: bool,
}

#[cfg(target_os = "linux")]
fn containers(ctx: &Context) -> Result<Vec<Written>, Box<dyn Failure>> {
    use crate::container::Status;
    let of = |container: &crate::container::Container| {
        let (mut shown, size) = (super::ps::row(container, false), container.written());
        (shown["Size"], shown["LocalVolumes"]) = (human::size(size).into(), "0".into());
        Written { shown, size, running: matches!(container.status, Status::Running { .. }) }
    };
    Ok(ctx.host()?.containers()?.list()?.iter().map(of).collect())
}

#[cfg(not(target_os = "linux"))]
fn containers(_: &Context) -> Result<Vec<Written>, Box<dyn Failure>> {
    Ok(Vec::new())
}

/// The four lines that Docker has. There are no volumes and no build cache here yet, and so nothing in them.
fn rows(usage: &Usage, containers: &[Written]) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, size: u64, free: u64| {
        let percent = (free * 100).checked_div(size).map_or_else(String::new, |percent| format!(" ({percent}%)"));
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": human::size(size),
            "Reclaimable": human::size(free) + &percent,
        })
    };
    let active = usage.images.iter().filter(|image| image.containers > 0).count();
    let running = containers.iter().filter(|container| container.running).count();
    let sum = |all: bool| containers.iter().filter(|c| all || !c.running).map(|container| container.size).sum();
    vec![
        row("Images", usage.images.len(), active, usage.images_size, usage.images_reclaimable),
        row("Containers", containers.len(), running, sum(true), sum(false)),
        row("Local Volumes", 0, 0, 0, 0),
        row("Build Cache", 0, 0, usage.cache_size, usage.cache_size),
    ]
}

const IMAGE_HEADINGS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];

const CONTAINER_HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];

fn table(rows: &[Value], headings: &[(&str, &str)]) -> String {
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| headings.iter().map(|(field, _)| cell(row, field)).collect()).collect();
    output::table(&headings.iter().map(|(_, heading)| *heading).collect::<Vec<_>>(), &cells)
}

/// Every image and container.
fn verbose(usage: &Usage, containers: &[Written]) -> String {
    let images: Vec<Value> = usage.images.iter().map(image_row).collect();
    let containers: Vec<Value> = containers.iter().map(|container| container.shown.clone()).collect();
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nCompiled code and partial downloads: {}\n",
        table(&images, IMAGE_HEADINGS),
        table(&containers, CONTAINER_HEADINGS),
        human::size(usage.cache_size),
    )
}

fn details(usage: &Usage, containers: &[Written]) -> Value {
    let images: Vec<Value> = usage.images.iter().map(image_row).collect();
    let containers: Vec<Value> = containers.iter().map(|container| container.shown.clone()).collect();
    json!({ "Images": images, "Containers": containers, "Volumes": [], "BuildCache": [] })
}

fn image_row(usage: &ImageUsage) -> Value {
    let mut row = images::rows_of(&usage.image).into_iter().next().unwrap_or_default();
    row["Size"] = human::size(usage.size).into();
    row["SharedSize"] = human::size(usage.shared).into();
    row["UniqueSize"] = human::size(usage.size - usage.shared).into();
    row["Containers"] = usage.containers.to_string().into();
    row
}

#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Only some: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

fn prune(args: PruneArgs, ctx: &Context) -> Outcome {
    let images =
        if args.all { "all images without at least one container associated to them" } else { "all dangling images" };
    let warning = format!("WARNING! This will remove:\n  - all stopped containers\n  - {images}\n");
    if !args.force && !output::confirmed(&warning)? {
        return Ok(0);
    }
    let freed = prune_containers(&args.filter, ctx)? + image::prune_images(args.all, &args.filter, ctx)?;
    output::print(&format!("Total reclaimed space: {}\n", human::size(freed)))?;
    Ok(0)
}

/// Removes the containers that do not run, and prints their ids. The bytes that were freed.
#[cfg(target_os = "linux")]
fn prune_containers(filters: &[Filter], ctx: &Context) -> Result<u64, Box<dyn Failure>> {
    use crate::container::Status;
    let until = filters.iter().find(|filter| filter.name == "until").map(Filter::time).transpose()?;
    let (mut freed, mut ids) = (0, String::new());
    for container in ctx.host()?.containers()?.list()? {
        let labels = &container.record.config.labels;
        let fits = |filter: &Filter| match filter.name.as_str() {
            "label" => filter.label(labels),
            "label!" => !filter.label(labels),
            _ => until.is_none_or(|until| container.record.created.as_nanosecond() < i128::from(until)),
        };
        if matches!(container.status, Status::Running { .. }) || !filters.iter().all(fits) {
            continue;
        }
        let size = container.written();
        ctx.host()?.containers()?.remove(&container, false)?;
        freed += size;
        ids += &format!("{}\n", container.record.id);
    }
    if !ids.is_empty() {
        output::print(&format!("Deleted Containers:\n{ids}\n"))?;
    }
    Ok(freed)
}

/// There are none.
#[cfg(not(target_os = "linux"))]
fn prune_containers(_: &[Filter], _: &Context) -> Result<u64, Box<dyn Failure>> {
    Ok(0)
}
