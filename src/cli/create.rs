//! `wherry create`: make a container and do not start it.

use super::options::{self, Options};
use super::{Context, Outcome, output};

/// Create a new container
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// The image, and after it the command and its arguments, in place of the image's
    #[arg(value_name = "IMAGE [COMMAND] [ARG...]", required = true, num_args = 1.., trailing_var_arg = true,
          allow_hyphen_values = true)]
    image: Vec<String>,
}

/// Creates the container and prints its id.
pub fn run(args: Args, context: &Context) -> Outcome {
    let container = options::create(&args.options, &args.image, context, None)?;
    output::print(&format!("{}\n", container.record.id))?;
    Ok(0)
}
