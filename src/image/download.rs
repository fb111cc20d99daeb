//! Fetching blobs: several at once, each verified while it streams, resumed where it broke.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::{Error, Event, Progress, Result};
use crate::content;
use crate::oci::Descriptor;
use crate::reference::Reference;
use crate::registry::{self, Client};

/// Layers fetched at once. Docker's number: more gain nothing on a home line, and on a fast one the
/// hashing of three fills the processors.
pub const PARALLEL_LAYERS: usize = 3;

/// So many bytes without a failure make the earlier failures count no more.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Whether a broken download may go on where it broke.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resume {
    Allowed,
    Refused,
}

/// Where blobs come from and go to.
#[derive(Clone)]
pub(super) struct Download {
    pub client: Client,
    pub reference: Reference,
    pub content: content::Store,
}

impl Download {
    /// Fetches these blobs, [`PARALLEL_LAYERS`] at once. The first failure ends the others; what is
    /// complete stays.
    pub async fn all(&self, blobs: Vec<Descriptor>, progress: &dyn Progress) -> Result<()> {
        let (sender, mut events) = unbounded_channel();
        let permits = Arc::new(Semaphore::new(PARALLEL_LAYERS));
        let mut tasks = JoinSet::new();
        for blob in blobs {
            let (download, sender, permits) = (self.clone(), sender.clone(), permits.clone());
            tasks.spawn(async move {
                // Never closed, so a permit always comes.
                let _permit = permits.acquire().await;
                download.one(&blob, &sender).await
            });
        }
        drop(sender);
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => progress.event(&event),
                Some(ended) = tasks.join_next() => ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?,
                else => return Ok(()),
            }
        }
    }

    /// Fetches one small blob, and tells nobody but of retries.
    pub async fn quietly(&self, blob: &Descriptor, progress: &dyn Progress) -> Result<()> {
        let (sender, mut events) = unbounded_channel();
        let mut fetch = std::pin::pin!(self.one(blob, &sender));
        loop {
            tokio::select! {
                ended = &mut fetch => return ended,
                Some(event) = events.recv() => if let Event::Retry { .. } = event { progress.event(&event) },
            }
        }
    }

    /// Fetches and commits one blob. If one that was put together from several connections is wrong,
    /// a registry or proxy may have begun at another place than it was asked to: once more, in one piece.
    async fn one(&self, blob: &Descriptor, events: &UnboundedSender<Event>) -> Result<()> {
        let (ingest, in_one_piece) = self.fetch(blob, events, Resume::Allowed).await?;
        match commit(ingest).await {
            Err(content::Error::Digest { .. }) if !in_one_piece => {
                let (ingest, _) = self.fetch(blob, events, Resume::Refused).await?;
                commit(ingest).await?;
            }
            committed => committed?,
        }
        tell(events, Event::Complete { digest: blob.digest.clone() });
        Ok(())
    }

    /// All bytes of a blob, not yet verified, and whether one connection brought them all.
    async fn fetch(
        &self,
        blob: &Descriptor,
        events: &UnboundedSender<Event>,
        resume: Resume,
    ) -> Result<(content::Ingest, bool)> {
        let mut ingest = self.content.ingest(blob)?;
        let mut attempts = self.client.attempts();
        let mut in_one_piece = true;
        while ingest.written() < blob.size {
            let before = ingest.written();
            in_one_piece &= before == 0;
            let Err(error) = self.fill(blob, &mut ingest, events).await else { break };
            let Error::Registry(error) = error else { return Err(error) };
            if ingest.written().saturating_sub(before) >= PROGRESS_BYTES {
                attempts.progressed();
            }
            let Some(wait) = attempts.after(&error) else { return Err(error.into()) };
            tell(events, Event::Retry { digest: Some(blob.digest.clone()), wait, cause: error.to_string() });
            tokio::time::sleep(wait).await;
            if resume == Resume::Refused {
                ingest.restart()?;
            }
        }
        Ok((ingest, in_one_piece))
    }

    /// One connection's worth of a blob, from where the last one ended.
    async fn fill(
        &self,
        blob: &Descriptor,
        ingest: &mut content::Ingest,
        events: &UnboundedSender<Event>,
    ) -> Result<()> {
        let mut body = self.client.blob(&self.reference, blob, ingest.written()).await?;
        if body.start() != ingest.written() {
            ingest.restart()?;
        }
        while let Some(bytes) = body.next().await {
            ingest.append(&bytes?)?;
            tell(events, Event::Received { digest: blob.digest.clone(), bytes: ingest.written() });
        }
        match ingest.written() {
            received if received < blob.size => Err(registry::Error::Truncated {
                registry: self.reference.registry().to_owned(),
                digest: blob.digest.clone(),
                received,
                expected: blob.size,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// Syncing a layer to the disk takes its time.
async fn commit(ingest: content::Ingest) -> content::Result<()> {
    let committed = tokio::task::spawn_blocking(move || ingest.commit()).await;
    committed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map(drop)
}

/// Nobody listens any more once another layer has failed; then this one is about to end too.
fn tell(events: &UnboundedSender<Event>, event: Event) {
    events.send(event).ok();
}
