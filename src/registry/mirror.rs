//! Which hosts serve a registry, and whom to trust there: what an administrator wrote into a `certs.d` directory, in
//! the forms of containerd and of Docker.
//!
//! ```text
//! DIRECTORY/<registry>/            the first of the directories that has one for this registry is the one that counts
//!   hosts.toml                     mirrors in their order, then the registry itself (containerd)
//!   *.crt  *.cert + *.key          without that file: authorities, and who we are (Docker)
//! DIRECTORY/_default/              for registries that no directory names
//! ```
//!
//! A word in the file that is not known is an error: a misspelt `capabilities` would have a mirror pushed to.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;

use super::endpoint::Endpoint;
use crate::error::{Failure, Kind};

/// The largest file that is read here; a bundle of all public authorities has 200 kB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The most hosts of one registry, and the most certificate files of one directory.
const MAX_HOSTS: usize = 32;
const MAX_CERTIFICATES: usize = 64;
/// The longest that a connection may be told to take.
const MAX_DIAL: Duration = Duration::from_secs(600);

const FILE: &str = "hosts.toml";
const DEFAULT: &str = "_default";

/// What a host may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Can {
    /// Bytes by their digest.
    pub pull: bool,
    /// What a tag means.
    pub resolve: bool,
    /// To take something.
    pub push: bool,
}

/// Whom to trust, and who to be, in TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    /// Certificates in PEM, besides those of the system.
    pub authorities: Vec<Vec<u8>>,
    /// A certificate and its key in PEM.
    pub identity: Option<Vec<u8>>,
    /// Whether anybody is trusted.
    pub skip_verify: bool,
    /// How long a connection may take to come up.
    pub connect_timeout: Option<Duration>,
}

/// A host as it was configured.
#[derive(Clone, Debug)]
pub(super) struct Configured {
    pub endpoint: Endpoint,
    pub can: Can,
    pub trust: Trust,
    pub headers: HeaderMap,
}

/// What is wrong with a file of an administrator's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It makes no sense.
    #[error("{} is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Invalid { .. } => Kind::InvalidArgument,
        }
    }
}

/// `hosts.toml`.
#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<String, Spanned<Entry>>,
    // Everything else is of the server itself, which serde cannot flatten and still refuse what it does not know.
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMore>>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

/// One `[host."…"]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMore>>,
    override_path: Option<bool>,
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A file with certificate and key, or a pair of files; one of them, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    More(Vec<OneOrMore>),
}

impl OneOrMore {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

impl Clients {
    /// The files of each identity.
    fn list(self) -> Vec<Vec<String>> {
        match self {
            Self::One(one) => vec![vec![one]],
            Self::More(more) => more.into_iter().map(OneOrMore::list).collect(),
        }
    }
}

impl Can {
    pub const ALL: Self = Self { pull: true, resolve: true, push: true };

    /// Whether it gives bytes by their digest.
    pub fn is_for_pull(self) -> bool {
        self.pull
    }

    /// Whether it is believed what a tag means.
    pub fn is_for_resolve(self) -> bool {
        self.pull && self.resolve
    }
}

impl Configured {
    /// The registry itself, as nobody has said anything about it.
    fn itself(registry: &str) -> Self {
        let (endpoint, trust) = (Endpoint::of(registry), Trust::default());
        Self { endpoint, can: Can::ALL, trust, headers: HeaderMap::new() }
    }
}

/// The hosts of a registry in the order in which they are asked.
pub(super) fn hosts_of(directories: &[PathBuf], registry: &str) -> Result<Vec<Configured>, Error> {
    match directory_of(directories, registry) {
        Some(directory) => in_directory(&directory, registry),
        None => Ok(vec![Configured::itself(registry)]),
    }
}

fn directory_of(directories: &[PathBuf], registry: &str) -> Option<PathBuf> {
    // Where a colon cannot be in a file's name, containerd writes `host_port_`.
    let escaped = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names: Vec<&str> = escaped.as_deref().into_iter().chain([registry]).collect();
    let own = directories.iter().flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    own.chain(directories.iter().map(|directory| directory.join(DEFAULT))).find(|path| path.is_dir())
}

fn in_directory(directory: &Path, registry: &str) -> Result<Vec<Configured>, Error> {
    let path = directory.join(FILE);
    match read(&path) {
        Ok(text) => parse(&path, &text, registry),
        Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let trust = certificates_in(directory)?;
            Ok(vec![Configured { trust, ..Configured::itself(registry) }])
        }
        Err(error) => Err(error),
    }
}

