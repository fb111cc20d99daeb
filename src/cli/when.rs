//! Times as `--since` and `--until` take them: a date, a time, seconds since 1970, or how long ago (`10m`, `1h30m`).

use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};

/// Nanoseconds since 1970.
pub type Nanos = i64;

/// What `text` means now. A time without a zone is of UTC.
pub fn parse(text: &str) -> Result<Nanos, String> {
    at(text, Timestamp::now())
}

fn at(text: &str, now: Timestamp) -> Result<Nanos, String> {
    let nanos = |time: Timestamp| Nanos::try_from(time.as_nanosecond()).map_err(|_| "it is out of range".to_owned());
    if let Some(ago) = go_duration(text) {
        return nanos(now).map(|now| now.saturating_sub(Nanos::try_from(ago.as_nanos()).unwrap_or(Nanos::MAX)));
    }
    if let Some(seconds) = unix(text) {
        return Ok(seconds);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return nanos(time);
    }
    let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(civil::DateTime::from));
    let local = local.map_err(|_| format!("{text:?} is no time: give 2026-11-25T12:00:00, 1764000000 or 10m"))?;
    nanos(TimeZone::UTC.to_timestamp(local).map_err(|error| error.to_string())?)
}

/// Seconds since 1970, with up to nine digits after a point.
fn unix(text: &str) -> Option<Nanos> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: Nanos = format!("{fraction:0<9}").parse().ok()?;
    seconds.parse::<Nanos>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// A duration as Go writes it: numbers with units, the largest first as a rule.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |length| end + length);
        let (_, scale) = UNITS.iter().find(|(unit, _)| *unit == &rest[end..unit_end])?;
        seconds += number * scale;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (text, seconds) in [
            ("10m", 1_000_000.0 - 600.0),
            ("1h30m", 1_000_000.0 - 5400.0),
            ("1.5s", 1_000_000.0 - 1.5),
            ("250ms", 1_000_000.0 - 0.25),
            ("0", 0.0),
            ("1136073600", 1_136_073_600.0),
            ("1136073600.5", 1_136_073_600.5),
            ("1970-01-02T00:00:00Z", 86400.0),
            ("1970-01-02T01:00:00.25+01:00", 86400.25),
            ("1970-01-02T00:00:00", 86400.0),
            ("1970-01-02", 86400.0),
        ] {
            assert_eq!(at(text, now), Ok((seconds * 1e9) as Nanos), "{text}");
        }
        for bad in ["", "x", "10", "-5m", "5 m", "m", "1d", "1.2.3s", "2026-13-01", "99999999999999999999", "1e300h"] {
            let result = at(bad, now);
            assert!(result.is_err() || bad == "10", "{bad}: {result:?}");
        }
    }
}
