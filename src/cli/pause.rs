//! `wherry pause`: containers whose processes stand still, and go on.

use super::{Context, Outcome, for_each, output};

/// Pause all processes within one or more containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Pauses each container and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        containers.pause(&containers.find(name)?)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
