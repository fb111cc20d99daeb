//! One repository of one registry, reached and logged in to.

use std::sync::Arc;
use std::time::Duration;

use oci_distribution::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::{Mutex, RwLock};

use super::auth::{Challenge, Login};
use super::endpoint::Endpoint;
use super::error::{Asked, What};
use super::host::Host;
use super::{Credentials, Error, Result, check_digest, retry};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, MediaType};
use crate::reference::Reference;

/// Of an error's body, for its reason.
pub(super) const MAX_ERROR_BYTES: usize = 64 << 10;

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

/// A repository at one host, and the way to log in to it there.
pub(super) struct Repository {
    host: Arc<Host>,
    familiar: String,
    path: String,
    login: Login,
    access: Access,
    /// Repositories of the same registry that a blob may be mounted from.
    sources: Vec<String>,
    authorization: RwLock<RegistryAuth>,
    /// Held while a token is fetched, so that what many wait for is fetched once.
    renewing: Mutex<()>,
}

impl Repository {
    /// The repository of `reference` at a host of its registry. Nothing is sent yet.
    pub async fn open(
        host: Arc<Host>,
        reference: &Reference,
        access: Access,
        sources: &[String],
        credentials: &Credentials,
    ) -> Result<Self> {
        let login = host.login(credentials, reference.registry()).await?.clone();
        Ok(Self {
            host,
            familiar: reference.name(),
            path: reference.repository().to_owned(),
            login,
            access,
            sources: sources.to_vec(),
            authorization: RwLock::new(RegistryAuth::Anonymous),
            renewing: Mutex::new(()),
        })
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.host.endpoint()
    }

    /// The host it is at.
    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The repository, as people write it.
    pub(super) fn familiar(&self) -> &str {
        &self.familiar
    }

    /// The client for short requests.
    pub(super) fn http(&self) -> &reqwest::Client {
        self.host.client()
    }

    /// The client for what is sent. It follows no redirect: a PUT that became a GET would be answered with success.
    pub(super) fn uploads(&self) -> Result<&reqwest::Client> {
        self.host.uploads()
    }

    /// Host and port.
    pub fn registry(&self) -> &str {
        self.host.shown()
    }

    /// Fetches a manifest or index, bounded, and checks it against the digests that it should have.
    pub async fn manifest(&self, reference: &Reference) -> Result<Document> {
        let name = reference.digest().map_or(reference.tag().unwrap_or_default(), Digest::as_str);
        let asked = self.asked(What::Manifest { reference: reference.familiar() });
        let url = self.url("manifests", name);
        let accept = MANIFEST_TYPES.join(", ");
        let response = self.send(&asked, || self.http().get(&url).header(ACCEPT, &accept)).await?;
        let media_type = MediaType(header(&response, CONTENT_TYPE.as_str()).unwrap_or_default());
        let told = header(&response, DIGEST_HEADER).filter(|text| !text.is_empty());
        let what = format!("the manifest of {}", reference.familiar());
        let bytes = bounded(response, self.registry(), &what, MAX_MANIFEST_BYTES).await?;
        let digest = self.digest_of(&what, &bytes, reference.digest(), told)?;
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        Ok(Document { descriptor, bytes })
    }

    /// The digest asked for, else the one the registry tells, else the bytes' own. All that are
    /// known must be right.
    fn digest_of(&self, what: &str, bytes: &[u8], asked: Option<&Digest>, told: Option<String>) -> Result<Digest> {
        let invalid = |reason: crate::oci::InvalidDigest| Error::Protocol {
            registry: self.registry().to_owned(),
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
        self.host.url(&format!("{}/{kind}/{name}", self.path))
    }

    pub(super) fn asked(&self, what: What) -> Asked<'_> {
        Asked {
            registry: self.registry(),
            repository: self.familiar.clone(),
            logged_in: !matches!(self.login, Login::Anonymous),
            what,
        }
    }

