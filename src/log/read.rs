//! Reading a log, from its beginning to where it ends now; a follower asks again when there is more.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::Stream;

/// The longest line of the file: a record of [`super::MAX_RECORD`] bytes, every one of which JSON wrote as
/// six (`\u001b`), and what is around it.
const MAX_LINE: usize = super::MAX_RECORD * 6 + 256;

/// One record.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    log: String,
    /// Where it was written to.
    pub stream: Stream,
    /// When, RFC 3339.
    pub time: jiff::Timestamp,
}

impl Record {
    /// What was written.
    pub fn text(&self) -> String {
        self.log.clone()
    }

    /// What was written, as bytes.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.log.as_bytes())
    }
}

/// The records of a log, one after the other.
pub struct Reader {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Reader {
    /// Opens the log at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), line: Vec::new() })
    }
}

impl Iterator for Reader {
    type Item = io::Result<Record>;

    /// The next complete record; `None` for now when there is none, after which more may come.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let available = match self.file.fill_buf() {
                Ok([]) => return None,
                Ok(available) => available,
                Err(error) => return Some(Err(error)),
            };
            let end = available.iter().position(|b| *b == b'\n');
            let taken = end.map_or(available.len(), |at| at + 1);
            self.line.extend_from_slice(&available[..taken]);
            self.file.consume(taken);
            if end.is_some() {
                let record = serde_json::from_slice(&self.line).map_err(io::Error::from);
                self.line.clear();
                return Some(record);
            }
            if self.line.len() > MAX_LINE {
                return Some(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a record is longer than any that is written",
                )));
            }
        }
    }
}
