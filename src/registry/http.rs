//! One repository of one registry, reached and logged in to.

use std::sync::OnceLock;
use std::time::Duration;

use oci_distribution::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::RwLock;

use super::auth::{Challenge, Login};
use super::endpoint::Endpoint;
use super::error::{Asked, What, reason_in};
use super::{Credentials, Error, Result, check_digest, retry};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, MediaType};
use crate::reference::Reference;

/// How long a connection may take to come up. A SYN that is lost twice needs three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may be silent. A registry that fetches from a cold store needs some time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// As many as curl's browsers follow; registries need two.
const MAX_REDIRECTS: usize = 10;
/// Of an error's body, for its reason.
const MAX_ERROR_BYTES: usize = 64 << 10;

const USER_AGENT: &str = concat!("wherry/", env!("CARGO_PKG_VERSION"));
pub(super) const DIGEST_HEADER: &str = "docker-content-digest";
/// What kinds of manifest are wanted; the order says which is preferred.
pub(super) const MANIFEST_TYPES: [&str; 4] =
    [MediaType::INDEX, MediaType::MANIFEST, MediaType::DOCKER_LIST, MediaType::DOCKER_MANIFEST];

/// A manifest or index as a registry sent it: its digest is that of its bytes, and that is all.
#[derive(Clone, Debug)]
pub struct Document {
    /// The Content-Type it was sent as, and the bytes' digest and number.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

impl Access {
    fn scope(self, path: &str) -> String {
        let actions = match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        };
        format!("repository:{path}:{actions}")
    }
}

/// A repository: an address, a way to log in, and the clients that speak to it.
pub(super) struct Repository {
    endpoint: Endpoint,
    shown: String,
    familiar: String,
    path: String,
    http: reqwest::Client,
    /// Made when something is first sent.
    uploads: OnceLock<reqwest::Client>,
    /// Repositories of the same registry that a blob may be mounted from.
    sources: Vec<String>,
    login: Login,
    access: Access,
    challenge: Challenge,
    authorization: RwLock<RegistryAuth>,
}

impl Repository {
    /// Reaches the registry and logs in.
    pub async fn open(
        reference: &Reference,
        access: Access,
        sources: &[String],
        credentials: &Credentials,
    ) -> Result<Self> {
        let endpoint = Endpoint::of(reference.registry());
        let login = find_login(credentials, reference.registry()).await?;
        let http = http_client(&endpoint, Some(READ_TIMEOUT))?;
        let (endpoint, challenge) = ping(&http, endpoint, &reference.name()).await?;
        let repository = Self {
            shown: endpoint.shown(),
            familiar: reference.name(),
            path: reference.repository().to_owned(),
            authorization: RwLock::new(RegistryAuth::Anonymous),
            endpoint,
            http,
            uploads: OnceLock::new(),
            sources: sources.to_vec(),
            login,
            access,
            challenge,
        };
        repository.authorize().await?;
        Ok(repository)
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The client for short requests.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The client for what is sent. It follows no redirect: a PUT that became a GET would be answered with success.
    pub(super) fn uploads(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.uploads.get() {
            return Ok(client);
        }
        let client = http_client(&self.endpoint, None)?;
        Ok(self.uploads.get_or_init(|| client))
    }

    /// Host and port.
    pub fn registry(&self) -> &str {
        &self.shown
    }

    /// Fetches a manifest or index, bounded, and checks it against the digests that it should have.
    pub async fn manifest(&self, reference: &Reference) -> Result<Document> {
        let name = reference.digest().map_or(reference.tag().unwrap_or_default(), Digest::as_str);
        let asked = self.asked(What::Manifest { reference: reference.familiar() });
        let url = self.url("manifests", name);
        let accept = MANIFEST_TYPES.join(", ");
        let response = self.send(&asked, || self.http.get(&url).header(ACCEPT, &accept)).await?;
        let media_type = MediaType(header(&response, CONTENT_TYPE.as_str()).unwrap_or_default());
        let told = header(&response, DIGEST_HEADER).filter(|text| !text.is_empty());
        let what = format!("the manifest of {}", reference.familiar());
        let bytes = bounded(response, &self.shown, &what, MAX_MANIFEST_BYTES).await?;
        let digest = self.digest_of(&what, &bytes, reference.digest(), told)?;
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        Ok(Document { descriptor, bytes })
    }

    /// The digest asked for, else the one the registry tells, else the bytes' own. All that are
    /// known must be right.
    fn digest_of(&self, what: &str, bytes: &[u8], asked: Option<&Digest>, told: Option<String>) -> Result<Digest> {
        let invalid = |reason: crate::oci::InvalidDigest| Error::Protocol {
            registry: self.shown.clone(),
            what: "a Docker-Content-Digest header",
            reason: reason.to_string(),
        };
        let told: Option<Digest> = told.map(|text| text.parse().map_err(invalid)).transpose()?;
        for expected in asked.into_iter().chain(told.as_ref()) {
            check_digest(what, expected, bytes)?;
        }
        Ok(asked.cloned().or(told).unwrap_or_else(|| Digest::sha256(bytes)))
    }

    pub(super) fn url(&self, kind: &str, name: &str) -> String {
        format!("{}://{}/v2/{}/{kind}/{name}", self.endpoint.scheme(), self.endpoint.authority, self.path)
    }

    pub(super) fn asked(&self, what: What) -> Asked<'_> {
        Asked {
            registry: &self.shown,
            repository: self.familiar.clone(),
            logged_in: !matches!(self.login, Login::Anonymous),
            what,
        }
    }

