//! Whether a specification can be meant: every contradiction and every value that the kernel has no use for, by the
//! name of its field, before anything is made for the container. Pure: what depends on the machine or the caller
//! comes in as [`Facts`].
//!
//! | file | what |
//! |---|---|
//! | `mod` | the top of the document; container ids |
//! | `process` | `process` |
//! | `mount` | `mounts`, and the id mappings of a mount or a user namespace |
//! | `linux` | `linux`, but for the two below |
//! | `resource` | `linux.resources` |
//! | `sysctl` | `linux.sysctl` |
//!
//! Refused is what the specification says MUST be an error, what the kernel never takes, and what runc's and crun's
//! validators refuse; so whatever Docker, containerd and Podman write passes. Not judged here: what the
//! kernel decides by its build or its present state, mount options, syscalls and rules of a seccomp profile, which the
//! engine understands and refuses by name when it plans; and whether files exist.
//!
//! Strings are held against NUL where they reach the kernel: it would see another string than we do.

mod linux;
mod mount;
mod process;
mod resource;
mod sysctl;

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Failure, Kind};
use crate::oci::runtime::{Hook, Hooks, LinuxNamespace, LinuxNamespaceType, Spec};

/// The longest id of a container. It becomes a file's name, for which Linux takes 255 bytes, with a few more before or
/// after it: `wherry-ID.scope`.
pub const MAX_ID_BYTES: usize = 200;

/// The longest host and domain name: `__NEW_UTS_LEN` of linux/utsname.h.
const MAX_HOST_NAME: usize = 64;

/// The longest value that a message repeats.
const MAX_QUOTED: usize = 80;

/// What a specification cannot tell of the machine and the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The caller is not root in its own user namespace.
    pub rootless: bool,
    /// Cgroups are made by systemd (`--systemd-cgroup`).
    pub systemd_cgroup: bool,
    /// Of the namespaces that are joined by a path: those that are the caller's own, whose settings are the host's.
    pub own_namespaces: &'a [LinuxNamespaceType],
}

/// What makes no sense, and where: `linux.namespaces[3]`, `pid is there twice`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

type Check = Result<(), Invalid>;

fn refuse(field: impl Into<String>, problem: impl Into<String>) -> Check {
    Err(Invalid { field: field.into(), problem: problem.into() })
}

/// Refuses a specification that cannot be meant. One without a `process` passes: it is needed at the start only
/// (config.md).
pub fn validate(spec: &Spec, facts: &Facts<'_>) -> Check {
    let namespaces = Namespaces::of(spec, facts);
    version(spec.version())?;
    // First, for what follows looks at the list again and again: it is short once it names nothing twice.
    linux::namespaces(namespaces.list)?;
    root(spec)?;
    host_name("hostname", spec.hostname().as_deref(), namespaces)?;
    host_name("domainname", spec.domainname().as_deref(), namespaces)?;
    mount::check(spec.mounts().as_deref().unwrap_or_default(), namespaces)?;
    hooks(spec.hooks().as_ref())?;
    annotations(spec.annotations().as_ref(), facts)?;
    if facts.rootless && !namespaces.has(LinuxNamespaceType::User) {
        return refuse("linux.namespaces", "has no user namespace, which a caller other than root needs");
    }
    if let Some(linux) = spec.linux() {
        linux::check(linux, namespaces, facts)?;
    }
    match spec.process() {
        Some(process) => process::check(process, spec, namespaces),
        None => Ok(()),
    }
}

/// Refuses what cannot be the id of a container: runc's alphabet, and no name that is a place in every directory.
pub fn valid_id(id: &str) -> Check {
    const FIELD: &str = "container id";
    let fine = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() {
        return refuse(FIELD, "is empty");
    }
    if id.len() > MAX_ID_BYTES {
        return refuse(FIELD, format!("is longer than {MAX_ID_BYTES} bytes"));
    }
    if let Some(strange) = id.chars().find(|&c| !fine(c)) {
        return refuse(FIELD, format!("{} has {strange:?}; letters, digits and \"_+-.\" may be used", quoted(id)));
    }
    match id {
        "." | ".." => refuse(FIELD, format!("{id:?} names a directory")),
        _ => Ok(()),
    }
}

/// The namespaces of a container.
#[derive(Clone, Copy)]
struct Namespaces<'a> {
    list: &'a [LinuxNamespace],
    own: &'a [LinuxNamespaceType],
}

impl<'a> Namespaces<'a> {
    fn of(spec: &'a Spec, facts: &Facts<'a>) -> Self {
        let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        Self { list, own: facts.own_namespaces }
    }

    /// Whether there is one, new or joined.
    fn has(self, typ: LinuxNamespaceType) -> bool {
        self.list.iter().any(|namespace| namespace.typ() == typ)
    }

