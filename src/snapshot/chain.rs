//! A layer's identity: itself and all that is below it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Layer, LayerFormat};
use crate::sys::lease::Lease;
use crate::sys::lock::FileLock;

/// The identity of a layer on top of others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(Digest);

impl LayerId {
    /// The identities of an image's layers, base first. Of layers that are tar archives it is the chain id
    /// of the specification.
    pub fn of_chain(layers: &[Layer]) -> Vec<Self> {
        let mut ids: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            ids.push(Self::on(ids.last(), layer));
        }
        ids
    }

    /// `ChainID(L0) = DiffID(L0)`, `ChainID(Ln) = sha256(ChainID(Ln-1) " " DiffID(Ln))`.
    fn on(parent: Option<&Self>, layer: &Layer) -> Self {
        // The same bytes become other files when they are not taken for a tar archive.
        let own = match layer.format {
            LayerFormat::Tar(_) => layer.diff_id.to_string(),
            LayerFormat::Wasm => format!("wasm {}", layer.diff_id),
        };
        match (parent, layer.format) {
            (None, LayerFormat::Tar(_)) => Self(layer.diff_id.clone()),
            (None, LayerFormat::Wasm) => Self(Digest::sha256(own.as_bytes())),
            (Some(parent), _) => Self(Digest::sha256(format!("{} {own}", parent.0).as_bytes())),
        }
    }

    /// The identity of the layer in the directory of this name.
    pub(super) fn of_file_name(name: &str) -> Option<Self> {
        let algorithm = if name.len() == 64 { "sha256" } else { "sha512" };
        format!("{algorithm}:{name}").parse().ok().map(Self)
    }

    /// The name of its directory: hex digits only.
    pub(super) fn file_name(&self) -> &str {
        self.0.hex()
    }
}

impl std::fmt::Display for LayerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Layers that are there, all of them. As long as this lives, none is removed.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(super) ids: Vec<LayerId>,
    pub(super) dirs: Vec<PathBuf>,
    pub(super) _hold: Arc<Hold>,
}

/// What keeps a chain's layers from being removed.
#[derive(Debug)]
pub(super) enum Hold {
    /// All of them were there: it will not take long.
    Moment(#[expect(dead_code, reason = "it is held")] FileLock),
    /// Some were unpacked.
    Lease(#[expect(dead_code, reason = "it is held")] Lease),
}

impl Chain {
    /// The layers' identities, base first.
    pub fn ids(&self) -> &[LayerId] {
        &self.ids
    }

    /// The layers' directories, base first.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }
}
