//! `wherry push` and what may happen to it: a registry of the test's own that takes uploads and can misbehave in every
//! step, and the real one.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::support::handmade::{self, Handmade, TAR, digest, push_index, tar};
use crate::support::registry::registry;
use crate::support::{Output, Wherry, images};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Larger than any socket's buffers, so that a cut in its middle is one.
const LAYER_BYTES: usize = 3 << 20;

#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    /// All of it, or as much as was read before the connection was cut.
    body: Vec<u8>,
}

impl Request {
    fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }

    fn begins_upload(&self) -> bool {
        self.is("POST", "/blobs/uploads/")
    }

    fn sends_blob(&self) -> bool {
        self.is("PUT", "/upload/")
    }

    fn sends_manifest(&self) -> bool {
        self.is("PUT", "/manifests/")
    }

    fn query(&self, key: &str) -> Option<String> {
        let query = self.path.split_once('?')?.1;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}=")))?;
        Some(value.replace("%3A", ":").replace("%2F", "/"))
    }
}

#[derive(Clone, Debug, Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn error(status: u16, code: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": "said the test", "detail": null}]}).to_string();
        Self { body: body.into_bytes(), ..Self::new(status) }
    }
}

/// What a registry does with a request.
enum Act {
    /// What a good one does.
    Right,
    /// Answers this instead, and takes nothing.
    Say(Reply),
    /// What a good one does, and this header in its answer.
    Add(&'static str, String),
    /// Reads so many bytes of the body, keeps them, and hangs up.
    Cut(usize),
}

/// What a registry has.
#[derive(Default)]
struct Shelf {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    seen: Vec<Request>,
}

struct Registry {
    host: String,
    shelf: Arc<Mutex<Shelf>>,
}

impl Registry {
    /// `act` is given each request's head and how many of the same kind came before it.
    fn start(act: impl Fn(&Request, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let (kept, act) = (shelf.clone(), Arc::new(act));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shelf, act) = (Arc::clone(&kept), act.clone());
                thread::spawn(move || serve(stream?, &shelf, &*act));
            }
        });
        Self { host, shelf }
    }

    fn count(&self, which: impl Fn(&Request) -> bool) -> usize {
        self.shelf.lock().unwrap().seen.iter().filter(|request| which(request)).count()
    }

    fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        self.shelf.lock().unwrap().manifests.get(name).map(|(_, bytes)| bytes.clone())
    }
}

fn serve(
    stream: TcpStream,
    shelf: &Mutex<Shelf>,
    act: &(impl Fn(&Request, usize) -> Act + ?Sized),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut request = read_head(&mut reader)?;
    let kind = |r: &Request| {
        (r.method.clone(), r.path.split('?').next().unwrap_or_default().rsplit('/').nth(1).map(str::to_owned))
    };
    let before = {
        let mut shelf = shelf.lock().unwrap();
        let before = shelf.seen.iter().filter(|seen| kind(seen) == kind(&request)).count();
        shelf.seen.push(request.clone());
        before
    };
    let length: usize = request.headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let act = act(&request, before);
    let wanted = if let Act::Cut(at) = act { at.min(length) } else { length };
    let mut body = vec![0; wanted];
    reader.read_exact(&mut body)?;
    request.body = body;
    let reply = match act {
        Act::Right => shelf.lock().unwrap().right(&request),
        Act::Say(reply) => reply,
        Act::Add(name, value) => shelf.lock().unwrap().right(&request).with(name, value),
        Act::Cut(_) => {
            shelf.lock().unwrap().append(&request);
            return Ok(());
        }
    };
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
    if reply.status != 204 {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let mut stream = &stream;
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&reply.body)?;
    }
    stream.flush()
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        lines.push(line);
    }
    let mut words = lines.first().map(String::as_str).unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    Ok(Request { method, path, headers: lines.iter().skip(1).filter_map(header).collect(), body: Vec::new() })
}

