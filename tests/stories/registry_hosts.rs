//! Which hosts serve a registry: mirrors, private authorities, client certificates and proxies, as an administrator
//! writes them into `certs.d`.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use serde_json::json;

use crate::support::registry::{free_port, registry};
use crate::support::signed::certificate_for;
use crate::support::standin::{Reply, Request, Server, honest, refusal};
use crate::support::{Output, Running, Wherry, eventually, images};

/// A registry of a name that nothing answers to: only what is configured for it can.
const NAME: &str = "registry.invalid";

/// Writes the file of a registry.
fn configure(wherry: &Wherry, registry: &str, toml: &str) {
    let folder = wherry.folder("certs.d").join(registry);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("hosts.toml"), toml).unwrap();
}

fn call(wherry: &Wherry, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = wherry.command(arguments);
    command.env("WHERRY_CERTS_D", wherry.folder("certs.d"));
    Running::start(command.envs(variables.iter().copied())).finish()
}

fn pull(wherry: &Wherry, name: &str) -> Output {
    call(wherry, &["pull", "-q", name], &[])
}

fn log_in(wherry: &Wherry, host: &str, login: &str) {
    let auth = base64::engine::general_purpose::STANDARD.encode(login);
    fs::create_dir_all(wherry.root().join(".docker")).unwrap();
    fs::write(wherry.root().join(".docker/config.json"), json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
}

fn good() -> Server {
    Server::new(|request, _| honest(request))
}

#[test]
fn a_mirror_gives_everything_and_the_registry_is_not_asked() {
    let (mirror, origin) = (good(), good());
    let wherry = Wherry::new();
    for (registry, image) in [(NAME, format!("{NAME}/some/app:1")), ("docker.io", "app:1".to_owned())] {
        let toml = format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\n[host.\"http://{}\".header]\nx-key = \"open\"\n",
            origin.host, mirror.host, mirror.host
        );
        configure(&wherry, registry, &toml);
        pull(&wherry, &image).expect(0);
        let seen = mirror.seen();
        assert!(seen.iter().any(|request| request.query == format!("ns={registry}")), "{seen:?}");
        assert!(seen.iter().all(|request| request.headers.get("x-key").is_some_and(|key| key == "open")));
    }
    assert_eq!(origin.lines(), Vec::<String>::new());
}

#[test]
fn mirrors_are_asked_in_their_order_and_the_registry_at_the_end() {
    let broken = Server::new(|_, _| refusal(503, "UNAVAILABLE", "busy"));
    let empty = Server::new(|_, _| refusal(404, "NAME_UNKNOWN", "never heard of it"));
    let liar = Server::new(|request, _| match request.path.contains("/manifests/") {
        true => Reply { headers: Vec::new(), ..honest(request) }
            .with("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64))),
        false => honest(request),
    });
    let origin = good();
    let wherry = Wherry::new();
    let toml = format!(
        "server = \"http://{}\"\n[host.\"http://127.0.0.1:{}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
        origin.host,
        free_port(),
        broken.host,
        empty.host,
        liar.host
    );
    configure(&wherry, NAME, &toml);
    pull(&wherry, &format!("{NAME}/some/app:1")).expect(0);
    assert_eq!(broken.lines().len(), 1, "who is in trouble is not asked for every layer");
    assert!(!empty.lines().is_empty() && !liar.lines().is_empty());
    assert_eq!(origin.lines()[0], "GET /v2/some/app/manifests/1");
}

#[test]
fn a_mirror_that_breaks_in_a_layer_is_left_for_the_registry() {
    let mirror = Server::new(|request, _| match request.path.contains("/blobs/") {
        // More is promised than comes.
        true => Reply { headers: vec![("Content-Length".into(), "99999".into())], ..honest(request) },
        false => honest(request),
    });
    let origin = good();
    let wherry = Wherry::new();
    configure(&wherry, NAME, &format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.host, mirror.host));
    pull(&wherry, &format!("{NAME}/some/app:1")).expect(0);
    assert!(origin.lines().iter().all(|line| line.contains("/blobs/")), "{:?}", origin.lines());
}

#[test]
fn a_mirror_with_wrong_bytes_is_left_for_the_next_host() {
    type Change = fn(&mut Vec<u8>);
    let wrong: [(&str, Change); 4] = [
        ("other bytes", |body| body.iter_mut().for_each(|byte| *byte ^= 1)),
        ("a byte changed at the end", |body| *body.last_mut().unwrap() ^= 1),
        ("more", |body| body.push(0)),
        ("less", |body| body.truncate(body.len() - 1)),
    ];
    for (what, change) in wrong {
        eprintln!("{what}");
        let liar = move |request: &Request, _: &str| {
            let mut reply = honest(request);
            if request.path.contains("/blobs/") {
                change(&mut reply.body);
            }
            reply
        };
        let (first, second, origin) = (Server::new(liar), Server::new(liar), good());
        let wherry = Wherry::new();
        let toml = format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
            origin.host, first.host, second.host
        );
        configure(&wherry, NAME, &toml);
        pull(&wherry, &format!("{NAME}/some/app:1")).expect(0);
        assert!(first.lines().iter().any(|line| line.contains("/blobs/")), "{:?}", first.lines());
        assert!(second.lines().iter().all(|line| line.contains("/blobs/")), "{:?}", second.lines());
        assert!(origin.lines().iter().all(|line| line.contains("/blobs/")), "{:?}", origin.lines());
        wherry.call(["system", "check"]).expect(0);
        // The registry itself has nobody behind it.
        let (alone, wherry) = (Server::new(liar), Wherry::new());
        configure(&wherry, NAME, &format!("server = \"http://{}\"\n", alone.host));
        pull(&wherry, &format!("{NAME}/some/app:1")).expect(1);
        assert_eq!(wherry.ok(["images", "-q"]), "");
    }
}

