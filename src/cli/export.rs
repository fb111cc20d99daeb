//! `wherry export`: a container's files as one archive.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use super::save::to_file;
use super::{Context, Outcome};
use crate::error::{Failure, Kind};

/// How much is written at a time.
const BUFFER: usize = 1 << 20;

/// Export a container's filesystem as a tar archive
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A name or an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Standard output is for reading.
#[derive(Debug, thiserror::Error)]
#[error("cowardly refusing to save to a terminal. Use the -o flag or redirect")]
struct Terminal;

impl Failure for Terminal {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Writes the archive. A file appears when it is whole.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Terminal.into());
    }
    let containers = ctx.host()?.containers()?;
    let container = containers.find(&args.container)?;
    let write = |out: &mut dyn Write| containers.export(&container, out);
    match &args.output {
        Some(path) => to_file(path, |file: &File| Ok(write(&mut BufWriter::with_capacity(BUFFER, file))?))?,
        None => write(&mut BufWriter::with_capacity(BUFFER, std::io::stdout().lock()))?,
    }
    Ok(0)
}
