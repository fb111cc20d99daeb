//! `wherry update`: other limits for containers, at once.

use super::resources::Resources;
use super::{Context, Outcome, for_each, output};
use crate::error::{Failure, Kind};

/// Update configuration of one or more containers
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    resources: Resources,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// There is nothing to be done.
#[derive(Debug, thiserror::Error)]
#[error("you must provide one or more flags when using this command")]
struct Nothing;

impl Failure for Nothing {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Changes each container and prints its name.
pub fn run(args: Args, context: &Context) -> Outcome {
    if args.resources == Resources::default() {
        return Err(Nothing.into());
    }
    for_each(&args.containers, |name| {
        let containers = context.host()?.containers()?;
        let change = |given: &mut _| args.resources.apply(given).map_err(Box::from);
        containers.update::<Box<dyn Failure>>(&containers.find(name)?, change)?;
        Ok(output::print(&format!("{name}\n"))?)
    })
}
