//! Images of any make, put into the registry by hand: what a registry can hold is more than what builders make.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::registry::registry;

/// A manifest's parts.
pub struct Handmade {
    /// The config's media type and content.
    pub config: (&'static str, Value),
    /// Each layer's media type and bytes.
    pub layers: Vec<(&'static str, Vec<u8>)>,
    /// The manifest's annotations.
    pub annotations: Value,
}

/// An ordinary image configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// What a registry may answer with.
const MANIFESTS: &str = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, */*";
/// A layer that is an archive.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

impl Handmade {
    /// An image for `platform` (`os/architecture`) of these layers that starts `entrypoint`.
    pub fn image(platform: &str, entrypoint: &[&str], layers: Vec<(&'static str, Vec<u8>)>) -> Self {
        let (os, architecture) = platform.split_once('/').expect("os/architecture");
        let diff_ids: Vec<String> = layers.iter().map(|(_, bytes)| digest(bytes)).collect();
        let config = json!({
            "os": os, "architecture": architecture, "config": {"Entrypoint": entrypoint},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self { config: (IMAGE_CONFIG, config), layers, annotations: json!({}) }
    }

    /// Pushes it; the whole name.
    #[track_caller]
    pub fn push(&self, repository: &str, tag: &str) -> String {
        let (media_type, digest, size) = self.push_manifest(repository, tag);
        assert!(!media_type.is_empty() && size > 0 && digest.starts_with("sha256:"));
        format!("{}/{repository}:{tag}", registry().host)
    }

    /// Pushes it; its entry in an index.
    #[track_caller]
    pub fn push_entry(&self, repository: &str, platform: &str) -> Value {
        let (os, architecture) = platform.split_once('/').expect("os/architecture");
        let (media_type, digest, size) = self.push_manifest(repository, &platform.replace('/', "-"));
        json!({"mediaType": media_type, "digest": digest, "size": size, "platform": {"os": os, "architecture": architecture}})
    }

    #[track_caller]
    fn push_manifest(&self, repository: &str, tag: &str) -> (&'static str, String, usize) {
        let blob = |media_type: &str, bytes: &[u8]| {
            push_blob(repository, bytes);
            json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
        };
        let layers: Vec<Value> = self.layers.iter().map(|(media_type, bytes)| blob(media_type, bytes)).collect();
        let (config_type, config) = &self.config;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": blob(config_type, config.to_string().as_bytes()),
            "layers": layers, "annotations": self.annotations,
        });
        put_manifest(repository, tag, media_type, &manifest)
    }
}

/// Pushes an index of these entries; the whole name.
#[track_caller]
pub fn push_index(repository: &str, tag: &str, entries: &[Value]) -> String {
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    put_manifest(repository, tag, media_type, &index);
    format!("{}/{repository}:{tag}", registry().host)
}

/// An archive of these files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let mut command = Command::new("tar");
    command.args(["--create", "--sort=name", "--owner=0", "--group=0", "--mtime=@0", "--mode=755", "--directory"]);
    let output = command.arg(folder.path()).arg(".").output().expect("tar starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A manifest or index as the registry has it, or a blob.
#[track_caller]
pub fn get(repository: &str, kind: &str, name: &str) -> Vec<u8> {
    let url = format!("http://{}/v2/{repository}/{kind}/{name}", registry().host);
    curl(&["-H", MANIFESTS, &url], b"")
}

/// Whether the registry has such a manifest or blob.
pub fn has(repository: &str, kind: &str, name: &str) -> bool {
    let url = format!("http://{}/v2/{repository}/{kind}/{name}", registry().host);
    let types = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";
    Command::new("curl")
        .args(["-fsSI", "-o", "/dev/null", "-H", types, &url])
        .output()
        .expect("curl starts")
        .status
        .success()
}

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Pushes a blob.
#[track_caller]
pub fn push_blob(repository: &str, bytes: &[u8]) {
    let base = format!("http://{}/v2/{repository}/blobs", registry().host);
    let headers = curl(&["-X", "POST", "-D", "-", "-o", "/dev/null", &format!("{base}/uploads/")], b"");
    let headers = String::from_utf8_lossy(&headers).into_owned();
    let location = headers.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a place for the upload");
    let url = format!("{}&digest={}", location.trim(), digest(bytes));
    curl(&["-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", "@-", &url], bytes);
}

/// Puts a manifest or an index under a tag; its type, digest and size.
#[track_caller]
pub fn put_manifest(
    repository: &str,
    tag: &str,
    media_type: &'static str,
    manifest: &Value,
) -> (&'static str, String, usize) {
    let bytes = manifest.to_string().into_bytes();
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", registry().host);
    let header = format!("Content-Type: {media_type}");
    curl(&["-X", "PUT", "-H", &header, "--data-binary", "@-", &url], &bytes);
    (media_type, digest(&bytes), bytes.len())
}

#[track_caller]
fn curl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("curl");
    command.args(["-fsS"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("curl starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The bytes of a file.
pub fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
