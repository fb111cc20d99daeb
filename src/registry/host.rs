//! One host that serves a registry: the registry's own, or a mirror of it. What is found out about it is found out
//! once: how it wants to be logged in to, and whether it speaks TLS; its connections are shared and kept.
//!
//! ```text
//! request ─▶ same origin                          credentials, the headers that an administrator has set
//!         ─▶ 3xx to another origin                neither: only what says which bytes are wanted
//!         ─▶ 3xx to http, link-local, user@host   refused
//! ```
//!
//! Redirects are followed here and not by the HTTP client, which would carry all headers but its own few along.
//! Connections speak HTTP/1.1: over HTTP/2 the layers of an image would share one window of flow control.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci_distribution::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE, USER_AGENT};
use reqwest::{Certificate, Identity, Method, Request, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::auth::{Challenge, Login};
use super::endpoint::{Endpoint, is_link_local, is_loopback};
use super::error::{Asked, Error, Result, What};
use super::http::{MAX_ERROR_BYTES, bounded};
use super::mirror::{Can, Configured};
use super::notice::Notices;
use super::{Credentials, http};

/// How long a connection may take to come up. A SYN that is lost twice needs three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may be silent. A registry that fetches from a cold store needs some time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// As many as curl's browsers follow; registries need two.
const MAX_REDIRECTS: usize = 10;

const AGENT: &str = concat!("wherry/", env!("CARGO_PKG_VERSION"));

/// What goes with a redirect to another origin. Everything else could be meant for the registry alone.
const HARMLESS: [HeaderName; 3] = [ACCEPT, RANGE, USER_AGENT];

/// A host.
pub(super) struct Host {
    endpoint: Endpoint,
    can: Can,
    /// The registry that it is a mirror of, unless it is that registry.
    mirrored: Option<String>,
    /// What an administrator wants to be sent with every request to it.
    headers: HeaderMap,
    shown: String,
    configured: Configured,
    client: reqwest::Client,
    uploads: std::sync::OnceLock<reqwest::Client>,
    login: OnceCell<Login>,
    /// A host on this machine that was asked by http and has said that it speaks TLS.
    secured: AtomicBool,
    /// It has failed, and there is another one to ask.
    discredited: AtomicBool,
    challenge: Mutex<Option<Challenge>>,
    notices: Notices,
}

impl Host {
    /// A host as it is configured. Nothing is opened before the first request.
    pub fn new(configured: Configured, registry: &str, notices: Notices) -> Result<Self> {
        let endpoint = configured.endpoint.clone();
        let own = endpoint.key() == Endpoint::of(registry).key();
        Ok(Self {
            client: client(&configured, Some(READ_TIMEOUT))?,
            uploads: std::sync::OnceLock::new(),
            can: configured.can,
            headers: configured.headers.clone(),
            mirrored: (!own).then(|| registry.to_owned()),
            shown: endpoint.shown(),
            endpoint,
            configured,
            login: OnceCell::new(),
            secured: AtomicBool::new(false),
            discredited: AtomicBool::new(false),
            challenge: Mutex::new(None),
            notices,
        })
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What it may be asked for.
    pub fn can(&self) -> Can {
        self.can
    }

    /// Host and port, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What an administrator wants to be sent with every request to it.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The client for what is asked.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The client for what is sent: it waits longer for an answer.
    pub fn uploads(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.uploads.get() {
            return Ok(client);
        }
        let client = client(&self.configured, None)?;
        Ok(self.uploads.get_or_init(|| client))
    }

    /// Who to be there. A mirror has credentials of its own or none: those of the registry are not for it.
    pub async fn login(&self, credentials: &Credentials, registry: &str) -> Result<&Login> {
        let name = if self.mirrored.is_some() { self.endpoint.key() } else { registry };
        self.login.get_or_try_init(|| http::find_login(credentials, name)).await
    }

    /// The address of the API, or of something in it.
    pub fn url(&self, path: &str) -> String {
        let Endpoint { authority, base, .. } = &self.endpoint;
        let scheme = if self.secured.load(Ordering::Relaxed) { "https" } else { self.endpoint.scheme() };
        let namespace = self.mirrored.as_ref().map(|registry| format!("?ns={registry}")).unwrap_or_default();
        format!("{scheme}://{authority}{base}/{path}{namespace}")
    }

    /// Asks another host from now on, where there is another one.
    pub fn discredit(&self) {
        self.discredited.store(true, Ordering::Relaxed);
    }

    /// Whether it has failed.
    pub fn is_discredited(&self) -> bool {
        self.discredited.load(Ordering::Relaxed)
    }

    /// How it wants to be logged in to, if it has said so.
    pub fn challenge(&self) -> Option<Challenge> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of that.
    pub fn set_challenge(&self, challenge: Challenge) {
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
    }

    /// Makes one request and follows where it leads.
    pub async fn exchange(
        &self,
        asked: &Asked<'_>,
        request: RequestBuilder,
        authorization: &RegistryAuth,
    ) -> Result<Response> {
        let mut request = request.build().map_err(|error| Error::of_request(&self.shown, error))?;
        self.headers.iter().for_each(|(name, value)| drop(request.headers_mut().insert(name, value.clone())));
        authorize(&mut request, authorization);
        let again = request.try_clone();
        let response = self.follow(request).await?;
        if response.status() != StatusCode::BAD_REQUEST || !self.may_want_tls(response.url()) {
            return Ok(response);
        }
        // A host on this machine that says that it speaks TLS (Go's servers and nginx say so in the text of a 400) is
        // spoken to so: that direction is safe.
        let body = bounded(response, &self.shown, "an error", MAX_ERROR_BYTES).await?;
        match again {
            Some(mut again) if String::from_utf8_lossy(&body).contains("HTTPS") => {
                self.secured.store(true, Ordering::Relaxed);
                // It fails for schemes without a host only.
                again.url_mut().set_scheme("https").ok();
                self.follow(again).await
            }
            _ => Err(Error::of_answer(asked, 400, None, &body)),
        }
    }

    fn may_want_tls(&self, url: &Url) -> bool {
        self.endpoint.plain && self.endpoint.loopback && url.scheme() == "http"
    }

    /// Whether it is Docker Hub.
    pub fn is_hub(&self) -> bool {
        self.endpoint.authority == Endpoint::of("docker.io").authority
    }

    /// Whether an address is here, and not where a redirect has led to.
    pub fn is_own(&self, url: &Url) -> bool {
        Url::parse(&self.url("")).is_ok_and(|own| own.origin() == url.origin())
    }

    /// Sends a request as it is and follows where it leads.
    pub async fn follow(&self, mut request: Request) -> Result<Response> {
        for _ in 0..=MAX_REDIRECTS {
            let (method, url, headers) = (request.method().clone(), request.url().clone(), request.headers().clone());
            let sent = self.client.execute(request).await;
            let response = sent.map_err(|error| Error::of_request(&self.shown, error))?;
            self.notices.of(&self.shown, response.headers());
            let Some(target) = redirect(&method, &url, &response).transpose() else { return Ok(response) };
            let target = target.map_err(|(target, reason)| self.refused(&target, reason))?;
            request = Request::new(method, target.clone());
            *request.headers_mut() = carried(&url, &target, headers);
        }
        Err(self.refused("", "there are too many"))
    }

    fn refused(&self, target: &str, reason: &'static str) -> Error {
        let target = target.chars().take(200).collect();
        Error::UnsafeRedirect { registry: self.shown.clone(), target, reason }
    }

    /// Whether it takes a login. One that lets everybody in takes any.
    pub async fn check(&self, login: &Login) -> Result<()> {
        let repository = self.endpoint.authority.clone();
        let asked = Asked { registry: &self.shown, repository, logged_in: true, what: What::Ping };
        let response = self.greet(&RegistryAuth::Anonymous).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return http::success(&asked, response).await.map(drop);
        }
        let challenge = Challenge::of_response(&self.shown, &response)?;
        let authorization = challenge.answer(self, &asked, login, "").await?;
        let refused = |error| match error {
            Error::Denied { reason, .. } => Error::BadCredentials { registry: self.shown.clone(), reason },
            other => other,
        };
        http::success(&asked, self.greet(&authorization).await?).await.map(drop).map_err(refused)
    }

    /// Asks for nothing but an answer, to learn how it wants to be logged in to.
    pub async fn greet(&self, authorization: &RegistryAuth) -> Result<Response> {
        let asked = Asked { registry: &self.shown, repository: self.shown.clone(), logged_in: false, what: What::Ping };
        self.exchange(&asked, self.client.get(self.url("")), authorization).await
    }
}

/// Sets what a registry wants to see.
pub(super) fn authorize(request: &mut Request, authorization: &RegistryAuth) {
    let value = match authorization {
        RegistryAuth::Anonymous => return,
        RegistryAuth::Basic(username, password) => super::auth::basic(username, password),
        RegistryAuth::Bearer(token) => format!("Bearer {token}"),
    };
    // A password that no header can carry is base64 here, and a token was looked at when it came.
    if let Ok(mut value) = HeaderValue::from_str(&value) {
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
}

/// Where a response leads, if it does. What changes something is only sent elsewhere by who knows what it is.
fn redirect(method: &Method, from: &Url, response: &Response) -> Result<Option<Url>, (String, &'static str)> {
    let reading = *method == Method::GET || *method == Method::HEAD;
    if !reading || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(location) = location else { return Ok(None) };
    safe_target(from, &location).map(Some).map_err(|reason| (location.into_owned(), reason))
}

/// The address that a `Location` or a `Link` means, unless it is one that a stranger must not lead to.
pub(super) fn safe_target(from: &Url, location: &str) -> Result<Url, &'static str> {
    let target = from.join(location).map_err(|_| "it is not an address")?;
    let host = target.host_str().ok_or("it names no host")?;
    if !target.username().is_empty() || target.password().is_some() {
        return Err("it has a user or a password in it");
    }
    if target.origin() == from.origin() {
        return Ok(target);
    }
    if is_link_local(host) {
        return Err("it is a link-local address");
    }
    let from_here = from.host_str().is_some_and(is_loopback);
    match (target.scheme(), from.scheme()) {
        ("https", _) => Ok(target),
        ("http", "https") => Err("it leads from https to http"),
        // Whoever is not on this machine has no business with what is.
        ("http", "http") if is_loopback(host) && !from_here => Err("it leads to this machine"),
        ("http", "http") => Ok(target),
        _ => Err("it is neither http nor https"),
    }
}

/// The headers of the next request: all within one origin, else those that say which bytes are wanted.
fn carried(from: &Url, to: &Url, headers: HeaderMap) -> HeaderMap {
    if from.origin() == to.origin() {
        return headers;
    }
    HARMLESS.into_iter().filter_map(|name| headers.get(&name).cloned().map(|value| (name, value))).collect()
}

/// A client that ends a connection which is silent for too long; an upload is silent until its end.
fn client(configured: &Configured, silence: Option<Duration>) -> Result<reqwest::Client> {
    install_tls();
    let setup = |error: reqwest::Error| Error::Setup { source: Box::new(error) };
    let Configured { endpoint, trust, .. } = configured;
    // Docker trusts whatever answers on this machine, unless somebody has said whom to trust.
    let lax = trust.skip_verify || (endpoint.loopback && trust.authorities.is_empty());
    let mut builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .connect_timeout(trust.connect_timeout.unwrap_or(CONNECT_TIMEOUT))
        .redirect(reqwest::redirect::Policy::none())
        .danger_accept_invalid_certs(lax);
    for pem in &trust.authorities {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(setup)?);
    }
    if let Some(pem) = &trust.identity {
        builder = builder.identity(Identity::from_pem(pem).map_err(setup)?);
    }
    if let Some(silence) = silence {
        builder = builder.read_timeout(silence);
    }
    // As in Docker and Go, proxies are not for this machine's own addresses.
    let builder = if endpoint.loopback { builder.no_proxy() } else { builder };
    builder.build().map_err(setup)
}

