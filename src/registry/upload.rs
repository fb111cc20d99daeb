//! The other way: blobs and manifests into a repository (distribution-spec, "Push").
//!
//! ```text
//! HEAD blob ─▶ 200                              it is there: nothing is sent
//!           ─▶ 404 ─▶ POST uploads/?mount&from ─▶ 201   taken from another repository
//!                                              ─▶ 202 Location ─▶ PUT Location?digest=… with all bytes
//!   broken off, 5xx ─▶ GET Location ─▶ 204 Range   goes on there: PATCH Location with the rest, PUT without bytes
//!                                   ─▶ anything else: from the POST on
//!   413, 405, 501   ─▶ from the POST on in chunks, each a PATCH; 413 again: in smaller ones
//! HEAD manifest ─▶ 200 with its digest: it is there; else PUT manifest, last: what it names is there by then
//! ```
//!
//! A location is the registry's word and may lead to another host. Then nothing goes with the bytes that is meant
//! for the registry, and it has to be https, as for redirects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};

use super::endpoint::{is_link_local, is_loopback};
use super::error::{Asked, What};
use super::http::{Access, DIGEST_HEADER, Repository, header, success};
use super::{Client, Error, OnRetry, Result};
use crate::oci::{Descriptor, Digest};
use crate::reference::Reference;

/// How long a registry may take no byte, or think about what it was sent. One that copies a blob of gigabytes to a
/// cold store before it answers needs minutes.
const UPLOAD_SILENCE: Duration = Duration::from_secs(300);

/// How large the pieces are, tried in turn, where a registry or what stands before it does not take a blob at once.
/// The last is what nginx takes when nobody has told it more.
const CHUNKS: [u64; 3] = [32 << 20, 8 << 20, 1 << 20];

/// What a registry may demand as the least size of a chunk; real ones want 5 MiB, as S3 does.
const MAX_CHUNK: u64 = 512 << 20;

/// How often what is sent may be redirected.
const MAX_REDIRECTS: usize = 3;

/// The least size of a chunk but the last (distribution-spec, "Pushing a blob in chunks").
const LEAST_CHUNK: &str = "oci-chunk-min-length";
/// Says that the registry has taken notice of a manifest's subject.
const SUBJECT: &str = "oci-subject";

/// What a blob consists of: it can be read more than once.
pub trait Contents: Sync {
    /// So many bytes from this one on, in pieces.
    fn read(&self, from: u64, length: u64) -> std::io::Result<BoxStream<'static, std::io::Result<Bytes>>>;
}

/// A blob that is to be in a repository.
#[derive(Clone, Copy)]
pub struct Parcel<'a> {
    /// The repository.
    pub reference: &'a Reference,
    /// The blob.
    pub blob: &'a Descriptor,
    /// Its bytes.
    pub contents: &'a dyn Contents,
    /// A repository of the same registry that may have it.
    pub from: Option<&'a str>,
}

/// How a blob came to be in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was there.
    There,
    /// The registry took it from this repository.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// What a registry says to a manifest that it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Whether the registry itself lists it among its subject's referrers.
    pub knows_subject: bool,
}

/// A place to send bytes to, and whether the registry itself is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    url: Url,
    ours: bool,
}

/// How far a blob has come.
#[derive(Debug, Default)]
struct Upload {
    /// Where the registry wants it, once it has said so.
    place: Option<Place>,
    /// How many bytes the registry has.
    received: u64,
    /// The size of chunks, if it goes in chunks.
    chunk: Option<u64>,
    /// The least size that the registry takes.
    least: u64,
}

enum Begun {
    Mounted(String),
    At(Place, u64),
}

impl Client {
    /// Gets ready for a push to the repository of `reference` that would like to mount blobs of `sources`, which are
    /// repositories of the same registry: one token is for all of them. Of use before anything else of the push.
    pub async fn prepare(&self, reference: &Reference, sources: &[String], on_retry: OnRetry<'_>) -> Result<()> {
        self.trying(on_retry, async || self.repository_with(reference, Access::Push, sources).await.map(drop)).await
    }