    /// Whether a new one is made.
    fn makes(self, typ: LinuxNamespaceType) -> bool {
        self.list.iter().any(|namespace| namespace.typ() == typ && namespace.path().is_none())
    }

    /// Whether it is another than the caller's, so that its settings are not the host's.
    fn apart(self, typ: LinuxNamespaceType) -> bool {
        self.has(typ) && !self.own.contains(&typ)
    }
}

/// Semantic versioning. What is before 1.0 is let through: the specification's own examples say 0.5.0-dev.
fn version(version: &str) -> Check {
    const FIELD: &str = "ociVersion";
    if version.is_empty() {
        return refuse(FIELD, "is missing");
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |digits: &str| digits.len() < 10 && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let numbers: Vec<&str> = core.split('.').collect();
    match numbers[..] {
        ["0" | "1", minor, patch] if number(minor) && number(patch) => Ok(()),
        [major, minor, patch] if number(major) && number(minor) && number(patch) => {
            refuse(FIELD, format!("{} is not known; versions 1.x are", quoted(version)))
        }
        _ => refuse(FIELD, format!("{} is no version such as 1.3.0", quoted(version))),
    }
}

fn root(spec: &Spec) -> Check {
    match spec.root() {
        Some(root) => path(root.path(), || "root.path".into()),
        None => refuse("root", "is missing"),
    }
}

fn host_name(field: &'static str, name: Option<&str>, namespaces: Namespaces<'_>) -> Check {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(()) };
    text(name, || field.into())?;
    if name.len() > MAX_HOST_NAME {
        return refuse(field, format!("is longer than {MAX_HOST_NAME} bytes"));
    }
    if !namespaces.apart(LinuxNamespaceType::Uts) {
        return refuse(field, "is the host's: the container has no uts namespace of its own");
    }
    Ok(())
}

fn hooks(hooks: Option<&Hooks>) -> Check {
    let Some(hooks) = hooks else { return Ok(()) };
    let lists = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in lists {
        for (i, one) in list.iter().flatten().enumerate() {
            hook(one, &|field| format!("hooks.{name}[{i}].{field}"))?;
        }
    }
    Ok(())
}

fn hook(hook: &Hook, field: &dyn Fn(&str) -> String) -> Check {
    absolute(hook.path(), || field("path"))?;
    texts(hook.args().as_deref(), &|i| field(&format!("args[{i}]")))?;
    texts(hook.env().as_deref(), &|i| field(&format!("env[{i}]")))?;
    match hook.timeout() {
        Some(seconds) if seconds <= 0 => refuse(field("timeout"), format!("{seconds} is not more than 0 seconds")),
        _ => Ok(()),
    }
}

fn annotations(annotations: Option<&HashMap<String, String>>, facts: &Facts<'_>) -> Check {
    const SYSTEMD: &str = "org.systemd.property.";
    let Some(annotations) = annotations else { return Ok(()) };
    if annotations.contains_key("") {
        return refuse("annotations", "has an empty key");
    }
    // systemd's names, as runc checks them. Without systemd they are annotations like others.
    let wrong = |key: &&String| {
        let name = key.strip_prefix(SYSTEMD).filter(|_| facts.systemd_cgroup);
        name.is_some_and(|name| name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()))
    };
    match annotations.keys().filter(wrong).min() {
        Some(key) => refuse(format!("annotations.{}", bare(key)), "names no property of systemd"),
        None => Ok(()),
    }
}

/// A string that reaches the kernel.
fn text(value: &str, field: impl FnOnce() -> String) -> Check {
    if value.contains('\0') { refuse(field(), "has a NUL") } else { Ok(()) }
}

fn texts(values: Option<&[String]>, field: &dyn Fn(usize) -> String) -> Check {
    values.unwrap_or_default().iter().enumerate().try_for_each(|(i, value)| text(value, || field(i)))
}

/// A path, absolute or not.
fn path(path: &Path, field: impl FnOnce() -> String) -> Check {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() {
        return refuse(field(), "is empty");
    }
    if bytes.contains(&0) { refuse(field(), "has a NUL") } else { Ok(()) }
}

/// An absolute path of Linux, on whatever system this is.
fn absolute(value: &Path, field: impl Fn() -> String) -> Check {
    path(value, &field)?;
    if value.as_os_str().as_encoded_bytes().starts_with(b"/") {
        return Ok(());
    }
    refuse(field(), format!("{} is not absolute", quoted(&value.to_string_lossy())))
}

/// Whether nothing may be done with it but to name something in a directory.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// A stranger's text in a message: quoted, on one line, and not all of it.
fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

/// A stranger's key in the path of a field.
fn bare(key: &str) -> String {
    let quoted = quoted(key);
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted).to_owned()
}

#[cfg(test)]
pub(super) mod tests;
