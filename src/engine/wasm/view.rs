//! What a running program's engine shows of it: numbers that it writes down while it runs, for who looks from outside.
//!
//! ```text
//!  supervisor                    the program's process (its fork)
//!  Board::shared ───────────────▶ the same page of memory
//!  Board::bytes ◀──── atomics ─── limiter, host calls, requests, trap
//!      │
//!      └─▶ Numbers::parse        whoever asked, which may be another process
//! ```
//!
//! The page is made before the walls go up. Through it the program's process can tell us 512 numbers, and nothing else: it
//! holds no descriptor of it and no path leads to it. A program that has taken its engine over can write lies there,
//! so a reader believes nothing: every number may be any number, and text is cut and made printable.
//!
//! Writing costs a relaxed atomic addition, at places that are slow anyhow: growing a memory, a request; calls of the host
//! are counted by their instance and told in bundles. Without a page it costs a branch.

use std::fmt;
#[cfg(unix)]
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;

use super::shown;
#[cfg(unix)]
use crate::sys;

/// One number of the page, by its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Number {
    /// The instances that there are: one of a command, one for each request of a server.
    Instances = 0,
    /// The instances that were made.
    InstancesMade,
    /// The linear memories of these instances.
    Memories,
    /// Their size, in bytes.
    MemoryBytes,
    /// The largest size that they had.
    MemoryPeak,
    /// How often a memory was not let grow.
    MemoryRefused,
    /// The tables of these instances.
    Tables,
    /// Their elements.
    TableElements,
    /// How often a table was not let grow.
    TableRefused,
    /// The handles (files, streams, sockets, requests) that an instance had open when that was last looked at.
    Handles,
    /// Calls of WASI preview 1.
    CallsPreview1,
    /// Calls of `wasi:filesystem`.
    CallsFilesystem,
    /// Calls of `wasi:sockets`.
    CallsSockets,
    /// Calls of `wasi:cli`.
    CallsCli,
    /// Calls of `wasi:http`.
    CallsHttp,
    /// All calls of components, those of the kinds above included.
    CallsComponent,
    /// Requests that are being served.
    RequestsActive,
    /// Requests that were answered.
    RequestsServed,
    /// Requests that failed otherwise than by a trap.
    RequestsFailed,
    /// Requests whose instance trapped.
    RequestsTrapped,
    /// Requests that were turned away, such as above a limit.
    RequestsRefused,
    /// The time of all requests together, in microseconds.
    RequestsMicros,
    /// Traps.
    Traps,
}

/// Where the times of requests are counted, by length.
const LATENCIES: usize = 64;
/// How many lengths are told apart: four for each power of two, up to about an hour.
const LATENCY_BUCKETS: usize = 128;
/// Where the words of the last trap are: their length in bytes, then the bytes.
const TRAP: usize = 256;
/// The most bytes of a trap's words.
const MAX_TRAP: usize = 200;
/// How many numbers there are.
const WORDS: usize = 512;
/// How long the page is.
pub const BYTES: usize = WORDS * 8;

/// Where a program's numbers are written down, if anybody may want to look.
#[derive(Clone, Default)]
pub struct Board {
    #[cfg(unix)]
    page: Option<Arc<sys::shared::Page>>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Board {
    /// One that this process shares with the children that it forks from here on.
    #[cfg(unix)]
    pub fn shared() -> sys::Result<Self> {
        Ok(Self { page: Some(Arc::new(sys::shared::Page::new()?)) })
    }

    #[cfg(unix)]
    fn words(&self) -> Option<&[AtomicU64; WORDS]> {
        self.page.as_ref().map(|page| page.words())
    }

    /// Elsewhere nobody looks: a program is in the foreground.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "there is a page on other systems")]
    fn words(&self) -> Option<&[AtomicU64; WORDS]> {
        None
    }

    /// The page as it is now.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.words().map(|words| words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect())
    }

