//! `wherry rmi`: remove images.

use super::{Context, Outcome, output};
#[cfg(target_os = "linux")]
use crate::container::{Container, Status};
use crate::image::{Image, Removed, Use};

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
    for name in &args.images {
        match ctx.host()?.images()?.remove(name, args.force, &in_use) {
            Ok(removed) => output::print(&removed.iter().map(line).collect::<String>())?,
            Err(error) => failed = Some(error),
        }
    }
    ctx.host()?.sweep_layers()?;
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

fn line(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {name}\n"),
        Removed::Deleted(digest) => format!("Deleted: {digest}\n"),
    }
}
