//! A registry that misbehaves, a network that breaks, a disk that is full, a pull that is killed: clear words, and
//! nothing lost. A real registry cannot be asked for these faults, so a small one of the test's own plays it.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{Running, Wherry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Larger than any socket's buffers, so that a cut or a kill in its middle is one.
const LAYER_BYTES: usize = 3 << 20;

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn is_blob(&self, digest: &str) -> bool {
        self.path.ends_with(&format!("/blobs/{digest}"))
    }

    fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }

    /// The first byte of a `Range: bytes=N-`.
    fn from(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }
}

#[derive(Clone)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Say that there is more of the body, and hang up here.
    cut: Option<usize>,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn cut(self, at: usize) -> Self {
        Self { cut: Some(at), ..self }
    }
}

/// An image of one platform, in memory.
#[derive(Clone)]
pub struct Served {
    /// By digest.
    pub blobs: HashMap<String, Vec<u8>>,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// What it is sent as.
    pub media_type: String,
    /// The layers' digests, base first.
    pub layers: Vec<String>,
}

impl Served {
    /// An image of so many layers, each a tar archive of one file of its own random bytes.
    fn image(layers: usize) -> Self {
        Self::image_of(layers, LAYER_BYTES)
    }

    /// The same with files of this size.
    pub fn image_of(layers: usize, bytes: usize) -> Self {
        let mut blobs = HashMap::new();
        let mut keep = |bytes: Vec<u8>| {
            let (digest, size) = (digest(&bytes), bytes.len());
            blobs.insert(digest.clone(), bytes);
            (digest, size)
        };
        let layers: Vec<_> = (0..layers).map(|_| keep(tar("file", &noise(bytes)))).collect();
        let diff_ids: Vec<&String> = layers.iter().map(|(digest, _)| digest).collect();
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        let config =
            json!({"os": "linux", "architecture": architecture(), "config": {"Cmd": ["/file"]}, "rootfs": rootfs});
        let (config, size) = keep(config.to_string().into_bytes());
        let blob = |(digest, size): &(String, usize)| json!({"mediaType": LAYER, "digest": digest, "size": size});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": size},
            "layers": layers.iter().map(blob).collect::<Vec<_>>(),
        });
        let layers = layers.into_iter().map(|(digest, _)| digest).collect();
        Self { blobs, manifest: manifest.to_string().into_bytes(), media_type: MANIFEST.to_owned(), layers }
    }

    /// The same with another manifest, which `change` makes of it.
    fn changed(&self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let mut manifest = serde_json::from_slice(&self.manifest).unwrap();
        change(&mut manifest);
        Self { manifest: manifest.to_string().into_bytes(), ..self.clone() }
    }

    /// What a good registry answers.
    fn honest(&self, request: &Request) -> Reply {
        if request.path == "/v2/" {
            return Reply::new(200, "{}");
        }
        if request.is_manifest() {
            return Reply::new(200, self.manifest.clone()).with("Content-Type", &self.media_type);
        }
        match self.blobs.iter().find(|(digest, _)| request.is_blob(digest)) {
            Some((_, bytes)) if request.headers.contains_key("range") => Reply::new(206, &bytes[request.from()..]),
            Some((_, bytes)) => Reply::new(200, bytes.clone()),
            None => error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        }
    }
}

/// The error body of the distribution specification.
fn error(status: u16, code: &str, message: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": message, "detail": null}]});
    Reply::new(status, body.to_string()).with("Content-Type", "application/json")
}

/// A registry on a loopback port that answers as it is told to. It ends with the test's process.
struct Registry {
    host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Registry {
    /// `answer` is given each request and how many there were of the same path before it.
    fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                // A client that hangs up is what some of these tests are about.
                thread::spawn(move || serve(stream?, &seen, &*answer));
            }
        });
        Self { host, requests }
    }

    fn image(&self) -> String {
        format!("{}/some/image:tag", self.host)
    }

    fn count(&self, which: impl Fn(&Request) -> bool) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| which(request)).count()
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(impl Fn(&Request, usize) -> Reply + ?Sized),
) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    let before = seen.lock().unwrap().iter().filter(|r| r.path == request.path && r.method == request.method).count();
    let reply = answer(&request, before);
    let head_only = request.method == "HEAD";
    seen.lock().unwrap().push(request);
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
    head += &format!("Content-Length: {}\r\n", reply.body.len());
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all((head + "\r\n").as_bytes())?;
    if !head_only {
        stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())])?;
    }
    stream.flush()
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Ok(Request { method, path, headers })
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Bytes that no other test and no other layer has.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// A POSIX ustar archive of one file.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = vec![0; content.len().next_multiple_of(512) - content.len() + 1024];
    [&header[..], content, &padding].concat()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Every blob of the image is in the store with the right bytes, and no temporary file is left.
