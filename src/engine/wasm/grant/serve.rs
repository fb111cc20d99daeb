//! How an HTTP server is served.

use super::{Set, Word};

/// The words of this group.
pub(super) const WORDS: &[Word] = &[];

/// How an HTTP server is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serve {}

impl Serve {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, _name: &str, _value: &str) -> Set {
        Ok(false)
    }
}
