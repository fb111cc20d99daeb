//! What refers to a manifest: signatures, bills of materials (distribution-spec, "Listing Referrers").
//!
//! ```text
//! GET referrers/<digest> ─▶ 200 an index; Link: <…>; rel="next" leads on
//!                        ─▶ 404 this registry does not know the question:
//!                               the tag `sha256-<hex>`, which whoever pushes a referrer keeps, is such an index
//! ```
//!
//! Every word of it is the registry's: what a referrer says is judged by who fetches it, by its digest.

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, LINK};

use super::error::What;
use super::http::{Access, Repository, bounded, header};
use super::{Client, Error, Result};
use crate::oci::{Descriptor, Digest, Document, Index, MAX_MANIFEST_BYTES, MediaType};
use crate::reference::Reference;

/// The most pages of one answer that are read, and the most referrers of all of them. Signatures of an image are
/// counted in dozens; what is more is not an answer but an attack.
const MAX_PAGES: usize = 32;
const MAX_REFERRERS: usize = 4096;

/// How often a referrer is entered again into a list that others are writing too.
const ENTRIES: usize = 3;

/// Names the filters that the registry has applied.
const FILTERS: &str = "oci-filters-applied";

/// One page of an answer.
struct Page {
    found: Vec<Descriptor>,
    next: Option<Url>,
}

impl Client {
    /// The manifests in `reference`'s repository that refer to the one of this `digest`, of one artifact type or of
    /// all, in the registry's order. None is no error.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let repository = self.repository(reference, Access::Pull).await?;
        let mut next = Some(first_page(&repository, digest, artifact_type)?);
        let mut found = Vec::new();
        for page in 0..=MAX_PAGES {
            let Some(url) = next else { return Ok(found) };
            let asked = || repository.referrers(&url, digest, artifact_type);
            let page = match self.trying(&|_, _| {}, asked).await {
                // Only the very question can be unknown.
                Err(Error::Status { status: 400 | 404 | 405 | 501, .. }) if page == 0 => {
                    return self.tagged_referrers(reference, digest, artifact_type).await;
                }
                page => page?,
            };
            found.extend(page.found);
            if found.len() > MAX_REFERRERS {
                break;
            }
            next = page.next;
        }
        let what = format!("the list of what refers to {digest}");
        Err(Error::TooLarge { what, limit: MAX_PAGES * MAX_MANIFEST_BYTES })
    }

    async fn tagged_referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let mut found = self.list_by_tag(reference, digest).await?.map(|index| index.manifests).unwrap_or_default();
        found.retain(|descriptor| is_wanted(descriptor, artifact_type, false));
        Ok(found)
    }

    /// The list that a tag keeps where the registry has no such question.
    async fn list_by_tag(&self, reference: &Reference, digest: &Digest) -> Result<Option<Index>> {
        let tag = reference.tagged_by(digest);
        let document = match self.manifest(&tag, &|_, _| {}).await {
            Err(Error::UnknownManifest { .. }) => return Ok(None),
            document => document?,
        };
        match Document::parse(&document.descriptor.media_type, &document.bytes) {
            Ok(Document::Index(index)) => Ok(Some(index)),
            Ok(Document::Manifest(_)) => Err(unreadable(&tag, "it is no index")),
            Err(error) => Err(unreadable(&tag, error)),
        }
    }

    /// Enters `referrer` into the list that stands for the registry's own where it has none. Others may be doing the
    /// same at this moment, and a registry knows no transactions, so it is looked for afterwards.
    pub async fn enter_referrer(&self, reference: &Reference, subject: &Digest, referrer: &Descriptor) -> Result<()> {
        let tag = reference.tagged_by(subject);
        let is_there = |index: &Index| index.manifests.iter().any(|known| known.digest == referrer.digest);
        for _ in 0..ENTRIES {
            let mut index = self.list_by_tag(reference, subject).await?.unwrap_or_else(empty_index);
            if is_there(&index) {
                return Ok(());
            }
            index.manifests.push(referrer.clone());
            let bytes = serde_json::to_vec(&index).expect("plain data");
            let descriptor = Descriptor::new(MediaType::INDEX.into(), Digest::sha256(&bytes), bytes.len() as u64);
            self.name(&tag, &descriptor, &bytes, &|_, _| {}).await?;
        }
        match self.list_by_tag(reference, subject).await? {
            Some(index) if is_there(&index) => Ok(()),
            _ => Err(unreadable(&tag, "others replace it as fast as it is written")),
        }
    }
}

