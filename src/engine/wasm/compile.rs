//! From a program's bytes to compiled code that is known to be able to start here.

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::{Cache, Compiled, Key};
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
    Cache::open(cache)?.get(&Key::new(source, &fingerprint(compiler()?)))
}

/// The compiled code of `source`, from `cache` (a directory, made if its parent exists) or else compiled
/// now and kept there.
///
/// Compiling takes as long and as much memory as the bytes ask for. A caller that cannot bear that runs
/// it in a child with limits, and [`lookup`]s when that has ended well.
pub fn compile(cache: &Path, source: &Source) -> Result<Compiled, Error> {
    let engine = compiler()?;
    let cache = Cache::open(cache)?;
    let key = Key::new(source, &fingerprint(engine));
    if let Some(compiled) = cache.get(&key)? {
        return Ok(compiled);
    }
    let code = match source.kind {
        Kind::Module => module(engine, &source.bytes)?,
        Kind::Component => component(engine, &source.bytes)?,
    };
    cache.put(&key, source.kind, &code)
}

/// Removes compiled code by the names that [`Compiled::name`] gave.
pub fn discard(cache: &Path, names: &[String]) -> Result<(), Error> {
    if names.is_empty() || !cache.exists() { Ok(()) } else { Cache::open(cache)?.discard(names) }
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
