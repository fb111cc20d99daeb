//! The command line's words: options by name, purely.
//!
//! By hand, for one table serves to parse, to refuse and to help, and a container's start has no time for building
//! a parser of eighteen commands. The conventions are those of runc's callers: `--name VALUE`, `--name=VALUE`, one dash
//! or two, `--switch=false`, options and words mixed, and `--` before words that look like options. A command
//! whose words are another program's (`exec`, `kill`, `ps`) takes no options after the first word.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One option of a command.
#[derive(Debug)]
pub struct Flag {
    /// The name after two dashes.
    pub long: &'static str,
    /// The letter after one.
    pub short: Option<char>,
    /// What its value is called in the help; `None` for a switch.
    pub value: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
    /// Whether the help leaves it out: accepted for callers of long ago.
    pub hidden: bool,
}

/// A switch.
pub const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help, hidden: false }
}

/// An option with a value.
pub const fn option(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short, value: Some(value), help, hidden: false }
}

impl Flag {
    /// The same, left out of the help.
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }
}

/// What is wrong with the words of a command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// No option has this name.
    #[error("unknown option {0}")]
    Unknown(String),
    /// An option lacks its value.
    #[error("option --{0} needs a value")]
    NoValue(&'static str),
    /// A switch was given something that is neither true nor false, or a value is not of its kind.
    #[error("invalid value {value:?} for option --{flag}: {why}")]
    Value {
        /// The option.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is wrong.
        why: String,
    },
}

