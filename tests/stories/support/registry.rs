//! Debian's docker-registry, one for the whole run, on a loopback port of its own.
//!
//! What was pushed stays in the build directory under a name made from the images' sources, so that a second run
//! of the tests builds nothing, and a changed source everything.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use sha2::{Digest, Sha256};

use super::{eventually, repository, scratch};

/// The registry of this run.
pub struct Registry {
    /// What stands before the slash of a reference: `localhost:PORT`.
    pub host: String,
    /// Where built images keep their parts.
    pub workshop: PathBuf,
}

/// The registry, started by whoever asks first.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let workshop = scratch().join(format!("images-{}", sources_digest()));
        fs::create_dir_all(&workshop).unwrap();
        Registry { host: format!("localhost:{}", serve(&workshop)), workshop }
    })
}

fn serve(workshop: &Path) -> u16 {
    serve_with(workshop, "")
}

/// Serves with these further lines of configuration.
pub(super) fn serve_with(workshop: &Path, more: &str) -> u16 {
    let port = free_port();
    let config = workshop.join(format!("registry-{port}.yml"));
    let storage = workshop.join("registry");
    let yaml = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n{more}",
        storage.display()
    );
    fs::write(&config, yaml).unwrap();
    // A static is never dropped, so the kernel ends the server: it dies with the thread that started it, and that one
    // stays until the end of the process.
    thread::spawn(move || {
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(config.with_extension("log")).unwrap())
            .spawn()
            .expect("setpriv starts docker-registry");
        let status = server.wait();
        panic!("docker-registry ended: {status:?}, see {}", config.with_extension("log").display());
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually("docker-registry answers", || TcpStream::connect(address).ok());
    port
}

/// A port that nobody listens on. Somebody else could take it before we do; the kernel hands them out in turn.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A short digest of everything that images are built from.
fn sources_digest() -> String {
    let mut files = Vec::new();
    for folder in ["tests/images", "examples/linux-hello", "examples/wasm-hello"] {
        files.extend(fs::read_dir(repository(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).unwrap());
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// A registry with nothing in it that wants this user and password; it serves until the process ends.
pub fn private_registry(user: &str, password: &str) -> String {
    let place = scratch().join(format!("private-{}-{}", std::process::id(), free_port()));
    fs::create_dir_all(&place).unwrap();
    let passwords =
        Command::new("htpasswd").args(["-Bbn", user, password]).output().expect("apache2-utils has htpasswd");
    fs::write(place.join("htpasswd"), passwords.stdout).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: stories, path: {}}}}}\n", place.join("htpasswd").display());
    format!("localhost:{}", serve_with(&place, &auth))
}