    /// The numbers as they are now.
    pub fn numbers(&self) -> Option<Numbers> {
        self.bytes().and_then(|bytes| Numbers::parse(&bytes))
    }

    /// Counts `by` more.
    pub fn add(&self, number: Number, by: u64) {
        if let Some(words) = self.words() {
            words[number as usize].fetch_add(by, Relaxed);
        }
    }

    /// Counts `by` fewer.
    pub fn sub(&self, number: Number, by: u64) {
        if let Some(words) = self.words() {
            words[number as usize].fetch_sub(by, Relaxed);
        }
    }

    /// Sets a number.
    pub fn set(&self, number: Number, value: u64) {
        if let Some(words) = self.words() {
            words[number as usize].store(value, Relaxed);
        }
    }

    /// Raises a number to `value`.
    pub fn raise(&self, number: Number, value: u64) {
        if let Some(words) = self.words() {
            words[number as usize].fetch_max(value, Relaxed);
        }
    }

    fn grow(&self, number: Number, peak: Number, by: u64) {
        if let Some(words) = self.words() {
            let now = words[number as usize].fetch_add(by, Relaxed).wrapping_add(by);
            words[peak as usize].fetch_max(now, Relaxed);
        }
    }

    /// Writes down that the program trapped, and how.
    pub fn trap(&self, cause: &str) {
        self.add(Number::Traps, 1);
        let Some(words) = self.words() else { return };
        let bytes = &cause.as_bytes()[..cause.len().min(MAX_TRAP)];
        for (word, chunk) in words[TRAP + 1..].iter().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(eight), Relaxed);
        }
        words[TRAP].store(bytes.len() as u64, Relaxed);
    }

    /// Writes down that a request has come; how it went is said to what this returns, and if nothing is, it failed.
    pub fn request(&self) -> Request {
        self.add(Number::RequestsActive, 1);
        Request { board: self.clone(), began: Instant::now(), ended: Number::RequestsFailed }
    }
}

/// A request that is being served.
#[must_use = "it has ended when this is dropped"]
#[derive(Debug)]
pub struct Request {
    board: Board,
    began: Instant,
    ended: Number,
}

impl Request {
    /// It was answered.
    pub fn served(mut self) {
        self.ended = Number::RequestsServed;
    }

    /// Its instance trapped; the trap itself is told to [`Board::trap`].
    pub fn trapped(mut self) {
        self.ended = Number::RequestsTrapped;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.board.sub(Number::RequestsActive, 1);
        self.board.add(self.ended, 1);
        self.board.add(Number::RequestsMicros, micros);
        if let Some(words) = self.board.words() {
            words[LATENCIES + bucket(micros)].fetch_add(1, Relaxed);
        }
    }
}

/// The place of a length of time among the latencies: exact below 8 µs, then four to each power of two.
fn bucket(micros: u64) -> usize {
    if micros < 8 {
        return micros as usize;
    }
    let power = micros.ilog2() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    (8 + (power - 3) * 4 + quarter).min(LATENCY_BUCKETS - 1)
}

/// The longest time that is counted at a place.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let (power, quarter) = ((bucket - 8) / 4 + 3, (bucket - 8) % 4);
    (((5 + quarter) as u64) << (power - 2)) - 1
}

/// A page that was read. Whoever wrote it may have written anything.
#[derive(Clone, Debug)]
pub struct Numbers(Vec<u64>);

