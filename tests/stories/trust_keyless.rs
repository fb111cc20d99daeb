//! Signatures without keys: what an authority and a log say of the signer is believed, of all forgeries nothing.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::signing::{Kind, Signature, Signer, attach, payload, refer, statement};
use crate::support::sigstore::{Certified, Keyless, Log, SIGNED, Wanted, body, bundle, bundle_by_key, trusted_root};
use crate::trust::{Guarded, Image};

const ISSUER: &str = "https://accounts.example";
const ME: &str = "me@example.org";
const WORKFLOW: &str = "https://git.example/me/app/.github/workflows/release.yml@refs/tags/v1";

/// A root, an authority below it that certifies signers, and a log.
struct World {
    root: Certified,
    authority: Certified,
    log: Log,
}

impl World {
    fn new() -> Self {
        let root = Certified::root(&Wanted::authority("root", None));
        let authority = root.certify(&authority("authority", Some(0)));
        Self { root, authority, log: Log::new() }
    }

    /// The requirement of a signature of somebody whom the root knows, in the words of containers-policy.json(5).
    fn requirement(&self, subject: &Value) -> Value {
        required(&json!({"caPath": self.root.file()}), subject, &json!({"rekorPublicKeyPath": self.log.key.public()}))
    }

    fn me(&self) -> Certified {
        self.authority.certify(&me())
    }

    fn chain(&self) -> Option<String> {
        Some(format!("{}{}", self.authority.pem, self.root.pem))
    }

    fn signed(&self, signer: &Certified, image: &Image) -> Keyless {
        Keyless::new(signer, self.chain(), &self.log, &payload(&image.digest, image.bare()))
    }
}

/// An authority whose certificates are for signing code, as Fulcio's is.
fn authority(name: &'static str, below: Option<u32>) -> Wanted {
    Wanted::authority(name, below).with("extendedKeyUsage", &["extendedKeyUsage = codeSigning"])
}

fn me() -> Wanted {
    Wanted::signer(&format!("email:{ME}"), ISSUER)
}

fn required(roots: &Value, subject: &Value, more: &Value) -> Value {
    let mut fulcio = json!({"oidcIssuer": ISSUER});
    for part in [roots, subject] {
        fulcio.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    }
    let mut one = json!({"type": "sigstoreSigned", "fulcio": fulcio, "signedIdentity": {"type": "matchRepository"}});
    one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([one])
}

#[test]
fn who_the_authority_and_the_log_know_is_believed() {
    let world = World::new();
    let image = Image::push("trust/keyless", "1", "keyless");
    let by_mail = Guarded::requiring(&image, &world.requirement(&json!({"subjectEmail": ME})));
    by_mail.refuses(&image.name, &["has no signature"]);
    attach(image.repository, &image.digest, &[world.signed(&world.me(), &image).laid()]);
    by_mail.admits(&image.name);
    by_mail.call(&["trust", "verify", &image.name]).expect(0).prints(&[&format!("{ME} of {ISSUER}"), &image.digest]);
    // Only the older, or only the newer, of the two places where an authority writes the issuer.
    for place in ["1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1"] {
        let signer = world.authority.certify(&me().with(place, &[]));
        attach(image.repository, &image.digest, &[world.signed(&signer, &image).laid()]);
        by_mail.admits(&image.name);
    }
    for kind in [Kind::P384, Kind::Ed25519, Kind::RsaPkcs1] {
        eprintln!("{kind:?}");
        let signer = world.authority.certify(&Wanted { kind, ..me() });
        attach(image.repository, &image.digest, &[world.signed(&signer, &image).laid()]);
        by_mail.admits(&image.name);
    }
    // The first and the last second of a certificate.
    for time in [SIGNED - 300, SIGNED + 300] {
        let signed = Keyless::at(&world.me(), world.chain(), &world.log, &payload(&image.digest, image.bare()), time);
        attach(image.repository, &image.digest, &[signed.laid()]);
        by_mail.admits(&image.name);
    }
}

