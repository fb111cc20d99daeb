//! Logging in: the registry's challenge, and the answer to it (the distribution project's token and
//! OAuth2 specifications).
//!
//! ```text
//! GET /v2/ ─▶ 200                          nothing to answer
//!          ─▶ 401 Basic                    the password goes to the registry itself
//!          ─▶ 401 Bearer realm, service    a token is fetched from the realm
//!                                            GET  with the password, or nobody's
//!                                            POST with an identity token (OAuth2 refresh)
//! ```
//!
//! The realm is the registry's word, and a password is sent there. So it must be https, except where a
//! loopback registry names another loopback address, and never a link-local address, where clouds
//! keep the machine's own secrets.

use oci_distribution::secrets::RegistryAuth;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Url};

use super::endpoint::{Endpoint, is_link_local, is_loopback};
use super::error::Asked;
use super::{Error, Result, http};

/// The largest answer of a token server. Real tokens are at most a few kilobytes.
const MAX_TOKEN_BYTES: usize = 1 << 20;

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
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The challenge in a response's `WWW-Authenticate` headers; Bearer is preferred.
    pub fn in_headers<'a>(headers: impl Iterator<Item = &'a HeaderValue>) -> Result<Self, &'static str> {
        let mut found = Self::None;
        for header in headers {
            match Self::parse(header.to_str().map_err(|_| "it is not text")?)? {
                bearer @ Self::Bearer { .. } => return Ok(bearer),
                Self::Basic => found = Self::Basic,
                Self::None => {}
            }
        }
        Ok(found)
    }

    /// One challenge of a header. Schemes that are not known are none.
    fn parse(header: &str) -> Result<Self, &'static str> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::None);
        }
        let parameters = parse_parameters(parameters);
        let value = |key: &str| parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.clone());
        Ok(Self::Bearer { realm: value("realm").ok_or("it names no realm")?, service: value("service") })
    }

    /// Gets what answers this challenge.
    pub async fn answer(
        &self,
        http: &reqwest::Client,
        endpoint: &Endpoint,
        asked: &Asked<'_>,
        login: &Login,
        scope: &str,
    ) -> Result<RegistryAuth> {
        match (self, login) {
            (_, Login::RegistryToken(token)) => Ok(RegistryAuth::Bearer(token.clone())),
            (Self::Basic, Login::Password { username, password }) => {
                Ok(RegistryAuth::Basic(username.clone(), password.clone()))
            }
            (Self::None | Self::Basic, _) => Ok(RegistryAuth::Anonymous),
            (Self::Bearer { realm, service }, _) => {
                let realm = safe_realm(endpoint, asked.registry, realm)?;
                // The token specification repeats the parameter, OAuth2 separates by spaces.
                let together = matches!(login, Login::IdentityToken(_));
                let scopes: Vec<&str> = if together { vec![scope] } else { scope.split(' ').collect() };
                let mut wanted: Vec<_> = scopes.into_iter().map(|scope| ("scope", scope)).collect();
                wanted.extend(service.as_deref().map(|service| ("service", service)));
                let response = token_request(http, realm, &wanted, login).send().await;
                let response = response.map_err(|error| Error::of_request(asked.registry, error))?;
                let response = http::success(asked, response).await.map_err(|error| bad_credentials(asked, error))?;
                let body = http::bounded(response, asked.registry, "a token", MAX_TOKEN_BYTES).await?;
                read_token(asked.registry, &body)
            }
        }
    }
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
    match url.scheme() {
        "https" => Ok(url),
        "http" if endpoint.loopback && is_loopback(host) => Ok(url),
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

/// `key="value", key=value` (RFC 9110 section 11.2). Lenient: what makes no sense ends the list.
fn parse_parameters(mut text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    while let Some((key, rest)) = text.trim_start_matches([',', ' ', '\t']).split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => rest.split_once(',').map_or((rest.trim().to_owned(), ""), |(v, rest)| (v.trim().to_owned(), rest)),
        };
        parameters.push((key.trim().to_owned(), value));
        text = rest;
    }
    parameters
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
            Ok(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (header, expected) in [
            ("Basic realm=\"x\"", Ok(Challenge::Basic)),
            ("basic", Ok(Challenge::Basic)),
            ("Negotiate", Ok(Challenge::None)),
            ("Bearer realm=\"https://a/t\",service=\"s\",scope=\"r:x:pull,push\"", bearer("https://a/t", Some("s"))),
            ("bearer Service=s, REALM=https://a/t", bearer("https://a/t", Some("s"))),
            (r#"Bearer realm="https://a/\"t", service="#, bearer("https://a/\"t", Some(""))),
            ("Bearer service=\"s\"", Err("it names no realm")),
            ("Bearer realm=\"unclosed", bearer("unclosed", None)),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
        let headers = ["Basic realm=x", "Bearer realm=\"https://a\""].map(HeaderValue::from_static);
        assert_eq!(Challenge::in_headers(headers.iter()), bearer("https://a", None));
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
            "",
        ] {
            assert!(!safe("ghcr.io", bad), "{bad:?}");
        }
        assert!(!safe("localhost:5000", "http://169.254.169.254/"));
        assert!(!safe("localhost:5000", "http://evil.com/"));
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
