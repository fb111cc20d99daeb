//! What a program leaves behind for whoever looks for a mistake in it.

use super::{Set, Word};

/// The words of this group.
pub(super) const WORDS: &[Word] = &[Word {
    name: "coredump",
    value: "DIR",
    opens: "Where a program that traps leaves a core dump of its memories: a directory given by -v, as the program calls it",
}];

/// What a program leaves behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Debug {
    /// The directory for a core dump, by the name that it has for the program.
    pub coredump: Option<String>,
}

impl Debug {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Set {
        if name != "coredump" {
            return Ok(false);
        }
        if !value.starts_with('/') {
            return Err("it has to be the absolute path of a directory given by -v".into());
        }
        self.coredump = Some(value.to_owned());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grants;

    #[test]
    fn a_directory_for_core_dumps_is_an_absolute_path() {
        let of = |value| Grants::parse([("wherry.coredump", value)]).map(|grants| grants.debug.coredump);
        assert_eq!(of("/cores").unwrap().as_deref(), Some("/cores"));
        for bad in ["", "cores", "./cores"] {
            assert!(of(bad).unwrap_err().to_string().contains("absolute path"), "{bad:?}");
        }
    }
}
