//! What bytes are, by their first few: decided here once, never by a file's name or an image's word.

use std::io::{self, Read};

use super::Error;

/// The largest program that is read: ten times CPython with its standard library (26 MB), and a fifth of
/// what V8 accepts. The compiler needs some ten times the program's size in memory.
pub const MAX_WASM_BYTES: u64 = 256 << 20;

/// How a binary in text form is called in an error.
pub(super) const TEXT: &str = "it is WebAssembly text (.wat)";

const MAGIC: &[u8; 4] = b"\0asm";
const ELF: &[u8; 4] = b"\x7fELF";
/// Where an ELF file names the system that it is for, and what Wasmtime writes there.
const ELF_OSABI: usize = 7;
const OSABI_WASMTIME: u8 = 200;
const MODULE: &[u8; 4] = &[1, 0, 0, 0];
const COMPONENT: &[u8; 4] = &[0x0d, 0, 1, 0];
/// Enough to tell: the magic number and the layer.
const PREFIX: usize = 8;

/// The memory to begin with: many programs fit, and no file is read in small pieces.
const FIRST_READ: usize = 256 << 10;

/// The two shapes of a WebAssembly binary that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A core module: WASI preview 1.
    Module,
    /// A component: WASI 0.2.
    Component,
}

/// A program's bytes, known to begin as WebAssembly and to be of a bearable size.
pub struct Source {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

/// The kind of program whose first bytes (8 suffice) are given; `None` when it is not WebAssembly.
pub fn sniff(first: &[u8]) -> Option<Kind> {
    let layer = first.strip_prefix(MAGIC)?.first_chunk::<4>()?;
    match layer {
        MODULE => Some(Kind::Module),
        COMPONENT => Some(Kind::Component),
        _ => None,
    }
}

/// Whether a program that begins so is this engine's to run, or to refuse in its own words: WebAssembly of any
/// version, or the machine code that a Wasmtime made of it, whose ELF header names Wasmtime as the system it is for.
pub fn begins(first: &[u8]) -> bool {
    first.starts_with(MAGIC) || (first.starts_with(ELF) && first.get(ELF_OSABI) == Some(&OSABI_WASMTIME))
}

/// Why a program whose first bytes (8 suffice) are given is none that runs.
pub fn refuses(first: &[u8]) -> Option<String> {
    judge(&first[..first.len().min(PREFIX)]).err().map(|error| error.to_string())
}

impl Source {
    /// Reads a program, [`MAX_WASM_BYTES`] at the most. The first bytes are judged before the rest is read.
    pub fn read(mut from: impl Read) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(FIRST_READ);
        let mut read = |bytes: &mut Vec<u8>, limit: u64| {
            from.by_ref().take(limit).read_to_end(bytes).map_err(|source| Error::Read { source })
        };
        read(&mut bytes, PREFIX as u64)?;
        let kind = judge(&bytes)?;
        read(&mut bytes, MAX_WASM_BYTES + 1 - PREFIX as u64)?;
        if bytes.len() as u64 > MAX_WASM_BYTES {
            return Err(Error::TooLarge { limit: MAX_WASM_BYTES });
        }
        Ok(Self { kind, bytes })
    }

    /// The program's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The shape that the bytes say they have.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl TryFrom<Vec<u8>> for Source {
    type Error = Error;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::read(io::Cursor::new(bytes))
    }
}

fn judge(first: &[u8]) -> Result<Kind, Error> {
    sniff(first).ok_or_else(|| describe(first))
}

/// Says what the bytes are when they are not a program.
fn describe(first: &[u8]) -> Error {
    let not_wasm = |found: &str| Error::NotWasm { found: found.into() };
    match first {
        [] => not_wasm("it is empty"),
        // Wasmtime's own artefacts are ELF; so are the native programs that are mistaken for Wasm.
        [0x7f, b'E', b'L', b'F', ..] => Error::Precompiled,
        [0, b'a', b's', b'm'] => not_wasm("it ends after the magic number"),
        [0, b'a', b's', b'm', version @ ..] => {
            not_wasm(&format!("its version {version:02x?} is neither that of a module nor of a component"))
        }
        [0x1f, 0x8b, ..] => not_wasm("it is compressed (gzip)"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => not_wasm("it is compressed (zstd)"),
        [b'#', b'!', ..] => not_wasm("it is a script"),
        _ if is_text(first) => not_wasm(TEXT),
        _ => not_wasm(&format!("it begins with {first:02x?}")),
    }
}

/// Whether it may be a `.wat`: a parenthesis, or a comment, after white space.
fn is_text(first: &[u8]) -> bool {
    let start = first.trim_ascii_start();
    start.starts_with(b"(") || start.starts_with(b";;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_tells_modules_from_components() {
        assert_eq!(sniff(b"\0asm\x01\0\0\0rest"), Some(Kind::Module));
        assert_eq!(sniff(b"\0asm\x0d\0\x01\0"), Some(Kind::Component));
        for other in
            [&b""[..], b"\0asm", b"\0asm\x02\0\0\0", b"\0asm\x0d\0\0\0", b"\x7fELF\x01\0\0\0", b"asm\0\x01\0\0\0"]
        {
            assert_eq!(sniff(other), None, "{other:02x?}");
        }
    }

    #[test]
    fn code_that_a_wasmtime_compiled_is_not_taken_for_a_linux_program() {
        use super::super::settings::{Purpose, compiler};
        let engine = compiler(Purpose::Command).unwrap();
        let code = engine.precompile_module(b"\0asm\x01\0\0\0").unwrap();
        assert!(begins(&code[..8]), "{:02x?}", &code[..8]);
        assert!(begins(b"\0asm\x02\0\0\0") && begins(b"\0asm"));
        assert!(!begins(b"\x7fELF\x02\x01\x01\0") && !begins(b"#!/bin/s") && !begins(b""));
    }

    #[test]
    fn what_is_not_wasm_is_named() {
        let said = |bytes: &[u8]| Source::read(bytes).err().expect("refused").to_string();
        assert!(said(b"").contains("empty"));
        assert!(said(b"\x7fELF\x02\x01\x01\0anything").contains("native machine code"));
        assert!(said(b"  (module)").contains("text"));
        assert!(said(b";; a comment").contains("text"));
        assert!(said(b"#!/bin/sh\n").contains("script"));
        assert!(said(b"\x1f\x8b\x08\0\0\0\0\0").contains("gzip"));
        assert!(said(b"\0asm").contains("ends after"));
        assert!(said(b"\0asm\x02\0\0\0").contains("version [02, 00, 00, 00]"));
        assert!(said(b"hello, world").contains("begins with [68"));
    }

    #[test]
    fn more_than_the_limit_is_refused_without_reading_on() {
        let endless = io::Read::chain(&b"\0asm\x01\0\0\0"[..], io::repeat(0));
        assert!(matches!(Source::read(endless), Err(Error::TooLarge { limit: MAX_WASM_BYTES })));
    }
}
