//! What `--security-opt` says, as Docker's command line sends it.

use super::Error;

/// The system calls that a program may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Seccomp {
    /// Those of the default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// Those of this profile, which is its text.
    Profile(String),
}

/// The options together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// The AppArmor profile, where one was named.
    pub apparmor: Option<String>,
    /// Whether nothing of `/proc` and `/sys` is masked.
    pub unmasked: bool,
}

impl Security {
    /// Understands the options; the last of a kind counts.
    pub(super) fn parse(options: &[String]) -> Result<Self, Error> {
        let mut security = Self::default();
        for option in options {
            security.add(option).map_err(|problem| Error::SecurityOpt { option: shortened(option), problem })?;
        }
        Ok(security)
    }

    fn add(&mut self, option: &str) -> Result<(), &'static str> {
        let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((name, value)) => (name, value),
            None => (option, ""),
        };
        match (name, value) {
            ("no-new-privileges", "" | "true" | "1") => self.no_new_privileges = true,
            ("no-new-privileges", "false" | "0") => self.no_new_privileges = false,
            ("seccomp", "unconfined") => self.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => self.seccomp = Seccomp::Default,
            ("seccomp", "") => return Err("it is seccomp=unconfined, seccomp=builtin or seccomp=FILE"),
            ("seccomp", profile) => self.seccomp = Seccomp::Profile(profile.to_owned()),
            ("apparmor", "unconfined") => self.apparmor = None,
            ("apparmor", "") => return Err("it is apparmor=unconfined or apparmor=PROFILE"),
            ("apparmor", profile) => self.apparmor = Some(profile.to_owned()),
            ("systempaths", "unconfined") => self.unmasked = true,
            // Nothing is labelled here, with or without it.
            ("label", "disable") => {}
            ("label", _) => return Err("labels of SELinux are not offered by this version but label=disable"),
            ("writable-cgroups" | "credentialspec", _) => return Err("it is not offered by this version"),
            _ => return Err("it is no security option"),
        }
        Ok(())
    }
}

/// A profile is long: an error names only how the option begins.
fn shortened(option: &str) -> String {
    option.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Result<Security, String> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        Security::parse(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_as_docker_reads_them() {
        assert_eq!(parsed(&[]).unwrap(), Security::default());
        for (option, on) in [
            ("no-new-privileges", true),
            ("no-new-privileges:true", true),
            ("no-new-privileges=true", true),
            ("no-new-privileges=false", false),
        ] {
            assert_eq!(parsed(&[option]).unwrap().no_new_privileges, on, "{option}");
        }
        assert_eq!(parsed(&["seccomp=unconfined"]).unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(parsed(&["seccomp={}"]).unwrap().seccomp, Seccomp::Profile("{}".to_owned()));
        assert_eq!(parsed(&["apparmor=mine"]).unwrap().apparmor, Some("mine".to_owned()));
        assert!(parsed(&["systempaths=unconfined", "label=disable"]).unwrap().unmasked);
        for bad in ["bad=1", "label=type:x", "seccomp=", "no-new-privileges=maybe", "systempaths=1"] {
            assert!(parsed(&[bad]).unwrap_err().contains(bad), "{bad}");
        }
    }
}
