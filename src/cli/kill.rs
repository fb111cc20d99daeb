//! `wherry kill`: send a signal to containers.

use super::{Context, Outcome, for_each, output};
use crate::container::signal_number;

/// Kill one or more running containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Signal to send to the container
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Signals each container and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    let signal = signal_number(&args.signal)?;
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        containers.kill(&containers.find(name)?, signal)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
