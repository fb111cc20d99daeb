//! Words for people: the command line, one file a command.
//!
//! A command parses what was typed, calls rooms, and prints. It decides nothing that another door would
//! have to decide too. An error of any room ends up here as one line with its chain of causes, a hint
//! where there is one, and an exit status: 125 for a failure of ours, 126 and 127 for a program that
//! cannot be run or found, 1 for a command other than run that failed, as with Docker.

mod check;
mod completion;
mod filter;
mod gc;
mod grants;
mod history;
mod human;
mod image;
mod images;
mod import;
mod info;
mod load;
mod login;
mod logout;
mod manifest;
mod output;
mod progress;
mod publish;
mod pull;
mod push;
mod rmi;
mod run;
mod save;
mod search;
mod system;
mod tag;
mod template;
mod trust;
mod version;
mod when;

#[cfg(target_os = "linux")]
mod commit;
#[cfg(target_os = "linux")]
mod container;
#[cfg(target_os = "linux")]
mod create;
#[cfg(target_os = "linux")]
mod events;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod export;
#[cfg(target_os = "linux")]
mod inspect;
#[cfg(target_os = "linux")]
mod isolation;
#[cfg(target_os = "linux")]
mod kill;
#[cfg(target_os = "linux")]
mod logs;
#[cfg(target_os = "linux")]
mod naming;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod pause;
#[cfg(target_os = "linux")]
mod port;
#[cfg(target_os = "linux")]
mod ps;
#[cfg(target_os = "linux")]
mod rename;
#[cfg(target_os = "linux")]
mod resources;
#[cfg(target_os = "linux")]
mod rm;
#[cfg(target_os = "linux")]
mod start;
#[cfg(target_os = "linux")]
mod stats;
#[cfg(target_os = "linux")]
mod stop;
#[cfg(target_os = "linux")]
mod storage;
#[cfg(target_os = "linux")]
mod top;
#[cfg(target_os = "linux")]
mod update;
#[cfg(target_os = "linux")]
mod wait;
use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Environment, Settings};
use crate::error::{Failure, chain, tolerate};
use crate::host::{self, Host};

/// What a command comes to: an exit status, or a failure.
pub type Outcome = Result<u8, Box<dyn Failure>>;

impl<E: Failure> From<E> for Box<dyn Failure> {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}