#[test]
fn a_workflow_is_known_by_its_uri() {
    let world = World::new();
    let image = Image::push("trust/workflow", "1", "workflow");
    let workflow = world.authority.certify(&Wanted::signer(&format!("URI:{WORKFLOW}"), ISSUER));
    attach(image.repository, &image.digest, &[world.signed(&workflow, &image).laid()]);
    for (subject, admitted) in [
        (json!({"subjectURI": WORKFLOW}), true),
        (json!({"subjectURI": WORKFLOW.replace("v1", "*")}), true),
        (json!({"subjectURI": "https://git.example/me/app/*"}), true),
        (json!({"subjectURI": WORKFLOW.replace("v1", "v")}), false),
        (json!({"subjectURI": "https://git.example/me/ap/*"}), false),
        (json!({"subjectURI": WORKFLOW.replace("tags/v1", "heads/*")}), false),
        // It is no address of a person, whatever its text.
        (json!({"subjectEmail": WORKFLOW}), false),
    ] {
        eprintln!("{subject}");
        let guarded = Guarded::requiring(&image, &world.requirement(&subject));
        if admitted { guarded.admits(&image.name) } else { guarded.refuses(&image.name, &["it is by", "not by"]) }
    }
}

#[test]
fn no_forgery_is_believed() {
    let world = World::new();
    let image = Image::push("trust/forged", "1", "forged");
    let other = Image::push("trust/forged", "other", "another image");
    let guarded = Guarded::requiring(&image, &world.requirement(&json!({"subjectEmail": ME})));
    let signer = world.me();
    let good = world.signed(&signer, &image);
    let cases = [
        certificates(&world, &image),
        times(&world, &image),
        receipts(&world, &good),
        contents(&world, &image, &other),
    ];
    let cases: Vec<_> = cases.into_iter().flatten().collect();
    assert!(cases.len() >= 30, "{}", cases.len());
    for (what, forged, complaint) in cases {
        eprintln!("{what}");
        attach(image.repository, &image.digest, &[forged.laid()]);
        guarded.refuses(&image.name, &[complaint]);
        // The good one beside it is enough.
        attach(image.repository, &image.digest, &[forged.laid(), good.laid()]);
        guarded.call(&["trust", "verify", &image.name]).expect(0);
    }
}

type Case = (&'static str, Keyless, &'static str);

