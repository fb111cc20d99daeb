//! `wherry save`: images into a tar archive.

use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::path::{Path, PathBuf};

use super::progress::{Stream, view};
use super::pull::asynchronous;
use super::{Context, Outcome};
use crate::archive;
use crate::error::{Failure, Kind};
use crate::oci::Platform;

/// How much is written at a time.
const BUFFER: usize = 1 << 20;

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The archive is an OCI image layout and a Docker archive at once: docker, podman, skopeo and others load it.

Examples:
  wherry save -o images.tar alpine:3.20 busybox
  wherry save alpine | ssh host wherry load"
)]
pub struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only these platforms of the images, such as linux/arm64 or wasi/wasm
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Where an archive cannot go.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("cowardly refusing to save to a terminal. Use the -o flag or redirect")]
    Terminal,
    #[error("cannot {intent} {path:?}")]
    File { intent: &'static str, path: PathBuf, source: std::io::Error },
}

impl Failure for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Terminal => Kind::InvalidArgument,
            Self::File { source, .. } => Kind::of_io(source),
        }
    }
}

/// Writes the archive. A file appears when it is whole.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Refused::Terminal.into());
    }
    let host = ctx.host()?;
    let plan = archive::plan(host.images()?, host.content()?, &args.images, &args.platform)?;
    let missing = plan.missing();
    if !missing.is_empty() {
        let progress = view(Stream::Stderr, true);
        host.bring_back(&asynchronous()?, &missing, &*progress, plan.lease())?;
    }
    match &args.output {
        Some(path) => to_file(path, |file| Ok(plan.write(BufWriter::with_capacity(BUFFER, file))?))?,
        None => plan.write(BufWriter::with_capacity(BUFFER, std::io::stdout().lock()))?,
    }
    drop(plan);
    host.drop_again()?;
    for name in &args.images {
        if let Some(image) = host.images()?.get(name, None)? {
            host.note_image("save", image.id().as_str(), name);
        }
    }
    Ok(0)
}

/// Lets `write` make a file that appears at `path` when it is whole. What is no ordinary file there is written to.
pub fn to_file(path: &Path, write: impl FnOnce(&File) -> Result<(), Box<dyn Failure>>) -> Result<(), Box<dyn Failure>> {
    let failed = |intent| move |source| Refused::File { intent, path: path.to_owned(), source };
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        return write(&File::options().write(true).open(path).map_err(failed("open"))?);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let file = File::options().write(true).create_new(true).open(&temporary).map_err(failed("create"))?;
    let written = write(&file).and_then(|()| {
        file.sync_all().map_err(failed("write"))?;
        Ok(std::fs::rename(&temporary, path).map_err(failed("put in place"))?)
    });
    if written.is_err() {
        // The failure is told already; what is left is named like what it is.
        std::fs::remove_file(&temporary).ok();
    }
    written
}
