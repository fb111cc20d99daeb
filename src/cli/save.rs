//! `wherry save`: in the making.

use super::{Context, Outcome};
use crate::error::{Failure, Kind};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Not there yet.
#[derive(Debug, thiserror::Error)]
#[error("wherry save is not offered yet")]
struct NotYet;

impl Failure for NotYet {
    fn kind(&self) -> Kind {
        Kind::FailedPrecondition
    }
}

/// Says that it is not there yet.
pub fn run(_args: Args, _ctx: &Context) -> Outcome {
    Err(NotYet.into())
}