/// Certificates of others, or for others.
fn certificates(world: &World, image: &Image) -> Vec<Case> {
    let by = |wanted: &Wanted| world.signed(&world.authority.certify(wanted), image);
    let through = |authority: &Certified, chain: &[&Certified]| {
        let chain = Some(chain.iter().map(|above| above.pem.as_str()).collect());
        Keyless { chain, ..world.signed(&authority.certify(&me()), image) }
    };
    let World { root, authority: ours, .. } = world;
    let impostor = Certified::root(&Wanted::authority("root", None));
    let impostors = impostor.certify(&authority("authority", Some(0)));
    let below = ours.certify(&authority("below", None));
    let for_servers =
        root.certify(&Wanted::authority("authority", Some(0)).with("ext", &["extendedKeyUsage = serverAuth"]));
    let elder = root.certify(&authority("authority", Some(0)).during(0, SIGNED - 1));
    let mine = world.me();
    let (good, own) = (world.signed(&mine, image), Certified::root(&me()));
    let email = format!("subjectAltName = critical,email:{ME}");
    vec![
        ("another issuer's", by(&Wanted::signer(&format!("email:{ME}"), "https://accounts.evil")), "issuer mismatch"),
        (
            "an issuer with more to it",
            by(&Wanted::signer(&format!("email:{ME}"), &format!("{ISSUER}/"))),
            "issuer mismatch",
        ),
        ("no issuer", by(&me().with("1.3.6.1.4.1.57264", &[])), "issuer mismatch"),
        (
            "an issuer that is no text",
            by(&me().with("1.3.6.1.4.1.57264.1.8", &["1.3.6.1.4.1.57264.1.8 = ASN1:INTEGER:1"])),
            "issuer",
        ),
        (
            "two issuers",
            by(&me().with("1.3.6.1.4.1.57264.1.1", &["1.3.6.1.4.1.57264.1.1 = DER:6874747073"])),
            "two issuers",
        ),
        ("another person's", by(&Wanted::signer("email:you@example.org", ISSUER)), "it is by you@example.org"),
        ("a person of nearly that name", by(&Wanted::signer("email:me@example.org.evil", ISSUER)), "it is by"),
        ("that name as a URI", by(&Wanted::signer(&format!("URI:mailto:{ME}"), ISSUER)), "it is by"),
        ("that name as a host's", by(&Wanted::signer("DNS:example.org", ISSUER)), "it is by nobody"),
        ("no name", by(&me().with("subjectAltName", &[])), "it is by nobody"),
        (
            "another first name",
            by(&me().with("subjectAltName", &[&email.replace("email", "email:you@example.org,email")])),
            "it is by you",
        ),
        (
            "another authority of the same name",
            through(&impostors, &[&impostors, &impostor]),
            "InvalidSignatureForPublicKey",
        ),
        ("another authority below our root's name", through(&impostors, &[ours, root]), "InvalidSignatureForPublicKey"),
        ("by itself", Keyless { chain: None, ..world.signed(&own, image) }, "UnknownIssuer"),
        ("no chain", Keyless { chain: None, ..good.clone() }, "UnknownIssuer"),
        ("a chain of the root alone", Keyless { chain: Some(root.pem.clone()), ..good.clone() }, "UnknownIssuer"),
        (
            "a chain of something else",
            Keyless { chain: Some("no PEM".to_owned()), ..good.clone() },
            "there is no certificate",
        ),
        (
            "the authority as a signer",
            world.signed(&root.certify(&authority("a", None).with("subjectAltName", &[&email])), image),
            "CaUsedAsEndEntity",
        ),
        ("a signer as an authority", through(&mine, &[&mine, ours, root]), "EndEntityUsedAsCa"),
        ("an authority too far below", through(&below, &[&below, ours, root]), "PathLenConstraintViolated"),
        ("an authority for servers", through(&for_servers, &[&for_servers, root]), "RequiredEkuNotFound"),
        ("an authority of older days", through(&elder, &[&elder, root]), "CertExpired"),
        (
            "a certificate for servers",
            by(&me().with("extendedKeyUsage", &["extendedKeyUsage = serverAuth"])),
            "RequiredEkuNotFound",
        ),
        ("a certificate for nothing", by(&me().with("extendedKeyUsage", &[])), "RequiredEkuNotFound"),
        (
            "a certificate with a word that nobody knows",
            by(&me().with("1.2.3.4", &["1.2.3.4 = critical,DER:0500"])),
            "UnsupportedCriticalExtension",
        ),
        ("no certificate", Keyless { certificate: String::new(), ..good.clone() }, "there is no certificate"),
        (
            "two certificates",
            Keyless { certificate: format!("{}{}", mine.pem, ours.pem), ..good },
            "more than one certificate",
        ),
    ]
}

/// Certificates that were not valid when the log says that something was signed.
fn times(world: &World, image: &Image) -> Vec<Case> {
    let at = |time| Keyless::at(&world.me(), world.chain(), &world.log, &payload(&image.digest, image.bare()), time);
    let now = jiff::Timestamp::now().as_second();
    let lasting = world.authority.certify(&me().during(SIGNED, now + 3600));
    let tomorrow = Keyless::at(&lasting, world.chain(), &world.log, &payload(&image.digest, image.bare()), now + 1800);
    vec![
        ("signed before its certificate", at(SIGNED - 301), "CertNotValidYet"),
        ("signed after its certificate", at(SIGNED + 301), "CertExpired"),
        ("signed today with a certificate of then", at(now), "no trusted certificate authority is valid"),
        ("signed tomorrow", tomorrow, "in the future"),
        ("signed at no time", at(0), "no verified timestamp"),
    ]
}

