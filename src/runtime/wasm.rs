//! A bundle whose program is WebAssembly: told by the program's bytes and by nothing else, so that no annotation of a
//! pod makes its Linux containers Wasm, and none of an image makes a Wasm program anything else.
//!
//! The program is compiled at create, and what it may do is what the specification grants in this engine's words
//! ([`crate::engine::grants`]). All else of the specification is reduced to what such a program can use: the engine
//! needs no capability, no `/proc` and no `/sys`, and what an orchestrator mounts into each container by itself, its
//! resolver's configuration say, is not given to a program that nobody granted it to.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::is_privileged;
use crate::bundle::Bundle;
use crate::config::{Environment, Settings};
use crate::engine::linux::entry::Tree;
use crate::engine::wasm::grant::limit::Compile as Limits;
use crate::engine::wasm::{self, Compiled, Source};
use crate::engine::{Engine, grants, is_bind};
use crate::error::chain;
use crate::oci::runtime::{LinuxCapabilities, Mount, Spec};
use crate::sys::{named, process, socket};

/// The most bytes that are read of why a program could not be compiled.
const MAX_REASON: usize = 8 << 10;

/// What runs the bundle's program, and the program compiled if it is WebAssembly. A program that is not there is for
/// the Linux engine to miss, in the words that callers know.
pub fn program(bundle: &Bundle) -> Result<Option<Compiled>, Error> {
    let spec = bundle.spec();
    let Some(process) = spec.process().as_ref() else { return Ok(None) };
    let Some(name) = process.args().iter().flatten().next() else { return Ok(None) };
    let rootfs = bundle.rootfs();
    let Ok(root) = File::open(&rootfs) else { return Ok(None) };
    let tree = Tree { root: root.as_fd(), binds: binds(spec, bundle.directory()) };
    let path = process.env().iter().flatten().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let Ok(entry) = tree.find(name, process.cwd(), path) else { return refuse_function(&tree, name, process.cwd()) };
    match Engine::pick(false, &entry.magic) {
        Engine::Linux => Ok(None),
        Engine::Wasm => {
            // Before anything is made: what cannot be meant is not run.
            let limits = grants(spec)?.grants.limit.compile;
            compile(entry.file, name, &limits).map(Some)
        }
    }
}

/// Where the bind mounts lead from.
fn binds(spec: &Spec, bundle: &Path) -> Vec<(PathBuf, PathBuf)> {
    let binds = spec.mounts().iter().flatten().filter(|mount| is_bind(mount));
    binds.filter_map(|mount| Some((mount.destination().clone(), bundle.join(mount.source().as_ref()?)))).collect()
}

/// runwasi's `path#function` names what to call in a module: a program begins where WASI says that it does.
fn refuse_function(tree: &Tree<'_>, name: &str, cwd: &Path) -> Result<Option<Compiled>, Error> {
    let Some((file, function)) = name.rsplit_once('#') else { return Ok(None) };
    match tree.find(file, cwd, None) {
        Ok(entry) if wasm::begins(&entry.magic) => Err(Error::refuse(
            format!("process.args[0] {name:?}"),
            format!("the function {function:?} cannot be chosen: a program begins where WASI says; leave #… out"),
        )),
        _ => Ok(None),
    }
}

/// The compiled form of the program in `file`, which is `name`.
fn compile(file: File, name: &str, limits: &Limits) -> Result<Compiled, Error> {
    let failed = |source| Error::Wasm { program: name.to_owned(), source };
    let source = Source::read(file).map_err(failed)?;
    let environment = Environment { variable: |name| std::env::var_os(name), privileged: is_privileged() };
    let above = Settings::new(None, None, &environment).root.join("cache");
    let made = named(std::fs::create_dir_all(&above), || format!("mkdir({above:?})"));
    made.map_err(Error::sys("make the cache of compiled code"))?;
    compile_apart(&above.join("wasm"), &source, name, limits)
}

