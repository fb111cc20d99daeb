//! The three streams of a program: descriptors, read and written as they are.
//!
//! Nothing is buffered here, so nothing is lost when the process is ended by a signal, and output
//! arrives in the order in which it was written. Reading waits on the program's own thread, which has
//! nothing else to do. Only what can do several things at once makes us watch standard input: a program of WASI
//! 0.2 that polls, and every one of 0.3. Writing waits in all of them, for a reader that is slower.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as try_ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

#[cfg(unix)]
use crate::sys::ready;

/// The most that one call moves. The program names the size; we allocate it.
const MAX_CHUNK: usize = 64 << 10;

/// The three streams that a program gets.
#[derive(Debug)]
pub struct Stdio {
    /// Read by the program.
    pub stdin: File,
    /// Written by the program.
    pub stdout: File,
    /// Written by the program; a trap is reported here as well.
    pub stderr: File,
}

impl Stdio {
    /// This process's own three.
    pub fn inherit() -> io::Result<Self> {
        Ok(Self { stdin: duplicate(io::stdin())?, stdout: duplicate(io::stdout())?, stderr: duplicate(io::stderr())? })
    }
}

#[cfg(unix)]
fn duplicate(stream: impl std::os::fd::AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
fn duplicate(stream: impl std::os::windows::io::AsHandle) -> io::Result<File> {
    stream.as_handle().try_clone_to_owned().map(File::from)
}

/// An output stream.
#[derive(Clone)]
pub(super) struct Output {
    file: Arc<File>,
}

impl Output {
    pub(super) fn new(file: File) -> Self {
        Self { file: Arc::new(file) }
    }

    /// Writes a message of ours between the program's.
    pub(super) fn write_line(&self, text: &str) -> io::Result<()> {
        write_all(&self.file, format!("{text}\n").as_bytes())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.file.is_terminal()
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // A closed pipe is reported as what it is, EPIPE, and not as the end of the stream, which
        // preview 1 would call a general I/O error.
        write_all(&self.file, &bytes).map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_CHUNK)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(write_all(&self.file, bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes all of `bytes`, also to a descriptor that another process has set non-blocking.
fn write_all(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready::wait_writable(file)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The input stream.
#[derive(Clone)]
pub(super) struct Input {
    file: Arc<File>,
    watch: ready::Watch,
}

impl Input {
    pub(super) fn new(file: File) -> Self {
        let file = Arc::new(file);
        Self { watch: ready::Watch::new(&file), file }
    }

    /// Reads once; `None` when nothing is there and the descriptor does not wait.
    fn read_once(&self, size: usize) -> StreamResult<Option<Bytes>> {
        let mut buffer = vec![0; size.min(MAX_CHUNK)];
        match (&*self.file).read(&mut buffer) {
            Ok(0) => Err(StreamError::Closed),
            Ok(n) => {
                buffer.truncate(n);
                Ok(Some(buffer.into()))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.file.is_terminal()
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // A watch can wake one reader, so a second stream gets its own, which is of a descriptor of its own.
        match self.file.try_clone() {
            Ok(file) => Box::new(Self::new(file)),
            Err(error) => Box::new(Broken(Some(error))),
        }
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 || !ready::is_readable(&*self.file) {
            return Ok(Bytes::new());
        }
        Ok(self.read_once(size)?.unwrap_or_default())
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            match self.read_once(size)? {
                Some(bytes) => return Ok(bytes),
                None => self.ready().await,
            }
        }
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.watch.readable().await;
    }
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            try_ready!(self.watch.poll_readable(context));
            match (&*self.file).read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// An input stream that could not be made: the first read says why.
struct Broken(Option<io::Error>);

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.take().map_or(Ok(()), Err))
    }
}

/// Elsewhere a read waits, and polling standard input says that it is ready.
#[cfg(not(unix))]
mod ready {
    use std::fs::File;
    use std::io;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    pub fn is_readable(_file: &File) -> bool {
        true
    }

    #[derive(Clone)]
    pub struct Watch;

    impl Watch {
        pub fn new(_file: &Arc<File>) -> Self {
            Self
        }

        pub async fn readable(&self) {}

        pub fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    pub fn wait_writable(_file: &File) -> io::Result<()> {
        std::thread::yield_now();
        Ok(())
    }
}