impl Shelf {
    /// What a good registry does, for one repository.
    fn right(&mut self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default().to_owned();
        match request.method.as_str() {
            "GET" if path == "/v2/" => Reply::new(200),
            "POST" => {
                let id = format!("{:06}", self.uploads.len() + 1);
                self.uploads.insert(id.clone(), Vec::new());
                Reply::new(202).with("Location", format!("/upload/{id}")).with("Range", "0-0")
            }
            "GET" if path.starts_with("/upload/") => self.state(&last, 204),
            "PATCH" => {
                let from = request.headers.get("content-range").and_then(|range| range.split('-').next()?.parse().ok());
                let has = self.uploads.get(&last).map(Vec::len);
                if from != has {
                    return Reply::error(416, "RANGE_INVALID");
                }
                self.append(request);
                self.state(&last, 202)
            }
            "PUT" if path.starts_with("/upload/") => {
                self.append(request);
                let Some(bytes) = self.uploads.remove(&last) else { return Reply::error(404, "BLOB_UPLOAD_UNKNOWN") };
                let wanted = request.query("digest").unwrap_or_default();
                if digest(&bytes) != wanted {
                    return Reply::error(400, "DIGEST_INVALID");
                }
                self.blobs.insert(wanted.clone(), bytes);
                Reply::new(201).with("Docker-Content-Digest", wanted)
            }
            "PUT" => {
                let digest = digest(&request.body);
                let kept = (request.headers["content-type"].clone(), request.body.clone());
                self.manifests.insert(last, kept.clone());
                self.manifests.insert(digest.clone(), kept);
                Reply::new(201).with("Docker-Content-Digest", digest)
            }
            _ if path.contains("/blobs/") => match self.blobs.get(&last) {
                Some(bytes) => Reply { body: bytes.clone(), ..Reply::new(200) },
                None => Reply::error(404, "BLOB_UNKNOWN"),
            },
            _ if path.contains("/manifests/") => match self.manifests.get(&last) {
                Some((kind, bytes)) => Reply { body: bytes.clone(), ..Reply::new(200) }
                    .with("Content-Type", kind)
                    .with("Docker-Content-Digest", digest(bytes)),
                None => Reply::error(404, "MANIFEST_UNKNOWN"),
            },
            _ => Reply::error(404, "UNSUPPORTED"),
        }
    }

    fn append(&mut self, request: &Request) {
        let id = request.path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        if let Some(upload) = self.uploads.get_mut(id) {
            upload.extend_from_slice(&request.body);
        }
    }

    fn state(&self, id: &str, status: u16) -> Reply {
        let Some(bytes) = self.uploads.get(id) else { return Reply::error(404, "BLOB_UPLOAD_UNKNOWN") };
        let last = bytes.len().saturating_sub(1);
        Reply::new(status).with("Location", format!("/upload/{id}")).with("Range", format!("0-{last}"))
    }
}

/// A wherry with an image of one layer of noise; its name, and the digests of the manifest and the layer.
struct Source {
    wherry: Wherry,
    name: String,
    manifest: String,
    layer: String,
}

impl Source {
    fn new(repository: &str) -> Self {
        let mut noise = vec![0; LAYER_BYTES];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
        let layer = tar(&[("file", &noise)]);
        let layer_digest = digest(&layer);
        let name = Handmade::image(&host_platform(), &["/file"], vec![(TAR, layer)]).push(repository, "latest");
        let manifest = digest(&handmade::get(repository, "manifests", "latest"));
        Self { wherry: Wherry::with(&name), name, manifest, layer: layer_digest }
    }

    fn push(&self, registry: &Registry) -> Output {
        self.wherry.call(["push", &self.name, &format!("{}/some/image:tag", registry.host)])
    }

    /// What must be there after a push that went well.
    #[track_caller]
    fn assert_pushed(&self, registry: &Registry) {
        let manifest = registry.manifest("tag").expect("the tag is there");
        assert_eq!(digest(&manifest), self.manifest);
        let shelf = registry.shelf.lock().unwrap();
        assert_eq!(digest(&shelf.blobs[&self.layer]), self.layer);
    }
}

fn host_platform() -> String {
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    format!("linux/{architecture}")
}

