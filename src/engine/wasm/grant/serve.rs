//! How an HTTP server is served: what its clients may ask of it, and how it ends.

use std::time::Duration;

use super::{Set, Word, quantity};
use crate::engine::wasm::settings::MAX_INSTANCES;

/// The words of this group.
pub(super) const WORDS: &[Word] = &[
    Word {
        name: "serve-port",
        value: "PORT",
        opens: "Port of a server within its own network, where none is published (default: what the image exposes, or \
                8080)",
    },
    Word {
        name: "instance-reuse",
        value: "N",
        opens: "How many requests one instance of a server answers, one after the other (default 1: none sees what \
                another left)",
    },
    Word {
        name: "max-requests",
        value: "N",
        opens: "Requests at a time; one more is answered with 503 (default 1000)",
    },
    Word {
        name: "max-connections",
        value: "N",
        opens: "Connections at a time; one more waits to be accepted (default 1000)",
    },
    Word { name: "max-streams", value: "N", opens: "Requests at a time of one HTTP/2 connection (default 100)" },
    Word {
        name: "max-headers",
        value: "N",
        opens: "Header fields of a request; more are answered with 431 (default 100)",
    },
    Word {
        name: "max-header-size",
        value: "BYTES",
        opens: "All header fields of a request; more are answered with 431 (default 64k)",
    },
    Word {
        name: "max-request-body",
        value: "BYTES",
        opens: "The body of a request; more is answered with 413 (default 1g)",
    },
    Word {
        name: "max-response-body",
        value: "BYTES",
        opens: "The body of an answer; a longer one is cut off (default 1g)",
    },
    Word {
        name: "request-timeout",
        value: "DURATION",
        opens: "Time of a request, from its headers to the last byte of the answer; 504 if none has begun (default 60s)",
    },
    Word {
        name: "client-timeout",
        value: "DURATION",
        opens: "Time in which a client has to send a request's headers or to take some of an answer (default 30s)",
    },
    Word {
        name: "drain-timeout",
        value: "DURATION",
        opens: "Time in which requests may end after SIGTERM (default 8s, within the 10 that stop waits)",
    },
];

/// How an HTTP server is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Serve {
    /// The port on which it listens when it was given no socket.
    pub serve_port: u16,
    /// How many requests one instance answers, one after the other.
    pub instance_reuse: u32,
    /// How many requests are answered at a time.
    pub max_requests: usize,
    /// How many connections there are at a time.
    pub max_connections: usize,
    /// How many requests one HTTP/2 connection may have at a time.
    pub max_streams: u32,
    /// How many header fields a request may have.
    pub max_headers: usize,
    /// How many bytes they may have together.
    pub max_header_size: usize,
    /// How many bytes the body of a request may have.
    pub max_request_body: u64,
    /// How many bytes the body of an answer may have.
    pub max_response_body: u64,
    /// How long a request may take, from its headers to the last byte of its answer.
    pub request_timeout: Duration,
    /// How long a client may take for the headers of a request, or to take some of an answer.
    pub client_timeout: Duration,
    /// How long requests may go on when the server is told to end.
    pub drain_timeout: Duration,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            serve_port: DEFAULT_PORT,
            instance_reuse: 1,
            max_requests: MAX_INSTANCES as usize,
            max_connections: 1_000,
            max_streams: 100,
            max_headers: 100,
            max_header_size: 64 << 10,
            max_request_body: 1 << 30,
            max_response_body: 1 << 30,
            request_timeout: Duration::from_secs(60),
            client_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(8),
        }
    }
}

/// The port of a server that names none.
pub const DEFAULT_PORT: u16 = 8080;

/// The most connections: each is an open file.
const MAX_CONNECTIONS: u64 = 100_000;
/// The most header fields, as many as the parser below takes.
const MAX_HEADERS: u64 = 1_000;
/// What the header fields may have at the least (the parser's own minimum) and at the most.
const HEADER_SIZES: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;
/// The longest time that can be waited.
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);

impl Serve {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Set {
        let size = |value| number(value, 1..=u64::from(u32::MAX)).and_then(fit);
        match name {
            "serve-port" => self.serve_port = number(value, 1..=65_535).and_then(fit)?,
            "instance-reuse" => self.instance_reuse = number(value, 1..=u64::from(u32::MAX)).and_then(fit)?,
            "max-requests" => self.max_requests = number(value, 1..=u64::from(MAX_INSTANCES)).and_then(fit)?,
            "max-connections" => self.max_connections = number(value, 1..=MAX_CONNECTIONS).and_then(fit)?,
            "max-streams" => self.max_streams = size(value)?,
            "max-headers" => self.max_headers = number(value, 1..=MAX_HEADERS).and_then(fit)?,
            "max-header-size" => self.max_header_size = within(bytes(value)?, HEADER_SIZES).and_then(fit)?,
            "max-request-body" => self.max_request_body = bytes(value)?,
            "max-response-body" => self.max_response_body = bytes(value)?,
            "request-timeout" => self.request_timeout = time(value)?,
            "client-timeout" => self.client_timeout = time(value)?,
            "drain-timeout" => self.drain_timeout = time(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    within(text.parse().map_err(|_| "it is not a number".to_owned())?, range)
}

fn within(value: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let refused = || format!("it has to be {} to {}", range.start(), range.end());
    if range.contains(&value) { Ok(value) } else { Err(refused()) }
}

fn fit<T: TryFrom<u64>>(value: u64) -> Result<T, String> {
    T::try_from(value).map_err(|_| "it is too large".to_owned())
}

/// A size, as for Docker's limits: a number of bytes, or one of KiB, MiB or GiB with its letter.
fn bytes(text: &str) -> Result<u64, String> {
    let split = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let (digits, unit) = text.split_at(split);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return Err("its unit can be b, k, m or g".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "it is not a size, such as 64k".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".into())
}

/// A time that can be waited.
fn time(text: &str) -> Result<Duration, String> {
    let time = quantity::time(text)?;
    if time.is_zero() || time > MAX_TIME {
        Err("it has to be more than nothing and a day at most".into())
    } else {
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_taken() {
        for word in WORDS {
            let value = match word.value {
                "BYTES" => "16k",
                "DURATION" => "1500ms",
                _ => "7",
            };
            let mut serve = Serve::default();
            assert_eq!(serve.set(word.name, value), Ok(true), "{}", word.name);
            assert_ne!(serve, Serve::default(), "{}", word.name);
            assert!(serve.set(word.name, "x").is_err() && serve.set(word.name, "").is_err(), "{}", word.name);
        }
        assert_eq!(Serve::default().set("another", "1"), Ok(false));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (name, value) in [
            ("instance-reuse", "0"),
            ("max-requests", "1001"),
            ("max-headers", "1001"),
            ("max-header-size", "1k"),
            ("max-header-size", "2m"),
            ("max-request-body", "99999999999g"),
            ("max-request-body", "1t"),
            ("request-timeout", "0"),
            ("request-timeout", "25h"),
            ("drain-timeout", "-1s"),
        ] {
            assert!(Serve::default().set(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn sizes_and_times() {
        assert_eq!((bytes("5"), bytes("2k"), bytes("3MB")), (Ok(5), Ok(2048), Ok(3 << 20)));
        assert_eq!((time("5"), time("20ms")), (Ok(Duration::from_secs(5)), Ok(Duration::from_millis(20))));
    }
}
