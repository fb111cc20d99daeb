//! What a program finds when it looks: settings, stores of values, and a world that is the same at every run.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Set, Word};

/// The words of this group.
pub(super) const WORDS: &[Word] = &[
    Word {
        name: "config",
        value: "NAME=VALUE",
        opens: "Give the program a setting, which it reads through wasi:config",
    },
    Word {
        name: "keyvalue",
        value: "NAME=DIRECTORY",
        opens: "Give the program a store of wasi:keyvalue, kept in DIRECTORY of the container, which has to be in a volume",
    },
    Word {
        name: "deterministic",
        value: "[SEED]",
        opens: "Start the program's clocks at a fixed time and its random numbers from SEED, a number",
    },
];

/// What a program finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// Settings, by name.
    pub config: BTreeMap<String, String>,
    /// The directories of stores, by the stores' names.
    pub stores: BTreeMap<String, PathBuf>,
    /// Where the random numbers begin, if nothing is to differ from run to run.
    pub seed: Option<u64>,
}

impl Given {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Set {
        match name.split_once('.') {
            Some(("config", "")) => return Err("a setting has a name".to_owned()),
            Some(("config", name)) => drop(self.config.insert(name.to_owned(), value.to_owned())),
            Some(("keyvalue", name)) => drop(self.stores.insert(name.to_owned(), directory(value)?)),
            None if name == "deterministic" => self.seed = Some(seed(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain { Ok(path.to_owned()) } else { Err("it has to be an absolute path".to_owned()) }
}

/// Zero, if none is said.
fn seed(text: &str) -> Result<u64, String> {
    let number = if text.is_empty() { Ok(0) } else { text.parse() };
    number.map_err(|_| format!("a seed is a number from 0 to {}", u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_given() {
        let mut given = Given::default();
        for (name, value) in [("config.a.b", "x=y,z"), ("keyvalue.", "/data"), ("deterministic", "")] {
            assert!(given.set(name, value).unwrap(), "{name}");
        }
        assert_eq!((&*given.config["a.b"], given.seed), ("x=y,z", Some(0)));
        assert!(!given.set("config", "x").unwrap() && !given.set("other.config", "x").unwrap());
        for (name, value) in
            [("config.", "x"), ("keyvalue.x", "data"), ("keyvalue.x", "/data/../etc"), ("deterministic", "-1")]
        {
            assert!(given.set(name, value).is_err(), "{name}={value}");
        }
    }
}
