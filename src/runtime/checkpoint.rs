//! `checkpoint`: a running container becomes files, by the program `criu`.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::criu::{
    self, CGROUPS, CgroupMount, DEDUP, EMPTY, IMAGES, LAZY, LOCKS, NETWORK_LOCK, SHELL, TCP, UNIX, WORK,
};
use super::options::{Flag, Given, option, switch};
use super::status::Status;
use super::store::Entry;
use super::{Command, Context, Error, Outcome, cgroup, delete, id};
use crate::bundle::Bundle;
use crate::engine::Engine;
use crate::oci::runtime::Spec;
use crate::sys::named;

/// The names of the standard streams, for the restore.
pub const STREAMS: &str = "descriptors.json";
/// The mounts of cgroups, for the restore.
pub const CGROUP_MOUNTS: &str = "cgroup-mounts.json";

static FLAGS: [Flag; 18] = [
    IMAGES,
    WORK,
    option("parent-path", None, "DIR", "the images of an earlier --pre-dump, relative to these"),
    switch("leave-running", None, "leave the container running"),
    TCP,
    switch("tcp-skip-in-flight", None, "leave out TCP connections that are just being made"),
    switch("link-remap", None, "also with files that were unlinked while open"),
    UNIX,
    SHELL,
    LAZY,
    option("status-fd", None, "FD", "write a byte to this descriptor when the lazy server is ready"),
    option("page-server", None, "ADDRESS:PORT", "send the memory to a page server"),
    LOCKS,
    switch("pre-dump", None, "write the memory only, and let the container go on"),
    CGROUPS,
    EMPTY,
    DEDUP,
    NETWORK_LOCK,
];

/// `checkpoint`.
pub const COMMAND: Command =
    Command { flags: &FLAGS, ..Command::new("checkpoint", "write a running container to files, by criu", run) };

fn run(context: &Context<'_>, given: &Given) -> Outcome {
    let id = id(given)?;
    checkpoint(context, given).map_err(|error| Error::Cannot { verb: "checkpoint", id, source: Box::new(error) })
}

fn checkpoint(context: &Context<'_>, given: &Given) -> Outcome {
    let container = context.locked(given)?;
    let entry = &container.entry;
    match entry.status() {
        Status::Running | Status::Paused => {}
        status => return Err(Error::wrong_status("checkpoint", status)),
    }
    if entry.record.engine == Engine::Wasm {
        let hint = "the state of an instance cannot be taken over by another engine";
        return Err(Error::IsWasm { what: "a checkpoint", hint });
    }
    let program = criu::find("checkpoint")?;
    let images = criu::images(given)?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&images);
    named(made, || format!("mkdir({images:?})")).map_err(Error::sys("make the images' directory"))?;
    let (bundle, _) = Bundle::read_from(&entry.record.bundle, &entry.config())?;
    if bundle.spec().process().as_ref().is_some_and(|process| process.terminal() == Some(true)) {
        return Err(Error::refuse("terminal", "criu's command line cannot give a terminal back to its owner"));
    }
    let pre = given.has("pre-dump");
    let command = if pre { "pre-dump" } else { "dump" };
    let words = words(given, entry, bundle.spec(), &images)?;
    note_streams(entry, &images)?;
    criu::run(&program, command, &words, given, &images, "dump.log")?;
    if !pre && !given.has("leave-running") {
        delete::destroy(context, container)?;
    }
    Ok(0)
}

fn words(given: &Given, entry: &Entry, spec: &Spec, images: &Path) -> Result<Vec<OsString>, Error> {
    let init = entry.record.init().ok_or(Error::NotRunning)?;
    let mut words = criu::common(given, images, "dump.log")?;
    words.extend(["--tree".into(), init.pid.to_string().into(), "--root".into(), (&*entry.record.rootfs).into()]);
    for (destination, _) in criu::binds(spec) {
        let place = destination.display();
        words.extend(["--external".into(), format!("mnt[{place}]:{place}").into()]);
    }
    for mount in cgroup_mounts(init.pid, images)? {
        let place = mount.at.display();
        words.extend(["--external".into(), format!("mnt[{place}]:{place}").into()]);
    }
    for (word, name, path) in criu::external_namespaces(spec) {
        let found = named(std::fs::metadata(path), || format!("stat({path:?})"));
        let inode = found.map_err(Error::sys("find the namespace that it has joined"))?.ino();
        words.extend(["--external".into(), format!("{word}[{inode}]:{name}").into()]);
    }
    let freezer = cgroup::with(entry, |group| {
        let paths = group.paths();
        Ok(paths.get("freezer").or_else(|| paths.get("")).map(|path| path.to_path_buf()))
    })?;
    if let Some(Some(freezer)) = freezer {
        words.extend(["--freeze-cgroup".into(), freezer.into()]);
    }
    for (flag, word) in [
        ("leave-running", "--leave-running"),
        ("tcp-skip-in-flight", "--skip-in-flight"),
        ("link-remap", "--link-remap"),
        ("pre-dump", "--track-mem"),
    ] {
        words.extend(given.has(flag).then(|| word.into()));
    }
    if let Some(parent) = given.path("parent-path") {
        if parent.is_absolute() {
            return Err(Error::refuse("--parent-path", "it is relative to the images' directory"));
        }
        words.extend(["--track-mem".into(), "--prev-images-dir".into(), parent.into()]);
    }
    if let Some(fd) = given.parsed::<u32>("status-fd")? {
        words.extend(["--status-fd".into(), fd.to_string().into()]);
    }
    if let Some(server) = given.text("page-server")? {
        let (address, port) = server
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .ok_or_else(|| Error::refuse("--page-server", format!("{server:?} is no ADDRESS:PORT")))?;
        words.extend(["--page-server", "--address", address, "--port", port].map(OsString::from));
    }
    Ok(words)
}

/// The container's mounts of cgroups, written down.
fn cgroup_mounts(init: i32, images: &Path) -> Result<Vec<CgroupMount>, Error> {
    let path = format!("/proc/{init}/mountinfo");
    let text = named(std::fs::read_to_string(&path), || format!("read({path:?})"));
    let mounts = CgroupMount::all(&text.map_err(Error::sys("look at its mounts"))?);
    let file = images.join(CGROUP_MOUNTS);
    let written = std::fs::write(&file, serde_json::to_vec(&mounts).expect("plain data"));
    named(written, || format!("write({file:?})")).map_err(Error::sys("write down its mounts"))?;
    Ok(mounts)
}

/// Writes down which pipes the standard streams are: at a restore others take their places.
fn note_streams(entry: &Entry, images: &Path) -> Result<(), Error> {
    let init = entry.record.init().ok_or(Error::NotRunning)?;
    let link = |fd: u32| std::fs::read_link(format!("/proc/{}/fd/{fd}", init.pid)).unwrap_or_default();
    let links = [0, 1, 2].map(link).map(|link| link.to_string_lossy().into_owned());
    let path = images.join(STREAMS);
    let written = std::fs::write(&path, serde_json::Value::from(links.to_vec()).to_string());
    named(written, || format!("write({path:?})")).map_err(Error::sys("write down its streams"))
}