impl Numbers {
    /// The numbers of a page, if that is one by its length.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        (bytes.len() == BYTES).then(|| Self(words.collect()))
    }

    /// One of them.
    pub fn get(&self, number: Number) -> u64 {
        self.0[number as usize]
    }

    /// Calls of the host, by kind, as far as there were any.
    pub fn calls(&self) -> Vec<(&'static str, u64)> {
        const KINDS: [(&str, Number); 5] = [
            ("preview1", Number::CallsPreview1),
            ("filesystem", Number::CallsFilesystem),
            ("sockets", Number::CallsSockets),
            ("cli", Number::CallsCli),
            ("http", Number::CallsHttp),
        ];
        let mut calls: Vec<(&str, u64)> = KINDS.map(|(name, number)| (name, self.get(number))).into();
        let of_components = calls[1..].iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        // Streams, clocks, random numbers; and all of WASI 0.3.
        calls.push(("other", self.get(Number::CallsComponent).saturating_sub(of_components)));
        calls.retain(|(_, count)| *count > 0);
        calls
    }

    /// Whether there ever was a request.
    pub fn serves(&self) -> bool {
        use Number::{RequestsActive, RequestsRefused};
        self.requests() > 0 || self.get(RequestsActive) > 0 || self.get(RequestsRefused) > 0
    }

    /// Requests that have ended.
    pub fn requests(&self) -> u64 {
        let ended = [Number::RequestsServed, Number::RequestsFailed, Number::RequestsTrapped];
        ended.iter().fold(0, |sum, number| sum.saturating_add(self.get(*number)))
    }

    /// The time within which this part of the requests was served, from 0 to 1; to a quarter of it.
    pub fn latency(&self, part: f64) -> Option<Duration> {
        let counts = &self.0[LATENCIES..LATENCIES + LATENCY_BUCKETS];
        let all = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let wanted = (all as f64 * part).ceil().max(1.0);
        let mut sum = 0_u64;
        let found = counts.iter().position(|count| {
            sum = sum.saturating_add(*count);
            sum as f64 >= wanted
        });
        found.filter(|_| all > 0).map(|bucket| Duration::from_micros(upper_bound(bucket)))
    }

    /// The words of the last trap.
    pub fn trap(&self) -> Option<String> {
        let length = usize::try_from(self.0[TRAP]).unwrap_or(usize::MAX).min(MAX_TRAP);
        let bytes: Vec<u8> = self.0[TRAP + 1..].iter().flat_map(|word| word.to_le_bytes()).take(length).collect();
        (length > 0).then(|| shown(&String::from_utf8_lossy(&bytes), MAX_TRAP))
    }

    /// All of them by name, as `stats` and the builtin view print them in JSON.
    pub fn json(&self) -> Value {
        let calls: serde_json::Map<String, Value> =
            self.calls().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        let mut value = json!({
            "Instances": self.get(Number::Instances),
            "InstancesMade": self.get(Number::InstancesMade),
            "Memories": self.get(Number::Memories),
            "MemoryBytes": self.get(Number::MemoryBytes),
            "MemoryPeakBytes": self.get(Number::MemoryPeak),
            "MemoryRefused": self.get(Number::MemoryRefused),
            "Handles": self.get(Number::Handles),
            "Tables": self.get(Number::Tables),
            "TableElements": self.get(Number::TableElements),
            "Calls": calls,
            "Traps": self.get(Number::Traps),
            "LastTrap": self.trap(),
        });
        if self.serves() {
            let micros = |part| self.latency(part).map(|time| time.as_micros() as u64);
            value["Requests"] = json!({
                "Active": self.get(Number::RequestsActive),
                "Served": self.get(Number::RequestsServed),
                "Failed": self.get(Number::RequestsFailed),
                "Trapped": self.get(Number::RequestsTrapped),
                "Refused": self.get(Number::RequestsRefused),
                "P50Micros": micros(0.5),
                "P90Micros": micros(0.9),
                "P99Micros": micros(0.99),
            });
        }
        value
    }
}

/// The calls of one instance, and the handles that it has open. They are counted here and told to the board each time at
/// first, then at about every 64th call, so that counting is nothing against calling.
pub(super) struct Calls {
    board: Board,
    counts: [u64; Self::KINDS],
    made: usize,
    next: usize,
}

