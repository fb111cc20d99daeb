//! The root filesystem of one container: what is written into its record, and mounted when it starts.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys;
use crate::sys::dir::Dir;
use crate::sys::mount::{MAX_LOWER, Recipe};
use crate::sys::tree::bytes_in;

use super::chain::Chain;
use super::copy;
use super::error::Error;
use super::mark::Marks;
use super::meta::Meta;
use super::store::{Store, failed, make_private_dir};

/// The names in a container's directory.
const UPPER: &str = "upper";
const WORK: &str = "work";
const COPY: &str = "rootfs";

/// A container's root filesystem. What kind it is was chosen when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Rootfs {
    /// The layers, shared, and a directory for what the container writes.
    Overlay {
        /// The layers' directories, base first.
        layers: Vec<PathBuf>,
        /// What the container wrote.
        upper: PathBuf,
        /// The kernel's.
        work: PathBuf,
        /// Whether marks are `user.overlay.*`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        userxattr: bool,
    },
    /// A directory with a copy of everything.
    Copy {
        /// The directory.
        dir: PathBuf,
    },
    /// The layers, to be looked at; there is no place for what a container writes.
    Layers {
        /// The layers' directories, base first.
        layers: Vec<PathBuf>,
        /// Whether marks are `user.overlay.*`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        userxattr: bool,
    },
}

impl Store {
    /// Makes a root filesystem of the chain in the directory `container_dir`: an overlay, or a copy where
    /// this store found no overlay, or where there are more layers than the kernel stacks.
    pub fn rootfs(&self, chain: &Chain, container_dir: &Path) -> Result<Rootfs, Error> {
        let marks = self.marks()?;
        if marks == Marks::Plain || chain.dirs().len() > MAX_LOWER || chain.dirs().is_empty() {
            return self.copied_rootfs(chain, container_dir, marks);
        }
        let [upper, work] = [UPPER, WORK].map(|name| container_dir.join(name));
        make_private_dir(&upper)?;
        make_private_dir(&work)?;
        let top = chain.dirs().last().expect("not empty");
        // The merged root shows the upper directory's attributes.
        like_root_of(top, &upper, marks, self).map_err(|e| failed("describe", &upper, e))?;
        Ok(Rootfs::Overlay { layers: chain.dirs().to_vec(), upper, work, userxattr: marks == Marks::User })
    }

    /// Makes of the chain what can be looked at and not written, for a container whose program sees nothing of it. It costs
    /// nothing and leaves nothing, unless [`Store::rootfs`] would have to copy several layers.
    pub fn layers(&self, chain: &Chain, container_dir: &Path) -> Result<Rootfs, Error> {
        let marks = self.marks()?;
        match chain.dirs().len() {
            1 => {}
            2..=MAX_LOWER if marks != Marks::Plain => {}
            _ => return self.copied_rootfs(chain, container_dir, marks),
        }
        Ok(Rootfs::Layers { layers: chain.dirs().to_vec(), userxattr: marks == Marks::User })
    }

    pub(super) fn copied_rootfs(&self, chain: &Chain, container_dir: &Path, marks: Marks) -> Result<Rootfs, Error> {
        let dir = container_dir.join(COPY);
        make_private_dir(&dir)?;
        let fail = |e| failed("copy the layers to", &dir, e);
        let target = Dir::open(&dir).map_err(fail)?;
        target.forget_default_acl().map_err(fail)?;
        // What an interrupted attempt left.
        copy::clear(&target).map_err(fail)?;
        copy::layers(chain.dirs(), &target, marks, self.powers()).map_err(fail)?;
        Ok(Rootfs::Copy { dir })
    }
}

fn like_root_of(layer: &Path, upper: &Path, marks: Marks, store: &Store) -> sys::Result<()> {
    let (from, to) = (Dir::open(layer)?, Dir::open(upper)?);
    to.forget_default_acl()?;
    let meta = Meta::of_stored(&from.info_of_self()?, from.own_xattrs()?, marks, marks, store.powers());
    meta.put_on_dir(&to, store.powers())
}

impl Rootfs {
    /// How to mount it.
    pub fn recipe(&self) -> Recipe {
        match self {
            Self::Overlay { layers, upper, work, userxattr } => Recipe::Overlay {
                lower: layers.iter().rev().cloned().collect(),
                upper: Some(upper.clone()),
                work: Some(work.clone()),
                userxattr: *userxattr,
            },
            Self::Copy { dir } => Recipe::Bind { source: dir.clone() },
            Self::Layers { layers, userxattr } => match &layers[..] {
                [only] => Recipe::Bind { source: only.clone() },
                layers => Recipe::Overlay {
                    lower: layers.iter().rev().cloned().collect(),
                    upper: None,
                    work: None,
                    userxattr: *userxattr,
                },
            },
        }
    }

    /// A handle to its root directory, to look for something in it. Nothing is mounted unless it has to be: the end of a
    /// mount is waited for.
    pub fn look(&self) -> sys::Result<OwnedFd> {
        match self {
            Self::Layers { layers, .. } if layers.len() == 1 => Dir::open(&layers[0]).map(OwnedFd::from),
            Self::Copy { dir } => Dir::open(dir).map(OwnedFd::from),
            _ => self.recipe().detached(true),
        }
    }

    /// A handle to the root directory of all that the container has, to be read, also while it runs: a second mount that
    /// could be written would be against overlayfs's rules, so what the container wrote is one more layer of this one.
    pub fn contents(&self) -> sys::Result<OwnedFd> {
        let Self::Overlay { layers, upper, userxattr, .. } = self else { return self.look() };
        let lower = [upper.clone()].into_iter().chain(layers.iter().rev().cloned()).collect();
        Recipe::Overlay { lower, upper: None, work: None, userxattr: *userxattr }.detached(true)
    }

    /// Bytes of the files that are not in the layers: what the container wrote, or the whole copy.
    pub fn written(&self) -> u64 {
        match self {
            Self::Overlay { upper, .. } => bytes_in(upper),
            Self::Copy { dir } => bytes_in(dir),
            Self::Layers { .. } => 0,
        }
    }

    /// Removes what [`Store::rootfs`] made and the container wrote. It must not be mounted any more. What is
    /// already gone is fine.
    pub fn remove(&self, container_dir: &Path) -> Result<(), Error> {
        let names: &[&str] = match self {
            Self::Overlay { .. } => &[UPPER, WORK],
            Self::Copy { .. } => &[COPY],
            Self::Layers { .. } => return Ok(()),
        };
        let fail = |e| failed("remove the root filesystem in", container_dir, e);
        let dir = Dir::open(container_dir).map_err(fail)?;
        names.iter().try_for_each(|name| dir.remove_tree(OsStr::new(name))).map_err(fail)
    }
}
