//! Fetching one blob into its file: over one connection from where the last one ended, and over more where each is
//! slowed down for itself.
//!
//! ```text
//! first connection  ────────────────────▶|        from the first hole on, up to a piece that another one has
//! further ones                            [8 MiB][8 MiB]▶   piece by piece, lowest first
//! hash and reader   ───────────────▶              only what is there without a hole
//! ```
//!
//! A further connection that breaks, or a registry that does not honour the range it was asked for, costs that
//! connection: what it leaves is taken up by the others. When the last one breaks, the blob is tried again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{MissedTickBehavior, interval};

use super::download::{Download, Resume, tell};
use super::incoming::Arrival;
use super::pieces::{Pieces, Tuner};
use super::{Error, Event, Result};
use crate::content::{self, Partial};
use crate::oci::Descriptor;
use crate::registry;

/// So many bytes without a failure make the earlier failures count no more.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Progress is told once for so many bytes.
const TOLD_BYTES: u64 = 256 << 10;
/// How often it is looked whether another connection is worth while.
const LOOK: Duration = Duration::from_millis(250);
/// A layer that nobody reads yet comes too slowly below so many bytes in that time: it will be read.
const SLOW_BYTES: u64 = 8 << 20;

/// One blob being fetched.
pub(super) struct Fetch<'a> {
    download: &'a Download,
    blob: &'a Descriptor,
    arrival: &'a Arrival,
    events: &'a UnboundedSender<Event>,
    resume: Resume,
    board: Mutex<Board>,
}

/// What its connections share.
struct Board {
    partial: Partial,
    pieces: Pieces,
    told: u64,
    /// How many answers brought bytes.
    answers: u32,
    /// Who sent them.
    sources: Vec<registry::Source>,
}

/// A blob that is here and not yet verified.
pub(super) struct Fetched {
    pub partial: Partial,
    /// Whether one answer brought it all.
    pub in_one_piece: bool,
    /// Who sent it, as far as this process knows.
    pub sources: Vec<registry::Source>,
}

/// How a connection asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// For all that follows.
    Rest,
    /// For one piece after the other.
    Piece,
}

impl<'a> Fetch<'a> {
    /// Goes on with what `partial` has, if it may.
    pub fn new(
        download: &'a Download,
        blob: &'a Descriptor,
        mut partial: Partial,
        arrival: &'a Arrival,
        events: &'a UnboundedSender<Event>,
        resume: Resume,
    ) -> Result<Self> {
        if resume == Resume::Refused {
            partial.restart()?;
        }
        let written = partial.written();
        arrival.begins(partial.reader()?, written);
        if written > 0 {
            tell(events, Event::Resumed { digest: blob.digest.clone(), bytes: written });
        }
        let pieces = Pieces::new(blob.size, written, resume == Resume::Allowed);
        let board = Board { partial, pieces, told: 0, answers: u32::from(written > 0), sources: Vec::new() };
        Ok(Self { download, blob, arrival, events, resume, board: Mutex::new(board) })
    }

