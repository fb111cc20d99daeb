//! This machine's rooms, opened for one data root. Each is opened when it is first asked for, so that a
//! command pays for nothing that it does not use.

pub mod check;
pub mod gc;
pub mod make;
mod spare;
pub mod usage;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::config::{self, Place, Preferences, Settings};
#[cfg(target_os = "linux")]
use crate::container;
use crate::engine::wasm;
use crate::error::{Failure, Kind, tolerate};
use crate::event::{Actor, Event, Journal, Type};
use crate::oci::{Layer, Platform};
use crate::reference::Reference;
use crate::snapshot::LayerId;
use crate::state::Db;
use crate::{content, image, registry, snapshot, state, sys, trust};

/// The rooms.
pub struct Host {
    settings: Settings,
    rootless: bool,
    preferences: OnceCell<Preferences>,
    #[cfg(target_os = "linux")]
    ids: Option<sys::user::Ids>,
    db: OnceCell<Db>,
    content: OnceCell<content::Store>,
    images: OnceCell<image::Store>,
    snapshots: OnceCell<Arc<snapshot::Store>>,
    registry: OnceCell<registry::Client>,
    #[cfg(target_os = "linux")]
    containers: OnceCell<container::Store>,
}

/// Sees a pull happen, in both of its rooms.
pub trait PullProgress: image::Progress + snapshot::Progress {}

impl<T: image::Progress + snapshot::Progress> PullProgress for T {}

