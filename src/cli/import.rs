//! `wherry import`: an image of one layer, which is an archive of files.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use super::{Context, Outcome, output, tag};
use crate::error::{Failure, Kind};
use crate::host::make::Making;
use crate::oci::Platform;

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, clap::Args)]
#[command(after_help = "The archive may be compressed by gzip or zstd. Example:
  wherry export web | wherry import -c 'CMD [\"/bin/server\"]' - web:flat")]
pub struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long)]
    message: Option<String>,
    /// Set platform of the image: os/arch[/variant]
    #[arg(long)]
    platform: Option<Platform>,
    /// A file, or - for STDIN
    #[arg(value_name = "FILE|-")]
    file: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// What cannot be imported from.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("requested import from stdin, but stdin is a terminal")]
    Terminal,
    #[error("importing from a URL is not offered")]
    Url { url: String },
    #[error("cannot open {path:?}")]
    File { path: PathBuf, source: std::io::Error },
}

impl Failure for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Terminal => Kind::InvalidArgument,
            Self::Url { .. } => Kind::Unsupported,
            Self::File { source, .. } => Kind::of_io(source),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Url { url } => Some(format!("curl -fL {url} | wherry import -")),
            _ => None,
        }
    }
}

/// Makes the image and prints its id.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let reference = args.name.as_deref().map(tag::target).transpose()?;
    let input = input(&args.file)?;
    let making = Making { reference, author: String::new(), message: args.message, changes: args.change };
    let platform = args.platform.unwrap_or_else(Platform::host);
    let id = ctx.host()?.import(input, &args.file, &platform, &making)?;
    output::print(&format!("{id}\n"))?;
    Ok(0)
}

fn input(file: &str) -> Result<Box<dyn Read + Send>, Refused> {
    if file == "-" {
        return if std::io::stdin().is_terminal() { Err(Refused::Terminal) } else { Ok(Box::new(std::io::stdin())) };
    }
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(Refused::Url { url: file.to_owned() });
    }
    let opened = std::fs::File::open(file);
    Ok(Box::new(opened.map_err(|source| Refused::File { path: file.into(), source })?))
}
