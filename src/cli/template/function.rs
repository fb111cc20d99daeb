//! The functions of templates: Go's own and Docker's.

use std::cmp::Ordering;

use serde_json::Value;

use super::eval::{printed, truth};
use super::{Error, MAX_VALUE};
use crate::cli::output;

/// A function.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    name: &'static str,
    body: fn(&[Value]) -> Result<Value, String>,
}

const FUNCTIONS: &[Function] = &[
    Function { name: "and", body: |a| Ok(a.iter().find(|v| !truth(v)).or(a.last()).cloned().unwrap_or_default()) },
    Function { name: "eq", body: |a| compare(a, Ordering::is_eq, true) },
    Function { name: "ge", body: |a| compare(a, Ordering::is_ge, false) },
    Function { name: "gt", body: |a| compare(a, Ordering::is_gt, false) },
    Function { name: "html", body: |a| Ok(html(&print(a)).into()) },
    Function { name: "index", body: index },
    Function { name: "join", body: join },
    Function { name: "json", body: |a| Ok(output::plain_json(one(a)?).into()) },
    Function { name: "le", body: |a| compare(a, Ordering::is_le, false) },
    Function { name: "len", body: length },
    Function { name: "lower", body: |a| Ok(text(a, 0)?.to_lowercase().into()) },
    Function { name: "lt", body: |a| compare(a, Ordering::is_lt, false) },
    Function { name: "ne", body: |a| compare(a, Ordering::is_ne, false) },
    Function { name: "not", body: |a| Ok((!truth(one(a)?)).into()) },
    Function { name: "or", body: |a| Ok(a.iter().find(|v| truth(v)).or(a.last()).cloned().unwrap_or_default()) },
    Function { name: "pad", body: pad },
    Function { name: "print", body: |a| Ok(print(a).into()) },
    Function { name: "printf", body: printf },
    Function { name: "println", body: |a| Ok((a.iter().map(printed).collect::<Vec<_>>().join(" ") + "\n").into()) },
    Function { name: "slice", body: slice },
    Function { name: "split", body: split },
    Function { name: "title", body: |a| Ok(title(text(a, 0)?).into()) },
    Function { name: "truncate", body: truncate },
    Function { name: "upper", body: |a| Ok(text(a, 0)?.to_uppercase().into()) },
];

/// The widest that a format may make a value.
const MAX_WIDTH: usize = 1 << 10;

/// The most items that a text is split into.
const MAX_ITEMS: usize = 1 << 16;

/// The functions that say in which form a value is shown.
const OF_FORM: &[&str] = &["join", "json", "lower", "pad", "split", "title", "truncate", "upper"];

impl Function {
    /// The function of this name.
    pub fn named(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|function| function.name == name).copied()
    }

    /// What it makes of its arguments. For a heading, functions that say in which form a value is shown do nothing.
    pub fn call(self, mut arguments: Vec<Value>, heading: bool) -> Result<Value, Error> {
        let wrong = |what: String| Error::Call { function: self.name, what };
        if heading && OF_FORM.contains(&self.name) && !arguments.is_empty() {
            return Ok(arguments.swap_remove(0));
        }
        let mut left = MAX_VALUE;
        arguments.iter().try_for_each(|argument| weigh(argument, &mut left)).map_err(wrong)?;
        let made = (self.body)(&arguments).map_err(wrong)?;
        let mut left = MAX_VALUE;
        weigh(&made, &mut left).map_err(wrong)?;
        Ok(made)
    }
}

/// Takes the size of a value from what is left to be had.
fn weigh(value: &Value, left: &mut usize) -> Result<(), String> {
    let size = match value {
        Value::String(text) => text.len(),
        _ => 1,
    };
    *left = left.checked_sub(size).ok_or_else(|| format!("more than {MAX_VALUE} bytes"))?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| weigh(item, left)),
        Value::Object(map) => map.iter().try_for_each(|(key, item)| {
            *left = left.checked_sub(key.len()).ok_or_else(|| format!("more than {MAX_VALUE} bytes"))?;
            weigh(item, left)
        }),
        _ => Ok(()),
    }
}

