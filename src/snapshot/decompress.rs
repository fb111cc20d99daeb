//! A blob as the tar archive in it: inflated and hashed on a thread of its own, handed over in buffers.
//!
//! ```text
//! blob file ─► sniff ─► gzip | zstd | plain ─► sha256 ─► bounded channel ─► Archive (BufRead)
//!                                                   ◄── emptied buffers ──┘
//! ```
//!
//! The magic bytes decide, not the media type, as in containerd: registries hold many layers with the
//! wrong label, and the digest of the uncompressed bytes vouches for the outcome either way. That digest
//! is over the *whole* stream, including what follows the archive's end.
//!
//! Bombs: memory is bounded by the window limit and by the buffers, output by [`MAX_OUTPUT`] and
//! [`MAX_RATIO`].

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use crate::oci::{Digest, Hasher};

use super::prepare::Source;

/// The most bytes that a layer may inflate to.
pub const MAX_OUTPUT: u64 = 256 << 30;

/// The most bytes out per byte in, once more than `RATIO_GRACE` came out. Deflate's own limit is 1032
/// (a match of 258 bytes for two bits), so no honest gzip is refused; zstd would allow many times more.
pub const MAX_RATIO: u64 = 1100;

/// Below this much output the ratio is not looked at.
pub const RATIO_GRACE: u64 = 1 << 30;

/// The largest zstd window, 128 MiB: zstd's own default for decoders (ZSTD_WINDOWLOG_LIMIT_DEFAULT).
pub const MAX_WINDOW_LOG: u32 = 27;

/// How much is handed over at a time: large writes, and little enough to stay in the cache.
const BUFFER: usize = 256 << 10;

/// How many full buffers may wait.
const BUFFERS_AHEAD: usize = 8;

/// The limits on output, which tests make small.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes out in all.
    pub output: u64,
    /// Bytes out per byte in.
    pub ratio: u64,
    /// Bytes out before the ratio counts.
    pub grace: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output: MAX_OUTPUT, ratio: MAX_RATIO, grace: RATIO_GRACE }
    }
}

/// What a blob turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magic {
    Plain,
    Gzip,
    Zstd,
    Other(&'static str),
}

/// Buffers with the inflated bytes, from the thread that makes them.
pub struct Archive {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
    taken: u64,
    ended: bool,
}

/// Starts to inflate `blob`. The handle yields the digest of all that came out.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    blob: Source,
    hasher: Hasher,
    limits: Limits,
    on_progress: impl Fn(u64) + Send + 'scope,
) -> (Archive, ScopedJoinHandle<'scope, Option<Digest>>) {
    let (to_archive, full) = sync_channel(BUFFERS_AHEAD);
    let (empty, from_archive) = channel();
    let thread = scope.spawn(move || {
        let pump = Pump { to_archive, from_archive, hasher, limits };
        pump.run(blob, on_progress)
    });
    (Archive { full, empty, current: Vec::new(), used: 0, taken: 0, ended: false }, thread)
}

/// The inflating side.
struct Pump {
    to_archive: SyncSender<io::Result<Vec<u8>>>,
    from_archive: Receiver<Vec<u8>>,
    hasher: Hasher,
    limits: Limits,
}

impl Pump {
    /// The digest; `None` when the reader was told of a failure, or has gone.
    fn run(mut self, blob: Source, on_progress: impl Fn(u64)) -> Option<Digest> {
        match self.pump(blob, on_progress) {
            Ok(true) => Some(self.hasher.finish()),
            Ok(false) => None,
            Err(error) => {
                // Nobody listens any more when the reader has failed first; then its error counts.
                self.to_archive.send(Err(error)).ok();
                None
            }
        }
    }

    fn pump(&mut self, blob: Source, on_progress: impl Fn(u64)) -> io::Result<bool> {
        let mut input = inflate(BufReader::with_capacity(BUFFER, blob.bytes))?;
        let mut output = 0u64;
        loop {
            let mut buffer = self.from_archive.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let length = fill(&mut input, &mut buffer)?;
            if length == 0 {
                return Ok(true);
            }
            output += length as u64;
            self.limits.check(blob.size, output)?;
            buffer.truncate(length);
            self.hasher.update(&buffer);
            on_progress(output);
            if self.to_archive.send(Ok(buffer)).is_err() {
                return Ok(false);
            }
        }
    }
}