/// Receipts of others, or for something else.
fn receipts(world: &World, good: &Keyless) -> Vec<Case> {
    let World { log, .. } = world;
    let stranger = Log::new();
    let receipt = good.receipt.clone().unwrap();
    let with = |receipt: Value| Keyless { receipt: Some(receipt), ..good.clone() };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut receipt = receipt.clone();
        change(&mut receipt);
        with(receipt)
    };
    let logged = |payload: &[u8], signature: &[u8], certificate: &str| {
        with(log.receipt(&body(payload, signature, certificate), SIGNED))
    };
    let Keyless { payload, signature, certificate, .. } = good;
    let body = body(payload, signature, certificate);
    let of_another_log = {
        let mut forged = stranger.receipt(&body, SIGNED);
        forged["Payload"]["logID"] = receipt["Payload"]["logID"].clone();
        forged
    };
    let another_kind = String::from_utf8(body.clone()).unwrap().replace("hashedrekord", "rekord");
    let me = world.me();
    vec![
        ("no receipt", Keyless { receipt: None, ..good.clone() }, "no receipt of a log"),
        ("a receipt of a log that nobody named", with(stranger.receipt(&body, SIGNED)), "No log key valid"),
        ("a receipt by another key", with(of_another_log), "SET verification failed"),
        (
            "a receipt of another time",
            changed(&|receipt| receipt["Payload"]["integratedTime"] = (SIGNED + 1).into()),
            "SET verification failed",
        ),
        (
            "a receipt of another place",
            changed(&|receipt| receipt["Payload"]["logIndex"] = 8.into()),
            "SET verification failed",
        ),
        (
            "a receipt over another entry",
            changed(&|receipt| {
                receipt["SignedEntryTimestamp"] = log.receipt(b"{}", SIGNED)["SignedEntryTimestamp"].clone()
            }),
            "SET verification failed",
        ),
        ("an entry of another payload", logged(b"another", signature, certificate), "hash"),
        (
            "an entry of another signature",
            logged(payload, &me.key.sign(payload), certificate),
            "signature in bundle does not match",
        ),
        (
            "an entry of another certificate",
            logged(payload, signature, &me.pem),
            "certificate in bundle does not match",
        ),
        (
            "an entry of a key",
            logged(payload, signature, &fs::read_to_string(me.key.public()).unwrap()),
            "expected CERTIFICATE PEM block",
        ),
        ("an entry of another kind", with(log.receipt(another_kind.as_bytes(), SIGNED)), "rekord"),
        ("an entry that is none", with(log.receipt(b"[]", SIGNED)), "receipt is invalid"),
        (
            "a receipt with more to it",
            changed(&|receipt| receipt["Payload"]["more"] = 1.into()),
            "receipt of a log is invalid",
        ),
        (
            "a receipt without a signature",
            changed(&|receipt| receipt["SignedEntryTimestamp"] = "".into()),
            "SET verification failed",
        ),
        ("a receipt of no log", changed(&|receipt| receipt["Payload"]["logID"] = "00".into()), "id of its log"),
    ]
}

/// What is signed is something else.
fn contents(world: &World, image: &Image, other: &Image) -> Vec<Case> {
    let signer = world.me();
    let good = world.signed(&signer, image);
    let sign = |payload: &Value| Keyless::new(&signer, world.chain(), &world.log, payload);
    let mut changed = good.clone();
    changed.payload.insert(changed.payload.len() - 1, b' ');
    // The log has this one too: only the signature tells.
    let mut unsigned = good.clone();
    unsigned.signature = world.me().key.sign(&unsigned.payload);
    let entry = body(&unsigned.payload, &unsigned.signature, &unsigned.certificate);
    unsigned.receipt = Some(world.log.receipt(&entry, SIGNED));
    let swapped = Keyless { payload: world.signed(&signer, other).payload, ..good.clone() };
    vec![
        ("a payload with a space more", changed, "is not good"),
        ("another image's payload", swapped, "is not good"),
        ("a signature by another key", unsigned, "is not good"),
        ("no signature", Keyless { signature: Vec::new(), ..good }, "is not good"),
        ("of another image", world.signed(&signer, other), "it signs sha256:"),
        ("of another repository", sign(&payload(&image.digest, &format!("{}/x", image.bare()))), "it is for"),
        ("of something else", sign(&json!({"subject": image.digest})), "payload is invalid"),
    ]
}

