//! The tags of a repository, page by page (distribution-spec, "Listing Tags").

use reqwest::header::LINK;
use serde::Deserialize;

use super::error::What;
use super::http::{Access, Repository, bounded, header};
use super::{Client, Error, OnRetry, Result};
use crate::reference::Reference;

/// Tags asked for at a time. Registries have limits of their own, 100 to 1000, and say where the next page is.
const PAGE: usize = 1000;
/// Of one page: a thousand tags of 128 characters are an eighth of it.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// Of one repository. Nobody pulls more at once, and a list that leads in a circle ends.
pub const MAX_TAGS: usize = 100_000;
/// A page may be empty, but not for ever.
const MAX_PAGES: usize = 10_000;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of `reference`'s repository, in the registry's order.
    pub async fn tags(&self, reference: &Reference, on_retry: OnRetry<'_>) -> Result<Vec<String>> {
        self.trying(on_retry, async || self.repository(reference, Access::Pull).await?.tags().await).await
    }
}

impl Repository {
    async fn tags(&self) -> Result<Vec<String>> {
        let first = self.url("tags", "list");
        // A mirror is told in the query whose tags are meant.
        let and = if first.contains('?') { '&' } else { '?' };
        let (mut url, mut tags) = (format!("{first}{and}n={PAGE}"), Vec::new());
        for _ in 0..MAX_PAGES {
            let asked = self.asked(What::Tags { repository: self.familiar().to_owned() });
            let response = self.send(&asked, || self.http().get(&url)).await?;
            let next = header(&response, LINK.as_str()).and_then(|link| next_query(&link).map(str::to_owned));
            let bytes = bounded(response, self.registry(), "a list of tags", MAX_PAGE_BYTES).await?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|error| self.no_list(error.to_string()))?;
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MAX_TAGS {
                return Err(self.no_list(format!("it has more than {MAX_TAGS} tags")));
            }
            let Some(query) = next else { return Ok(tags) };
            url = format!("{first}{and}{query}");
        }
        Err(self.no_list(format!("it has more than {MAX_PAGES} pages")))
    }

    fn no_list(&self, reason: String) -> Error {
        Error::Protocol { registry: self.registry().to_owned(), what: "a list of tags", reason }
    }
}

/// The query of the next page in a `Link` header. Only that: where it is asked is known, whatever the header says.
fn next_query(link: &str) -> Option<&str> {
    let next = link.split(',').find(|link| link.replace('"', "").contains("rel=next"))?;
    let (_, url) = next.split_once('<')?;
    let (url, _) = url.split_once('>')?;
    let query = url.split_once('?')?.1;
    query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#').then_some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_where_the_first_was() {
        for (link, query) in [
            (r#"</v2/x/tags/list?last=b&n=2>; rel="next""#, Some("last=b&n=2")),
            (r#"<https://evil.example/?last=b>; rel=next"#, Some("last=b")),
            (r#"</a?x>; rel="prev", </b?y=1>; rel="next""#, Some("y=1")),
            (r#"</v2/x/tags/list>; rel="next""#, None),
            ("</a?b\r\nc>; rel=next", None),
            ("</a?b>; rel=last", None),
            ("rel=next", None),
        ] {
            assert_eq!(next_query(link), query, "{link}");
        }
    }
}
