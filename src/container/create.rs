//! `create`: from what was asked for to a record and a directory.
//!
//! The directory is made first and the record last, in one transaction that also takes the name: killed
//! anywhere between, there is no container, and a directory that the next removal sweeps.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::record::Empty;
use super::{
    Config, Container, Error, HostConfig, Places, Prepared, Record, Status, Store, granted, io, name, new_id, publish,
};
use crate::engine::linux::entry::{Entry, Tree};
use crate::engine::wasm::grant::limit::Limit;
use crate::engine::{Engine, wasm};
use crate::error::tolerate;
use crate::image::Image;
use crate::snapshot::{Chain, Rootfs};
use crate::sys::lock::FileLock;

/// What is asked for, where it differs from what the image says.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// The full id; one is made up without.
    pub id: Option<String>,
    /// Whether nobody needs its record to last: who makes it stays with it and removes it. It has no name of its own.
    pub fleeting: bool,
    /// The name; one is made up without.
    pub name: Option<String>,
    /// The image as it was typed.
    pub image: String,
    /// Replaces the image's entry point, and with it its command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// `NAME=value`, over the image's.
    pub env: Vec<String>,
    /// Who it runs as.
    pub user: Option<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// The domain that it is in.
    pub domainname: Option<String>,
    /// Ports, as `80/tcp`, besides those that the image names.
    pub exposed_ports: Vec<String>,
    /// Seconds that it is given to end.
    pub stop_timeout: Option<i64>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is open.
    pub open_stdin: bool,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// Labels, over the image's.
    pub labels: Vec<(String, String)>,
    /// What the host gives.
    pub host_config: HostConfig,
}

/// How many names are made up before it is said that all are taken. With a thousand containers one in a thousand is.
const NAMES_TRIED: u32 = 10;

impl Store {
    /// Makes a container of `image`, whose layers `chain` are unpacked.
    pub fn create(&self, create: Create, image: &Image, chain: &Chain) -> Result<Container, Error> {
        let typed = create.name.as_deref().map(name::check).transpose()?;
        self.db.used().note(image.id().as_str());
        let id = create.id.clone().unwrap_or_else(new_id);
        let directory = self.directory_of(&id);
        io("create", &self.places.containers, std::fs::create_dir_all(&self.places.containers))?;
        let _creating = self.hold_directories()?;
        io("create", &directory, private_directory(&directory))?;
        let made = self.fill(create, image, chain, &id, &directory, typed);
        if made.is_err() {
            // The error that matters is the one at hand; what stays is swept later.
            tolerate(std::fs::remove_dir_all(&directory));
        }
        let (record, name, prepared) = made?;
        let prepared = Some(Arc::new(prepared));
        let container = Container { record, name, status: Status::Created { failure: None }, directory, prepared };
        self.note("create", container.actor());
        Ok(container)
    }

    fn fill(
        &self,
        mut create: Create,
        image: &Image,
        chain: &Chain,
        id: &str,
        directory: &Path,
        typed: Option<String>,
    ) -> Result<(Record, String, Prepared), Error> {
        let mut config = config(&create, image, id);
        let Found { engine, rootfs, root, entry } = self.find_program(image, chain, directory, &config)?;
        granted::settle(&mut create.host_config, engine)?;
        self.settle_modes(&mut config, &mut create.host_config, create.hostname.is_some(), engine)?;
        let limit = create.host_config.grants()?.limit;
        let program = match engine {
            Engine::Linux => None,
            // Compiled now, so that no start waits for it, and refused now if it cannot run.
            Engine::Wasm => {
                let compiled = self.compile(entry, &config, &create.image, &limit)?;
                // The pull of an image has noted it; a run for a moment does not open the database to say it again.
                if !create.fleeting {
                    self.belongs(&compiled, image)?;
                }
                Some(compiled)
            }
        };
        let serves = program.as_ref().is_some_and(wasm::Compiled::serves);
        let record = Record {
            version: Record::version(),
            id: id.to_owned(),
            created: Timestamp::now(),
            image: create.image,
            image_id: image.id().clone(),
            platform: image.platform().to_string(),
            engine,
            config,
            host_config: create.host_config,
            rootfs,
            layers: chain.ids().to_vec(),
        };
        publish::check(&record.host_config, &record.config, engine, serves, &record.image)?;
        let name = self.insert(&record, typed, create.fleeting)?;
        Ok((record, name, Prepared { root, program: program.map(|program| program.into_file().into()) }))
    }

