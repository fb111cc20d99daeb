//! Sizes and times, as limits are written.

use std::time::Duration;

/// A size: a number of bytes, or one of KiB, MiB, GiB or TiB with its letter, as for Docker's limits.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err("its unit can be b, k, m, g or t".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "it is not a size, such as 64m".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".into())
}

/// A time: a number of seconds, or one with its unit.
pub fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let number: u64 = digits.parse().map_err(|_| "it is not a time, such as 10s".to_owned())?;
    let seconds =
        |each: u64| number.checked_mul(each).map(Duration::from_secs).ok_or_else(|| "it is too long".to_owned());
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(60 * 60),
        _ => Err("its unit can be ms, s, m or h".into()),
    }
}

/// A whole number.
pub fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it is not a whole number".to_owned())
}

/// A number of bytes in its largest whole unit, as [`bytes()`] reads it.
pub fn shown(bytes: u64) -> String {
    let units = [(40, "t"), (30, "g"), (20, "m"), (10, "k")];
    let whole = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| format!("{bytes} bytes"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        assert_eq!((bytes("7"), bytes("64k"), bytes("1GB")), (Ok(7), Ok(65_536), Ok(1 << 30)));
        assert_eq!(
            (time("90"), time("2m"), time("5ms")),
            (Ok(Duration::from_secs(90)), Ok(Duration::from_secs(120)), Ok(Duration::from_millis(5)))
        );
        for text in ["", "k", "-1", "1.5g", "1x", "99999999999999999999", "20000000t"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "99999999999999999h"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!((shown(1 << 30), shown(65_536), shown(7)), ("1g".into(), "64k".into(), "7 bytes".into()));
    }
}
