//! `state`: what a container is doing, in the specification's words; also for `list` and for hooks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::error::Error;
use super::options::Given;
use super::status::Status;
use super::store::Entry;
use super::{Command, Context, Outcome, say};

/// `state`.
pub const COMMAND: Command = Command::new("state", "output the state of a container", run);

/// What runc says of a container: the specification's state and some more.
#[derive(Debug, Serialize)]
pub struct State<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'a str,
    id: &'a str,
    /// 0 when it has stopped.
    pub pid: i32,
    /// The status' word.
    pub status: &'static str,
    /// Where its bundle is.
    pub bundle: &'a Path,
    rootfs: &'a Path,
    /// When it was created.
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// The user whose container it is.
    pub owner: String,
}

impl<'a> State<'a> {
    /// The container.s name.
    pub fn id(&self) -> &str {
        self.id
    }

    /// What is known of a container whose status is known.
    pub fn new(entry: &'a Entry, status: Status) -> Self {
        let record = &entry.record;
        let pid = record.init().filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            pid,
            status: status.name(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: entry.owner().map(user_name).unwrap_or_default(),
        }
    }
}

/// What a hook is told on its standard input (runtime.md, state).
pub fn for_hooks(entry: &Entry, status: Status) -> Vec<u8> {
    let state = State { owner: String::new(), ..State::new(entry, status) };
    let mut value = serde_json::to_value(&state).expect("a state has nothing that JSON has not");
    for own in ["owner", "created", "rootfs"] {
        value.as_object_mut().and_then(|fields| fields.remove(own));
    }
    value.to_string().into_bytes()
}

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let entry = context.entry(given)?;
    let state = State::new(&entry, entry.status());
    let json = serde_json::to_string_pretty(&state).expect("a state has nothing that JSON has not");
    say(&format!("{json}\n"))?;
    Ok(0)
}

/// The largest user database that is read for a name to show.
const MAX_PASSWD: u64 = 1 << 20;

/// The user's name, or `#` and the number.
fn user_name(uid: u32) -> String {
    let path = "/etc/passwd";
    let small = std::fs::metadata(path).is_ok_and(|found| found.len() <= MAX_PASSWD);
    let text = small.then(|| std::fs::read_to_string(path).ok()).flatten().unwrap_or_default();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    };
    text.lines().find_map(named).unwrap_or_else(|| format!("#{uid}"))
}

impl Error {
    /// Refuses a command because of what the container is doing.
    pub fn wrong_status(verb: &'static str, status: Status) -> Self {
        Self::WrongStatus { verb, status }
    }
}