#[test]
fn what_the_authorities_of_a_policy_allow_counts_for_them_too() {
    let world = World::new();
    let image = Image::push("trust/anchors", "1", "anchors");
    let log = json!({"rekorPublicKeyPath": world.log.key.public()});
    let require = |file: PathBuf| {
        Guarded::requiring(&image, &required(&json!({"caPath": file}), &json!({"subjectEmail": ME}), &log))
    };
    let lay = |signed: Keyless| attach(image.repository, &image.digest, &[signed.laid()]);
    // The authority itself is named, so that no chain is needed.
    lay(Keyless { chain: None, ..world.signed(&world.me(), &image) });
    require(world.authority.file()).admits(&image.name);
    let guarded = require(world.root.file());
    let both = guarded.policy.with_file_name("both.pem");
    fs::write(&both, format!("{}{}", world.root.pem, world.authority.pem)).unwrap();
    guarded.refuses(&image.name, &["certificate"]);
    require(both).admits(&image.name);
    // A root that allows nobody below it, and one that had ended or not begun.
    for (what, wanted) in [
        ("nobody below", Wanted::authority("root", Some(0))),
        ("ended", Wanted::authority("root", None).during(0, SIGNED - 1)),
        ("not begun", Wanted::authority("root", None).during(SIGNED + 1, SIGNED + 1000)),
    ] {
        eprintln!("{what}");
        let root = Certified::root(&wanted);
        let authority = root.certify(&authority("authority", Some(0)));
        let signer = authority.certify(&me());
        lay(Keyless { chain: Some(authority.pem.clone()), ..world.signed(&signer, &image) });
        require(root.file()).refuses(&image.name, &["certificate"]);
    }
    // A signer's certificate is no authority, in a policy either.
    let own = Certified::root(&me());
    lay(Keyless { chain: None, ..world.signed(&own, &image) });
    require(own.file()).refuses(&image.name, &["is no authority"]);
}

#[test]
fn a_bundle_is_believed_by_a_trusted_root_with_both_logs() {
    let world = World::new();
    let image = Image::push("trust/keyless-bundle", "1", "keyless bundle");
    let other = Image::push("trust/keyless-bundle", "other", "another keyless bundle");
    let certificates = Log::new();
    let root = trusted_root(&[&world.authority, &world.root], &world.log, Some(&certificates));
    let guarded = {
        let identity = json!({"signedIdentity": {"type": "matchDigest"}});
        let roots = json!({"trustedRootData": base64(&root)});
        Guarded::requiring(&image, &required(&roots, &json!({"subjectEmail": ME}), &identity))
    };
    let signer = world.authority.certify_logged(&me(), &certificates);
    let good = bundle(&signer, &world.log, &statement(&image.digest));
    refer(image.repository, &image.digest, std::slice::from_ref(&good));
    guarded.admits(&image.name);
    let entry = "/verificationMaterial/tlogEntries/0";
    let changed = |at: &str, value: Value| {
        let mut forged = good.clone();
        *forged.pointer_mut(&format!("{entry}{at}")).unwrap() = value;
        forged
    };
    let by = |signer: &Certified| bundle(signer, &world.log, &statement(&image.digest));
    let stranger = Log::new();
    let strangers = bundle(&signer, &stranger, &statement(&image.digest));
    let of_another = bundle(&signer, &world.log, &statement(&other.digest));
    let elsewhere = |what: &str| strangers.pointer(&format!("{entry}{what}")).unwrap().clone();
    let mut swapped = good.clone();
    swapped["verificationMaterial"]["tlogEntries"] = of_another["verificationMaterial"]["tlogEntries"].clone();
    let mut unlogged = good.clone();
    unlogged["verificationMaterial"]["tlogEntries"] = json!([]);
    let mut resigned = good.clone();
    resigned["dsseEnvelope"]["signatures"] = of_another["dsseEnvelope"]["signatures"].clone();
    for (what, forged, complaint) in [
        ("in no log of certificates", by(&world.me()), "SCT"),
        ("in another log of certificates", by(&world.authority.certify_logged(&me(), &stranger)), "SCT"),
        (
            "another person's",
            by(&world.authority.certify_logged(&Wanted::signer("email:you@example.org", ISSUER), &certificates)),
            "it is by you",
        ),
        (
            "another issuer's",
            by(&world.authority.certify_logged(&Wanted::signer(&format!("email:{ME}"), "https://evil"), &certificates)),
            "issuer mismatch",
        ),
        (
            "another authority's",
            by(&Certified::root(&authority("authority", None)).certify_logged(&me(), &certificates)),
            "InvalidSignatureForPublicKey",
        ),
        ("in another log", strangers.clone(), "No log key valid"),
        (
            "with another log's head",
            changed("/inclusionProof/checkpoint", elsewhere("/inclusionProof/checkpoint")),
            "checkpoint root hash",
        ),
        (
            "with another log's promise",
            changed("/inclusionPromise", elsewhere("/inclusionPromise")),
            "SET verification failed",
        ),
        ("at another time", changed("/integratedTime", (SIGNED + 1).to_string().into()), "SET verification failed"),
        ("at another place", changed("/inclusionProof/logIndex", "0".into()), "nclusion"),
        ("with another proof", changed("/inclusionProof/hashes", json!([base64(&json!("x".repeat(30)))])), "nclusion"),
        ("with another signature's entry", swapped, "match"),
        ("with no entry", unlogged, "nclusion proof"),
        ("with another statement's signature", resigned, "is not good"),
        ("of another image", of_another, "it signs another image"),
    ] {
        eprintln!("{what}");
        refer(image.repository, &image.digest, std::slice::from_ref(&forged));
        guarded.refuses(&image.name, &[complaint]);
    }
}

