//! Values of `org.systemd.property.*` annotations, in the text format of GVariant: `uint64 5000000`, `'text'`,
//! `['a', 'b']`, `@as []`. Without a type in front, a number is an int32, or a double if it looks like one.

use super::wire::Value;

/// Deeper than any property.
const MAX_DEPTH: usize = 16;

/// What makes a text no value.
pub(super) type Fault = &'static str;

/// Reads a whole text as one value.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    let mut parser = Parser { rest: text, depth: 0 };
    let value = parser.value(None)?;
    parser.blank();
    if parser.rest.is_empty() { Ok(value) } else { Err("something follows the value") }
}

/// A number of seconds as microseconds, for properties that systemd documents with `Sec` and takes with `USec`.
pub(super) fn microseconds(seconds: &Value) -> Result<Value, Fault> {
    const MILLION: u64 = 1_000_000;
    let whole = match seconds {
        Value::Byte(value) => Some(u64::from(*value)),
        Value::U16(value) => Some(u64::from(*value)),
        Value::U32(value) => Some(u64::from(*value)),
        Value::U64(value) => Some(*value),
        Value::I16(value) => u64::try_from(*value).ok(),
        Value::I32(value) => u64::try_from(*value).ok(),
        Value::I64(value) => u64::try_from(*value).ok(),
        Value::F64(value) if *value >= 0.0 => return Ok(Value::U64((value * MILLION as f64) as u64)),
        _ => None,
    };
    whole.and_then(|whole| whole.checked_mul(MILLION)).map(Value::U64).ok_or("it is no number of seconds")
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.blank();
        let end = self.rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-._".contains(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// A value; `wanted` is its type, where that is known.
    fn value(&mut self, wanted: Option<&str>) -> Result<Value, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is nested too deeply");
        }
        let value = self.any(wanted);
        self.depth -= 1;
        value
    }

    fn any(&mut self, wanted: Option<&str>) -> Result<Value, Fault> {
        self.blank();
        match self.rest.chars().next() {
            None => Err("a value is missing"),
            Some('@') => self.annotated(),
            Some('\'' | '"') => text_as(self.quoted()?, wanted),
            Some('[') => self.array(wanted),
            Some('(') => self.tuple(wanted),
            Some('<') => self.variant(),
            Some(_) => self.plain(wanted),
        }
    }

    /// `@as []`.
    fn annotated(&mut self) -> Result<Value, Fault> {
        self.rest = &self.rest[1..];
        let end = self.rest.find(char::is_whitespace).ok_or("a value is missing after its type")?;
        let (wanted, rest) = self.rest.split_at(end);
        self.rest = rest;
        if split(wanted)?.len() != 1 {
            return Err("it is not one type");
        }
        self.value(Some(wanted))
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let mut letters = self.rest.char_indices();
        let quote = letters.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, letter)) = letters.next() {
            match letter {
                letter if Some(letter) == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.push(match letters.next().ok_or("a quote is missing")?.1 {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'u' | 'U' | 'x' => return Err("a character is written by its number"),
                    other => other,
                }),
                other => text.push(other),
            }
        }
        Err("a quote is missing")
    }

    fn array(&mut self, wanted: Option<&str>) -> Result<Value, Fault> {
        let element = match wanted {
            Some(wanted) => Some(wanted.strip_prefix('a').ok_or("an array where something else should be")?),
            None => None,
        };
        let mut values: Vec<Value> = Vec::new();
        self.take("[");
        while !self.take("]") {
            if !values.is_empty() && !self.take(",") {
                return Err("a comma or bracket is missing");
            }
            let like = values.first().map(Value::signature);
            values.push(self.value(element.or(like.as_deref()))?);
        }
        let first = values.first().map(Value::signature);
        let element = element.map(str::to_owned).or(first).ok_or("an empty array needs its type, like @as []")?;
        match values.iter().all(|value| value.signature() == element) {
            true => Ok(Value::Array(element, values)),
            false => Err("an array has values of different types"),
        }
    }

    fn tuple(&mut self, wanted: Option<&str>) -> Result<Value, Fault> {
        let types = match wanted {
            Some(wanted) => {
                let inner = wanted.strip_prefix('(').and_then(|wanted| wanted.strip_suffix(')'));
                Some(split(inner.ok_or("a tuple where something else should be")?)?)
            }
            None => None,
        };
        let mut values = Vec::new();
        self.take("(");
        while !self.take(")") {
            if !values.is_empty() && !self.take(",") {
                return Err("a comma or parenthesis is missing");
            }
            if self.take(")") {
                break;
            }
            let wanted = types.as_ref().map(|types| types.get(values.len()).copied().ok_or("a tuple is too long"));
            values.push(self.value(wanted.transpose()?)?);
        }
        match types {
            Some(types) if types.len() != values.len() => Err("a tuple is too short"),
            _ if values.is_empty() => Err("a tuple is empty"),
            _ => Ok(Value::Struct(values)),
        }
    }

    fn variant(&mut self) -> Result<Value, Fault> {
        self.take("<");
        let value = self.value(None)?;
        if self.take(">") { Ok(Value::Variant(Box::new(value))) } else { Err("a > is missing") }
    }

    /// `true`, a number, or a type's name and a value.
    fn plain(&mut self, wanted: Option<&str>) -> Result<Value, Fault> {
        let word = self.word();
        let named = match word {
            "true" | "false" => {
                return if matches!(wanted, None | Some("b")) {
                    Ok(Value::Bool(word == "true"))
                } else {
                    Err("true or false where something else should be")
                };
            }
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            number => return self::number(number, wanted),
        };
        self.value(Some(named))
    }
}

