//! The signature policy: what is signed by whom is pulled, and nothing else; and nothing at all while the policy cannot
//! be understood.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::handmade::{self, Handmade, TAR, tar};
use crate::support::registry::registry;
use crate::support::signing::{Kind, SIMPLE, Signer, attach, attach_layers, payload, refer, statement};
use crate::support::{Output, Running, Wherry};

/// An image in a repository of its own.
pub struct Image {
    pub repository: &'static str,
    /// `host/repository:tag`.
    pub name: String,
    pub digest: String,
}

impl Image {
    /// Pushes one; `what` makes its digest another.
    #[track_caller]
    pub fn push(repository: &'static str, tag: &str, what: &str) -> Self {
        let layers = vec![(TAR, tar(&[("what", what.as_bytes())]))];
        let name = Handmade::image("linux/amd64", &["/what"], layers).push(repository, tag);
        let digest = handmade::digest(&handmade::get(repository, "manifests", tag));
        // The registry outlives a run of the tests, and so do signatures of the last one.
        attach(repository, &digest, &[]);
        refer(repository, &digest, &[]);
        Self { repository, name, digest }
    }

    /// The name without tag.
    pub fn bare(&self) -> &str {
        self.name.rsplit_once(':').unwrap().0
    }
}

/// A wherry and its policy.
pub struct Guarded {
    pub wherry: Wherry,
    pub policy: PathBuf,
}

impl Guarded {
    pub fn by(policy: &Value) -> Self {
        let wherry = Wherry::new();
        let path = wherry.folder("etc").join("policy.json");
        fs::write(&path, policy.to_string()).unwrap();
        Self { wherry, policy: path }
    }

    /// Everything is rejected but what is signed so in this repository.
    pub fn requiring(image: &Image, requirements: &Value) -> Self {
        Self::by(&json!({"default": [{"type": "reject"}], "transports": {"docker": {image.bare(): requirements}}}))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.wherry.command(args);
        command.env("WHERRY_POLICY", &self.policy);
        command
    }

    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(args)).finish()
    }

    /// It is pulled; and away again.
    #[track_caller]
    pub fn admits(&self, name: &str) {
        self.call(&["pull", "-q", name]).expect(0);
        self.call(&["rmi", "-f", name]).expect(0);
    }

    /// It is not pulled, and nothing of it is to be seen.
    #[track_caller]
    pub fn refuses(&self, name: &str, words: &[&str]) {
        self.call(&["pull", name]).expect(1).complains(words);
        assert_eq!(self.call(&["images", "-q"]).expect(0).stdout, "", "after {name} was refused");
    }
}

fn signed_by(signer: &Signer) -> Value {
    json!([{"type": "sigstoreSigned", "keyPath": signer.public()}])
}

#[test]
fn a_signature_by_the_key_admits_whatever_sort_of_key_it_is() {
    let image = Image::push("trust/kinds", "1", "kinds");
    for kind in [Kind::P256, Kind::P384, Kind::Ed25519, Kind::RsaPkcs1, Kind::RsaPss] {
        let signer = Signer::new(kind);
        let guarded = Guarded::requiring(&image, &signed_by(&signer));
        attach(image.repository, &image.digest, &[]);
        guarded.refuses(&image.name, &["has no signature"]);
        attach(image.repository, &image.digest, &[signer.signature(&image.digest, &image.name)]);
        guarded.admits(&image.name);
    }
}

