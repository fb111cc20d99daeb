//! What registries say beside their answers, for the user to see: warnings, and that a limit is near.
//!
//! ```text
//! Warning: 299 - "this repository moves"            distribution-spec, "Warnings"
//! RateLimit-Limit: 100;w=21600                       Docker Hub: so many pulls in six hours
//! RateLimit-Remaining: 9;w=21600
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, WARNING};

use super::error::quoted;

/// So many different notices are kept; a registry that has more to say is not listened to.
const MAX_NOTICES: usize = 16;
/// A limit is near when less than this part of it is left.
const LOW: u64 = 10;

const LIMIT: &str = "ratelimit-limit";
const REMAINING: &str = "ratelimit-remaining";

/// What was said and not yet told. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Notices(Arc<Mutex<BTreeSet<String>>>);

impl Notices {
    /// Takes note of what is in the headers of an answer.
    pub fn of(&self, registry: &str, headers: &HeaderMap) {
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let warnings = headers.get_all(WARNING).iter().filter_map(|value| warning(&text(value)));
        let header = |name| headers.get(name).map(text);
        let limit = limit(header(LIMIT).as_deref(), header(REMAINING).as_deref());
        for words in warnings.chain(limit) {
            let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if notices.len() < MAX_NOTICES {
                notices.insert(format!("{registry}: {words}"));
            }
        }
    }

    /// What is to be told, which is forgotten here.
    pub fn take(&self) -> Vec<String> {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *notices).into_iter().collect()
    }
}

/// The text of `299 - "text"`, which is the only form that the specification has.
fn warning(header: &str) -> Option<String> {
    let text = header.trim().strip_prefix("299 ")?.trim_start().strip_prefix("- \"")?.strip_suffix('"')?;
    Some(quoted(&text.replace("\\\"", "\"").replace("\\\\", "\\")))
}

/// How many pulls are left, where that is few. Each header is `count;w=seconds`.
fn limit(limit: Option<&str>, remaining: Option<&str>) -> Option<String> {
    let count = |header: &str| header.split(';').next()?.trim().parse::<u64>().ok();
    let (all, left) = (count(limit?)?, count(remaining?)?);
    let window = limit?.split(';').find_map(|part| part.trim().strip_prefix("w=")?.parse::<u64>().ok());
    let hours = window.map(|seconds| format!(" in {} hours", seconds.div_ceil(3600))).unwrap_or_default();
    let few = left.saturating_mul(LOW) <= all;
    few.then(|| format!("{left} of {all} pulls{hours} are left; logging in often raises the limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_telling() {
        assert_eq!(warning(r#"299 - "moved \"soon\"""#).as_deref(), Some("moved \"soon\""));
        assert_eq!(warning("299 - \"\u{1b}[2Jgone\"").as_deref(), Some("[2Jgone"));
        for none in ["199 - \"x\"", "299 r.io \"x\"", "299 - x", ""] {
            assert_eq!(warning(none), None, "{none}");
        }
        assert!(warning(&format!("299 - \"{}\"", "x".repeat(10_000))).unwrap().len() <= 300);
        let few = limit(Some("100;w=21600"), Some("9;w=21600")).unwrap();
        assert_eq!(few, "9 of 100 pulls in 6 hours are left; logging in often raises the limit");
        assert_eq!(limit(Some("100;w=21600"), Some("98;w=21600")), None);
        for nonsense in ["", "many", "-1", "99999999999999999999"] {
            assert_eq!(limit(Some(nonsense), Some("1")), None);
        }
    }

    #[test]
    fn a_talkative_registry_is_cut_short() {
        let notices = Notices::default();
        for number in 0..100 {
            let value = format!("299 - \"{number}\"").parse().unwrap();
            notices.of("r.io", &HeaderMap::from_iter([(WARNING, value)]));
        }
        assert_eq!(notices.take().len(), MAX_NOTICES);
        assert!(notices.take().is_empty());
    }
}