/// A room that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("cannot enter a user namespace to work in without root")]
    UserNamespace { source: sys::Error },
    #[error("cannot create {path:?}")]
    Directory { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("cannot find out how full the disk is")]
    Disk { source: sys::Error },
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Content(#[from] content::Error),
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error(transparent)]
    Make(#[from] make::Error),
    #[error("cannot remove compiled code")]
    Code(#[from] wasm::Error),
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Container(#[from] Box<container::Error>),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::UserNamespace { source } => source.kind(),
            Self::Directory { source, .. } => Kind::of_io(source),
            Self::Config(source) => source.kind(),
            Self::Disk { source } => source.kind(),
            Self::State(source) => source.kind(),
            Self::Content(source) => source.kind(),
            Self::Snapshot(source) => source.kind(),
            Self::Image(source) => source.kind(),
            Self::Make(source) => source.kind(),
            Self::Code(source) => source.kind(),
            #[cfg(target_os = "linux")]
            Self::Container(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UserNamespace { .. } => Some(
                "run as root, or let users have namespaces (sysctl kernel.unprivileged_userns_clone, \
                 kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces)"
                    .to_owned(),
            ),
            Self::State(source) => source.hint(),
            Self::Content(source) => source.hint(),
            Self::Snapshot(source) => source.hint(),
            Self::Image(source) => source.hint(),
            Self::Make(source) => source.hint(),
            Self::Code(source) => source.hint(),
            #[cfg(target_os = "linux")]
            Self::Container(source) => source.hint(),
            Self::Directory { .. } | Self::Config(_) | Self::Disk { .. } => None,
        }
    }
}

impl Host {
    /// The host of the data root in `settings`. An ordinary user on Linux works in a user namespace from
    /// here on, so this comes before the first thread.
    pub fn open(settings: Settings, privileged: bool) -> Result<Self, Error> {
        let create = |path: &std::path::Path| {
            let made = std::fs::create_dir_all(path);
            made.map_err(|source| Error::Directory { path: path.to_owned(), source })
        };
        create(&settings.root)?;
        #[cfg(target_os = "linux")]
        let ids = (!privileged).then(sys::user::enter_user_namespace).transpose();
        Ok(Self {
            settings,
            rootless: !privileged,
            preferences: OnceCell::new(),
            #[cfg(target_os = "linux")]
            ids: ids.map_err(|source| Error::UserNamespace { source })?,
            db: OnceCell::new(),
            content: OnceCell::new(),
            images: OnceCell::new(),
            snapshots: OnceCell::new(),
            registry: OnceCell::new(),
            #[cfg(target_os = "linux")]
            containers: OnceCell::new(),
        })
    }

    /// Where everything is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the admin set, which is read when it is first needed.
    pub fn preferences(&self) -> Result<&Preferences, Error> {
        once(&self.preferences, || Ok(Preferences::read(&self.settings.preferences)?))
    }

    /// Whether an ordinary user asks.
    pub fn rootless(&self) -> bool {
        self.rootless
    }

    /// The database.
    pub fn db(&self) -> Result<&Db, Error> {
        Ok(self.db.get_or_init(|| Db::at(&self.settings.root.join("db.sqlite"))))
    }

    /// The blobs.
    pub fn content(&self) -> Result<&content::Store, Error> {
        once(&self.content, || Ok(content::Store::open(&self.settings.root.join("content"))?))
    }

    /// The images.
    pub fn images(&self) -> Result<&image::Store, Error> {
        let judge = image::Judge { offers: wasm::offers, refuses: wasm::refuses };
        once(&self.images, || Ok(image::Store::new(self.db()?.clone(), self.content()?.clone(), judge, self.guard())))
    }

    /// The keeper of the signature policy.
    pub fn guard(&self) -> trust::Guard {
        match &self.settings.policy {
            Place::Named(path) => trust::Guard::named(path.clone()),
            Place::Standard(places) => trust::Guard::standard(places.clone()),
        }
    }

    /// The layers.
    pub fn snapshots(&self) -> Result<&Arc<snapshot::Store>, Error> {
        let open = || Ok(Arc::new(snapshot::Store::open(&self.settings.root.join(layers()))?));
        once(&self.snapshots, open)
    }

    /// The journal of what happened.
    pub fn journal(&self) -> Journal {
        Journal::new(&self.settings.run)
    }

    /// Writes down that something happened to an image. That it could not be is no reason to undo it.
    pub fn note_image(&self, action: &str, id: &str, name: &str) {
        let actor = Actor { id: id.to_owned(), ..Actor::default() }.with("name", name);
        tolerate(self.journal().note(&Event::now(Type::Image, action, actor)));
    }

    /// The client of all registries.
    pub fn registry(&self) -> &registry::Client {
        self.registry.get_or_init(|| {
            let directories = self.settings.certificates.clone();
            registry::Client::new(self.credentials(), registry::Patience::default(), directories)
        })
    }

    /// What registries have said to the user since this was last asked.
    pub fn notices(&self) -> Vec<String> {
        self.registry.get().map(registry::Client::notices).unwrap_or_default()
    }

    /// Where logins are kept.
    pub fn credentials(&self) -> registry::Credentials {
        let search_path = self.settings.search_path.clone();
        let directory = self.settings.docker_config.as_deref();
        directory.map(|d| registry::Credentials::in_directory(d, search_path)).unwrap_or_default()
    }

    /// The containers.
    #[cfg(target_os = "linux")]
    pub fn containers(&self) -> Result<&container::Store, Error> {
        once(&self.containers, || {
            Ok(container::Store::new(self.db()?.clone(), self.snapshots()?.clone(), self.places()))
        })
    }

    /// Where containers are; enough for a program that runs without one.
    #[cfg(target_os = "linux")]
    pub fn places(&self) -> container::Places {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let Settings { root, run, .. } = &self.settings;
        container::Places {
            containers: root.join("containers"),
            run: run.clone(),
            wasm_cache: root.join("cache/wasm"),
            arguments: vec!["--root".to_owned(), text(root), "--run-root".to_owned(), text(run)],
            ids: self.ids.clone(),
        }
    }

    /// The directories of an image's layers, which are unpacked if they are not yet.
    pub fn unpack(&self, layers: &[Layer], progress: &dyn snapshot::Progress) -> Result<snapshot::Chain, Error> {
        Ok(self.snapshots()?.unpack(self.content()?, layers, progress)?)
    }

    /// Pulls an image and unpacks its layers while they come, and keeps the blobs that they come as, or does not: as the
    /// configuration says, unless it is said here. Both must have come right before the image has its
    /// name; when either fails, what is told is what went wrong first of all: the download's failure, if it has one.
    pub fn pull(
        &self,
        runtime: &tokio::runtime::Runtime,
        reference: &Reference,
        platform: Option<&Platform>,
        keep_blobs: Option<bool>,
        progress: &dyn PullProgress,
    ) -> Result<(image::Pulled, snapshot::Chain), Error> {
        // Whether it can be understood is known before anything is fetched.
        let keep = keep_blobs.unwrap_or(self.preferences()?.storage.keep_blobs);
        // What is unpacked now stays so until the end.
        let held = OnceCell::new();
        let unpacked = |layers: &[Layer]| {
            let hold = || self.snapshots()?.hold(&LayerId::of_chain(layers)).map_err(Error::from);
            once(&held, hold).map_or_else(|_| Vec::new(), |_| self.unpacked(layers))
        };
        let spare: Option<&image::Unpacked<'_>> = if keep { None } else { Some(&unpacked) };
        let found = runtime.block_on(self.images()?.find(self.registry(), reference, platform, spare, progress))?;
        let chain = match self.fetch_and_unpack(runtime, &found, progress) {
            // All of it has come, and is of no use. What is told is why, and not how tidying up went.
            Err(Error::Snapshot(refusal)) if refusal.is_refusal() => {
                tolerate(found.discard());
                tolerate(self.sweep_layers());
                return Err(refusal.into());
            }
            unpacked => unpacked?,
        };
        let pulled = found.register()?;
        self.keep_or_drop(&pulled.image, reference, keep)?;
        self.note_image("pull", &reference.familiar(), &reference.name());
        Ok((pulled, chain))
    }

    /// The name of each image in the repository of `reference`.
    pub fn all_tags(
        &self,
        runtime: &tokio::runtime::Runtime,
        reference: &Reference,
        progress: &dyn PullProgress,
    ) -> Result<Vec<Reference>, Error> {
        Ok(runtime.block_on(self.images()?.all_tags(self.registry(), reference, progress))?)
    }

    fn fetch_and_unpack(
        &self,
        runtime: &tokio::runtime::Runtime,
        found: &image::Found,
        progress: &dyn PullProgress,
    ) -> Result<snapshot::Chain, Error> {
        let (snapshots, incoming, layers) = (self.snapshots()?, found.incoming(), found.image().layers());
        let open = |layer: &Layer| {
            let bytes = incoming.open(layer).map_err(|source| snapshot::Error::Blob {
                digest: layer.blob.digest.clone(),
                source: Box::new(source),
            })?;
            Ok(snapshot::Source { bytes, size: layer.blob.size })
        };
        let (fetched, unpacked) = std::thread::scope(|scope| {
            let unpacking = scope.spawn(|| snapshots.unpack_from(&open, layers, progress));
            let fetched = runtime.block_on(found.fetch(progress));
            (fetched, unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        match (fetched, unpacked) {
            (Ok(()), Ok(chain)) => Ok(chain),
            // It was made of bytes that were fetched once more since.
            (Ok(()), Err(_)) if incoming.spoilt() => self.unpack(layers, progress),
            (Ok(()) | Err(image::Error::Abandoned), Err(error)) => {
                if error.kind() == Kind::ResourceExhausted {
                    found.free_space();
                }
                Err(error.into())
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Removes the layers that no image and no container needs; none while layers are in use.
    pub fn sweep_layers(&self) -> Result<(), Error> {
        self.snapshots()?.sweep(|| self.needed_layers()).map(drop)
    }

    /// Removes the compiled code that no image and no container has any more.
    pub fn sweep_code(&self) -> Result<(), Error> {
        let images = self.images()?.list()?;
        #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "containers are for Linux"))]
        let mut there: HashSet<String> = images.iter().map(|image| image.id().to_string()).collect();
        #[cfg(target_os = "linux")]
        for container in self.containers()?.list().map_err(Box::new)? {
            there.insert(container.record.image_id.to_string());
        }
        let unused = self.db()?.compiled().forget(|image| there.contains(image))?;
        Ok(wasm::discard(&self.settings.root.join("cache/wasm"), &unused)?)
    }

    fn needed_layers(&self) -> Result<HashSet<LayerId>, Error> {
        let mut needed = self.layers_of_containers()?;
        needed.extend(self.images()?.list()?.iter().flat_map(|image| LayerId::of_chain(image.layers())));
        Ok(needed)
    }
}

/// The directory of the layers. A user who is alone owns all of their files, which would be wrong layers once there
/// are other users to own them.
fn layers() -> &'static str {
    #[cfg(target_os = "linux")]
    if sys::user::is_alone() {
        return "layers-alone";
    }
    "layers"
}

fn once<T>(cell: &OnceCell<T>, open: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    if let Some(opened) = cell.get() {
        return Ok(opened);
    }
    let opened = open()?;
    Ok(cell.get_or_init(|| opened))
}
