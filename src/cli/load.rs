//! `wherry load`: images out of a tar archive.

use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;

use super::{Context, Outcome, output};
use crate::archive;
use crate::error::{Failure, Kind, tolerate};
use crate::host::Host;
use crate::image::Image;
use crate::oci::Platform;

/// Load an image from a tar archive or STDIN
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Archives of docker save, podman save, skopeo, umoci, buildx and wherry save, also compressed by gzip or zstd."
)]
pub struct Args {
    /// Read from tar archive file, or from a directory with an OCI image layout, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load only these platforms of the images
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

/// What cannot be loaded from.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("requested load from stdin, but stdin is empty")]
    Terminal,
    #[error("cannot open {path:?}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the archive has nothing for {platforms}")]
    Platform { platforms: String },
}

impl Failure for Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Terminal | Self::Platform { .. } => Kind::InvalidArgument,
            Self::File { source, .. } => Kind::of_io(source),
        }
    }
}

/// Loads the images. Of those that are refused nothing stays.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let loaded = load(&args, ctx);
    if loaded.is_err() {
        // If it cannot be removed now, the next removal of an image does it.
        tolerate(ctx.host()?.images()?.collect().map(drop));
    }
    loaded
}

/// Takes in the images, unpacks those that can run here, and gives them their names.
fn load(args: &Args, ctx: &Context) -> Outcome {
    let host = ctx.host()?;
    let mut loaded = take_in(args, host)?;
    if !args.platform.is_empty() {
        loaded.images.retain(|(ready, _)| args.platform.iter().any(|wanted| ready.image.platform().satisfies(wanted)));
        if loaded.images.is_empty() {
            let platforms = args.platform.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Refused::Platform { platforms }.into());
        }
    }
    // A layer that is not what it should be is found before any image has its name.
    for (ready, _) in loaded.images.iter().filter(|(ready, _)| runs_here(&ready.image)) {
        host.unpack(ready.image.layers(), &())?;
    }
    let mut said: Vec<String> = Vec::new();
    for (ready, names) in loaded.images {
        let id = ready.image.id().clone();
        if names.is_empty() {
            host.images()?.register(ready.clone(), None)?;
            said.push(format!("Loaded image ID: {id}\n"));
        }
        for name in &names {
            host.images()?.register(ready.clone(), Some(name))?;
            host.note_image("load", id.as_str(), &name.familiar());
            said.push(format!("Loaded image: {}\n", name.familiar()));
        }
    }
    // A name for several platforms is one.
    said.dedup();
    if !args.quiet {
        output::print(&said.concat())?;
    }
    Ok(0)
}

fn take_in(args: &Args, host: &Host) -> Result<archive::Loaded, Box<dyn Failure>> {
    let (images, content) = (host.images()?, host.content()?);
    let Some(path) = &args.input else {
        return match std::io::stdin().is_terminal() {
            true => Err(Refused::Terminal.into()),
            false => Ok(archive::load(images, content, Box::new(std::io::stdin()))?),
        };
    };
    let failed = |source| Refused::File { path: path.clone(), source };
    let file = File::open(path).map_err(failed)?;
    match file.metadata().map_err(failed)?.is_dir() {
        true => Ok(archive::load_directory(images, content, path)?),
        false => Ok(archive::load(images, content, Box::new(file))?),
    }
}

fn runs_here(image: &Image) -> bool {
    image.platform().satisfies(&Platform::host()) || image.platform().is_wasm()
}