#[test]
fn what_is_not_that_images_signature_by_that_key_is_none() {
    let image = Image::push("trust/matrix", "1", "matrix");
    let other = Image::push("trust/matrix", "other", "another image");
    let (signer, stranger) = (Signer::new(Kind::P256), Signer::new(Kind::P256));
    let guarded = Guarded::requiring(&image, &signed_by(&signer));
    let good = signer.signature(&image.digest, &image.name);
    let swapped = |from: &str, to: &str| {
        let changed = String::from_utf8(good.payload.clone()).unwrap().replace(from, to);
        vec![crate::support::signing::Signature {
            payload: changed.into_bytes(),
            annotations: good.annotations.clone(),
        }]
    };
    let annotated = |name: &str, value: Option<&str>| {
        let mut changed = good.clone();
        changed.annotations.remove("dev.cosignproject.cosign/signature");
        changed.annotations.extend(value.map(|value| (name.to_owned(), Value::from(value))));
        vec![changed]
    };
    let resigned = |change: &dyn Fn(&mut Value)| {
        let mut changed = payload(&image.digest, &image.name);
        change(&mut changed);
        vec![signer.signature_of(changed)]
    };
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let signature = "dev.cosignproject.cosign/signature";
    let cases: Vec<(&str, Vec<_>, &str)> = vec![
        ("no signature", vec![], "has no signature"),
        ("a stranger's", vec![stranger.signature(&image.digest, &image.name)], "by none of the keys"),
        ("of another digest", vec![signer.signature(&other.digest, &image.name)], "it signs sha256:"),
        ("of another tag", vec![signer.signature(&image.digest, &other.name)], "it is for"),
        ("of another repository", vec![signer.signature(&image.digest, &format!("{}/x:1", image.bare()))], "it is for"),
        ("of another registry", vec![signer.signature(&image.digest, "ghcr.io/trust/matrix:1")], "it is for"),
        ("of no tag", vec![signer.signature(&image.digest, image.bare())], "it is for"),
        ("of a digest that is none", vec![signer.signature("sha256:00", &image.name)], "payload is invalid"),
        ("of a sha512 digest", vec![signer.signature(&sha512, &image.name)], "it signs sha512:"),
        ("a payload changed afterwards", swapped("matrix:1", "matrix:2"), "by none of the keys"),
        ("a payload with a space more", swapped("null", " null"), "by none of the keys"),
        ("a payload without signature", annotated("", None), "no signature beside it"),
        ("a signature that is no base64", annotated(signature, Some("***")), "not in base64"),
        ("an empty signature", annotated(signature, Some("")), "by none of the keys"),
        (
            "of another type",
            resigned(&|payload| payload["critical"]["type"] = "atomic container signature".into()),
            "payload is of type",
        ),
        (
            "with more in its critical part",
            resigned(&|payload| payload["critical"]["x"] = 1.into()),
            "payload is invalid",
        ),
        (
            "with a name that is a list",
            resigned(&|payload| payload["critical"]["identity"]["docker-reference"] = json!([])),
            "payload is invalid",
        ),
        (
            "a statement and no payload",
            resigned(&|payload| *payload = json!({"_type": "https://in-toto.io/Statement/v1"})),
            "payload is invalid",
        ),
    ];
    for (what, signatures, complaint) in cases {
        eprintln!("{what}");
        attach(image.repository, &image.digest, &signatures);
        guarded.refuses(&image.name, &[complaint]);
        // The good one beside it is enough.
        attach(image.repository, &image.digest, &[signatures, vec![good.clone()]].concat());
        guarded.call(&["trust", "verify", &image.name]).expect(0);
    }
}

#[test]
fn signatures_that_cannot_be_had_or_are_too_many_admit_nothing() {
    let image = Image::push("trust/limits", "1", "limits");
    let signer = Signer::new(Kind::P256);
    let guarded = Guarded::requiring(&image, &signed_by(&signer));
    let good = signer.signature(&image.digest, &image.name);
    let layer = |digest: &str, size: usize| json!({"mediaType": SIMPLE, "digest": digest, "size": size, "annotations": good.annotations});
    attach(image.repository, &image.digest, &vec![good.clone(); 65]);
    guarded.refuses(&image.name, &["more than 64 signatures"]);
    attach(image.repository, &image.digest, &vec![good.clone(); 64]);
    guarded.admits(&image.name);
    let real = handmade::digest(&good.payload);
    // A registry that looks at sizes would refuse this; ours does not.
    attach_layers(image.repository, &image.digest, &[layer(&real, 300 << 10)]);
    guarded.refuses(&image.name, &["at most 262144 are read"]);
    // What stands where signatures are is an index.
    let tag = format!("{}.sig", image.digest.replace(':', "-"));
    handmade::push_index(image.repository, &tag, &[]);
    guarded.refuses(&image.name, &["are in an index"]);
    // Another type of layer is no payload.
    let mut foreign = layer(&real, good.payload.len());
    foreign["mediaType"] = "application/octet-stream".into();
    attach_layers(image.repository, &image.digest, &[foreign]);
    guarded.refuses(&image.name, &["has no signature"]);
}

