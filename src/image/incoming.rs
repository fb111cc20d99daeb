//! Layers on their way: read while they are fetched, from the files that they are fetched into.
//!
//! ```text
//! download ── append, then `reached` ──▶ file, bytes that count ──▶ reader: pread up to there, waits at the end
//!          ── commit,  then `arrived` ─▶ end of file, and not before
//!          ── failure ─────────────────▶ an error, which the download's own is told instead of
//! ```
//!
//! Nothing is kept in memory, so a reader may be as slow as it likes. It sees the end only once the blob is
//! verified. What it has read until then may have been wrong: then the arrival is *spoilt*, and whatever was made of
//! it counts for nothing, whether the download comes right afterwards or not.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::content::{self, Growing};
use crate::oci::{Digest, Layer};

/// The layers of one pull, those that are here already among them. Clones are the same.
#[derive(Clone)]
pub struct Incoming {
    content: content::Store,
    arrivals: Arc<HashMap<Digest, Arc<Arrival>>>,
}

/// One blob on its way.
#[derive(Default)]
pub(super) struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    file: Option<Arc<Growing>>,
    /// So many bytes count.
    there: u64,
    end: End,
    /// Which beginning this is.
    generation: u32,
    /// Readers took so many bytes of this beginning.
    taken: u64,
    spoilt: bool,
    /// A reader of this beginning ended before the blob did.
    abandoned: bool,
    readers: usize,
    /// Readers that wait for more.
    hungry: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Coming,
    Arrived,
    Failed,
}

/// The bytes of one layer's blob, from its beginning.
pub struct Reader {
    arrival: Arc<Arrival>,
    generation: u32,
    at: u64,
    ended: bool,
}

impl Incoming {
    pub(super) fn new(content: &content::Store, blobs: impl Iterator<Item = Digest>) -> Self {
        let arrivals = blobs.map(|digest| (digest, Arc::default())).collect();
        Self { content: content.clone(), arrivals: Arc::new(arrivals) }
    }

    /// The bytes of a layer's blob: from the store, or as they come.
    pub fn open(&self, layer: &Layer) -> content::Result<Box<dyn Read + Send>> {
        match self.arrivals.get(&layer.blob.digest) {
            Some(arrival) => Ok(Box::new(Reader::new(arrival.clone()))),
            None => Ok(Box::new(self.content.open_blob(&layer.blob.digest)?)),
        }
    }

    /// Whether a reader was given bytes that turned out to be wrong.
    pub fn spoilt(&self) -> bool {
        self.arrivals.values().any(|arrival| arrival.lock().spoilt)
    }

    /// Whether a layer that has arrived was not read to its end: nobody wants the others any more.
    pub(super) fn abandoned(&self) -> bool {
        self.arrivals.values().any(|arrival| arrival.is_abandoned())
    }

    pub(super) fn arrival(&self, digest: &Digest) -> Arc<Arrival> {
        self.arrivals.get(digest).cloned().unwrap_or_default()
    }

    /// Lets no reader wait for what does not come any more.
    pub(super) fn fail_rest(&self) {
        self.arrivals.values().for_each(|arrival| arrival.fail());
    }
}

impl Arrival {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// It comes into this file, where so much of it is already. What came before it counts no more.
    pub fn begins(&self, file: Growing, there: u64) {
        self.change(|state| {
            state.spoilt |= state.taken > 0;
            state.generation += 1;
            (state.taken, state.there, state.file) = (0, there, Some(Arc::new(file)));
            state.abandoned = false;
        });
    }

    /// So many bytes count now.
    pub fn reached(&self, there: u64) {
        self.change(|state| state.there = there);
    }

    /// The blob is in the store.
    pub fn arrived(&self) {
        self.change(|state| state.end = End::Arrived);
    }

    /// Whether a reader waits for more. `None` while there is no reader.
    pub fn is_hungry(&self) -> Option<bool> {
        let state = self.lock();
        (state.readers > 0).then_some(state.hungry > 0)
    }

    fn fail(&self) {
        self.change(|state| {
            if state.end == End::Coming {
                state.end = End::Failed;
            }
        });
    }

    fn is_abandoned(&self) -> bool {
        let state = self.lock();
        state.abandoned && state.end == End::Arrived
    }
}

