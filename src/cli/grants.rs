//! The flags that grant something to a WebAssembly program: one for each word of the engine's vocabulary, made
//! from it, so that a word has its flag, its help and its meaning as an annotation in one place.
//!
//! A label that the operator types means what the flag of its name means. The labels of an image come from
//! whoever made the image and are not looked at.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::human;
use crate::engine::wasm::grant::{self, PREFIX, Takes, Word};

/// What was granted, as annotations, in the order in which it was typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args(Vec<(Word, String)>);

/// Under what they stand together in the help, after all others.
const HEADING: &str = "WebAssembly";

fn arg(word: Word) -> Arg {
    let arg = Arg::new(word.name).long(word.name).help(word.opens).help_heading(HEADING);
    match word.takes() {
        Takes::Nothing => arg.action(ArgAction::SetTrue),
        Takes::Maybe(name) => arg
            .value_name(name)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("")
            .overrides_with(word.name),
        Takes::One(name) => arg.value_name(name).overrides_with(word.name),
        Takes::Several(name) => arg.value_name(name).action(ArgAction::Append),
        Takes::ByName(name) => arg.value_name(name).action(ArgAction::Append).value_parser(by_name),
    }
}

fn by_name(text: &str) -> Result<String, &'static str> {
    // An empty name can be one: what it means is the word's business.
    if text.contains('=') { Ok(text.to_owned()) } else { Err("it has to be NAME=VALUE") }
}

impl clap::Args for Args {
    fn augment_args(command: Command) -> Command {
        command.args(grant::Grants::words().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = |word: Word| match word.takes() {
            Takes::Nothing => matches.get_flag(word.name).then(|| "true".to_owned()).into_iter().collect(),
            _ => matches.get_many::<String>(word.name).into_iter().flatten().cloned().collect::<Vec<_>>(),
        };
        Ok(Self(grant::Grants::words().flat_map(|word| values(word).into_iter().map(move |v| (word, v))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args {
    /// All that the operator said: `annotations` as they were typed, the known words among `labels`, and these
    /// flags. Of a word that takes one value the last of these says it.
    pub fn annotations(&self, labels: &[String], annotations: &[String]) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (key, value) in labels.iter().map(|label| human::key_value(label)) {
            if let Some(word) = grant::Grants::word(&key) {
                add(&mut all, word, key, value);
            }
        }
        for (key, value) in annotations.iter().map(|annotation| human::key_value(annotation)) {
            match grant::Grants::word(&key) {
                Some(word) => add(&mut all, word, key, value),
                None => drop(all.insert(key, value)),
            }
        }
        for (word, value) in &self.0 {
            match (word.takes(), value.split_once('=')) {
                (Takes::ByName(_), Some((name, value))) => {
                    add(&mut all, *word, format!("{PREFIX}{}.{name}", word.name), value.to_owned());
                }
                _ => add(&mut all, *word, format!("{PREFIX}{}", word.name), value.clone()),
            }
        }
        all
    }
}

/// Adds a value of `word`: beside those that it has, or in place of the one that it had.
fn add(all: &mut BTreeMap<String, String>, word: Word, key: String, value: String) {
    match all.get_mut(&key) {
        Some(known) if matches!(word.takes(), Takes::Several(_)) => {
            known.push(',');
            known.push_str(&value);
        }
        _ => drop(all.insert(key, value)),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn command() -> Command {
        <super::super::run::Args as clap::Args>::augment_args(Command::new("run"))
    }

    /// And none of them takes the name of one of Docker's flags: the parser would refuse the command.
    #[test]
    fn every_word_has_a_flag_of_its_name() {
        let command = command();
        command.clone().debug_assert();
        for word in grant::Grants::words() {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(word.name)).expect(word.name);
            assert_eq!(arg.get_help_heading(), Some(HEADING), "{}", word.name);
        }
    }

    #[test]
    fn a_label_and_an_annotation_mean_what_the_flag_means() {
        let several = Word { name: "test-several", value: "X,…", opens: "" };
        let mut all = BTreeMap::new();
        for value in ["a", "b"] {
            add(&mut all, several, "wherry.test-several".into(), value.into());
        }
        let one = Word { name: "test-one", value: "X", opens: "" };
        for value in ["a", "b"] {
            add(&mut all, one, "wherry.test-one".into(), value.into());
        }
        assert_eq!((&*all["wherry.test-several"], &*all["wherry.test-one"]), ("a,b", "b"));
        let typed = ["wherry.capabilities=everything".to_owned(), "other=x".to_owned()];
        let annotations = Args::default().annotations(&typed, &["org.example=y".to_owned()]);
        assert_eq!(annotations, BTreeMap::from([("org.example".to_owned(), "y".to_owned())]));
    }

    #[test]
    fn flags_are_read() {
        let words = [
            Word { name: "switch", value: "", opens: "" },
            Word { name: "maybe", value: "[SEED]", opens: "" },
            Word { name: "one", value: "X", opens: "" },
            Word { name: "several", value: "X,…", opens: "" },
            Word { name: "named", value: "NAME=VALUE", opens: "" },
        ];
        let command = Command::new("test").args(words.map(arg));
        command.clone().debug_assert();
        let parse = |typed: &[&str]| command.clone().try_get_matches_from([&["test"], typed].concat());
        let matches = parse(&["--switch", "--maybe", "--one", "1", "--one=2", "--several", "a,b", "--named", "x=y"]);
        let matches = matches.unwrap();
        let values = |name: &str| matches.get_many::<String>(name).unwrap().cloned().collect::<Vec<_>>();
        assert!(matches.get_flag("switch"));
        assert_eq!((values("maybe"), values("one")), (vec![String::new()], vec!["2".to_owned()]));
        assert!(parse(&["--named", "x"]).is_err());
        assert_eq!(
            Args::from_arg_matches(&self::command().try_get_matches_from(["run", "image"]).unwrap()).unwrap(),
            Args::default()
        );
    }
}
