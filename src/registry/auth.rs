//! Logging in: the registry's challenge, and the answer to it (the distribution project's token and
//! OAuth2 specifications).
//!
//! ```text
//! request ─▶ 200                             nothing to answer
//!         ─▶ 401 Basic                       the password goes to the registry itself
//!         ─▶ 401 Bearer realm, service       a token is fetched from the realm
//!                                              GET  with the password, or nobody's
//!                                              POST with an identity token (OAuth2 refresh)
//!         ─▶ 401 or 403 insufficient_scope   a token for what the registry names besides
//! ```
//!
//! The realm is the registry's word, and a password is sent there. So it must be https, except where a
//! loopback registry names another loopback address, and never a link-local address, where clouds
//! keep the machine's own secrets.

use base64::Engine;
use oci_distribution::secrets::RegistryAuth;
use reqwest::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, Url};

use super::endpoint::{Endpoint, is_link_local, is_loopback};
use super::error::Asked;
use super::host::Host;
use super::{Error, Result, http};

/// The largest answer of a token server. Real tokens are at most a few kilobytes.
const MAX_TOKEN_BYTES: usize = 1 << 20;
/// The most scopes that a registry may want besides ours.
const MAX_SCOPES: usize = 8;
const INSUFFICIENT: &str = "insufficient_scope";

/// Who pulls.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Nobody in particular.
    Anonymous,
    /// A user with a password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token, which a token server exchanges.
    IdentityToken(String),
    /// A token for the registry itself.
    RegistryToken(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Nothing.
    None,
    /// A password.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String>, error: Option<String> },
}

impl Challenge {
    /// The challenge in a response.
    pub fn of_response(registry: &str, response: &Response) -> Result<Self> {
        Self::in_headers(response.headers().get_all(WWW_AUTHENTICATE).iter()).map_err(|reason| Error::Protocol {
            registry: registry.to_owned(),
            what: "a WWW-Authenticate header",
            reason: reason.to_owned(),
        })
    }

    /// The challenge in a response's `WWW-Authenticate` headers, each of which may have several; Bearer is preferred.
    fn in_headers<'a>(headers: impl Iterator<Item = &'a HeaderValue>) -> Result<Self, &'static str> {
        let mut found = Self::None;
        for header in headers {
            for (scheme, parameters) in parse_challenges(header.to_str().map_err(|_| "it is not text")?) {
                match Self::of(&scheme, &parameters)? {
                    bearer @ Self::Bearer { .. } => return Ok(bearer),
                    Self::Basic => found = Self::Basic,
                    Self::None => {}
                }
            }
        }
        Ok(found)
    }

    /// Schemes that are not known are none.
    fn of(scheme: &str, parameters: &[(String, String)]) -> Result<Self, &'static str> {
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::None);
        }
        let value = |key: &str| parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.clone());
        let realm = value("realm").ok_or("it names no realm")?;
        Ok(Self::Bearer { realm, service: value("service"), scope: value("scope"), error: value("error") })
    }

    /// Whether a registry has said that a token is good, but not for enough.
    pub fn wants_more(&self) -> bool {
        matches!(self, Self::Bearer { error: Some(error), .. } if error == INSUFFICIENT)
    }

    /// The same, of no repository in particular.
    pub fn without_scope(self) -> Self {
        match self {
            Self::Bearer { realm, service, .. } => Self::Bearer { realm, service, scope: None, error: None },
            other => other,
        }
    }

    /// What the registry names that our own scope does not have.
    pub fn further_scope(&self, own: &str) -> Option<String> {
        let Self::Bearer { scope: Some(scope), .. } = self else { return None };
        let further = scope.split(' ').filter(|scope| is_scope(scope) && !covers(own, scope)).take(MAX_SCOPES);
        let further = further.collect::<Vec<_>>().join(" ");
        (!further.is_empty()).then_some(further)
    }

    /// Gets what answers this challenge. Several scopes are separated by spaces.
    pub async fn answer(&self, host: &Host, asked: &Asked<'_>, login: &Login, scope: &str) -> Result<RegistryAuth> {
        match (self, login) {
            (_, Login::RegistryToken(token)) => Ok(RegistryAuth::Bearer(token.clone())),
            (Self::Basic, Login::Password { username, password }) => {
                Ok(RegistryAuth::Basic(username.clone(), password.clone()))
            }
            (Self::None | Self::Basic, _) => Ok(RegistryAuth::Anonymous),
            (Self::Bearer { realm, service, .. }, _) => {
                let realm = safe_realm(host.endpoint(), asked.registry, realm)?;
                // The token specification repeats the parameter, OAuth2 separates by spaces.
                let together = matches!(login, Login::IdentityToken(_));
                let scopes: Vec<&str> = if together { vec![scope] } else { scope.split(' ').collect() };
                let scopes = scopes.into_iter().filter(|scope| !scope.is_empty());
                let mut wanted: Vec<_> = scopes.map(|scope| ("scope", scope)).collect();
                wanted.extend(service.as_deref().map(|service| ("service", service)));
                let request = token_request(host.client(), realm, &wanted, login).build();
                let request = request.map_err(|error| Error::of_request(asked.registry, error))?;
                let response = host.follow(request).await?;
                let response = http::success(asked, response).await.map_err(|error| bad_credentials(asked, error))?;
                let body = http::bounded(response, asked.registry, "a token", MAX_TOKEN_BYTES).await?;
                read_token(asked.registry, &body)
            }
        }
    }
}

