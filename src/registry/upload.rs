//! The other way: blobs and manifests into a repository (distribution-spec, "Push").
//!
//! ```text
//! HEAD blob ─▶ 200                   it is there: nothing is sent
//!           ─▶ 404 ─▶ POST uploads/ ─▶ 202 Location ─▶ PUT Location?digest=… with all bytes
//! PUT manifest, last: what it names is there by then
//! ```
//!
//! The location is the registry's word and may lead to another host. Then nothing goes with the bytes that is meant
//! for the registry, and it has to be https, as for redirects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};

use super::endpoint::{is_link_local, is_loopback};
use super::error::What;
use super::http::{Repository, header, http_client, success};
use super::{Error, Result};
use crate::oci::{Descriptor, Digest};
use crate::reference::Reference;

/// How long a registry may take no byte, or think about what it was sent. One that copies a blob of gigabytes to a
/// cold store before it answers needs minutes.
const UPLOAD_SILENCE: Duration = Duration::from_secs(300);

/// What a blob consists of: it can be read more than once.
pub trait Contents: Sync {
    /// The bytes from the beginning, in pieces.
    fn read(&self) -> std::io::Result<BoxStream<'static, std::io::Result<Bytes>>>;
}

impl Repository {
    /// Whether this blob is there.
    pub async fn has(&self, digest: &Digest) -> Result<bool> {
        let asked = self.asked(What::Presence { digest: digest.clone() });
        let url = self.url("blobs", digest.as_str());
        let response = self.send(&asked, || self.http().request(Method::HEAD, &url)).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Sends a blob in one piece.
    pub async fn upload(&self, blob: &Descriptor, contents: &dyn Contents, sent: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let digest = &blob.digest;
        let asked = self.asked(What::Upload { digest: digest.clone() });
        let url = self.url("blobs", "uploads/");
        // Some registries want to see that there is no body.
        let response = self.send(&asked, || self.http().post(&url).header(CONTENT_LENGTH, 0)).await?;
        let (place, ours) = self.place(&url, &response, digest)?;
        let read = |source| Error::Source { digest: digest.clone(), source };
        let counted = Arc::new(AtomicU64::new(0));
        let count = counted.clone();
        let pieces = contents.read().map_err(read)?.inspect(move |piece| {
            let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            count.fetch_add(length, Ordering::Relaxed);
        });
        let request = http_client(self.endpoint(), None)?.put(place).body(Body::wrap_stream(pieces));
        let request = request.header(CONTENT_LENGTH, blob.size).header(CONTENT_TYPE, "application/octet-stream");
        let request = if ours { self.authorized(request).await } else { request };
        let asked = self.asked(What::Sent { digest: digest.clone() });
        let response = self.watched(request.send(), &counted, sent).await?;
        success(&asked, response).await.map(drop)
    }

    /// Gives a tag to a manifest.
    pub async fn name(&self, reference: &Reference, manifest: &Descriptor, bytes: &[u8]) -> Result<()> {
        let asked = self.asked(What::Name { reference: reference.familiar() });
        let url = self.url("manifests", reference.tag().unwrap_or(manifest.digest.as_str()));
        let media_type = manifest.media_type.as_str();
        self.send(&asked, || self.http().put(&url).header(CONTENT_TYPE, media_type).body(bytes.to_vec()))
            .await
            .map(drop)
    }

    /// Where a blob is to be sent, and whether that is the registry itself.
    fn place(&self, asked: &str, response: &Response, digest: &Digest) -> Result<(Url, bool)> {
        let location = header(response, LOCATION.as_str()).unwrap_or_default();
        let refuse = |reason: &str| Error::Protocol {
            registry: self.registry().to_owned(),
            what: "a place for an upload",
            reason: reason.to_owned(),
        };
        place(asked, &location, self.endpoint().loopback, digest).map_err(refuse)
    }

    /// Waits for the end of an upload as long as it goes on.
    async fn watched(
        &self,
        request: impl Future<Output = reqwest::Result<Response>>,
        counted: &AtomicU64,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<Response> {
        /// How often progress is told.
        const TICK: Duration = Duration::from_millis(200);
        let mut request = std::pin::pin!(request);
        let (mut before, mut silent) = (0, Duration::ZERO);
        loop {
            tokio::select! {
                response = &mut request => {
                    sent(counted.load(Ordering::Relaxed));
                    return response.map_err(|error| Error::of_request(self.registry(), error));
                }
                () = tokio::time::sleep(TICK) => {
                    let now = counted.load(Ordering::Relaxed);
                    silent = if now == before { silent + TICK } else { Duration::ZERO };
                    before = now;
                    sent(now);
                }
            }
            if silent >= UPLOAD_SILENCE {
                let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(Error::Broken { registry: self.registry().to_owned(), source: source.into() });
            }
        }
    }
}

/// The address to send a blob to, and whether it is of the same origin as the one that was `asked` for it.
fn place(asked: &str, location: &str, loopback: bool, digest: &Digest) -> Result<(Url, bool), &'static str> {
    let asked = Url::parse(asked).map_err(|_| "the request was no address")?;
    if location.is_empty() {
        return Err("it names none");
    }
    let mut url = asked.join(location).map_err(|_| "it is no address")?;
    let ours = url.origin() == asked.origin();
    let host = url.host_str().unwrap_or_default();
    if !ours && is_link_local(host) {
        return Err("it is a link-local address");
    }
    if !ours && url.scheme() != "https" && !(url.scheme() == "http" && loopback && is_loopback(host)) {
        return Err("it leads to another host without https");
    }
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    Ok((url, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_goes_where_it_may() {
        let digest = Digest::sha256(b"x");
        let to = |location: &str| {
            let asked = "https://r.io/v2/a/blobs/uploads/";
            place(asked, location, false, &digest).map(|(url, ours)| (url.to_string(), ours))
        };
        let (url, ours) = to("/v2/a/blobs/uploads/1?state=x%3D").unwrap();
        assert!(ours && url.starts_with("https://r.io/v2/a/blobs/uploads/1?state=x%3D&digest=sha256%3A"), "{url}");
        let (url, ours) = to("https://store.io/put?signature=y").unwrap();
        assert!(!ours && url.starts_with("https://store.io/put?signature=y&digest="), "{url}");
        assert!(to("https://r.io/v2/a/blobs/uploads/2").unwrap().1);
        assert!(!to("https://r.io:444/v2/a/blobs/uploads/2").unwrap().1, "another port is another");
        for bad in ["", "http://r.io/v2/x", "http://127.0.0.1/x", "https://169.254.169.254/x", "file:///etc", "//"] {
            assert!(to(bad).is_err(), "{bad}");
        }
        let local = |location| place("http://localhost:5000/v2/a/blobs/uploads/", location, true, &digest);
        assert!(!local("http://127.0.0.1:5001/x").unwrap().1);
        assert!(local("http://other.io/x").is_err());
    }
}
