//! What stands behind a signature without a key, made by openssl: an authority that certifies who somebody is for ten
//! minutes, a log of certificates, and a log of signatures. Sigstore's Fulcio, CT log and Rekor, with keys of our own.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::signing::{Kind, Signature, Signer, openssl, text};

/// When everything was signed: in the fifth of a certificate's ten minutes, long ago.
pub const SIGNED: i64 = 1_714_565_100;
const FROM: i64 = SIGNED - 300;
const UNTIL: i64 = SIGNED + 300;
const YEAR: i64 = 365 * 86_400;

/// A key with a certificate.
pub struct Certified {
    pub key: Signer,
    /// In PEM.
    pub pem: String,
    folder: TempDir,
}

/// What a certificate is to say.
#[derive(Clone)]
pub struct Wanted {
    pub name: &'static str,
    /// Lines of openssl's configuration.
    pub extensions: Vec<String>,
    pub from: i64,
    pub until: i64,
    pub kind: Kind,
}

impl Wanted {
    /// An authority, with at most so many others below it.
    pub fn authority(name: &'static str, below: Option<u32>) -> Self {
        let below = below.map(|below| format!(",pathlen:{below}")).unwrap_or_default();
        let extensions = vec![
            format!("basicConstraints = critical,CA:TRUE{below}"),
            "keyUsage = critical,keyCertSign,cRLSign".to_owned(),
        ];
        Self { name, extensions, from: SIGNED - YEAR, until: SIGNED + YEAR, kind: Kind::P256 }
    }

    /// Somebody with a name as openssl writes it (`email:…`, `URI:…`), vouched for by an issuer.
    pub fn signer(subject: &str, issuer: &str) -> Self {
        let hex: String = issuer.bytes().map(|byte| format!("{byte:02x}")).collect();
        let extensions = vec![
            "keyUsage = critical,digitalSignature".to_owned(),
            "extendedKeyUsage = codeSigning".to_owned(),
            format!("subjectAltName = critical,{subject}"),
            format!("1.3.6.1.4.1.57264.1.1 = DER:{hex}"),
            format!("1.3.6.1.4.1.57264.1.8 = ASN1:UTF8String:{issuer}"),
        ];
        Self { name: "", extensions, from: FROM, until: UNTIL, kind: Kind::P256 }
    }

    /// The same, but for the lines that begin so: they become these.
    pub fn with(mut self, begins: &str, lines: &[&str]) -> Self {
        let at = self.extensions.iter().position(|line| line.starts_with(begins)).unwrap_or(self.extensions.len());
        self.extensions.retain(|line| !line.starts_with(begins));
        self.extensions.splice(at..at, lines.iter().map(|&line| line.to_owned()));
        self
    }

    /// The same at another time.
    pub fn during(self, from: i64, until: i64) -> Self {
        Self { from, until, ..self }
    }
}

impl Certified {
    /// An authority that is its own.
    pub fn root(wanted: &Wanted) -> Self {
        let key = Signer::new(wanted.kind);
        let (folder, pem) = certify(None, &key, wanted);
        Self { key, pem, folder }
    }

    /// A new key, certified by this one.
    pub fn certify(&self, wanted: &Wanted) -> Self {
        let key = Signer::new(wanted.kind);
        let (folder, pem) = certify(Some(self), &key, wanted);
        Self { key, pem, folder }
    }

    /// A new key, whose certificate a log of certificates has promised to have.
    pub fn certify_logged(&self, wanted: &Wanted, log: &Log) -> Self {
        let key = Signer::new(wanted.kind);
        let (folder, pem) = certify(Some(self), &key, wanted);
        let promise = log.certificate_promise(self, &in_der(&folder, &pem));
        let list: String = promise.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("1.3.6.1.4.1.11129.2.4.2 = DER:{list}");
        let (folder, pem) = certify(Some(self), &key, &wanted.clone().with("1.3.6.1.4.1.11129", &[&line]));
        Self { key, pem, folder }
    }

    /// The certificate's file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        in_der(&self.folder, &self.pem)
    }
}

fn in_der(folder: &TempDir, pem: &str) -> Vec<u8> {
    let file = folder.path().join("to-der.pem");
    fs::write(&file, pem).unwrap();
    openssl(&["x509", "-in", text(&file), "-outform", "DER"])
}

