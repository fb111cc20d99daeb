//! `wherry manifest`: Docker's words and Docker's bytes, with a real registry.

use serde_json::{Value, json};

use crate::support::Wherry;
use crate::support::handmade::{self, Handmade, TAR, digest, tar};
use crate::support::registry::registry;

fn image(repository: &str, platform: &str) -> String {
    let image = Handmade::image(platform, &["/x"], vec![(TAR, tar(&[("x", platform.as_bytes())]))]);
    image.push(repository, &platform.replace('/', "-"))
}

#[test]
fn a_list_is_put_together_annotated_pushed_and_forgotten() {
    let own = &format!("manifest-{}", std::process::id());
    let (one, two) = (image(own, "linux/amd64"), image(&format!("{own}-other"), "linux/arm64"));
    let list = format!("{}/{own}:list", registry().host);
    let wherry = Wherry::new();
    let created = wherry.ok(["manifest", "create", "--insecure", &list, &one, &two]);
    assert_eq!(created, format!("Created manifest list {list}"));
    wherry.call(["manifest", "create", &list, &one]).expect(1).complains(&["refusing to amend"]);
    wherry.ok(["manifest", "annotate", "--variant", "v8", "--os-features", "a,b", &list, &two]);
    wherry.call(["manifest", "annotate", "--os", "nowhere", &list, &two]).expect(1).complains(&["nowhere/arm64"]);
    let shown = wherry.ok(["manifest", "inspect", &list]);
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown.starts_with("{\n   \"schemaVersion\": 2,\n   \"mediaType\""), "{shown}");
    assert_eq!(value["manifests"][0]["platform"], json!({"architecture": "amd64", "os": "linux"}));
    let arm = json!({"architecture": "arm64", "os": "linux", "os.features": ["a", "b"], "variant": "v8"});
    assert_eq!(value["manifests"][1]["platform"], arm);
    let pushed = wherry.ok(["manifest", "push", "-p", &list]);
    let raw = handmade::get(own, "manifests", "list");
    assert_eq!(String::from_utf8(raw.clone()).unwrap(), shown, "what is shown is what is pushed");
    assert_eq!(pushed.lines().last(), Some(digest(&raw).as_str()));
    assert!(pushed.starts_with(&format!("Pushed ref {}/{own}@sha256:", registry().host)), "{pushed}");
    wherry.call(["manifest", "push", &list]).expect(1).complains(&["No such manifest: ", &list]);
    wherry
        .call(["manifest", "rm", &list, "other"])
        .expect(1)
        .complains(&["No such manifest: ", "library/other:latest"]);
    // From the registry it is the same, and both of its images can be pulled there.
    assert_eq!(wherry.ok(["manifest", "inspect", &list]), shown);
    for platform in ["linux/amd64", "linux/arm64"] {
        wherry.ok(["pull", "-q", "--platform", platform, &list]);
    }
}

#[test]
fn a_manifest_is_shown_as_it_is_and_with_what_is_known_of_it() {
    let name = image("manifest-one", "linux/amd64");
    let raw = handmade::get("manifest-one", "manifests", "linux-amd64");
    let wherry = Wherry::new();
    let shown = wherry.ok(["manifest", "inspect", &name]);
    assert!(shown.starts_with("{\n\t\""), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), serde_json::from_slice::<Value>(&raw).unwrap());
    let whole: Value = serde_json::from_str(&wherry.ok(["manifest", "inspect", "-v", &name])).unwrap();
    assert_eq!((&whole["Ref"], &whole["Descriptor"]["digest"]), (&json!(name), &json!(digest(&raw))));
    assert_eq!(whole["Descriptor"]["platform"], json!({"architecture": "amd64", "os": "linux"}));
    assert_eq!(whole["OCIManifest"], serde_json::from_slice::<Value>(&raw).unwrap());
    let absent = name.replace("linux-amd64", "none");
    wherry.call(["manifest", "inspect", &absent]).expect(1).complains(&["none", "not found"]);
    wherry.call(["manifest", "inspect", "--insecure", "r.example/x"]).expect(1).complains(&["--insecure"]);
}
