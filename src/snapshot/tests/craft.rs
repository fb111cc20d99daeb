//! Crafts archives byte by byte, also such as no writer would make, and looks at what came of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::oci::{Compression, Descriptor, Digest, Layer, LayerFormat};
use crate::snapshot::{Chain, Error, Source, Store};

/// An archive in the making.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// One header block in the making: ustar, regular file, 0644, root's, of 1 January 2001.
#[derive(Clone)]
pub struct Block(pub [u8; 512]);

pub const TIME: i64 = 978_307_200;

impl Block {
    pub fn new(kind: u8, name: &str) -> Self {
        let mut block = Self([0; 512]);
        block.text(0, name.as_bytes());
        block.octal(100, 8, if kind == b'5' { 0o755 } else { 0o644 });
        block.octal(108, 8, 0);
        block.octal(116, 8, 0);
        block.octal(124, 12, 0);
        block.octal(136, 12, TIME as u64);
        block.0[156] = kind;
        block.text(257, b"ustar\x0000");
        block
    }

    pub fn text(&mut self, at: usize, text: &[u8]) -> &mut Self {
        self.0[at..at + text.len()].copy_from_slice(text);
        self
    }

    pub fn octal(&mut self, at: usize, length: usize, value: u64) -> &mut Self {
        let digits = format!("{value:0width$o}\0", width = length - 1);
        self.text(at, digits.as_bytes())
    }

    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.octal(100, 8, mode.into())
    }

    pub fn owner(&mut self, uid: u64, gid: u64) -> &mut Self {
        self.octal(108, 8, uid).octal(116, 8, gid)
    }

    pub fn size(&mut self, size: u64) -> &mut Self {
        self.octal(124, 12, size)
    }

    pub fn link(&mut self, target: &str) -> &mut Self {
        self.text(157, target.as_bytes())
    }

    pub fn device(&mut self, major: u64, minor: u64) -> &mut Self {
        self.octal(329, 8, major).octal(337, 8, minor)
    }

    /// With the checksum that belongs to it.
    pub fn sealed(&self) -> [u8; 512] {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn block(self, block: &Block) -> Self {
        self.raw(&block.sealed())
    }

    /// Data, filled up to a block.
    pub fn data(self, data: &[u8]) -> Self {
        let padding = data.len().next_multiple_of(512) - data.len();
        self.raw(data).raw(&vec![0; padding])
    }

    pub fn with_data(self, block: &mut Block, data: &[u8]) -> Self {
        self.block(block.size(data.len() as u64)).data(data)
    }

    pub fn file(self, name: &str, data: &str) -> Self {
        self.with_data(&mut Block::new(b'0', name), data.as_bytes())
    }

    pub fn dir(self, name: &str) -> Self {
        self.block(&Block::new(b'5', name))
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.block(Block::new(b'2', name).link(target))
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.block(Block::new(b'1', name).link(target))
    }

    pub fn char_device(self, name: &str, major: u64, minor: u64) -> Self {
        self.block(Block::new(b'3', name).device(major, minor))
    }

    /// An extended header for the entry that follows.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.with_data(
            &mut Block::new(b'x', "pax"),
            &records.iter().flat_map(|(k, v)| record(k, v)).collect::<Vec<_>>(),
        )
    }

    pub fn gnu(self, kind: u8, text: &str) -> Self {
        let data = [text.as_bytes(), b"\0"].concat();
        self.with_data(&mut Block::new(kind, "././@LongLink"), &data)
    }

    pub fn end(self) -> Self {
        self.raw(&[0; 1024])
    }
}

/// `length key=value\n`, where the length counts itself.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

/// A store in a directory of its own, next to a canary that nothing may touch.
pub struct Scene {
    pub dir: tempfile::TempDir,
    pub store: Store,
    before: BTreeMap<String, String>,
}

impl Scene {
    pub fn new() -> Self {
        let dir = scratch();
        let canary = dir.path().join("canary");
        fs::create_dir_all(canary.join("etc")).unwrap();
        fs::write(canary.join("etc/passwd"), "root:x:0:0").unwrap();
        fs::write(canary.join("victim"), "untouched").unwrap();
        std::os::unix::fs::symlink("victim", canary.join("link")).unwrap();
        let store = Store::open(&dir.path().join("layers")).unwrap();
        let before = tree(&canary);
        Self { dir, store, before }
    }