impl Repository {
    async fn referrers(&self, url: &Url, digest: &Digest, artifact_type: Option<&str>) -> Result<Page> {
        let asked = self.asked(What::Referrers { digest: digest.clone() });
        let response = self.send(&asked, || self.http().get(url.clone()).header("accept", MediaType::INDEX)).await?;
        let filtered = header(&response, FILTERS).unwrap_or_default().split(',').any(|f| f.trim() == "artifactType");
        let next = header(&response, LINK.as_str()).and_then(|link| next_page(&link));
        let next = next.map(|target| same_origin(url, &target)).transpose();
        let next = next.map_err(|reason| self.senseless("a Link header", reason))?;
        let media_type = MediaType(header(&response, CONTENT_TYPE.as_str()).unwrap_or_default());
        let bytes = bounded(response, self.registry(), "a list of referrers", MAX_MANIFEST_BYTES).await?;
        match Document::parse(&media_type, &bytes) {
            Ok(Document::Index(Index { manifests, .. })) => {
                let wanted = |descriptor: &Descriptor| is_wanted(descriptor, artifact_type, filtered);
                Ok(Page { found: manifests.into_iter().filter(wanted).collect(), next })
            }
            Ok(Document::Manifest(_)) => Err(self.senseless("a list of referrers", "it is no index")),
            Err(error) => Err(self.senseless("a list of referrers", &error.to_string())),
        }
    }

    fn senseless(&self, what: &'static str, reason: &str) -> Error {
        Error::Protocol { registry: self.registry().to_owned(), what, reason: reason.to_owned() }
    }
}

fn first_page(repository: &Repository, digest: &Digest, artifact_type: Option<&str>) -> Result<Url> {
    let url = Url::parse(&repository.url("referrers", digest.as_str()));
    let mut url = url.map_err(|error| repository.senseless("an address", &error.to_string()))?;
    if let Some(artifact_type) = artifact_type {
        url.query_pairs_mut().append_pair("artifactType", artifact_type);
    }
    Ok(url)
}

/// Whether a referrer is of the type. A registry that has filtered need not say it again.
fn is_wanted(descriptor: &Descriptor, wanted: Option<&str>, filtered: bool) -> bool {
    match (wanted, &descriptor.artifact_type) {
        (None, _) => true,
        (Some(wanted), Some(own)) => wanted == own,
        (Some(_), None) => filtered,
    }
}

/// The target of `<target>; rel="next"` in a Link header (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        let value = parameter.trim().strip_prefix("rel=");
        value.is_some_and(|value| value.trim_matches('"') == "next")
    };
    parameters.split(';').any(is_next).then(|| target.to_owned())
}

/// The next page is the same registry's: nothing is sent anywhere else for the asking.
fn same_origin(url: &Url, target: &str) -> Result<Url, &'static str> {
    let next = url.join(target).map_err(|_| "it is no address")?;
    if next.origin() == url.origin() { Ok(next) } else { Err("it leads to another host") }
}

fn unreadable(tag: &Reference, reason: impl ToString) -> Error {
    let reason = format!("{}: {}", tag.familiar(), reason.to_string());
    Error::Protocol { registry: tag.registry().to_owned(), what: "a list of referrers", reason }
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(MediaType::INDEX.into()),
        manifests: Vec::new(),
        annotations: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_told_by_its_relation_and_is_of_the_same_origin() {
        for (link, next) in [
            (r#"</v2/a/referrers/x?n=2>; rel="next""#, Some("/v2/a/referrers/x?n=2")),
            ("<https://r.io/p>; title=x; rel=next", Some("https://r.io/p")),
            (r#"</p>; rel="prev""#, None),
            ("</p", None),
            ("", None),
        ] {
            assert_eq!(next_page(link).as_deref(), next, "{link}");
        }
        let url = Url::parse("https://r.io/v2/a/referrers/x").unwrap();
        assert_eq!(same_origin(&url, "?last=1").unwrap().as_str(), "https://r.io/v2/a/referrers/x?last=1");
        for bad in ["http://r.io/x", "https://evil.io/x", "//evil.io/x", "https://r.io:444/x"] {
            assert!(same_origin(&url, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_referrer_without_a_type_is_wanted_only_if_the_registry_has_looked() {
        let mut descriptor = Descriptor::new(MediaType::MANIFEST.into(), Digest::sha256(b"x"), 1);
        assert!(is_wanted(&descriptor, None, false) && !is_wanted(&descriptor, Some("t"), false));
        assert!(is_wanted(&descriptor, Some("t"), true));
        descriptor.artifact_type = Some("u".to_owned());
        assert!(!is_wanted(&descriptor, Some("t"), true) && is_wanted(&descriptor, Some("u"), false));
    }

    #[test]
    fn the_fallback_is_a_tag_of_the_same_repository() {
        let digest = Digest::sha256(b"x");
        let reference: Reference = "r.io/a/b:1".parse().unwrap();
        assert_eq!(reference.tagged_by(&digest).to_string(), format!("r.io/a/b:sha256-{}", digest.hex()));
        let long: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        let tag = reference.tagged_by(&long).to_string();
        assert_eq!(tag, format!("r.io/a/b:sha512-{}", "a".repeat(64)));
        assert!(tag.parse::<Reference>().is_ok());
    }
}
