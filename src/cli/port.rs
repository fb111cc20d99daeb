//! `wherry port`: what of the host leads to a container's ports.

use super::publish::address;
use super::{Context, Outcome, output};
use crate::error::{Failure, Kind};

/// List port mappings or a specific mapping for the container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its name or id
    container: String,
    /// A port of the container's, as 80 or 80/tcp
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Nothing leads to it.
#[derive(Debug, thiserror::Error)]
#[error("no public port '{port}' published for {container}")]
struct NotPublished {
    port: String,
    container: String,
}

impl Failure for NotPublished {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// Prints a line for each port and each address that leads to it.
pub fn run(args: Args, context: &Context) -> Outcome {
    let container = context.host()?.containers()?.find(&args.container)?;
    let ports = container.ports();
    let text = match args.port {
        None => {
            let all = ports.iter().flat_map(|(port, bindings)| bindings.iter().map(move |binding| (port, binding)));
            all.map(|(port, binding)| format!("{port} -> {}\n", address(binding))).collect::<String>()
        }
        Some(port) => {
            let port = if port.contains('/') { port } else { format!("{port}/tcp") };
            let bindings = ports.get(&port).filter(|bindings| !bindings.is_empty());
            let none = || NotPublished { port, container: args.container.clone() };
            bindings.ok_or_else(none)?.iter().map(|binding| format!("{}\n", address(binding))).collect()
        }
    };
    output::print(&text)?;
    Ok(0)
}
