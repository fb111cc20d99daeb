//! `wherry search`: in the making.

use super::{Context, Outcome};
use crate::error::{Failure, Kind};

/// Search a registry for images
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Not there yet.
#[derive(Debug, thiserror::Error)]
#[error("wherry search is not offered yet")]
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
