//! Where files cannot be opened without following links, there are no stores.

use std::io;
use std::path::Path;

/// Why something cannot be done with a store.
#[derive(Debug)]
pub enum Failed {
    /// Nothing is called so.
    NoSuchStore,
    /// It can only be read.
    Denied,
    /// Another reason.
    Other(String),
}

/// A store that cannot be.
#[derive(Clone, Debug)]
pub enum Store {}

impl Store {
    pub(super) fn open(_volume: &Path, _below: &Path, _readonly: bool) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "there are no stores on this system"))
    }

    pub(super) fn get(&self, _key: &str) -> Result<Option<Vec<u8>>, Failed> {
        match *self {}
    }

    pub(super) fn set(&self, _key: &str, _value: &[u8]) -> Result<(), Failed> {
        match *self {}
    }

    pub(super) fn delete(&self, _key: &str) -> Result<(), Failed> {
        match *self {}
    }

    pub(super) fn exists(&self, _key: &str) -> Result<bool, Failed> {
        match *self {}
    }

    pub(super) fn increment(&self, _key: &str, _delta: u64) -> Result<u64, Failed> {
        match *self {}
    }

    pub(super) fn keys(&self) -> Result<Vec<String>, Failed> {
        match *self {}
    }
}
