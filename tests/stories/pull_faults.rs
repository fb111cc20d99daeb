//! A layer that comes badly: the table of what a network, a registry and a kill can do to it, each with what becomes
//! of the pull and of the store. And what a second pull, or a second process, does with what has come.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::faults::{Served, assert_whole, left_over, noise};
use crate::support::{Wherry, eventually, process};

const LAYER: usize = 3 << 20;
const CHUNK: usize = 64 << 10;

/// What becomes of one answer with the layer's bytes.
#[derive(Clone, Debug)]
enum Fault {
    None,
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The same, with a reset.
    Reset(usize),
    /// This status, and what `Retry-After` says.
    Refuse(u16, Option<&'static str>),
    /// This byte of the layer is another.
    Flip(usize),
    /// These bytes instead, said to be all.
    Instead(Vec<u8>),
    /// Bytes that nobody announced, behind the layer's.
    More,
    /// All of the layer, whatever range was asked for.
    RangeIgnored,
    /// From the layer's beginning, said to be what was asked for.
    RangeWrong,
    /// What was asked for, said to be from the beginning.
    RangeMislabelled,
    /// So much less is announced, and sent.
    Short(usize),
    /// So much more is announced than is sent.
    Long(usize),
    /// A chunk at a time, with a pause after each.
    Drip(Duration),
    /// The gate has to open after so many bytes.
    Gate(usize),
}

/// The first byte that is asked for, and the one behind the last.
type Asked = (usize, usize);

/// A registry of one image, whose layers come as `decide` says: by the number of the request for the layer.
struct Server {
    host: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The first byte of each request for a layer.
    from: Mutex<Vec<usize>>,
    /// Bytes of layers that went out.
    bytes: AtomicUsize,
    now: AtomicUsize,
    at_once: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Server {
    fn start(served: &Served, decide: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let seen = Arc::<Seen>::default();
        let (served, theirs, decide) = (Arc::new(served.clone()), seen.clone(), Arc::new(decide));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (served, seen, decide) = (served.clone(), theirs.clone(), decide.clone());
                // A client that hangs up is what these tests are about.
                thread::spawn(move || answer(&stream?, &served, &seen, &*decide));
            }
        });
        Self { host, seen }
    }

    fn image(&self) -> String {
        format!("{}/some/image:tag", self.host)
    }

    fn asked_from(&self) -> Vec<usize> {
        self.seen.from.lock().unwrap().clone()
    }

    fn bytes(&self) -> usize {
        self.seen.bytes.load(Ordering::SeqCst)
    }

    fn open(&self) {
        *self.seen.open.lock().unwrap() = true;
        self.seen.opened.notify_all();
    }
}

