//! Messages of D-Bus as bytes (D-Bus specification, "Message Protocol"), as far as systemd's manager needs them.
//!
//! What is sent can have any type; what is read back are the few basic types of systemd's answers. Every length that
//! comes from the other side is checked against what is there.

/// The longest message that is taken; systemd's answers have some hundred bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Of the header: order of bytes, kind, flags, version, length of the body, serial, length of the fields.
const FIXED: usize = 16;

/// A value with its type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Str(String),
    Path(String),
    Signature(String),
    /// Values of one type, of which the signature is known also when there is none.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub(super) fn str(text: &str) -> Self {
        Self::Str(text.to_owned())
    }

    /// The value's type in the notation of D-Bus.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::F64(_) => "d".into(),
            Self::Str(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(values) => format!("({})", signature(values)),
            Self::Variant(_) => "v".into(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(value) => out.push(*value),
            Self::Bool(value) => number(out, &u32::from(*value).to_le_bytes()),
            Self::I16(value) => number(out, &value.to_le_bytes()),
            Self::U16(value) => number(out, &value.to_le_bytes()),
            Self::I32(value) => number(out, &value.to_le_bytes()),
            Self::U32(value) => number(out, &value.to_le_bytes()),
            Self::I64(value) => number(out, &value.to_le_bytes()),
            Self::U64(value) => number(out, &value.to_le_bytes()),
            Self::F64(value) => number(out, &value.to_le_bytes()),
            Self::Str(text) | Self::Path(text) => {
                number(out, &(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => short(out, text),
            Self::Array(element, values) => {
                number(out, &[0; 4]);
                let length_at = out.len() - 4;
                // The length does not count what aligns the first element.
                pad(out, alignment(element));
                let start = out.len();
                values.iter().for_each(|value| value.write(out));
                let length = (out.len() - start) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Self::Struct(values) => {
                pad(out, 8);
                values.iter().for_each(|value| value.write(out));
            }
            Self::Variant(value) => {
                short(out, &value.signature());
                value.write(out);
            }
        }
    }
}

/// The signature of several values in a row.
pub(super) fn signature(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn number(out: &mut Vec<u8>, bytes: &[u8]) {
    pad(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn short(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// A call of a method.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: &'a [Value],
    /// Whether an answer is wanted.
    pub(super) answer: bool,
}

impl Call<'_> {
    pub(super) fn bytes(&self, serial: u32) -> Vec<u8> {
        const METHOD_CALL: u8 = 1;
        const NO_REPLY_EXPECTED: u8 = 1;
        let mut body = Vec::new();
        self.arguments.iter().for_each(|argument| argument.write(&mut body));
        let field = |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = vec![
            field(1, Value::Path(self.path.into())),
            field(3, Value::str(self.member)),
            field(2, Value::str(self.interface)),
            field(6, Value::str(self.destination)),
        ];
        if !self.arguments.is_empty() {
            fields.push(field(8, Value::Signature(signature(self.arguments))));
        }
        let mut out = vec![b'l', METHOD_CALL, if self.answer { 0 } else { NO_REPLY_EXPECTED }, 1];
        Value::U32(body.len() as u32).write(&mut out);
        Value::U32(serial).write(&mut out);
        Value::Array("(yv)".into(), fields).write(&mut out);
        pad(&mut out, 8);
        out.extend(body);
        out
    }
}

/// What kind a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Answer,
    Error,
    Signal,
    Other,
}

/// A message from the other side.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// The serial of the call that it answers.
    pub(super) answers: u32,
    pub(super) member: String,
    /// An error's name.
    pub(super) error: String,
    signature: String,
    body: Vec<u8>,
}

/// What makes bytes no message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Message {
    /// How many bytes the message has that begins with `head`; None if that is too short to tell.
    pub(super) fn length(head: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(fixed) = head.get(..FIXED) else { return Ok(None) };
        if fixed[0] != b'l' {
            return Err(Malformed("not in this machine's order of bytes"));
        }
        let word = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
        let (body, fields) = (word(4), word(12));
        if body > MAX_MESSAGE || fields > MAX_MESSAGE {
            return Err(Malformed("too long"));
        }
        Ok(Some((FIXED + fields).next_multiple_of(8) + body))
    }

    /// Reads one whole message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { bytes, at: 0 };
        reader.at = 1;
        let kind = match reader.byte()? {
            2 => Kind::Answer,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        reader.at = 12;
        let fields = reader.u32()? as usize;
        let end = FIXED + fields;
        let (answers, member, error, signature) = (0, String::new(), String::new(), String::new());
        let mut message = Self { kind, answers, member, error, signature, body: Vec::new() };
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            match (code, reader.variant()?) {
                (3, Value::Str(text)) => message.member = text,
                (4, Value::Str(text)) => message.error = text,
                (5, Value::U32(serial)) => message.answers = serial,
                (8, Value::Signature(text)) => message.signature = text,
                _ => {}
            }
        }
        reader.align(8)?;
        message.body = reader.rest().to_vec();
        Ok(message)
    }

    /// The message's values.
    pub(super) fn values(&self) -> Result<Vec<Value>, Malformed> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        self.signature.bytes().map(|code| reader.value(code)).collect()
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed("too long"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("too short"))?;
        self.at = end;
        Ok(taken)
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn align(&mut self, alignment: usize) -> Result<(), Malformed> {
        let padding = self.at.next_multiple_of(alignment) - self.at;
        self.take(padding).map(drop)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.align(N)?;
        self.take(N)?.try_into().map_err(|_| Malformed("too short"))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let text = String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Malformed("not UTF-8"))?;
        self.take(1)?;
        Ok(text)
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let length = self.byte()?.into();
        self.text(length)
    }

    fn variant(&mut self) -> Result<Value, Malformed> {
        match self.signature()?.as_bytes() {
            [code] if *code != b'v' => self.value(*code),
            _ => Err(Malformed("a type that is not expected")),
        }
    }

    fn value(&mut self, code: u8) -> Result<Value, Malformed> {
        Ok(match code {
            b'y' => Value::Byte(self.byte()?),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::I16(i16::from_le_bytes(self.fixed()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.fixed()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.fixed()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.fixed()?)),
            b't' => Value::U64(u64::from_le_bytes(self.fixed()?)),
            b'd' => Value::F64(f64::from_le_bytes(self.fixed()?)),
            b's' => Value::Str(self.string()?),
            b'o' => Value::Path(self.string()?),
            b'g' => Value::Signature(self.signature()?),
            b'v' => Value::Variant(Box::new(self.variant()?)),
            _ => return Err(Malformed("a type that is not expected")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What busctl of systemd 252 sends for `StartTransientUnit` with the arguments `ssa(sv)a(sa(sv)) a.scope replace 2
    /// PIDs au 1 77 Delegate b true 0`, but for the flag that a password may be asked for.
    const START: &[u8] = b"l\x01\x00\x01P\x00\x00\x00\x02\x00\x00\x00\xb6\x00\x00\x00\
        \x01\x01o\x00\x19\x00\x00\x00/org/freedesktop/systemd1\x00\x00\x00\x00\x00\x00\x00\
        \x03\x01s\x00\x12\x00\x00\x00StartTransientUnit\x00\x00\x00\x00\x00\x00\
        \x02\x01s\x00\x20\x00\x00\x00org.freedesktop.systemd1.Manager\x00\x00\x00\x00\x00\x00\x00\x00\
        \x06\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00\x00\x00\x00\x00\x00\x00\x00\
        \x08\x01g\x00\x10ssa(sv)a(sa(sv))\x00\x00\x00\
        \x07\x00\x00\x00a.scope\x00\x07\x00\x00\x00replace\x00\
        ,\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00PIDs\x00\x02au\x00\x00\x00\x00\x04\x00\x00\x00M\x00\x00\x00\
        \x08\x00\x00\x00Delegate\x00\x01b\x00\x01\x00\x00\x00\x00\x00\x00\x00";

    #[test]
    fn a_call_is_the_same_bytes_as_systemds_own_client_sends() {
        let pids = Value::Array("u".into(), vec![Value::U32(77)]);
        let property = |name, value| Value::Struct(vec![Value::str(name), Value::Variant(Box::new(value))]);
        let properties = vec![property("PIDs", pids), property("Delegate", Value::Bool(true))];
        let arguments = [
            Value::str("a.scope"),
            Value::str("replace"),
            Value::Array("(sv)".into(), properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let call = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "StartTransientUnit",
            arguments: &arguments,
            answer: true,
        };
        let bytes = call.bytes(2);
        assert_eq!(Message::length(&bytes).unwrap(), Some(bytes.len()));
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(START));
        assert_eq!(bytes, START);
    }

    #[test]
    fn values_are_aligned() {
        let properties = Value::Array(
            "(sv)".into(),
            vec![Value::Struct(vec![Value::str("A"), Value::Variant(Box::new(Value::U64(1)))])],
        );
        assert_eq!(properties.signature(), "a(sv)");
        let mut out = Vec::new();
        properties.write(&mut out);
        let expected = b"\x18\0\0\0\0\0\0\0\x01\0\0\0A\0\x01t\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert_eq!(out, expected);
        let mut out = vec![7];
        Value::Array("(ss)".into(), Vec::new()).write(&mut out);
        assert_eq!(out, b"\x07\0\0\0\0\0\0\0");
    }

    /// An answer as bytes: kind, fields, body.
    fn message(kind: u8, fields: Vec<(u8, Value)>, values: &[Value]) -> Vec<u8> {
        let mut body = Vec::new();
        values.iter().for_each(|value| value.write(&mut body));
        let field =
            |(code, value): (u8, Value)| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields: Vec<Value> = fields.into_iter().map(field).collect();
        fields.push(field((8, Value::Signature(signature(values)))));
        let mut out = vec![b'l', kind, 0, 1];
        Value::U32(body.len() as u32).write(&mut out);
        Value::U32(9).write(&mut out);
        Value::Array("(yv)".into(), fields).write(&mut out);
        pad(&mut out, 8);
        out.extend(body);
        out
    }

    #[test]
    fn answers_are_read() {
        let job = [Value::U32(4), Value::Path("/job/4".into()), Value::str("a.scope"), Value::str("done")];
        let bytes = message(4, vec![(3, Value::str("JobRemoved"))], &job);
        assert_eq!(Message::length(&bytes[..15]).unwrap(), None);
        assert_eq!(Message::length(&bytes).unwrap(), Some(bytes.len()));
        let read = Message::parse(&bytes).unwrap();
        assert_eq!((read.kind, &*read.member), (Kind::Signal, "JobRemoved"));
        assert_eq!(read.values().unwrap(), job);

        let version = [Value::Variant(Box::new(Value::str("252")))];
        let read = Message::parse(&message(2, vec![(5, Value::U32(7))], &version)).unwrap();
        assert_eq!((read.kind, read.answers, read.values().unwrap()), (Kind::Answer, 7, version.to_vec()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Message::length(&bytes);
            if let Ok(message) = Message::parse(&bytes) {
                let _ = message.values();
            }
        }

        #[test]
        fn what_is_written_is_read(number: u64, text in "[^\0]{0,40}", on: bool) {
            let values = [Value::U64(number), Value::Str(text), Value::Bool(on), Value::Byte(number as u8)];
            let read = Message::parse(&message(2, vec![(5, Value::U32(1))], &values)).unwrap();
            proptest::prop_assert_eq!(read.values().unwrap(), values);
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let good = message(3, vec![(4, Value::str("a.b"))], &[Value::str("why")]);
        for cut in 0..good.len() {
            // Whatever is missing, it is an error and no panic.
            if let Ok(message) = Message::parse(&good[..cut]) {
                assert!(message.values().is_err(), "{cut}");
            }
        }
        let mut long = good.clone();
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Message::length(&long), Err(Malformed("too long")));
        let mut foreign = good.clone();
        foreign[0] = b'B';
        assert!(Message::length(&foreign).is_err());
        let nested = message(2, Vec::new(), &[Value::Variant(Box::new(Value::Variant(Box::new(Value::Bool(true)))))]);
        assert!(Message::parse(&nested).unwrap().values().is_err());
    }
}
