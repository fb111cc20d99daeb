//! `wherry load`: in the making.

use super::{Context, Outcome};
use crate::error::{Failure, Kind};

/// Load an image from a tar archive or STDIN
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Not there yet.
#[derive(Debug, thiserror::Error)]
#[error("wherry load is not offered yet")]
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
