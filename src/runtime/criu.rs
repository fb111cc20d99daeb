//! The program `criu`, which makes files of processes and processes of files. What is asked of it is decided here,
//! purely; it is run by `checkpoint` and `restore`.
//!
//! What of a container comes from outside of it is *external* to criu and is named in its images: bind mounts by
//! where they are in the container, namespaces that were joined by [`external_namespaces`], standard streams that
//! are pipes by their names in `/proc`.

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::options::{Flag, Given, option, switch};
use crate::cgroup::Cgroup;
use crate::oci::runtime::{LinuxNamespaceType, Spec};
use crate::sys::named;

/// How much of criu's log is told when it fails: its last lines say why.
const LOG_TAIL: u64 = 2048;

/// Where the images are.
pub const IMAGES: Flag = option("image-path", None, "DIR", "where the images are (default: checkpoint, here)");
/// Where the log is.
pub const WORK: Flag =
    option("work-path", None, "DIR", "where logs and statistics are (default: the images' directory)");
/// Established connections.
pub const TCP: Flag = switch("tcp-established", None, "also with open TCP connections");
/// Sockets of others.
pub const UNIX: Flag = switch("ext-unix-sk", None, "also with connections to unix sockets outside");
/// A terminal of the caller.
pub const SHELL: Flag = switch("shell-job", None, "the program has the caller's terminal");
/// Lazy migration.
pub const LAZY: Flag = switch("lazy-pages", None, "memory follows by userfaultfd");
/// File locks.
pub const LOCKS: Flag = switch("file-locks", None, "with file locks");
/// Who makes cgroups.
pub const CGROUPS: Flag = option(
    "manage-cgroups-mode",
    None,
    "MODE",
    "what is done with cgroups: soft, full, strict or ignore (default: soft)",
);
/// Namespaces without content.
pub const EMPTY: Flag = option("empty-ns", None, "NAMESPACE", "leave out what is in this namespace: network");
/// How the network stands still.
pub const NETWORK_LOCK: Flag =
    option("network-lock", None, "METHOD", "how the network is kept still: iptables, nftables or skip");
/// Deduplication.
pub const DEDUP: Flag = switch("auto-dedup", None, "keep each page of memory once");

/// Switches that criu knows under the same name.
const SAME: [&str; 6] = ["tcp-established", "ext-unix-sk", "shell-job", "lazy-pages", "file-locks", "auto-dedup"];

/// The program, or the reason why it cannot be had.
pub fn find(command: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join("criu")).find(|file| file.is_file());
    found.ok_or_else(|| Error::refuse(command, "the program criu, which does this, is not installed"))
}

/// Where the images are, whole.
pub fn images(given: &Given) -> Result<PathBuf, Error> {
    let path = given.path("image-path").unwrap_or_else(|| "checkpoint".into());
    named(std::path::absolute(path), || "getcwd()".into()).map_err(Error::sys("find the images"))
}

/// The words that both directions have.
pub fn common(given: &Given, images: &Path, log: &str) -> Result<Vec<OsString>, Error> {
    let mut words: Vec<OsString> =
        vec!["--images-dir".into(), images.into(), "--log-file".into(), log.into(), "-v4".into()];
    words.extend(["--work-dir".into(), work(given, images).into_os_string()]);
    words.extend(SAME.iter().filter(|name| given.has(name)).map(|name| format!("--{name}").into()));
    match given.text("manage-cgroups-mode")?.unwrap_or("soft") {
        mode @ ("soft" | "full" | "strict" | "ignore") => words.push(format!("--manage-cgroups={mode}").into()),
        mode => return Err(Error::refuse("--manage-cgroups-mode", format!("there is no mode {mode:?}"))),
    }
    match given.text("network-lock")? {
        None => {}
        Some(method @ ("iptables" | "nftables" | "skip")) => words.extend(["--network-lock".into(), method.into()]),
        Some(other) => return Err(Error::refuse("--network-lock", format!("there is no method {other:?}"))),
    }
    for namespace in given.all("empty-ns")? {
        match namespace {
            "network" => words.extend(["--empty-ns".into(), "net".into()]),
            other => return Err(Error::refuse("--empty-ns", format!("{other:?} cannot be left out, only network"))),
        }
    }
    Ok(words)
}

fn work(given: &Given, images: &Path) -> PathBuf {
    given.path("work-path").unwrap_or_else(|| images.to_owned())
}

/// The bind mounts: where they are in the container, and what is there.
pub fn binds(spec: &Spec) -> impl Iterator<Item = (&Path, &Path)> {
    let is_bind = |options: &Option<Vec<String>>| options.iter().flatten().any(|o| o == "bind" || o == "rbind");
    let mounts = spec.mounts().iter().flatten();
    mounts
        .filter(move |mount| mount.typ().as_deref() == Some("bind") || is_bind(mount.options()))
        .filter_map(|mount| Some((mount.destination().as_path(), mount.source().as_deref()?)))
}

