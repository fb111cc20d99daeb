//! The bytes that a container wrote, with their stream and time, in the format of Docker's `json-file`
//! driver, which log collectors know:
//!
//! ```text
//! {"log":"hello\n","stream":"stdout","time":"2026-11-23T23:15:45.123456789Z"}
//! ```
//!
//! A record is one line, or [`MAX_RECORD`] bytes of a longer one; what a program writes without a newline
//! is kept until the newline, that length, or its end. The supervisor is the only writer. A reader takes
//! no lock and never slows it: a record is complete when its newline is there.

mod read;
mod write;

pub use read::{Reader, Record};
pub use write::Writer;

use serde::{Deserialize, Serialize};

/// The longest record: Docker's `maxMsgSize` of 16 KiB.
pub const MAX_RECORD: usize = 16 << 10;

/// The stream that a program wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(write: impl FnOnce(&mut Writer)) -> Vec<(Stream, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut writer = Writer::open(&path).unwrap();
        write(&mut writer);
        writer.finish().unwrap();
        Reader::open(&path).unwrap().map(|r| r.unwrap()).map(|r| (r.stream, r.text())).collect()
    }

    #[test]
    fn lines_are_put_together_a_stream_each() {
        let got = records(|w| {
            w.write(Stream::Stdout, b"he").unwrap();
            w.write(Stream::Stderr, b"oops\n").unwrap();
            w.write(Stream::Stdout, b"llo\nunfinished").unwrap();
        });
        let text = |s: &str| s.to_owned();
        assert_eq!(
            got,
            [(Stream::Stderr, text("oops\n")), (Stream::Stdout, text("hello\n")), (Stream::Stdout, text("unfinished"))]
        );
    }

    #[test]
    fn a_long_line_becomes_several_records_and_loses_nothing() {
        let long = "x".repeat(MAX_RECORD * 2 + 5);
        let got = records(|w| w.write(Stream::Stdout, long.as_bytes()).unwrap());
        assert_eq!(got.iter().map(|(_, t)| t.len()).collect::<Vec<_>>(), [MAX_RECORD, MAX_RECORD, 5]);
        assert_eq!(got.into_iter().map(|(_, t)| t).collect::<String>(), long);
    }

    #[test]
    fn quotes_controls_and_broken_utf8_are_json() {
        let got = records(|w| w.write(Stream::Stdout, b"a\"\\\x1b[0m\t\xff\n").unwrap());
        assert_eq!(got, [(Stream::Stdout, "a\"\\\u{1b}[0m\t\u{fffd}\n".to_owned())]);
    }

    #[test]
    fn a_record_that_is_being_written_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(
            &path,
            "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n{\"log\":\"b",
        )
        .unwrap();
        assert_eq!(Reader::open(&path).unwrap().count(), 1);
    }
}