    pub fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    /// Unpacks archives, whose blobs are there, as a chain.
    fn unpack(&self, layers: &[Tar]) -> Result<Chain, Error> {
        let layers: Vec<Layer> = layers.iter().map(|tar| layer(&tar.0)).collect();
        self.unpack_layers(&layers)
    }

    /// Unpacks layers, whose blobs are there.
    pub fn unpack_layers(&self, layers: &[Layer]) -> Result<Chain, Error> {
        self.store.unpack_from(&|layer| Ok(self.source(layer)), layers, &())
    }

    /// A layer's blob as unpacking asks for it.
    pub fn source(&self, layer: &Layer) -> Source {
        Source { bytes: Box::new(File::open(self.blob(layer)).unwrap()), size: layer.blob.size }
    }

    pub fn blob(&self, layer: &Layer) -> PathBuf {
        self.dir.path().join(layer.blob.digest.hex())
    }

    pub fn add_blob(&self, bytes: &[u8]) {
        fs::write(self.dir.path().join(Digest::sha256(bytes).hex()), bytes).unwrap();
    }

    /// Unpacks, and checks that the canary is as it was.
    pub fn run(&self, layers: &[Tar]) -> Result<Chain, Error> {
        layers.iter().for_each(|tar| self.add_blob(&tar.0));
        let outcome = self.unpack(layers);
        self.assert_untouched("wherry");
        outcome
    }

    /// That `who` changed nothing outside.
    pub fn assert_untouched(&self, who: &str) {
        assert_eq!(tree(&self.canary()), self.before, "{who} changed something outside of the layer");
    }

    /// The tree of the only layer.
    pub fn tree_of(&self, tar: Tar) -> BTreeMap<String, String> {
        let chain = self.run(&[tar]).unwrap_or_else(|error| panic!("{}", chain_of(&error)));
        tree(&chain.dirs()[0])
    }

    /// The message with which a chain is refused; nothing of the last layer may be visible.
    pub fn refusal(&self, layers: &[Tar]) -> String {
        let error = self.run(layers).expect_err("must be refused");
        let visible = fs::read_dir(self.dir.path().join("layers")).unwrap().filter_map(Result::ok);
        let visible = visible.filter(|entry| entry.file_name().len() == 64).count();
        assert!(visible < layers.len(), "a refused layer is visible");
        chain_of(&error)
    }
}

/// A directory in memory, where that holds everything that a layer can (tmpfs has `user.*` since Linux 6.6):
/// each chain flushes its filesystem, and a busy disk takes its time for that.
fn scratch() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm")
        .ok()
        .filter(|dir| rustix::fs::setxattr(dir.path(), "user.test", b"", rustix::fs::XattrFlags::empty()).is_ok());
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// A plain layer of these bytes.
pub fn layer(tar: &[u8]) -> Layer {
    let digest = Digest::sha256(tar);
    let blob = Descriptor::new("application/vnd.oci.image.layer.v1.tar".into(), digest.clone(), tar.len() as u64);
    Layer { blob, format: LayerFormat::Tar(Compression::None), diff_id: digest }
}

/// An error with all its sources, as the command line prints it.
pub fn chain_of(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Everything below a directory that a layer decides: path → type, mode, owner, time, content, attributes.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    describe_below(root, Path::new(""), &mut found);
    found
}

fn describe_below(root: &Path, at: &Path, found: &mut BTreeMap<String, String>) {
    let path = root.join(at);
    found.insert(at.display().to_string(), describe(&path));
    if fs::symlink_metadata(&path).unwrap().is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            describe_below(root, &at.join(entry.unwrap().file_name()), found);
        }
    }
}

/// One line about a file.
pub fn describe(path: &Path) -> String {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        let content = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&content[..content.len().min(64)]).into_owned();
        format!("file {:?} x{}", text, meta.nlink())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        let number = meta.rdev();
        let letter = if kind.is_char_device() { 'c' } else { 'b' };
        format!("{letter} {}:{}", rustix::fs::major(number), rustix::fs::minor(number))
    };
    let xattrs =
        xattrs(path).into_iter().map(|(name, value)| format!(" {name}={}", value.escape_ascii())).collect::<String>();
    let mode = if kind.is_symlink() { String::new() } else { format!(" {:o}", meta.mode() & 0o7777) };
    format!("{what}{mode} {}:{} @{}.{:09}{xattrs}", meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec())
}

/// The extended attributes by name.
pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}

/// Compresses with gzip, as one member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs a program that must succeed; its standard output.
pub fn run(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
