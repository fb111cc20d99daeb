//! `wherry completion`: the completion script of a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Context, Outcome, output};

/// Generate the completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  wherry completion bash > /etc/bash_completion.d/wherry")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: Args, _: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "wherry", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
