//! `wherry stop`: ask containers to end, and make them if they do not.

use super::{Context, Outcome, for_each, output};
use crate::container::signal_number;

/// Stop one or more running containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing the container; -1 waits for ever [default: its --stop-timeout, or 10]
    #[arg(short, long, alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Stops each container and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    let signal = args.signal.as_deref().map(signal_number).transpose()?;
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        containers.stop(&containers.find(name)?, signal, args.timeout)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
