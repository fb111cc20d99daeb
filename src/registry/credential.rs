//! Credentials as `docker login` leaves them: `config.json`, and the helper programs it names.
//!
//! ```text
//! config.json
//!   credHelpers[registry] = name   ─▶ docker-credential-<name> get
//!   credsStore            = name   ─▶ docker-credential-<name> get
//!   auths[registry]                 auth (base64 user:password) | username, password
//!                                   | identitytoken | registrytoken
//! ```
//!
//! A helper is a program of the user's choice, but its name comes from a file that other programs
//! write, so it is looked up on the search path only, and what it says is bounded in size and time.
//! No error repeats what a file or helper contained: it could be a secret.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::auth::Login;
use crate::error::{Failure, Kind};

/// The largest `config.json` that is read; real ones have a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The most that a helper may say.
const MAX_HELPER_BYTES: u64 = 64 << 10;
/// How long a helper may take: time to type a passphrase.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a helper that closed its output is looked at.
const HELPER_POLL: Duration = Duration::from_millis(5);

/// The key under which Docker keeps Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_NAMES: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
/// What a helper says as user name when the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Where credentials are.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    directory: Option<PathBuf>,
    search_path: OsString,
    timeout: Option<Duration>,
}

/// Why credentials could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no place for logins.
    #[error("there is no directory for logins: neither DOCKER_CONFIG nor HOME is set")]
    NoDirectory,
    /// The file is not as Docker writes it.
    #[error("{} is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A helper's name that could mean another file than one on the search path.
    #[error("the credential helper's name {name:?} is refused: it may have letters, digits, `-`, `_` and single `.`")]
    HelperName {
        /// The name.
        name: String,
    },
    /// A helper that is not installed.
    #[error("the credential helper {program} is not on the search path")]
    HelperMissing {
        /// The program.
        program: String,
    },
    /// A helper that could not be run or talked to.
    #[error("cannot run the credential helper {program}")]
    HelperRun {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A helper that failed or made no sense.
    #[error("the credential helper {program} {problem}")]
    Helper {
        /// The program.
        program: String,
        /// What it did.
        problem: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoDirectory => Kind::FailedPrecondition,
            Self::Read { source, .. } | Self::Write { source, .. } | Self::HelperRun { source, .. } => {
                Kind::of_io(source)
            }
            Self::Invalid { .. } | Self::HelperName { .. } => Kind::InvalidArgument,
            Self::HelperMissing { .. } => Kind::NotFound,
            Self::Helper { .. } => Kind::FailedPrecondition,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Config {
    auths: Option<BTreeMap<String, Auth>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Credentials {
    /// No credentials for any registry.
    pub fn none() -> Self {
        Self::default()
    }

    /// The credentials in `directory`, usually `~/.docker`; helpers are looked for in the directories
    /// of `search_path`, in the form of the variable `PATH`.
    pub fn in_directory(directory: &Path, search_path: OsString) -> Self {
        Self { directory: Some(directory.to_owned()), search_path, timeout: None }
    }

    /// Who to be for a registry. Blocks, as long as a helper takes.
    pub(super) fn for_registry(&self, registry: &str) -> Result<Login, Error> {
        let Some(directory) = &self.directory else { return Ok(Login::Anonymous) };
        let path = directory.join("config.json");
        let config = read(&path)?;
        let keys = keys_of(registry);
        if let Some(helper) = config.helper(&keys)
            && let Some(login) = self.ask(helper, &keys[0])?
        {
            return Ok(login);
        }
        config.stored(&keys).map_or(Ok(Login::Anonymous), |auth| auth.login(&path))
    }

    /// The directory of the file.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Asks a helper; `None` if it knows nothing of the registry.
    fn ask(&self, name: &str, registry: &str) -> Result<Option<Login>, Error> {
        let said = self.run(name, "get", registry)?;
        let program = || format!("docker-credential-{name}");
        said.map(|said| login_of(&said).map_err(|problem| Error::Helper { program: program(), problem })).transpose()
    }

    /// Tells a helper something that has no answer.
    pub(super) fn tell(&self, name: &str, verb: &str, what: &str) -> Result<(), Error> {
        self.run(name, verb, what).map(drop)
    }

    fn run(&self, name: &str, verb: &str, what: &str) -> Result<Option<Vec<u8>>, Error> {
        let program = format!("docker-credential-{name}");
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if name.is_empty() || !plain || name.contains("..") {
            return Err(Error::HelperName { name: name.to_owned() });
        }
        let path = self.locate(&program).ok_or_else(|| Error::HelperMissing { program: program.clone() })?;
        let timeout = self.timeout.unwrap_or(HELPER_TIMEOUT);
        run(&path, verb, what, timeout).map_err(|failure| failure.of(&program))
    }

    fn locate(&self, program: &str) -> Option<PathBuf> {
        let file = format!("{program}{}", std::env::consts::EXE_SUFFIX);
        // A relative directory on the path would be whatever directory the user happens to be in.
        let directories = std::env::split_paths(&self.search_path).filter(|directory| directory.is_absolute());
        directories.map(|directory| directory.join(&file)).find(|path| path.is_file())
    }
}

fn read(path: &Path) -> Result<Config, Error> {
    config_of(path, &read_value(path)?)
}

/// What of the file is understood here.
pub(super) fn config_of(path: &Path, file: &Map<String, Value>) -> Result<Config, Error> {
    // Of the parser's message nothing: it could quote a password.
    Config::deserialize(file).map_err(|_| Error::Invalid {
        path: path.to_owned(),
        reason: "something in it is of another type than Docker writes".to_owned(),
    })
}

/// The whole file; empty if there is none.
pub(super) fn read_value(path: &Path) -> Result<Map<String, Value>, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let invalid = |reason: String| Error::Invalid { path: path.to_owned(), reason };
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        file => file.map_err(unreadable)?,
    };
    let mut text = Vec::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(invalid(format!("it is larger than {MAX_CONFIG_BYTES} bytes")));
    }
    // Of the parser's message only the place: the rest could quote a password.
    serde_json::from_slice(&text).map_err(|error| invalid(format!("line {}, column {}", error.line(), error.column())))
}