fn answer(
    stream: &TcpStream,
    served: &Served,
    seen: &Seen,
    decide: &(impl Fn(usize) -> Fault + ?Sized),
) -> std::io::Result<()> {
    let (method, path, range) = read_request(stream)?;
    if path == "/v2/" {
        return respond(stream, 200, "", b"{}");
    }
    if path.contains("/manifests/") {
        let body = if method == "HEAD" { &[][..] } else { &served.manifest };
        return respond(stream, 200, &format!("Content-Type: {}\r\n", served.media_type), body);
    }
    let digest = path.rsplit('/').next().unwrap_or_default();
    let Some(bytes) = served.blobs.get(digest) else { return respond(stream, 404, "", b"{}") };
    if !served.layers.iter().any(|layer| layer == digest) {
        return respond(stream, 200, "", bytes);
    }
    let from = range.map_or(0, |(from, _)| from);
    let number = {
        let mut all = seen.from.lock().unwrap();
        all.push(from);
        all.len() - 1
    };
    let fault = if method == "HEAD" { Fault::None } else { decide(number) };
    seen.at_once.fetch_max(seen.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let sent = send(stream, bytes, range, fault, seen);
    seen.now.fetch_sub(1, Ordering::SeqCst);
    sent
}

fn respond(mut stream: &TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// Sends the layer, or what the fault makes of it.
fn send(mut stream: &TcpStream, layer: &[u8], range: Option<Asked>, fault: Fault, seen: &Seen) -> std::io::Result<()> {
    let (mut from, mut to) = range.map_or((0, layer.len()), |(from, to)| (from, to.min(layer.len())));
    let mut status = if range.is_some() { 206 } else { 200 };
    let mut label = format!("bytes {from}-{}/{}", to.saturating_sub(1), layer.len());
    let mut bytes = layer.to_vec();
    match &fault {
        Fault::Refuse(status, after) => {
            let headers = after.map(|after| format!("Retry-After: {after}\r\n")).unwrap_or_default();
            return respond(stream, *status, &headers, br#"{"errors":[{"code":"X","message":"not now"}]}"#);
        }
        Fault::Flip(at) => bytes[*at] ^= 1,
        Fault::Instead(other) => (bytes, from, to, status) = (other.clone(), 0, other.len(), 200),
        Fault::More => {
            bytes.extend(b"more");
            to += 4;
        }
        Fault::RangeIgnored => (from, to, status) = (0, layer.len(), 200),
        Fault::RangeWrong => (from, to) = (0, to - from),
        Fault::RangeMislabelled => label = format!("bytes 0-{}/{}", to - from - 1, layer.len()),
        _ => {}
    }
    let mut body = &bytes[from..to];
    let announced = match fault {
        Fault::Short(less) => {
            body = &body[..body.len().saturating_sub(less)];
            body.len()
        }
        Fault::Long(more) => body.len() + more,
        _ => body.len(),
    };
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {announced}\r\n");
    if status == 206 {
        head += &format!("Content-Range: {label}\r\n");
    }
    stream.write_all((head + "ETag: \"of this answer\"\r\n\r\n").as_bytes())?;
    match fault {
        Fault::Cut(at) => put(stream, &body[..at.min(body.len())], seen),
        Fault::Reset(at) => {
            put(stream, &body[..at.min(body.len())], seen)?;
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
            Ok(())
        }
        Fault::Gate(at) => {
            let (before, after) = body.split_at(at.min(body.len()));
            put(stream, before, seen)?;
            let open = seen.open.lock().unwrap();
            drop(seen.opened.wait_while(open, |open| !*open).unwrap());
            put(stream, after, seen)
        }
        Fault::Drip(pause) => body.chunks(CHUNK).try_for_each(|chunk| {
            put(stream, chunk, seen)?;
            thread::sleep(pause); // slowness is what this is about
            Ok(())
        }),
        _ => put(stream, body, seen),
    }
}

fn put(mut stream: &TcpStream, bytes: &[u8], seen: &Seen) -> std::io::Result<()> {
    for chunk in bytes.chunks(CHUNK) {
        stream.write_all(chunk)?;
        seen.bytes.fetch_add(chunk.len(), Ordering::SeqCst);
    }
    stream.flush()
}

/// Method, path and range.
fn read_request(stream: &TcpStream) -> std::io::Result<(String, String, Option<Asked>)> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut range = None;
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some((from, to)) = line.strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
            range = Some((from.parse().unwrap(), to.parse::<usize>().map_or(usize::MAX, |last| last + 1)));
        }
    }
    Ok((method, path, range))
}