#[test]
fn a_bundle_that_refers_to_the_image_is_a_signature_if_it_states_one() {
    let image = Image::push("trust/bundle", "1", "bundle");
    let other = Image::push("trust/bundle", "other", "another bundle");
    let (signer, stranger) = (Signer::new(Kind::P256), Signer::new(Kind::P256));
    let requirement = |identity: &str, more: &Value| {
        let mut one =
            json!({"type": "sigstoreSigned", "keyPath": signer.public(), "signedIdentity": {"type": identity}});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([one])
    };
    let guarded = Guarded::requiring(&image, &requirement("matchDigest", &json!({})));
    let good = signer.bundle(&statement(&image.digest));
    let provenance = {
        let mut statement = statement(&image.digest);
        statement["predicateType"] = "https://slsa.dev/provenance/v1".into();
        signer.bundle(&statement)
    };
    let mut tampered = good.clone();
    tampered["dsseEnvelope"]["payload"] = stranger.bundle(&statement(&image.digest))["dsseEnvelope"]["payload"].clone();
    tampered["dsseEnvelope"]["payloadType"] = "application/vnd.in-toto+JSON".into();
    for (what, bundle, complaint) in [
        ("a stranger's", stranger.bundle(&statement(&image.digest)), "signature"),
        ("of another image", signer.bundle(&statement(&other.digest)), "it signs another image"),
        ("a statement on provenance", provenance, "no signature of an image"),
        ("of another type of payload", tampered, "payload type"),
        ("no bundle", json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}), "its bundle is invalid"),
    ] {
        eprintln!("{what}");
        refer(image.repository, &image.digest, std::slice::from_ref(&bundle));
        guarded.refuses(&image.name, &[complaint]);
        refer(image.repository, &image.digest, &[bundle, good.clone()]);
        guarded.admits(&image.name);
    }
    // It names no image, and is in no log.
    Guarded::requiring(&image, &requirement("matchRepository", &json!({})))
        .refuses(&image.name, &["it is for no name"]);
    let log = json!({"rekorPublicKeyPath": stranger.public()});
    Guarded::requiring(&image, &requirement("matchDigest", &log))
        .refuses(&image.name, &["must have an inclusion proof"]);
}

#[test]
fn for_which_images_a_signature_speaks() {
    let image = Image::push("trust/identity", "1", "identity");
    let signer = Signer::new(Kind::P256);
    let by_digest = format!("{}@{}", image.bare(), image.digest);
    let host = &registry().host;
    for (identity, signed, admitted) in [
        (json!({"type": "matchRepository"}), image.bare().to_owned(), true),
        (json!({"type": "matchRepository"}), format!("{host}/trust/identit"), false),
        (json!({"type": "matchExact"}), image.name.clone(), true),
        (json!({"type": "matchExact"}), image.bare().to_owned(), false),
        (json!({"type": "exactReference", "dockerReference": "ghcr.io/me/app:1"}), "ghcr.io/me/app:1".to_owned(), true),
        (json!({"type": "exactReference", "dockerReference": "ghcr.io/me/app:1"}), image.name.clone(), false),
        (json!({"type": "exactRepository", "dockerRepository": "ghcr.io/me/app"}), "ghcr.io/me/app:7".to_owned(), true),
        (
            json!({"type": "remapIdentity", "prefix": format!("{host}/trust"), "signedPrefix": "ghcr.io/me"}),
            "ghcr.io/me/identity:1".to_owned(),
            true,
        ),
        (
            json!({"type": "remapIdentity", "prefix": format!("{host}/trust"), "signedPrefix": "ghcr.io/me"}),
            image.name.clone(),
            false,
        ),
        (json!({"type": "matchDigest"}), "anything/else:1".to_owned(), true),
    ] {
        eprintln!("{identity} of {signed}");
        let requirements = json!([{"type": "sigstoreSigned", "keyPath": signer.public(), "signedIdentity": identity}]);
        let guarded = Guarded::requiring(&image, &requirements);
        attach(image.repository, &image.digest, &[signer.signature(&image.digest, &signed)]);
        if admitted { guarded.admits(&image.name) } else { guarded.refuses(&image.name, &["it is for"]) }
    }
    // By digest, what was signed under a tag of the repository will do, unless it must be exact.
    attach(image.repository, &image.digest, &[signer.signature(&image.digest, &image.name)]);
    Guarded::requiring(&image, &signed_by(&signer)).admits(&by_digest);
    let exact =
        json!([{"type": "sigstoreSigned", "keyPath": signer.public(), "signedIdentity": {"type": "matchExact"}}]);
    Guarded::requiring(&image, &exact).refuses(&by_digest, &["it is for"]);
}