/// The keys that may stand for a registry, the one that Docker uses first.
pub(super) fn keys_of(registry: &str) -> Vec<String> {
    if HUB_NAMES.contains(&registry) {
        std::iter::once(HUB_KEY).chain(HUB_NAMES).map(str::to_owned).collect()
    } else {
        vec![registry.to_owned()]
    }
}

/// Old logins have a scheme and a path: `https://quay.io/v1/`.
pub(super) fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

impl Config {
    pub(super) fn helper(&self, keys: &[String]) -> Option<&str> {
        let helpers = self.cred_helpers.as_ref();
        let own = keys.iter().find_map(|key| helpers?.get(key)).map(String::as_str);
        own.or(self.creds_store.as_deref()).filter(|name| !name.is_empty())
    }

    fn stored(&self, keys: &[String]) -> Option<&Auth> {
        let auths = self.auths.as_ref()?;
        let exact = keys.iter().find_map(|key| auths.get(key));
        exact.or_else(|| auths.iter().find(|(key, _)| keys.iter().any(|k| k == host_of(key))).map(|(_, auth)| auth))
    }
}

impl Auth {
    fn login(&self, path: &Path) -> Result<Login, Error> {
        if !self.identitytoken.is_empty() {
            return Ok(Login::IdentityToken(self.identitytoken.clone()));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Login::RegistryToken(self.registrytoken.clone()));
        }
        if self.auth.is_empty() {
            let (username, password) = (self.username.clone(), self.password.clone());
            return Ok(if username.is_empty() { Login::Anonymous } else { Login::Password { username, password } });
        }
        decode(&self.auth).ok_or_else(|| Error::Invalid {
            path: path.to_owned(),
            reason: "an `auth` is not base64 of user:password".to_owned(),
        })
    }
}