#[test]
fn a_signature_by_a_key_must_be_in_the_log_that_a_policy_names() {
    let image = Image::push("trust/logged", "1", "logged");
    let (signer, stranger, log, other) = (Signer::new(Kind::P256), Signer::new(Kind::P256), Log::new(), Log::new());
    let guarded = |identity: &str| {
        let identity = json!({"type": identity});
        let log = log.key.public();
        let one = json!({"type": "sigstoreSigned", "keyPath": signer.public(), "rekorPublicKeyPath": log, "signedIdentity": identity});
        Guarded::requiring(&image, &json!([one]))
    };
    let bare = signer.signature(&image.digest, image.bare());
    let signed = bare.annotations["dev.cosignproject.cosign/signature"].as_str().unwrap();
    let signed = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signed).unwrap();
    let public = |signer: &Signer| fs::read_to_string(signer.public()).unwrap();
    let entry = body(&bare.payload, &signed, &public(&signer));
    let with = |receipt: Value| {
        let mut signature: Signature = bare.clone();
        signature.annotations.insert("dev.sigstore.cosign/bundle".to_owned(), receipt.to_string().into());
        signature
    };
    let simple = guarded("matchRepository");
    for (what, forged, complaint) in [
        ("no receipt", bare.clone(), "no receipt of a log"),
        ("another log's", with(other.receipt(&entry, SIGNED)), "No log key valid"),
        ("of another payload", with(log.receipt(&body(b"x", &signed, &public(&signer)), SIGNED)), "hash mismatch"),
        (
            "of another signature",
            with(log.receipt(&body(&bare.payload, b"x", &public(&signer)), SIGNED)),
            "signature in bundle",
        ),
        (
            "of another key",
            with(log.receipt(&body(&bare.payload, &signed, &public(&stranger)), SIGNED)),
            "does not match managed key",
        ),
        ("of tomorrow", with(log.receipt(&entry, jiff::Timestamp::now().as_second() + 86_400)), "in the future"),
    ] {
        eprintln!("{what}");
        attach(image.repository, &image.digest, &[forged]);
        simple.refuses(&image.name, &[complaint]);
    }
    attach(image.repository, &image.digest, &[with(log.receipt(&entry, SIGNED))]);
    simple.admits(&image.name);
    attach(image.repository, &image.digest, &[]);
    let bundles = guarded("matchDigest");
    let statement = statement(&image.digest);
    for (what, bundle, complaint) in [
        ("another key's", bundle_by_key(&stranger, &log, &statement), "is not good"),
        ("in another log", bundle_by_key(&signer, &other, &statement), "No matching Rekor key"),
    ] {
        eprintln!("{what}");
        refer(image.repository, &image.digest, &[bundle]);
        bundles.refuses(&image.name, &[complaint]);
    }
    refer(image.repository, &image.digest, &[bundle_by_key(&signer, &log, &statement)]);
    bundles.admits(&image.name);
}

fn base64(value: &Value) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(value.to_string())
}
