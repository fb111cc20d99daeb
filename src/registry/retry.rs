//! When to ask again: pure decisions, so that they can be tested without waiting.
//!
//! Asked again: what broke off, what took too long, 5xx and 429. Not asked again: a refused connection or
//! an unknown host (the user waits for an answer that will not change in seconds), and everything
//! that is a decision of the registry.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use super::Error;

/// How often and how long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each.
    pub first_pause: Duration,
    /// The longest pause of our own choosing.
    pub longest_pause: Duration,
    /// The longest wait that a registry may ask for; beyond it the error is reported instead.
    pub longest_retry_after: Duration,
}

impl Default for Patience {
    /// Five attempts, as Docker; pauses of ½, 1, 2 and 4 s; a registry may ask for a minute.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

/// The attempts made at one piece of work.
#[derive(Clone, Debug)]
pub struct Attempts {
    patience: Patience,
    failed: u32,
}

impl Attempts {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, failed: 0 }
    }

    /// After a failure: how long to wait before the next attempt, or `None` if this was the last.
    pub fn after(&mut self, error: &Error) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= self.patience.attempts {
            return None;
        }
        match asked_for(error)? {
            Some(wait) => (wait <= self.patience.longest_retry_after).then_some(wait),
            None => Some(with_jitter(self.pause())),
        }
    }

    /// The work went on for a while: the failures before it no longer count.
    pub fn progressed(&mut self) {
        self.failed = 0;
    }

    fn pause(&self) -> Duration {
        let doubled = self.patience.first_pause.saturating_mul(1 << (self.failed - 1).min(16));
        doubled.min(self.patience.longest_pause)
    }
}

/// `None`: not worth another attempt. `Some(None)`: in our own time. Else when the registry says.
fn asked_for(error: &Error) -> Option<Option<Duration>> {
    match error {
        Error::RateLimited { retry_after, .. } => Some(*retry_after),
        Error::Status { status: 408 | 500 | 502 | 503 | 504, retry_after, .. } => Some(*retry_after),
        Error::Broken { .. } | Error::Truncated { .. } | Error::UploadLost { .. } => Some(None),
        _ => None,
    }
}

/// Between half and all of `pause`, so that many clients that failed together do not come back together.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    pause / 2 + (pause / 2).mul_f64(random as f64 / u64::MAX as f64)
}

/// `Retry-After` in seconds. Its other form, a date, is left to the backoff: no registry sends it, and a
/// wrong clock would make it a long sleep.
pub(super) fn retry_after(header: Option<&str>) -> Option<Duration> {
    header?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Error {
        Error::Status { registry: "r".into(), what: "x".into(), status, retry_after: None, reason: "y".into() }
    }

    fn limited(seconds: Option<u64>) -> Error {
        let retry_after = seconds.map(Duration::from_secs);
        Error::RateLimited { registry: "r".into(), retry_after, reason: "y".into() }
    }

    #[test]
    fn pauses_double_and_end() {
        let mut attempts = Attempts::new(Patience::default());
        for most in [500, 1000, 2000, 4000] {
            let pause = attempts.after(&status(503)).unwrap();
            assert!((most / 2..=most).contains(&pause.as_millis()), "{pause:?} of {most}");
        }
        assert_eq!(attempts.after(&status(503)), None);
        attempts.progressed();
        assert!(attempts.after(&status(503)).is_some());
    }

    #[test]
    fn the_registrys_wish_is_granted_within_bounds() {
        let after = |error| Attempts::new(Patience::default()).after(&error);
        assert_eq!(after(limited(Some(3))), Some(Duration::from_secs(3)));
        assert_eq!(after(limited(Some(61))), None, "beyond the limit");
        assert!(after(limited(None)).is_some());
    }

    #[test]
    fn decisions_are_final() {
        for code in [400, 401, 403, 404, 405, 416, 501] {
            assert_eq!(Attempts::new(Patience::default()).after(&status(code)), None, "{code}");
        }
    }

    #[test]
    fn the_header_is_seconds() {
        assert_eq!(retry_after(Some(" 12 ")), Some(Duration::from_secs(12)));
        for none in [None, Some("-1"), Some("soon"), Some("Wed, 21 Oct 2026 07:28:00 GMT")] {
            assert_eq!(retry_after(none), None);
        }
    }
}