/// The namespaces that the container has joined: criu's word for each, the name in the images, and the path.
pub fn external_namespaces(spec: &Spec) -> Vec<(&'static str, &'static str, &Path)> {
    let listed = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    let joined = listed.filter_map(|namespace| Some((namespace.typ(), namespace.path().as_deref()?)));
    let word = |(typ, path)| match typ {
        LinuxNamespaceType::Network => Some(("net", "extRootNetNS", path)),
        LinuxNamespaceType::Pid => Some(("pid", "extRootPidNS", path)),
        _ => None,
    };
    joined.filter_map(word).collect()
}

/// A mount of a cgroup hierarchy in a container: what of the hierarchy, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMount {
    /// The directory of the hierarchy that is shown.
    root: PathBuf,
    /// Where.
    pub at: PathBuf,
    /// What names the hierarchy: the type of file system and its options.
    hierarchy: (String, String),
}

impl CgroupMount {
    /// Those in the text of a `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
    pub fn all(mountinfo: &str) -> Vec<Self> {
        mountinfo.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let (place, filesystem) = line.split_once(" - ")?;
        let (place, filesystem) = (place.split(' ').collect::<Vec<_>>(), filesystem.split(' ').collect::<Vec<_>>());
        let (typ, options) = (*filesystem.first()?, *filesystem.get(2)?);
        let mount = Self {
            root: place.get(3)?.into(),
            at: place.get(4)?.into(),
            hierarchy: (typ.to_owned(), options.to_owned()),
        };
        matches!(typ, "cgroup" | "cgroup2").then_some(mount)
    }

    /// What of the machine's mounts is to be there at a restore: the container's group, or the whole hierarchy.
    pub fn source(&self, host: &[Self], groups: &[PathBuf]) -> Option<PathBuf> {
        let there = host.iter().find(|mount| mount.hierarchy == self.hierarchy && mount.root == Path::new("/"))?;
        match self.root == Path::new("/") {
            true => Some(there.at.clone()),
            false => groups.iter().find(|group| group.starts_with(&there.at)).cloned(),
        }
    }
}

/// Where the container's cgroups are, as criu takes them.
pub fn cgroup_roots(group: &Cgroup) -> Vec<OsString> {
    let mount = |controller: &str, path: &Path| -> Option<OsString> {
        let below = path.strip_prefix("/sys/fs/cgroup").ok()?;
        let mut parts = below.components();
        if controller.is_empty() {
            let rest = if below.starts_with("unified") { parts.next().map(|_| parts.as_path())? } else { below };
            return Some(format!("/{}", rest.display()).into());
        }
        parts.next()?;
        Some(format!("{controller}:/{}", parts.as_path().display()).into())
    };
    let roots = group.paths().into_iter().filter_map(|(controller, path)| mount(controller, path)).collect::<Vec<_>>();
    roots.into_iter().flat_map(|root| ["--cgroup-root".into(), root]).collect()
}

/// Runs criu; its log says why it failed.
pub fn run(
    program: &Path,
    command: &str,
    words: &[OsString],
    given: &Given,
    images: &Path,
    log: &str,
) -> Result<(), Error> {
    let mut criu = Command::new(program);
    criu.arg(command).args(words).stdout(Stdio::null());
    let status = named(criu.status(), || format!("execve({program:?})")).map_err(Error::sys("run criu"))?;
    if status.success() {
        return Ok(());
    }
    let log = work(given, images).join(log);
    Err(Error::refuse(format!("criu {command}"), format!("{status}; {log:?} ends with: {}", tail(&log))))
}

/// The lines at the end of a log that tell of errors.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error")).collect();
    errors.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_mount_is_found_again_on_another_day() {
        let inside = "45 46 254:0 / / rw - ext4 /dev/vda rw\n\
                      149 140 0:29 /old/c1 /sys/fs/cgroup/cpu ro,nosuid shared:1 - cgroup cgroup rw,cpu\n\
                      147 140 0:31 / /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n";
        let host = "27 1 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n28 1 0:31 / /cpuset rw - cgroup cgroup rw,cpuset";
        let (inside, host) = (CgroupMount::all(inside), CgroupMount::all(host));
        let groups = [PathBuf::from("/sys/fs/cgroup/cpu/new/c2")];
        let sources: Vec<_> =
            inside.iter().map(|mount| (mount.at.to_str().unwrap(), mount.source(&host, &groups))).collect();
        let expected = [
            ("/sys/fs/cgroup/cpu", Some("/sys/fs/cgroup/cpu/new/c2".into())),
            ("/sys/fs/cgroup/cpuset", Some("/cpuset".into())),
        ];
        assert_eq!(sources, expected);
    }
}