/// Chooses ring as the one provider of cryptography, when TLS is first needed.
fn install_tls() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // An error means that the embedding program has chosen one already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn where_a_redirect_may_lead() {
        let from = url("https://r.io/v2/a");
        for good in ["/v2/b", "https://store.io/x?sig=1", "//store.io/x", "https://r.io:444/", "https://10.0.0.1/"] {
            assert!(safe_target(&from, good).is_ok(), "{good}");
        }
        for bad in [
            "http://r.io/v2/a",
            "http://store.io/x",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://user@store.io/",
            "https://user:pass@r.io/v2/b",
            "https://:pass@r.io/v2/b",
            "file:///etc/passwd",
            "ftp://store.io/",
            "data:text/plain,x",
            "javascript:alert(1)",
            "https://",
        ] {
            assert!(safe_target(&from, bad).is_err(), "{bad}");
        }
        let plain = url("http://registry.lan:5000/v2/a");
        assert!(safe_target(&plain, "http://store.lan/x").is_ok());
        assert!(safe_target(&plain, "http://127.0.0.1:80/").is_err());
        assert!(safe_target(&plain, "http://169.254.169.254/").is_err());
        assert!(safe_target(&url("http://localhost:5000/"), "http://127.0.0.1:5001/").is_ok());
    }

    #[test]
    fn another_origin_is_told_which_bytes_and_nothing_else() {
        let all = ["authorization", "cookie", "x-key", "proxy-authorization", "accept", "range"];
        let headers: HeaderMap =
            all.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v"))).collect();
        let from = url("https://r.io/v2/a");
        assert_eq!(carried(&from, &url("https://r.io/b"), headers.clone()).len(), all.len());
        for to in ["https://r.io:444/b", "http://r.io/b", "https://r.io.evil.com/", "https://R.io.:443/b"] {
            let left = carried(&from, &url(to), headers.clone());
            assert_eq!(left.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept", "range"], "{to}");
        }
    }
}
