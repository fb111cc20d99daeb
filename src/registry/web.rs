//! A file by its address, for `import`: no registry's, but asked with the same care about where its answer leads.

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, TryStreamExt};
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::endpoint::Endpoint;
use super::error::{Error, Result};
use super::host::Host;
use super::http::{MAX_ERROR_BYTES, bounded};
use super::mirror::{Can, Configured, Trust};
use super::notice::Notices;

/// How much of a server's own words an error repeats.
const MAX_QUOTED: usize = 300;

/// A file's bytes as they come.
pub struct Download {
    /// Its address without a password, for people.
    pub address: String,
    /// How many bytes were announced.
    pub length: Option<u64>,
    stream: BoxStream<'static, std::io::Result<Vec<u8>>>,
}

impl Download {
    /// Asks for what is at an address of `http` or `https`. One attempt.
    pub async fn open(address: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::Address { address: address.to_owned(), reason: reason.to_owned() };
        let url = Url::parse(address).map_err(|error| invalid(&error.to_string()))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("it names no host"))?;
        let authority = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let server = Server::new(&url, &authority)?;
        server.open(url).await
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<std::io::Result<Vec<u8>>> {
        self.stream.next().await
    }
}

/// Who is asked.
struct Server(Host);

impl Server {
    fn new(url: &Url, authority: &str) -> Result<Self> {
        let endpoint = Endpoint { plain: url.scheme() == "http", ..Endpoint::of(authority) };
        let (trust, headers) = (Trust::default(), HeaderMap::new());
        let configured = Configured { endpoint, can: Can::ALL, trust, headers };
        Host::new(configured, authority, Notices::default()).map(Self)
    }

    async fn open(self, url: Url) -> Result<Download> {
        let address = shown(&url);
        let failed = |error| match error {
            Error::Unreachable { source, .. } | Error::Broken { source, .. } => {
                Error::Download { address: address.clone(), source }
            }
            other => other,
        };
        // A user and a password in the address become a header, which goes to no other origin.
        let request = self.0.client().get(url).build();
        let request = request.map_err(|error| Error::Download { address: address.clone(), source: Box::new(error) })?;
        let response = self.0.follow(request).await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let body = bounded(response, self.0.shown(), "an error", MAX_ERROR_BYTES).await.unwrap_or_default();
            let reason = String::from_utf8_lossy(&body).trim().chars().take(MAX_QUOTED).collect();
            return Err(Error::NoFile { address, status: status.to_string(), code: status.as_u16(), reason });
        }
        let length = response.content_length();
        let stream = response.bytes_stream().map_ok(Vec::from).map_err(std::io::Error::other).boxed();
        Ok(Download { address, length, stream })
    }
}

fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail for addresses without a host only.
    crate::error::tolerate(shown.set_username(""));
    crate::error::tolerate(shown.set_password(None));
    shown.to_string()
}