/// A portable container engine: Linux and WebAssembly images behind one command line
#[derive(Debug, Parser)]
#[command(name = "wherry", version, disable_help_subcommand = true, after_help = EXAMPLES)]
struct Cli {
    /// The directory of images, containers and layers [env: WHERRY_ROOT]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The directory of what a reboot may forget [env: WHERRY_RUN_ROOT]
    #[arg(long, global = true, value_name = "DIR")]
    run_root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  wherry run --rm -it alpine sh
  wherry run --rm --platform wasi/wasm ghcr.io/me/app:1
  wherry run --rm -v ./data:/data ./app.wasm
  wherry run -d --name web me/web && wherry logs -f web

runc's command line for engines, with OCI bundles: wherry oci --help";

#[derive(Debug, Subcommand)]
enum Command {
    /// Create and run a new container from an image, or run a WebAssembly file
    Run(run::Args),
    /// Create a new container
    #[cfg(target_os = "linux")]
    Create(create::Args),
    /// Start one or more stopped containers
    #[cfg(target_os = "linux")]
    Start(start::Args),
    /// Stop one or more running containers
    #[cfg(target_os = "linux")]
    Stop(stop::Args),
    /// Restart one or more containers
    #[cfg(target_os = "linux")]
    Restart(stop::Args),
    /// Kill one or more running containers
    #[cfg(target_os = "linux")]
    Kill(kill::Args),
    /// Pause all processes within one or more containers
    #[cfg(target_os = "linux")]
    Pause(pause::Args),
    /// Unpause all processes within one or more containers
    #[cfg(target_os = "linux")]
    Unpause(pause::Args),
    /// Update configuration of one or more containers
    #[cfg(target_os = "linux")]
    Update(update::Args),
    /// Rename a container
    #[cfg(target_os = "linux")]
    Rename(rename::Args),
    /// List port mappings or a specific mapping for the container
    #[cfg(target_os = "linux")]
    Port(port::Args),
    /// Manage containers
    #[cfg(target_os = "linux")]
    Container(container::Args),
    /// Block until one or more containers stop, then print their exit codes
    #[cfg(target_os = "linux")]
    Wait(wait::Args),
    /// Remove one or more containers
    #[cfg(target_os = "linux")]
    Rm(rm::Args),
    /// List containers
    #[cfg(target_os = "linux")]
    Ps(ps::Args),
    /// Execute a command in a running container, or look at a WebAssembly program
    #[cfg(target_os = "linux")]
    Exec(exec::Args),
    /// Display the running processes of a container
    #[cfg(target_os = "linux")]
    Top(top::Args),
    /// Display a live stream of container(s) resource usage statistics
    #[cfg(target_os = "linux")]
    Stats(stats::Args),
    /// Get events as they happen
    #[cfg(target_os = "linux")]
    Events(events::Args),
    /// Fetch the logs of a container
    #[cfg(target_os = "linux")]
    Logs(logs::Args),
    /// Return low-level information on containers and images
    #[cfg(target_os = "linux")]
    Inspect(inspect::Args),
    /// Download an image from a registry
    Pull(pull::Args),
    /// Upload a WebAssembly program or an image to a registry
    Push(push::Args),
    /// List images
    Images(images::Args),
    /// Remove one or more images
    Rmi(rmi::Args),
    /// Create a new image from a container's changes
    #[cfg(target_os = "linux")]
    Commit(commit::Args),
    /// Export a container's filesystem as a tar archive
    #[cfg(target_os = "linux")]
    Export(export::Args),
    /// Show the history of an image
    History(history::Args),
    /// Manage images
    Image(image::Args),
    /// Import the contents from a tarball to create a filesystem image
    Import(import::Args),
    /// Load an image from a tar archive or STDIN
    Load(load::Args),
    /// Authenticate to a registry
    Login(login::Args),
    /// Log out from a registry
    Logout(logout::Args),
    /// Manage image manifests and manifest lists
    Manifest(manifest::Args),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(save::Args),
    /// Search a registry for images
    Search(search::Args),
    /// Manage wherry's disk and data
    System(system::Args),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(tag::Args),
    /// Show the signature policy in force, and verify images
    Trust(trust::Args),
    /// Display system-wide information
    Info(info::Args),
    /// Show the version information
    Version(version::Args),
    /// Generate the completion script for a shell
    Completion(completion::Args),
}

/// What a command works with.
pub struct Context {
    root: Option<PathBuf>,
    run_root: Option<PathBuf>,
    host: OnceCell<Host>,
}

impl Context {
    /// The rooms of this machine, opened when first asked for.
    pub fn host(&self) -> Result<&Host, host::Error> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let privileged = privileged();
        let environment = Environment { variable: |name| std::env::var_os(name), privileged };
        let settings = Settings::new(self.root.clone(), self.run_root.clone(), &environment);
        let host = Host::open(settings, privileged)?;
        Ok(self.host.get_or_init(|| host))
    }

    /// Tells what registries have said besides their answers.
    fn pass_on_notices(&self) {
        for words in self.host.get().map(Host::notices).unwrap_or_default() {
            // Without a standard error there is nobody to tell.
            tolerate(writeln!(std::io::stderr(), "wherry: {}", output::printable(&words)));
        }
    }
}

#[cfg(unix)]
fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn privileged() -> bool {
    false
}

/// Does what the arguments say; the exit status.
pub fn main(arguments: impl Iterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let context = Context { root: cli.root, run_root: cli.run_root, host: OnceCell::new() };
    let outcome = dispatch(cli.command, &context);
    context.pass_on_notices();
    match outcome {
        Ok(status) => status,
        Err((status, failure)) => {
            tell(&*failure);
            status
        }
    }
}

