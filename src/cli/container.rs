//! `wherry container`: what is done with containers, under one word.

use super::filter::{Choice, Filter};
use super::{
    Context, Outcome, commit, create, exec, export, human, inspect, kill, logs, output, pause, port, ps, rename, rm,
    run, start, stats, stop, system, top, update, wait,
};
use crate::error::Failure;

/// Manage containers
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a new image from a container's changes
    Commit(commit::Args),
    /// Create a new container
    Create(create::Args),
    /// Execute a command in a running container, or look at a WebAssembly program
    Exec(exec::Args),
    /// Export a container's filesystem as a tar archive
    Export(export::Args),
    /// Display detailed information on one or more containers
    Inspect(inspect::OfContainers),
    /// Kill one or more running containers
    Kill(kill::Args),
    /// Fetch the logs of a container
    Logs(logs::Args),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Pause all processes within one or more containers
    Pause(pause::Args),
    /// List port mappings or a specific mapping for the container
    Port(port::Args),
    /// Remove all stopped containers
    Prune(Prune),
    /// Rename a container
    Rename(rename::Args),
    /// Restart one or more containers
    Restart(stop::Args),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Create and run a new container from an image, or run a WebAssembly file
    Run(run::Args),
    /// Start one or more stopped containers
    Start(start::Args),
    /// Display a live stream of container(s) resource usage statistics
    Stats(stats::Args),
    /// Stop one or more running containers
    Stop(stop::Args),
    /// Display the running processes of a container
    Top(top::Args),
    /// Unpause all processes within one or more containers
    Unpause(pause::Args),
    /// Update configuration of one or more containers
    Update(update::Args),
    /// Block until one or more containers stop, then print their exit codes
    Wait(wait::Args),
}

#[derive(Debug, clap::Args)]
struct Prune {
    /// Only some: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Does what the second word says.
pub fn run(args: Args, ctx: &Context) -> Result<u8, (u8, Box<dyn Failure>)> {
    let ordinary = |outcome: Outcome| outcome.map_err(|failure| (1, failure));
    match args.command {
        Command::Exec(args) => exec::run(args, ctx),
        Command::Run(args) => run::run(args, ctx),
        Command::Start(args) => start::run(args, ctx),
        Command::Commit(args) => ordinary(commit::run(args, ctx)),
        Command::Create(args) => ordinary(create::run(args, ctx)),
        Command::Export(args) => ordinary(export::run(args, ctx)),
        Command::Inspect(args) => ordinary(inspect::containers(args, ctx)),
        Command::Kill(args) => ordinary(kill::run(args, ctx)),
        Command::Logs(args) => ordinary(logs::run(args, ctx)),
        Command::Ls(args) => ordinary(ps::run(args, ctx)),
        Command::Pause(args) => ordinary(pause::run(args, ctx)),
        Command::Port(args) => ordinary(port::run(args, ctx)),
        Command::Prune(args) => ordinary(prune(args, ctx)),
        Command::Rename(args) => ordinary(rename::run(args, ctx)),
        Command::Restart(args) => ordinary(stop::restart(args, ctx)),
        Command::Rm(args) => ordinary(rm::run(args, ctx)),
        Command::Stats(args) => ordinary(stats::run(args, ctx)),
        Command::Stop(args) => ordinary(stop::run(args, ctx)),
        Command::Top(args) => ordinary(top::run(args, ctx)),
        Command::Unpause(args) => ordinary(pause::unpause(args, ctx)),
        Command::Update(args) => ordinary(update::run(args, ctx)),
        Command::Wait(args) => ordinary(wait::run(args, ctx)),
    }
}

fn prune(args: Prune, ctx: &Context) -> Outcome {
    let choice = Choice::new(&args.filter)?;
    if !args.force && !output::confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let freed = system::prune_containers(&choice, ctx)?;
    output::print(&format!("Total reclaimed space: {}\n", human::exact_size(freed)))?;
    Ok(0)
}
