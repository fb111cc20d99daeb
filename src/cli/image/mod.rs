//! `wherry image`: what is done with images, under one word.

pub mod inspect;

use super::filter::Filter;
use super::images::users;
use super::{Context, Outcome, history, human, images, import, load, output, pull, push, rmi, save, tag};
use crate::error::Failure;
use crate::image::Image;

/// Manage images
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the history of an image
    History(history::Args),
    /// Import the contents from a tarball to create a filesystem image
    Import(import::Args),
    /// Display detailed information on one or more images
    Inspect(inspect::Args),
    /// Load an image from a tar archive or STDIN
    Load(load::Args),
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Remove unused images
    Prune(PruneArgs),
    /// Download an image from a registry
    Pull(pull::Args),
    /// Upload an image or a WebAssembly program to a registry
    Push(push::Args),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(save::Args),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(tag::Args),
}

/// Does what the second word says.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    match args.command {
        Command::History(args) => history::run(args, ctx),
        Command::Import(args) => import::run(args, ctx),
        Command::Inspect(args) => inspect::run(args, ctx),
        Command::Load(args) => load::run(args, ctx),
        Command::Ls(args) => images::run(args, ctx),
        Command::Prune(args) => prune(args, ctx),
        Command::Pull(args) => pull::run(args, ctx),
        Command::Push(args) => push::run(args, ctx),
        Command::Rm(args) => rmi::run(args, ctx),
        Command::Save(args) => save::run(args, ctx),
        Command::Tag(args) => tag::run(args, ctx),
    }
}

/// What images can be left out by.
pub const FILTERS: &[&str] = &["label", "label!", "until"];

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
    let what = if args.all { "images without at least one container associated to them" } else { "dangling images" };
    if !args.force && !output::confirmed(&format!("WARNING! This will remove all {what}."))? {
        return Ok(0);
    }
    let freed = prune_images(args.all, &args.filter, ctx)?;
    output::print(&format!("Total reclaimed space: {}\n", human::exact_size(freed)))?;
    Ok(0)
}

/// Removes images that no container is made of, all of them or those without a tag, and prints what was removed. The
/// bytes that were freed.
pub fn prune_images(all: bool, filters: &[Filter], ctx: &Context) -> Result<u64, Box<dyn Failure>> {
    Filter::require(filters, FILTERS)?;
    let until = filters.iter().find(|filter| filter.name == "until").map(Filter::time).transpose()?;
    let in_use = users(ctx)?;
    let chosen = |image: &Image| {
        let labels = &image.config().config.labels;
        let old =
            || images::created(image).is_some_and(|at| until.is_none_or(|t| at.saturating_mul(1_000_000_000) < t));
        let fits = |filter: &Filter| match filter.name.as_str() {
            "label" => filter.label(labels),
            "label!" => !filter.label(labels),
            _ => old(),
        };
        (all || image.is_dangling()) && in_use(image).is_none() && filters.iter().all(fits)
    };
    let host = ctx.host()?;
    let (ids, before) = (rmi::ids(host)?, host.layer_bytes()?);
    let pruned = host.images()?.prune(&chosen)?;
    rmi::note(host, &pruned.removed, "", &ids);
    rmi::sweep(host)?;
    if !pruned.removed.is_empty() {
        let lines = pruned.removed.iter().map(|one| rmi::line(one, ["untagged", "deleted"]));
        output::print(&format!("Deleted Images:\n{}\n", lines.collect::<String>()))?;
    }
    Ok(pruned.freed + before.saturating_sub(host.layer_bytes()?))
}