impl Reader {
    fn new(arrival: Arc<Arrival>) -> Self {
        arrival.change(|state| state.readers += 1);
        Self { arrival, generation: 0, at: 0, ended: false }
    }

    /// Waits until there is more to read. `None` at the blob's end.
    fn next(&mut self) -> io::Result<Option<(Arc<Growing>, u64)>> {
        let mut state = self.arrival.lock();
        loop {
            if self.at == 0 {
                self.generation = state.generation;
            } else if self.generation != state.generation {
                return Err(io::Error::other("the blob had to be fetched once more from its beginning"));
            }
            match (&state.file, state.end) {
                (Some(file), _) if self.at < state.there => return Ok(Some((file.clone(), state.there - self.at))),
                (_, End::Arrived) => return Ok(None),
                (_, End::Failed) => return Err(io::Error::other("the rest of the blob does not come")),
                (_, End::Coming) => {
                    state.hungry += 1;
                    state = self.arrival.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.hungry -= 1;
                }
            }
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((file, there)) = self.next()? else {
            self.ended = true;
            return Ok(0);
        };
        let most = buffer.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        let read = file.read_at(&mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        let mut state = self.arrival.lock();
        if state.generation == self.generation {
            state.taken = state.taken.max(self.at);
        } else {
            state.spoilt = true; // it began again between the two locks
        }
        Ok(read)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (ended, generation) = (self.ended, self.generation);
        self.arrival.change(|state| {
            state.readers -= 1;
            state.abandoned |= !ended && state.generation == generation;
        });
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("blobs", &self.arrivals.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> Growing {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.into()
    }

    fn rest(reader: &mut Reader) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_reader_waits_for_more_and_for_the_verdict() {
        let arrival = Arc::<Arrival>::default();
        let mut reader = Reader::new(arrival.clone());
        let waiting = std::thread::spawn(move || rest(&mut reader));
        arrival.begins(file(b"hello, world"), 5);
        while arrival.is_hungry() != Some(true) {
            std::thread::yield_now();
        }
        arrival.reached(12);
        while arrival.is_hungry() != Some(true) {
            std::thread::yield_now();
        }
        assert!(!waiting.is_finished(), "all is there, and nobody has verified it");
        arrival.arrived();
        assert_eq!(waiting.join().unwrap().unwrap(), b"hello, world");
        assert!(!arrival.is_abandoned());
    }

    #[test]
    fn a_reader_learns_that_the_rest_does_not_come() {
        let arrival = Arc::<Arrival>::default();
        arrival.begins(file(b"hello"), 5);
        arrival.fail();
        assert!(rest(&mut Reader::new(arrival.clone())).is_err());
        assert!(!arrival.is_abandoned(), "it never arrived");
    }

    #[test]
    fn a_second_beginning_spoils_what_was_read_of_the_first() {
        let arrival = Arc::<Arrival>::default();
        let (mut early, mut late) = (Reader::new(arrival.clone()), Reader::new(arrival.clone()));
        arrival.begins(file(b"wrong"), 5);
        early.read_exact(&mut [0; 3]).unwrap();
        arrival.begins(file(b"right"), 0);
        arrival.reached(5);
        arrival.arrived();
        assert!(rest(&mut early).is_err());
        assert!(arrival.lock().spoilt);
        assert_eq!(rest(&mut late).unwrap(), b"right");
    }

    #[test]
    fn a_second_beginning_that_nobody_noticed_spoils_nothing() {
        let arrival = Arc::<Arrival>::default();
        arrival.begins(file(b"wrong"), 5);
        arrival.begins(file(b"right"), 5);
        arrival.arrived();
        assert_eq!(rest(&mut Reader::new(arrival.clone())).unwrap(), b"right");
        assert!(!arrival.lock().spoilt);
    }

    #[test]
    fn who_reads_half_of_what_arrives_wants_no_more() {
        let arrival = Arc::<Arrival>::default();
        let mut reader = Reader::new(arrival.clone());
        arrival.begins(file(b"right"), 5);
        reader.read_exact(&mut [0; 3]).unwrap();
        drop(reader);
        assert!(!arrival.is_abandoned(), "it may yet turn out to be wrong");
        arrival.arrived();
        assert!(arrival.is_abandoned());
    }
}