pub fn assert_whole(root: &Path, served: &Served) {
    for digest in served.blobs.keys() {
        let bytes = fs::read(root.join("content/blobs").join(digest.replace(':', "/"))).unwrap();
        assert_eq!(self::digest(&bytes), *digest);
    }
    assert_eq!(left_over(root), Vec::<String>::new());
}

pub fn left_over(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("content/ingest")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name != ".lock").collect()
}

/// Pulls what `answer` serves, which must fail with these words and leave nothing.
#[track_caller]
fn refused(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static, words: &[&str]) -> Registry {
    let registry = Registry::start(answer);
    let wherry = Wherry::new();
    wherry.call(["pull", "-q", &registry.image()]).expect(1).complains(words).says("");
    assert_eq!(wherry.ok(["images", "-q"]), "");
    assert_eq!(left_over(wherry.root()), Vec::<String>::new());
    registry
}

#[test]
fn the_registrys_refusals_are_told_in_words() {
    for (reply, words) in [
        (error(401, "UNAUTHORIZED", "who are you?"), ["pull access denied for", "who are you?"]),
        (error(403, "DENIED", "not you"), ["pull access denied for", "not you"]),
        (error(404, "MANIFEST_UNKNOWN", "manifest unknown"), ["some/image:tag not found", "manifest unknown"]),
        (Reply::new(404, "<html>\x1b[2Jnginx"), ["some/image:tag not found", "<html> [2Jnginx"]),
        (error(405, "UNSUPPORTED", "no"), ["status 405", "unsupported: no"]),
    ] {
        let served = Served::image(0);
        let registry = refused(
            move |request, _| if request.is_manifest() { reply.clone() } else { served.honest(request) },
            &words,
        );
        assert_eq!(registry.count(Request::is_manifest), 1, "a decision is not asked for again");
    }
}

#[test]
fn a_rate_limit_is_waited_for_as_long_as_the_registry_says() {
    let served = Served::image(1);
    let (whole, layer) = (served.clone(), served.layers[0].clone());
    // Once for the manifest, once for a layer.
    let registry = Registry::start(move |request, before| match before {
        0 if request.is_manifest() => error(429, "TOOMANYREQUESTS", "slow down").with("Retry-After", 1),
        0 if request.is_blob(&layer) => error(429, "TOOMANYREQUESTS", "slow down").with("Retry-After", 1),
        _ => served.honest(request),
    });
    let wherry = Wherry::new();
    let begun = Instant::now();
    let output = wherry.call(["pull", &registry.image()]).expect(0);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{output}");
    assert_eq!(output.stdout.matches("Retrying in 1 second: ").count(), 2, "{output}");
    assert!(output.stdout.contains("slow down"), "{output}");
    assert_whole(wherry.root(), &whole);
}

