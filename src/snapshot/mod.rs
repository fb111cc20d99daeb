//! Layers on disk, and root filesystems made of them.
//!
//! Takes an image's layers and the content store; returns a [`Chain`] of directories, and of that a
//! [`Rootfs`] for one container.
//!
//! ```text
//! layers/                     0700: a layer holds set-id programs that no local user may reach
//!   store.json                how this store is marked, found out once (`store`)
//!   lock                      shared by who uses layers for a moment, exclusive to remove some
//!   leases/<pid>.<n>          the ids of the layers that a process unpacks, those below them included
//!   <chain id>/               complete, flushed, never changed again
//!     diff/                   the layer's own files and marks
//!     layer.json              its diffID, its parent, entries and bytes
//!   tmp/<chain id>/           being unpacked; or left by a crash, then nobody holds …
//!   tmp/<chain id>.lock       … this lock, and no lease names it
//! ```
//!
//! **Keyed by chain id** (image-spec config.md, "Layer ChainID"), not by diffID: what a layer unpacks to can
//! depend on the layers below (`unpack`). Layers of a chain are unpacked at the same time all the same;
//! each waits for those below only if its archive leaves something out, and at the end. A chain is
//! committed base first, after one flush of the filesystem for up to [`BATCH`] layers rather than one for
//! each file: a power cut leaves a layer either complete or as a temporary.
//!
//! It does not know images' names, nor containers: who removes layers says which to keep.

mod chain;
mod check;
mod copy;
mod decompress;
mod diff;
mod error;
mod mark;
mod meta;
mod pack;
mod path;
mod prepare;
mod rootfs;
mod seal;
mod store;
pub mod tar;
mod unpack;
mod view;

#[cfg(test)]
mod tests;

pub use chain::{Chain, LayerId};
pub use check::{Fault, Leftovers};
pub use decompress::{MAX_OUTPUT, MAX_RATIO, MAX_WINDOW_LOG, inflate};
pub use error::{Error, Refusal};
pub use mark::Marks;
pub use path::{Invalid, MAX_DEPTH};
pub use prepare::{BATCH, Progress, Source};
pub use rootfs::Rootfs;
pub use store::{Store, Swept};