fn one(arguments: &[Value]) -> Result<&Value, String> {
    match arguments {
        [value] => Ok(value),
        _ => Err(format!("wrong number of args: want 1 got {}", arguments.len())),
    }
}

fn at(arguments: &[Value], position: usize) -> Result<&Value, String> {
    arguments.get(position).ok_or_else(|| format!("wrong number of args: got {}", arguments.len()))
}

fn text(arguments: &[Value], position: usize) -> Result<&str, String> {
    let value = at(arguments, position)?;
    value.as_str().ok_or_else(|| format!("{} is no string", printed(value)))
}

fn count(arguments: &[Value], position: usize) -> Result<usize, String> {
    let value = at(arguments, position)?;
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{} is no index", printed(value)))
}

/// Go puts spaces between operands when neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut text = String::new();
    for (position, value) in arguments.iter().enumerate() {
        if position > 0 && !value.is_string() && !arguments[position - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&printed(value));
    }
    text
}

/// Compares the first argument with the second, or with any of the others.
fn compare(arguments: &[Value], holds: fn(Ordering) -> bool, any: bool) -> Result<Value, String> {
    let (first, others) = arguments.split_first().ok_or("missing argument for comparison")?;
    if others.is_empty() || (others.len() > 1 && !any) {
        return Err("missing argument for comparison".to_owned());
    }
    let outcomes: Result<Vec<bool>, String> = others.iter().map(|other| Ok(holds(order(first, other)?))).collect();
    Ok(outcomes?.contains(&true).into())
}

fn order(one: &Value, other: &Value) -> Result<Ordering, String> {
    let incompatible = || format!("incompatible types for comparison: {} and {}", printed(one), printed(other));
    match (one, other) {
        (Value::String(one), Value::String(other)) => Ok(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Ok(one.cmp(other)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(incompatible),
        },
        (Value::Null, Value::Null) => Ok(Ordering::Equal),
        (Value::Null, _) | (_, Value::Null) => Ok(Ordering::Less),
        _ => Err(incompatible()),
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let (value, keys) = arguments.split_first().ok_or("missing value")?;
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            // Go's zero value for what a map does not have.
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(value) => value,
                None => return Ok("".into()),
            },
            (Value::Array(items), Value::Number(position)) => position
                .as_u64()
                .and_then(|position| items.get(usize::try_from(position).ok()?))
                .ok_or_else(|| format!("index out of range: {position}"))?,
            (Value::Null, Value::String(_)) => return Ok("".into()),
            // Go's strings are bytes, and a byte is a number.
            (Value::String(text), Value::Number(position)) => {
                let byte = position.as_u64().and_then(|at| text.as_bytes().get(usize::try_from(at).ok()?));
                let byte = *byte.ok_or_else(|| format!("index out of range: {position}"))?;
                return if keys.len() == 1 { Ok(byte.into()) } else { Err(format!("can't index {byte}")) };
            }
            (value, key) => return Err(format!("can't index {} with {}", printed(value), printed(key))),
        };
    }
    Ok(value.clone())
}

fn length(arguments: &[Value]) -> Result<Value, String> {
    match one(arguments)? {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        Value::Null => Ok(0.into()),
        other => Err(format!("len of {}", printed(other))),
    }
}

fn join(arguments: &[Value]) -> Result<Value, String> {
    let separator = text(arguments, 1)?;
    match at(arguments, 0)? {
        Value::Array(items) if items.len().saturating_mul(separator.len()) > MAX_VALUE => {
            Err(format!("more than {MAX_VALUE} bytes"))
        }
        Value::Array(items) => Ok(items.iter().map(printed).collect::<Vec<_>>().join(separator).into()),
        Value::Null => Ok("".into()),
        other => Err(format!("{} is no list", printed(other))),
    }
}

