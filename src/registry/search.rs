//! Looking for repositories in a registry.
//!
//! ```text
//! GET /v1/search?q=…&n=…  ─▶ 200              Docker Hub, and registries that have learned it from there
//!                         ─▶ anything else ─▶ GET /v2/_catalog, page by page: the names that contain the term
//! ```
//!
//! Hub has no catalog. Where there is one it may be long, so it is read only until there is enough.

use oci_distribution::secrets::RegistryAuth;
use reqwest::header::LINK;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::Challenge;
use super::error::{Asked, What};
use super::host::{Host, safe_target};
use super::http::{bounded, header, success};
use super::{Client, Error, Result};
use crate::oci::MAX_MANIFEST_BYTES;

/// The most pages of a catalog that are read, and how many names are asked for with each: a hundred thousand in all.
const MAX_PAGES: usize = 100;
const PAGE: &str = "1000";
const CATALOG_SCOPE: &str = "registry:catalog:*";

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name in the registry.
    pub name: String,
    /// What its owner says.
    pub description: String,
    /// How many like it.
    pub star_count: u64,
    /// Whether Docker curates it.
    pub is_official: bool,
    /// Whether it was built by Hub, as long as Hub said so.
    pub is_automated: bool,
}

impl Client {
    /// At most so many repositories of a registry that have to do with `term`, in the registry's order.
    pub async fn search(&self, registry: &str, term: &str, limit: usize) -> Result<Vec<Found>> {
        let hosts = self.hosts(registry).await?;
        let none = || Error::NoHost { registry: registry.to_owned(), what: "search" };
        let host = hosts.last().ok_or_else(none)?;
        let mut search = Search { client: self, host, registry, term, authorization: RegistryAuth::Anonymous };
        match search.index(limit).await {
            Err(Error::Status { status: 400..=499, .. } | Error::Protocol { .. }) if !host.is_hub() => {
                search.catalog(limit).await
            }
            found => found,
        }
    }
}

struct Search<'a> {
    client: &'a Client,
    host: &'a Host,
    registry: &'a str,
    term: &'a str,
    authorization: RegistryAuth,
}

impl Search<'_> {
    fn asked(&self) -> Asked<'_> {
        let what = What::Search { term: self.term.to_owned() };
        Asked { registry: self.host.shown(), repository: self.registry.to_owned(), logged_in: false, what }
    }

    fn senseless(&self, what: &'static str, reason: impl ToString) -> Error {
        Error::Protocol { registry: self.host.shown().to_owned(), what, reason: reason.to_string() }
    }

    async fn index(&mut self, limit: usize) -> Result<Vec<Found>> {
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<Found>,
        }
        let mut url = self.address(&self.host.url(""))?;
        url.set_path("/v1/search");
        url.query_pairs_mut().clear().append_pair("q", self.term).append_pair("n", &limit.to_string());
        let body = self.get(url).await?.1;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| self.senseless("what it found", error))?;
        Ok(answer.results.into_iter().take(limit).collect())
    }

    async fn catalog(&mut self, limit: usize) -> Result<Vec<Found>> {
        #[derive(Deserialize)]
        struct Answer {
            repositories: Option<Vec<String>>,
        }
        let mut url = self.address(&self.host.url("_catalog"))?;
        url.query_pairs_mut().append_pair("n", PAGE);
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let (next, body) = self.get(url.clone()).await?;
            let answer: Answer = serde_json::from_slice(&body).map_err(|error| self.senseless("a catalog", error))?;
            let names = answer.repositories.unwrap_or_default().into_iter();
            found.extend(names.filter(|name| name.contains(self.term)).map(|name| Found { name, ..Found::default() }));
            match next {
                Some(next) if found.len() < limit => {
                    url = next_page(&url, &next).map_err(|r| self.senseless("a Link", r))?
                }
                _ => {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        }
        Err(self.senseless("a catalog", format!("it has more than {MAX_PAGES} pages")))
    }

    fn address(&self, text: &str) -> Result<Url> {
        Url::parse(text).map_err(|error| self.senseless("an address", error))
    }

    /// The next page's address, if one is told, and the body.
    async fn get(&mut self, url: Url) -> Result<(Option<String>, Vec<u8>)> {
        let mut response = self.ask(&url).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.host.is_own(response.url()) {
            let challenge = Challenge::of_response(self.host.shown(), &response)?;
            let login = self.host.login(&self.client.inner.credentials, self.registry).await?;
            self.authorization = challenge.answer(self.host, &self.asked(), login, CATALOG_SCOPE).await?;
            response = self.ask(&url).await?;
        }
        let response = success(&self.asked(), response).await?;
        let next = header(&response, LINK.as_str());
        let body = bounded(response, self.host.shown(), "what a registry found", MAX_MANIFEST_BYTES).await?;
        Ok((next, body))
    }

    async fn ask(&self, url: &Url) -> Result<Response> {
        self.host.exchange(&self.asked(), self.host.client().get(url.clone()), &self.authorization).await
    }
}

/// The target of `<target>; rel="next"` (RFC 8288): of the same origin, or nothing would say who is asked.
fn next_page(from: &Url, link: &str) -> Result<Url, &'static str> {
    let parts = link.trim().strip_prefix('<').and_then(|link| link.split_once('>'));
    let (target, _) = parts.ok_or("it is not a link")?;
    let target = safe_target(from, target)?;
    if target.origin() == from.origin() { Ok(target) } else { Err("it leads to another host") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_leads_to_the_next_of_the_same_registry() {
        let from = Url::parse("https://r.io/v2/_catalog?n=1000").unwrap();
        let next = next_page(&from, r#"</v2/_catalog?last=x&n=1000>; rel="next""#).unwrap();
        assert_eq!(next.as_str(), "https://r.io/v2/_catalog?last=x&n=1000");
        for bad in [
            "</v2",
            "",
            "<https://evil.io/v2/_catalog>",
            "<http://r.io/v2/_catalog>",
            "<//evil.io/>",
            "<https://r.io:444/>",
            "<https://user@r.io/v2/_catalog>",
            "<file:///etc/passwd>",
        ] {
            assert!(next_page(&from, bad).is_err(), "{bad}");
        }
    }
}