#[test]
fn what_is_there_is_not_sent_again_and_what_was_lost_is() {
    let source = Source::new("push-again");
    let registry = Registry::start(|_, _| Act::Right);
    let sent = || registry.count(|r| r.sends_blob()) + registry.count(|r| r.sends_manifest());
    let push = || {
        let before = sent();
        source.push(&registry).expect(0);
        source.assert_pushed(&registry);
        sent() - before
    };
    assert_eq!(push(), 3, "layer, config, manifest");
    assert_eq!(push(), 0);
    registry.shelf.lock().unwrap().blobs.remove(&source.layer);
    assert_eq!(push(), 1, "the layer");
    for other in [("text/plain".to_owned(), registry.manifest("tag").unwrap()), (MANIFEST.to_owned(), b"{}".to_vec())] {
        registry.shelf.lock().unwrap().manifests.insert("tag".to_owned(), other);
        assert_eq!(push(), 1, "the manifest");
    }
    let mute = Registry::start(|request, _| match request.is("HEAD", "/manifests/") {
        true => Act::Say(Reply::error(405, "UNSUPPORTED")),
        false => Act::Right,
    });
    for _ in 0..2 {
        source.push(&mute).expect(0);
    }
    assert_eq!(mute.count(|r| r.sends_manifest()), 2, "one that cannot be asked is told");
}

#[test]
fn faults_that_a_push_survives() {
    let source = Source::new("push-survives");
    let layer = source.layer.clone();
    type Play = Box<dyn Fn(&Request, usize) -> Act + Send + Sync>;
    let busy = |status: u16, which: fn(&Request) -> bool| -> Play {
        Box::new(move |request, before| match before {
            0 if which(request) => Act::Say(Reply::error(status, "UNAVAILABLE")),
            _ => Act::Right,
        })
    };
    let long = |request: &Request| request.headers.get("content-length").is_some_and(|n| n.len() > 6);
    let plays: Vec<(&str, Play)> = vec![
        ("503 to the question for a blob", busy(503, |request| request.is("HEAD", "/blobs/"))),
        ("503 to the wish to upload", busy(503, Request::begins_upload)),
        ("503 to the upload", busy(503, Request::sends_blob)),
        ("503 to the manifest", busy(503, Request::sends_manifest)),
        ("429 to the question for a blob", busy(429, |request| request.is("HEAD", "/blobs/"))),
        ("429 to the wish to upload", busy(429, Request::begins_upload)),
        ("429 to the upload", busy(429, Request::sends_blob)),
        ("429 to the manifest", busy(429, Request::sends_manifest)),
        ("the upload is forgotten", busy(404, Request::sends_blob)),
        ("the connection is cut after some bytes of the upload", {
            Box::new(move |request, before| match before {
                0 | 1 if request.sends_blob() && long(request) => Act::Cut(LAYER_BYTES / 3),
                _ => Act::Right,
            })
        }),
        ("the connection is cut before the first byte", {
            Box::new(move |request, before| match before {
                0 if request.sends_blob() => Act::Cut(0),
                _ => Act::Right,
            })
        }),
        ("too large at once", {
            Box::new(move |request, _| match request.headers.get("content-length").and_then(|n| n.parse().ok()) {
                Some(2_000_000_usize..) => Act::Say(Reply::new(413)),
                _ => Act::Right,
            })
        }),
        ("only chunks are taken", {
            Box::new(move |request, _| match request.sends_blob() && long(request) {
                true => Act::Say(Reply::new(405)),
                false => Act::Right,
            })
        }),
        ("a chunk is cut", {
            Box::new(move |request, before| match before {
                0 if request.method == "PATCH" => Act::Cut(1000),
                _ if request.sends_blob() && long(request) => Act::Say(Reply::new(501)),
                _ => Act::Right,
            })
        }),
        ("the upload is redirected", {
            Box::new(move |request, _| match request.sends_blob() && request.query("again").is_none() {
                true => Act::Say(Reply::new(307).with("Location", format!("{}&again=1", request.path))),
                false => Act::Right,
            })
        }),
    ];
    for (what, play) in plays {
        let registry = Registry::start(play);
        let output = source.push(&registry);
        assert_eq!(output.status, 0, "{what}: {output}");
        source.assert_pushed(&registry);
        assert!(registry.count(|request| request.path.contains(&layer)) > 0);
    }
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    let source = Source::new("push-resumes");
    let layer_bytes = LAYER_BYTES;
    let registry = Registry::start(move |request, before| match before {
        // The config is shorter.
        0 | 1 if request.sends_blob() && request.headers["content-length"].len() > 6 => Act::Cut(layer_bytes / 2),
        _ => Act::Right,
    });
    let output = source.push(&registry).expect(0);
    source.assert_pushed(&registry);
    assert!(output.stdout.contains("Retrying in"), "{output}");
    let patches =
        |request: &Request| request.method == "PATCH" && request.headers["content-range"].starts_with("1572864-");
    assert_eq!(registry.count(patches), 1, "only the rest is sent again");
}

