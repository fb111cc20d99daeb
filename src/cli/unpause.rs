//! `wherry unpause`: containers whose processes stand still, and go on.

use super::{Context, Outcome, for_each, output};

/// Unpause all processes within one or more containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Unpauses each container and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        containers.unpause(&containers.find(name)?)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
