//! `wherry commit`: an image of what a container changed.

use clap::ArgAction;

use super::{Context, Outcome, output, tag};
use crate::host::make::Making;

/// Create a new image from a container's changes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Author (e.g., "Ada Lovelace <ada@example.org>")
    #[arg(short, long, default_value = "", hide_default_value = true)]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long)]
    message: Option<String>,
    /// Pause container during commit
    #[arg(short, long, action = ArgAction::Set, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true)]
    pause: bool,
    /// A name or an id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Makes the image and prints its id.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let reference = args.name.as_deref().map(tag::target).transpose()?;
    let making = Making { reference, author: args.author, message: args.message, changes: args.change };
    let host = ctx.host()?;
    let container = host.containers()?.find(&args.container)?;
    let id = host.commit(&container, args.pause, &making)?;
    output::print(&format!("{id}\n"))?;
    Ok(0)
}
