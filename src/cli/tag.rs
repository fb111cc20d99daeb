//! `wherry tag`: another name for an image.

use super::{Context, Outcome};
use crate::error::{Failure, Kind};
use crate::reference::Reference;

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name or an id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The further name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

/// A name that cannot be given.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("refusing to create a tag with a digest reference")]
    Digest,
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    Algorithm,
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Gives the name, and says nothing.
pub fn run(args: Args, ctx: &Context) -> Outcome {
    let target: Reference = target(&args.target)?;
    let id = ctx.host()?.images()?.tag(&args.source, &target)?;
    ctx.host()?.note_image("tag", id.as_str(), &target.familiar());
    Ok(0)
}

/// A name that an image is to get.
pub fn target(typed: &str) -> Result<Reference, Box<dyn Failure>> {
    let target: Reference = typed.parse()?;
    match target.repository() {
        _ if target.digest().is_some() => Err(Invalid::Digest.into()),
        "library/sha256" if target.registry() == "docker.io" => Err(Invalid::Algorithm.into()),
        _ => Ok(target),
    }
}