/// The options and words that were given.
#[derive(Debug, Default)]
pub struct Given {
    options: Vec<(&'static str, OsString)>,
    /// What is not an option, in order.
    pub words: Vec<OsString>,
}

/// Sorts `words` into options of `flags` and words. With `stops`, all after the first word are words.
pub fn parse(flags: &'static [Flag], stops: bool, words: &mut dyn Iterator<Item = OsString>) -> Result<Given, Wrong> {
    let mut given = Given::default();
    while let Some(word) = words.next() {
        let Some(name) = name_of(&word) else {
            given.words.push(word);
            if stops {
                break;
            }
            continue;
        };
        match name {
            Name::End => break,
            Name::Long(text) => given.take_whole(flags, "--", &text, words)?,
            Name::Short(text) => given.take_short(flags, &text, words)?,
        }
    }
    given.words.extend(words);
    Ok(given)
}

enum Name {
    End,
    Long(String),
    Short(String),
}

fn name_of(word: &OsStr) -> Option<Name> {
    let text = word.to_string_lossy();
    match text.strip_prefix("--") {
        Some("") => Some(Name::End),
        Some(long) => Some(Name::Long(long.to_owned())),
        None => text.strip_prefix('-').filter(|short| !short.is_empty()).map(|short| Name::Short(short.to_owned())),
    }
}

fn find(flags: &'static [Flag], name: &str) -> Option<&'static Flag> {
    let letter = name.chars().next().filter(|letter| letter.len_utf8() == name.len());
    flags.iter().find(|flag| flag.long == name || (letter.is_some() && flag.short == letter))
}

impl Given {
    fn take_whole(
        &mut self,
        flags: &'static [Flag],
        dashes: &str,
        text: &str,
        words: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Wrong> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.into())));
        let flag = find(flags, name).ok_or_else(|| Wrong::Unknown(format!("{dashes}{name}")))?;
        self.put(flag, value, words)
    }

    /// A whole name after one dash, as Go's programs take it; else letters, of which the last may have a value.
    fn take_short(
        &mut self,
        flags: &'static [Flag],
        text: &str,
        words: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Wrong> {
        let name = text.split('=').next().unwrap_or(text);
        if find(flags, name).is_some() {
            return self.take_whole(flags, "-", text, words);
        }
        for (at, letter) in text.char_indices() {
            let flag = flags.iter().find(|flag| flag.short == Some(letter));
            let flag = flag.ok_or_else(|| Wrong::Unknown(format!("-{text}")))?;
            let rest = &text[at + letter.len_utf8()..];
            if flag.value.is_some() {
                return self.put(flag, (!rest.is_empty()).then(|| rest.into()), words);
            }
            self.put(flag, None, words)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        flag: &'static Flag,
        attached: Option<OsString>,
        words: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Wrong> {
        if flag.value.is_some() {
            let value = attached.or_else(|| words.next()).ok_or(Wrong::NoValue(flag.long))?;
            self.options.push((flag.long, value));
            return Ok(());
        }
        let text = attached.unwrap_or_else(|| "true".into());
        match truth(&text.to_string_lossy()) {
            Some(true) => self.options.push((flag.long, "true".into())),
            Some(false) => self.options.retain(|(name, _)| *name != flag.long),
            None => return Err(wrong(flag.long, &text, "it is either true or false")),
        }
        Ok(())
    }

    /// Whether the option was given, or the switch is on.
    pub fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// The value given last.
    pub fn get(&self, long: &str) -> Option<&OsStr> {
        self.options.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| &**value)
    }

    /// The value given last, if it is not empty: an empty one means the default, as for runc.
    pub fn path(&self, long: &str) -> Option<PathBuf> {
        self.get(long).filter(|value| !value.is_empty()).map(|value| Path::new(value).to_owned())
    }

    /// The value given last as text, if it is not empty.
    pub fn text(&self, long: &'static str) -> Result<Option<&str>, Wrong> {
        let Some(value) = self.get(long).filter(|value| !value.is_empty()) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| wrong(long, value, "it is not UTF-8"))
    }

    /// Every value of an option that can be given more than once.
    pub fn all(&self, long: &'static str) -> Result<Vec<&str>, Wrong> {
        let values = self.options.iter().filter(|(name, _)| *name == long);
        values.map(|(_, value)| value.to_str().ok_or_else(|| wrong(long, value, "it is not UTF-8"))).collect()
    }

    /// The value given last as a number or whatever else is read from text.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, long: &'static str) -> Result<Option<T>, Wrong> {
        let Some(text) = self.text(long)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| wrong(long, OsStr::new(text), &error.to_string()))
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A value that is not what its option takes.
pub fn wrong(flag: &'static str, value: &OsStr, why: &str) -> Wrong {
    Wrong::Value { flag, value: value.to_string_lossy().into_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 4] = [
        option("bundle", Some('b'), "DIR", ""),
        switch("tty", Some('t'), ""),
        switch("detach", Some('d'), ""),
        option("env", Some('e'), "NAME=VALUE", ""),
    ];

    fn given(words: &[&str], stops: bool) -> Result<Given, Wrong> {
        parse(&FLAGS, stops, &mut words.iter().map(OsString::from))
    }

    #[test]
    fn options_are_taken_in_every_usual_way() {
        for words in [
            &["--bundle", "/b", "--tty", "--env", "A=B", "id"][..],
            &["-bundle", "/b", "-tty", "-env", "A=B", "id"],
            &["--bundle=/b", "id", "-t", "--env=A=B"],
            &["-b", "/b", "-te", "A=B", "id"],
            &["-b=/b", "--tty=true", "-eA=B", "id"],
            &["-tb/b", "-e=A=B", "--", "id"],
        ] {
            let given = given(words, false).unwrap();
            assert_eq!(given.path("bundle"), Some("/b".into()), "{words:?}");
            assert!(given.has("tty") && !given.has("detach"), "{words:?}");
            assert_eq!(given.all("env").unwrap(), ["A=B"], "{words:?}");
            assert_eq!(given.words, ["id"], "{words:?}");
        }
    }

    #[test]
    fn words_of_another_program_are_left_alone() {
        let given = given(&["-t", "id", "ls", "-t", "--bundle"], true).unwrap();
        assert_eq!(given.words, ["id", "ls", "-t", "--bundle"]);
        assert!(!given.has("bundle"));
    }

    #[test]
    fn a_switch_can_be_turned_off_again() {
        assert!(!given(&["--tty", "--tty=false"], false).unwrap().has("tty"));
    }

    #[test]
    fn what_is_not_an_option_is_refused_by_name() {
        for (words, message) in [
            (&["--nope"][..], "unknown option --nope"),
            (&["-x"], "unknown option -x"),
            (&["-tx"], "unknown option -tx"),
            (&["--bundle"], "option --bundle needs a value"),
            (&["-b"], "option --bundle needs a value"),
            (&["--tty=maybe"], "invalid value \"maybe\" for option --tty: it is either true or false"),
        ] {
            assert_eq!(given(words, false).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn an_empty_value_means_the_default() {
        let given = given(&["--bundle", "", "--env="], false).unwrap();
        assert_eq!((given.path("bundle"), given.text("env").unwrap()), (None, None));
    }
}
