//! What a pull asks besides manifests and blobs: a piece of a blob, and only what a tag means now.

use std::ops::Range;

use futures_util::StreamExt;
use futures_util::stream::TryStreamExt;
use reqwest::header::{ACCEPT, CONTENT_RANGE, RANGE};
use reqwest::{Method, StatusCode};

use super::error::What;
use super::http::{Access, DIGEST_HEADER, MANIFEST_TYPES, Repository, header};
use super::{Body, Client, Error, Result};
use crate::oci::{Descriptor, Digest};
use crate::reference::Reference;

impl Client {
    /// Opens the stream of a piece of a blob. One attempt; a registry that sends any other bytes is refused.
    pub async fn piece(&self, reference: &Reference, blob: &Descriptor, piece: Range<u64>) -> Result<Body> {
        self.repository(reference, Access::Pull).await?.piece(blob, piece).await
    }

    /// The digest of what `reference` means now, if the registry tells it. Rate limits do not count this question.
    /// One attempt: whoever is not answered asks for the document itself.
    pub async fn digest(&self, reference: &Reference) -> Result<Option<Digest>> {
        self.repository(reference, Access::Pull).await?.tag_digest(reference).await
    }
}

impl Repository {
    async fn piece(&self, blob: &Descriptor, piece: Range<u64>) -> Result<Body> {
        let asked = self.asked(What::Blob { digest: blob.digest.clone() });
        let url = self.url("blobs", blob.digest.as_str());
        let range = format!("bytes={}-{}", piece.start, piece.end.saturating_sub(1));
        let response = self.send(&asked, || self.http().get(&url).header(RANGE, &range)).await?;
        let sent = header(&response, CONTENT_RANGE.as_str());
        if response.status() != StatusCode::PARTIAL_CONTENT || !answers(sent.as_deref(), &piece, blob.size) {
            let (registry, what) = (self.registry().to_owned(), "a Content-Range header");
            let reason = format!("{} for {range} of {}", sent.as_deref().unwrap_or("nothing"), blob.size);
            return Err(Error::Protocol { registry, what, reason });
        }
        let stream = response.bytes_stream().map_ok(Vec::from).map_err(std::io::Error::other).boxed();
        Ok(Body { start: piece.start, registry: self.registry().to_owned(), stream })
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

/// Whether a `Content-Range` is that of `piece`, in a blob of this size.
fn answers(header: Option<&str>, piece: &Range<u64>, size: u64) -> bool {
    let parts = || {
        let (range, total) = header?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let known = total == "*" || total.parse() == Ok(size);
        Some(known && first.parse() == Ok(piece.start) && last.parse::<u64>().ok()?.checked_add(1)? == piece.end)
    };
    parts().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_piece_that_was_asked_for_is_taken() {
        for right in ["bytes 8-15/32", "bytes 8-15/*", " bytes 8-15/32 "] {
            assert!(answers(Some(right), &(8..16), 32), "{right}");
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
            assert!(!answers(Some(wrong), &(8..16), 32), "{wrong}");
        }
        assert!(!answers(None, &(8..16), 32));
    }
}