    /// Sends a request, once more with a new token if the old one has expired. Success or an error.
    pub(super) async fn send(&self, asked: &Asked<'_>, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        match self.send_once(asked, request()).await {
            Err(error) if error.is_denied() && self.authorize().await? => self.send_once(asked, request()).await,
            result => result,
        }
    }

    async fn send_once(&self, asked: &Asked<'_>, request: RequestBuilder) -> Result<Response> {
        let response = self.authorized(request).await.send().await;
        success(asked, response.map_err(|error| Error::of_request(&self.shown, error))?).await
    }

    pub(super) async fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &*self.authorization.read().await {
            RegistryAuth::Anonymous => request,
            RegistryAuth::Basic(username, password) => request.basic_auth(username, Some(password)),
            RegistryAuth::Bearer(token) => request.bearer_auth(token),
        }
    }

    /// Gets what the registry's challenge asks for. Whether that is any different from before.
    pub(super) async fn authorize(&self) -> Result<bool> {
        let asked = self.asked(What::Token);
        let own = self.access.scope(&self.path);
        let sources = self.sources.iter().map(|source| Access::Pull.scope(source));
        let scope = [own.clone()].into_iter().chain(sources).collect::<Vec<_>>().join(" ");
        let answer = self.challenge.answer(&self.http, &self.endpoint, &asked, &self.login, &scope).await;
        let new = match answer {
            // Some token servers give nothing to who may not have all: a mount saves time, and is no condition.
            Err(Error::Denied { .. } | Error::BadCredentials { .. }) if !self.sources.is_empty() => {
                self.challenge.answer(&self.http, &self.endpoint, &asked, &self.login, &own).await?
            }
            answer => answer?,
        };
        if new == RegistryAuth::Anonymous {
            return Ok(false);
        }
        let mut current = self.authorization.write().await;
        let changed = *current != new;
        *current = new;
        Ok(changed)
    }
}