impl Calls {
    /// How many calls there are between two times of telling at the least.
    const EVERY: usize = 64;
    /// Where the kinds begin, and how many there are.
    const FIRST: usize = Number::CallsPreview1 as usize;
    const KINDS: usize = Number::CallsComponent as usize + 1 - Self::FIRST;

    pub(super) fn new(board: Board) -> Self {
        let next = if board.words().is_some() { 0 } else { usize::MAX };
        Self { board, counts: [0; Self::KINDS], made: 0, next }
    }

    /// Counts a call of this kind, as one of those of components too if it is one of theirs.
    pub(super) fn count(&mut self, kind: Number) {
        self.counts[kind as usize - Self::FIRST] += 1;
    }

    /// Counts one call, of whatever kind; whether it is time to tell.
    pub(super) fn is_due(&mut self) -> bool {
        self.made = self.made.saturating_add(1);
        self.made >= self.next
    }

    /// Tells the board, also how many handles there are in `table`.
    pub(super) fn tell(&mut self, table: &mut ResourceTable) {
        let handles = table.iter_mut().count();
        self.board.set(Number::Handles, handles as u64);
        self.flush();
        let pause = if self.made < Self::EVERY { 1 } else { handles.max(Self::EVERY) };
        self.next = self.made.saturating_add(pause);
    }

