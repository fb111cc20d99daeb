//! What an operator grants to a program, and the one vocabulary for it.
//!
//! A grant has one name, three ways to be said, and one meaning:
//!
//! ```text
//!   wherry run --allow-net example.com:443      the command line
//!   wherry run --label wherry.allow-net=…       a label that the operator gives (not one of the image's)
//!   "annotations": {"wherry.allow-net": "…"}    a runtime specification
//! ```
//!
//! A word that takes several values takes them with commas between; one that takes values by name has the
//! name after another dot (`wherry.config.NAME`). What is not granted is denied. What an image *asks for* is
//! its own label, `wherry.capabilities`: shown, and never read here.

pub mod address;
pub mod debug;
pub mod given;
pub mod limit;
pub mod network;
pub mod outgoing;
pub mod quantity;
pub mod serve;

/// What the names of grants begin with, as annotations and labels.
pub const PREFIX: &str = "wherry.";

/// One word of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The name: of the flag, and after [`PREFIX`] of the annotation.
    pub name: &'static str,
    /// What stands for its value in a help text: `` for a switch, `[X]` for a value that may be left out, `X` for
    /// one value, `X,…` for several, `NAME=X` for one by name.
    pub value: &'static str,
    /// What it opens or limits.
    pub opens: &'static str,
}

/// How many values a word takes, each with what stands for it in a help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None: it is a switch, which is `true`.
    Nothing,
    /// One, or an empty one for what is usual.
    Maybe(&'static str),
    /// One.
    One(&'static str),
    /// Several, with commas between them.
    Several(&'static str),
    /// One for each name.
    ByName(&'static str),
}

impl Word {
    /// How many values it takes.
    pub fn takes(self) -> Takes {
        if self.value.is_empty() {
            Takes::Nothing
        } else if let Some(value) = self.value.strip_prefix('[').and_then(|value| value.strip_suffix(']')) {
            Takes::Maybe(value)
        } else if let Some(value) = self.value.strip_suffix(",…") {
            Takes::Several(value)
        } else if self.value.starts_with("NAME=") {
            Takes::ByName(self.value)
        } else {
            Takes::One(self.value)
        }
    }
}

/// A grant that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// No word of the vocabulary.
    #[error("there is no grant called {name:?}")]
    Unknown {
        /// The name, without [`PREFIX`].
        name: String,
    },
    /// A value that the word does not take.
    #[error("invalid value {value:?} for {name}: {problem}")]
    Value {
        /// The word.
        name: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl crate::error::Failure for Invalid {
    fn kind(&self) -> crate::error::Kind {
        crate::error::Kind::InvalidArgument
    }
}

/// The label by which an image tells what it would like to be granted.
pub const REQUEST: &str = "wherry.capabilities";
/// The most that an image's request is shown of.
const MAX_REQUESTS: usize = 100;

/// What an image's `labels` ask for: words as they would be granted, with space between them. To be shown, and for
/// nothing else.
pub fn requested(labels: &std::collections::BTreeMap<String, String>) -> Vec<&str> {
    labels.get(REQUEST).map_or("", String::as_str).split_whitespace().take(MAX_REQUESTS).collect()
}

/// What `annotations` grant, in the same form.
pub fn granted(annotations: &std::collections::BTreeMap<String, String>) -> Vec<String> {
    let known = annotations.iter().filter(|(key, _)| Grants::word(key).is_some());
    known.map(|(key, value)| format!("{}={value}", key.trim_start_matches(PREFIX))).collect()
}

/// Everything that an operator said about one program, beyond its files, arguments and environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// Whom it may talk to.
    pub network: network::Network,
    /// What it finds when it looks.
    pub given: given::Given,
    /// What it may use up.
    pub limit: limit::Limit,
    /// How it is served, if it is an HTTP server.
    pub serve: serve::Serve,
    /// What it leaves behind when it breaks off.
    pub debug: debug::Debug,
}

/// What a group of words makes of one of them.
type Set = Result<bool, String>;

impl Grants {
    /// Every word there is.
    pub fn words() -> impl Iterator<Item = Word> {
        let groups = [network::WORDS, given::WORDS, limit::WORDS, serve::WORDS, debug::WORDS];
        groups.into_iter().flatten().copied()
    }

    /// The word that an annotation or a label called `key` is about.
    pub fn word(key: &str) -> Option<Word> {
        let name = key.strip_prefix(PREFIX)?;
        Self::words().find(|word| match word.takes() {
            Takes::ByName(_) => name.strip_prefix(word.name).is_some_and(|rest| rest.starts_with('.')),
            _ => word.name == name,
        })
    }

    /// The grants among `annotations`; what does not begin with [`PREFIX`] is somebody else's.
    pub fn parse<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Invalid> {
        let mut grants = Self::default();
        for (key, value) in annotations {
            if let Some(name) = key.strip_prefix(PREFIX) {
                grants.set(name, value)?;
            }
        }
        Ok(grants)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Invalid> {
        let groups: [fn(&mut Self, &str, &str) -> Set; 5] = [
            |grants, name, value| grants.network.set(name, value),
            |grants, name, value| grants.given.set(name, value),
            |grants, name, value| grants.limit.set(name, value),
            |grants, name, value| grants.serve.set(name, value),
            |grants, name, value| grants.debug.set(name, value),
        ];
        for group in groups {
            match group(self, name, value) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(problem) => {
                    return Err(Invalid::Value { name: name.to_owned(), value: value.to_owned(), problem });
                }
            }
        }
        Err(Invalid::Unknown { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the table there, by the flag and by what it takes.
    #[test]
    fn every_word_is_explained() {
        let page = include_str!("../../../../docs/grants.md");
        for word in Grants::words() {
            let row = match word.takes() {
                Takes::Nothing => format!("| `--{}` |", word.name),
                Takes::Maybe(value) => format!("| `--{}[={value}]` |", word.name),
                Takes::One(_) | Takes::ByName(_) => format!("| `--{} {}` |", word.name, word.value),
                Takes::Several(value) => format!("| `--{} {value}` |", word.name),
            };
            assert!(page.contains(&row), "docs/grants.md has no line {row}");
        }
    }

    #[test]
    fn what_is_requested_and_what_is_granted() {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let labels = of(&[("wherry.capabilities", "allow-net=a.com:443 \n what-ever"), ("wherry.allow-net", "*:*")]);
        assert_eq!(requested(&labels), ["allow-net=a.com:443", "what-ever"]);
        let annotations = of(&[("wherry.allow-net", "a.com:443"), ("wherry.config.x", "y"), ("org.example", "z")]);
        assert_eq!(granted(&annotations), ["allow-net=a.com:443", "config.x=y"]);
        assert_eq!(requested(&of(&[("wherry.capabilities", &"x ".repeat(1000))])).len(), MAX_REQUESTS);
    }

    #[test]
    fn what_is_not_ours_is_left_alone_and_what_is_unknown_is_named() {
        assert_eq!(Grants::parse([("org.example", "x")]).unwrap(), Grants::default());
        let error = Grants::parse([("wherry.allow-everything", "x")]).unwrap_err();
        assert_eq!(error.to_string(), r#"there is no grant called "allow-everything""#);
    }
}
