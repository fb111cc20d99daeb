//! Fetching blobs: several at once, each verified while it streams and read while it comes, resumed where it
//! broke, by this process or by one before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::fetch::{Fetch, Fetched};
use super::incoming::{Arrival, Incoming};
use super::{Error, Event, Progress, Result};
use crate::content::{self, Claimed, Partial};
use crate::error::tolerate;
use crate::oci::Descriptor;
use crate::reference::Reference;
use crate::registry::Client;

/// Layers fetched at once. Docker's number: more gain nothing on a home line, and on a fast one the
/// hashing of three fills the processors.
pub const PARALLEL_LAYERS: usize = 3;

/// Connections for pieces of large layers, besides one for each layer.
const HELPERS: usize = 6;
/// How often a blob that another process fetches is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether a broken download may go on where it broke.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// Also over several connections.
    Allowed,
    /// All comes over one connection.
    Refused,
}

/// Where blobs come from and go to.
#[derive(Clone)]
pub(super) struct Download {
    pub client: Client,
    pub reference: Reference,
    pub content: content::Store,
    pub helpers: Arc<Semaphore>,
}

impl Download {
    pub fn new(client: &Client, reference: &Reference, content: &content::Store) -> Self {
        let (client, reference, content) = (client.clone(), reference.clone(), content.clone());
        Self { client, reference, content, helpers: Arc::new(Semaphore::new(HELPERS)) }
    }

    /// Fetches these blobs, base first, [`PARALLEL_LAYERS`] at once. The first failure ends the others; what is
    /// complete stays, and what is not waits for the next pull.
    pub async fn all(&self, incoming: &Incoming, blobs: &[Descriptor], progress: &dyn Progress) -> Result<()> {
        let (sender, mut events) = unbounded_channel();
        let (mut next, mut tasks) = (blobs.iter(), JoinSet::new());
        let ended = loop {
            while tasks.len() < PARALLEL_LAYERS
                && let Some(blob) = next.next()
            {
                let (download, arrival) = (self.clone(), incoming.arrival(&blob.digest));
                let (sender, blob) = (sender.clone(), blob.clone());
                tasks.spawn(async move { download.one(&blob, &arrival, &sender).await });
            }
            tokio::select! {
                biased;
                Some(event) = events.recv() => progress.event(&event),
                ended = tasks.join_next() => match ended {
                    None => break Ok(()),
                    Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                    Some(Ok(Err(error))) => break Err(error),
                    Some(Ok(Ok(()))) if incoming.abandoned() => break Err(Error::Abandoned),
                    Some(Ok(Ok(()))) => {}
                },
            }
        };
        // A writer that is told to end leaves its files to the next.
        tasks.shutdown().await;
        while let Ok(event) = events.try_recv() {
            progress.event(&event);
        }
        if let Err(Error::Content(content::Error::Io { .. })) = ended {
            self.free_space(blobs);
        }
        ended
    }

    /// A disk that is full had better not be full of halves.
    pub fn free_space(&self, blobs: &[Descriptor]) {
        // The failure that led here is told; this would only be another face of it.
        blobs.iter().for_each(|blob| tolerate(self.content.forget_partial(&blob.digest)));
    }

    /// Fetches one small blob, and tells nobody but of retries.
    pub async fn quietly(&self, blob: &Descriptor, progress: &dyn Progress) -> Result<()> {
        let (sender, mut events) = unbounded_channel();
        let arrival = Arrival::default();
        let mut fetch = std::pin::pin!(self.one(blob, &arrival, &sender));
        loop {
            tokio::select! {
                ended = &mut fetch => return ended,
                Some(event) = events.recv() => if let Event::Retry { .. } = event { progress.event(&event) },
            }
        }
    }

    /// Fetches and commits one blob. If one that was put together from several connections is wrong,
    /// a registry or proxy may have begun at another place than it was asked to, or an earlier writer's
    /// machine lost its power: once more, in one piece. If a mirror's was wrong, the next host is asked for all of it.
    async fn one(&self, blob: &Descriptor, arrival: &Arrival, events: &UnboundedSender<Event>) -> Result<()> {
        let mut resume = Resume::Allowed;
        loop {
            let Some(partial) = self.claim(blob, events).await? else {
                // Another process has brought it: who reads it here reads the whole of it.
                arrival.begins(self.content.open_blob(&blob.digest)?.into(), blob.size);
                break;
            };
            let fetched = Fetch::new(self, blob, partial, arrival, events, resume)?.run().await?;
            let Fetched { partial, in_one_piece, sources } = fetched;
            tell(events, Event::Verifying { digest: blob.digest.clone() });
            match blocking(move || partial.commit()).await {
                Err(content::Error::Digest { .. })
                    if !in_one_piece || self.client.blame(&self.reference, &sources).await? =>
                {
                    resume = Resume::Refused;
                }
                committed => {
                    committed?;
                    break;
                }
            }
        }
        arrival.arrived();
        tell(events, Event::Complete { digest: blob.digest.clone() });
        Ok(())
    }

    /// The right to write a blob, which waits for another process that has it. `None` when it is in the store.
    async fn claim(&self, blob: &Descriptor, events: &UnboundedSender<Event>) -> Result<Option<Partial>> {
        let mut waiting = false;
        loop {
            let (content, wanted) = (self.content.clone(), blob.clone());
            match blocking(move || content.claim(&wanted)).await? {
                Claimed::Ours(partial) => return Ok(Some(*partial)),
                Claimed::Here => return Ok(None),
                Claimed::Theirs(bytes) => {
                    if !std::mem::replace(&mut waiting, true) {
                        tell(events, Event::Waiting { digest: blob.digest.clone() });
                    }
                    tell(events, Event::Received { digest: blob.digest.clone(), bytes });
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }
}

/// Hashing and syncing a layer takes its time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> content::Result<T> + Send + 'static) -> content::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Nobody listens any more once another layer has failed; then this one is about to end too.
pub(super) fn tell(events: &UnboundedSender<Event>, event: Event) {
    events.send(event).ok();
}