impl Limits {
    fn check(&self, compressed: u64, output: u64) -> io::Result<()> {
        let bomb = |what: String| Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        if output > self.output {
            return bomb(format!("the layer inflates to more than {} bytes", self.output));
        }
        if output > self.grace && output / self.ratio > compressed {
            return bomb(format!("the layer inflates to more than {} times its size", self.ratio));
        }
        Ok(())
    }
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What is in a stream that is compressed by gzip or zstd, or not at all.
pub fn inflate(mut input: BufReader<Box<dyn Read + Send>>) -> io::Result<Box<dyn Read>> {
    match sniff(input.fill_buf()?) {
        Magic::Plain => Ok(Box::new(input)),
        Magic::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        Magic::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Ok(Box::new(decoder))
        }
        Magic::Other(name) => {
            let what = format!("the layer is compressed with {name}; gzip, zstd and plain tar are supported");
            Err(io::Error::new(io::ErrorKind::Unsupported, what))
        }
    }
}

fn sniff(start: &[u8]) -> Magic {
    match start {
        [0x1f, 0x8b, 0x08, ..] => Magic::Gzip,
        // A frame of data, or one to skip, RFC 8878 section 3.1.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Magic::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Magic::Other("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Magic::Other("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Magic::Other("lz4"),
        _ => Magic::Plain,
    }
}

impl Archive {
    /// Takes all that is left, so that the digest is of the whole stream.
    pub fn drain(&mut self) -> io::Result<()> {
        while !self.fill_buf()?.is_empty() {
            self.consume(self.current.len() - self.used);
        }
        Ok(())
    }

    /// How many bytes were taken out.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

impl BufRead for Archive {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.current.len() && !self.ended {
            let emptied = std::mem::take(&mut self.current);
            self.used = 0;
            // The other side may have ended; then it needs no buffers.
            self.empty.send(emptied).ok();
            match self.full.recv() {
                Ok(full) => self.current = full?,
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.current[self.used..])
    }

    fn consume(&mut self, length: usize) {
        self.used += length;
        self.taken += length as u64;
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn source(blob: std::fs::File) -> Source {
        let size = blob.metadata().unwrap().len();
        Source { bytes: Box::new(blob), size }
    }

    /// Inflates a gzip of `size` zeros.
    fn inflated(size: usize, limits: Limits) -> io::Result<usize> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; size]).unwrap();
        let mut blob = tempfile::tempfile().unwrap();
        blob.write_all(&encoder.finish().unwrap()).unwrap();
        io::Seek::rewind(&mut blob).unwrap();
        std::thread::scope(|scope| {
            let (mut archive, pump) = start(scope, source(blob), Hasher::sha256(), limits, |_| {});
            let mut bytes = Vec::new();
            let outcome = archive.read_to_end(&mut bytes);
            drop(archive);
            assert_eq!(pump.join().unwrap().is_some(), outcome.is_ok());
            outcome
        })
    }

    #[test]
    fn output_is_limited() {
        let limits = Limits { output: 1 << 20, ..Limits::default() };
        assert_eq!(inflated(1 << 20, limits).unwrap(), 1 << 20);
        let error = inflated((1 << 20) + 1, limits).unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }

    #[test]
    fn the_ratio_is_limited_beyond_what_deflate_can() {
        let strict = Limits { ratio: 900, grace: 1 << 20, ..Limits::default() };
        assert!(inflated(1 << 20, strict).is_ok(), "within the grace");
        let error = inflated(8 << 20, strict).unwrap_err();
        assert!(error.to_string().contains("900 times"), "{error}");
        assert!(inflated(8 << 20, Limits { grace: 1 << 20, ..Limits::default() }).is_ok(), "an honest gzip");
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_pump() {
        let mut blob = tempfile::tempfile().unwrap();
        blob.write_all(&vec![1; 64 * BUFFER]).unwrap();
        io::Seek::rewind(&mut blob).unwrap();
        std::thread::scope(|scope| {
            let (archive, pump) = start(scope, source(blob), Hasher::sha256(), Limits::default(), |_| {});
            drop(archive);
            assert_eq!(pump.join().unwrap(), None);
        });
    }
}
