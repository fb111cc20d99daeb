//! How each kind of registry wants to be logged in to: its own dance, played by a stand-in that insists on every
//! step, and Debian's docker-registry as it is. The table of docs/registries.md.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use serde_json::{Value, json};

use crate::support::signed::signed_registry;
use crate::support::standin::{Reply, Request, Server, honest, refusal};
use crate::support::{Output, Running, Wherry, images};

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// One way to log in.
struct Dance {
    name: &'static str,
    /// The entry in `config.json`, `null` for nobody.
    auth: Value,
    /// What a helper says instead, if there is one.
    helper: Option<Value>,
    /// The header with which it is all refused first; `HOST` is the registry.
    challenge: String,
    /// The path of the token server; nothing for Basic.
    token: &'static str,
    /// What the token server, or the registry itself, wants to see as Authorization.
    wants: String,
    /// The form that it wants to see instead of that, beside the scope.
    form: &'static [(&'static str, &'static str)],
    /// The name of the token in its answer.
    field: &'static str,
}

impl Dance {
    fn password(name: &'static str, challenge: &'static str, token: &'static str, login: &str) -> Self {
        let auth = json!({"auth": base64(login)});
        let wants = format!("Basic {}", base64(login));
        Self { name, auth, helper: None, challenge: challenge.to_owned(), token, wants, form: &[], field: "token" }
    }

    fn answer(&self, request: &Request, host: &str) -> Reply {
        let challenge = || Reply::challenge(self.challenge.replace("HOST", host));
        if self.token.is_empty() {
            return if request.authorization() == self.wants { honest(request) } else { challenge() };
        }
        if request.path == self.token {
            return self.token(request, host);
        }
        if request.authorization() == "Bearer right" { honest(request) } else { challenge() }
    }

    fn token(&self, request: &Request, host: &str) -> Reply {
        let scope = request.fields("scope") == ["repository:some/app:pull"];
        let form = self.form.iter().all(|(key, value)| request.fields(key) == [*value]);
        let method = if self.form.is_empty() { "GET" } else { "POST" };
        let challenge = self.challenge.replace("HOST", host);
        let service = challenge.split("service=\"").nth(1).and_then(|rest| rest.split('"').next());
        let service = request.fields("service") == service.into_iter().collect::<Vec<_>>();
        match scope && form && service && request.method == method && request.authorization() == self.wants {
            true => Reply::new(200, json!({self.field: "right", "expires_in": 300}).to_string()),
            false => refusal(401, "UNAUTHORIZED", &format!("not so: {request:?}")),
        }
    }
}

