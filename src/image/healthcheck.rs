//! `HEALTHCHECK` of a Dockerfile, as docker reads it and writes it into a config. Pure.
//!
//! ```text
//! HEALTHCHECK [--interval=30s …] CMD command, or ["command", "argument"]
//! HEALTHCHECK NONE
//! ```

use serde_json::{Map, Value, json};

/// Its options, and where a config has them.
const TIMES: [(&str, &str); 4] = [
    ("interval", "Interval"),
    ("timeout", "Timeout"),
    ("start-period", "StartPeriod"),
    ("start-interval", "StartInterval"),
];
const RETRIES: &str = "retries";

/// Docker's `container.MinimumDuration`: nothing is checked more often.
const MIN_NANOSECONDS: i64 = 1_000_000;

/// What follows the instruction's word as the `Healthcheck` of a config, or why it is none.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let (options, text) = options(text)?;
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match word.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() && options.is_empty() => Ok(json!({"Test": ["NONE"]})),
        "NONE" => Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" => {
            let mut check = Map::from_iter([("Test".to_owned(), json!(test(rest)?))]);
            for (name, value) in options {
                set(&mut check, name, value)?;
            }
            Ok(Value::Object(check))
        }
        "" => Err("HEALTHCHECK requires at least one argument".to_owned()),
        other => Err(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")),
    }
}

/// Options and what they are set to.
type Options<'a> = Vec<(&'a str, &'a str)>;

/// The words at the beginning that are options, each once; and the rest.
fn options(mut text: &str) -> Result<(Options<'_>, &str), String> {
    let mut options = Options::new();
    while let Some(option) = text.strip_prefix("--") {
        let (option, rest) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        if name != RETRIES && !TIMES.iter().any(|(known, _)| *known == name) {
            return Err(format!("unknown flag: {name}"));
        }
        if options.iter().any(|(known, _)| *known == name) {
            return Err(format!("duplicate flag specified: {name}"));
        }
        options.push((name, value.ok_or_else(|| format!("missing a value on flag: {name}"))?));
        text = rest.trim_start();
    }
    Ok((options, text))
}

fn test(text: &str) -> Result<Vec<String>, String> {
    let listed: Option<Vec<String>> = text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten();
    match listed {
        Some(list) if !list.is_empty() => Ok([vec!["CMD".to_owned()], list].concat()),
        None if !text.is_empty() => Ok(vec!["CMD-SHELL".to_owned(), text.to_owned()]),
        _ => Err("Missing command after HEALTHCHECK CMD".to_owned()),
    }
}

/// Sets what an option says; nothing for what is the usual.
fn set(check: &mut Map<String, Value>, name: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    let (field, number) = match TIMES.iter().find(|(known, _)| *known == name) {
        Some((_, field)) => {
            let time = nanoseconds(value).ok_or_else(|| format!("time: invalid duration {value:?}"))?;
            if time != 0 && time < MIN_NANOSECONDS {
                return Err(format!("Interval {name:?} cannot be less than 1ms"));
            }
            (*field, time)
        }
        None => {
            let retries: i32 = value.parse().map_err(|_| format!("--retries is no number: {value:?}"))?;
            if retries < 0 {
                return Err(format!("--retries cannot be negative ({retries})"));
            }
            ("Retries", i64::from(retries))
        }
    };
    if number != 0 {
        check.insert(field.to_owned(), json!(number));
    }
    Ok(())
}

/// A time as Go's `time.ParseDuration` reads it: `1h30m`, `1.5s`, `-2ms`, `0`.
fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i64 = 0;
    loop {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let unit: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
        if rest.is_empty() {
            return Some(if negative { -total } else { total });
        }
    }
}

/// A decimal number of units, what is below a nanosecond cut off.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (mut part, mut place) = (0, unit);
    for digit in fraction.chars() {
        place /= 10;
        part += i64::from(digit.to_digit(10)?) * place;
    }
    whole.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_records() {
        for (text, expected) in [
            ("NONE", json!({"Test": ["NONE"]})),
            (
                "CMD curl -f http://localhost/ || exit 1",
                json!({"Test": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"]}),
            ),
            (r#"cmd ["a", "b c"]"#, json!({"Test": ["CMD", "a", "b c"]})),
            ("CMD [not json", json!({"Test": ["CMD-SHELL", "[not json"]})),
            (
                "--interval=5m --timeout=3s --start-period=1m30s --start-interval=500ms --retries=4 CMD x",
                json!({"Test": ["CMD-SHELL", "x"], "Interval": 300_000_000_000i64, "Timeout": 3_000_000_000i64,
                    "StartPeriod": 90_000_000_000i64, "StartInterval": 500_000_000, "Retries": 4}),
            ),
            ("--interval=0s --retries=0 --timeout= CMD x", json!({"Test": ["CMD-SHELL", "x"]})),
            ("--interval=1.5s\tCMD x", json!({"Test": ["CMD-SHELL", "x"], "Interval": 1_500_000_000})),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_said() {
        for (text, says) in [
            ("", "at least one argument"),
            ("--interval=1s", "at least one argument"),
            ("CMD", "Missing command after HEALTHCHECK CMD"),
            ("CMD []", "Missing command"),
            ("CMD-SHELL x", r#"Unknown type "CMD-SHELL" in HEALTHCHECK (try CMD)"#),
            ("NONE x", "takes no arguments"),
            ("--interval=1s NONE", "takes no arguments"),
            ("--intervall=1s CMD x", "unknown flag: intervall"),
            ("--interval=1s --interval=1s CMD x", "duplicate flag specified: interval"),
            ("--interval CMD x", "missing a value on flag: interval"),
            ("--interval=1 CMD x", "invalid duration \"1\""),
            ("--interval=s CMD x", "invalid duration"),
            ("--interval=1..5s CMD x", "invalid duration"),
            ("--interval=9999999999h CMD x", "invalid duration"),
            ("--interval=1us CMD x", r#"Interval "interval" cannot be less than 1ms"#),
            ("--timeout=-1s CMD x", r#"Interval "timeout" cannot be less than 1ms"#),
            ("--retries=x CMD x", "no number"),
            ("--retries=-1 CMD x", "--retries cannot be negative (-1)"),
            ("--retries=3000000000 CMD x", "no number"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