fn text_as(text: String, wanted: Option<&str>) -> Result<Value, Fault> {
    if text.contains('\0') {
        return Err("a text has a NUL");
    }
    match wanted {
        None | Some("s") => Ok(Value::Str(text)),
        Some("o") if text.starts_with('/') => Ok(Value::Path(text)),
        Some("g") if text.len() < 256 && split(&text).is_ok() => Ok(Value::Signature(text)),
        _ => Err("a text where something else should be"),
    }
}

fn number(word: &str, wanted: Option<&str>) -> Result<Value, Fault> {
    const NONE: Fault = "it is no number of its type";
    let double = word.contains(['.', 'e', 'E']) && !word.starts_with("0x");
    let whole = || -> Option<i128> {
        let (negative, digits) = word.strip_prefix('-').map_or((false, word), |digits| (true, digits));
        let value = match digits.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16).ok()?,
            None => digits.parse().ok()?,
        };
        Some(if negative { -value } else { value })
    };
    fn fit<T: TryFrom<i128>>(whole: Option<i128>) -> Result<T, Fault> {
        whole.and_then(|whole| T::try_from(whole).ok()).ok_or(NONE)
    }
    match wanted.unwrap_or(if double { "d" } else { "i" }) {
        "y" => fit(whole()).map(Value::Byte),
        "n" => fit(whole()).map(Value::I16),
        "q" => fit(whole()).map(Value::U16),
        "i" => fit(whole()).map(Value::I32),
        "u" => fit(whole()).map(Value::U32),
        "x" => fit(whole()).map(Value::I64),
        "t" => fit(whole()).map(Value::U64),
        "d" => word.parse().map(Value::F64).map_err(|_| NONE),
        _ => Err("a number where something else should be"),
    }
}

/// The types of a signature, one by one.
fn split(signature: &str) -> Result<Vec<&str>, Fault> {
    let mut types = Vec::new();
    let mut rest = signature;
    while !rest.is_empty() {
        let (first, tail) = rest.split_at(one(rest, 0)?);
        types.push(first);
        rest = tail;
    }
    Ok(types)
}

/// How long the first type of a signature is.
fn one(signature: &str, depth: usize) -> Result<usize, Fault> {
    const UNKNOWN: Fault = "it is no type";
    if depth > MAX_DEPTH {
        return Err("it is nested too deeply");
    }
    match signature.as_bytes().first() {
        Some(b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v') => Ok(1),
        Some(b'a') => Ok(1 + one(&signature[1..], depth + 1)?),
        Some(b'(') => {
            let mut at = 1;
            while signature.as_bytes().get(at) != Some(&b')') {
                at += one(signature.get(at..).ok_or(UNKNOWN)?, depth + 1)?;
            }
            if at == 1 { Err(UNKNOWN) } else { Ok(at + 1) }
        }
        _ => Err(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Value {
        Value::Array("s".into(), texts.iter().map(|text| Value::str(text)).collect())
    }

    #[test]
    fn texts_become_values() {
        let table = [
            ("true", Value::Bool(true)),
            (" 'it\\'s' ", Value::str("it's")),
            ("\"a\\nb\"", Value::str("a\nb")),
            ("5", Value::I32(5)),
            ("-0x10", Value::I32(-16)),
            ("1.5", Value::F64(1.5)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("byte 255", Value::Byte(255)),
            ("@t 7", Value::U64(7)),
            ("['a', 'b']", strings(&["a", "b"])),
            ("@as []", strings(&[])),
            ("@au [1, 2]", Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)])),
            ("[uint64 1, 2]", Value::Array("t".into(), vec![Value::U64(1), Value::U64(2)])),
            (
                "[('/dev/null', 'rw')]",
                Value::Array("(ss)".into(), vec![Value::Struct(vec![Value::str("/dev/null"), Value::str("rw")])]),
            ),
            (
                "@a(st) [('a', 1)]",
                Value::Array("(st)".into(), vec![Value::Struct(vec![Value::str("a"), Value::U64(1)])]),
            ),
            ("<'a'>", Value::Variant(Box::new(Value::str("a")))),
            ("objectpath '/a'", Value::Path("/a".into())),
        ];
        for (text, value) in table {
            assert_eq!(parse(text).as_ref(), Ok(&value), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "'a",
            "[",
            "['a'",
            "['a' 'b']",
            "['a', 1]",
            "[]",
            "()",
            "(1",
            "@as [1]",
            "@q 65536",
            "int32 2147483648",
            "2147483648",
            "maybe",
            "1 2",
            "uint64 -1",
            "@z 1",
            "@",
            "@a",
            "@(",
            "<1",
            "@a(s) [(1)]",
            "@(s) ('a', 'b')",
            "@(ss) ('a')",
            "'\\x41'",
            "uint32 'a'",
            "byte",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(1000)).is_err());
        assert!(parse(&format!("@{}s []", "a".repeat(1000))).is_err());
        assert!(parse(&format!("@{} 1", "(".repeat(100_000))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[@a-z0-9'"\[\]()<>, .\\é-]{0,24}"#) {
            if let Ok(value) = parse(&text) {
                proptest::prop_assert!(!value.signature().is_empty());
            }
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (seconds, micro) in [("5", 5_000_000), ("uint64 1", 1_000_000), ("0.25", 250_000), ("byte 2", 2_000_000)] {
            assert_eq!(microseconds(&parse(seconds).unwrap()), Ok(Value::U64(micro)));
        }
        for seconds in ["-1", "'a'", "-0.5", "uint64 18446744073709551615"] {
            assert!(microseconds(&parse(seconds).unwrap()).is_err(), "{seconds}");
        }
    }
}