async fn find_login(credentials: &Credentials, registry: &str) -> Result<Login> {
    let (credentials, name) = (credentials.clone(), registry.to_owned());
    // A credential helper is another program, which may ask the user for a passphrase.
    let found = tokio::task::spawn_blocking(move || credentials.for_registry(&name)).await;
    match found {
        Ok(found) => found.map_err(|source| Error::Credential { registry: registry.to_owned(), source }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Whether the registry of this name takes a login.
pub(super) async fn check_login(registry: &str, login: &Login) -> Result<()> {
    let endpoint = Endpoint::of(registry);
    let http = http_client(&endpoint, Some(READ_TIMEOUT))?;
    let (endpoint, challenge) = ping(&http, endpoint, registry).await?;
    let shown = endpoint.shown();
    let asked = Asked { registry: &shown, repository: registry.to_owned(), logged_in: true, what: What::Ping };
    let authorization = challenge.answer(&http, &endpoint, &asked, login, "").await?;
    let request = http.get(format!("{}://{}/v2/", endpoint.scheme(), endpoint.authority));
    let request = match authorization {
        RegistryAuth::Anonymous => request,
        RegistryAuth::Basic(username, password) => request.basic_auth(username, Some(password)),
        RegistryAuth::Bearer(token) => request.bearer_auth(token),
    };
    let response = request.send().await.map_err(|error| Error::of_request(&shown, error))?;
    let refused = |error| match error {
        Error::Denied { reason, .. } => Error::BadCredentials { registry: shown.clone(), reason },
        other => other,
    };
    success(&asked, response).await.map(drop).map_err(refused)
}

/// Asks the registry how it wants to be logged in to. A loopback registry that says that it speaks
/// TLS (Go's servers and nginx say so in the text of a 400) is spoken to so: that direction is safe.
async fn ping(http: &reqwest::Client, endpoint: Endpoint, repository: &str) -> Result<(Endpoint, Challenge)> {
    match ping_once(http, &endpoint, repository).await {
        Err(Ping::WantsTls) => {
            let endpoint = endpoint.secure();
            let challenge = ping_once(http, &endpoint, repository).await.map_err(Ping::into_error)?;
            Ok((endpoint, challenge))
        }
        result => Ok((endpoint, result.map_err(Ping::into_error)?)),
    }
}

enum Ping {
    WantsTls,
    Failed(Error),
}

impl Ping {
    fn into_error(self) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::WantsTls => unreachable!("only plain http is answered so"),
        }
    }
}

async fn ping_once(http: &reqwest::Client, endpoint: &Endpoint, repository: &str) -> Result<Challenge, Ping> {
    let registry = endpoint.shown();
    let url = format!("{}://{}/v2/", endpoint.scheme(), endpoint.authority);
    let response = http.get(url).send().await.map_err(|error| Ping::Failed(Error::of_request(&registry, error)))?;
    let challenge = Challenge::in_headers(response.headers().get_all(WWW_AUTHENTICATE).iter());
    let status = response.status();
    if endpoint.plain && status == StatusCode::BAD_REQUEST {
        let body = bounded(response, &registry, "an error", MAX_ERROR_BYTES).await.map_err(Ping::Failed)?;
        if String::from_utf8_lossy(&body).contains("HTTPS") {
            return Err(Ping::WantsTls);
        }
    } else if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        let repository = repository.to_owned();
        let asked = Asked { registry: &registry, repository, logged_in: false, what: What::Ping };
        success(&asked, response).await.map_err(Ping::Failed)?;
    }
    challenge.map_err(|reason| {
        Ping::Failed(Error::Protocol { registry, what: "a WWW-Authenticate header", reason: reason.to_owned() })
    })
}

pub(super) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn retry_after(response: &Response) -> Option<Duration> {
    retry::retry_after(header(response, RETRY_AFTER.as_str()).as_deref())
}

/// The response if it is one of success, else the error that its status means.
pub(super) async fn success(asked: &Asked<'_>, response: Response) -> Result<Response> {
    let status = response.status();
    if asked.what.is_answered_by(status.as_u16()) {
        return Ok(response);
    }
    let wait = retry_after(&response);
    // Whatever is wrong with the body, the status says more.
    let body = bounded(response, asked.registry, "an error", MAX_ERROR_BYTES).await.unwrap_or_default();
    Err(Error::of_status(asked, status.as_u16(), wait, &reason_in(&body)))
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn bounded(mut response: Response, registry: &str, what: &str, limit: usize) -> Result<Vec<u8>> {
    let too_large = || Error::TooLarge { what: what.to_owned(), limit };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Error::of_request(registry, error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            return Err(too_large());
        }
    }
    Ok(bytes)
}

/// A client that ends a connection which is silent for too long; an upload is silent until its end, and follows nothing.
pub(super) fn http_client(endpoint: &Endpoint, silence: Option<Duration>) -> Result<reqwest::Client> {
    install_tls();
    let is_for_uploads = silence.is_none();
    let redirects = reqwest::redirect::Policy::custom(move |attempt| {
        let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        match attempt {
            attempt if is_for_uploads => attempt.stop(),
            attempt if attempt.previous().len() > MAX_REDIRECTS => attempt.error("too many redirects"),
            attempt if from_tls && attempt.url().scheme() != "https" => {
                attempt.error("a redirect leads from https to http")
            }
            attempt => attempt.follow(),
        }
    });
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirects)
        .danger_accept_invalid_certs(endpoint.loopback);
    let builder = match silence {
        Some(silence) => builder.read_timeout(silence),
        None => builder,
    };
    // As in Docker and Go, proxies are not for this machine's own addresses.
    let builder = if endpoint.loopback { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| Error::Setup { source: Box::new(error) })
}

/// Chooses ring as the one provider of cryptography, when TLS is first needed.
fn install_tls() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // An error means that the embedding program has chosen one already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
}
