//! What a pull asks besides manifests: a blob or a piece of it, and only what a tag means now.

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::TryStreamExt;
use reqwest::header::{ACCEPT, CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::error::What;
use super::http::{DIGEST_HEADER, MANIFEST_TYPES, Repository, header};
use super::mirror::Can;
use super::{Body, Client, Error, Result};
use crate::oci::{Descriptor, Digest};
use crate::reference::Reference;

impl Client {
    /// Opens the stream of a piece of a blob. One attempt; a registry that sends any other bytes is refused.
    pub async fn piece(&self, reference: &Reference, blob: &Descriptor, piece: Range<u64>) -> Result<Body> {
        let open = |repository: Arc<Repository>| {
            let piece = piece.clone();
            async move { repository.piece(blob, piece).await }
        };
        self.pulling(reference, Can::is_for_pull, open).await
    }

    /// The digest of what `reference` means now, if the registry tells it. Rate limits do not count this question.
    /// One attempt: whoever is not answered asks for the document itself.
    pub async fn digest(&self, reference: &Reference) -> Result<Option<Digest>> {
        let ask = |repository: Arc<Repository>| async move { repository.tag_digest(reference).await };
        self.pulling(reference, Can::is_for_resolve, ask).await
    }
}

impl Repository {
    /// All of a blob from `offset` on. An answer that says that it begins elsewhere is believed: its reader judges.
    pub(super) async fn rest(&self, blob: &Descriptor, offset: u64) -> Result<Body> {
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let response = self.bytes_of(blob, range.as_deref()).await?;
        let start = match (response.status(), range_of(&response)) {
            (StatusCode::PARTIAL_CONTENT, Some((first, ..))) if first > offset => {
                return Err(self.wrong_range(&response, &format!("{offset}-"), blob));
            }
            (StatusCode::PARTIAL_CONTENT, range) => range.map_or(offset, |(first, ..)| first),
            _ => 0,
        };
        Ok(self.body(response, start))
    }

    async fn piece(&self, blob: &Descriptor, piece: Range<u64>) -> Result<Body> {
        let asked = format!("{}-{}", piece.start, piece.end.saturating_sub(1));
        let response = self.bytes_of(blob, Some(&format!("bytes={asked}"))).await?;
        let right = range_of(&response).is_some_and(|range| answers(range, &piece, blob.size));
        if response.status() != StatusCode::PARTIAL_CONTENT || !right {
            return Err(self.wrong_range(&response, &asked, blob));
        }
        Ok(self.body(response, piece.start))
    }

    async fn bytes_of(&self, blob: &Descriptor, range: Option<&str>) -> Result<Response> {
        let asked = self.asked(What::Blob { digest: blob.digest.clone() });
        // By digest alone, so that the `urls` of a descriptor are never followed.
        let url = self.url("blobs", blob.digest.as_str());
        let request = || match range {
            Some(range) => self.http().get(&url).header(RANGE, range),
            None => self.http().get(&url),
        };
        self.send(&asked, request).await
    }

    fn body(&self, response: Response, start: u64) -> Body {
        let stream = response.bytes_stream().map_ok(Vec::from).map_err(std::io::Error::other).boxed();
        Body { start, host: self.host().clone(), stream }
    }

    fn wrong_range(&self, response: &Response, asked: &str, blob: &Descriptor) -> Error {
        let sent = header(response, CONTENT_RANGE.as_str()).unwrap_or_else(|| "nothing".to_owned());
        let reason = format!("{sent} for the bytes {asked} of {}", blob.size);
        Error::Protocol { registry: self.registry().to_owned(), what: "a Content-Range header", reason }
    }

    async fn tag_digest(&self, reference: &Reference) -> Result<Option<Digest>> {
        let asked = self.asked(What::Manifest { reference: reference.familiar() });
        let url = self.url("manifests", reference.tag().unwrap_or_default());
        let accept = MANIFEST_TYPES.join(", ");
        let head = || self.http().request(Method::HEAD, &url).header(ACCEPT, &accept);
        let response = self.send(&asked, head).await?;
        // What cannot be read is as good as not told: the manifest itself is judged anyway.
        Ok(header(&response, DIGEST_HEADER).and_then(|text| text.parse().ok()))
    }
}

fn range_of(response: &Response) -> Option<(u64, u64, Option<u64>)> {
    parse_range(&header(response, CONTENT_RANGE.as_str())?)
}

/// First and last byte of a `Content-Range`, and the size of the whole where it is told.
fn parse_range(header: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

/// Whether a range is that of `piece`, in a blob of this size.
fn answers((first, last, total): (u64, u64, Option<u64>), piece: &Range<u64>, size: u64) -> bool {
    first == piece.start && last.checked_add(1) == Some(piece.end) && total.is_none_or(|total| total == size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_piece_that_was_asked_for_is_taken() {
        for right in ["bytes 8-15/32", "bytes 8-15/*", " bytes 8-15/32 "] {
            assert!(answers(parse_range(right).unwrap(), &(8..16), 32), "{right}");
        }
        for wrong in [
            "bytes 0-15/32",
            "bytes 8-31/32",
            "bytes 8-15/33",
            "bytes */32",
            "8-15/32",
            "bytes 8-18446744073709551615/32",
            "",
        ] {
            assert!(!parse_range(wrong).is_some_and(|range| answers(range, &(8..16), 32)), "{wrong}");
        }
    }
}