/// Has a certificate made for a key, by an authority or by itself.
fn certify(authority: Option<&Certified>, key: &Signer, wanted: &Wanted) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let place = folder.path().display();
    let configuration = format!(
        "[req]\ndistinguished_name = name\n[name]\n[ca]\ndefault_ca = ours\n[ours]\ndatabase = {place}/index\n\
         serial = {place}/serial\nnew_certs_dir = {place}\ndefault_md = sha256\npolicy = any\nunique_subject = no\n\
         [any]\ncommonName = optional\n[wanted]\n{}\n",
        wanted.extensions.join("\n")
    );
    let (config, request, made) = (path("config"), path("request"), path("certificate.pem"));
    fs::write(&config, configuration).unwrap();
    fs::write(path("index"), "").unwrap();
    fs::write(path("serial"), "5127\n").unwrap();
    let name = if wanted.name.is_empty() { "/".to_owned() } else { format!("/CN={}", wanted.name) };
    let private = key.private();
    let new = ["req", "-new", "-config", text(&config), "-key", text(&private), "-subj", &name, "-out", text(&request)];
    openssl(&new);
    let (from, until) = (date(wanted.from), date(wanted.until));
    let above = authority.map(|authority| (authority.key.private(), authority.file()));
    let by = match &above {
        Some((key, file)) => vec!["-keyfile", text(key), "-cert", text(file)],
        None => vec!["-selfsign", "-keyfile", text(&private)],
    };
    let args = ["ca", "-batch", "-notext", "-config", text(&config), "-in", text(&request), "-out", text(&made)];
    let say = ["-startdate", &from, "-enddate", &until, "-extensions", "wanted"];
    openssl(&[&args[..], &say, &by].concat());
    let pem = fs::read_to_string(&made).unwrap();
    (folder, pem)
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y%m%d%H%M%SZ").to_string()
}

/// A log, of signatures or of certificates.
pub struct Log {
    pub key: Signer,
}

impl Log {
    pub fn new() -> Self {
        Self { key: Signer::new(Kind::P256) }
    }

    /// The name of a log: the digest of its public key.
    pub fn id(&self) -> [u8; 32] {
        Sha256::digest(self.public()).into()
    }

    /// The public key in DER.
    pub fn public(&self) -> Vec<u8> {
        openssl(&["pkey", "-pubin", "-in", text(&self.key.public()), "-outform", "DER"])
    }

    /// The receipt for an entry as cosign keeps it.
    pub fn receipt(&self, body: &[u8], time: i64) -> Value {
        let signed = STANDARD.encode(self.key.sign(self.promised(body, time, 7).as_bytes()));
        let payload =
            json!({"body": STANDARD.encode(body), "integratedTime": time, "logIndex": 7, "logID": hex(&self.id())});
        json!({"SignedEntryTimestamp": signed, "Payload": payload})
    }

    /// What a receipt signs: JSON with its fields in order.
    fn promised(&self, body: &[u8], time: i64, index: u64) -> String {
        let (body, id) = (STANDARD.encode(body), hex(&self.id()));
        format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{id}","logIndex":{index}}}"#)
    }

    /// An entry as a bundle has it: with a receipt, and a proof that it is the second of two under a signed head.
    pub fn entry(&self, kind: (&str, &str), body: &[u8], time: i64) -> Value {
        let leaf = |bytes: &[u8]| Sha256::digest([&[0], bytes].concat());
        let before = leaf(b"another entry");
        let root = STANDARD.encode(Sha256::digest([&[1], &before[..], &leaf(body)].concat()));
        let head = format!("log.example - 1\n2\n{root}\n");
        let signed = STANDARD.encode([&self.id()[..4], &self.key.sign(head.as_bytes())].concat());
        let promise = STANDARD.encode(self.key.sign(self.promised(body, time, 1).as_bytes()));
        json!({
            "logIndex": "1", "logId": {"keyId": STANDARD.encode(self.id())},
            "kindVersion": {"kind": kind.0, "version": kind.1}, "integratedTime": time.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": promise},
            "inclusionProof": {
                "logIndex": "1", "rootHash": root, "treeSize": "2", "hashes": [STANDARD.encode(before)],
                "checkpoint": {"envelope": format!("{head}\n— log.example {signed}\n")},
            },
            "canonicalizedBody": STANDARD.encode(body),
        })
    }

    /// A list of one promise to log a certificate that does not have it yet (RFC 6962, section 3.3), in the octet
    /// string that the extension holds.
    fn certificate_promise(&self, issuer: &Certified, certificate: &[u8]) -> Vec<u8> {
        let public = issuer.folder.path().join("certificate.pem");
        let public = openssl(&["x509", "-in", text(&public), "-noout", "-pubkey"]);
        let file = issuer.folder.path().join("public.pem");
        fs::write(&file, public).unwrap();
        let issuer = Sha256::digest(openssl(&["pkey", "-pubin", "-in", text(&file), "-outform", "DER"]));
        let to_be_signed = to_be_signed(certificate);
        let time = u64::try_from(FROM).unwrap() * 1000;
        let length = u32::try_from(to_be_signed.len()).unwrap().to_be_bytes();
        let version_and_sort = [0, 0];
        let entry = [&1u16.to_be_bytes()[..], &issuer, &length[1..], to_be_signed].concat();
        let signed = [&version_and_sort[..], &time.to_be_bytes(), &entry, &[0, 0]].concat();
        let signature = with_length(&self.key.sign(&signed));
        // Version, log, time, no extensions, SHA-256 with ECDSA.
        let one = [&[0], &self.id()[..], &time.to_be_bytes(), &[0, 0, 4, 3], &signature].concat();
        let list = with_length(&with_length(&one));
        [&[0x04, u8::try_from(list.len()).expect("a short list")], &list[..]].concat()
    }
}

