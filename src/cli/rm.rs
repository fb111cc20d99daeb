//! `wherry rm`: remove containers.

use super::{Context, Outcome, for_each, output};
use crate::container;

/// Remove one or more containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Force the removal of a running container
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Removes each container and prints its name. With force, one that does not exist is as good as removed.
pub fn run(args: Args, context: &Context) -> Outcome {
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        let container = match containers.find(name) {
            Err(container::Error::NotFound { .. }) if args.force => return Ok(()),
            found => found?,
        };
        containers.remove(&container, args.force)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