/// What becomes of a pull.
enum Outcome {
    /// The image is here, every byte of it.
    Whole,
    /// It is told with this word, and the store is as it was.
    Refused(&'static str),
}

/// One row of the table: its name, the faults of the first answers in order (then there are none), the outcome, and from
/// where the layer must have been asked for, if that is certain.
type Row = (String, Vec<Fault>, Outcome, Option<Vec<usize>>);

fn table() -> Vec<Row> {
    use Fault::{
        Cut, Drip, Flip, Instead, Long, More, RangeIgnored, RangeMislabelled, RangeWrong, Refuse, Reset, Short,
    };
    use Outcome::*;
    let size = LAYER + 512 + 1024;
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: &str, faults: Vec<Fault>, outcome, from: &[usize]| {
        rows.push((name.to_owned(), faults, outcome, (!from.is_empty()).then(|| from.to_vec())));
    };
    for at in [0, 1, 511, 512, 65_535, 262_143, 262_144, 262_145, 1 << 20, (1 << 20) + 1, 2_000_003, size - 1] {
        row(&format!("cut after {at}"), vec![Cut(at)], Whole, &[0, at]);
    }
    for at in [0, 1, 300_000, 1 << 20, size - 1] {
        // A reset takes with it what had not been read.
        row(&format!("reset after {at}"), vec![Reset(at)], Whole, &[]);
    }
    row("cut again and again", vec![Cut(1 << 20), Cut(1 << 19), Cut(1 << 19)], Whole, &[0, 1 << 20, 3 << 19, 1 << 21]);
    for status in [408, 500, 502, 503, 504] {
        row(&format!("status {status} once"), vec![Refuse(status, None)], Whole, &[0, 0]);
    }
    row("429 without a time", vec![Refuse(429, None)], Whole, &[]);
    row("429 for a second", vec![Refuse(429, Some("1"))], Whole, &[]);
    row("503 for a second", vec![Refuse(503, Some("1"))], Whole, &[0, 0]);
    row("429 for an hour", vec![Refuse(429, Some("3600")); 9], Refused("not now"), &[]);
    row("429 in the middle", vec![Cut(1 << 20), Refuse(429, None)], Whole, &[]);
    row("503 in the middle", vec![Cut(1 << 20), Refuse(503, None)], Whole, &[0, 1 << 20, 1 << 20]);
    row("403", vec![Refuse(403, None); 9], Refused("denied"), &[]);
    row("404", vec![Refuse(404, None); 9], Refused("not now"), &[]);
    row("404 in the middle", vec![Cut(1 << 20), Refuse(404, None)], Refused("not now"), &[]);
    row("a slow drip", vec![Drip(Duration::from_millis(2))], Whole, &[0]);
    row("ranges ignored", vec![Cut(1 << 20), RangeIgnored], Whole, &[0, 1 << 20]);
    row("ranges ignored and cut", vec![Cut(1 << 20), RangeIgnored, Cut(9)], Whole, &[]);
    row("another place than was asked for", vec![Cut(1 << 20), RangeWrong], Whole, &[0, 1 << 20, 0]);
    row("another place than is said", vec![Cut(1 << 20), RangeMislabelled], Whole, &[]);
    row("another object behind the same address", vec![Cut(1 << 20), Flip(2 << 20)], Whole, &[0, 1 << 20, 0]);
    row(
        "another object, and cut once more",
        vec![Cut(1 << 20), Flip(2 << 20), Cut(1 << 20)],
        Whole,
        &[0, 1 << 20, 0, 0],
    );
    row(
        "another object for ever",
        [vec![Cut(1 << 20)], vec![Flip(2 << 20); 9]].concat(),
        Refused("digest"),
        &[0, 1 << 20, 0],
    );
    row("a wrong byte at the beginning", vec![Flip(0)], Refused("digest"), &[0]);
    row("a wrong byte in the middle", vec![Flip(LAYER / 2)], Refused("digest"), &[0]);
    row("a wrong byte at the end", vec![Flip(size - 1)], Refused("digest"), &[0]);
    row("more than was announced", vec![More; 9], Refused("more"), &[0]);
    row("a length that is too small", vec![Short(1000)], Whole, &[0, size - 1000]);
    row("a length that is too large", vec![Long(1000)], Whole, &[0]);
    row("nothing", vec![Instead(Vec::new())], Whole, &[0, 0]);
    row("a page of the proxy's", vec![Instead(b"<html>log in</html>".to_vec())], Whole, &[0, 19, 0]);
    row("another blob", vec![Instead(vec![7; LAYER + 512 + 1024])], Refused("digest"), &[0]);
    rows
}

#[test]
fn whatever_becomes_of_a_layer_the_image_is_whole_or_the_store_is_as_it_was() {
    let served = Served::image_of(1, LAYER);
    let rows = Mutex::new(table());
    let count = rows.lock().unwrap().len();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(row) = rows.lock().unwrap().pop() else { return };
                    check(&served, row);
                }
            });
        }
    });
    println!("{count} ways for a layer to come badly");
}

