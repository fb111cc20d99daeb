//! `wherry start`: start containers that exist, in the background or attached.

use super::{Context, output, terminal_size};
use crate::container::{Container, StartOptions, Store};
use crate::error::Failure;
use crate::task::{self, Attachment, End, relay};

/// Start one or more stopped containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Attach STDOUT and STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach the container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Starts each container. Attached, it is one, whose exit status this one's is.
pub fn run(args: Args, context: &Context) -> Result<u8, (u8, Box<dyn Failure>)> {
    let attached = args.attach || args.interactive;
    match &args.containers[..] {
        [name] if attached => start_attached(name, args.interactive, context),
        _ if attached => Err((1, OnlyOne.into())),
        names => super::for_each(names, |name| start(name, context)).map_err(|failure| (1, failure)),
    }
}

/// Several streams cannot be shown at once.
#[derive(Debug, thiserror::Error)]
#[error("you cannot start and attach multiple containers at once")]
struct OnlyOne;

impl Failure for OnlyOne {
    fn kind(&self) -> crate::error::Kind {
        crate::error::Kind::InvalidArgument
    }
}

fn start(name: &str, context: &Context) -> Result<(), Box<dyn Failure>> {
    let containers = context.host()?.containers()?;
    let container = containers.find(name)?;
    if !matches!(container.status, crate::container::Status::Running { paused: false, .. }) {
        drop(containers.start(&container, StartOptions::default())?);
    }
    Ok(output::print(&format!("{name}\n"))?)
}

fn start_attached(name: &str, stdin: bool, context: &Context) -> Result<u8, (u8, Box<dyn Failure>)> {
    let open = || -> Result<(&Store, Container), Box<dyn Failure>> {
        let containers = context.host()?.containers()?;
        Ok((containers, containers.find(name)?))
    };
    let (containers, container) = open().map_err(|failure| (1, failure))?;
    let config = &container.record.config;
    let options = StartOptions { attached: true, size: terminal_size() };
    let launched = containers.start(&container, options).map_err(|error| match &error {
        crate::container::Error::Start { source: task::Error::Start(failure), .. } => (failure.status, error.into()),
        _ => (1, error.into()),
    });
    let attachment = Attachment { stdin: stdin && config.open_stdin, terminal: config.tty };
    match relay(&mut launched?, attachment).map_err(|e| (1, e.into()))? {
        End::Exited(status) => Ok(status),
        End::Detached => Ok(0),
        End::Impatient => Ok(130),
    }
}
