//! What a supervisor and its clients say to each other, over a stream socket.
//!
//! ```text
//! byte 0      kind
//! bytes 1–4   length of what follows, big endian, at most MAX_PAYLOAD
//! ```

/// The most bytes of one frame: a pipe's capacity.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// The bytes before a frame's payload.
pub const HEADER: usize = 5;

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To the program's standard input.
    Stdin = 0,
    /// The standard input ends.
    StdinEnd = 1,
    /// The user's terminal has a new size: rows and columns, two bytes each.
    Resize = 2,
    /// A signal for the program: its number, one byte.
    Signal = 3,
    /// A part of the JSON of [`super::Execution`]: a further program to execute.
    Execute = 4,
    /// All of that has been sent: do it. The further frames of this client are about that program.
    ExecuteEnd = 5,
    /// What does the Wasm engine show of its program?
    Look = 6,
    /// The program wrote this to its standard output.
    Stdout = 16,
    /// The program wrote this to its standard error.
    Stderr = 17,
    /// The program runs.
    Started = 18,
    /// The program could not be started: JSON, [`super::StartFailure`].
    Failed = 19,
    /// The program ended: its exit status, one byte.
    Exited = 20,
    /// The page of the Wasm engine, [`crate::engine::wasm::view`]; empty where there is none.
    Page = 21,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::*;
        const ALL: [Kind; 13] =
            [Stdin, StdinEnd, Resize, Signal, Execute, ExecuteEnd, Look, Stdout, Stderr, Started, Failed, Exited, Page];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Appends a frame to `to`.
pub fn put(to: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    to.push(kind as u8);
    to.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    to.extend_from_slice(payload);
}

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A frame, and how many bytes it took.
    Frame(Kind, &'a [u8], usize),
    /// The beginning of one.
    Incomplete,
    /// Nothing that we speak.
    Invalid,
}

/// Reads the first frame of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else { return Parsed::Incomplete };
    let length = u32::from_be_bytes(header[1..].try_into().expect("four bytes")) as usize;
    match (Kind::of(header[0]), rest.get(..length)) {
        _ if length > MAX_PAYLOAD => Parsed::Invalid,
        (None, _) => Parsed::Invalid,
        (Some(_), None) => Parsed::Incomplete,
        (Some(kind), Some(payload)) => Parsed::Frame(kind, payload, HEADER + length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        put(&mut bytes, Kind::Stdout, b"hello");
        put(&mut bytes, Kind::StdinEnd, b"");
        assert_eq!(parse(&bytes), Parsed::Frame(Kind::Stdout, b"hello", 10));
        assert_eq!(parse(&bytes[10..]), Parsed::Frame(Kind::StdinEnd, b"", 5));
        for end in 0..10 {
            assert_eq!(parse(&bytes[..end]), Parsed::Incomplete);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(parse(&[99, 0, 0, 0, 0]), Parsed::Invalid);
        assert_eq!(parse(&[0, 0, 1, 0, 1]), Parsed::Invalid, "a frame above the limit");
    }
}