fn dances() -> Vec<Dance> {
    let hub = r#"Bearer realm="http://HOST/hub/token",service="registry.docker.io",scope="repository:some/app:pull""#;
    let acr = r#"Bearer realm="http://HOST/oauth2/token",service="x.azurecr.io",scope="repository:some/app:pull""#;
    let key = "_json_key:{\n \"type\": \"service_account\",\n \"private_key\": \"-----BEGIN:\\nab+/=\"\n}";
    let refresh = &[("grant_type", "refresh_token"), ("refresh_token", "fresh"), ("client_id", "wherry")];
    let identity = |name, challenge, token| Dance {
        auth: json!({"auth": base64("00000000-0000-0000-0000-000000000000:"), "identitytoken": "fresh"}),
        wants: String::new(),
        form: refresh,
        field: "access_token",
        ..Dance::password(name, challenge, token, "")
    };
    vec![
        Dance {
            auth: json!(null),
            wants: String::new(),
            ..Dance::password("Docker Hub, nobody", hub, "/hub/token", "")
        },
        Dance::password("Docker Hub, password", hub, "/hub/token", "me:dckr_pat_x"),
        identity("Docker Hub, identity token", hub, "/hub/token"),
        Dance::password(
            "GHCR, personal access token",
            r#"Bearer realm="http://HOST/token",service="ghcr.io",scope="repository:some/app:pull""#,
            "/token",
            "me:ghp_0123456789",
        ),
        Dance {
            helper: Some(json!({"ServerURL": "", "Username": "AWS", "Secret": "eyJwYXlsb2Fk:x"})),
            ..Dance::password(
                "ECR, helper",
                r#"Basic realm="https://HOST/",service="ecr.amazonaws.com""#,
                "",
                "AWS:eyJwYXlsb2Fk:x",
            )
        },
        Dance::password(
            "Google Artifact Registry, oauth2accesstoken",
            r#"Bearer realm="http://HOST/v2/token",service="HOST""#,
            "/v2/token",
            "oauth2accesstoken:ya29.a0Af_x-y",
        ),
        Dance::password(
            "Google Artifact Registry, _json_key",
            r#"Bearer realm="http://HOST/v2/token",service="gar""#,
            "/v2/token",
            key,
        ),
        identity("ACR, refresh token", acr, "/oauth2/token"),
        Dance {
            helper: Some(json!({"ServerURL": "", "Username": "<token>", "Secret": "fresh"})),
            ..identity("ACR, helper that exchanges", acr, "/oauth2/token")
        },
        Dance::password("ACR, service principal", acr, "/oauth2/token", "11111111-2222:se~cret"),
        Dance::password(
            "Quay, robot",
            r#"Bearer realm="http://HOST/v2/auth",service="quay.io",scope="repository:some/app:pull""#,
            "/v2/auth",
            "org+robot:ABCDEF",
        ),
        Dance::password(
            "Harbor, token service",
            r#"Bearer realm="http://HOST/service/token",service="harbor-registry",scope="repository:some/app:pull""#,
            "/service/token",
            "robot$project+ci:x",
        ),
        Dance::password("Harbor, Basic", r#"Basic realm="harbor""#, "", "admin:Harbor12345"),
        Dance::password(
            "GitLab, JWT",
            r#"Bearer realm="http://HOST/jwt/auth",service="container_registry",scope="repository:some/app:pull",error="invalid_token""#,
            "/jwt/auth",
            "gitlab-ci-token:glcbt-64",
        ),
        Dance::password(
            "several challenges in one header",
            r#"Negotiate, Basic realm="a, b", Bearer realm="http://HOST/t",service="s""#,
            "/t",
            "me:x",
        ),
    ]
}

/// Pulls as who the dance is about.
fn pull(wherry: &Wherry, host: &str, auth: &Value, helper: Option<&Value>) -> Output {
    let folder = wherry.folder("docker");
    let mut config = json!({"auths": {host: auth}});
    if let Some(said) = helper {
        config = json!({"credHelpers": {host: "story"}});
        let program = folder.join("docker-credential-story");
        fs::write(&program, format!("#!/bin/sh\ncat > /dev/null\necho '{said}'\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    if !auth.is_null() || helper.is_some() {
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut command = wherry.command(["pull", "-q", &format!("{host}/some/app:1")]);
    Running::start(command.env("DOCKER_CONFIG", &folder).env("PATH", path)).finish()
}

#[test]
fn every_registrys_own_dance() {
    for dance in dances() {
        let (name, auth, helper) = (dance.name, dance.auth.clone(), dance.helper.clone());
        let token = match (dance.token, dance.form) {
            ("", _) => None,
            (path, []) => Some(format!("GET {path}")),
            (path, _) => Some(format!("POST {path}")),
        };
        let server = Server::new(move |request, host| dance.answer(request, host));
        let wherry = Wherry::new();
        let output = pull(&wherry, &server.host, &auth, helper.as_ref());
        assert_eq!(output.status, 0, "{name}: {output}");
        let lines = server.lines();
        let manifest = "GET /v2/some/app/manifests/1".to_owned();
        let steps: Vec<String> = [manifest.clone()].into_iter().chain(token).chain([manifest]).collect();
        assert_eq!(lines[..steps.len()], steps, "{name}");
        let blobs = lines[steps.len()..].iter().all(|line| line.starts_with("GET /v2/some/app/blobs/sha256:"));
        assert!(blobs && lines.len() == steps.len() + 3, "{name}: one token for all, and each blob once: {lines:?}");
        println!("{name}: {}", steps.join(" ─▶ "));
    }
}

#[test]
fn an_open_registry_is_asked_for_what_is_wanted_and_nothing_else() {
    let server = Server::new(|request, _| honest(request));
    let wherry = Wherry::new();
    let auth = json!({"auth": base64("me:secret")});
    assert_eq!(pull(&wherry, &server.host, &auth, None).status, 0);
    let first = server.lines();
    assert_eq!(first[0], "GET /v2/some/app/manifests/1");
    assert_eq!(first.len(), 4, "no question before the first: {first:?}");
    assert!(server.seen().iter().all(|request| request.authorization().is_empty()), "nobody asked who we are");
    assert_eq!(pull(&wherry, &server.host, &auth, None).status, 0);
    assert_eq!(server.lines()[4..], ["HEAD /v2/some/app/manifests/1"], "a pull with nothing new is one question");
}

#[test]
fn a_token_that_expires_in_the_middle_is_fetched_again_and_once() {
    // Both layers and the config hit the end of the token.
    let asked = AtomicUsize::new(0);
    let again = Server::new(move |request, host| {
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
        let good = |token: &str| request.authorization() == format!("Bearer {token}");
        match request.path.as_str() {
            "/token" if request.authorization().is_empty() => {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                Reply::new(200, json!({"token": format!("t{number}")}).to_string())
            }
            path if path.contains("/manifests/") && good("t0") => honest(request),
            path if path.contains("/blobs/") && good("t1") => honest(request),
            _ => Reply::challenge(challenge + r#",error="invalid_token""#),
        }
    });
    let wherry = Wherry::new();
    let output = pull(&wherry, &again.host, &json!(null), None);
    assert_eq!(output.status, 0, "{output}");
    assert_eq!(again.lines().iter().filter(|line| line.ends_with("/token")).count(), 2, "{:?}", again.lines());
}

#[test]
fn a_registry_that_wants_more_is_given_what_it_names() {
    let server = Server::new(|request, host| {
        let scope = "repository:some/app:pull registry(class):x:read";
        let more = format!(r#"Bearer realm="http://{host}/token",scope="{scope}",error="insufficient_scope""#);
        match (request.path.as_str(), request.authorization()) {
            ("/token", _) => {
                Reply::new(200, json!({"token": format!("t{}", request.fields("scope").len())}).to_string())
            }
            (_, "") => Reply::challenge(format!(r#"Bearer realm="http://{host}/token""#)),
            (_, "Bearer t2") => honest(request),
            _ => refusal(403, "DENIED", "not enough").with("WWW-Authenticate", more),
        }
    });
    let wherry = Wherry::new();
    let output = pull(&wherry, &server.host, &json!(null), None);
    assert_eq!(output.status, 0, "{output}");
}

#[test]
fn refusals_are_told_in_the_words_that_scripts_look_for() {
    let denied = "pull access denied for HOST/some/app, repository does not exist or may require 'docker login'";
    for (reply, words) in [
        (refusal(401, "UNAUTHORIZED", "authentication required"), denied),
        (refusal(403, "DENIED", "requested access to the resource is denied"), denied),
        (
            refusal(404, "NAME_UNKNOWN", "repository name not known to registry"),
            "repository HOST/some/app not found: name unknown",
        ),
        (
            refusal(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            "manifest for HOST/some/app:1 not found: manifest unknown",
        ),
    ] {
        let server = Server::new(move |_, _| reply.clone());
        let output = pull(&Wherry::new(), &server.host, &json!(null), None).expect(1);
        output.complains(&[&words.replace("HOST", &server.host)]);
        assert_eq!(server.lines().len(), 1, "a decision is not asked for again");
    }
}

#[test]
fn what_a_registry_says_besides_reaches_the_user() {
    let server = Server::new(|request, _| {
        honest(request)
            .with("Warning", "299 - \"this \u{1b}[31mrepository moves\"".replace('\u{1b}', ""))
            .with("RateLimit-Limit", "100;w=21600")
            .with("RateLimit-Remaining", "3;w=21600")
    });
    let output = pull(&Wherry::new(), &server.host, &json!(null), None).expect(0);
    let output = output.complains(&["repository moves", "3 of 100 pulls in 6 hours are left"]);
    assert_eq!(output.stderr.matches("repository moves").count(), 1, "{output}");
}

/// A real registry that takes only tokens, signed by a server of the test's.
#[test]
fn docker_registry_with_signed_tokens() {
    let host = signed_registry(&["me:s3cret"]);
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let name = format!("{host}/team/app:1");
    wherry.ok(["tag", &image, &name]);
    wherry.call(["push", "-q", &name]).expect(1).complains(&["access denied for"]);
    let config = |wherry: &Wherry, login: &str| {
        fs::create_dir_all(wherry.root().join(".docker")).unwrap();
        let config = json!({"auths": {&host: {"auth": base64(login)}}});
        fs::write(wherry.root().join(".docker/config.json"), config.to_string()).unwrap();
    };
    config(&wherry, "me:wrong");
    wherry.call(["push", "-q", &name]).expect(1).complains(&["refuses the credentials"]);
    config(&wherry, "me:s3cret");
    wherry.ok(["push", "-q", &name]);
    let other = Wherry::new();
    other.call(["pull", "-q", &name]).expect(1).complains(&["pull access denied for", "docker login"]);
    config(&other, "me:s3cret");
    other.ok(["pull", "-q", &name]);
    assert_eq!(other.ok(["run", "--rm", &name, "echo", "signed"]), "signed");
    let skopeo = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--creds", "me:s3cret"])
        .arg(format!("docker://{name}"))
        .output()
        .unwrap();
    assert!(skopeo.status.success(), "{}", String::from_utf8_lossy(&skopeo.stderr));
}
