//! `wherry system`: the disk and the machine.

use serde_json::{Value, json};

use super::filter::{Choice, Pruning};
use super::template::Format;
use super::{Context, Outcome, human, image, images, info, output};
use crate::error::{Failure, Kind};
use crate::host::usage::{ImageUsage, Usage};

/// Manage wherry's disk and data
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Verify blobs, layers, images and records
    Check(super::check::Args),
    /// Show disk usage: what images, containers and caches take up, blobs and unpacked layers together
    Df(DfArgs),
    /// Get events as they happen
    #[cfg(target_os = "linux")]
    Events(super::events::Args),
    /// Remove images that nobody uses, as the configuration says
    Gc(super::gc::Args),
    /// Display system-wide information
    Info(info::Args),
    /// Remove unused data
    Prune(PruneArgs),
}

/// Does what the second word says.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    match args.command {
        Command::Check(args) => super::check::run(args, ctx),
        Command::Df(args) => df(args, ctx),
        #[cfg(target_os = "linux")]
        Command::Events(args) => super::events::run(args, ctx),
        Command::Gc(args) => super::gc::run(args, ctx),
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
        (true, Format::Json) => output::json(&details(&usage, &containers)) + "\n",
        (true, Format::Lines(template) | Format::Columns(template)) => {
            template.render(&details(&usage, &containers))? + "\n"
        }
        (false, format) => format.show(&rows(&usage, &containers), HEADINGS, |rows| output::columns(rows, HEADINGS))?,
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
    let size_of = human::exact_size;
    let row = |kind: &str, total: usize, active: usize, size: u64, free: u64| {
        let percent = (free * 100).checked_div(size).map_or_else(String::new, |percent| format!(" ({percent}%)"));
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": size_of(size),
            "Reclaimable": size_of(free) + &percent,
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

/// What Docker shows of volumes and of what was kept of builds, of which there are none here.
const NO_VOLUMES: &str = "Local Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n";
const NO_BUILDS: &str = "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n";

/// Every image and container.
fn verbose(usage: &Usage, containers: &[Written]) -> String {
    let images = image_rows(usage);
    let containers: Vec<Value> = containers.iter().map(|container| container.shown.clone()).collect();
    let text = format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\n{NO_VOLUMES}\nBuild cache usage: {cache}\n\n{NO_BUILDS}\n\
         Compiled code and partial downloads: {cache}\n",
        output::columns(&images, IMAGE_HEADINGS),
        output::columns(&containers, CONTAINER_HEADINGS),
        cache = human::exact_size(usage.cache_size),
    );
    output::printable(&text)
}

fn details(usage: &Usage, containers: &[Written]) -> Value {
    let images = image_rows(usage);
    let containers: Vec<Value> = containers.iter().map(|container| container.shown.clone()).collect();
    json!({ "Images": images, "Containers": containers, "Volumes": [], "BuildCache": [] })
}

/// A line for each image, the newest first as in a list of images.
fn image_rows(usage: &Usage) -> Vec<Value> {
    let mut all: Vec<&ImageUsage> = usage.images.iter().collect();
    all.sort_by_key(|usage| std::cmp::Reverse(images::created(&usage.image)));
    let row = |usage: &ImageUsage| {
        let mut row = images::row_of(&usage.image, usage.size, usage.containers);
        row["SharedSize"] = human::exact_size(usage.shared).into();
        row["UniqueSize"] = human::exact_size(usage.size.saturating_sub(usage.shared)).into();
        row
    };
    all.into_iter().map(row).collect()
}

#[derive(Debug, clap::Args)]
struct PruneArgs {
    #[command(flatten)]
    common: Pruning,
    /// Prune anonymous volumes, of which there are none here yet
    #[arg(long)]
    volumes: bool,
}

/// A filter that volumes cannot be chosen by: they have no time.
#[derive(Debug, thiserror::Error)]
#[error("The \"until\" filter is not supported with \"--volumes\"")]
struct UntilOfVolumes;

impl Failure for UntilOfVolumes {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

fn prune(args: PruneArgs, ctx: &Context) -> Outcome {
    // Before the first thing is removed.
    let Pruning { all, filter, force } = args.common;
    let choice = Choice::new(&filter)?;
    if args.volumes {
        if filter.iter().any(|filter| filter.name == "until") {
            return Err(UntilOfVolumes.into());
        }
        eprintln!("wherry: there are no volumes here yet, and so none that --volumes could remove");
    }
    let images =
        if all { "all images without at least one container associated to them" } else { "all dangling images" };
    let warning = format!("WARNING! This will remove:\n  - all stopped containers\n  - {images}\n");
    if !force && !output::confirmed(&warning)? {
        return Ok(0);
    }
    let freed = prune_containers(&choice, ctx)? + image::prune_images(all, &filter, ctx)?;
    output::print(&format!("Total reclaimed space: {}\n", human::exact_size(freed)))?;
    Ok(0)
}

/// Removes the containers that do not run, and prints their ids. The bytes that were freed.
#[cfg(target_os = "linux")]
pub fn prune_containers(choice: &Choice, ctx: &Context) -> Result<u64, Box<dyn Failure>> {
    use crate::container::Status;
    let (mut freed, mut ids) = (0, String::new());
    for container in ctx.host()?.containers()?.list()? {
        let made = i64::try_from(container.record.created.as_nanosecond()).ok();
        let chosen = choice.has(&container.record.config.labels, made);
        if matches!(container.status, Status::Running { .. }) || !chosen {
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
fn prune_containers(_: &Choice, _: &Context) -> Result<u64, Box<dyn Failure>> {
    Ok(0)
}
