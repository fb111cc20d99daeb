//! `wherry stop`: ask containers to end, and make them if they do not.

use std::time::Duration;

use super::{Context, Outcome, for_each, output};
use crate::container::signal_number;

/// Stop one or more running containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing the container; -1 waits for ever
    #[arg(short = 't', long = "time", visible_alias = "timeout", default_value_t = 10, allow_negative_numbers = true)]
    time: i64,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Stops each container and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    let signal = args.signal.as_deref().map(signal_number).transpose()?;
    let grace = u64::try_from(args.time).ok().map(Duration::from_secs);
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        containers.stop(&containers.find(name)?, signal, grace)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
