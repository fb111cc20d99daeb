//! `wherry stop` and `restart`: ask containers to end, and make them if they do not; and start them again.

use super::{Context, Outcome, for_each, output};
use crate::container::{Container, Error, Store, signal_number};

/// Which containers are to end, and how.
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
    each(args, context, Store::stop)
}

/// Restarts each container, or starts it if it does not run, and prints its name.
pub fn restart(args: Args, context: &Context) -> Outcome {
    each(args, context, Store::restart)
}

type Verb = fn(&Store, &Container, Option<i32>, Option<i64>) -> Result<(), Error>;

fn each(args: Args, context: &Context, verb: Verb) -> Outcome {
    let signal = args.signal.as_deref().map(signal_number).transpose()?;
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        verb(containers, &containers.find(name)?, signal, args.timeout)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
