//! A token server of the tests' own, for Debian's docker-registry: it signs what the registry trusts.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use serde_json::{Value, json};

use super::registry::{free_port, serve_with};
use super::scratch;
use super::standin::{Reply, Server, refusal};

/// A registry that takes only tokens, which a server of the test's signs for these users (`name:password`) and, for
/// reading nothing, for anybody. Both serve until the process ends.
pub fn signed_registry(users: &[&str]) -> String {
    let place = scratch().join(format!("signed-{}-{}", std::process::id(), free_port()));
    fs::create_dir_all(&place).unwrap();
    let (key, certificate) = (place.join("key.pem"), place.join("certificate.pem"));
    certificate_for(&key, &certificate, "stories");
    let (signer, chain) = (key, base64_of(&certificate));
    let known: Vec<String> = users.iter().map(|user| format!("Basic {}", base64(user.as_bytes()))).collect();
    let tokens = Server::new(move |request, _| {
        let user = known.iter().any(|user| user == request.authorization());
        if !user && !request.authorization().is_empty() {
            return refusal(401, "UNAUTHORIZED", "wrong password");
        }
        let access = if user { access(&request.fields("scope")) } else { Vec::new() };
        let audience = request.fields("service").concat();
        Reply::new(200, json!({"token": signed(&signer, &chain, &audience, &access)}).to_string())
    });
    let auth = format!(
        "auth: {{token: {{realm: \"http://{}/token\", service: stories, issuer: stories, rootcertbundle: {}}}}}\n",
        tokens.host,
        certificate.display()
    );
    format!("localhost:{}", serve_with(&place, &auth))
}

/// A key and a certificate for it, signed by itself, which is no authority for others.
pub fn certificate_for(key: &Path, certificate: &Path, name: &str) {
    let config = certificate.with_extension("cnf");
    let text = format!(
        "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n[dn]\nCN = {name}\n\
         [ext]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:{name},DNS:localhost,IP:127.0.0.1\n"
    );
    fs::write(&config, text).unwrap();
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config"])
        .arg(config)
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl starts").success());
}

fn access(scopes: &[String]) -> Vec<Value> {
    let entry = |scope: &String| {
        let (kind, rest) = scope.split_once(':').unwrap();
        let (name, actions) = rest.rsplit_once(':').unwrap();
        json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()})
    };
    scopes.iter().map(entry).collect()
}

/// A JSON web token (RFC 7519) of RS256, with its certificate in it.
fn signed(key: &Path, chain: &str, audience: &str, access: &[Value]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let header = json!({"alg": "RS256", "typ": "JWT", "x5c": [chain]});
    let claims = json!({"iss": "stories", "sub": "", "aud": audience, "exp": now + 300, "nbf": now - 60, "iat": now,
        "jti": format!("{now}"), "access": access});
    let url = |bytes: &[u8]| base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
    let text = format!("{}.{}", url(header.to_string().as_bytes()), url(claims.to_string().as_bytes()));
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    openssl.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    format!("{text}.{}", url(&openssl.wait_with_output().unwrap().stdout))
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The body of a PEM file, which is the base64 of its DER.
fn base64_of(pem: &Path) -> String {
    fs::read_to_string(pem).unwrap().lines().filter(|line| !line.starts_with("---")).collect()
}