#[test]
fn faults_that_end_a_push_in_words_and_without_a_tag() {
    let source = Source::new("push-fails");
    type Play = Box<dyn Fn(&Request, usize) -> Act + Send + Sync>;
    let says = |which: fn(&Request) -> bool, reply: Reply| -> Play {
        Box::new(move |request, _| if which(request) { Act::Say(reply.clone()) } else { Act::Right })
    };
    let other = format!("sha256:{}", "0".repeat(64));
    let plays: Vec<(&str, Play, Vec<&str>)> = vec![
        (
            "nobody may push",
            says(Request::begins_upload, Reply::error(401, "UNAUTHORIZED")),
            vec!["push access denied for", "said the test"],
        ),
        (
            "not this one",
            says(Request::sends_manifest, Reply::error(403, "DENIED")),
            vec!["push access denied for", "said the test"],
        ),
        ("no place", says(Request::begins_upload, Reply::new(202)), vec!["a place for an upload", "it names none"]),
        (
            "another host over http",
            says(Request::begins_upload, Reply::new(202).with("Location", "http://192.0.2.1/upload")),
            vec!["a place for an upload", "another host without https"],
        ),
        (
            "the cloud's own secrets",
            says(Request::begins_upload, Reply::new(202).with("Location", "http://169.254.169.254/latest")),
            vec!["a place for an upload", "link-local"],
        ),
        (
            "a redirect to another host over http",
            says(Request::sends_blob, Reply::new(307).with("Location", "http://192.0.2.1/upload")),
            vec!["another host without https"],
        ),
        (
            "redirects without end",
            Box::new(|request, _| match request.sends_blob() {
                true => Act::Say(Reply::new(307).with("Location", request.path.clone())),
                false => Act::Right,
            }),
            vec!["redirects again and again"],
        ),
        (
            "a redirect that would become a GET",
            says(Request::sends_manifest, Reply::new(302).with("Location", "/v2/")),
            vec!["status 302"],
        ),
        (
            "too large however small",
            says(|r| r.sends_blob() || r.method == "PATCH", Reply::new(413)),
            vec!["status 413"],
        ),
        (
            "the digest is wrong, says the registry",
            says(Request::sends_blob, Reply::error(400, "DIGEST_INVALID")),
            vec!["digest invalid: said the test"],
        ),
        (
            "another blob was taken",
            says(Request::sends_blob, Reply::new(201).with("Docker-Content-Digest", &other)),
            vec!["says that it has taken", &other],
        ),
        (
            "another manifest was taken",
            says(Request::sends_manifest, Reply::new(201).with("Docker-Content-Digest", &other)),
            vec!["says that it has taken", &other],
        ),
        (
            "a blob of the manifest is unknown",
            says(Request::sends_manifest, Reply::error(404, "MANIFEST_BLOB_UNKNOWN")),
            vec!["manifest blob unknown"],
        ),
        (
            "always busy",
            says(|request| request.is("HEAD", "/blobs/"), Reply::error(500, "UNKNOWN")),
            vec!["status 500"],
        ),
        (
            "a limit that is too long",
            says(Request::begins_upload, Reply::error(429, "TOOMANYREQUESTS").with("Retry-After", 3600)),
            vec!["limits the rate of requests", "3600 s"],
        ),
    ];
    for (what, play, words) in plays {
        let registry = Registry::start(play);
        let output = source.push(&registry);
        assert_eq!(output.status, 1, "{what}: {output}");
        words.iter().for_each(|word| assert!(output.stderr.contains(word), "{what}: {word:?} is not in {output}"));
        let named = registry.shelf.lock().unwrap().manifests.keys().any(|name| name == "tag");
        assert!(!named, "{what}: nothing is named");
    }
}

