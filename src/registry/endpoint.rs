//! Where a registry is: its address, and whether plain http is meant. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Docker Hub's API lives at another name than its images'.
const HUB: &str = "docker.io";
const HUB_API: &str = "index.docker.io";
/// Where the API is on nearly every registry.
const API: &str = "/v2";

/// A registry's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `host` or `host:port`, as in a URL.
    pub authority: String,
    /// Whether to speak http.
    pub plain: bool,
    /// Whether it is on this machine, where Docker trusts whatever answers.
    pub loopback: bool,
    /// The path of the API, `/v2` but for mirrors that have it elsewhere.
    pub base: String,
}

impl Endpoint {
    /// The endpoint of a reference's registry.
    pub fn of(registry: &str) -> Self {
        let authority = if registry == HUB { HUB_API } else { registry }.to_owned();
        let (host, port) = split(&authority);
        let loopback = is_loopback(host);
        let plain = loopback && port != Some(443);
        Self { authority, plain, loopback, base: API.to_owned() }
    }

    /// The endpoint that an administrator wrote as `scheme://host[:port][/path]`. Without `override_path` the path is
    /// followed by `/v2`, as containerd reads it.
    pub fn written(text: &str, override_path: bool) -> Result<Self, &'static str> {
        let url = if text.contains("://") { text.to_owned() } else { format!("{}://{text}", Self::of(text).scheme()) };
        let url = Url::parse(&url).map_err(|_| "it is not an address")?;
        let host = url.host_str().ok_or("it names no host")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has a user or a password in it");
        }
        let plain = match url.scheme() {
            "http" => true,
            "https" => false,
            _ => return Err("it is neither http nor https"),
        };
        let path = url.path().trim_end_matches('/');
        let base = if override_path || path.ends_with(API) { path.to_owned() } else { format!("{path}{API}") };
        let authority = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { authority, plain, loopback: is_loopback(host), base })
    }

    /// The name under which credentials for it are kept.
    pub fn key(&self) -> &str {
        &self.authority
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.plain { "http" } else { "https" }
    }

    /// Host and port for people.
    pub fn shown(&self) -> String {
        match split(&self.authority).1 {
            Some(_) => self.authority.clone(),
            None => format!("{}:{}", self.authority, if self.plain { 80 } else { 443 }),
        }
    }
}

fn split(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// `localhost`, 127.0.0.0/8 and `[::1]`, by name only: what a name resolves to is for others to say.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Addresses at which clouds serve the secrets of the machine that asks.
pub(super) fn is_link_local(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(address)) => Ipv4Addr::is_link_local(&address),
        Ok(IpAddr::V6(address)) => {
            Ipv6Addr::is_unicast_link_local(&address)
                || address.to_ipv4_mapped().is_some_and(|mapped| mapped.is_link_local())
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (registry, scheme, shown) in [
            ("docker.io", "https", "index.docker.io:443"),
            ("ghcr.io", "https", "ghcr.io:443"),
            ("localhost", "http", "localhost:80"),
            ("localhost:5000", "http", "localhost:5000"),
            ("localhost:443", "https", "localhost:443"),
            ("127.0.0.1:5000", "http", "127.0.0.1:5000"),
            ("127.9.9.9", "http", "127.9.9.9:80"),
            ("[::1]:5000", "http", "[::1]:5000"),
            ("[::1]", "http", "[::1]:80"),
            ("[::2]:5000", "https", "[::2]:5000"),
            ("10.0.0.1:5000", "https", "10.0.0.1:5000"),
            ("127.0.0.1.evil.com", "https", "127.0.0.1.evil.com:443"),
            ("localhost.evil.com:80", "https", "localhost.evil.com:80"),
        ] {
            let endpoint = Endpoint::of(registry);
            assert_eq!((endpoint.scheme(), endpoint.shown().as_str()), (scheme, shown), "{registry}");
        }
    }

    #[test]
    fn what_an_administrator_writes() {
        let read = |text, path| Endpoint::written(text, path).map(|e| (e.scheme(), e.authority, e.base));
        let is = |scheme, authority: &str, base: &str| Ok((scheme, authority.to_owned(), base.to_owned()));
        assert_eq!(read("https://m.io", false), is("https", "m.io", "/v2"));
        assert_eq!(read("http://m.io:5000/", false), is("http", "m.io:5000", "/v2"));
        assert_eq!(read("m.io:5000", false), is("https", "m.io:5000", "/v2"));
        assert_eq!(read("localhost:5000", false), is("http", "localhost:5000", "/v2"));
        assert_eq!(read("https://m.io/v2/hub", true), is("https", "m.io", "/v2/hub"));
        assert_eq!(read("https://m.io/proxy", false), is("https", "m.io", "/proxy/v2"));
        assert_eq!(read("https://m.io/proxy/v2/", false), is("https", "m.io", "/proxy/v2"));
        for bad in ["ftp://m.io", "https://u:p@m.io", "", "https://", "file:///etc"] {
            assert!(read(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_addresses_are_known() {
        for yes in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"] {
            assert!(is_link_local(yes), "{yes}");
        }
        assert!(!is_link_local("8.8.8.8") && !is_link_local("ghcr.io"));
    }
}