    /// Brings a blob into a repository unless it is there. `sent` is told how many of its bytes are on their way.
    pub async fn deliver(
        &self,
        parcel: Parcel<'_>,
        sent: &(dyn Fn(u64) + Sync),
        on_retry: OnRetry<'_>,
    ) -> Result<Delivery> {
        let open = async || self.repository(parcel.reference, Access::Push).await;
        if self.trying(on_retry, async || open().await?.has(&parcel.blob.digest).await).await? {
            return Ok(Delivery::There);
        }
        let (mut attempts, mut upload) = (self.attempts(), Upload::default());
        loop {
            let before = upload.received;
            let error = match open().await?.advance(&mut upload, parcel, sent).await {
                Ok(delivery) => return Ok(delivery),
                Err(error) => error,
            };
            if upload.goes_smaller(&error, parcel.blob.size) {
                continue;
            }
            if upload.received > before {
                attempts.progressed();
            }
            let Some(pause) = attempts.after(&error) else { return Err(error) };
            on_retry(pause, &error);
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether `reference` means this manifest there already. What cannot be found out is not known, and so not there.
    pub async fn is_named(&self, reference: &Reference, manifest: &Descriptor) -> bool {
        match self.repository(reference, Access::Push).await {
            Ok(repository) => repository.is_named(reference, manifest).await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// Gives `reference`'s tag to a manifest whose blobs are in its repository; by its digest alone, if there is none.
    pub async fn name(
        &self,
        reference: &Reference,
        manifest: &Descriptor,
        bytes: &[u8],
        on_retry: OnRetry<'_>,
    ) -> Result<Named> {
        let put = async || self.repository(reference, Access::Push).await?.name(reference, manifest, bytes).await;
        self.trying(on_retry, put).await
    }
}

impl Upload {
    /// Whether it is worth another try in chunks, or in smaller ones, after this.
    fn goes_smaller(&mut self, error: &Error, size: u64) -> bool {
        let Error::Status { status, .. } = error else { return false };
        let now = match (self.chunk, status) {
            (None, 405 | 411 | 501) => u64::MAX,
            (None, 413) => size,
            (Some(chunk), 413) => chunk,
            _ => return false,
        };
        let Some(chunk) = CHUNKS.into_iter().map(|chunk| chunk.max(self.least)).find(|chunk| *chunk < now) else {
            return false;
        };
        *self = Self { chunk: Some(chunk), least: self.least, ..Self::default() };
        true
    }

    /// How many bytes go next.
    fn next_chunk(&self, size: u64) -> u64 {
        let left = size - self.received;
        self.chunk.map_or(left, |chunk| left.min(chunk.max(self.least)))
    }

    fn is_in_pieces(&self) -> bool {
        self.chunk.is_some() || self.received > 0
    }
}

impl Repository {
    /// Whether this blob is there.
    pub async fn has(&self, digest: &Digest) -> Result<bool> {
        let asked = self.asked(What::Presence { digest: digest.clone() });
        let url = self.url("blobs", digest.as_str());
        let response = self.send(&asked, || self.http().request(Method::HEAD, &url)).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Whether the name of `reference` is that of this manifest, sent as what it is.
    async fn is_named(&self, reference: &Reference, manifest: &Descriptor) -> Result<bool> {
        let asked = self.asked(What::Manifest { reference: reference.familiar() });
        let url = self.url("manifests", reference.tag().unwrap_or(manifest.digest.as_str()));
        let kind = manifest.media_type.as_str();
        let response = self.send(&asked, || self.http().head(&url).header(ACCEPT, kind)).await?;
        let told = |name: &str, wanted: &str| header(&response, name).is_some_and(|told| told == wanted);
        Ok(told(DIGEST_HEADER, manifest.digest.as_str()) && told(CONTENT_TYPE.as_str(), kind))
    }

    /// Brings an upload to its end, from where it is. What goes wrong leaves it where it then is.
    async fn advance(&self, upload: &mut Upload, parcel: Parcel<'_>, sent: &(dyn Fn(u64) + Sync)) -> Result<Delivery> {
        if !self.takes_up(upload, parcel.blob).await? {
            match self.begin(parcel).await? {
                Begun::Mounted(from) => return Ok(Delivery::Mounted(from)),
                Begun::At(place, least) => {
                    *upload = Upload { place: Some(place), least, chunk: upload.chunk, received: 0 };
                }
            }
        }
        while upload.is_in_pieces() && upload.received < parcel.blob.size {
            self.chunk(upload, parcel, sent).await?;
        }
        let from = upload.received;
        let Some(place) = &upload.place else { return Err(self.no_place("it names none")) };
        let mut place = place.clone();
        place.url.query_pairs_mut().append_pair("digest", parcel.blob.digest.as_str());
        let asked = self.asked(What::Sent { digest: parcel.blob.digest.clone() });
        let response = self.transfer(&asked, Method::PUT, place, parcel, from, parcel.blob.size - from, sent).await?;
        self.check_told(&response, &parcel.blob.digest)?;
        Ok(Delivery::Sent)
    }

    /// Asks how far an upload is that has broken off. Whether it can go on.
    async fn takes_up(&self, upload: &mut Upload, blob: &Descriptor) -> Result<bool> {
        let Some(place) = upload.place.take() else { return Ok(false) };
        if !place.ours {
            return Ok(false);
        }
        let asked = self.asked(What::Chunk { digest: blob.digest.clone() });
        let response = match self.send(&asked, || self.http().get(place.url.clone())).await {
            Ok(response) => response,
            Err(
                error @ (Error::Broken { .. }
                | Error::Unreachable { .. }
                | Error::RateLimited { .. }
                | Error::Status { status: 500.., .. }),
            ) => {
                upload.place = Some(place);
                return Err(error);
            }
            // Whatever else it says: this upload is none any more.
            Err(_) => return Ok(false),
        };
        let Some(received) = received(header(&response, RANGE.as_str()).as_deref()) else { return Ok(false) };
        if received > blob.size {
            return Ok(false);
        }
        upload.received = received;
        upload.place = Some(self.place(&response).unwrap_or(place));
        Ok(true)
    }

    /// Asks for a place to send a blob to, or for a mount, which a registry may answer with a place as well.
    async fn begin(&self, parcel: Parcel<'_>) -> Result<Begun> {
        let url = self.url("blobs", "uploads/");
        if let Some(from) = parcel.from
            && let Some(begun) = self.mount(&url, &parcel.blob.digest, from).await?
        {
            return Ok(begun);
        }
        let asked = self.asked(What::Upload { digest: parcel.blob.digest.clone() });
        // Some registries want to see that there is no body.
        let response = self.send(&asked, || self.http().post(&url).header(CONTENT_LENGTH, 0)).await?;
        Ok(Begun::At(self.place(&response)?, least_chunk(&response)))
    }

    /// Asks for a mount. None of a registry's refusals is a reason not to send the blob.
    async fn mount(&self, url: &str, digest: &Digest, from: &str) -> Result<Option<Begun>> {
        let asked = self.asked(What::Mount { digest: digest.clone() });
        let Ok(mut url) = Url::parse(url) else { return Ok(None) };
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let response = match self.send(&asked, || self.http().post(url.clone()).header(CONTENT_LENGTH, 0)).await {
            Ok(response) => response,
            Err(Error::PushDenied { .. } | Error::Status { status: ..500, .. } | Error::Protocol { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if response.status() == StatusCode::CREATED {
            let right = self.check_told(&response, digest).is_ok();
            return Ok(right.then(|| Begun::Mounted(from.to_owned())));
        }
        Ok(self.place(&response).ok().map(|place| Begun::At(place, least_chunk(&response))))
    }

    /// Sends the next piece, and takes note of what the registry has then.
    async fn chunk(&self, upload: &mut Upload, parcel: Parcel<'_>, sent: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let asked = self.asked(What::Chunk { digest: parcel.blob.digest.clone() });
        let (from, length) = (upload.received, upload.next_chunk(parcel.blob.size));
        let Some(place) = &upload.place else { return Err(self.no_place("it names none")) };
        let response = self.transfer(&asked, Method::PATCH, place.clone(), parcel, from, length, sent).await?;
        let end = from + length;
        let now = header(&response, RANGE.as_str()).map_or(Some(end), |range| received(Some(&range)));
        upload.place = Some(self.place(&response)?);
        match now {
            Some(now) if now > from && now <= end => upload.received = now,
            _ => {
                // It counts in another way than we do: from the beginning.
                let reason = format!("it says that it has {now:?} bytes of {end} that were sent");
                let registry = self.registry().to_owned();
                upload.place = None;
                return Err(Error::UploadLost { registry, digest: parcel.blob.digest.clone(), reason });
            }
        }
        Ok(())
    }

    /// Sends bytes of a blob, once more with a new token if the old one has expired, and to where it is redirected.
    #[expect(clippy::too_many_arguments, reason = "what, where to, and which part of it")]
    async fn transfer(
        &self,
        asked: &Asked<'_>,
        method: Method,
        place: Place,
        parcel: Parcel<'_>,
        from: u64,
        length: u64,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<Response> {
        let make = |url: &Url| {
            let (body, counted) = body(parcel, from, length)?;
            let request = self.uploads()?.request(method.clone(), url.clone());
            let request = request.header(CONTENT_LENGTH, length).header(CONTENT_TYPE, "application/octet-stream");
            // The last PUT of an upload in pieces has no bytes, and no place in them.
            let ranged = method == Method::PATCH;
            let request = if ranged { request.header(CONTENT_RANGE, range(from, length)) } else { request };
            Ok((if length > 0 { request.body(body) } else { request }, counted))
        };
        let told = |bytes| sent(from + bytes);
        self.put(asked, place, &make, &told).await
    }

    async fn put(
        &self,
        asked: &Asked<'_>,
        mut place: Place,
        make: &(dyn Fn(&Url) -> Result<(RequestBuilder, Counter)> + Sync),
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<Response> {
        let mut renewed = false;
        for _ in 0..=MAX_REDIRECTS {
            let (request, counted) = make(&place.url)?;
            let request = if place.ours { self.authorized(request).await } else { request };
            let response = self.watched(request.send(), &counted, sent).await?;
            if matches!(response.status().as_u16(), 307 | 308) {
                place = self.place(&response)?;
                continue;
            }
            match success(asked, response).await {
                Err(error) if error.is_denied() && place.ours && !renewed && self.authorize().await? => renewed = true,
                result => return result,
            }
        }
        Err(self.no_place("it redirects again and again"))
    }

    /// Gives a tag to a manifest.
    pub async fn name(&self, reference: &Reference, manifest: &Descriptor, bytes: &[u8]) -> Result<Named> {
        let asked = self.asked(What::Name { reference: reference.familiar() });
        let url = self.url("manifests", reference.tag().unwrap_or(manifest.digest.as_str()));
        let url = Url::parse(&url).map_err(|_| self.no_place("the request was no address"))?;
        let make = |url: &Url| {
            let request = self.uploads()?.put(url.clone()).header(CONTENT_TYPE, manifest.media_type.as_str());
            Ok((request.body(bytes.to_vec()), Counter::default()))
        };
        let response = self.put(&asked, Place { url, ours: true }, &make, &|_| {}).await?;
        self.check_told(&response, &manifest.digest)?;
        Ok(Named { knows_subject: header(&response, SUBJECT).is_some() })
    }

    /// A registry that names the digest of what it has taken must name the right one.
    fn check_told(&self, response: &Response, digest: &Digest) -> Result<()> {
        match header(response, DIGEST_HEADER).filter(|told| !told.is_empty()) {
            Some(told) if told != digest.as_str() => Err(Error::WrongDigest {
                what: format!("what the registry {} says that it has taken", self.registry()),
                expected: digest.clone(),
                actual: told.chars().filter(|c| c.is_ascii_graphic()).take(200).collect(),
            }),
            _ => Ok(()),
        }
    }

    /// Where a registry wants the bytes.
    fn place(&self, response: &Response) -> Result<Place> {
        let location = header(response, LOCATION.as_str()).unwrap_or_default();
        let asked = self.url("blobs", "uploads/");
        place(&asked, &location, self.endpoint().loopback).map_err(|reason| self.no_place(reason))
    }

    fn no_place(&self, reason: &str) -> Error {
        let (registry, what) = (self.registry().to_owned(), "a place for an upload");
        Error::Protocol { registry, what, reason: reason.to_owned() }
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

/// How many bytes have been handed to the connection.
type Counter = Arc<AtomicU64>;

/// A part of a blob as a request's body.
fn body(parcel: Parcel<'_>, from: u64, length: u64) -> Result<(Body, Counter)> {
    let read = |source| Error::Source { digest: parcel.blob.digest.clone(), source };
    let counted = Counter::default();
    let count = counted.clone();
    let pieces = parcel.contents.read(from, length).map_err(read)?.inspect(move |piece| {
        let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        count.fetch_add(length, Ordering::Relaxed);
    });
    Ok((Body::wrap_stream(pieces), counted))
}

/// `first-last`, as this specification has it: neither a unit nor a total.
fn range(from: u64, length: u64) -> String {
    format!("{from}-{}", (from + length).saturating_sub(1))
}

/// How many bytes a `Range: 0-last` says to be there. Nothing yet and one byte are told in the same way.
fn received(range: Option<&str>) -> Option<u64> {
    let range = range?.trim();
    let last: u64 = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?.parse().ok()?;
    if last == 0 { Some(0) } else { last.checked_add(1) }
}

fn least_chunk(response: &Response) -> u64 {
    let told = header(response, LEAST_CHUNK).and_then(|text| text.trim().parse().ok());
    told.unwrap_or(0).min(MAX_CHUNK)
}

/// The address to send a blob to, and whether it is of the same origin as the one that was `asked` for it.
fn place(asked: &str, location: &str, loopback: bool) -> Result<Place, &'static str> {
    let asked = Url::parse(asked).map_err(|_| "the request was no address")?;
    if location.is_empty() {
        return Err("it names none");
    }
    let url = asked.join(location).map_err(|_| "it is no address")?;
    let ours = url.origin() == asked.origin();
    let host = url.host_str().unwrap_or_default();
    if !ours && is_link_local(host) {
        return Err("it is a link-local address");
    }
    if !ours && url.scheme() != "https" && !(url.scheme() == "http" && loopback && is_loopback(host)) {
        return Err("it leads to another host without https");
    }
    Ok(Place { url, ours })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_goes_where_it_may() {
        let to = |location: &str| {
            let asked = "https://r.io/v2/a/blobs/uploads/";
            place(asked, location, false).map(|Place { url, ours }| (url.to_string(), ours))
        };
        let own = "https://r.io/v2/a/blobs/uploads/1?state=x%3D";
        assert_eq!(to("/v2/a/blobs/uploads/1?state=x%3D").unwrap(), (own.to_owned(), true));
        let other = "https://store.io/put?signature=y";
        assert_eq!(to(other).unwrap(), (other.to_owned(), false));
        assert!(to("https://r.io/v2/a/blobs/uploads/2").unwrap().1);
        assert!(!to("https://r.io:444/v2/a/blobs/uploads/2").unwrap().1, "another port is another");
        for bad in ["", "http://r.io/v2/x", "http://127.0.0.1/x", "https://169.254.169.254/x", "file:///etc", "//"] {
            assert!(to(bad).is_err(), "{bad}");
        }
        let local = |location| place("http://localhost:5000/v2/a/blobs/uploads/", location, true);
        assert!(!local("http://127.0.0.1:5001/x").unwrap().ours);
        assert!(local("http://other.io/x").is_err());
    }

    #[test]
    fn what_has_come_is_counted_as_the_specification_counts() {
        for (range, bytes) in [
            (Some("0-0"), Some(0)),
            (Some("0-1023"), Some(1024)),
            (Some("bytes=0-1023"), Some(1024)),
            (Some("5-9"), None),
            (Some("0-x"), None),
            (Some("0-18446744073709551615"), None),
            (None, None),
        ] {
            assert_eq!(received(range), bytes, "{range:?}");
        }
        assert_eq!((range(0, 5), range(5, 5)), ("0-4".to_owned(), "5-9".to_owned()));
    }

    #[test]
    fn chunks_become_smaller_until_they_cannot() {
        let status = |status| Error::Status {
            registry: "r".into(),
            what: "x".into(),
            status,
            retry_after: None,
            reason: "y".into(),
        };
        let mut upload = Upload::default();
        assert!(!upload.goes_smaller(&status(400), 100 << 20));
        for expected in CHUNKS {
            assert!(upload.goes_smaller(&status(413), 100 << 20));
            assert_eq!(upload.chunk, Some(expected));
            assert!(!upload.goes_smaller(&status(405), 100 << 20), "chunks it was told to take");
        }
        assert!(!upload.goes_smaller(&status(413), 100 << 20));
        let mut upload = Upload { least: 5 << 20, ..Upload::default() };
        assert!(upload.goes_smaller(&status(405), 100) && upload.next_chunk(100) == 100);
        let mut upload = Upload { least: 5 << 20, chunk: Some(8 << 20), ..Upload::default() };
        assert!(upload.goes_smaller(&status(413), 100 << 20));
        assert_eq!(upload.chunk, Some(5 << 20), "never below the least");
        assert!(!upload.goes_smaller(&status(413), 100 << 20));
    }
}
