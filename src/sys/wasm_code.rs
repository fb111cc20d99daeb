//! Mapping compiled WebAssembly: the one place where bytes from a file become native code.
//!
//! Wasmtime checks that such a file is of its own version, settings and processor, but not that the
//! machine code in it is harmless; it must never come from an image, a registry or another user. The
//! argument type carries that: a [`PrivateFile`] comes only out of a directory that nobody else can
//! write. That its *content* is what wasmtime's compiler made is the caller's part, as it is the only
//! writer of that directory.

#![expect(unsafe_code, reason = "deserialising native code is unsafe in wasmtime")]

use std::fs::File;
use std::io::{self, Read, Seek};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::private_dir::PrivateFile;

/// Maps a compiled module, copy-on-write; its code and data are paged in as they are used.
pub fn module(engine: &Engine, file: PrivateFile) -> wasmtime::Result<Module> {
    // SAFETY: the type says that only this user can have written the file, and it is replaced by
    // rename, never changed in place, so it stays as it is for as long as it is mapped.
    unsafe { Module::deserialize_open_file(engine, file.into_file()) }
}

/// Maps a compiled component, or reads it where it cannot be mapped.
///
/// For components wasmtime takes a path instead of an open file. A path can be trusted only if it leads
/// to what is open already, which the kernel's links to descriptors do, and not on any other. Reading
/// costs a copy of the code, and another of the data at every instantiation.
pub fn component(engine: &Engine, file: PrivateFile) -> wasmtime::Result<Component> {
    if let Some(path) = path_of(file.as_file()) {
        // SAFETY: as for `module`; the path is the kernel's own name for the open file.
        if let Ok(component) = unsafe { Component::deserialize_file(engine, path) } {
            return Ok(component);
        }
        // The file may belong to a user that this process is no longer: opening it again is refused.
    }
    let bytes = contents(file.as_file())?;
    // SAFETY: as for `module`; and the bytes are a copy of our own from here on.
    unsafe { Component::deserialize(engine, &bytes) }
}

/// The kernel's link to an open file, if there is a real proc filesystem. In a container `/proc` may be
/// missing, or a directory of the image that pretends.
#[cfg(target_os = "linux")]
fn path_of(file: &File) -> Option<String> {
    use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat};
    use std::os::fd::AsRawFd;

    // Without following a link: then it is a mount of this namespace, which nobody else can change.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let proc = openat(CWD, "/proc", flags, Mode::empty()).ok()?;
    let genuine = fstatfs(&proc).ok()?.f_type == PROC_SUPER_MAGIC;
    genuine.then(|| format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn path_of(_file: &File) -> Option<String> {
    None
}

fn contents(mut file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    file.rewind()?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}