fn dispatch(command: Command, context: &Context) -> Result<u8, (u8, Box<dyn Failure>)> {
    let ordinary = |outcome: Outcome| outcome.map_err(|failure| (1, failure));
    if !matches!(command, Command::Version(_) | Command::Completion(_)) {
        // Before there are threads: without root this enters a user namespace.
        context.host().map_err(|error| (125, error.into()))?;
    }
    match command {
        Command::Run(args) => run::run(args, context),
        #[cfg(target_os = "linux")]
        Command::Create(args) => ordinary(create::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Start(args) => start::run(args, context),
        #[cfg(target_os = "linux")]
        Command::Stop(args) => ordinary(stop::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Restart(args) => ordinary(stop::restart(args, context)),
        #[cfg(target_os = "linux")]
        Command::Kill(args) => ordinary(kill::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Pause(args) => ordinary(pause::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Unpause(args) => ordinary(pause::unpause(args, context)),
        #[cfg(target_os = "linux")]
        Command::Update(args) => ordinary(update::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Rename(args) => ordinary(rename::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Port(args) => ordinary(port::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Container(args) => container::run(args, context),
        #[cfg(target_os = "linux")]
        Command::Wait(args) => ordinary(wait::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Rm(args) => ordinary(rm::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Ps(args) => ordinary(ps::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Exec(args) => exec::run(args, context),
        #[cfg(target_os = "linux")]
        Command::Top(args) => ordinary(top::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Stats(args) => ordinary(stats::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Events(args) => ordinary(events::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Logs(args) => ordinary(logs::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Inspect(args) => ordinary(inspect::run(args, context)),
        Command::Pull(args) => ordinary(pull::run(args, context)),
        Command::Push(args) => ordinary(push::run(args, context)),
        Command::Images(args) => ordinary(images::run(args, context)),
        Command::Rmi(args) => ordinary(rmi::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Commit(args) => ordinary(commit::run(args, context)),
        #[cfg(target_os = "linux")]
        Command::Export(args) => ordinary(export::run(args, context)),
        Command::History(args) => ordinary(history::run(args, context)),
        Command::Image(args) => ordinary(image::run(args, context)),
        Command::Import(args) => ordinary(import::run(args, context)),
        Command::Load(args) => ordinary(load::run(args, context)),
        Command::Login(args) => ordinary(login::run(args, context)),
        Command::Logout(args) => ordinary(logout::run(args, context)),
        Command::Manifest(args) => ordinary(manifest::run(args, context)),
        Command::Save(args) => ordinary(save::run(args, context)),
        Command::Search(args) => ordinary(search::run(args, context)),
        Command::System(args) => ordinary(system::run(args, context)),
        Command::Tag(args) => ordinary(tag::run(args, context)),
        Command::Trust(args) => ordinary(trust::run(args, context)),
        Command::Info(args) => ordinary(info::run(args, context)),
        Command::Version(args) => ordinary(version::run(args, context)),
        Command::Completion(args) => ordinary(completion::run(args, context)),
    }
}

/// Prints the help that was asked for, or what is wrong with the arguments.
fn usage(error: &clap::Error) -> u8 {
    // A closed output is no reason to fail differently.
    tolerate(error.print());
    if error.use_stderr() { 125 } else { 0 }
}

/// Prints a failure: one line with its causes, each said once, and the hint.
fn tell(failure: &dyn Failure) {
    let text = chain(failure);
    // It may repeat what a stranger wrote, too.
    let hint = failure.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    // Without a standard error there is nobody to tell.
    tolerate(std::io::stderr().write_all(output::printable(&format!("wherry: {text}\n{hint}")).as_bytes()));
}

/// The size of the user's terminal, if there is one.
#[cfg(target_os = "linux")]
fn terminal_size() -> Option<crate::sys::pty::Size> {
    use std::io::{IsTerminal, stdout};
    stdout().is_terminal().then(|| crate::sys::pty::size(stdout()).ok()).flatten()
}

/// Runs `each` for every name, tells of those that failed, and fails in the end if one did.
fn for_each(names: &[String], mut each: impl FnMut(&str) -> Result<(), Box<dyn Failure>>) -> Outcome {
    let mut failed = 0;
    for name in names {
        if let Err(failure) = each(name) {
            tell(&*failure);
            failed = 1;
        }
    }
    Ok(failed)
}