#[test]
fn a_rate_limit_that_is_too_long_is_told() {
    let begun = Instant::now();
    refused(
        |_, _| error(429, "TOOMANYREQUESTS", "pull rate limit").with("Retry-After", 3600),
        &["limits the rate of requests", "come back in 3600 s", "pull rate limit"],
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_server_in_trouble_is_asked_again_and_again_but_not_for_ever() {
    let served = Served::image(1);
    let whole = served.clone();
    let registry = Registry::start(move |request, before| match before {
        0 | 1 => Reply::new(503, "busy"),
        _ => served.honest(request),
    });
    let wherry = Wherry::new();
    wherry.call(["pull", &registry.image()]).expect(0);
    assert_whole(wherry.root(), &whole);
    let registry = refused(|_, _| Reply::new(500, "panic: nil"), &["status 500", "panic: nil"]);
    assert_eq!(registry.count(|_| true), 5);
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let served = Served::image(1);
    let (whole, layer) = (served.clone(), served.layers[0].clone());
    let cut = LAYER_BYTES / 2;
    let registry = Registry::start(move |request, before| match before {
        0 if request.is_blob(&layer) => served.honest(request).cut(cut),
        _ => served.honest(request),
    });
    let wherry = Wherry::new();
    wherry.call(["pull", &registry.image()]).expect(0);
    assert_whole(wherry.root(), &whole);
    let digest = &whole.layers[0];
    let again = registry.count(|request| request.is_blob(digest) && request.from() > 0);
    assert_eq!(again, 1, "the second request asks for the rest only");
}

#[test]
fn a_registry_that_cannot_resume_sends_all_again() {
    let served = Served::image(1);
    let (whole, layer) = (served.clone(), served.layers[0].clone());
    let registry = Registry::start(move |request, before| {
        if !request.is_blob(&layer) {
            return served.honest(request);
        }
        let all = Reply::new(200, served.blobs[&layer].clone());
        if before == 0 { all.cut(LAYER_BYTES / 2) } else { all }
    });
    let wherry = Wherry::new();
    wherry.call(["pull", &registry.image()]).expect(0);
    assert_whole(wherry.root(), &whole);
}

#[test]
fn a_registry_that_resumes_at_the_wrong_place_is_asked_for_all_again() {
    let served = Served::image(1);
    let (whole, layer) = (served.clone(), served.layers[0].clone());
    let registry = Registry::start(move |request, before| match before {
        0 if request.is_blob(&layer) => served.honest(request).cut(LAYER_BYTES / 2),
        1 if request.is_blob(&layer) => {
            Reply::new(206, &served.blobs[&layer][..served.blobs[&layer].len() - request.from()])
        }
        _ => served.honest(request),
    });
    let wherry = Wherry::new();
    wherry.call(["pull", &registry.image()]).expect(0);
    assert_whole(wherry.root(), &whole);
}

#[test]
fn bytes_that_are_not_those_announced_are_refused() {
    let good = Served::image(1);
    let layer = good.layers[0].clone();
    let instead = |bytes: Vec<u8>| {
        let (served, layer) = (good.clone(), layer.clone());
        move |request: &Request, _: usize| match request.is_blob(&layer) {
            true => Reply::new(200, bytes.clone()),
            false => served.honest(request),
        }
    };
    let bytes = &good.blobs[&layer];
    let mut flipped = bytes.clone();
    flipped[LAYER_BYTES / 2] ^= 1;
    refused(instead(flipped), &[&layer, "digest"]);
    refused(instead([&bytes[..], b"more"].concat()), &[&layer, "more"]);
    refused(instead(bytes[..100].to_vec()), &[&layer, "100 of the"]);
    let mut config = good.clone();
    let (digest, _) = config.blobs.iter().find(|(digest, _)| **digest != layer).unwrap();
    let digest = digest.clone();
    config.blobs.insert(digest.clone(), b"{\"os\":\"linux\"".repeat(20)[..config.blobs[&digest].len()].to_vec());
    refused(move |request, _| config.honest(request), &[&digest]);
}

#[test]
fn a_manifest_that_is_not_one_is_refused() {
    let good = Served::image(1);
    let serving = |served: Served| move |request: &Request, _: usize| served.honest(request);
    let typed = |media_type: &str| Served { media_type: media_type.to_owned(), ..good.clone() };
    refused(serving(typed("text/html")), &["text/html"]);
    refused(serving(typed(INDEX)), &[INDEX, MANIFEST]);
    let page = Served { manifest: b"<html>login</html>".to_vec(), ..good.clone() };
    refused(serving(page), &["not a valid"]);
    let both = good.changed(|manifest| manifest["manifests"] = json!([]));
    refused(serving(both), &["two different things"]);
    let strange = good.changed(|manifest| manifest["layers"][0]["mediaType"] = json!("application/x-rar"));
    refused(serving(strange), &["layer 1", "application/x-rar"]);
    let chart =
        good.changed(|manifest| manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json"));
    refused(serving(chart), &["not an image that can be run", "helm"]);
    let fewer = good.changed(|manifest| manifest["layers"] = json!([]));
    refused(serving(fewer), &["has 0 layers", "describes 1"]);
    let escape = good.changed(|manifest| manifest["layers"][0]["digest"] = json!("sha256:../../../etc/passwd"));
    refused(serving(escape), &["not a valid"]);
    let huge = Served { manifest: vec![b' '; (4 << 20) + 1], ..good.clone() };
    refused(serving(huge), &["larger than the 4194304 bytes"]);
    let config = good.changed(|manifest| manifest["config"]["size"] = json!(5 << 20));
    refused(serving(config), &["5242880 bytes"]);
}

#[test]
fn a_lying_digest_header_and_another_manifest_than_asked_for_are_refused() {
    let good = Served::image(0);
    let zeros = format!("sha256:{}", "0".repeat(64));
    let (served, header) = (good.clone(), zeros.clone());
    let lying = move |request: &Request, _: usize| served.honest(request).with("Docker-Content-Digest", &header);
    refused(lying, &[&zeros]);
    let registry = Registry::start(move |request, _| good.honest(request));
    let by_digest = format!("{}/some/image@{zeros}", registry.host);
    Wherry::new().call(["pull", &by_digest]).expect(1).complains(&[&zeros]);
}

#[test]
fn indexes_that_go_in_circles_end() {
    let good = Served::image(0);
    // Each index names the next, which is itself with another number.
    let index = |level: usize| {
        let mut next = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
        for number in (level..20).rev() {
            let platform = json!({"os": "linux", "architecture": architecture()});
            let entry = json!({"mediaType": INDEX, "digest": digest(next.as_bytes()), "size": next.len(), "platform": platform});
            next = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry], "annotations": {"n": number.to_string()}})
                .to_string();
        }
        next
    };
    let all: Vec<String> = (0..=20).map(index).collect();
    let answer = move |request: &Request, _: usize| {
        let asked = all.iter().find(|index| request.path.ends_with(&digest(index.as_bytes()))).unwrap_or(&all[0]);
        let reply = Reply::new(200, asked.as_str()).with("Content-Type", INDEX);
        if request.is_manifest() { reply } else { good.honest(request) }
    };
    let registry = refused(answer, &["index of indexes"]);
    assert!(registry.count(Request::is_manifest) < 10);
}

