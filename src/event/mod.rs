//! What happened: the vocabulary of events, and the journal that keeps the last of them.
//!
//! ```text
//! RUN/events      one event a line, in the JSON of Docker's API; written with O_APPEND by whoever did it
//! RUN/events.1    the file before, which the next turn replaces
//! ```
//!
//! There is no daemon that everything passes through, so whoever does a thing writes down that it happened: one
//! write(2) of one line, which the kernel keeps whole among those of others. The journal is for looking back and for
//! following, not a record that anything depends on: nothing is synced, a reboot forgets it, and its size is bounded.

mod filter;
#[cfg(target_os = "linux")]
mod follow;
mod journal;

use std::collections::BTreeMap;

pub use filter::{Filters, Invalid};
#[cfg(target_os = "linux")]
pub use follow::Follower;
use jiff::Timestamp;
pub use journal::Journal;
use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// What sort of thing it happened to.
    pub r#type: Type,
    /// What happened: `create`, `start`, `die`; the command of an `exec_create` after it.
    pub action: String,
    /// What it happened to.
    pub actor: Actor,
    /// Where: always `local`, there being no swarm.
    #[serde(rename = "scope")]
    scope: String,
    /// When, in seconds since 1970.
    #[serde(rename = "time")]
    pub time: i64,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What sort of thing an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A container.
    Container,
    /// An image.
    Image,
}

impl Type {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A container's id, an image's id or name.
    #[serde(rename = "ID")]
    pub id: String,
    /// What else is known: its name, its image, its labels; the exit status of a `die`.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Actor {
    /// The same with one attribute more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }
}

impl Event {
    /// Something that happens now.
    pub fn now(r#type: Type, action: impl Into<String>, actor: Actor) -> Self {
        let now = Timestamp::now();
        Self {
            r#type,
            action: action.into(),
            actor,
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: now.as_nanosecond().try_into().unwrap_or(i64::MAX),
        }
    }

    /// The action without what comes after it.
    pub fn verb(&self) -> &str {
        self.action.split(':').next().unwrap_or_default()
    }
}