    /// All bytes of the blob. What has come stays when it fails, unless it could not be written.
    pub async fn run(self) -> Result<Fetched> {
        let fetched = self.connect().await;
        let board = self.board.into_inner().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(()) => {
                let Board { partial, answers, sources, .. } = board;
                Ok(Fetched { partial, in_one_piece: answers <= 1, sources })
            }
            Err(error) => {
                if !matches!(error, Error::Registry(_)) {
                    board.partial.discard();
                }
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<()> {
        let mut attempts = self.download.client.attempts();
        let mut tuner = Tuner::new(self.resume == Resume::Allowed && self.board().pieces.untouched() > 1);
        let mut connections = FuturesUnordered::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut before) = (self.received(), self.received());
        while !connections.is_empty() || self.received() < self.blob.size {
            if connections.is_empty() {
                connections.push(self.connection(Reach::Rest, None));
            }
            tokio::select! {
                Some(ended) = connections.next() => match ended {
                    Ok(()) => {}
                    // The others go on, also with what this one leaves.
                    Err(Error::Registry(_)) if !connections.is_empty() => tuner.settle(),
                    Err(Error::Registry(error)) => {
                        if self.received().saturating_sub(before) >= PROGRESS_BYTES {
                            attempts.progressed();
                        }
                        self.pause(attempts.after(&error), error).await?;
                        before = self.received();
                    }
                    Err(error) => return Err(error),
                },
                _ = looks.tick() => {
                    let received = self.received();
                    let bytes = received.saturating_sub(seen);
                    let wanting = self.arrival.is_hungry().unwrap_or(bytes < SLOW_BYTES);
                    seen = received;
                    if tuner.look(bytes, wanting, self.board().pieces.untouched())
                        && let Ok(permit) = self.download.helpers.clone().try_acquire_owned()
                    {
                        connections.push(self.connection(Reach::Piece, Some(permit)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits before the next attempt, if there is to be one.
    async fn pause(&self, wait: Option<Duration>, error: registry::Error) -> Result<()> {
        let Some(wait) = wait else { return Err(error.into()) };
        tell(self.events, Event::Retry { digest: Some(self.blob.digest.clone()), wait, cause: error.to_string() });
        tokio::time::sleep(wait).await;
        if self.resume == Resume::Refused {
            let mut board = self.board();
            board.partial.restart()?;
            (board.pieces, board.answers) = (Pieces::new(self.blob.size, 0, false), 0);
            board.sources.clear();
            self.arrival.begins(board.partial.reader()?, 0);
        }
        Ok(())
    }

    /// One connection: the first piece that nobody has, and what follows, until nothing is left.
    async fn connection(&self, mut reach: Reach, _permit: Option<OwnedSemaphorePermit>) -> Result<()> {
        loop {
            let taken = self.board().pieces.take();
            let Some(mut piece) = taken else { return Ok(()) };
            let ended = self.stream(&mut piece, reach).await;
            self.board().pieces.release(piece);
            ended?;
            reach = Reach::Piece;
        }
    }

    /// One answer's worth. `piece` is the one that it is at.
    async fn stream(&self, piece: &mut usize, reach: Reach) -> Result<()> {
        let Download { client, reference, .. } = self.download;
        let missing = self.board().pieces.missing(*piece);
        let mut body = match reach {
            Reach::Rest => client.blob(reference, self.blob, missing.start).await?,
            Reach::Piece => client.piece(reference, self.blob, missing.clone()).await?,
        };
        // A registry that cannot begin in the middle sends again what is there already.
        let mut known = missing.start.saturating_sub(body.start());
        let mut any = false;
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            let skipped = known.min(bytes.len() as u64);
            known -= skipped;
            let source = (!std::mem::replace(&mut any, true)).then(|| body.source());
            match self.take_in(piece, &bytes[skipped as usize..], reach, source) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Error::Content(content::Error::Size { actual, .. })) if self.blame(body.source()).await? => {
                    return Err(self.wrong_size(actual));
                }
                Err(error) => return Err(error),
            }
        }
        let missing = self.board().pieces.missing(*piece);
        if missing.is_empty() {
            return Ok(());
        }
        self.blame(body.source()).await?;
        Err(self.wrong_size(missing.start))
    }

    /// Writes what has come. Whether the answer may bring more that is wanted; its sender is told of once.
    fn take_in(&self, piece: &mut usize, bytes: &[u8], reach: Reach, source: Option<registry::Source>) -> Result<bool> {
        let mut board = self.board();
        if let Some(source) = source {
            board.note(source);
        }
        let more = board.take_in(piece, bytes, reach);
        // What came before a byte too many may be all of the blob.
        self.arrival.reached(board.partial.written());
        let received = board.pieces.received();
        if received - board.told.min(received) >= TOLD_BYTES || received == self.blob.size {
            board.told = received;
            tell(self.events, Event::Received { digest: self.blob.digest.clone(), bytes: received });
        }
        more
    }

    /// A mirror may have a shorter or a longer one for good: the next attempt is somebody else's, if there is anybody.
    async fn blame(&self, source: registry::Source) -> Result<bool> {
        let Download { client, reference, .. } = self.download;
        Ok(client.blame(reference, &[source]).await?)
    }

    fn wrong_size(&self, received: u64) -> Error {
        Error::Registry(registry::Error::Truncated {
            registry: self.download.reference.registry().to_owned(),
            digest: self.blob.digest.clone(),
            received,
            expected: self.blob.size,
        })
    }

    fn received(&self) -> u64 {
        self.board().pieces.received()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Nothing under this lock panics half-way; it is never held while waiting.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// One more answer.
    fn note(&mut self, source: registry::Source) {
        self.answers += 1;
        if !self.sources.contains(&source) {
            self.sources.push(source);
        }
    }

    /// Writes what has come, and goes from piece to piece. Whether this answer may bring more that is wanted.
    fn take_in(&mut self, piece: &mut usize, mut bytes: &[u8], reach: Reach) -> Result<bool> {
        loop {
            let missing = self.pieces.missing(*piece);
            let length = bytes.len().min(usize::try_from(missing.end - missing.start).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(length);
            self.write(*piece, missing.start, now)?;
            if length as u64 != missing.end - missing.start {
                return Ok(true);
            }
            if self.pieces.is_last(*piece) {
                // More than the blob's size is refused, and not only left unread.
                self.partial.write_ahead(missing.end, later)?;
                return Ok(reach == Reach::Rest);
            }
            if reach == Reach::Piece || !self.pieces.run_on(*piece + 1) {
                return Ok(false);
            }
            self.pieces.release(*piece);
            (*piece, bytes) = (*piece + 1, later);
        }
    }

    fn write(&mut self, piece: usize, at: u64, bytes: &[u8]) -> Result<()> {
        if at == self.partial.written() {
            self.partial.append(bytes)?;
        } else {
            self.partial.write_ahead(at, bytes)?;
        }
        self.pieces.came(piece, bytes.len() as u64);
        let in_front = self.pieces.in_front();
        if in_front > self.partial.written() {
            self.partial.catch_up(in_front)?;
        }
        Ok(())
    }
}
