//! Logging in for good: the registry is asked, then what it accepted is kept where [`Credentials`] look for it.
//!
//! The file is the user's, and other programs write to it: what is not understood in it stays as it is, and it is
//! replaced in one step, readable for its owner only.

use std::io::Write;
use std::path::PathBuf;

use base64::Engine;
use serde_json::{Map, Value, json};

use super::auth::Login;
use super::credential::{Config, Error, keys_of, read_value};
use super::{Client, Credentials, Result};

/// Where a login is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file, where everybody who can read it can read the password.
    File(PathBuf),
    /// By a helper.
    Helper(String),
}

impl Client {
    /// Whether the registry takes this user and password.
    pub async fn login(&self, registry: &str, username: &str, password: &str) -> Result<()> {
        let login = Login::Password { username: username.to_owned(), password: password.to_owned() };
        let hosts = self.hosts(registry).await?;
        let Some(host) = hosts.last() else { return Ok(()) };
        host.check(&login).await
    }

    /// The user that is logged in to the registry, as far as that is known.
    pub fn user_of(&self, registry: &str) -> Result<Option<String>, Error> {
        match self.inner.credentials.for_registry(registry)? {
            Login::Password { username, .. } => Ok(Some(username)),
            _ => Ok(None),
        }
    }
}

impl Credentials {
    /// Keeps a login. With a helper for the registry it goes there, else into the file.
    pub fn keep(&self, registry: &str, username: &str, password: &str) -> Result<Kept, Error> {
        let path = self.file()?;
        let mut file = read_value(&path)?;
        let key = keys_of(registry)[0].clone();
        let config: Config = super::credential::config_of(&path, &file)?;
        if let Some(helper) = config.helper(&keys_of(registry)) {
            let said = json!({"ServerURL": key, "Username": username, "Secret": password}).to_string();
            self.tell(helper, "store", &said)?;
            // Docker leaves an empty entry, by which `docker info` knows that there is one.
            auths(&mut file).insert(key, json!({}));
            write(&path, &file)?;
            return Ok(Kept::Helper(helper.to_owned()));
        }
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        auths(&mut file).insert(key, json!({ "auth": auth }));
        write(&path, &file)?;
        Ok(Kept::File(path))
    }

    /// Forgets a login, here and at its helper. Whether there was one.
    pub fn forget(&self, registry: &str) -> Result<bool, Error> {
        let path = self.file()?;
        let mut file = read_value(&path)?;
        let config: Config = super::credential::config_of(&path, &file)?;
        let keys = keys_of(registry);
        let known = !matches!(self.for_registry(registry)?, Login::Anonymous);
        if let Some(helper) = config.helper(&keys)
            && known
        {
            self.tell(helper, "erase", &keys[0])?;
        }
        let all = auths(&mut file);
        let before = all.len();
        all.retain(|key, _| !keys.iter().any(|k| k == key || k == super::credential::host_of(key)));
        if all.len() != before {
            write(&path, &file)?;
        }
        Ok(known || before != auths(&mut file).len())
    }

    fn file(&self) -> Result<PathBuf, Error> {
        self.directory().map(|directory| directory.join("config.json")).ok_or(Error::NoDirectory)
    }
}

/// The logins of a file.
fn auths(file: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let auths = file.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    match auths {
        Value::Object(map) => map,
        _ => unreachable!("it was just made one"),
    }
}

/// Replaces the file in one step. A link, which some keep among other settings, stays one.
fn write(path: &std::path::Path, file: &Map<String, Value>) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(std::path::Path::new("."));
    make_private(directory).map_err(failed)?;
    let temporary = directory.join(format!(".config.json.{}", std::process::id()));
    let written = private_file(&temporary).and_then(|mut new| {
        new.write_all(format!("{:#}\n", Value::Object(file.clone())).as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&temporary, &target)
    });
    if written.is_err() {
        // The failure is told; a second one, of the tidying, would hide it.
        std::fs::remove_file(&temporary).ok();
    }
    written.map_err(failed)
}

#[cfg(unix)]
fn make_private(directory: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(not(unix))]
fn make_private(directory: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)
}

#[cfg(unix)]
fn private_file(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn private_file(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    std::fs::File::create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(json: &str) -> (tempfile::TempDir, Credentials) {
        let dir = tempfile::tempdir().unwrap();
        if !json.is_empty() {
            std::fs::write(dir.path().join("config.json"), json).unwrap();
        }
        let credentials = Credentials::in_directory(&dir.path().join(""), dir.path().into());
        (dir, credentials)
    }

    #[test]
    fn a_login_is_kept_and_forgotten_and_the_rest_stays() {
        let (dir, credentials) = credentials(r#"{"psFormat": "x", "auths": {"y.io": {"auth": "YTpi"}}}"#);
        let kept = credentials.keep("x.io", "me", "pass:word").unwrap();
        assert_eq!(kept, Kept::File(dir.path().join("config.json")));
        let login = Login::Password { username: "me".into(), password: "pass:word".into() };
        assert_eq!(credentials.for_registry("x.io").unwrap(), login);
        let file: Value = serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
        assert_eq!((&file["psFormat"], &file["auths"]["y.io"]["auth"]), (&json!("x"), &json!("YTpi")));
        assert!(credentials.forget("x.io").unwrap());
        assert!(!credentials.forget("x.io").unwrap());
        assert_eq!(credentials.for_registry("x.io").unwrap(), Login::Anonymous);
        assert_ne!(credentials.for_registry("y.io").unwrap(), Login::Anonymous);
    }

    #[test]
    fn hub_has_its_own_key() {
        let (dir, credentials) = credentials("");
        credentials.keep("docker.io", "me", "p").unwrap();
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(text.contains("https://index.docker.io/v1/"), "{text}");
        assert!(credentials.forget("docker.io").unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_for_its_owner_and_a_broken_one_is_not_overwritten() {
        use std::os::unix::fs::MetadataExt;
        let (dir, good) = credentials("");
        good.keep("x.io", "me", "p").unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("config.json")).unwrap().mode() & 0o777, 0o600);
        let (dir, broken) = credentials("{ not json");
        assert!(matches!(broken.keep("x.io", "me", "p"), Err(Error::Invalid { .. })));
        assert_eq!(std::fs::read_to_string(dir.path().join("config.json")).unwrap(), "{ not json");
    }

    #[cfg(unix)]
    #[test]
    fn a_helper_gets_it_and_the_file_does_not() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, credentials) = credentials(r#"{"credsStore": "test"}"#);
        let (helper, log) = (dir.path().join("docker-credential-test"), dir.path().join("log"));
        let script = format!(
            "#!/bin/sh\n[ $1 = get ] && {{ echo '{{\"Username\":\"u\",\"Secret\":\"s\"}}'; exit; }}\necho \"$1 $(cat)\" >> {}\n",
            log.display()
        );
        std::fs::write(&helper, script).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(credentials.keep("x.io", "me", "secret!").unwrap(), Kept::Helper("test".into()));
        assert!(credentials.forget("x.io").unwrap());
        let told = std::fs::read_to_string(log).unwrap();
        let (store, erase) = told.split_once('\n').unwrap();
        assert!(store.starts_with("store {") && store.contains("\"Secret\":\"secret!\""), "{told}");
        assert_eq!(erase.trim(), "erase x.io");
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }
}
