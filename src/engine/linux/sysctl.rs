//! `linux.sysctl`: settings of the container's own namespaces.
//!
//! A file below `/proc/sys` is about the namespaces of the thread that opens it, so the init stage writes them once
//! it is in its own, by a handle to a procfs that no image has touched ([`crate::sys::procfs`]). A setting that
//! belongs to no namespace of the container's own would change the host, and is refused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Error;
use super::namespace::is_ours;
use crate::oci::runtime::{Linux, LinuxNamespaceType as Type};
use crate::sys;
use crate::sys::procfs::{Procfs, Whose};

/// The settings of an IPC namespace outside of `fs.mqueue` (ipc/ipc_sysctl.c).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// The settings to make: files below `sys` of a procfs, and what they are to hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sysctls(Vec<(PathBuf, String)>);

/// Which namespaces the container shares with nobody of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The network namespace.
    pub network: bool,
    /// The IPC namespace.
    pub ipc: bool,
    /// The UTS namespace.
    pub uts: bool,
    /// The user namespace.
    pub user: bool,
}

impl Own {
    /// Looks at the specification, and where it joins a namespace by its path, whether that is the one we are in.
    pub fn look(linux: &Linux) -> Self {
        let own = |typ: Type| {
            let mut all = linux.namespaces().iter().flatten();
            // One of which it cannot be told is taken for ours.
            let is_own = |path| is_ours(typ, path) == Some(false);
            all.find(|n| n.typ() == typ).is_some_and(|n| n.path().as_deref().is_none_or(is_own))
        };
        Self { network: own(Type::Network), ipc: own(Type::Ipc), uts: own(Type::Uts), user: own(Type::User) }
    }
}

impl Sysctls {
    /// Understands the specification.
    pub fn plan(sysctl: Option<&HashMap<String, String>>, own: Own) -> Result<Self, Error> {
        let mut settings = Vec::new();
        for (key, value) in sysctl.into_iter().flatten() {
            let path = path(key).ok_or_else(|| wrong(format!("{key:?} is no name of a setting")))?;
            allow(&path, own).map_err(|problem| wrong(format!("{key:?} {problem}")))?;
            settings.push((path, value.clone()));
        }
        // A map has no order; the same specification is to do the same each time.
        settings.sort();
        Ok(Self(settings))
    }

    /// Makes the settings in the namespaces of the calling thread.
    pub fn apply(&self, proc: &Procfs) -> sys::Result<()> {
        self.0
            .iter()
            .try_for_each(|(path, value)| proc.write(Whose::System(&Path::new("sys").join(path)), value.as_bytes()))
    }
}

fn wrong(problem: String) -> Error {
    Error::Unsupported { field: "linux.sysctl", problem }
}

/// The file of a setting. Names come with dots or slashes: whichever is first separates, and the other stands for
/// the separator within a part, such as the dot of a VLAN's name (sysctl.d(5)): `net.ipv4.conf.eth0/1.forwarding`
/// and `net/ipv4/conf/eth0.1/forwarding` are one.
fn path(key: &str) -> Option<PathBuf> {
    let dotted = key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('.'));
    let swap = |c| match c {
        '.' if dotted => '/',
        '/' if dotted => '.',
        c => c,
    };
    let path: String = key.chars().map(swap).collect();
    let sound = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    path.split('/').all(sound).then(|| path.into())
}

/// Whether a setting belongs to a namespace of the container's own; if not, why it is refused.
fn allow(path: &Path, own: Own) -> Result<(), &'static str> {
    let text = path.to_str().unwrap_or_default();
    let kernel = text.strip_prefix("kernel/").unwrap_or_default();
    let (is_own, namespace) = if IPC.contains(&kernel) || text.starts_with("fs/mqueue/") {
        (own.ipc, "needs an IPC namespace of the container's own")
    } else if text.starts_with("net/") {
        (own.network, "needs a network namespace of the container's own")
    } else if text.starts_with("user/") {
        (own.user, "needs a user namespace of the container's own")
    } else if kernel == "domainname" {
        (own.uts, "needs a UTS namespace of the container's own")
    } else if kernel == "hostname" {
        (false, "is what the field \"hostname\" is for")
    } else {
        (false, "belongs to no namespace, but to the whole machine")
    };
    if is_own { Ok(()) } else { Err(namespace) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Own = Own { network: true, ipc: true, uts: true, user: true };

    fn plan(key: &str, own: Own) -> Result<Sysctls, String> {
        let sysctl = HashMap::from([(key.to_owned(), "1".to_owned())]);
        Sysctls::plan(Some(&sysctl), own).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_of_a_name_lead_to_one_file() {
        for (key, wanted) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("kernel.shmmax", "kernel/shmmax"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ] {
            assert_eq!(plan(key, ALL).unwrap(), Sysctls(vec![(wanted.into(), "1".into())]), "{key}");
        }
    }

    #[test]
    fn what_is_no_name_or_not_the_containers_is_refused() {
        for (key, own, wanted) in [
            ("", ALL, "is no name"),
            ("net..x", ALL, "is no name"),
            ("/net/x", ALL, "is no name"),
            ("net/../kernel/core_pattern", ALL, "is no name"),
            ("net.//.kernel", ALL, "is no name"),
            ("kernel.core_pattern", ALL, "belongs to no namespace"),
            ("vm.swappiness", ALL, "belongs to no namespace"),
            ("fs.file-max", ALL, "belongs to no namespace"),
            ("kernel.hostname", ALL, "\"hostname\" is for"),
            ("kernel.domainname", Own { uts: false, ..ALL }, "a UTS namespace"),
            ("net.core.somaxconn", Own { network: false, ..ALL }, "a network namespace"),
            ("kernel/sem", Own { ipc: false, ..ALL }, "an IPC namespace"),
            ("user.max_user_namespaces", Own { user: false, ..ALL }, "a user namespace"),
        ] {
            let error = plan(key, own).unwrap_err();
            assert!(error.contains(wanted), "{key}: {error}");
        }
    }

    #[test]
    fn a_namespace_joined_by_path_is_own_unless_it_is_ours() {
        let own = |path: &str| {
            let json = format!(r#"{{"namespaces":[{{"type":"network","path":"{path}"}},{{"type":"ipc"}}]}}"#);
            Own::look(&serde_json::from_str(&json).unwrap())
        };
        let other = Own { ipc: true, ..Own::default() };
        assert_eq!(own("/proc/self/ns/net"), other);
        assert_eq!(own("/no/such/namespace"), other);
        assert_eq!(own("/proc/self/ns/ipc"), Own { network: true, ..other });
    }
}
