//! A connection to systemd's manager: over the message bus, or directly where there is no bus.
//!
//! One call at a time, and no thread: the answer to a call is read before the next is made. Jobs that end meanwhile
//! are remembered, for whoever waits for them.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::{Call, Kind, Malformed, Message, Value};
use crate::cgroup::Error;
use crate::sys;

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// systemd's own socket, for root: the same messages without a bus between.
const SYSTEM_DIRECT: &str = "/run/systemd/private";

/// How long systemd may take for one job, as runc has it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest talk before messages begin: a few short lines.
const MAX_GREETING: usize = 4096;

const DESTINATION: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Which systemd is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bus {
    /// The machine's.
    System,
    /// A user's own, at the socket of that user's bus.
    User {
        /// The socket, such as `/run/user/1000/bus`.
        socket: PathBuf,
    },
}

impl Bus {
    /// A user's bus, from the values of `DBUS_SESSION_BUS_ADDRESS` and `XDG_RUNTIME_DIR`.
    pub fn user(address: Option<&str>, runtime_dir: Option<&Path>) -> Result<Self, Error> {
        let unset = |reason: &str| Error::NoBus { reason: reason.to_owned() };
        if let Some(address) = address.filter(|address| !address.is_empty()) {
            let socket = address.split(';').find_map(unix_path);
            return socket.map(|socket| Self::User { socket }).ok_or_else(|| unset("its address is no unix:path="));
        }
        let dir = runtime_dir.filter(|dir| dir.is_absolute());
        let dir = dir.ok_or_else(|| unset("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"))?;
        Ok(Self::User { socket: dir.join("bus") })
    }

    /// Where to connect, the bus first; the second of each tells whether it is a bus.
    fn sockets(&self) -> [(PathBuf, bool); 2] {
        match self {
            Self::System => [(SYSTEM_BUS.into(), true), (SYSTEM_DIRECT.into(), false)],
            Self::User { socket } => [(socket.clone(), true), (socket.with_file_name("systemd/private"), false)],
        }
    }
}

/// The path in an address like `unix:path=/run/user/1000/bus,guid=5f…`; bytes may be written as `%2f`.
fn unix_path(address: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let keys = address.strip_prefix("unix:")?;
    let path = keys.split(',').find_map(|key| key.strip_prefix("path="))?;
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).1,
            None => (bytes.push(*first), rest = tail).1,
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// A refusal by systemd or the bus: its name and what it says.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) name: String,
    pub(super) message: String,
}

/// What a call came to.
pub(super) type Answer = Result<Vec<Value>, Refusal>;

/// A connection on which messages can be sent.
pub(super) struct Connection {
    stream: UnixStream,
    socket: PathBuf,
    /// What has been read of messages that are not complete.
    pending: Vec<u8>,
    serial: u32,
    /// Jobs that have ended: their paths and results.
    ended: Vec<(String, String)>,
}

impl Connection {
    /// Connects, and has the ends of jobs told.
    pub(super) fn open(bus: &Bus) -> Result<Self, Error> {
        let [first, second] = bus.sockets();
        match Self::open_at(&first.0, first.1) {
            // A machine may have systemd and no bus; then root can ask directly.
            Err(Error::Bus { .. }) if second.0.exists() => Self::open_at(&second.0, second.1),
            other => other,
        }
    }

    fn open_at(socket: &Path, is_bus: bool) -> Result<Self, Error> {
        let failed = |call: &str, source| Error::Bus {
            socket: socket.into(),
            source: sys::Error { call: format!("{call}({socket:?})"), source },
        };
        let stream = UnixStream::connect(socket).map_err(|source| failed("connect", source))?;
        let patience = stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
        patience.map_err(|source| failed("setsockopt", source))?;
        let mut connection = Self { stream, socket: socket.into(), pending: Vec::new(), serial: 0, ended: Vec::new() };
        connection.greet()?;
        if is_bus {
            connection.join_bus()?;
        }
        Ok(connection)
    }

    fn failed(&self, call: &str, source: io::Error) -> Error {
        let source = sys::Error { call: format!("{call}({:?})", self.socket), source };
        Error::Bus { socket: self.socket.clone(), source }
    }