    fn flush(&mut self) {
        let Some(words) = self.board.words() else { return };
        for (count, word) in self.counts.iter_mut().zip(&words[Self::FIRST..]).filter(|(count, _)| **count > 0) {
            word.fetch_add(std::mem::take(count), Relaxed);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A limiter whose decisions are written down; what its instance took is given back when it is dropped with it.
pub(super) struct Watched<L> {
    limiter: L,
    board: Board,
    memory: u64,
    memories: u64,
    elements: u64,
    tables: u64,
    /// What was allowed last, and may still fail.
    last: u64,
}

impl<L> Watched<L> {
    pub(super) fn new(limiter: L, board: Board) -> Self {
        board.add(Number::Instances, 1);
        board.add(Number::InstancesMade, 1);
        Self { limiter, board, memory: 0, memories: 0, elements: 0, tables: 0, last: 0 }
    }
}

impl<L> Watched<L> {
    /// The limiter.
    pub(super) fn limiter(&self) -> &L {
        &self.limiter
    }
}

impl<L> Drop for Watched<L> {
    fn drop(&mut self) {
        self.board.sub(Number::Instances, 1);
        self.board.sub(Number::MemoryBytes, self.memory);
        self.board.sub(Number::Memories, self.memories);
        self.board.sub(Number::TableElements, self.elements);
        self.board.sub(Number::Tables, self.tables);
    }
}

impl<L: ResourceLimiter> ResourceLimiter for Watched<L> {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = self.limiter.memory_growing(current, desired, maximum);
        self.last = 0;
        if !matches!(allowed, Ok(true)) {
            self.board.add(Number::MemoryRefused, 1);
            return allowed;
        }
        let by = desired.saturating_sub(current) as u64;
        self.board.grow(Number::MemoryBytes, Number::MemoryPeak, by);
        self.memory += by;
        self.last = by;
        if current == 0 && by > 0 {
            self.board.add(Number::Memories, 1);
            self.memories += 1;
        }
        allowed
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // It was allowed, and then there was no room for it.
        let by = std::mem::take(&mut self.last);
        self.memory -= by;
        self.board.sub(Number::MemoryBytes, by);
        self.board.add(Number::MemoryRefused, 1);
        self.limiter.memory_grow_failed(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = self.limiter.table_growing(current, desired, maximum);
        if !matches!(allowed, Ok(true)) {
            self.board.add(Number::TableRefused, 1);
            return allowed;
        }
        let by = desired.saturating_sub(current) as u64;
        self.board.add(Number::TableElements, by);
        self.elements += by;
        if current == 0 && by > 0 {
            self.board.add(Number::Tables, 1);
            self.tables += 1;
        }
        allowed
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.board.add(Number::TableRefused, 1);
        self.limiter.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.limiter.instances()
    }

    fn tables(&self) -> usize {
        self.limiter.tables()
    }

    fn memories(&self) -> usize {
        self.limiter.memories()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_apart_to_a_quarter() {
        let mut last = 0;
        for micros in (0..4000).chain([1 << 20, (1 << 20) + (1 << 19), 1 << 31, 1 << 40, u64::MAX]) {
            let place = bucket(micros);
            assert!(place >= last && place < LATENCY_BUCKETS, "{micros}");
            last = place;
            if place < LATENCY_BUCKETS - 1 {
                let bound = upper_bound(place);
                assert!(bound >= micros && bound - micros <= micros / 4, "{micros} is counted as up to {bound}");
            }
        }
    }

    #[test]
    fn requests_are_counted_by_their_end() {
        let board = Board::shared().unwrap();
        for _ in 0..98 {
            board.request().served();
        }
        board.request().trapped();
        let active = board.request();
        drop(board.request());
        let numbers = board.numbers().unwrap();
        let of = |number| numbers.get(number);
        assert_eq!((of(Number::RequestsServed), of(Number::RequestsTrapped), of(Number::RequestsFailed)), (98, 1, 1));
        assert_eq!((of(Number::RequestsActive), numbers.requests()), (1, 100));
        assert!(numbers.latency(0.99) >= numbers.latency(0.5));
        drop(active);
    }

    #[test]
    fn a_reader_believes_nothing() {
        let lies = Numbers::parse(&[0xff; BYTES]).unwrap();
        lies.latency(0.99);
        lies.json();
        assert!(lies.trap().unwrap().chars().all(|c| !c.is_control()));
        assert_eq!(lies.requests(), u64::MAX);
        assert!(Numbers::parse(&[0; BYTES - 8]).is_none() && Numbers::parse(&[]).is_none());
        let board = Board::shared().unwrap();
        board.trap(&format!("\u{1b}[2J{}", "é".repeat(300)));
        let trap = board.numbers().unwrap().trap().unwrap();
        assert!(!trap.contains('\u{1b}') && trap.len() < 2 * MAX_TRAP + 20, "{trap}");
    }

    #[test]
    fn calls_are_told_at_once_at_first_and_all_in_the_end() {
        let board = Board::shared().unwrap();
        let told = || board.numbers().unwrap().get(Number::CallsPreview1);
        let (mut calls, mut table) = (Calls::new(board.clone()), ResourceTable::new());
        for made in 1..=1000 {
            calls.count(Number::CallsPreview1);
            if calls.is_due() {
                calls.tell(&mut table);
            }
            let lag = made - told();
            assert!(lag < 64 && (lag == 0 || made > 64), "{lag} of {made}");
        }
        drop(calls);
        assert_eq!(told(), 1000);
    }

    #[test]
    fn what_an_instance_took_is_given_back() {
        let board = Board::shared().unwrap();
        let limits = wasmtime::StoreLimitsBuilder::new().memory_size(1000).build();
        let mut watched = Watched::new(limits, board.clone());
        assert!(watched.memory_growing(0, 600, None).unwrap());
        assert!(!watched.memory_growing(600, 1200, None).unwrap());
        assert!(watched.table_growing(0, 10, None).unwrap());
        let numbers = board.numbers().unwrap();
        let of = |number| numbers.get(number);
        assert_eq!((of(Number::MemoryBytes), of(Number::MemoryRefused), of(Number::TableElements)), (600, 1, 10));
        drop(watched);
        let numbers = board.numbers().unwrap();
        let of = |number| numbers.get(number);
        assert_eq!((of(Number::MemoryBytes), of(Number::MemoryPeak), of(Number::Instances)), (0, 600, 0));
        assert_eq!(of(Number::InstancesMade), 1);
    }
}
