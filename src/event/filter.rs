//! Which events are wanted: Docker's filters, `KEY=VALUE`. Those of one key are alternatives, different keys all hold.

use std::collections::BTreeMap;

use super::{Event, Type};
use crate::error::{Failure, Kind};

/// The keys there are.
const KEYS: [&str; 6] = ["container", "event", "image", "label", "scope", "type"];

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// A filter that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// It is not of the form `KEY=VALUE`.
    #[error("invalid argument {text:?} for \"--filter\": bad format of filter (expected name=value)")]
    Form {
        /// What was typed.
        text: String,
    },
    /// There is no such key.
    #[error("invalid filter '{key}'")]
    Key {
        /// The key.
        key: String,
    },
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Form { .. } => None,
            Self::Key { .. } => Some(format!("there are {}", KEYS.join(", "))),
        }
    }
}

impl Filters {
    /// What the filters as they are typed mean.
    pub fn parse<'a>(typed: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut filters = Self::default();
        for text in typed {
            let (key, value) = text.split_once('=').ok_or_else(|| Invalid::Form { text: text.to_owned() })?;
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
            if !KEYS.contains(&key.as_str()) {
                return Err(Invalid::Key { key });
            }
            filters.0.entry(key).or_default().push(value);
        }
        Ok(filters)
    }

    /// Whether `event` is wanted.
    pub fn want(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, values)| match key.as_str() {
            // Every label has to be there, unlike the others.
            "label" => values.iter().all(|value| has_label(event, value)),
            key => values.iter().any(|value| matches(event, key, value)),
        })
    }
}

fn matches(event: &Event, key: &str, value: &str) -> bool {
    let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
    match key {
        "event" => event.action == value || event.verb() == value,
        "type" => event.r#type.word() == value,
        "scope" => value == "local",
        "container" => {
            let id = !value.is_empty() && event.actor.id.starts_with(value);
            event.r#type == Type::Container && (id || attribute("name") == Some(value.trim_start_matches('/')))
        }
        "image" => is_image(event, value),
        _ => false,
    }
}

/// An event of the image, or of a container that is made of it; without a tag any tag is meant.
fn is_image(event: &Event, value: &str) -> bool {
    let of_container = event.actor.attributes.get("image").map(String::as_str);
    let names = match event.r#type {
        Type::Container => [of_container, None],
        Type::Image => [Some(event.actor.id.as_str()), event.actor.attributes.get("name").map(String::as_str)],
    };
    names.into_iter().flatten().any(|name| name == value || repository(name) == value)
}

/// A reference without its tag and its digest.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    let last = name.rfind('/').map_or(0, |at| at + 1);
    name[last..].find(':').map_or(name, |at| &name[..last + at])
}

fn has_label(event: &Event, wanted: &str) -> bool {
    let (name, value) = wanted.split_once('=').map_or((wanted, None), |(name, value)| (name, Some(value)));
    event.actor.attributes.get(name).is_some_and(|found| value.is_none_or(|value| found == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Actor;

    fn wants(typed: &[&str], event: &Event) -> bool {
        Filters::parse(typed.iter().copied()).unwrap().want(event)
    }

    #[test]
    fn values_of_a_key_are_alternatives_and_keys_all_hold() {
        let actor = Actor { id: "0123456789abcdef".into(), ..Actor::default() };
        let actor = actor.with("name", "web").with("image", "localhost:5000/a/b:1").with("tier", "front");
        let die = Event::now(Type::Container, "die", actor.clone());
        let exec = Event::now(Type::Container, "exec_create: ls -l", actor);
        let pull = Event::now(Type::Image, "pull", Actor { id: "a:1".into(), ..Actor::default() }.with("name", "a"));
        for (typed, of_die, of_exec, of_pull) in [
            (&[][..], true, true, true),
            (&["event=die"], true, false, false),
            (&["event=die", "event=pull"], true, false, true),
            (&["event=die", "type=image"], false, false, false),
            (&["event=exec_create"], false, true, false),
            (&["type=container"], true, true, false),
            (&["container=web"], true, true, false),
            (&["container=0123"], true, true, false),
            (&["container=we"], false, false, false),
            (&["container="], false, false, false),
            (&["image=localhost:5000/a/b"], true, true, false),
            (&["image=localhost:5000/a/b:1"], true, true, false),
            (&["image=localhost"], false, false, false),
            (&["image=a"], false, false, true),
            (&["label=tier"], true, true, false),
            (&["label=tier=front", "label=name"], true, true, false),
            (&["label=tier=back"], false, false, false),
            (&["scope=local"], true, true, true),
            (&["scope=swarm"], false, false, false),
        ] {
            let found = [&die, &exec, &pull].map(|event| wants(typed, event));
            assert_eq!(found, [of_die, of_exec, of_pull], "{typed:?}");
        }
    }

    #[test]
    fn filters_that_are_none_are_named() {
        for (typed, says) in [("die", "name=value"), ("colour=red", "'colour'")] {
            assert!(Filters::parse([typed]).unwrap_err().to_string().contains(says), "{typed}");
        }
    }
}