/// Compiles in a child, or finds there what was compiled before. An engine for compiling leaves threads behind, and
/// handlers of signals that it believes to be in place: neither may be in a process that is going to be cloned.
fn compile_apart(cache: &Path, source: &Source, name: &str, limits: &Limits) -> Result<Compiled, Error> {
    let failed = || Error::sys("compile the WebAssembly program");
    let (ours, theirs) = socket::packet_pair().map_err(failed())?;
    let child = process::clone(0, None, || {
        process::close_in_child(ours.as_fd());
        let sent = match wasm::compile(cache, source, limits) {
            Ok(compiled) => socket::send_with_fds(&theirs, b"compiled", &[compiled.as_fd()]),
            Err(error) => {
                let text = chain(&error);
                socket::send_with_fds(&theirs, &text.as_bytes()[..text.len().min(MAX_REASON)], &[])
            }
        };
        i32::from(sent.is_err())
    });
    let child = child.map_err(failed())?;
    drop(theirs);
    let mut text = [0; MAX_REASON];
    let received = socket::receive_with_fds(&ours, &mut text);
    process::reap(child.pidfd.as_fd()).map_err(failed())?;
    let (length, mut files) = received.map_err(failed())?;
    let reason = String::from_utf8_lossy(&text[..length]);
    match files.pop() {
        Some(file) => Compiled::inherited(file).map_err(|source| Error::Wasm { program: name.to_owned(), source }),
        None if reason.is_empty() => Err(Error::Words(format!("the compiler of {name:?} was killed"))),
        None => Err(Error::Words(format!("cannot run the WebAssembly program {name:?}: {reason}"))),
    }
}

/// Reduces the specification to what a Wasm program can use.
pub fn reduce(spec: &mut Spec, bundle: &Path) {
    if let Some(process) = spec.process_mut() {
        process.set_capabilities(Some(no_capabilities())).set_no_new_privileges(Some(true));
    }
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let mounts = spec.mounts().iter().flatten().filter(|mount| is_needed(mount, terminal, bundle)).cloned();
    spec.set_mounts(Some(mounts.collect()));
    if let Some(linux) = spec.linux_mut() {
        linux.set_masked_paths(None).set_readonly_paths(None);
    }
}

fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    let empty = || Some(Default::default());
    none.set_bounding(empty()).set_effective(empty()).set_permitted(empty());
    none.set_inheritable(empty()).set_ambient(empty());
    none
}

/// Whether a mount is of use: a directory that is granted, or what the engine itself wants of `/dev`.
fn is_needed(mount: &Mount, terminal: bool, bundle: &Path) -> bool {
    let at = mount.destination();
    if is_bind(mount) {
        let is_directory = || mount.source().as_ref().is_some_and(|source| bundle.join(source).is_dir());
        return crate::engine::is_granted(mount) && is_directory();
    }
    at == Path::new("/dev") || (terminal && at == Path::new("/dev/pts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(at: &str, typ: &str, source: &Path, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
        let mut mount = Mount::default();
        mount.set_destination(at.into()).set_typ(Some(typ.to_owned()));
        mount.set_source(Some(source.to_owned())).set_options(Some(options));
        mount
    }

    #[test]
    fn what_a_wasm_program_cannot_use_is_not_mounted() {
        let here = tempfile::tempdir().unwrap();
        std::fs::create_dir(here.path().join("data")).unwrap();
        std::fs::write(here.path().join("hosts"), "").unwrap();
        let (directory, file, none) = (here.path().join("data"), here.path().join("hosts"), Path::new("none"));
        let mut spec = Spec::default();
        spec.set_mounts(Some(vec![
            mount("/proc", "proc", none, &[]),
            mount("/dev", "tmpfs", none, &[]),
            mount("/dev/pts", "devpts", none, &[]),
            mount("/dev/shm", "bind", &directory, &["bind"]),
            mount("/etc/hosts", "bind", &file, &["bind"]),
            mount("/data", "bind", &directory, &["rbind", "ro"]),
            mount("/more", "none", Path::new("data"), &["bind"]),
            mount("/run/secrets", "bind", &directory, &["bind"]),
        ]));
        reduce(&mut spec, here.path());
        let left: Vec<&Path> = spec.mounts().iter().flatten().map(|mount| mount.destination().as_path()).collect();
        assert_eq!(left, ["/dev", "/data", "/more"].map(Path::new));
        let process = spec.process().as_ref().unwrap();
        assert!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().is_empty());
        assert_eq!(process.no_new_privileges(), Some(true));
    }
}