#[test]
fn a_mirror_does_what_it_is_there_for_and_no_more() {
    let (mirror, origin) = (good(), good());
    let wherry = Wherry::new();
    let toml = |capabilities: &str| {
        format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [{capabilities}]\n",
            origin.host, mirror.host
        )
    };
    configure(&wherry, NAME, &toml("\"pull\""));
    pull(&wherry, &format!("{NAME}/some/app:1")).expect(0);
    assert_eq!(origin.lines(), ["GET /v2/some/app/manifests/1"], "what a tag means is the registry's word");
    assert!(mirror.lines().iter().all(|line| line.contains("/blobs/")), "{:?}", mirror.lines());
    // Pushing goes to the registry, and where nobody may be pushed to it is refused.
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let pushed = format!("{NAME}/pushed/app:1");
    wherry.ok(["tag", &image, &pushed]);
    let toml = |more: &str| {
        let real = &registry().host;
        format!(
            "server = \"http://{real}\"\n{more}[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
            mirror.host
        )
    };
    let before = mirror.lines().len();
    configure(&wherry, NAME, &toml(""));
    call(&wherry, &["push", "-q", &pushed], &[]).expect(0);
    configure(&wherry, NAME, &toml("capabilities = [\"pull\", \"resolve\"]\n"));
    call(&wherry, &["push", "-q", &pushed], &[]).expect(1).complains(&["no host of the registry", "push"]);
    assert_eq!(mirror.lines().len(), before, "a mirror without push is never pushed to");
}

#[test]
fn credentials_of_the_registry_are_not_for_its_mirror() {
    let nosy = Server::new(|request, _| match request.authorization() {
        "" => Reply::challenge("Basic realm=\"give\""),
        _ => honest(request),
    });
    let origin = Server::new(|request, _| match request.authorization() {
        "Basic bWU6c2VjcmV0" => honest(request),
        _ => Reply::challenge("Basic realm=\"x\""),
    });
    let wherry = Wherry::new();
    configure(&wherry, "docker.io", &format!("[host.\"http://{}\"]\n", nosy.host));
    configure(&wherry, NAME, &format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.host, nosy.host));
    log_in(&wherry, &origin.host, "me:secret");
    pull(&wherry, &format!("{NAME}/some/app:1")).expect(0);
    assert!(nosy.seen().iter().all(|request| request.authorization().is_empty()), "{:?}", nosy.seen());
    // The mirror's own are for it.
    log_in(&wherry, &nosy.host, "me:secret");
    let other = Wherry::new();
    configure(&other, NAME, &format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.host, nosy.host));
    log_in(&other, &nosy.host, "it:own");
    pull(&other, &format!("{NAME}/some/app:1")).expect(0);
    assert!(nosy.seen().iter().any(|request| request.authorization() == "Basic aXQ6b3du"));
}

#[test]
fn a_file_that_makes_no_sense_is_told() {
    let wherry = Wherry::new();
    configure(&wherry, NAME, "capabilites = [\"pull\"]\n");
    let output = pull(&wherry, &format!("{NAME}/some/app:1")).expect(1);
    output.complains(&["cannot find the hosts of the registry", "hosts.toml", "\"capabilites\" is not known"]);
}

