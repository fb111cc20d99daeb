//! `wherry import`: an image of one layer, which is an archive of files.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use super::pull::asynchronous;
use super::{Context, Outcome, output, tag};
use crate::error::{Failure, Kind};
use crate::host::make::Making;
use crate::oci::Platform;
use crate::registry::Download;
use crate::snapshot::MAX_OUTPUT;

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
    /// A file, an address of one (http, https), or - for STDIN
    #[arg(value_name = "FILE|URL|-")]
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
    #[error("{address} has more than {MAX_OUTPUT} bytes, the most that a layer may have")]
    Size { address: String },
    #[error("cannot open {path:?}")]
    File { path: PathBuf, source: std::io::Error },
}

impl Failure for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Terminal => Kind::InvalidArgument,
            Self::Size { .. } => Kind::ResourceExhausted,
            Self::File { source, .. } => Kind::of_io(source),
        }
    }
}

/// Makes the image and prints its id.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let reference = args.name.as_deref().map(tag::target).transpose()?;
    let (input, from) = input(&args.file)?;
    let making = Making { reference, author: String::new(), message: args.message, changes: args.change };
    let platform = args.platform.unwrap_or_else(Platform::host);
    let id = ctx.host()?.import(input, &from, &platform, &making)?;
    output::print(&format!("{id}\n"))?;
    Ok(0)
}

/// What is read, and what it is called.
fn input(file: &str) -> Result<(Box<dyn Read + Send>, String), Box<dyn Failure>> {
    if file == "-" {
        return match std::io::stdin().is_terminal() {
            true => Err(Box::new(Refused::Terminal)),
            false => Ok((Box::new(std::io::stdin()), file.to_owned())),
        };
    }
    if is_url(file) {
        let runtime = asynchronous()?;
        let download = runtime.block_on(Download::open(file))?;
        let address = download.address.clone();
        if download.length.is_some_and(|length| length > MAX_OUTPUT) {
            return Err(Box::new(Refused::Size { address }));
        }
        output::print(&format!("Downloading from {address}\n"))?;
        return Ok((Box::new(Web { runtime, download, bytes: Vec::new(), at: 0 }), address));
    }
    let opened = std::fs::File::open(file);
    let opened = opened.map_err(|source| Refused::File { path: file.into(), source })?;
    Ok((Box::new(opened), file.to_owned()))
}

/// As Docker tells an address from a file.
fn is_url(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme)))
}

/// A file that is read while it comes.
struct Web {
    runtime: tokio::runtime::Runtime,
    download: Download,
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Web {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.bytes.len() {
            match self.runtime.block_on(self.download.next()).transpose()? {
                Some(bytes) => (self.bytes, self.at) = (bytes, 0),
                None => return Ok(0),
            }
        }
        let some = buffer.len().min(self.bytes.len() - self.at);
        buffer[..some].copy_from_slice(&self.bytes[self.at..][..some]);
        self.at += some;
        Ok(some)
    }
}
