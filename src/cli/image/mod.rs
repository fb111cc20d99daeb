//! `wherry image`: what is done with images, under one word.

pub mod inspect;

use super::filter::{Choice, Filter, Pruning};
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
    Prune(Pruning),
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

fn prune(args: Pruning, ctx: &Context) -> Outcome {
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
    let (choice, in_use) = (Choice::new(filters)?, users(ctx)?);
    let chosen = |image: &Image| {
        let made = images::created(image).map(|at| at.saturating_mul(1_000_000_000));
        (all || image.is_dangling()) && in_use(image).is_none() && choice.has(&image.config().config.labels, made)
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