#[test]
fn of_several_keys_one_will_do_and_of_several_requirements_none() {
    let image = Image::push("trust/several", "1", "several");
    let [first, second, third] = [Kind::P256, Kind::Ed25519, Kind::P384].map(Signer::new);
    let signature = |signer: &Signer| signer.signature(&image.digest, &image.name);
    let either = json!([{"type": "sigstoreSigned", "keyDatas": [first.data(), second.data()]}]);
    attach(image.repository, &image.digest, &[signature(&third), signature(&second)]);
    Guarded::requiring(&image, &either).admits(&image.name);
    let both = json!([signed_by(&first)[0], signed_by(&second)[0]]);
    let guarded = Guarded::requiring(&image, &both);
    guarded.refuses(&image.name, &["by none of the keys"]);
    attach(image.repository, &image.digest, &[signature(&second), signature(&first)]);
    guarded.admits(&image.name);
    let never = json!([signed_by(&first)[0], {"type": "reject"}]);
    Guarded::requiring(&image, &never).refuses(&image.name, &["is rejected"]);
    let also = json!([signed_by(&first)[0], {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]);
    Guarded::requiring(&image, &also).refuses(&image.name, &["OpenPGP", "cannot be checked here"]);
}

#[test]
fn the_index_or_the_manifest_may_be_signed() {
    let (repository, signer) = ("trust/index", Signer::new(Kind::P256));
    let layers = || vec![(TAR, tar(&[("what", b"one of several")]))];
    let entry = Handmade::image("linux/amd64", &["/what"], layers()).push_entry(repository, "linux/amd64");
    let other = Handmade::image("linux/arm64", &["/what"], layers()).push_entry(repository, "linux/arm64");
    let name = handmade::push_index(repository, "1", &[entry.clone(), other.clone()]);
    let index = handmade::digest(&handmade::get(repository, "manifests", "1"));
    let image = Image { repository, name: name.clone(), digest: index.clone() };
    for digest in [&index, entry["digest"].as_str().unwrap(), other["digest"].as_str().unwrap()] {
        attach(repository, digest, &[]);
    }
    let guarded = Guarded::requiring(&image, &signed_by(&signer));
    guarded.refuses(&name, &["has no signature"]);
    let manifest = entry["digest"].as_str().unwrap();
    attach(repository, manifest, &[signer.signature(manifest, &name)]);
    guarded.admits(&name);
    attach(repository, manifest, &[]);
    // Another platform's manifest is another image.
    let foreign = other["digest"].as_str().unwrap();
    attach(repository, foreign, &[signer.signature(foreign, &name)]);
    guarded.refuses(&name, &["has no signature"]);
    attach(repository, &index, &[signer.signature(&index, &name)]);
    guarded.admits(&name);
    // A signature of the manifest that lies at the index is not looked for there.
    attach(repository, &index, &[signer.signature(manifest, &name)]);
    guarded.refuses(&name, &["it signs"]);
}

#[test]
fn a_tag_that_moves_takes_no_signature_along() {
    let old = Image::push("trust/moves", "1", "what was signed");
    let signer = Signer::new(Kind::P256);
    attach(old.repository, &old.digest, &[signer.signature(&old.digest, &old.name)]);
    let guarded = Guarded::requiring(&old, &signed_by(&signer));
    guarded.call(&["pull", "-q", &old.name]).expect(0);
    let new = Image::push("trust/moves", "1", "what was not");
    assert_ne!(new.digest, old.digest);
    let before = guarded.call(&["images", "--no-trunc"]).stdout;
    guarded.call(&["pull", &new.name]).expect(1).complains(&["has no signature"]);
    assert_eq!(guarded.call(&["images", "--no-trunc"]).stdout, before, "the name means what it meant");
    // The old signatures under the new digest's tag are still of the old digest.
    attach(new.repository, &new.digest, &[signer.signature(&old.digest, &old.name)]);
    guarded.call(&["pull", &new.name]).expect(1).complains(&["it signs"]);
    guarded.call(&["pull", "-q", &format!("{}@{}", old.bare(), old.digest)]).expect(0);
}

#[test]
fn a_policy_that_cannot_be_used_admits_nothing() {
    let image = Image::push("trust/broken", "1", "broken");
    let guarded = Guarded::by(&json!({}));
    let accept = r#"{"default":[{"type":"insecureAcceptAnything"}]"#;
    let huge = format!("{accept}}}{}", " ".repeat(1 << 20));
    for (what, policy, complaint) in [
        ("empty", "", "is invalid"),
        ("cut", accept, "is invalid"),
        ("without default", "{}", "missing field `default`"),
        ("an unknown field", &format!(r#"{accept},"defualt":[]}}"#), "unknown field"),
        ("an unknown type", r#"{"default":[{"type":"accept"}]}"#, "unknown variant"),
        ("no requirement", r#"{"default":[]}"#, "empty list"),
        (
            "a key that is not there",
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"/no/such/key"}]}"#,
            "/no/such/key",
        ),
        ("a key that is none", r#"{"default":[{"type":"sigstoreSigned","keyData":"bm9uZQ=="}]}"#, "is no key"),
        (
            "a key by a relative path",
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"key.pub"}]}"#,
            "must be absolute",
        ),
        ("GPG", r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}"#, "OpenPGP"),
        ("pki", r#"{"default":[{"type":"sigstoreSigned","pki":{"caRootsPath":"/k"}}]}"#, "cannot be checked here"),
        ("too large", &huge, "is larger than"),
    ] {
        eprintln!("{what}");
        fs::write(&guarded.policy, policy).unwrap();
        guarded.refuses(&image.name, &[complaint]);
        guarded.call(&["run", "--rm", &image.name]).expect(125).complains(&[complaint]);
    }
    for unreadable in [|path: &Path| fs::create_dir(path), |path: &Path| symlink("nowhere", path), |_: &Path| Ok(())] {
        if fs::remove_file(&guarded.policy).is_err() {
            fs::remove_dir(&guarded.policy).unwrap();
        }
        unreadable(&guarded.policy).unwrap();
        guarded.refuses(&image.name, &["cannot read", "policy.json"]);
    }
    fs::write(&guarded.policy, format!("{accept}}}")).unwrap();
    guarded.admits(&image.name);
}

#[test]
fn the_narrowest_scope_decides() {
    let image = Image::push("trust/scopes/a", "1", "scopes");
    let host = &registry().host;
    let accept = || json!([{"type": "insecureAcceptAnything"}]);
    let reject = || json!([{"type": "reject"}]);
    for (default, scopes, admitted) in [
        (reject(), json!({}), false),
        (accept(), json!({}), true),
        (reject(), json!({"": accept()}), true),
        (reject(), json!({(host): accept()}), true),
        (reject(), json!({(host): reject(), format!("{host}/trust"): accept()}), true),
        (reject(), json!({format!("{host}/trust/scope"): accept()}), false),
        (accept(), json!({format!("{host}/trust"): accept(), format!("{host}/trust/scopes/a"): reject()}), false),
        (accept(), json!({format!("{host}/trust/scopes/a:2"): reject()}), true),
        (accept(), json!({format!("{host}/trust/scopes/a:1"): reject()}), false),
        (accept(), json!({"localhost": reject()}), true),
    ] {
        let policy = json!({"default": default, "transports": {"docker": scopes}});
        eprintln!("{policy}");
        let guarded = Guarded::by(&policy);
        if admitted {
            guarded.admits(&image.name)
        } else {
            guarded.refuses(&image.name, &["is rejected by the signature policy"])
        }
    }
}

#[test]
fn run_pulls_by_the_policy_and_what_is_here_is_not_asked_again() {
    let image = Image::push("trust/run", "1", "run");
    let guarded = Guarded::requiring(&image, &json!([{"type": "insecureAcceptAnything"}]));
    guarded.call(&["pull", "-q", &image.name]).expect(0);
    fs::write(&guarded.policy, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    // `/what` is no program: it is started all the same.
    guarded.call(&["run", "--rm", &image.name]).expect(126);
    guarded.call(&["run", "--rm", "--pull", "always", &image.name]).expect(125).complains(&["is rejected"]);
    guarded.call(&["pull", &image.name]).expect(1).complains(&["is rejected"]);
}

#[test]
fn verify_says_which_signature_satisfied_which_requirement() {
    let image = Image::push("trust/verify", "1", "verify");
    let signer = Signer::new(Kind::P256);
    let guarded = Guarded::requiring(&image, &signed_by(&signer));
    guarded.call(&["trust", "verify", &image.name]).expect(1).complains(&["has no signature", "wherry trust show"]);
    attach(image.repository, &image.digest, &[signer.signature(&image.digest, &image.name)]);
    guarded.call(&["trust", "verify", &image.name]).expect(0).prints(&[
        &format!("accepted by {}", image.bare()),
        "a signature by a key: ECDSA P-256 key SHA256:",
        &image.digest,
    ]);
    assert_eq!(guarded.call(&["images", "-q"]).expect(0).stdout, "", "nothing is pulled");
}

#[test]
fn show_and_set() {
    let image = Image::push("trust/set", "1", "set");
    let signer = Signer::new(Kind::Ed25519);
    let guarded = Guarded::by(
        &json!({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker-daemon": {"": [{"type": "reject"}]}}}),
    );
    let host = registry().host.as_str();
    guarded.call(&["trust", "set", "--type", "reject", host]).expect(0);
    guarded.refuses(&image.name, &["is rejected", host]);
    let key = signer.public();
    let set = ["trust", "set", "-t", "sigstoreSigned", "-f", key.to_str().unwrap(), "--match-repository", image.bare()];
    guarded.call(&set).expect(0);
    attach(image.repository, &image.digest, &[signer.signature(&image.digest, image.bare())]);
    guarded.admits(&image.name);
    let shown = guarded.call(&["trust", "show"]).expect(0);
    let shown =
        shown.prints(&["SCOPE", "default", "accept", "sigstoreSigned", "Ed25519 key SHA256:", "matchRepository"]);
    assert!(shown.stdout.starts_with(&format!("Policy: {}\n", guarded.policy.display())), "{shown}");
    let row = guarded.call(&["trust", "show", "--json", &image.name]).expect(0).stdout;
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!((&row["Scope"], &row["Type"]), (&image.bare().into(), &"sigstoreSigned".into()));
    guarded
        .call(&["trust", "show", "--format", "{{.Scope}} {{.Type}}", "ghcr.io/x"])
        .expect(0)
        .says("default accept\n");
    let written: Value = serde_json::from_slice(&fs::read(&guarded.policy).unwrap()).unwrap();
    assert_eq!(written["transports"]["docker-daemon"][""][0]["type"], "reject", "the rest stays");
    for (args, complaint) in [
        (&["-t", "sigstoreSigned", "ghcr.io"][..], "needs a key"),
        (&["-t", "accept", "-f", key.to_str().unwrap(), "ghcr.io"], "only --type sigstoreSigned"),
        (&["-t", "sigstoreSigned", "-f", "/no/such/key", "ghcr.io"], "/no/such/key"),
        (&["-t", "reject", "alpine"], "write docker.io/library/alpine"),
    ] {
        guarded.call(&[&["trust", "set"], args].concat()).expect(1).complains(&[complaint]);
    }
    fs::write(&guarded.policy, "{").unwrap();
    guarded.call(&["trust", "set", "-t", "accept", "ghcr.io"]).expect(1).complains(&["is invalid"]);
    guarded.call(&["trust", "show"]).expect(1).complains(&["is invalid"]);
}

#[test]
fn changes_at_once_are_all_made() {
    const AT_ONCE: usize = 16;
    let guarded = Guarded::by(&json!({"default": [{"type": "reject"}]}));
    let scope = |n: usize| format!("registry-{n}.example");
    let calls: Vec<_> = (0..AT_ONCE)
        .map(|n| Running::start(&mut guarded.command(&["trust", "set", "-t", "accept", &scope(n)])))
        .collect();
    calls.into_iter().for_each(|call| drop(call.finish().expect(0)));
    let written: Value = serde_json::from_slice(&fs::read(&guarded.policy).unwrap()).unwrap();
    let scopes = written["transports"]["docker"].as_object().unwrap();
    assert!((0..AT_ONCE).all(|n| scopes.contains_key(&scope(n))), "{written}");
    let beside = fs::read_dir(guarded.policy.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "nothing is left beside the policy");
}
