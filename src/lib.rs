//! Wherry, a portable container engine: Linux and WebAssembly images behind one command line.
//!
//! The rooms hand each other tickets; see `docs/architecture.md`.

pub mod archive;
pub mod bundle;
#[cfg(target_os = "linux")]
pub mod cgroup;
pub mod cli;
pub mod config;
#[cfg(target_os = "linux")]
pub mod container;
pub mod content;
pub mod engine;
pub mod error;
pub mod event;
pub mod host;
pub mod image;
pub mod log;
pub mod oci;
pub mod reference;
pub mod registry;
#[cfg(target_os = "linux")]
pub mod runtime;
pub mod snapshot;
pub mod state;
pub mod sys;
#[cfg(target_os = "linux")]
pub mod task;
pub mod trust;
