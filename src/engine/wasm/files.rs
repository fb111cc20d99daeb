//! Files as streams of WASI 0.2: what most of a component's input and output goes through.
//!
//! The engine's own hand every piece to a thread and have the program poll for the result, so that reading
//! 64 KiB takes two switches of threads and four calls. A regular file is never waited for, and the process has
//! nothing else to do: here the piece is read or written where it is asked for, and a read that returns
//! without data is the end of the file.
//!
//! What is not a regular file (a pipe, a device) might have to be waited for: it keeps the engine's stream.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::host::Host;
use super::offer::Link;
use crate::sys::positioned;

/// The interface whose functions are replaced, by the name under which the engine puts it into a linker.
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// The most that one call moves: large enough that the calls are few, small enough to stay in the processor's
/// second cache between the kernel, us and the program.
const MAX_CHUNK: usize = 256 << 10;

/// What a function that may fail returns to a component.
type Answer<T> = wasmtime::Result<(Result<Resource<T>, ErrorCode>,)>;

/// Replaces the functions that make a stream of a file, in a `linker` that has them.
pub(super) fn link(linker: &mut Link) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[method]descriptor.read-via-stream", |mut store: StoreContextMut<Host>, (file, offset)| {
        answer(read(store.data_mut(), file, offset))
    })?;
    types.func_wrap("[method]descriptor.write-via-stream", |mut store: StoreContextMut<Host>, (file, offset)| {
        answer(write(store.data_mut(), file, offset))
    })?;
    #[cfg(target_os = "linux")]
    types.func_wrap("[method]descriptor.append-via-stream", |mut store: StoreContextMut<Host>, (file,)| {
        answer(append(store.data_mut(), file))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn answer<T: 'static>(stream: FsResult<Resource<T>>) -> Answer<T> {
    match stream {
        Ok(stream) => Ok((Ok(stream),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn read(host: &mut Host, file: Resource<Descriptor>, offset: u64) -> FsResult<Resource<DynInputStream>> {
    let mut view = host.for_filesystem();
    match regular(view.table, &file)? {
        Some(file) => {
            let stream: DynInputStream = Box::new(Reader { file, offset });
            Ok(view.table.push(stream)?)
        }
        None => view.read_via_stream(file, offset),
    }
}

fn write(host: &mut Host, file: Resource<Descriptor>, offset: u64) -> FsResult<Resource<DynOutputStream>> {
    let mut view = host.for_filesystem();
    match writable(view.table, &file)? {
        Some(file) => push_writer(view.table, Writer { file, place: Place::At(offset), broken: false }),
        None => view.write_via_stream(file, offset),
    }
}

#[cfg(target_os = "linux")]
fn append(host: &mut Host, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
    let mut view = host.for_filesystem();
    match writable(view.table, &file)? {
        Some(file) => push_writer(view.table, Writer { file, place: Place::End, broken: false }),
        None => view.append_via_stream(file),
    }
}

fn push_writer(table: &mut ResourceTable, writer: Writer) -> FsResult<Resource<DynOutputStream>> {
    let stream: DynOutputStream = Box::new(writer);
    Ok(table.push(stream)?)
}

/// The file behind a descriptor, if it is a regular one.
fn regular(table: &ResourceTable, descriptor: &Resource<Descriptor>) -> FsResult<Option<Arc<File>>> {
    Ok(match table.get(descriptor)? {
        Descriptor::File(file) if file.file.metadata()?.is_file() => Some(file.file.clone()),
        _ => None,
    })
}

/// The same, if it is under a directory that was given to be written.
fn writable(table: &ResourceTable, descriptor: &Resource<Descriptor>) -> FsResult<Option<Arc<File>>> {
    if matches!(table.get(descriptor)?, Descriptor::File(file) if file.perms.write_not_permitted()) {
        return Err(FsError::from(ErrorCode::NotPermitted));
    }
    regular(table, descriptor)
}

/// Calls until a signal does not interrupt.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A file read from some place on.
struct Reader {
    file: Arc<File>,
    offset: u64,
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let bytes = uninterrupted(|| positioned::read_at(&self.file, size.min(MAX_CHUNK), self.offset))
            .map_err(|error| StreamError::LastOperationFailed(error.into()))?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.into())
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

/// Where the next byte is written.
enum Place {
    At(u64),
    #[cfg(target_os = "linux")]
    End,
}

/// A file written from some place on, or at its end.
struct Writer {
    file: Arc<File>,
    place: Place,
    /// Whether something could not be written: nothing can be, after it.
    broken: bool,
}

impl Writer {
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match uninterrupted(|| self.write_once(bytes))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => {
                    bytes = &bytes[written..];
                    self.advance(written as u64);
                }
            }
        }
        Ok(())
    }

    fn write_once(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.place {
            Place::At(offset) => positioned::write_at(&self.file, bytes, offset),
            #[cfg(target_os = "linux")]
            Place::End => positioned::append(&self.file, bytes),
        }
    }

    fn advance(&mut self, written: u64) {
        match &mut self.place {
            // Cannot overflow: the kernel takes no byte beyond 2^63.
            Place::At(offset) => *offset += written,
            #[cfg(target_os = "linux")]
            Place::End => {}
        }
    }

    fn open(&self) -> StreamResult<()> {
        if self.broken { Err(StreamError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.open()?;
        self.write_all(&bytes).map_err(|error| {
            self.broken = true;
            StreamError::LastOperationFailed(error.into())
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.open()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.open().map(|()| MAX_CHUNK)
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}
