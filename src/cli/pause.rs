//! `wherry pause` and `unpause`: containers whose processes stand still, and go on.

use super::{Context, Outcome, for_each, output};
use crate::container::{Container, Error, Store};

/// Which containers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Pauses each container and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    each(args, context, Store::pause)
}

/// Unpauses each container and prints its name.
pub fn unpause(args: Args, context: &Context) -> Outcome {
    each(args, context, Store::unpause)
}

fn each(args: Args, context: &Context, verb: fn(&Store, &Container) -> Result<(), Error>) -> Outcome {
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        verb(containers, &containers.find(name)?)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