    /// Writes the record down under the name that was typed, or one that nobody has.
    fn insert(&self, record: &Record, typed: Option<String>, fleeting: bool) -> Result<String, Error> {
        let containers = self.db.containers();
        let mut tries = if typed.is_some() { 1 } else { NAMES_TRIED };
        loop {
            let name = typed.clone().unwrap_or_else(name::generated);
            let row = record.row(&name);
            tries -= 1;
            match if fleeting { containers.insert_fleeting(&row) } else { containers.insert(&row) } {
                Ok(()) => return Ok(name),
                Err(crate::state::Error::NameTaken { .. }) if tries > 0 => {}
                Err(crate::state::Error::NameTaken { name, owner }) => return Err(Error::NameTaken { name, owner }),
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Makes the root filesystem, and finds out by the program in it which engine is needed. What a Wasm program has
    /// needs no place for changes, as it sees nothing of it.
    fn find_program(&self, image: &Image, chain: &Chain, directory: &Path, config: &Config) -> Result<Found, Error> {
        let wasm_platform = image.platform().is_wasm();
        if wasm_platform {
            let rootfs = self.snapshots.layers(chain, directory)?;
            let root = look(&rootfs)?;
            let entry = entry(root.as_fd(), config).map_err(|error| why_no_command(error, root.as_fd()))?;
            if Engine::pick(true, magic(&entry)) == Engine::Wasm {
                return Ok(Found { engine: Engine::Wasm, rootfs, root, entry });
            }
        }
        let rootfs = self.snapshots.rootfs(chain, directory)?;
        let bundle_root = directory.join("rootfs");
        if !bundle_root.exists() {
            io("create", &bundle_root, std::fs::create_dir(&bundle_root))?;
        }
        let root = mount(&rootfs)?;
        let entry = entry(root.as_fd(), config).map_err(|error| why_no_command(error, root.as_fd()))?;
        Ok(Found { engine: Engine::pick(wasm_platform, magic(&entry)), rootfs, root, entry })
    }

    /// The root filesystem and the program of a container that was created some time ago.
    pub(super) fn prepare(&self, record: &Record) -> Result<Prepared, Error> {
        let root = if record.engine == Engine::Wasm { look(&record.rootfs)? } else { mount(&record.rootfs)? };
        let program = match record.engine {
            Engine::Linux => None,
            Engine::Wasm => {
                let entry = entry(root.as_fd(), &record.config)?;
                let limit = record.host_config.grants()?.limit;
                Some(self.compile(entry, &record.config, &record.image, &limit)?.into_file().into())
            }
        };
        Ok(Prepared { root, program })
    }

    /// The compiled form of the Wasm program that was found in `image`.
    fn compile(
        &self,
        entry: rustix::io::Result<Entry>,
        config: &Config,
        image: &str,
        limit: &Limit,
    ) -> Result<wasm::Compiled, Error> {
        let opened = entry.map(|entry| entry.file).map_err(std::io::Error::from);
        let file = io("open the WebAssembly program", Path::new(program(config)?), opened)?;
        self.places.compiled(&file, image, limit)
    }

    /// Compiles the program of an image for WebAssembly before anybody waits for it; whether there is one. It is
    /// looked for in one layer after the other, from the top: an image for WebAssembly has nothing else to find.
    pub fn compile_ahead(&self, image: &Image, chain: &Chain) -> Result<bool, Error> {
        if !image.platform().is_wasm() {
            return Ok(false);
        }
        let config = config(&Create::default(), image, "000000000000");
        for layer in chain.dirs().iter().rev() {
            let root = io("open", layer, File::open(layer))?;
            match entry(root.as_fd(), &config) {
                Err(Error::NoCommand) => return Ok(false),
                Ok(Ok(entry)) if wasm::begins(&entry.magic) => {
                    let compiled = self.places.compiled(&entry.file, &image_name(image), &Limit::default())?;
                    return self.belongs(&compiled, image).map(|()| true);
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Notes whose code it is, so that it goes when the image does. What has no name was never anybody's image.
    fn belongs(&self, compiled: &wasm::Compiled, image: &Image) -> Result<(), Error> {
        if image.names().is_empty() {
            return Ok(());
        }
        Ok(self.db.compiled().note(&compiled.name(), image.id().as_str())?)
    }

    /// Keeps directories that have no record yet from being swept.
    fn hold_directories(&self) -> Result<FileLock, Error> {
        let lock = FileLock::shared(&self.places.containers.join(".lock"));
        lock.map_err(|source| Error::Sys { what: "lock the containers' directory", source })
    }
}

impl Places {
    /// The compiled form of the Wasm program in `file`, which is called `name`; compiled now if it was not yet.
    pub(super) fn compiled(&self, file: &File, name: &str, limit: &Limit) -> Result<wasm::Compiled, Error> {
        let failed = |source| Error::Wasm { program: name.to_owned(), source };
        let cache = self.cache()?;
        // A file is remembered with the code that does not count.
        let identity = wasm::Identity::of(file).filter(|_| !limit.compile.metered);
        if let Some(identity) = &identity
            && let Some(compiled) = wasm::recall(cache, identity).map_err(failed)?
        {
            return Ok(compiled);
        }
        let compiled = self.compiled_of(&wasm::Source::read(file).map_err(failed)?, name, limit)?;
        if let Some(identity) = &identity {
            wasm::remember(cache, identity, &compiled).map_err(failed)?;
        }
        Ok(compiled)
    }

    /// The same of a program that is in memory.
    pub(super) fn compiled_of(
        &self,
        source: &wasm::Source,
        name: &str,
        limit: &Limit,
    ) -> Result<wasm::Compiled, Error> {
        let failed = |source| Error::Wasm { program: name.to_owned(), source };
        let cache = self.cache()?;
        wasm::compile(cache, source, &limit.compile).map_err(failed)
    }

    /// The directory of compiled code, which can be made now.
    fn cache(&self) -> Result<&Path, Error> {
        let above = self.wasm_cache.parent().unwrap_or(&self.wasm_cache);
        io("create", above, std::fs::create_dir_all(above))?;
        Ok(&self.wasm_cache)
    }
}

/// What an image turned out to be.
struct Found {
    engine: Engine,
    rootfs: Rootfs,
    root: OwnedFd,
    entry: rustix::io::Result<Entry>,
}

/// The first bytes of a program. One that is not there is for the Linux engine to miss, in Docker's words.
fn magic(entry: &rustix::io::Result<Entry>) -> &[u8] {
    entry.as_ref().map_or(&[][..], |entry| &entry.magic)
}

fn look(rootfs: &Rootfs) -> Result<OwnedFd, Error> {
    rootfs.look().map_err(|source| Error::Sys { what: "look at the root filesystem", source })
}

fn mount(rootfs: &Rootfs) -> Result<OwnedFd, Error> {
    let mounted = rootfs.recipe().detached(false);
    mounted.map_err(|source| Error::Sys { what: "mount the root filesystem", source })
}

fn image_name(image: &Image) -> String {
    image.names().first().map_or_else(|| image.id().short().to_owned(), |name| name.reference.familiar())
}

fn private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

fn config(create: &Create, image: &Image, id: &str) -> Config {
    let of_image = &image.config().config;
    let entrypoint = create.entrypoint.clone();
    let cmd = match (&create.args[..], &entrypoint) {
        ([], None) => of_image.cmd.clone(),
        (args, _) => args.to_vec(),
    };
    let mut labels = of_image.labels.clone();
    labels.extend(create.labels.iter().cloned());
    let or = |typed: &Option<String>, image: &str| typed.clone().unwrap_or_else(|| image.to_owned());
    Config {
        hostname: or(&create.hostname, &id[..12]),
        domainname: or(&create.domainname, ""),
        user: or(&create.user, &of_image.user),
        tty: create.tty,
        open_stdin: create.open_stdin,
        env: merged(&of_image.env, &create.env),
        exposed_ports: of_image
            .exposed_ports
            .keys()
            .chain(&create.exposed_ports)
            .map(|port| (port.clone(), Empty {}))
            .collect(),
        cmd,
        entrypoint: entrypoint.unwrap_or_else(|| of_image.entrypoint.clone()),
        working_dir: or(&create.working_dir, &of_image.working_dir),
        labels,
        stop_signal: or(&create.stop_signal, &of_image.stop_signal),
        stop_timeout: create.stop_timeout,
    }
}

/// The image's variables with the user's over them: each name once, at its first place.
fn merged(image: &[String], user: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for variable in image.iter().chain(user) {
        let name = |v: &str| v.split('=').next().unwrap_or_default().to_owned();
        match all.iter_mut().find(|known| name(known) == name(variable)) {
            Some(known) => known.clone_from(variable),
            None => all.push(variable.clone()),
        }
    }
    all
}

/// The program that a container will start, if it can be found.
fn entry(root: BorrowedFd<'_>, config: &Config) -> Result<rustix::io::Result<Entry>, Error> {
    let path = config.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
    Ok(Tree { root, binds: Vec::new() }.find(program(config)?, Path::new(&config.working_dir), path))
}

/// An image with nothing to start may be one of those that Envoy and Istio take plugins from.
fn why_no_command(error: Error, root: BorrowedFd<'_>) -> Error {
    let plugin = Tree { root, binds: Vec::new() }.find("/plugin.wasm", Path::new("/"), None);
    match error {
        Error::NoCommand if plugin.is_ok_and(|plugin| wasm::begins(&plugin.magic)) => Error::Plugin,
        error => error,
    }
}

/// What is to be started, as it is called.
fn program(config: &Config) -> Result<&str, Error> {
    config.entrypoint.iter().chain(&config.cmd).next().map(String::as_str).ok_or(Error::NoCommand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_given_once() {
        let of = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        assert_eq!(merged(&of(&["A=1", "PATH=/x"]), &of(&["PATH=/y", "B=2", "B=3"])), of(&["A=1", "PATH=/y", "B=3"]));
    }
}
