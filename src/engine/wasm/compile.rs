//! From a program's bytes to compiled code that is known to be able to start here.

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

#[cfg(target_os = "linux")]
use super::apart;
use super::cache::{Cache, Compiled, Key};
use super::grant::limit;
use super::identity::Identity;
use super::settings::{compiler, fingerprint};
use super::{Error, Kind, Source, cause, cause_with_names, offer};

/// The compiled code of the program in a file, if that was [`remember`]ed and has not changed since. Nothing of the
/// file is read.
pub fn recall(cache: &Path, file: &Identity) -> Result<Option<Compiled>, Error> {
    Cache::open(cache)?.recall(file)
}

/// Lets [`recall`] find `compiled`: the code of the program that was read from a file after `file` was taken of it.
pub fn remember(cache: &Path, file: &Identity, compiled: &Compiled) -> Result<(), Error> {
    if file.is_settled() { Cache::open(cache)?.remember(file, compiled) } else { Ok(()) }
}

/// The compiled code of `source`, from `cache` if it is there.
pub fn lookup(cache: &Path, source: &Source) -> Result<Option<Compiled>, Error> {
    let engine = compiler(offer::purpose(source, false))?;
    Cache::open(cache)?.get(&Key::new(source, &fingerprint(engine)))
}

/// The compiled code of `source`, from `cache` (a directory, made if its parent exists) or else compiled
/// now and kept there.
///
/// Compiling takes as long and as much memory as the bytes ask for: on Linux another process does it, within `limits`,
/// of which nothing is left when this returns. Our binary has to be one that knows the stage [`COMPILE`](super::COMPILE).
pub fn compile(cache: &Path, source: &Source, limits: &limit::Compile) -> Result<Compiled, Error> {
    keep(cache, source, limits.metered, |source| apart::compile(source, limits))
}

/// The same in this very process, where nothing limits it: for tests, and for who compiles what is their own.
pub fn compile_here(cache: &Path, source: &Source) -> Result<Compiled, Error> {
    keep(cache, source, false, |source| produce(source, false))
}

fn keep(
    cache: &Path,
    source: &Source,
    metered: bool,
    produce: impl FnOnce(&Source) -> Result<Vec<u8>, Error>,
) -> Result<Compiled, Error> {
    let purpose = offer::purpose(source, metered);
    if metered && purpose.serves() {
        return Err(Error::MeteredServer);
    }
    let engine = compiler(purpose)?;
    let cache = Cache::open(cache)?;
    let key = Key::new(source, &fingerprint(engine));
    if let Some(compiled) = cache.get(&key)? {
        return Ok(compiled);
    }
    cache.put(&key, source.kind, purpose, &produce(source)?)
}

/// The code of `source`, compiled here and now.
pub(super) fn produce(source: &Source, metered: bool) -> Result<Vec<u8>, Error> {
    let engine = compiler(offer::purpose(source, metered))?;
    match source.kind {
        Kind::Module => module(engine, &source.bytes),
        Kind::Component => component(engine, &source.bytes),
    }
}

/// Removes compiled code by the names that [`Compiled::name`] gave.
pub fn discard(cache: &Path, names: &[String]) -> Result<(), Error> {
    if names.is_empty() || !cache.exists() { Ok(()) } else { Cache::open(cache)?.discard(names) }
}

/// The names of the entries in the cache that are damaged. They would be made again when they are needed.
pub fn damaged(cache: &Path) -> Result<Vec<String>, Error> {
    if cache.exists() { Cache::open(cache)?.damaged() } else { Ok(Vec::new()) }
}

fn module(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let module =
        Module::from_binary(engine, bytes).map_err(|error| Error::Invalid { source: cause_with_names(&error) })?;
    offer::check_module(&module)?;
    module.serialize().map_err(|error| Error::Engine { source: cause(error) })
}

fn component(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let component =
        Component::from_binary(engine, bytes).map_err(|error| Error::Invalid { source: cause_with_names(&error) })?;
    offer::check_component(&component)?;
    component.serialize().map_err(|error| Error::Engine { source: cause(error) })
}

/// Elsewhere there is no process to make: the limits are those of the caller's own.
#[cfg(not(target_os = "linux"))]
mod apart {
    use super::{Error, Source, limit, produce};

    pub fn compile(source: &Source, limits: &limit::Compile) -> Result<Vec<u8>, Error> {
        produce(source, limits.metered)
    }
}
