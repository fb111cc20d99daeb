//! Writing a log: one record, one write(2), so that a reader sees it whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::{MAX_RECORD, Stream};

/// The writer of one container's log.
pub struct Writer {
    file: File,
    partial: [Vec<u8>; 2],
    line: Vec<u8>,
}

#[derive(Serialize)]
struct Record<'a> {
    log: &'a str,
    stream: Stream,
    time: &'a str,
}

impl Writer {
    /// Opens the log at `path` to append to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { file, partial: [Vec::new(), Vec::new()], line: Vec::new() })
    }

    /// Takes what the program wrote to `stream`.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        self.line.clear();
        let time = jiff::Timestamp::now().to_string();
        while !bytes.is_empty() {
            let partial = &mut self.partial[stream as usize];
            let room = MAX_RECORD - partial.len();
            let newline = bytes.iter().take(room).position(|b| *b == b'\n');
            let (now, later) = bytes.split_at(newline.map_or(room.min(bytes.len()), |at| at + 1));
            bytes = later;
            if newline.is_none() && partial.len() + now.len() < MAX_RECORD {
                partial.extend_from_slice(now);
            } else if partial.is_empty() {
                append(&mut self.line, stream, now, &time)?;
            } else {
                partial.extend_from_slice(now);
                append(&mut self.line, stream, partial, &time)?;
                partial.clear();
            }
        }
        if self.line.is_empty() { Ok(()) } else { self.file.write_all(&self.line) }
    }

    /// Writes what has no newline and will get none.
    pub fn finish(mut self) -> io::Result<()> {
        self.line.clear();
        let time = jiff::Timestamp::now().to_string();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() {
                append(&mut self.line, stream, &partial, &time)?;
            }
        }
        self.file.write_all(&self.line)
    }
}

fn append(line: &mut Vec<u8>, stream: Stream, bytes: &[u8], time: &str) -> io::Result<()> {
    let log = String::from_utf8_lossy(bytes);
    serde_json::to_writer(&mut *line, &Record { log: &log, stream, time })?;
    line.push(b'\n');
    Ok(())
}
