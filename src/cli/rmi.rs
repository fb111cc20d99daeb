//! `wherry rmi`: remove images.

use std::collections::HashSet;

use super::{Context, Outcome, output};
#[cfg(target_os = "linux")]
use crate::container::{Container, Status};
use crate::host::Host;
use crate::image::{Image, Removed, Use};
use crate::oci::Digest;

/// Remove one or more images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove even if a stopped container uses it, and all its names when given an id
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Removes each image in turn. What cannot be removed is told of, and the rest is still done.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let mut failed = None;
    #[cfg(target_os = "linux")]
    let containers = ctx.host()?.containers()?.list()?;
    #[cfg(target_os = "linux")]
    let in_use = in_use(&containers);
    #[cfg(not(target_os = "linux"))]
    let in_use = |_: &Image| None::<Use>;
    let ids: HashSet<Digest> = ctx.host()?.images()?.list()?.iter().map(|image| image.id().clone()).collect();
    for name in &args.images {
        let id = ctx.host()?.images()?.get(name, None)?.map(|image| image.id().to_string());
        match ctx.host()?.images()?.remove(name, args.force, &in_use) {
            Ok(removed) => {
                note(ctx.host()?, &removed, &id.unwrap_or_default(), &ids);
                output::print(&removed.iter().map(line).collect::<String>())?;
            }
            Err(error) => failed = Some(error),
        }
    }
    ctx.host()?.sweep_layers()?;
    ctx.host()?.sweep_code()?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}

/// A container that is made of the image, a running one first.
#[cfg(target_os = "linux")]
fn in_use(containers: &[Container]) -> impl Fn(&Image) -> Option<Use> {
    let is_running = |container: &Container| matches!(container.status, Status::Running { .. });
    move |image| {
        let users = containers.iter().filter(|c| c.record.image_id == *image.id());
        let user = users.max_by_key(|c| is_running(c))?;
        Some(Use { container: user.record.short_id().to_owned(), running: is_running(user) })
    }
}

/// Writes down what was removed; of what was deleted, the images among it.
fn note(host: &Host, removed: &[Removed], id: &str, ids: &HashSet<Digest>) {
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

fn line(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {name}\n"),
        Removed::Deleted(digest) => format!("Deleted: {digest}\n"),
    }
}
