//! The journal's files: appending a line, turning to a new file, reading what is there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Event;
use crate::sys::lock::FileLock;

/// Where a file of the journal is full, in bytes. With the one before it some 8,000 events are kept, in what is memory on
/// most machines.
const MAX_FILE: u64 = 1 << 20;

/// The longest line. Labels and commands can be of any length; an event that would be longer loses its labels, which
/// [`Event`] has from the container's record anyhow.
pub(super) const MAX_LINE: usize = 16 << 10;

/// The longest action, of which a command can be part.
const MAX_ACTION: usize = 1 << 10;

/// The attributes that are never left out.
const KEPT: [&str; 9] =
    ["image", "name", "exitCode", "execDuration", "execID", "signal", "trap", "oomKilled", "oldName"];

/// The events of one run root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal in `run`, the directory of what a reboot may forget.
    pub fn new(run: &Path) -> Self {
        Self { path: run.join("events") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn before(&self) -> PathBuf {
        self.path.with_extension("1")
    }

    /// Writes down that `event` happened.
    pub fn note(&self, event: &Event) -> io::Result<()> {
        let line = line(event)?;
        let mut file = match open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/")))?;
                open(&self.path)?
            }
            opened => opened?,
        };
        file.write_all(&line)?;
        if file.metadata()?.len() > MAX_FILE { self.turn() } else { Ok(()) }
    }

    /// Begins a new file. Of several who find the old one full, one does; the others' lines are in it already.
    fn turn(&self) -> io::Result<()> {
        let lock = FileLock::try_exclusive(&self.path.with_extension("lock")).map_err(|error| error.source)?;
        match lock {
            Some(_held) if std::fs::metadata(&self.path)?.len() > MAX_FILE => {
                std::fs::rename(&self.path, self.before())
            }
            _ => Ok(()),
        }
    }

    /// What is still known, in the order in which it happened, and the end of it: the file that is being written, to be
    /// read on from there.
    pub(super) fn read(&self) -> io::Result<(Vec<Event>, Option<Tail>)> {
        let mut events = Vec::new();
        let before = Tail::open(&self.before())?;
        let now = Tail::open(&self.path)?;
        if let Some(mut before) = before {
            before.read(&mut events)?;
        }
        let now = match now {
            Some(mut now) => {
                now.read(&mut events)?;
                Some(now)
            }
            None => None,
        };
        // Two who write at the same time may have looked at the clock in the other order.
        events.sort_by_key(|event| event.time_nano);
        Ok((events, now))
    }

    /// What is still known, in the order in which it happened.
    pub fn events(&self) -> io::Result<Vec<Event>> {
        self.read().map(|(events, _)| events)
    }
}

/// The event as a line that is not too long.
fn line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    if line.len() >= MAX_LINE {
        let mut short = event.clone();
        short.action = event.action.chars().take(MAX_ACTION).collect();
        short.actor.attributes.retain(|name, _| KEPT.contains(&name.as_str()));
        short.actor.attributes.values_mut().for_each(|value| *value = value.chars().take(MAX_ACTION).collect());
        line = serde_json::to_vec(&short)?;
    }
    line.push(b'\n');
    Ok(line)
}

fn open(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().append(true).create(true)).open(path)
}

/// Commands and labels are nobody else's business.
#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// A file of the journal, read up to somewhere.
#[derive(Debug)]
pub(super) struct Tail {
    file: BufReader<File>,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
}

impl Tail {
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { file: BufReader::new(file), partial: Vec::new() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds what has come since the last time. A line that is no event, such as one that a full disk cut off, is passed
    /// over.
    pub fn read(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        loop {
            let room = (MAX_LINE + 2).saturating_sub(self.partial.len()) as u64;
            if self.file.by_ref().take(room).read_until(b'\n', &mut self.partial)? == 0 {
                return Ok(());
            }
            if self.partial.ends_with(b"\n") {
                events.extend(serde_json::from_slice::<Event>(&self.partial).ok());
                self.partial.clear();
            } else if self.partial.len() > MAX_LINE {
                self.partial.clear();
            }
        }
    }

    /// Whether this is the file that is at `path` now.
    #[cfg(target_os = "linux")]
    pub fn is_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let there = std::fs::metadata(path).map(identity);
        there.is_ok_and(|there| self.file.get_ref().metadata().map(identity).is_ok_and(|ours| ours == there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Actor, Type};

    fn event(action: &str) -> Event {
        let actor = Actor { id: "x".into(), ..Actor::default() };
        Event::now(Type::Container, action, actor.with("name", "web"))
    }

    #[test]
    fn events_are_read_as_they_were_noted_and_kept_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(&directory.path().join("not/yet"));
        assert_eq!(journal.events().unwrap(), []);
        let events = [event("create"), event("start"), event("die")];
        events.iter().for_each(|event| journal.note(event).unwrap());
        assert_eq!(journal.events().unwrap(), events);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(journal.path()).unwrap().permissions().mode() & 0o077, 0);
        }
    }

    #[test]
    fn lines_are_in_dockers_form() {
        let line = String::from_utf8(line(&event("start")).unwrap()).unwrap();
        let start = r#"{"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{"name":"web"}},"scope":"local","time":"#;
        assert!(line.starts_with(start) && line.contains(r#","timeNano":"#) && line.ends_with("}\n"), "{line}");
    }

    #[test]
    fn the_journal_is_bounded_and_keeps_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        let mut long = event("create");
        long.actor.attributes.insert("label".into(), "x".repeat(10_000));
        for number in 0..500 {
            long.actor.attributes.insert("number".into(), number.to_string());
            journal.note(&long).unwrap();
        }
        let size: u64 =
            std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(size <= 2 * (MAX_FILE + MAX_LINE as u64), "{size}");
        let events = journal.events().unwrap();
        assert!(events.len() > 100 && events.len() < 300, "{}", events.len());
        assert_eq!(events.last().unwrap().actor.attributes["number"], "499");
    }

    #[test]
    fn an_event_that_is_too_long_loses_its_labels_first() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        let mut long = event(&format!("exec_create: {}", "é".repeat(MAX_LINE)));
        long.actor.attributes.insert("a-label".into(), "x".repeat(MAX_LINE));
        long.actor.attributes.insert("image".into(), "i".repeat(MAX_LINE));
        journal.note(&long).unwrap();
        let events = journal.events().unwrap();
        let [kept] = &events[..] else { panic!("{events:?}") };
        assert_eq!((kept.verb(), kept.actor.attributes["name"].as_str()), ("exec_create", "web"));
        assert!(!kept.actor.attributes.contains_key("a-label"));
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        journal.note(&event("one")).unwrap();
        let mut file = open(journal.path()).unwrap();
        file.write_all(b"{\"Type\":\"cont\n\xff\xfe\n").unwrap();
        file.write_all(&vec![b'x'; 3 * MAX_LINE]).unwrap();
        file.write_all(b"\n").unwrap();
        journal.note(&event("two")).unwrap();
        let actions: Vec<String> = journal.events().unwrap().into_iter().map(|event| event.action).collect();
        assert_eq!(actions, ["one", "two"]);
    }

    #[test]
    fn many_writers_spoil_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| journal.note(&event("start")).unwrap()));
            }
        });
        assert_eq!(journal.events().unwrap().len(), 400);
    }
}
