//! `--filter NAME=VALUE`, as the commands that list and prune take it.

use std::collections::BTreeMap;

use crate::error::{Failure, Kind};

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What is looked at.
    pub name: String,
    /// What it has to be.
    pub value: String,
}

/// A filter that means nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such filter.
    #[error("invalid filter '{name}'")]
    Unknown {
        /// Its name.
        name: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// It cannot be that.
    #[error("invalid filter '{name}=[{value}]': {reason}")]
    Value {
        /// Its name.
        name: String,
        /// What was typed.
        value: String,
        /// Why.
        reason: String,
    },
    /// Only one of them can be meant.
    #[error("invalid filter '{name}=[{values}]': it is given once")]
    Repeated {
        /// Its name.
        name: String,
        /// What was typed.
        values: String,
    },
}

/// The filters of which several mean something.
const REPEATABLE: &[&str] = &["label", "label!", "reference"];

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { known, .. } => Some(format!("filters are {}", known.join(", "))),
            Self::Value { .. } | Self::Repeated { .. } => None,
        }
    }
}

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) =
            text.split_once('=').ok_or("invalid argument: bad format of filter (expected name=value)")?;
        Ok(Self { name: name.trim().to_lowercase(), value: value.trim().to_owned() })
    }
}

impl Filter {
    /// Fails unless all filters are of those that the command knows, and do not contradict each other.
    pub fn require(filters: &[Self], known: &'static [&'static str]) -> Result<(), Error> {
        match filters.iter().find(|filter| !known.contains(&filter.name.as_str())) {
            Some(filter) => Err(Error::Unknown { name: filter.name.clone(), known }),
            None => filters.iter().try_for_each(|filter| filter.require_once(filters)),
        }
    }

    fn require_once(&self, filters: &[Self]) -> Result<(), Error> {
        let mut values: Vec<&str> =
            filters.iter().filter(|other| other.name == self.name).map(|other| other.value.as_str()).collect();
        values.sort_unstable();
        values.dedup();
        if values.len() < 2 || REPEATABLE.contains(&self.name.as_str()) {
            return Ok(());
        }
        Err(Error::Repeated { name: self.name.clone(), values: values.join(" ") })
    }

    /// The value as a truth.
    pub fn truth(&self) -> Result<bool, Error> {
        match self.value.as_str() {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
            _ => Err(self.wrong("it is neither true nor false")),
        }
    }

    /// The value as a time, in nanoseconds since 1970.
    pub fn time(&self) -> Result<i64, Error> {
        super::when::parse(&self.value).map_err(|reason| self.wrong(&reason))
    }

    /// Whether the value is one of these labels: by its key, or with its value.
    pub fn label<'a>(&self, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> bool {
        let (key, value) = self.value.split_once('=').map_or((self.value.as_str(), None), |(k, v)| (k, Some(v)));
        labels.into_iter().any(|(name, is)| name == key && value.is_none_or(|value| value == is))
    }

    /// That the value cannot be meant.
    pub fn wrong(&self, reason: &str) -> Error {
        Error::Value { name: self.name.clone(), value: self.value.clone(), reason: reason.to_owned() }
    }
}

/// `value` as a pattern, of the filter `name`.
pub fn pattern<'a>(name: &str, value: &'a str) -> Result<&'a str, Error> {
    let reason = || "syntax error in pattern".to_owned();
    match value.rsplit_once('[') {
        Some((_, open)) if !open.contains(']') => {
            Err(Error::Value { name: name.to_owned(), value: value.to_owned(), reason: reason() })
        }
        _ => Ok(value),
    }
}

/// What is pruned, and whether it is asked about.
#[derive(Debug, clap::Args)]
pub struct Pruning {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Only some: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    pub filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
}

/// What the filters of a pruning let through.
pub struct Choice<'a> {
    filters: &'a [Filter],
    until: Option<i64>,
}

impl<'a> Choice<'a> {
    /// What can be pruned by.
    const KNOWN: &'static [&'static str] = &["label", "label!", "until"];

    /// The choice that these filters make.
    pub fn new(filters: &'a [Filter]) -> Result<Self, Error> {
        Filter::require(filters, Self::KNOWN)?;
        let until = filters.iter().find(|filter| filter.name == "until").map(Filter::time).transpose()?;
        Ok(Self { filters, until })
    }

    /// Whether a thing with these labels, made then (in nanoseconds since 1970, if it says), is among it.
    pub fn has(&self, labels: &BTreeMap<String, String>, made: Option<i64>) -> bool {
        self.filters.iter().all(|filter| match filter.name.as_str() {
            "label" => filter.label(labels),
            "label!" => !filter.label(labels),
            _ => made.is_some_and(|made| self.until.is_none_or(|until| made < until)),
        })
    }
}

/// Whether a name fits a shell pattern of `*`, `?` and `[…]`, in which `*` stops at a slash.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The states are positions in the pattern: no input makes this take longer than their product.
    let mut at = std::collections::BTreeSet::from([0]);
    for c in name {
        let mut next = std::collections::BTreeSet::new();
        for position in closed(&pattern, at) {
            match pattern.get(position) {
                Some('*') if c != '/' => drop(next.insert(position)),
                Some('?') if c != '/' => drop(next.insert(position + 1)),
                Some('[') => next.extend(class(&pattern, position, c)),
                Some(literal) if *literal == c => drop(next.insert(position + 1)),
                _ => {}
            }
        }
        at = next;
    }
    closed(&pattern, at).contains(&pattern.len())
}

/// The states, and those that a `*` that matches nothing leads to.
fn closed(pattern: &[char], at: std::collections::BTreeSet<usize>) -> std::collections::BTreeSet<usize> {
    let beyond = |start: usize| (start..).take_while(move |at| *at == start || pattern.get(at - 1) == Some(&'*'));
    at.into_iter().flat_map(beyond).filter(|at| *at <= pattern.len()).collect()
}

/// Where a class of characters that has `c` leads to.
fn class(pattern: &[char], start: usize, c: char) -> Option<usize> {
    let end = start + 1 + pattern[start + 1..].iter().position(|c| *c == ']')?;
    let (negated, set) = match &pattern[start + 1..end] {
        ['^' | '!', set @ ..] => (true, set),
        set => (false, set),
    };
    let mut has = set.contains(&c);
    has |= set.windows(3).any(|range| range[1] == '-' && (range[0]..=range[2]).contains(&c));
    (has != negated && c != '/').then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_contradict_each_other() {
        let filter = |text: &str| text.parse::<Filter>().unwrap();
        let known = &["dangling", "label"];
        let twice = [filter("dangling=true"), filter("dangling=false")];
        let error = Filter::require(&twice, known).unwrap_err();
        assert!(error.to_string().starts_with("invalid filter 'dangling=[false true]'"), "{error}");
        assert!(Filter::require(&[filter("dangling=true"), filter("DANGLING=true")], known).is_ok());
        assert!(Filter::require(&[filter("label=a"), filter("label=b")], known).is_ok());
    }

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("alpine", "alpine", true),
            ("al*", "alpine", true),
            ("*", "alpine", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("a?c", "abc", true),
            ("a[a-c]c", "abc", true),
            ("a[^a-c]c", "abc", false),
            ("", "a", false),
            ("", "", true),
            ("**x", "aax", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        assert!(pattern("reference", "a[b").is_err() && pattern("reference", "a[b]c").is_ok());
        assert!(!matches(&"*a".repeat(2000), &"a".repeat(1000)), "and it ends");
    }
}