#[test]
fn credentials_go_to_their_registry_and_not_where_it_redirects() {
    let served = Served::image(1);
    let (whole, stored) = (served.clone(), served.clone());
    let storage = Registry::start(move |request, _| stored.honest(request));
    let elsewhere = storage.host.clone();
    let registry = Registry::start(move |request, _| match request.headers.get("authorization") {
        // `user:secret`
        Some(basic) if basic == "Basic dXNlcjpzZWNyZXQ=" && request.path.contains("/blobs/") => {
            Reply::new(307, "").with("Location", format!("http://{elsewhere}{}", request.path))
        }
        Some(basic) if basic == "Basic dXNlcjpzZWNyZXQ=" => served.honest(request),
        _ => error(401, "UNAUTHORIZED", "log in").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let wherry = Wherry::new();
    wherry.call(["pull", "-q", &registry.image()]).expect(1).complains(&["pull access denied"]);
    log_in(&wherry, json!({"auths": {&registry.host: {"auth": "dXNlcjpzZWNyZXQ="}}}));
    wherry.call(["pull", &registry.image()]).expect(0);
    assert_whole(wherry.root(), &whole);
    assert!(storage.count(|_| true) > 0);
    assert_eq!(storage.count(|request| request.headers.contains_key("authorization")), 0);
}

/// Docker's token protocol, with the password from a credential helper on the path.
#[test]
fn a_token_is_fetched_with_a_helpers_password_and_again_when_it_expires() {
    let served = Served::image(2);
    let whole = served.clone();
    let address = Arc::new(Mutex::new(String::new()));
    let (realm, layer) = (address.clone(), served.layers[1].clone());
    let registry = Registry::start(move |request, before| {
        let authorization = request.headers.get("authorization").map(String::as_str).unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", realm.lock().unwrap());
        let expired = before == 0 && request.is_blob(&layer);
        match (request.path.split('?').next().unwrap_or_default(), authorization) {
            ("/token", "Basic dXNlcjpzZWNyZXQ=") => {
                assert!(request.path.contains("scope=repository%3Asome%2Fimage%3Apull"), "{}", request.path);
                Reply::new(200, json!({"token": format!("token-{before}")}).to_string())
            }
            ("/token", _) => error(401, "UNAUTHORIZED", "wrong password"),
            (_, bearer) if bearer.starts_with("Bearer token-") && !expired => served.honest(request),
            _ => error(401, "UNAUTHORIZED", "log in").with("WWW-Authenticate", challenge),
        }
    });
    *address.lock().unwrap() = registry.host.clone();
    let wherry = Wherry::new();
    let tools = wherry.folder("bin");
    log_in(&wherry, json!({"credHelpers": {&registry.host: "story"}}));
    let pull = |secret: &str| {
        let helper = tools.join("docker-credential-story");
        let answer = json!({"ServerURL": "", "Username": "user", "Secret": secret});
        fs::write(&helper, format!("#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")).unwrap();
        Command::new("chmod").arg("+x").arg(&helper).status().unwrap();
        let path = format!("{}:/usr/bin:/bin", tools.display());
        Running::start(wherry.command(["pull", &registry.image()]).env("PATH", path)).finish()
    };
    let output = pull("hunter2").expect(1).complains(&["refuses the credentials", "wrong password"]);
    assert!(!output.stderr.contains("hunter2"), "{output}");
    pull("secret").expect(0);
    assert_whole(wherry.root(), &whole);
}

#[test]
fn a_challenge_cannot_send_credentials_away_in_the_clear() {
    let registry = Registry::start(move |_, _| {
        error(401, "UNAUTHORIZED", "log in")
            .with("WWW-Authenticate", "Bearer realm=\"http://169.254.169.254/latest/meta-data\"")
    });
    let wherry = Wherry::new();
    log_in(&wherry, json!({"auths": {&registry.host: {"auth": "dXNlcjpzZWNyZXQ="}}}));
    wherry.call(["pull", &registry.image()]).expect(1).complains(&["169.254.169.254", "refused"]);
}

fn log_in(wherry: &Wherry, config: serde_json::Value) {
    // A story's home is its data root.
    let home = wherry.root().join(".docker");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config.json"), config.to_string()).unwrap();
}

/// Twenty-four kills, three to a store, at moments spread over the whole of a pull.
#[test]
fn a_pull_killed_at_any_moment_loses_nothing() {
    let served = Served::image(4);
    let whole = served.clone();
    let registry = Registry::start(move |request, _| served.honest(request));
    let begun = Instant::now();
    Wherry::new().ok(["pull", "-q", &registry.image()]);
    let duration = begun.elapsed();
    for store in 0..8 {
        let wherry = Wherry::new();
        for kill in 0..3 {
            let moment = duration.mul_f64(f64::from(u16::from_be_bytes(noise(2).try_into().unwrap())) / 65536.0);
            let mut pull = wherry.command(["pull", "-q", &registry.image()]);
            let mut pull = pull.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(moment); // the moment is what this test is about
            pull.kill().unwrap();
            pull.wait().unwrap();
            let listed = wherry.ok(["images", "-q"]);
            if !listed.is_empty() {
                assert_whole(wherry.root(), &whole);
            }
            println!("store {store}, kill {kill} after {moment:?} of {duration:?}: listed {listed:?}");
        }
        wherry.ok(["pull", "-q", &registry.image()]);
        // A last pull has nothing to fetch but sweeps what the killed ones left.
        wherry.ok([
            "pull",
            "-q",
            &Registry::start({
                let other = Served::image(1);
                move |r, _| other.honest(r)
            })
            .image(),
        ]);
        assert_whole(wherry.root(), &whole);
    }
}

#[test]
fn a_full_disk_is_told_and_the_store_stays_usable() {
    let (large, small) = (Served::image(4), Served::image(1));
    let whole = small.clone();
    let large = Registry::start(move |request, _| large.honest(request));
    let small = Registry::start(move |request, _| small.honest(request));
    let wherry = Wherry::new();
    // A disk of its own, in a mount namespace that ends with the shell.
    let script = r#"
        mount -t tmpfs -o size=8m none "$WHERRY_ROOT" || exit 99
        "$1" pull -q "$2" && exit 98
        ls "$WHERRY_ROOT/content/ingest"
        rm -rf "$WHERRY_ROOT"/content/blobs/sha256/*
        "$1" pull -q "$3" && "$1" images -q
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "story", env!("CARGO_BIN_EXE_wherry"), &large.image(), &small.image()])
        .env("WHERRY_ROOT", wherry.root())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stderr.contains("No space left on device") && stderr.contains("hint: "), "{stderr}");
    assert_eq!(stdout.lines().count(), 2, "no temporary file, and the small image's name and id: {stdout}");
    assert_eq!(whole.layers.len(), 1);
}