    fn malformed(&self, what: &str) -> Error {
        self.failed("read", io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
    }

    /// Says who we are: the kernel vouches for it. Without naming a user this works across user namespaces, too. All
    /// in one, as systemd's own client does it: its server does not look at a message that it reads together with `BEGIN`
    /// until another one comes.
    fn greet(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let mut heard = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&heard).into_owned();
            let mut lines = text.split_inclusive("\r\n").filter(|line| line.ends_with("\r\n"));
            if lines.clone().any(|line| line.starts_with("OK ")) {
                return Ok(());
            }
            if lines.any(|line| !line.starts_with("DATA")) || heard.len() > MAX_GREETING {
                let source = io::Error::new(io::ErrorKind::PermissionDenied, "not accepted");
                return Err(self.failed("auth", source));
            }
            self.receive(&mut heard)?;
        }
    }

    /// Becomes a member of the bus. Nobody waits for the answers: what comes later would fail without them.
    fn join_bus(&mut self) -> Result<(), Error> {
        let bus = |member, arguments| Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            arguments,
            answer: false,
        };
        let rule = Value::str(&format!("type='signal',interface='{MANAGER}',member='JobRemoved'"));
        let hello = Call { answer: true, ..bus("Hello", &[]) }.bytes(self.next_serial());
        let rules = [rule];
        let watch = bus("AddMatch", &rules).bytes(self.next_serial());
        self.send(&[hello, watch].concat())
    }

    fn next_serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).map_err(|source| self.failed("write", source))
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> Result<(), Error> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes).map_err(|source| self.failed("read", source))? {
            0 => Err(self.failed("read", io::ErrorKind::UnexpectedEof.into())),
            count => {
                into.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    fn message(&mut self) -> Result<Message, Error> {
        loop {
            let bad = |Malformed(what): Malformed| self.malformed(what);
            if let Some(length) =
                Message::length(&self.pending).map_err(bad)?.filter(|length| *length <= self.pending.len())
            {
                let message = Message::parse(&self.pending[..length]).map_err(bad)?;
                self.pending.drain(..length);
                return Ok(message);
            }
            let mut pending = std::mem::take(&mut self.pending);
            let received = self.receive(&mut pending);
            self.pending = pending;
            received?;
        }
    }

    /// Reads one message; the end of a job is remembered.
    fn hear(&mut self) -> Result<Message, Error> {
        let message = self.message()?;
        let job = (message.kind == Kind::Signal && message.member == "JobRemoved").then(|| message.values());
        if let Some(Ok([Value::U32(_), Value::Path(job), Value::Str(_), Value::Str(result)])) =
            job.as_ref().map(|values| values.as_deref())
        {
            self.ended.push((job.clone(), result.clone()));
        }
        Ok(message)
    }

    /// Calls a method of the manager.
    pub(super) fn call(&mut self, member: &str, arguments: &[Value]) -> Result<Answer, Error> {
        self.call_of(MANAGER, member, arguments)
    }

    /// A property of the manager, which is a string.
    pub(super) fn property(&mut self, name: &str) -> Result<String, Error> {
        let arguments = [Value::str(MANAGER), Value::str(name)];
        match self.call_of("org.freedesktop.DBus.Properties", "Get", &arguments)? {
            Ok(values) => match values.as_slice() {
                [Value::Variant(value)] => match &**value {
                    Value::Str(text) => Ok(text.clone()),
                    _ => Err(self.malformed("a property is no string")),
                },
                _ => Err(self.malformed("no property in the answer")),
            },
            Err(refusal) => Err(refusal.into_error("tell its property", name)),
        }
    }

    fn call_of(&mut self, interface: &str, member: &str, arguments: &[Value]) -> Result<Answer, Error> {
        let serial = self.next_serial();
        let call = Call { destination: DESTINATION, path: OBJECT, interface, member, arguments, answer: true };
        self.send(&call.bytes(serial))?;
        loop {
            let message = self.hear()?;
            if message.answers != serial || !matches!(message.kind, Kind::Answer | Kind::Error) {
                continue;
            }
            let values = message.values();
            if message.kind == Kind::Answer {
                return values.map(Ok).map_err(|Malformed(what)| self.malformed(what));
            }
            let text = match values.unwrap_or_default().into_iter().next() {
                Some(Value::Str(text)) => text,
                _ => String::new(),
            };
            return Ok(Err(Refusal { name: message.error, message: text }));
        }
    }

    /// Calls a method that begins a job, and waits for the job's result: `done` if all went well.
    pub(super) fn job(&mut self, member: &str, arguments: &[Value]) -> Result<Result<String, Refusal>, Error> {
        let job = match self.call(member, arguments)? {
            Ok(values) => match values.as_slice() {
                [Value::Path(job)] => job.clone(),
                _ => return Err(self.malformed("no job in the answer")),
            },
            Err(refusal) => return Ok(Err(refusal)),
        };
        loop {
            if let Some(at) = self.ended.iter().position(|(ended, _)| *ended == job) {
                return Ok(Ok(self.ended.swap_remove(at).1));
            }
            self.hear()?;
        }
    }
}

impl Refusal {
    /// Whether the name is this one of systemd's.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.strip_prefix("org.freedesktop.systemd1.").is_some_and(|known| known == name)
    }

    pub(super) fn into_error(self, verb: &'static str, unit: &str) -> Error {
        Error::Systemd { verb, unit: unit.to_owned(), reason: format!("{} ({})", self.message, self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_bus_is_where_the_environment_says() {
        let socket = |address: Option<&str>, dir: Option<&str>| match Bus::user(address, dir.map(Path::new)) {
            Ok(Bus::User { socket }) => socket.display().to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(socket(None, Some("/run/user/7")), "/run/user/7/bus");
        assert_eq!(socket(Some("unix:path=/a%20b/bus,guid=1"), Some("/run/user/7")), "/a b/bus");
        assert_eq!(socket(Some("tcp:host=x;unix:path=/c"), None), "/c");
        assert!(socket(Some("unix:abstract=/tmp/x"), None).contains("no unix:path="));
        assert!(socket(None, None).contains("XDG_RUNTIME_DIR"));
        assert!(socket(None, Some("relative")).contains("XDG_RUNTIME_DIR"));
    }
}
