//! An experiment: a layer's files by FUSE, fetched when they are read.
//!
//!     lazy HOST PATH-OF-BLOB PATH-OF-TOC MOUNTPOINT
//!
//! The blob is as eStargz has it: a gzip member for each file (and each 4 MiB of a large one), so that one file is one
//! Range of the blob. The table of contents says where they are. What was fetched stays in memory; the kernel caches it
//! too. Nothing is verified: this measures the best case.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};
use serde_json::Value;

const FOREVER: Duration = Duration::from_secs(3600);

/// A part of a file: where its member is, and what of the file it is.
struct Part {
    start: u64,
    length: u64,
    data: OnceLock<Vec<u8>>,
}

struct Node {
    kind: FileType,
    mode: u16,
    size: u64,
    target: String,
    children: BTreeMap<String, u64>,
    parts: Vec<Part>,
    part_size: u64,
}

struct Lazy {
    nodes: Vec<Node>,
    remote: Remote,
}

struct Remote {
    host: String,
    blob: String,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
    fetched: AtomicU64,
    requests: AtomicU64,
}

impl Remote {
    fn get(&self, path: &str, range: Option<(u64, u64)>) -> std::io::Result<Vec<u8>> {
        let idle = self.idle.lock().unwrap().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(&self.host)?),
        };
        let range = range.map_or(String::new(), |(a, b)| format!("Range: bytes={a}-{}\r\n", b - 1));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{range}\r\n", self.host);
        connection.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            connection.read_line(&mut line)?;
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body)?;
        self.idle.lock().unwrap().push(connection);
        self.fetched.fetch_add(length as u64, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(body)
    }

    fn part(&self, part: &Part) -> std::io::Result<Vec<u8>> {
        let member = self.get(&self.blob, Some((part.start, part.start + part.length)))?;
        let mut data = Vec::new();
        flate2::read::MultiGzDecoder::new(&member[..]).read_to_end(&mut data)?;
        Ok(data)
    }
}

impl Lazy {
    fn new(host: &str, blob: &str, toc: &str) -> std::io::Result<Self> {
        let remote = Remote {
            host: host.to_owned(),
            blob: blob.to_owned(),
            idle: Mutex::default(),
            fetched: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        };
        let packed = remote.get(toc, None)?;
        let toc: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&packed[..]))?;
        let mut lazy = Self { nodes: vec![directory(0o755)], remote };
        for entry in toc.as_array().unwrap() {
            lazy.add(entry);
        }
        Ok(lazy)
    }

    fn add(&mut self, entry: &Value) {
        let path = entry["name"].as_str().unwrap();
        let (mut at, mut names) = (0, path.split('/').filter(|n| !n.is_empty()).peekable());
        while let Some(name) = names.next() {
            let last = names.peek().is_none();
            let known = self.nodes[at].children.get(name).copied();
            let next = known.map(|n| n as usize).unwrap_or_else(|| {
                self.nodes.push(if last { node(entry) } else { directory(0o755) });
                let new = self.nodes.len() - 1;
                self.nodes[at].children.insert(name.to_owned(), new as u64);
                new
            });
            at = next;
        }
    }

    fn attr(&self, at: usize) -> FileAttr {
        let node = &self.nodes[at];
        FileAttr {
            ino: INodeNo(at as u64 + 1),
            size: node.size,
            blocks: node.size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: node.kind,
            perm: node.mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

fn directory(mode: u16) -> Node {
    Node {
        kind: FileType::Directory,
        mode,
        size: 0,
        target: String::new(),
        children: BTreeMap::new(),
        parts: Vec::new(),
        part_size: 1,
    }
}

fn node(entry: &Value) -> Node {
    let number = |name: &str| entry[name].as_u64().unwrap_or(0);
    let parts = entry["parts"].as_array().into_iter().flatten();
    let parts = parts.map(|p| Part { start: p[0].as_u64().unwrap(), length: p[1].as_u64().unwrap(), data: OnceLock::new() });
    Node {
        kind: match entry["type"].as_str().unwrap() {
            "dir" => FileType::Directory,
            "symlink" => FileType::Symlink,
            _ => FileType::RegularFile,
        },
        mode: number("mode") as u16,
        size: number("size"),
        target: entry["target"].as_str().unwrap_or_default().to_owned(),
        children: BTreeMap::new(),
        parts: parts.collect(),
        part_size: number("part").max(1),
    }
}

fn at(ino: INodeNo) -> usize {
    u64::from(ino) as usize - 1
}

impl Filesystem for Lazy {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let child = name.to_str().and_then(|name| self.nodes[at(parent)].children.get(name));
        match child {
            Some(child) => reply.entry(&FOREVER, &self.attr(*child as usize), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attr(at(ino)));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        reply.data(self.nodes[at(ino)].target.as_bytes());
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let node = &self.nodes[at(ino)];
        let end = node.size.min(offset + u64::from(size));
        let (mut offset, mut out) = (offset, Vec::new());
        while offset < end {
            let part = &node.parts[(offset / node.part_size) as usize];
            let within = (offset % node.part_size) as usize;
            let data = part.data.get_or_init(|| self.remote.part(part).unwrap());
            let take = data.len().min(within + (end - offset) as usize);
            out.extend_from_slice(&data[within..take]);
            offset += (take - within) as u64;
        }
        reply.data(&out);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let node = &self.nodes[at(ino)];
        for (n, (name, child)) in node.children.iter().enumerate().skip(offset as usize) {
            let kind = self.nodes[*child as usize].kind;
            if reply.add(INodeNo(child + 1), n as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn destroy(&mut self) {
        let Remote { fetched, requests, .. } = &self.remote;
        eprintln!("fetched {} KiB in {} requests", fetched.load(Ordering::Relaxed) >> 10, requests.load(Ordering::Relaxed));
    }
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, blob, toc, mountpoint] = &arguments[..] else { panic!("lazy HOST BLOB TOC MOUNTPOINT") };
    let lazy = Lazy::new(host, blob, toc)?;
    let mut config = fuser::Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::FSName("lazy".to_owned())];
    config.n_threads = Some(4);
    println!("ready");
    fuser::mount(lazy, mountpoint, &config)
}
