//! A server that answers as a test tells it to: for what no real registry can be made to do, and for the token
//! dances of registries that exist once in the world. HTTP/1.1, one request for each connection.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use serde_json::{Value, json};

use super::handmade::{digest, tar};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The most of a body that is read.
const MAX_BODY: u64 = 1 << 20;

/// What arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Without its query.
    pub path: String,
    /// As it was written.
    pub query: String,
    /// By their names in lower case.
    pub headers: HashMap<String, String>,
    /// All of it.
    pub body: String,
}

impl Request {
    /// The Authorization header, or nothing.
    pub fn authorization(&self) -> &str {
        self.headers.get("authorization").map(String::as_str).unwrap_or_default()
    }

    /// The values of a field of the query, or of a form.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let all = if self.method == "POST" { &self.body } else { &self.query };
        let pairs = all.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| unescaped(value)).collect()
    }
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Besides Content-Length, unless another one than the body's is among them.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer of this status.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// The same with a header more.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// A refusal that asks for something.
    pub fn challenge(value: impl ToString) -> Self {
        refusal(401, "UNAUTHORIZED", "authentication required").with("WWW-Authenticate", value)
    }
}

/// An error in the form of the distribution specification.
pub fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({"errors": [{"code": code, "message": message, "detail": null}]}).to_string())
}

/// A server. It ends with the test's process.
pub struct Server {
    /// What stands before the slash of a reference.
    pub host: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts one; `answer` is told what arrived, and the server's own host.
    pub fn new(answer: impl Fn(&Request, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log, own) = (Arc::new(answer), seen.clone(), host.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (answer, log, own) = (answer.clone(), log.clone(), own.clone());
                // A client that hangs up early is part of some plays.
                thread::spawn(move || serve(client, &log, &|request| answer(request, &own)).ok());
            }
        });
        Self { host, seen }
    }

    /// All that arrived, in order.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// `METHOD path` of all that arrived.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

fn serve(mut client: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) -> io::Result<()> {
    let request = read(&client)?;
    log.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    client.write_all((head + "\r\n").as_bytes())?;
    if request.method != "HEAD" {
        client.write_all(&reply.body)?;
    }
    client.flush()
}

fn read(client: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length: &String| length.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length.min(MAX_BODY)).read_to_end(&mut body)?;
    Ok(Request { method, path, query, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A small image, served as any good registry serves it, under any name.
pub fn honest(request: &Request) -> Reply {
    let (blobs, manifest) = image();
    let last = request.path.rsplit('/').next().unwrap_or_default();
    match blobs.get(last) {
        _ if request.path == "/v2/" => Reply::new(200, "{}"),
        _ if request.path.contains("/manifests/") => Reply::new(200, manifest.clone())
            .with("Content-Type", MANIFEST)
            .with("Docker-Content-Digest", digest(manifest)),
        Some(blob) => Reply::new(200, blob.clone()),
        None => refusal(404, "BLOB_UNKNOWN", "blob unknown to registry"),
    }
}

/// Blobs by their digests, and the manifest.
type Image = (HashMap<String, Vec<u8>>, Vec<u8>);

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let layers = [tar(&[("one", b"1")]), tar(&[("two", b"2")])];
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({"os": "linux", "architecture": architecture, "config": {"Cmd": ["/one"]},
            "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = config.to_string().into_bytes();
        let of = |kind: &str, bytes: &[u8]| {
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()})
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": of("config.v1+json", &config),
            "layers": layers.iter().map(|layer| of("layer.v1.tar", layer)).collect::<Vec<Value>>()});
        let blobs = layers.into_iter().chain([config]).map(|blob| (digest(&blob), blob)).collect();
        (blobs, manifest.to_string().into_bytes())
    })
}