/// nginx before the real registry: TLS of a private authority, and it wants a certificate if there is one to ask for.
fn front(place: &Path, client: Option<&Path>) -> u16 {
    let port = free_port();
    let (key, certificate) = (place.join("server.key"), place.join("server.pem"));
    certificate_for(&key, &certificate, NAME);
    let verify = client.map(|ca| format!("ssl_verify_client on; ssl_client_certificate {};", ca.display()));
    let config = format!(
        "daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error.log;\nevents {{}}\n\
         http {{ access_log {place}/access.log; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
         fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; {verify}\n\
         client_max_body_size 0; location / {{ proxy_pass http://{origin}; proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-Proto https; }} }} }}\n",
        place = place.display(),
        cert = certificate.display(),
        key = key.display(),
        verify = verify.unwrap_or_default(),
        origin = registry().host,
    );
    fs::write(place.join("nginx.conf"), config).unwrap();
    let conf = place.join("nginx.conf");
    thread::spawn(move || {
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nginx", "-c"])
            .arg(conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        server.wait().ok();
    });
    eventually("nginx answers", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    port
}

/// A folder that stays as long as the servers that use it: to the end of the process.
fn place(name: &str) -> PathBuf {
    let place = crate::support::scratch().join(format!("{name}-{}-{}", std::process::id(), free_port()));
    fs::create_dir_all(&place).unwrap();
    place
}

#[test]
fn a_private_authority_and_a_client_certificate_in_dockers_form() {
    let place = place("front");
    let (key, certificate) = (place.join("me.key"), place.join("me.pem"));
    certificate_for(&key, &certificate, "me");
    let port = front(&place, Some(&certificate));
    let image = images::busybox();
    let path = image.split_once('/').unwrap().1;
    let name = format!("localhost:{port}/{path}");
    let wherry = Wherry::new();
    let folder = wherry.folder("certs.d").join(format!("localhost:{port}"));
    fs::create_dir_all(&folder).unwrap();
    let copy = |from: &Path, to: &str| assert!(fs::copy(from, folder.join(to)).unwrap() > 0);
    // Who is asked by TLS and does not show a certificate is refused, and a wrong authority is not believed.
    pull(&wherry, &name).expect(1).complains(&["400"]);
    copy(&certificate, "ca.crt");
    pull(&wherry, &name).expect(1).complains(&["cannot reach the registry", "certificate"]);
    copy(&place.join("server.pem"), "ca.crt");
    pull(&wherry, &name).expect(1).complains(&["400"]);
    copy(&certificate, "me.cert");
    pull(&wherry, &name).expect(1).complains(&["me.key"]);
    copy(&key, "me.key");
    pull(&wherry, &name).expect(0);
    // The same in containerd's form, by another name.
    let toml = format!(
        "[host.\"https://localhost:{port}\"]\nca = \"{}\"\nclient = [[\"{}\", \"{}\"]]\n",
        place.join("server.pem").display(),
        certificate.display(),
        key.display()
    );
    let other = Wherry::new();
    configure(&other, NAME, &toml);
    pull(&other, &format!("{NAME}/{path}")).expect(0);
    let toml = toml.replace("ca = ", "skip_verify = true #");
    let other = Wherry::new();
    configure(&other, NAME, &toml);
    pull(&other, &format!("{NAME}/{path}")).expect(0);
}

/// A proxy that connects every name to one port, and writes down what it was asked for.
fn tunnel(to: u16) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let log = log.clone();
            // Whoever hangs up ends a tunnel.
            thread::spawn(move || connect(client, to, &log).ok());
        }
    });
    (address, seen)
}

fn connect(mut client: TcpStream, to: u16, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    log.lock().unwrap().push(line.trim().to_owned());
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut up, mut down) = (server.try_clone()?, server);
    thread::spawn(move || io::copy(&mut reader, &mut up).map(|_| up.shutdown(std::net::Shutdown::Write)));
    io::copy(&mut down, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}

#[test]
fn proxies_are_those_of_the_environment() {
    // By http the proxy is asked for the whole address.
    let proxy = good();
    let address = format!("http://{}", proxy.host);
    let wherry = Wherry::new();
    configure(&wherry, NAME, &format!("server = \"http://{NAME}\"\n"));
    let name = format!("{NAME}/some/app:1");
    let with = |wherry: &Wherry, name: &str, variables: &[(&str, &str)]| call(wherry, &["pull", "-q", name], variables);
    with(&wherry, &name, &[("HTTP_PROXY", &address), ("NO_PROXY", NAME)]).expect(1).complains(&["cannot reach"]);
    with(&wherry, &name, &[("HTTPS_PROXY", &address)]).expect(1).complains(&["cannot reach"]);
    with(&wherry, &name, &[("http_proxy", &address), ("NO_PROXY", "other.invalid")]).expect(0);
    let is_whole = |request: &Request| request.path.starts_with(&format!("http://{NAME}/v2/"));
    assert!(proxy.seen().iter().all(is_whole), "{:?}", proxy.lines());
    // By https it is asked for a tunnel.
    let place = place("tunnel");
    let (address, seen) = tunnel(front(&place, None));
    let image = images::busybox();
    let name = format!("{NAME}/{}", image.split_once('/').unwrap().1);
    let wherry = Wherry::new();
    let folder = wherry.folder("certs.d").join(NAME);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(place.join("server.pem"), folder.join("ca.crt")).unwrap();
    with(&wherry, &name, &[("HTTPS_PROXY", &address)]).expect(0);
    let asked = seen.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|line| *line == format!("CONNECT {NAME}:443 HTTP/1.1")), "{asked:?}");
    // What is on this machine is not asked for by way of a proxy.
    let wherry = Wherry::new();
    with(&wherry, &image, &[("HTTP_PROXY", "http://127.0.0.1:1"), ("ALL_PROXY", "http://127.0.0.1:1")]).expect(0);
}
