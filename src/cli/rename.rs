//! `wherry rename`: another name for a container.

use super::{Context, Outcome};

/// Rename a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its name or id
    container: String,
    /// What it is called from now on
    new_name: String,
}

/// Renames the container.
pub fn run(args: Args, context: &Context) -> Outcome {
    let containers = context.host()?.containers()?;
    containers.rename(&containers.find(&args.container)?, &args.new_name)?;
    Ok(0)
}
