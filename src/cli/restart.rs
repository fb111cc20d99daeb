//! `wherry restart`: containers end and start again.

use super::{Context, Outcome, for_each, output};
use crate::container::{StartOptions, signal_number};

/// Restart one or more containers
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

/// Restarts each container, or starts it if it does not run, and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    let signal = args.signal.as_deref().map(signal_number).transpose()?;
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        let container = containers.find(name)?;
        containers.stop(&container, signal, args.timeout)?;
        // Its status is another one now.
        drop(containers.start(&containers.find(&container.record.id)?, StartOptions::default())?);
        containers.note_restart(&container);
        Ok(output::print(&format!("{name}\n"))?)
    })
}