fn check(served: &Served, (name, faults, outcome, from): Row) {
    let server = Server::start(served, move |number| faults.get(number).cloned().unwrap_or(Fault::None));
    let wherry = Wherry::new();
    let output = wherry.call(["pull", &server.image()]);
    match outcome {
        Outcome::Whole => {
            assert_eq!(output.status, 0, "{name}: {output}");
            assert_whole(wherry.root(), served);
            assert_eq!(wherry.ok(["images", "-q"]).lines().count(), 1, "{name}");
        }
        Outcome::Refused(word) => {
            assert_eq!(output.status, 1, "{name}: {output}");
            assert!(output.stderr.contains(word), "{name}: {output}");
            assert_eq!(wherry.ok(["images", "-q"]), "", "{name}");
            assert_eq!(layers_of(wherry.root()), Vec::<PathBuf>::new(), "{name}");
            assert_no_blob_is_wrong(wherry.root());
            // What was kept is no hindrance.
            wherry.ok(["pull", "-q", &Server::start(served, |_| Fault::None).image()]);
            assert_whole(wherry.root(), served);
        }
    }
    if let Some(from) = from {
        assert_eq!(server.asked_from(), from, "{name}: from where the layer was asked for");
    }
}

/// The layers that are unpacked.
fn layers_of(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join("layers")).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().len() >= 64).collect()
}