    /// Sends a request with what is known about who asks, and once more with what the registry then wants to see: its
    /// first word, or a token in the place of one that has expired or that does not suffice. Success or an error.
    pub(super) async fn send(&self, asked: &Asked<'_>, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut used = self.authorization().await?;
        let mut response = self.host.exchange(asked, request(), &used).await?;
        // The first may be an old token's; the second time it is about a repository that needs more than was known.
        for renewed in [false, true] {
            let Some(challenge) = self.challenge_in(&response)? else { break };
            let hopeless = renewed && challenge.further_scope(&self.access.scope(&self.path)).is_none();
            if hopeless || !self.renew(challenge, &used).await? {
                break;
            }
            used = self.authorization.read().await.clone();
            response = self.host.exchange(asked, request(), &used).await?;
        }
        success(asked, response).await
    }

    /// What is sent with a request, got beforehand if the host has said what it wants to see.
    async fn authorization(&self) -> Result<RegistryAuth> {
        let current = self.authorization.read().await.clone();
        match self.host.challenge() {
            Some(challenge) if current == RegistryAuth::Anonymous => {
                self.renew(challenge, &current).await?;
                Ok(self.authorization.read().await.clone())
            }
            _ => Ok(current),
        }
    }

    pub(super) async fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.headers(self.host.headers().clone());
        match &*self.authorization.read().await {
            RegistryAuth::Anonymous => request,
            RegistryAuth::Basic(username, password) => request.basic_auth(username, Some(password)),
            RegistryAuth::Bearer(token) => request.bearer_auth(token),
        }
    }

    /// What the host wants to see, if this is its answer to somebody who has not shown it.
    fn challenge_in(&self, response: &Response) -> Result<Option<Challenge>> {
        if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Ok(None);
        }
        // Whoever a redirect has led to has no say in who may pull here.
        if !self.host.is_own(response.url()) {
            return Ok(None);
        }
        let found = Challenge::of_response(self.registry(), response)?;
        let final_word = response.status() == StatusCode::FORBIDDEN && !found.wants_more();
        Ok((found != Challenge::None && !final_word).then_some(found))
    }

    /// Gets what the registry's challenge asks for. Whether that is any different from before.
    pub(super) async fn authorize(&self) -> Result<bool> {
        let used = self.authorization.read().await.clone();
        let challenge = match self.host.challenge() {
            Some(challenge) => challenge,
            None => match self.challenge_in(&self.host.greet(&RegistryAuth::Anonymous).await?)? {
                Some(challenge) => challenge,
                None => return Ok(false),
            },
        };
        self.renew(challenge, &used).await
    }

    /// Answers a challenge, unless somebody else has done so since what was `used`.
    async fn renew(&self, challenge: Challenge, used: &RegistryAuth) -> Result<bool> {
        let _one = self.renewing.lock().await;
        if *self.authorization.read().await != *used {
            return Ok(true);
        }
        let new = self.answer(&challenge).await?;
        self.host.set_challenge(challenge.without_scope());
        let mut current = self.authorization.write().await;
        let changed = *current != new;
        *current = new;
        Ok(changed)
    }

    async fn answer(&self, challenge: &Challenge) -> Result<RegistryAuth> {
        let asked = self.asked(What::Token);
        let own = self.access.scope(&self.path);
        let answer = async |scope: &str| challenge.answer(&self.host, &asked, &self.login, scope).await;
        let sources = self.sources.iter().map(|source| Access::Pull.scope(source));
        let wanted = challenge.further_scope(&own);
        let all = [own.clone()].into_iter().chain(wanted).chain(sources).collect::<Vec<_>>().join(" ");
        match answer(&all).await {
            // Some token servers give nothing to who may not have all: a mount saves time, and is no condition.
            Err(Error::Denied { .. } | Error::BadCredentials { .. }) if all != own => answer(&own).await,
            answer => answer,
        }
    }
}

pub(super) async fn find_login(credentials: &Credentials, registry: &str) -> Result<Login> {
    let (credentials, name) = (credentials.clone(), registry.to_owned());
    // A credential helper is another program, which may ask the user for a passphrase.
    let found = tokio::task::spawn_blocking(move || credentials.for_registry(&name)).await;
    match found {
        Ok(found) => found.map_err(|source| Error::Credential { registry: registry.to_owned(), source }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
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
    Err(Error::of_answer(asked, status.as_u16(), wait, &body))
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
