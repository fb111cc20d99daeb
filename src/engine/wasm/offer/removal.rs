//! Removing a directory by a name that ends in a slash: `rmdir d/`.
//!
//! POSIX removes `d`, and so do Linux, wasi-libc's programs and the test suite of WASI expect. The engine takes the name for
//! `d/.`, which no system removes, so the slashes are taken off on the way to it. A file or a link by such a name is
//! no directory without the slash either.

use wasmtime::component::Resource;
use wasmtime::{AsContextMut, Caller, Extern, Linker, StoreContextMut, bail};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor};
use wiggle::GuestMemory;

use super::{Host, Link, PREVIEW1};

/// The interface whose function is replaced, by the name under which the engine puts it into a linker.
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// Replaces preview 1's function, in a `linker` that has it.
pub(super) fn link_module(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap_async(PREVIEW1, "path_remove_directory", |mut caller, (directory, path, length)| {
        Box::new(async move { remove(&mut caller, directory, path, length).await })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn remove(caller: &mut Caller<'_, Host>, directory: i32, path: i32, length: i32) -> wasmtime::Result<i32> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let memory = caller.get_export("memory");
    let (mut memory, host, length) = match &memory {
        Some(Extern::Memory(memory)) => {
            let (bytes, host) = memory.data_and_store_mut(caller);
            let length = cut(bytes, path as u32, length as u32) as i32;
            (GuestMemory::Unshared(bytes), host, length)
        }
        // Others may write to it meanwhile, so nothing is looked at here.
        Some(Extern::SharedMemory(memory)) => (GuestMemory::Shared(memory.data()), caller.data_mut(), length),
        _ => bail!("the program exports no memory"),
    };
    let wasi = host.for_preview1();
    wasi.set_hostcall_fuel(fuel);
    preview1::path_remove_directory(wasi, &mut memory, directory, path, length).await
}

/// How long the name at `start` is without the slashes at its end. One that is not in `memory` stays what it is.
fn cut(memory: &[u8], start: u32, length: u32) -> u32 {
    let end = (start as usize).checked_add(length as usize);
    let name = end.and_then(|end| memory.get(start as usize..end));
    name.map_or(length, |name| without_slashes(name).len() as u32)
}

/// A name without the slashes at its end; the root keeps its one.
fn without_slashes(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(name.len().min(1), |last| last + 1);
    &name[..end]
}

/// Replaces WASI 0.2's function, in a `linker` that has it.
pub(super) fn link_component(linker: &mut Link) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap_async("[method]descriptor.remove-directory-at", |store, (directory, path)| {
        Box::new(remove_at(store, directory, path))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn remove_at(
    mut store: StoreContextMut<'_, Host>,
    directory: Resource<Descriptor>,
    mut path: String,
) -> wasmtime::Result<(Result<(), ErrorCode>,)> {
    path.truncate(without_slashes(path.as_bytes()).len());
    match store.data_mut().for_filesystem().remove_directory_at(directory, path).await {
        Ok(()) => Ok((Ok(()),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_are_taken_off() {
        for (name, left) in [("d/", "d"), ("d", "d"), ("a/b///", "a/b"), ("/", "/"), ("//", "/"), ("", ""), ("./", ".")]
        {
            assert_eq!(without_slashes(name.as_bytes()), left.as_bytes(), "{name}");
        }
    }

    #[test]
    fn a_name_outside_of_memory_is_left_to_the_engine() {
        assert_eq!(cut(b"d/", 0, 2), 1);
        assert_eq!(cut(b"d/", 0, 3), 3);
        assert_eq!(cut(b"d/", u32::MAX, u32::MAX), u32::MAX);
    }
}