fn split(arguments: &[Value]) -> Result<Value, String> {
    let (whole, separator) = (text(arguments, 0)?, text(arguments, 1)?);
    let parts: Vec<Value> = if separator.is_empty() {
        whole.chars().take(MAX_ITEMS + 1).map(|c| c.to_string().into()).collect()
    } else {
        whole.split(separator).take(MAX_ITEMS + 1).map(Value::from).collect()
    };
    if parts.len() > MAX_ITEMS { Err(format!("more than {MAX_ITEMS} items")) } else { Ok(parts.into()) }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let start = if arguments.len() > 1 { count(arguments, 1)? } else { 0 };
    let end = if arguments.len() > 2 { Some(count(arguments, 2)?) } else { None };
    let out_of_range = || format!("index out of range: {start}");
    match at(arguments, 0)? {
        Value::String(text) => text.get(start..end.unwrap_or(text.len())).map(Value::from).ok_or_else(out_of_range),
        Value::Array(items) => items.get(start..end.unwrap_or(items.len())).map(Value::from).ok_or_else(out_of_range),
        other => Err(format!("slice of {}", printed(other))),
    }
}

fn truncate(arguments: &[Value]) -> Result<Value, String> {
    let (text, length) = (text(arguments, 0)?, count(arguments, 1)?);
    Ok(text.chars().take(length).collect::<String>().into())
}

fn pad(arguments: &[Value]) -> Result<Value, String> {
    let (text, before, after) = (text(arguments, 0)?, count(arguments, 1)?, count(arguments, 2)?);
    if text.is_empty() {
        return Ok("".into());
    }
    if before.max(after) > MAX_WIDTH {
        return Err(format!("more than {MAX_WIDTH} spaces"));
    }
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
}

fn title(text: &str) -> String {
    let mut begins = true;
    let upper = |c: char| {
        let shown: String =
            if std::mem::replace(&mut begins, !c.is_alphanumeric()) { c.to_uppercase().collect() } else { c.into() };
        shown
    };
    text.chars().map(upper).collect()
}

fn html(text: &str) -> String {
    let escape = |c: char| match c {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Go's `fmt.Sprintf` for the verbs that make sense of JSON: `v s d q x t f` with flags `- 0`, width and precision.
fn printf(arguments: &[Value]) -> Result<Value, String> {
    let mut rest = text(arguments, 0)?;
    let mut values = arguments[1..].iter();
    let mut made = String::new();
    while let Some((before, after)) = rest.split_once('%') {
        made.push_str(before);
        let end = after.find(|c: char| !matches!(c, '0'..='9' | '-' | '.' | '+' | ' ' | '#'));
        let end = end.ok_or("%!(NOVERB)")?;
        let verb = after[end..].chars().next().unwrap_or('%');
        rest = &after[end + verb.len_utf8()..];
        if verb == '%' {
            made.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("%!{verb}(MISSING)"))?;
        made.push_str(&formatted(&after[..end], verb, value)?);
    }
    made.push_str(rest);
    if values.next().is_some() {
        return Err("more arguments than verbs".to_owned());
    }
    Ok(made.into())
}

fn formatted(flags: &str, verb: char, value: &Value) -> Result<String, String> {
    let (left, zeros) = (flags.contains('-'), flags.trim_start_matches(['+', ' ', '#']).starts_with('0'));
    let numbers = flags.trim_start_matches(['-', '+', ' ', '#', '0']);
    let (width, precision) = numbers.split_once('.').map_or((numbers, None), |(w, p)| (w, Some(p)));
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<usize>().ok() };
    let limited = |text: &str| number(text).filter(|n| *n <= MAX_WIDTH).ok_or("a width that is too large");
    let (width, precision) = (limited(width)?, precision.map(limited).transpose()?);
    let wrong = || format!("%!{verb}({})", printed(value));
    let text = match (verb, value) {
        ('v', value) => printed(value),
        ('s', value) => {
            let text = printed(value);
            precision.map_or_else(|| text.clone(), |length| text.chars().take(length).collect())
        }
        ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
        ('x', Value::Number(number)) => format!("{:x}", number.as_i64().ok_or_else(wrong)?),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('f', Value::Number(number)) => {
            format!("{:.*}", precision.unwrap_or(6).min(100), number.as_f64().ok_or_else(wrong)?)
        }
        ('t', Value::Bool(value)) => value.to_string(),
        ('q', Value::String(_)) => value.to_string(),
        _ => return Err(wrong()),
    };
    Ok(match (left, zeros) {
        (true, _) => format!("{text:<width$}"),
        (false, true) if value.is_number() => format!("{text:0>width$}"),
        _ => format!("{text:>width$}"),
    })
}
