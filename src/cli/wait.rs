//! `wherry wait`: wait for containers to end.

use super::{Context, Outcome, for_each, output};

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Waits for each container in turn and prints its exit status.
pub fn run(args: Args, context: &Context) -> Outcome {
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        let status = containers.wait(&containers.find(name)?)?;
        Ok(output::print(&format!("{status}\n"))?)
    })
}
