//! What a program may use up.

use super::{Set, Word};

/// The words of this group.
pub(super) const WORDS: &[Word] = &[];

/// What a program may use up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limit {}

impl Limit {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, _name: &str, _value: &str) -> Set {
        Ok(false)
    }
}
