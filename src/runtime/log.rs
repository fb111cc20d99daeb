//! What is said to whoever runs us: log lines in runc's two forms, which engines parse, and a plain line for people.
//!
//! With `--log FILE` every line goes to the file, and an error also, plainly, to standard error. Without it
//! standard error is the log: JSON when that was asked for, else one readable line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::error::tolerate;

/// How much a line matters, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// Something was not as it should be, and it went on.
    Warning,
    /// Why the command failed.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=error msg="…"`.
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`.
    Json,
}

/// Where lines go.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    format: Format,
    least: Level,
}

impl Log {
    /// The log of a command line that cannot be read.
    pub const PLAIN: Self = Self { file: None, format: Format::Text, least: Level::Warning };

    /// Opens the log; lines are added to what the file has.
    pub fn open(path: Option<&Path>, format: Format, least: Level) -> std::io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: path.map(open).transpose()?, format, least })
    }

    /// Something for whoever looks for a fault; the text is made only if it is wanted.
    pub fn debug(&self, text: impl FnOnce() -> String) {
        if self.least <= Level::Debug {
            self.say(Level::Debug, &text());
        }
    }

    /// Something was not as it should be.
    pub fn warn(&self, text: &str) {
        self.say(Level::Warning, text);
    }

    /// Why the command fails: the last line.
    pub fn error(&self, text: &str) {
        self.say(Level::Error, text);
        if self.file.is_some() {
            plain(Level::Error, text);
        }
    }

    fn say(&self, level: Level, text: &str) {
        if level < self.least {
            return;
        }
        match (self.file.as_ref(), self.format) {
            // A log that cannot be written must not keep a container from being removed.
            (Some(mut file), format) => tolerate(file.write_all(line(format, level, text).as_bytes())),
            (None, Format::Json) => tolerate(std::io::stderr().write_all(line(Format::Json, level, text).as_bytes())),
            (None, Format::Text) => plain(level, text),
        }
    }
}

/// One line for people.
fn plain(level: Level, text: &str) {
    let mark = match level {
        Level::Error => "",
        Level::Warning => "warning: ",
        Level::Debug => "debug: ",
    };
    // What it tells of can come from a container: it does not get to steer the terminal.
    let text: String =
        text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    // In one piece, since others may write there too; without a standard error there is nobody to tell.
    tolerate(std::io::stderr().write_all(format!("wherry: {mark}{text}\n").as_bytes()));
}

/// A line of the log, with its end.
fn line(format: Format, level: Level, text: &str) -> String {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let (level, quoted) = (level.name(), serde_json::Value::from(text));
    match format {
        Format::Text => format!("time=\"{time}\" level={level} msg={quoted}\n"),
        Format::Json => format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_what_engines_parse() {
        let line = line(Format::Json, Level::Error, "cannot \"do\"\nit");
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((value["level"].as_str(), value["msg"].as_str()), (Some("error"), Some("cannot \"do\"\nit")));
        let time: jiff::Timestamp = value["time"].as_str().unwrap().parse().unwrap();
        assert!(jiff::Timestamp::now().duration_since(time).as_secs() < 5);
    }

    #[test]
    fn only_what_matters_enough_is_written_and_the_file_keeps_what_it_had() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let log = Log::open(Some(&path), Format::Text, Level::Warning).unwrap();
        log.debug(|| "unseen".into());
        log.warn("seen");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before\ntime=\"") && text.ends_with("level=warning msg=\"seen\"\n"), "{text}");
    }
}
