//! Sizes and times in Docker's words (the `go-units` package).

/// Bytes in decimal units, three significant digits: `1.23kB`, `45.6MB`, `789GB`.
pub fn size(bytes: u64) -> String {
    decimal_size(bytes, 3)
}

/// Bytes in decimal units, four significant digits: `1.234kB`, `45.67MB`.
pub fn exact_size(bytes: u64) -> String {
    decimal_size(bytes, 4)
}

fn decimal_size(bytes: u64, digits: usize) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].iter().peekable();
    while let Some(unit) = units.next() {
        let text = significant(value, digits);
        // What would be written as 1000 is one of the next unit.
        if (value < 1000.0 && text != "1000") || units.peek().is_none() {
            return text + unit;
        }
        value /= 1000.0;
    }
    format!("{bytes}B")
}

/// Bytes in binary units, four significant digits: `1.234MiB`, `45.6GiB`.
pub fn binary_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    let decimals = match value {
        v if v >= 999.95 => 0,
        v if v >= 99.995 => 1,
        v if v >= 9.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// C's `%.{digits}g` for 0 ≤ value < 1000 and three digits or more.
fn significant(value: f64, digits: usize) -> String {
    let with = |decimals: usize| format!("{value:.decimals$}");
    // Rounding may add a digit before the point.
    let before = |text: &str| text.split('.').next().map_or(0, str::len);
    let text = (digits - 3..digits).rev().map(with).find(|text| before(text) + decimals(text) <= digits);
    let text = text.unwrap_or_else(|| with(0));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn decimals(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, decimals)| decimals.len())
}

/// A span of time in words: `About a minute`, `3 weeks`.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds.saturating_add(1800) / 3600);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago `then` was, both in seconds since 1970.
pub fn ago(then: i64, now: i64) -> String {
    duration(now.saturating_sub(then).max(0).unsigned_abs()) + " ago"
}

/// Seconds since 1970 of an RFC 3339 time. Fractions are cut off.
pub fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, offset) = split_offset(time)?;
    let clock = clock.split('.').next()?;
    let mut clock = clock.splitn(3, ':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    valid.then(|| days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset)
}

/// Seconds since 1970 as Go prints a time, in UTC.
pub fn local_time(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
}

/// Seconds since 1970 as RFC 3339 has it.
pub fn rfc_3339(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Nanoseconds since 1970 as RFC 3339 has it.
pub fn rfc_3339_nanos(nanos: i64) -> Option<String> {
    jiff::Timestamp::from_nanosecond(nanos.into()).ok().map(|time| time.to_string())
}

fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (hours, minutes) = time[at + 1..].split_once(':')?;
    let seconds = number(hours)? * 3600 + number(minutes)? * 60;
    Some((&time[..at], if time[at..].starts_with('-') { -seconds } else { seconds }))
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Howard Hinnant's `days_from_civil`: the year is begun in March, so that the leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `KEY=value` in two; without the sign the value is empty.
pub fn key_value(text: &str) -> (String, String) {
    text.split_once('=').map_or((text.to_owned(), String::new()), |(key, value)| (key.to_owned(), value.to_owned()))
}

/// `text`, cut to `width` characters with a mark that it was.
pub fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (9_999, "10kB"),
            (45_678_901, "45.7MB"),
            (123_456_789, "123MB"),
            (999_600_000, "1GB"),
            (7_800_000, "7.8MB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn sizes_of_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (2_065_270, "2.065MB"),
            (999_940, "999.9kB"),
            (999_960, "1MB"),
            (12_345_678, "12.35MB"),
            (123_456_789, "123.5MB"),
        ] {
            assert_eq!(exact_size(bytes), text);
        }
    }

    #[test]
    fn binary_sizes_as_docker_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (5_439_488, "5.188MiB"),
            (8_322_359_296, "7.751GiB"),
            (128 << 20, "128MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(binary_size(bytes), text);
        }
    }

    #[test]
    fn times_as_docker_writes_them() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (59 * 60, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (60 * DAY, "2 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        assert_eq!(ago(100, 40), "Less than a second ago", "a clock that went back");
    }

    #[test]
    fn rfc_3339() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2024-09-25T12:00:00.123456789Z", 1_727_265_600),
            ("2024-09-25T14:00:00+02:00", 1_727_265_600),
            ("2024-09-25T11:30:00-00:30", 1_727_265_600),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(parse_time(text), Some(seconds), "{text}");
        }
        for bad in ["", "2024", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "x-y-zTa:b:cZ", "2024-01-01T24:00:00Z"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
