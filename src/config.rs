//! Where things are, and what the admin set. Only the doors and `host` read this; no other room looks at the environment.

mod file;

use std::ffi::OsString;
use std::path::PathBuf;

pub use file::{Age, Collection, Error, Level, Preferences, Storage};

/// The directories of one data root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What lasts: images, containers, the database.
    pub root: PathBuf,
    /// What a reboot may forget: sockets.
    pub run: PathBuf,
    /// Where `config.json` with the registries' credentials is.
    pub docker_config: Option<PathBuf>,
    /// Where the signature policy is.
    pub policy: Place,
    /// Where the configuration file is.
    pub preferences: Place,
    /// Where credential helpers are looked for.
    pub search_path: OsString,
    /// Where the mirrors and certificates of registries are described, a directory for each registry.
    pub certificates: Vec<PathBuf>,
}

/// Our own, then containerd's and Docker's.
const CERTIFICATES: [&str; 3] = ["/etc/wherry/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// Where a file is that there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this path, as somebody said; it must be there.
    Named(PathBuf),
    /// At the first of these where there is one, if any.
    Standard(Vec<PathBuf>),
}

/// The part of the environment that settings come from.
pub struct Environment {
    /// Looks a variable up.
    pub variable: fn(&str) -> Option<OsString>,
    /// Whether root asks.
    pub privileged: bool,
}

impl Settings {
    /// Settings as the user typed them, else from the environment, else where the system keeps such things:
    /// `/var/lib/wherry` and `/run/wherry` for root, the XDG directories for anybody else.
    pub fn new(root: Option<PathBuf>, run: Option<PathBuf>, from: &Environment) -> Self {
        let variable = |name: &str| (from.variable)(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = || variable("HOME").or_else(|| variable("USERPROFILE")).unwrap_or_default();
        let data = || variable("XDG_DATA_HOME").unwrap_or_else(|| home().join(".local/share")).join("wherry");
        let standard_root = || if from.privileged { PathBuf::from("/var/lib/wherry") } else { data() };
        let root = root.or_else(|| variable("WHERRY_ROOT")).unwrap_or_else(standard_root);
        let runtime = || variable("XDG_RUNTIME_DIR").map_or_else(|| root.join("run"), |d| d.join("wherry"));
        let standard_run = || if from.privileged { PathBuf::from("/run/wherry") } else { runtime() };
        let run = run.or_else(|| variable("WHERRY_RUN_ROOT")).unwrap_or_else(standard_run);
        // A container's processes start elsewhere: a path from here would lead them astray.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let (root, run) = (absolute(root), absolute(run));
        let of_system = ["/etc/wherry", "/etc/containers"].map(PathBuf::from);
        let own = || {
            let configuration = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home().join(".config"));
            ["wherry", "containers"].map(|name| configuration.join(name))
        };
        let own = (!from.privileged).then(own);
        let folders = own.into_iter().flatten().chain(of_system);
        let policy = variable("WHERRY_POLICY").map(|path| Place::Named(absolute(path)));
        let policy =
            policy.unwrap_or_else(|| Place::Standard(folders.map(|f| absolute(f.join("policy.json"))).collect()));
        let named = variable("WHERRY_CONFIG").map(|path| Place::Named(absolute(path)));
        let config = || variable("XDG_CONFIG_HOME").unwrap_or_else(|| home().join(".config"));
        let own = (!from.privileged).then(|| config().join("wherry/wherry.toml"));
        let places = own.into_iter().chain([PathBuf::from("/etc/wherry/wherry.toml")]).map(absolute);
        let preferences = named.unwrap_or_else(|| Place::Standard(places.collect()));
        let docker_config = variable("DOCKER_CONFIG").or_else(|| Some(home().join(".docker")));
        let own = (!from.privileged).then(|| config().join("wherry/certs.d"));
        let standard = || own.into_iter().chain(CERTIFICATES.map(PathBuf::from)).collect();
        let given = (from.variable)("WHERRY_CERTS_D").filter(|v| !v.is_empty());
        let certificates = given.map_or_else(standard, |given| std::env::split_paths(&given).collect());
        Self {
            root,
            run,
            docker_config,
            policy,
            preferences,
            search_path: (from.variable)("PATH").unwrap_or_default(),
            certificates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(root: Option<&str>, privileged: bool) -> Settings {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            "WHERRY_RUN_ROOT" => Some("/r".into()),
            _ => None,
        };
        Settings::new(root.map(PathBuf::from), None, &Environment { variable, privileged })
    }

    #[test]
    fn what_is_typed_wins_over_the_environment_and_that_over_the_standard() {
        assert_eq!(settings(None, true).root, PathBuf::from("/var/lib/wherry"));
        assert_eq!(settings(None, false).root, PathBuf::from("/home/u/.local/share/wherry"));
        assert_eq!(settings(Some("/x"), true).root, PathBuf::from("/x"));
        assert_eq!(settings(None, true).run, PathBuf::from("/r"));
    }
}