fn parse(path: &Path, text: &[u8], registry: &str) -> Result<Vec<Configured>, Error> {
    let invalid = |reason: String| Error::Invalid { path: path.to_owned(), reason };
    let text = std::str::from_utf8(text).map_err(|_| invalid("it is not text".to_owned()))?;
    // Of a parser's message the first lines quote the file, whose headers may be secret.
    let file: File = toml::from_str(text).map_err(|error| invalid(error.message().to_owned()))?;
    if let Some(word) = file.unknown.keys().next() {
        return Err(invalid(format!("{word:?} is not known here")));
    }
    if file.host.len() > MAX_HOSTS {
        return Err(invalid(format!("it has more than {MAX_HOSTS} hosts")));
    }
    // The order is that of the file, which a map does not keep.
    let mut mirrors: Vec<(String, Spanned<Entry>)> = file.host.into_iter().collect();
    mirrors.sort_by_key(|(_, entry)| entry.span().start);
    let server = Entry {
        capabilities: file.capabilities,
        ca: file.ca,
        client: file.client,
        skip_verify: file.skip_verify,
        header: file.header,
        override_path: file.override_path,
        dial_timeout: file.dial_timeout,
    };
    let mirrors = mirrors.into_iter().map(|(address, entry)| host(path, Some(&address), entry.into_inner(), registry));
    mirrors.chain([host(path, file.server.as_deref(), server, registry)]).collect()
}

fn host(path: &Path, address: Option<&str>, entry: Entry, registry: &str) -> Result<Configured, Error> {
    let shown = address.unwrap_or(registry);
    let invalid = |reason: String| Error::Invalid { path: path.to_owned(), reason: format!("{shown}: {reason}") };
    let override_path = entry.override_path.unwrap_or(false);
    let endpoint = match address {
        Some(address) => Endpoint::written(address, override_path).map_err(|reason| invalid(reason.to_owned()))?,
        None => Endpoint::of(registry),
    };
    let beside = |name: &String| path.parent().unwrap_or(Path::new("/")).join(name);
    let authorities = entry.ca.map(OneOrMore::list).unwrap_or_default();
    let authorities = authorities.iter().map(|name| read(&beside(name))).collect::<Result<_, _>>()?;
    let mut identities = entry.client.map(Clients::list).unwrap_or_default().into_iter();
    let identity = identities.next().map(|files| joined(files.iter().map(beside))).transpose()?;
    if identities.next().is_some() {
        return Err(invalid("it has more than one client certificate".to_owned()));
    }
    let connect_timeout = entry.dial_timeout.as_deref().map(|text| duration(text).ok_or(text)).transpose();
    let connect_timeout = connect_timeout.map_err(|text| invalid(format!("{text:?} is no time")))?;
    let trust = Trust { authorities, identity, skip_verify: entry.skip_verify.unwrap_or(false), connect_timeout };
    let can = entry.capabilities.map_or(Ok(Can::ALL), |words| capabilities(&words)).map_err(invalid)?;
    let headers = headers(entry.header.unwrap_or_default()).map_err(invalid)?;
    Ok(Configured { endpoint, can, trust, headers })
}