fn assert_no_blob_is_wrong(root: &Path) {
    use sha2::{Digest, Sha256};
    for entry in fs::read_dir(root.join("content/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let hex: String = Sha256::digest(fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(path.file_name().unwrap().to_str(), Some(&*hex));
    }
}

/// What has come of the one layer that is on its way.
fn come_so_far(root: &Path) -> Option<u64> {
    let part = left_over(root).into_iter().find(|name| name.ends_with(".part"))?;
    Some(fs::metadata(root.join("content/ingest").join(part)).ok()?.len())
}

/// Sixteen moments, by kill and by Ctrl-C in turn: the next pull asks for the rest and for nothing else.
#[test]
fn a_pull_that_was_killed_goes_on_where_it_was() {
    let served = Served::image_of(1, LAYER);
    let size = served.blobs[&served.layers[0]].len();
    for kill in 0..16 {
        let random = u32::from_le_bytes(noise(4).try_into().unwrap()) as usize;
        let at = (256 << 10) + random % (size - (256 << 10));
        let server = Server::start(&served, move |number| if number == 0 { Fault::Gate(at) } else { Fault::None });
        let wherry = Wherry::new();
        let mut pull = wherry.start(["pull", &server.image()]);
        eventually("so much has come", || (come_so_far(wherry.root())? == at as u64).then_some(()));
        process::signal(&pull.child, if kill % 2 == 0 { Signal::KILL } else { Signal::INT });
        pull.child.wait().unwrap();
        assert_eq!(wherry.ok(["images", "-q"]), "");
        let before = server.bytes();
        let output = wherry.call(["pull", &server.image()]).expect(0);
        assert!(output.stdout.contains("Resuming after"), "{output}");
        let again = server.bytes() - before;
        // The moment may lie between the writing of a chunk and its being counted.
        assert!(again <= size - at + (1 << 20) && again < size, "killed at {at} of {size}: {again} fetched again");
        let from = server.asked_from();
        assert_eq!((from.len(), again), (2, size - from[1]));
        assert_whole(wherry.root(), &served);
        server.open();
    }
}

/// The standard output of a pull that goes on, in a file.
fn pull_into(wherry: &Wherry, image: &str, file: &Path) -> std::process::Child {
    let mut command = wherry.command(["pull", image]);
    command.stdout(fs::File::create(file).unwrap()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn two_processes_fetch_a_layer_once() {
    let served = Served::image_of(2, LAYER);
    let all: usize = served.layers.iter().map(|layer| served.blobs[layer].len()).sum();
    let server = Server::start(&served, |_| Fault::Gate(1 << 20));
    let wherry = Wherry::new();
    let first = wherry.start(["pull", &server.image()]);
    eventually("two requests", || (server.asked_from().len() == 2).then_some(()));
    let said = wherry.folder("said").join("second");
    let mut second = pull_into(&wherry, &server.image(), &said);
    eventually("the second waits for both", || {
        (fs::read_to_string(&said).ok()?.matches("another process is pulling it").count() == 2).then_some(())
    });
    server.open();
    first.finish().expect(0);
    assert!(second.wait().unwrap().success(), "{}", fs::read_to_string(&said).unwrap());
    assert_eq!((server.asked_from(), server.bytes()), (vec![0, 0], all));
    assert_whole(wherry.root(), &served);
}

#[test]
fn who_waits_for_a_process_that_dies_takes_over() {
    let served = Served::image_of(1, LAYER);
    let size = served.blobs[&served.layers[0]].len();
    let at = 1 << 20;
    let server = Server::start(&served, move |number| if number == 0 { Fault::Gate(at) } else { Fault::None });
    let wherry = Wherry::new();
    let first = wherry.start(["pull", &server.image()]);
    eventually("so much has come", || (come_so_far(wherry.root())? == at as u64).then_some(()));
    let said = wherry.folder("said").join("second");
    let mut second = pull_into(&wherry, &server.image(), &said);
    eventually("the second waits", || fs::read_to_string(&said).ok()?.contains("another process").then_some(()));
    first.kill();
    assert!(second.wait().unwrap().success(), "{}", fs::read_to_string(&said).unwrap());
    let from = server.asked_from();
    assert!(from.len() == 2 && from[1] > 0 && server.bytes() == at + size - from[1], "{from:?}");
    assert_whole(wherry.root(), &served);
    server.open();
}

/// A registry that slows down each connection for itself: 4 MB/s.
#[test]
fn a_large_layer_comes_over_several_connections_where_each_is_slow() {
    let served = Served::image_of(1, 34 << 20);
    let size = served.blobs[&served.layers[0]].len();
    let slow = || Fault::Drip(Duration::from_millis(15));
    let server = Server::start(&served, move |_| slow());
    let wherry = Wherry::new();
    wherry.ok(["pull", "-q", &server.image()]);
    assert_whole(wherry.root(), &served);
    let at_once = server.seen.at_once.load(Ordering::SeqCst);
    assert!(at_once > 1, "{at_once} connections");
    // What the first connection had in its buffers when it met a piece of another is all that came twice.
    assert!(server.bytes() < size + size / 4, "{} bytes for {size}", server.bytes());
    println!("{at_once} connections at once, {} bytes for {size}", server.bytes());
}

/// The further connections are answered badly: what they would have brought comes all the same.
#[test]
fn a_registry_that_cannot_do_pieces_loses_nothing() {
    let served = Served::image_of(1, 34 << 20);
    let size = served.blobs[&served.layers[0]].len();
    let slow = || Fault::Drip(Duration::from_millis(8));
    let faults = [
        Fault::RangeIgnored,
        Fault::RangeWrong,
        Fault::RangeMislabelled,
        Fault::Cut(100_000),
        Fault::Reset(1),
        Fault::Refuse(429, None),
        Fault::Flip(20 << 20),
    ];
    thread::scope(|scope| {
        for fault in &faults {
            let served = &served;
            scope.spawn(move || {
                let theirs = fault.clone();
                let met = Arc::new(AtomicBool::new(false));
                let noted = met.clone();
                let server = Server::start(served, move |number| match number {
                    1 => {
                        noted.store(true, Ordering::SeqCst);
                        theirs.clone()
                    }
                    _ => slow(),
                });
                let wherry = Wherry::new();
                let output = wherry.call(["pull", &server.image()]).expect(0);
                assert_whole(wherry.root(), served);
                assert!(met.load(Ordering::SeqCst), "{fault:?}: there was no further connection: {output}");
                assert!(server.bytes() < 3 * size, "{fault:?}");
            });
        }
    });
}