fn decode(auth: &str) -> Option<Login> {
    let lenient = base64::engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let text = String::from_utf8(engine.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker pads some passwords with zeros.
    Some(Login::Password { username: username.to_owned(), password: password.trim_matches('\0').to_owned() })
}

fn login_of(said: &[u8]) -> Result<Login, String> {
    let answer: Answer = serde_json::from_slice(said).map_err(|_| "gave an answer that is not valid".to_owned())?;
    Ok(match answer.username.as_str() {
        TOKEN_USER => Login::IdentityToken(answer.secret),
        _ => Login::Password { username: answer.username, password: answer.secret },
    })
}

enum Failed {
    Io(std::io::Error),
    Problem(String),
}

impl Failed {
    fn of(self, program: &str) -> Error {
        let program = program.to_owned();
        match self {
            Self::Io(source) => Error::HelperRun { program, source },
            Self::Problem(problem) => Error::Helper { program, problem },
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs a helper with `what` on its standard input. Its answer, or `None` if it has no
/// credentials. It is killed when it says too much or takes too long.
fn run(helper: &Path, verb: &str, what: &str, timeout: Duration) -> Result<Option<Vec<u8>>, Failed> {
    let deadline = Instant::now() + timeout;
    let mut command = Command::new(helper);
    let mut child =
        Killed(command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let (stdin, stdout) = (child.0.stdin.take(), child.0.stdout.take());
    if let Some(mut stdin) = stdin {
        match stdin.write_all(what.as_bytes()) {
            // One that does not read its input may still know the answer.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => drop(stdin),
        }
    }
    let said = read_until(stdout, deadline)?;
    if said.len() as u64 > MAX_HELPER_BYTES {
        return Err(Failed::Problem(format!("said more than {MAX_HELPER_BYTES} bytes")));
    }
    let status = child.wait_until(deadline)?;
    let text = String::from_utf8_lossy(&said);
    // The words of docker-credential-helpers' `credentials.ErrCredentialsNotFound`.
    match status.success() {
        true => Ok(Some(said)),
        false if text.trim().starts_with("credentials not found") => Ok(None),
        false => Err(Failed::Problem(format!("failed with {status}"))),
    }
}

/// All that the child says until it closes its output. A thread reads, because a pipe cannot be
/// waited for with a deadline on every platform; it ends with the child.
fn read_until(stdout: Option<std::process::ChildStdout>, deadline: Instant) -> Result<Vec<u8>, Failed> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let limited = stdout.map(|stdout| stdout.take(MAX_HELPER_BYTES + 1).read_to_end(&mut said));
        // Nobody listens any more when the deadline has passed.
        sender.send(limited.transpose().map(|_| said)).ok();
    });
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(said) => Ok(said?),
        Err(_) => Err(Failed::Problem("took too long".to_owned())),
    }
}

/// A child that does not outlive its use.
struct Killed(Child);

impl Killed {
    fn wait_until(&mut self, deadline: Instant) -> Result<std::process::ExitStatus, Failed> {
        loop {
            match self.0.try_wait()? {
                Some(status) => return Ok(status),
                None if Instant::now() >= deadline => return Err(Failed::Problem("took too long".to_owned())),
                None => std::thread::sleep(HELPER_POLL),
            }
        }
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and been waited for.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> (tempfile::TempDir, Credentials) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), json).unwrap();
        let credentials = Credentials::in_directory(dir.path(), OsString::from(dir.path()));
        (dir, credentials)
    }

    fn password(username: &str, password: &str) -> Login {
        Login::Password { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn what_docker_login_writes() {
        // `dTpwOnc=` is `u:p:w`.
        let (_dir, credentials) = config(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "dTpwOnc="},
                "https://quay.io/v1/": {"auth": "dTpwOnc"},
                "plain.io": {"username": "a", "password": "b"},
                "token.io:5000": {"auth": "dTpwOnc=", "identitytoken": "refresh"},
                "empty.io": {},
                "bad.io": {"auth": "%%%"}
            }, "HttpHeaders": {"x": "y"}}"#,
        );
        let login = |registry| credentials.for_registry(registry);
        assert_eq!(login("docker.io").unwrap(), password("u", "p:w"));
        assert_eq!(login("quay.io").unwrap(), password("u", "p:w"));
        assert_eq!(login("plain.io").unwrap(), password("a", "b"));
        assert_eq!(login("token.io:5000").unwrap(), Login::IdentityToken("refresh".to_owned()));
        for nobody in ["token.io", "empty.io", "quay.io.evil.com", "other.io"] {
            assert_eq!(login(nobody).unwrap(), Login::Anonymous, "{nobody}");
        }
        assert!(matches!(login("bad.io"), Err(Error::Invalid { .. })));
    }

    #[test]
    fn no_file_is_nobody_and_a_bad_one_is_told_without_its_contents() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::in_directory(dir.path(), OsString::new());
        assert_eq!(credentials.for_registry("x.io").unwrap(), Login::Anonymous);
        assert_eq!(Credentials::none().for_registry("x.io").unwrap(), Login::Anonymous);
        let (_dir, credentials) = config(r#"{"auths": {"x.io": {"auth": ["hunter2"]}}}"#);
        let error = credentials.for_registry("x.io").unwrap_err().to_string();
        assert!(error.contains("another type") && !error.contains("hunter2"), "{error}");
        let (_dir, credentials) = config(&" ".repeat(MAX_CONFIG_BYTES as usize + 1));
        assert!(matches!(credentials.for_registry("x.io"), Err(Error::Invalid { .. })));
    }

    #[cfg(unix)]
    mod helpers {
        use super::*;
        use std::os::unix::fs::PermissionsExt;

        fn helper(script: &str) -> (tempfile::TempDir, Credentials) {
            let (dir, credentials) = config(
                r#"{"credHelpers": {"x.io": "test"}, "auths": {"x.io": {"username": "file", "password": "p"}}}"#,
            );
            let path = dir.path().join("docker-credential-test");
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            (dir, credentials)
        }

        fn problem(script: &str) -> String {
            let (_dir, mut credentials) = helper(script);
            credentials.timeout = Some(Duration::from_millis(300));
            credentials.for_registry("x.io").unwrap_err().to_string()
        }

        #[test]
        fn a_helper_is_asked_with_the_registry_on_its_input() {
            let (_dir, credentials) =
                helper(r#"read host; echo "{\"ServerURL\":\"$host\",\"Username\":\"$1-$host\",\"Secret\":\"s\"}""#);
            assert_eq!(credentials.for_registry("x.io").unwrap(), password("get-x.io", "s"));
            assert_eq!(credentials.for_registry("y.io").unwrap(), Login::Anonymous);
            let (_dir, credentials) = helper(r#"echo '{"Username":"<token>","Secret":"s"}'"#);
            assert_eq!(credentials.for_registry("x.io").unwrap(), Login::IdentityToken("s".to_owned()));
        }

        #[test]
        fn a_helper_that_knows_nothing_leaves_it_to_the_file() {
            let (_dir, credentials) = helper("echo credentials not found in native keychain; exit 1");
            assert_eq!(credentials.for_registry("x.io").unwrap(), password("file", "p"));
        }

        #[test]
        fn a_helper_that_misbehaves_is_an_error_that_repeats_nothing() {
            assert!(problem("echo hunter2; exit 3").ends_with("failed with exit status: 3"));
            assert!(problem("echo hunter2").ends_with("gave an answer that is not valid"));
            assert!(problem("exec sleep 60").ends_with("took too long"));
            assert!(problem("exec >&-; exec sleep 60").ends_with("took too long"));
            assert!(problem("exec yes").ends_with("said more than 65536 bytes"));
        }

        #[test]
        fn a_helpers_name_is_a_name_and_nothing_else() {
            for name in ["../test", "a/b", "..", "a b", "$(x)"] {
                let (_dir, credentials) = config(&format!(r#"{{"credsStore": "{name}"}}"#));
                assert!(matches!(credentials.for_registry("x.io"), Err(Error::HelperName { .. })), "{name:?}");
            }
            let (_dir, credentials) = config(r#"{"credsStore": "absent"}"#);
            let error = credentials.for_registry("x.io").unwrap_err();
            assert!(matches!(error, Error::HelperMissing { .. }), "{error}");
        }
    }
}