fn capabilities(words: &[String]) -> Result<Can, String> {
    let mut can = Can { pull: false, resolve: false, push: false };
    for word in words {
        match word.to_lowercase().as_str() {
            "pull" => can.pull = true,
            "resolve" => can.resolve = true,
            "push" => can.push = true,
            _ => return Err(format!("{word:?} is no capability: there are pull, resolve and push")),
        }
    }
    Ok(can)
}

fn headers(written: BTreeMap<String, OneOrMore>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in written {
        // The value may be a secret.
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        for value in values.list() {
            let value: HeaderValue = value.parse().map_err(|_| format!("the header {name} cannot be sent"))?;
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

/// A time as Go writes it, of one unit: `5s`, `500ms`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let duration = match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    (duration > Duration::ZERO && duration <= MAX_DIAL).then_some(duration)
}

/// Docker's form: `*.crt` are authorities, and a `*.cert` has a `*.key` beside it.
fn certificates_in(directory: &Path) -> Result<Trust, Error> {
    let unreadable = |source| Error::Read { path: directory.to_owned(), source };
    let invalid = |reason: String| Error::Invalid { path: directory.to_owned(), reason };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)?.take(MAX_CERTIFICATES + 1) {
        files.push(entry.map_err(unreadable)?.path());
    }
    if files.len() > MAX_CERTIFICATES {
        return Err(invalid(format!("it has more than {MAX_CERTIFICATES} files")));
    }
    files.sort();
    let with =
        |extension: &'static str| files.iter().filter(move |path| path.extension().is_some_and(|e| e == extension));
    let authorities = with("crt").map(|path| read(path)).collect::<Result<_, _>>()?;
    let mut clients = with("cert");
    let identity = clients.next().map(|path| joined([path.clone(), path.with_extension("key")])).transpose()?;
    if clients.next().is_some() {
        return Err(invalid("it has more than one client certificate".to_owned()));
    }
    Ok(Trust { authorities, identity, ..Trust::default() })
}

fn joined(files: impl IntoIterator<Item = PathBuf>) -> Result<Vec<u8>, Error> {
    let files: Vec<Vec<u8>> = files.into_iter().map(|path| read(&path)).collect::<Result<_, _>>()?;
    Ok(files.join(&b'\n'))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let reason = format!("it is larger than {MAX_FILE_BYTES} bytes");
        return Err(Error::Invalid { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(toml: &str, registry: &str) -> Result<Vec<Configured>, String> {
        parse(Path::new("/etc/x/hosts.toml"), toml.as_bytes(), registry).map_err(|error| error.to_string())
    }

    fn authorities(hosts: &[Configured]) -> Vec<&str> {
        hosts.iter().map(|host| host.endpoint.authority.as_str()).collect()
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file_and_the_registry_last() {
        let all = hosts(
            r#"
            server = "https://registry-1.docker.io"
            [host."https://z.mirror"]
            capabilities = ["pull"]
            [host."http://a.mirror:5000"]
            override_path = true
            dial_timeout = "2s"
            [host."http://a.mirror:5000".header]
            x-key = ["one", "two"]
            [host."https://m.mirror/v2/hub"]
            override_path = true
            "#,
            "docker.io",
        )
        .unwrap();
        assert_eq!(authorities(&all), ["z.mirror", "a.mirror:5000", "m.mirror", "registry-1.docker.io"]);
        assert_eq!(all[0].can, Can { pull: true, resolve: false, push: false });
        assert_eq!(all[1].can, Can::ALL);
        assert!(all[1].endpoint.plain && all[1].endpoint.base.is_empty());
        assert_eq!(all[1].headers.get_all("x-key").iter().count(), 2);
        assert_eq!(all[1].trust.connect_timeout, Some(Duration::from_secs(2)));
        assert_eq!(all[2].endpoint.base, "/v2/hub");
        assert_eq!(all[3].endpoint.base, "/v2");
    }

    #[test]
    fn the_words_before_the_first_host_are_of_the_registry_itself() {
        let all = hosts("skip_verify = true\ncapabilities = [\"pull\", \"resolve\"]", "r.io:5000").unwrap();
        assert_eq!(authorities(&all), ["r.io:5000"]);
        assert!(all[0].trust.skip_verify && !all[0].can.push && !all[0].endpoint.plain);
        let plain = hosts("server = \"http://r.io:5000\"", "r.io:5000").unwrap();
        assert!(plain[0].endpoint.plain, "an administrator may say that a registry has no TLS");
        assert_eq!(authorities(&hosts("", "docker.io").unwrap()), ["index.docker.io"]);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_repeated() {
        for (toml, words) in [
            ("capabilites = []", "\"capabilites\" is not known"),
            ("[host.\"https://m.io\"]\nskip_verfy = true", "skip_verfy"),
            ("[host.\"https://m.io\"]\ncapabilities = [\"write\"]", "\"write\" is no capability"),
            ("[host.\"https://u:p@m.io\"]", "a user or a password"),
            ("[host.\"ftp://m.io\"]", "neither http nor https"),
            ("server = 5", "invalid type"),
            ("dial_timeout = \"soon\"", "\"soon\" is no time"),
            ("client = [\"/dev/null\", \"/dev/null\"]", "more than one client certificate"),
            ("[header]\nx = \"a\\nsecret\"", "the header x cannot be sent"),
            ("ca = \"missing.pem\"", "cannot read /etc/x/missing.pem"),
            ("x = [", "is not valid"),
        ] {
            let error = hosts(toml, "r.io").unwrap_err();
            assert!(error.contains(words) && !error.contains("secret"), "{toml}: {error}");
        }
        let many: String = (0..=MAX_HOSTS).map(|n| format!("[host.\"https://m{n}.io\"]\n")).collect();
        assert!(hosts(&many, "r.io").unwrap_err().contains("more than 32 hosts"));
    }

    #[test]
    fn the_first_directory_that_names_the_registry_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(&first.join("_default/hosts.toml"), "[host.\"https://any.io\"]");
        write(&second.join("r.io/hosts.toml"), "[host.\"https://second.io\"]");
        write(&second.join("r.io_5000_/hosts.toml"), "[host.\"https://escaped.io\"]");
        let directories = [first.clone(), second.clone(), dir.path().join("absent")];
        let of = |registry: &str| {
            let hosts = hosts_of(&directories, registry).unwrap();
            hosts.into_iter().map(|host| host.endpoint.authority).collect::<Vec<_>>()
        };
        assert_eq!(of("r.io"), ["second.io", "r.io"]);
        assert_eq!(of("r.io:5000"), ["escaped.io", "r.io:5000"]);
        assert_eq!(of("x.io"), ["any.io", "x.io"]);
        write(&first.join("r.io/hosts.toml"), "[host.\"https://first.io\"]");
        assert_eq!(of("r.io"), ["first.io", "r.io"]);
    }

    #[test]
    fn dockers_form_is_certificates_alone() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("r.io");
        std::fs::create_dir(&own).unwrap();
        for (name, text) in [("ca.crt", "A"), ("b.crt", "B"), ("me.cert", "C"), ("me.key", "K"), ("README", "x")] {
            std::fs::write(own.join(name), text).unwrap();
        }
        let trust = |dir: &tempfile::TempDir| hosts_of(&[dir.path().to_owned()], "r.io").map(|mut h| h.remove(0).trust);
        let found = trust(&dir).unwrap();
        assert_eq!(found.authorities, [b"B".to_vec(), b"A".to_vec()]);
        assert_eq!(found.identity.as_deref(), Some(&b"C\nK"[..]));
        std::fs::remove_file(own.join("me.key")).unwrap();
        assert!(trust(&dir).unwrap_err().to_string().contains("me.key"), "a certificate without its key");
        std::fs::write(own.join("hosts.toml"), vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(trust(&dir).unwrap_err().to_string().contains("larger than"));
    }
}
