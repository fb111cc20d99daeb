//! `wherry rmi`: remove images.

use std::collections::HashSet;

use super::images::users;
use super::{Context, Outcome, output, tell};
use crate::error::Failure;
use crate::host::Host;
use crate::image::Removed;
use crate::oci::{Digest, Platform};

/// Remove one or more images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove even if a stopped container uses it, and all its names when given an id
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents (accepted for compatibility: images are not made of images here)
    #[arg(long)]
    no_prune: bool,
    /// Remove only what is for this platform, of a name that holds several; can be given more than once
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Removes each image in turn. What cannot be removed is told of, and the rest is still done.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let in_use = users(ctx)?;
    let ids = ids(ctx.host()?)?;
    let mut status = 0;
    for name in &args.images {
        let id = ctx.host()?.images()?.get(name, args.platform.first())?.map(|image| image.id().to_string());
        match ctx.host()?.images()?.remove(name, &args.platform, args.force, &in_use) {
            Ok(removed) => {
                note(ctx.host()?, &removed, &id.unwrap_or_default(), &ids);
                output::print(&removed.iter().map(|one| line(one, ["Untagged", "Deleted"])).collect::<String>())?;
            }
            // With force, one that does not exist is as good as removed.
            Err(error) if args.force && error.kind() == crate::error::Kind::NotFound => tell(&error),
            Err(error) => {
                tell(&error);
                status = 1;
            }
        }
    }
    sweep(ctx.host()?)?;
    Ok(status)
}

/// The ids of all images.
pub fn ids(host: &Host) -> Result<HashSet<Digest>, Box<dyn Failure>> {
    Ok(host.images()?.list()?.iter().map(|image| image.id().clone()).collect())
}

/// Removes what the images that are gone needed: layers and compiled code.
pub fn sweep(host: &Host) -> Result<(), Box<dyn Failure>> {
    host.sweep_layers()?;
    Ok(host.sweep_code()?)
}

/// Writes down what was removed; of what was deleted, the images among it.
pub fn note(host: &Host, removed: &[Removed], id: &str, ids: &HashSet<Digest>) {
    for one in removed {
        match one {
            Removed::Untagged(name) => host.note_image("untag", id, name),
            Removed::Deleted(digest) if ids.contains(digest) => {
                host.note_image("delete", &digest.to_string(), &digest.to_string());
            }
            Removed::Deleted(_) => {}
        }
    }
}

/// What was done, in the two words for taking a name away and for deleting.
pub fn line(removed: &Removed, [untagged, deleted]: [&str; 2]) -> String {
    match removed {
        Removed::Untagged(name) => format!("{untagged}: {name}\n"),
        Removed::Deleted(digest) => format!("{deleted}: {digest}\n"),
    }
}
