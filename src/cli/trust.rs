//! `wherry trust`: in the making.

use super::{Context, Outcome};
use crate::error::{Failure, Kind};

/// Show the signature policy in force, and verify images
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Not there yet.
#[derive(Debug, thiserror::Error)]
#[error("wherry trust is not offered yet")]
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