/// The value of an Authorization header (RFC 7617).
pub(super) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}")))
}

/// `type:name:actions` (the token specification's grammar, without its corners).
fn is_scope(text: &str) -> bool {
    let mut parts = text.splitn(2, ':');
    let (kind, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let (name, actions) = rest.rsplit_once(':').unwrap_or_default();
    text.len() <= 512 && plain(kind, b"()") && plain(name, b"._-/:*") && plain(actions, b",*")
}

/// Whether one of the scopes in `own` allows all of `wanted`.
fn covers(own: &str, wanted: &str) -> bool {
    let split = |scope: &str| scope.rsplit_once(':').map(|(what, actions)| (what.to_owned(), actions.to_owned()));
    let Some((what, actions)) = split(wanted) else { return true };
    let mut ours = own.split(' ').filter_map(split).filter(|(ours, _)| *ours == what);
    ours.any(|(_, ours)| actions.split(',').all(|action| ours.split(',').any(|own| own == action)))
}

fn token_request(http: &reqwest::Client, realm: Url, wanted: &[(&str, &str)], login: &Login) -> RequestBuilder {
    match login {
        Login::IdentityToken(token) => {
            let grant = [("grant_type", "refresh_token"), ("client_id", "wherry"), ("refresh_token", token)];
            let form = with_query(realm.clone(), wanted.iter().chain(&grant));
            let body = form.query().unwrap_or_default().to_owned();
            http.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        }
        Login::Password { username, password } => {
            http.get(with_query(realm, wanted)).basic_auth(username, Some(password))
        }
        Login::Anonymous | Login::RegistryToken(_) => http.get(with_query(realm, wanted)),
    }
}

fn with_query<'a>(mut url: Url, pairs: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Url {
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

/// A token server's refusal of a login is about the login, not about the repository.
fn bad_credentials(asked: &Asked<'_>, error: Error) -> Error {
    match error {
        Error::Denied { logged_in: true, reason, .. } => {
            Error::BadCredentials { registry: asked.registry.to_owned(), reason }
        }
        other => other,
    }
}

fn safe_realm(endpoint: &Endpoint, registry: &str, realm: &str) -> Result<Url> {
    let refuse =
        |reason| Error::UnsafeRealm { registry: registry.to_owned(), realm: realm.chars().take(200).collect(), reason };
    let url = Url::parse(realm).map_err(|_| refuse("it is not an address"))?;
    let host = url.host_str().ok_or_else(|| refuse("it names no host"))?;
    if is_link_local(host) {
        return Err(refuse("it is a link-local address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it has a user or a password in it"));
    }
    let own = endpoint.authority.rsplit_once(':').map_or(endpoint.authority.as_str(), |(own, _)| own);
    match url.scheme() {
        "https" => Ok(url),
        "http" if endpoint.loopback && is_loopback(host) => Ok(url),
        // An administrator has said that this host has no TLS.
        "http" if endpoint.plain && (host == own || host == endpoint.authority) => Ok(url),
        "http" => Err(refuse("it is not https")),
        _ => Err(refuse("it is neither http nor https")),
    }
}

fn read_token(registry: &str, body: &[u8]) -> Result<RegistryAuth> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let invalid =
        |reason: &str| Error::Protocol { registry: registry.to_owned(), what: "a token", reason: reason.to_owned() };
    // The parser's own message could quote the token.
    let answer: Answer = serde_json::from_slice(body).map_err(|_| invalid("it is not valid JSON"))?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(invalid("it is empty or has characters that no header can carry"));
    }
    Ok(RegistryAuth::Bearer(token))
}

/// The challenges of one header, `scheme key="value", key=value, scheme …` (RFC 9110 section 11.6.1). Lenient: what makes
/// no sense is passed over.
fn parse_challenges(mut text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    loop {
        text = text.trim_start_matches([',', ' ', '\t']);
        let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if word.is_empty() {
            // A character that begins nothing.
            match text.char_indices().nth(1) {
                Some((next, _)) => text = &text[next..],
                None => return challenges,
            }
            continue;
        }
        text = rest;
        let Some(rest) = rest.trim_start().strip_prefix('=') else {
            challenges.push((word.to_owned(), Vec::new()));
            continue;
        };
        let rest = rest.trim_start();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if let Some((_, parameters)) = challenges.last_mut() {
            parameters.push((word.to_owned(), value));
        }
        text = rest;
    }
}

