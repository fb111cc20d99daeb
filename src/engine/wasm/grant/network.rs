//! Whom a program may talk to.

use super::{Set, Word};

/// The words of this group.
pub(super) const WORDS: &[Word] = &[];

/// Whom a program may talk to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {}

impl Network {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, _name: &str, _value: &str) -> Set {
        Ok(false)
    }
}
