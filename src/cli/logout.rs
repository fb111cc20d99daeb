//! `wherry logout`: a registry's login is forgotten.

use super::{Context, Outcome, login, output};

/// Log out from a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry; Docker Hub, if none is named
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Forgets it, and says so in Docker's words.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let registry = login::registry(args.server.as_deref())?;
    let shown = if registry == "docker.io" { "https://index.docker.io/v1/" } else { &registry };
    let known = ctx.host()?.credentials().forget(&registry)?;
    let words = if known { "Removing login credentials for" } else { "Not logged in to" };
    output::print(&format!("{words} {shown}\n"))?;
    Ok(0)
}
