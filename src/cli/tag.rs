//! `wherry tag`: in the making.

use super::{Context, Outcome};
use crate::error::{Failure, Kind};

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Not there yet.
#[derive(Debug, thiserror::Error)]
#[error("wherry tag is not offered yet")]
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