#[test]
fn a_blob_that_is_damaged_here_is_told_to_be() {
    let source = Source::new("push-damaged");
    let path = source.wherry.root().join("content/blobs").join(source.layer.replace(':', "/"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let registry = Registry::start(|_, _| Act::Right);
    source.push(&registry).expect(1).complains(&["damaged or tampered with", &source.layer]);
}

#[test]
fn mounts_and_wrong_answers_to_them() {
    let source = Source::new("push-mount");
    let elsewhere = |registry: &Registry| format!("{}/other/image:1", registry.host);
    let mounting = |request: &Request| request.begins_upload() && request.query("mount").is_some();
    let other = format!("sha256:{}", "1".repeat(64));
    let replies: Vec<(&str, Reply)> = vec![
        ("a place without a location", Reply::new(202)),
        ("another blob", Reply::new(201).with("Docker-Content-Digest", &other)),
        ("not from there", Reply::error(403, "DENIED")),
        ("unknown", Reply::error(404, "NAME_UNKNOWN")),
        ("not offered", Reply::error(405, "UNSUPPORTED")),
        ("a location on another host", Reply::new(202).with("Location", "http://192.0.2.1/")),
    ];
    for (what, reply) in replies {
        let registry = Registry::start(move |request, _| match mounting(request) {
            true => Act::Say(reply.clone()),
            false => Act::Right,
        });
        source.wherry.ok(["tag", &source.name, &elsewhere(&registry)]);
        let output = source.push(&registry);
        assert_eq!(output.status, 0, "{what}: {output}");
        assert!(registry.count(mounting) > 0, "{what}");
        source.assert_pushed(&registry);
    }
    // One that has it not begins an upload by the same question.
    let registry = Registry::start(|_, _| Act::Right);
    source.wherry.ok(["tag", &source.name, &elsewhere(&registry)]);
    source.push(&registry).expect(0);
    source.assert_pushed(&registry);
    assert_eq!(registry.count(Request::begins_upload), 2);
    let registry = Registry::start(move |request, _| match mounting(request) {
        true => Act::Say(Reply::new(201)),
        false => Act::Right,
    });
    source.wherry.ok(["tag", &source.name, &elsewhere(&registry)]);
    let output = source.push(&registry).expect(0);
    assert_eq!(output.stdout.matches(": Mounted from other/image\n").count(), 2, "{output}");
    assert_eq!(registry.count(Request::sends_blob), 0);
}

#[test]
fn the_real_registry_mounts_what_it_has_in_another_repository() {
    let source = Source::new("push-mount-real");
    let copy = format!("{}/push-mounted-{}:1", registry().host, std::process::id());
    let output = source.wherry.call(["push", &source.name, &copy]).expect(0);
    assert_eq!(output.stdout.matches(": Mounted from push-mount-real\n").count(), 2, "{output}");
    assert!(output.stdout.contains(&format!("\n1: digest: {} size: ", source.manifest)), "{output}");
    let again = source.wherry.call(["push", &source.name, &copy]).expect(0);
    assert_eq!(again.stdout.matches(": Layer already exists\n").count(), 2, "{again}");
    assert_eq!(
        digest(&handmade::get(&copy[copy.find('/').unwrap() + 1..copy.rfind(':').unwrap()], "manifests", "1")),
        source.manifest
    );
}

#[test]
fn an_index_is_pushed_whole_if_all_of_it_is_here() {
    let image = images::index();
    let wherry = Wherry::with(&image);
    let raw = handmade::get("index", "manifests", "latest");
    let registry = Registry::start(|_, _| Act::Right);
    let copy = format!("{}/some/image:tag", registry.host);
    let part = wherry.call(["push", &image, &copy]).expect(0);
    part.complains(&["Not all multiplatform-content is present", &digest(&raw)]);
    assert_ne!(registry.manifest("tag").unwrap(), raw);
    wherry.ok(["pull", "-q", "--platform", "wasi/wasm", &image]);
    wherry.ok(["tag", &image, &copy]);
    let whole = wherry.call(["push", &copy]).expect(0);
    assert_eq!(registry.manifest("tag").unwrap(), raw);
    assert!(whole.stdout.contains(&format!("tag: digest: {} size: {}\n", digest(&raw), raw.len())), "{whole}");
    assert!(whole.stderr.is_empty(), "{whole}");
    let names: Vec<String> = {
        let shelf = registry.shelf.lock().unwrap();
        let puts = shelf.seen.iter().filter(|request| request.sends_manifest());
        puts.map(|request| request.path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names.last().map(String::as_str), Some("tag"), "children first: {names:?}");
    assert!(names[1..names.len() - 1].iter().all(|name| name.starts_with("sha256:")), "{names:?}");
    // One platform of it, when that is what is asked for.
    wherry.call(["push", "--platform", "wasi/wasm", &copy]).expect(0);
    let one: Value = serde_json::from_slice(&registry.manifest("tag").unwrap()).unwrap();
    assert_eq!(one["mediaType"].as_str().unwrap_or(MANIFEST), MANIFEST);
    wherry.call(["push", "--platform", "linux/s390x", &copy]).expect(1).complains(&["linux/s390x", "wasi/wasm"]);
}

#[test]
fn all_tags_of_a_repository() {
    let source = Source::new("push-all");
    let registry = Registry::start(|_, _| Act::Right);
    let name = format!("{}/some/image", registry.host);
    for tag in ["one", "two"] {
        source.wherry.ok(["tag", &source.name, &format!("{name}:{tag}")]);
    }
    let output = source.wherry.call(["push", "-a", &name]).expect(0);
    for tag in ["one", "two"] {
        assert!(output.stdout.contains(&format!("{tag}: digest: {}", source.manifest)), "{output}");
        assert_eq!(digest(&registry.manifest(tag).unwrap()), source.manifest);
    }
    assert_eq!(output.stdout.matches(&format!("The push refers to repository [{name}]")).count(), 2);
    source
        .wherry
        .call(["push", "-a", &format!("{name}:one")])
        .expect(1)
        .complains(&["tag can't be used with --all-tags/-a"]);
    source.wherry.call(["push", "-a", &format!("{name}/none")]).expect(1).complains(&["does not exist locally"]);
    let quiet = source.wherry.call(["push", "-q", "-a", &name]).expect(0);
    assert_eq!(quiet.stdout, format!("{name}:one\n{name}:two\n"));
}

#[test]
fn a_referrer_is_listed_by_tag_where_the_registry_does_not_list_it() {
    let subject = json!({"mediaType": MANIFEST, "digest": format!("sha256:{}", "a".repeat(64)), "size": 1});
    let image = Handmade::image(&host_platform(), &["/x"], vec![(TAR, tar(&[("x", b"x")]))]);
    let entry = image.push_entry("push-subject", &host_platform());
    // An image that is about another one: signed copies are such.
    let mut manifest: Value =
        serde_json::from_slice(&handmade::get("push-subject", "manifests", entry["digest"].as_str().unwrap())).unwrap();
    manifest["subject"] = subject.clone();
    manifest["artifactType"] = json!("application/vnd.example.signature");
    let name = push_index("push-subject", "latest", &[]);
    let (_, manifest_digest, _) = handmade::put_manifest("push-subject", "about", MANIFEST, &manifest);
    let name = name.replace(":latest", ":about");
    let wherry = Wherry::with(&name);
    let tag = format!("sha256-{}", "a".repeat(64));
    let registry = Registry::start(|_, _| Act::Right);
    let copy = format!("{}/some/image:tag", registry.host);
    for _ in 0..2 {
        wherry.call(["push", &name, &copy]).expect(0);
        let list: Value = serde_json::from_slice(&registry.manifest(&tag).expect("the list is there")).unwrap();
        assert_eq!(list["mediaType"], INDEX);
        let entries = list["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{list}");
        assert_eq!(entries[0]["digest"], json!(manifest_digest));
        assert_eq!(entries[0]["artifactType"], "application/vnd.example.signature");
    }
    // A registry that says that it knows is left to it.
    let registry = Registry::start(|request, _| match request.sends_manifest() {
        true => Act::Add("OCI-Subject", format!("sha256:{}", "a".repeat(64))),
        false => Act::Right,
    });
    wherry.call(["push", &name, &format!("{}/some/image:tag", registry.host)]).expect(0);
    assert!(registry.manifest("tag").is_some() && registry.manifest(&tag).is_none());
}