/// The first part of a certificate: what its issuer signs.
fn to_be_signed(certificate: &[u8]) -> &[u8] {
    let inner = &certificate[4..];
    assert_eq!((certificate[1], inner[1]), (0x82, 0x82), "both lengths take two bytes");
    &inner[..4 + usize::from(u16::from_be_bytes([inner[2], inner[3]]))]
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A signature without a key as cosign leaves it beside an image, in its parts.
#[derive(Clone)]
pub struct Keyless {
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
    pub certificate: String,
    pub chain: Option<String>,
    pub receipt: Option<Value>,
}

impl Keyless {
    /// Signs a payload and has that logged.
    pub fn new(signer: &Certified, chain: Option<String>, log: &Log, payload: &Value) -> Self {
        Self::at(signer, chain, log, payload, SIGNED)
    }

    /// The same at another time.
    pub fn at(signer: &Certified, chain: Option<String>, log: &Log, payload: &Value, time: i64) -> Self {
        let payload = payload.to_string().into_bytes();
        let signature = signer.key.sign(&payload);
        let receipt = Some(log.receipt(&body(&payload, &signature, &signer.pem), time));
        Self { payload, signature, certificate: signer.pem.clone(), chain, receipt }
    }

    /// As it lies in a registry.
    pub fn laid(&self) -> Signature {
        let mut annotations = Map::new();
        let mut say = |name: &str, value: String| annotations.insert(name.to_owned(), value.into());
        say("dev.cosignproject.cosign/signature", STANDARD.encode(&self.signature));
        say("dev.sigstore.cosign/certificate", self.certificate.clone());
        if let Some(chain) = &self.chain {
            say("dev.sigstore.cosign/chain", chain.clone());
        }
        if let Some(receipt) = &self.receipt {
            say("dev.sigstore.cosign/bundle", receipt.to_string());
        }
        Signature { payload: self.payload.clone(), annotations }
    }
}

/// What the log has of a signature.
pub fn body(payload: &[u8], signature: &[u8], certificate: &str) -> Vec<u8> {
    let (signature, certificate) = (STANDARD.encode(signature), STANDARD.encode(certificate));
    let hash = hex(&Sha256::digest(payload));
    json!({
        "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hash}},
            "signature": {"content": signature, "publicKey": {"content": certificate}},
        },
    })
    .to_string()
    .into_bytes()
}

/// A bundle of sigstore's, in which somebody states something about an image.
pub fn bundle(signer: &Certified, log: &Log, statement: &Value) -> Value {
    let material = json!({"certificate": {"rawBytes": STANDARD.encode(signer.der())}});
    bundle_with((&signer.key, &signer.pem), material, log, statement)
}

/// The same by a key alone.
pub fn bundle_by_key(key: &Signer, log: &Log, statement: &Value) -> Value {
    let public = fs::read_to_string(key.public()).unwrap();
    bundle_with((key, &public), json!({"publicKey": {"hint": ""}}), log, statement)
}

fn bundle_with((key, verifier): (&Signer, &str), mut material: Value, log: &Log, statement: &Value) -> Value {
    let (kind, payload) = ("application/vnd.in-toto+json", statement.to_string());
    let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let signature = STANDARD.encode(key.sign(signed.as_bytes()));
    let envelope =
        json!({"payload": STANDARD.encode(&payload), "payloadType": kind, "signatures": [{"sig": signature}]});
    let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hex(&Sha256::digest(bytes))});
    let body = json!({
        "apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": hash(envelope.to_string().as_bytes()), "payloadHash": hash(payload.as_bytes()),
            "signatures": [{"signature": signature, "verifier": STANDARD.encode(verifier)}],
        },
    });
    material["tlogEntries"] = json!([log.entry(("dsse", "0.0.1"), body.to_string().as_bytes(), SIGNED)]);
    material["timestampVerificationData"] = json!({"rfc3161Timestamps": []});
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": material,
        "dsseEnvelope": envelope,
    })
}

/// Sigstore's `trusted_root.json` of one chain of authorities and these logs.
pub fn trusted_root(authorities: &[&Certified], signatures: &Log, certificates: Option<&Log>) -> Value {
    let valid = json!({"start": jiff::Timestamp::from_second(SIGNED - YEAR).unwrap().to_string()});
    let log = |log: &Log| {
        json!({
            "baseUrl": "https://log.example", "hashAlgorithm": "SHA2_256", "logId": {"keyId": STANDARD.encode(log.id())},
            "publicKey": {
                "rawBytes": STANDARD.encode(log.public()), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid,
            },
        })
    };
    let chain: Vec<Value> =
        authorities.iter().map(|authority| json!({"rawBytes": STANDARD.encode(authority.der())})).collect();
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log(signatures)],
        "certificateAuthorities": [{
            "subject": {"organization": "example", "commonName": "example"}, "uri": "https://fulcio.example",
            "certChain": {"certificates": chain}, "validFor": valid,
        }],
        "ctlogs": certificates.map(log).into_iter().collect::<Vec<_>>(),
        "timestampAuthorities": [],
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
