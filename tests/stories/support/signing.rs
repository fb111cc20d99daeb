//! Signers, and signatures of images as cosign leaves them in a registry: made by openssl, so that our verifying is
//! never tried on a signing of our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::handmade::{digest, push_blob, put_manifest};

/// The type of a payload.
pub const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Somebody with a key.
pub struct Signer {
    folder: TempDir,
    kind: Kind,
}

/// What key, and how it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    P256,
    P384,
    Ed25519,
    RsaPkcs1,
    RsaPss,
}

impl Signer {
    /// With a new key.
    pub fn new(kind: Kind) -> Self {
        let signer = Self { folder: tempfile::tempdir().unwrap(), kind };
        let key = signer.path("key.pem");
        let algorithm: &[&str] = match kind {
            Kind::P256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Kind::P384 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Kind::Ed25519 => &["ED25519"],
            Kind::RsaPkcs1 | Kind::RsaPss => &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        };
        openssl(&[&["genpkey", "-algorithm"], algorithm, &["-out", text(&key)]].concat());
        openssl(&["pkey", "-in", text(&key), "-pubout", "-out", text(&signer.public())]);
        signer
    }

    /// The file of the private key.
    pub fn private(&self) -> PathBuf {
        self.path("key.pem")
    }

    /// The file of the public key, in PEM.
    pub fn public(&self) -> PathBuf {
        self.path("key.pub")
    }

    /// The public key as a policy has it inside of it.
    pub fn data(&self) -> String {
        STANDARD.encode(fs::read(self.public()).unwrap())
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let (key, file) = (self.private(), self.path("message"));
        fs::write(&file, message).unwrap();
        let (key, file) = (text(&key), text(&file));
        match self.kind {
            Kind::Ed25519 => openssl(&["pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", file]),
            Kind::RsaPss => {
                let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];
                openssl(&[&["dgst", "-sha256", "-sign", key], &pss[..], &[file]].concat())
            }
            _ => openssl(&["dgst", "-sha256", "-sign", key, file]),
        }
    }

    /// A signature of an image under this name.
    pub fn signature(&self, digest: &str, name: &str) -> Signature {
        self.signature_of(payload(digest, name))
    }

    /// A signature of whatever payload.
    pub fn signature_of(&self, payload: Value) -> Signature {
        let payload = payload.to_string().into_bytes();
        let signed = STANDARD.encode(self.sign(&payload));
        let annotations = Map::from_iter([("dev.cosignproject.cosign/signature".to_owned(), signed.into())]);
        Signature { payload, annotations }
    }

    /// A bundle that states something about an image, in the envelope that cosign 3 signs.
    pub fn bundle(&self, statement: &Value) -> Value {
        let (kind, payload) = ("application/vnd.in-toto+json", statement.to_string());
        let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload), "payloadType": kind,
                "signatures": [{"sig": STANDARD.encode(self.sign(signed.as_bytes()))}],
            },
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A payload, and what lies beside it.
#[derive(Clone)]
pub struct Signature {
    pub payload: Vec<u8>,
    pub annotations: Map<String, Value>,
}

/// What cosign signs.
pub fn payload(digest: &str, name: &str) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
}

/// What cosign 3 signs.
pub fn statement(digest: &str) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "subject": [{"digest": {"sha256": digest.strip_prefix("sha256:").unwrap()}}], "predicate": {},
    })
}

/// Leaves signatures beside an image, where cosign leaves them; those that were there go.
#[track_caller]
pub fn attach(repository: &str, image: &str, signatures: &[Signature]) {
    let layers: Vec<Value> = signatures
        .iter()
        .map(|Signature { payload, annotations }| {
            push_blob(repository, payload);
            json!({"mediaType": SIMPLE, "digest": digest(payload), "size": payload.len(), "annotations": annotations})
        })
        .collect();
    attach_layers(repository, image, &layers);
}

/// The same with layers of any make, whose blobs are there or not.
#[track_caller]
pub fn attach_layers(repository: &str, image: &str, layers: &[Value]) {
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": empty(repository), "layers": layers});
    put_manifest(repository, &format!("{}.sig", image.replace(':', "-")), MANIFEST, &manifest);
}

/// Leaves bundles beside an image as referrers, listed by the tag that stands for a registry's own list.
#[track_caller]
pub fn refer(repository: &str, image: &str, bundles: &[Value]) {
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let entry = |bundle: &Value| {
        let bytes = bundle.to_string().into_bytes();
        push_blob(repository, &bytes);
        let layers = json!([{"mediaType": kind, "digest": digest(&bytes), "size": bytes.len()}]);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": empty(repository), "layers": layers,
        });
        let tag = format!("bundle-{}", &digest(&bytes)[7..19]);
        let (media_type, digest, size) = put_manifest(repository, &tag, MANIFEST, &manifest);
        json!({"mediaType": media_type, "digest": digest, "size": size, "artifactType": kind})
    };
    let entries: Vec<Value> = bundles.iter().map(entry).collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    put_manifest(repository, &image.replace(':', "-"), media_type, &index);
}

fn empty(repository: &str) -> Value {
    push_blob(repository, b"{}");
    json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2})
}

/// Runs openssl; its standard output.
#[track_caller]
pub fn openssl(args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(args).output().expect("openssl starts");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}