/// The text up to the closing quote, its escapes resolved, and what follows.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            let text = |text: &str| text.to_owned();
            Ok(Challenge::Bearer { realm: text(realm), service: service.map(text), scope: None, error: None })
        };
        let read = |header: &str| {
            let header = HeaderValue::from_str(header).unwrap();
            Challenge::in_headers([header].iter()).map(Challenge::without_scope)
        };
        for (header, expected) in [
            ("Basic realm=\"x\"", Ok(Challenge::Basic)),
            ("basic", Ok(Challenge::Basic)),
            ("Negotiate", Ok(Challenge::None)),
            ("Negotiate YII==", Ok(Challenge::None)),
            ("", Ok(Challenge::None)),
            (",;=\"", Ok(Challenge::None)),
            ("Bearer realm=\"https://a/t\",service=\"s\",scope=\"r:x:pull,push\"", bearer("https://a/t", Some("s"))),
            ("bearer Service=s, REALM=https://a/t", bearer("https://a/t", Some("s"))),
            (r#"Bearer realm="https://a/\"t", service="#, bearer("https://a/\"t", Some(""))),
            ("Bearer service=\"s\"", Err("it names no realm")),
            ("Bearer realm=\"unclosed", bearer("unclosed", None)),
            (
                r#"Basic realm="a, Bearer realm=b", Bearer realm="https://a",service="s""#,
                bearer("https://a", Some("s")),
            ),
            (r#"Negotiate, Basic realm="x", Digest realm="y", nonce=z"#, Ok(Challenge::Basic)),
            (r#"Bearer realm = "https://a" , Basic"#, bearer("https://a", None)),
        ] {
            assert_eq!(read(header), expected, "{header}");
        }
        let headers = ["Basic realm=x", "Bearer realm=\"https://a\""].map(HeaderValue::from_static);
        assert_eq!(Challenge::in_headers(headers.iter()), bearer("https://a", None));
    }

    #[test]
    fn what_is_wanted_besides() {
        let further = |scope: &str, own: &str| {
            let (realm, service) = (String::new(), None);
            Challenge::Bearer { realm, service, scope: Some(scope.to_owned()), error: None }.further_scope(own)
        };
        let own = "repository:a/b:pull";
        assert_eq!(further("repository:a/b:pull", own), None);
        assert_eq!(further("repository:a/b:push", own).as_deref(), Some("repository:a/b:push"));
        assert_eq!(further("repository:a/b:pull", "repository:a/b:pull,push"), None);
        let two = "repository:a/b:pull repository(plugin):c:pull";
        assert_eq!(further(two, own).as_deref(), Some("repository(plugin):c:pull"));
        for bad in ["", "x", "repository:a b", "repository:a&b=c:pull", "a:b:c\n", &format!("a:{}:c", "b".repeat(600))]
        {
            assert_eq!(further(bad, own), None, "{bad:?}");
        }
        let many: Vec<String> = (0..100).map(|n| format!("repository:{n}:pull")).collect();
        assert_eq!(further(&many.join(" "), own).unwrap().split(' ').count(), MAX_SCOPES);
    }

    #[test]
    fn realms_where_passwords_must_not_go() {
        let safe = |registry: &str, realm: &str| safe_realm(&Endpoint::of(registry), registry, realm).is_ok();
        assert!(safe("ghcr.io", "https://ghcr.io/token"));
        assert!(safe("docker.io", "https://auth.docker.io/token"));
        assert!(safe("localhost:5000", "http://127.0.0.1:5001/auth"));
        for bad in [
            "http://ghcr.io/token",
            "http://127.0.0.1/token",
            "https://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "//ghcr.io/token",
            "https://user@ghcr.io/token",
            "https://user:password@ghcr.io/token",
            "https://[fe80::1]/token",
            "https://[::ffff:169.254.169.254]/token",
            "data:text/plain,token",
            "https://",
            "",
        ] {
            assert!(!safe("ghcr.io", bad), "{bad:?}");
        }
        assert!(!safe("localhost:5000", "http://169.254.169.254/"));
        assert!(!safe("localhost:5000", "http://evil.com/"));
        let plain = Endpoint::written("http://r.lan:5000", false).unwrap();
        let there = |realm: &str| safe_realm(&plain, "r.lan", realm).is_ok();
        assert!(there("http://r.lan:5001/token") && there("https://auth.lan/token"));
        assert!(!there("http://auth.lan/token") && !there("http://127.0.0.1/token"));
    }

    #[test]
    fn tokens_by_both_names_and_nothing_else() {
        let token = |json: &str| read_token("r", json.as_bytes());
        for json in [r#"{"token":"t"}"#, r#"{"access_token":"t"}"#, r#"{"token":"t","access_token":"u"}"#] {
            assert!(matches!(token(json), Ok(RegistryAuth::Bearer(t)) if t == "t"), "{json}");
        }
        for json in ["{}", "[]", "secret", r#"{"token":"a\nb"}"#] {
            let error = token(json).err().unwrap();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_login_is_not_shown() {
        let login = Login::Password { username: "u".to_owned(), password: "hunter2".to_owned() };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
