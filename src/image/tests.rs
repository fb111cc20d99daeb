//! The store as its callers see it, on a real database and real blobs.

use super::record::{Facts, row_of};
use super::*;
use crate::error::{Failure, Kind};
use crate::oci::{Compression, LayerFormat, MediaType};

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
        let content = content::Store::open(&dir.path().join("content")).unwrap();
        let judge = Judge { offers: |_| true, refuses: |_| None };
        Self { store: Store::new(db, content, judge, Guard::default()), _dir: dir }
    }

    fn blob(&self, media_type: &str, text: &str) -> Descriptor {
        let (digest, size) = (Digest::sha256(text.as_bytes()), text.len() as u64);
        let descriptor = Descriptor::new(media_type.into(), digest, size);
        let mut ingest = self.store.content.ingest(&descriptor).unwrap();
        ingest.append(text.as_bytes()).unwrap();
        ingest.commit().unwrap();
        descriptor
    }

    /// Registers an image whose own blobs are made from `seed`, on a base layer that all share.
    fn register(&self, name: &str, platform: &str, seed: &str) -> Image {
        let config = self.blob(MediaType::CONFIG, &format!("config {seed}"));
        let manifest = self.blob(MediaType::MANIFEST, &format!("manifest {seed}"));
        let layer = |text: &str| {
            let blob = self.blob(MediaType::LAYER_GZIP, text);
            Layer { diff_id: blob.digest.clone(), blob, format: LayerFormat::Tar(Compression::Gzip) }
        };
        let image = Image {
            names: Vec::new(),
            id: config.digest.clone(),
            manifest,
            platform: platform.parse().unwrap(),
            config: ImageConfig::default(),
            layers: vec![layer("base"), layer(&format!("layer {seed}"))],
            size: 9,
            pulled_unix_ns: 1,
        };
        let reference = name.parse().unwrap();
        let facts = Facts { reference: Some(&reference), indexes: Vec::new(), config, image: image.clone() };
        self.store.db.images().put(&row_of(&facts).unwrap(), record::dangling_name).unwrap();
        image
    }

    fn id(&self, name: &str, platform: Option<&str>) -> Option<Digest> {
        let platform = platform.map(|text| text.parse().unwrap());
        self.store.get(name, platform.as_ref()).unwrap().map(|image| image.id)
    }

    fn remove(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        self.store.remove(name, &[], force, &|_| None)
    }

    fn has(&self, text: &str) -> bool {
        self.store.content.has(&Digest::sha256(text.as_bytes()))
    }
}

#[test]
fn an_image_is_found_by_name_digest_and_id() {
    let here = Fixture::new();
    let host = Platform::host().to_string();
    let image = here.register("alpine:3", &host, "one");
    let id = Some(image.id.clone());
    for name in [
        "alpine:3".to_owned(),
        "docker.io/library/alpine:3".to_owned(),
        image.id.to_string(),
        image.id.short().to_owned(),
        image.id.hex().to_owned(),
        format!("alpine@{}", image.manifest.digest),
        format!("alpine:3@{}", image.manifest.digest),
    ] {
        assert_eq!(here.id(&name, None), id, "{name}");
    }
    let elsewhere = format!("debian@{}", image.manifest.digest);
    for name in ["alpine", "alpine:4", "deadbeef", "", "sha256:", &elsewhere] {
        assert_eq!(here.id(name, None), None, "{name}");
    }
    let found = here.store.get("alpine:3", None).unwrap().unwrap();
    assert_eq!((found.layers, found.names[0].reference.familiar()), (image.layers, "alpine:3".to_owned()));
}

#[test]
fn a_name_holds_one_image_for_each_platform() {
    let here = Fixture::new();
    let host = Platform::host().to_string();
    let wasm = here.register("app", "wasip1/wasm", "wasm");
    assert_eq!(here.id("app", None), Some(wasm.id.clone()), "the only one");
    let native = here.register("app", &host, "native");
    assert_eq!(here.id("app", None), Some(native.id));
    assert_eq!(here.id("app", Some("wasi/wasm")), Some(wasm.id));
    assert_eq!(here.id("app", Some("linux/s390x")), None);
    let newer = here.register("app", "wasi/wasm", "newer");
    assert_eq!(here.id("app", Some("wasip2/wasm")), Some(newer.id), "another spelling of the same platform");
}

#[test]
fn an_image_whose_tag_moved_on_is_listed_without_it() {
    let here = Fixture::new();
    let host = Platform::host().to_string();
    let old = here.register("app", &host, "old");
    here.register("app", &host, "new");
    let list = here.store.list().unwrap();
    let dangling = list.iter().find(|image| image.id == old.id).unwrap();
    assert_eq!(dangling.names[0].reference.tag(), None);
    assert_eq!(here.id(old.id.short(), None), Some(old.id.clone()));
    here.remove(old.id.short(), false).unwrap();
    assert!(here.has("layer new") && here.has("base") && !here.has("layer old"));
}

#[test]
fn the_last_name_takes_the_image_with_it_but_not_what_others_share() {
    let here = Fixture::new();
    let host = Platform::host().to_string();
    let one = here.register("one", &host, "one");
    here.register("uno", &host, "one");
    here.register("two", &host, "two");
    assert_eq!(here.store.list().unwrap().len(), 2, "two names, one image");
    assert_eq!(here.remove("uno", false).unwrap(), [Removed::Untagged("uno:latest".to_owned())]);
    assert!(here.has("layer one"));
    let removed = here.remove("one", false).unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("one:latest".to_owned()), Removed::Deleted(one.id)]);
    assert!(!here.has("layer one") && !here.has("config one") && !here.has("manifest one"));
    assert!(here.has("base") && here.has("layer two"));
    assert!(matches!(here.remove("one", true), Err(Error::NotFound { .. })));
}

#[test]
fn an_id_with_several_names_has_to_be_forced() {
    let here = Fixture::new();
    let host = Platform::host().to_string();
    let image = here.register("one", &host, "one");
    here.register("uno", &host, "one");
    let error = here.remove(image.id.short(), false).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("one:latest, uno:latest")), "{error}");
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    here.remove(image.id.short(), true).unwrap();
    assert_eq!(here.store.list().unwrap(), []);
}

#[test]
fn what_a_container_uses_stays() {
    let here = Fixture::new();
    let host = Platform::host().to_string();
    here.register("one", &host, "one");
    let used = |running| move |_: &Image| Some(Use { container: "c0ffee".to_owned(), running });
    for (running, force) in [(false, false), (true, false), (true, true)] {
        let error = here.store.remove("one", &[], force, &used(running)).unwrap_err();
        assert!(error.to_string().contains("container c0ffee"), "{error}");
    }
    here.register("uno", &host, "one");
    here.store.remove("uno", &[], false, &used(true)).unwrap();
    here.store.remove("one", &[], true, &used(false)).unwrap();
}

#[test]
fn one_platform_of_a_name_is_removed_and_the_others_keep_it() {
    let here = Fixture::new();
    let (host, wasm) = (Platform::host(), Platform::wasm());
    let native = here.register("app", &host.to_string(), "native");
    let guest = here.register("app", "wasi/wasm", "guest");
    let other: Platform = "linux/s390x".parse().unwrap();
    let remove = |platforms: &[Platform]| here.store.remove("app", platforms, false, &|_| None);
    assert!(matches!(remove(&[wasm.clone(), other]), Err(Error::WrongPlatform { .. })), "all or none");
    assert_eq!(remove(std::slice::from_ref(&wasm)).unwrap()[0], Removed::Deleted(guest.id), "the name stays");
    assert!(matches!(here.store.require("app", Some(&wasm)), Err(Error::WrongPlatform { .. })));
    assert_eq!(here.store.require("app", Some(&host)).unwrap().id, native.id);
    assert_eq!(remove(&[host]).unwrap()[0], Removed::Untagged("app:latest".to_owned()));
    assert!(matches!(here.store.require("App", None), Err(Error::Reference(_))), "it cannot be a name");
    let id = "0".repeat(64);
    assert!(matches!(here.store.require(&id, None), Err(Error::NotFound { name }) if name == id));
}

#[test]
fn a_removal_beside_a_pull_leaves_what_the_pull_needs() {
    let here = Fixture::new();
    here.register("one", "linux/s390x", "one");
    here.register("two", "linux/s390x", "two");
    let pulling = here.store.content.lease().unwrap();
    assert!(here.has("layer one"), "which the pull has now asked for");
    here.remove("one", false).unwrap();
    let layer_two = here.store.content.path_of(&Digest::sha256(b"layer two"));
    here.remove("two", false).unwrap();
    assert!(here.has("layer one") && !layer_two.exists());
    drop(pulling);
    here.register("three", "linux/s390x", "three");
    here.remove("three", false).unwrap();
    assert!(!here.has("layer one"), "the next removal takes it");
}

#[test]
fn a_record_of_a_later_wherry_is_refused_not_guessed_at() {
    let here = Fixture::new();
    here.register("one", "linux/s390x", "one");
    let mut row = here.store.db.images().list().unwrap().remove(0);
    row.record_json = row.record_json.replace("\"version\":1", "\"version\":2");
    here.store.db.images().put(&row, record::dangling_name).unwrap();
    let error = here.store.get("one", None).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    // It might name blobs that this wherry does not know of.
    here.register("two", "linux/s390x", "two");
    assert!(here.remove("two", false).is_err());
    assert!(here.has("layer one") && here.has("layer two"));
}

#[test]
fn an_image_that_somebody_at_work_holds_or_that_is_needed_after_all_does_not_go_by_itself() {
    let here = Fixture::new();
    let image = here.register("app:1", &Platform::host().to_string(), "one");
    let other = content::Store::open(&here._dir.path().join("content")).unwrap();
    let lease = other.lease().unwrap();
    assert!(other.has(&image.manifest.digest));
    assert_eq!(here.store.evict(&image, &|| true).unwrap(), None);
    drop(lease);
    assert_eq!(here.store.evict(&image, &|| false).unwrap(), None);
    assert_eq!(here.id("app:1", None), Some(image.id.clone()));
    let gone = here.store.evict(&image, &|| true).unwrap().unwrap();
    assert_eq!(gone.removed[..2], [Removed::Untagged("app:1".to_owned()), Removed::Deleted(image.id)]);
    assert!(!here.has("base"));
}

#[test]
fn a_blob_is_dropped_when_every_image_has_unpacked_it_and_nobody_holds_it() {
    let here = Fixture::new();
    let host = Platform::host().to_string();
    let (one, two) = (here.register("one:1", &host, "one"), here.register("two:1", &host, "two"));
    let origin = "r.io/one:1".parse().unwrap();
    let digest = |text: &str| Digest::sha256(text.as_bytes());
    let first_only = |layers: &[Layer]| vec![*layers != *two.layers(); layers.len()];
    here.store.drop_blobs(&one, &origin, &first_only).unwrap();
    assert_eq!((here.has("base"), here.has("layer one"), here.has("layer two")), (true, false, true));
    assert_eq!(here.store.spared(&first_only).unwrap(), [digest("layer one")].into());

    let all = |layers: &[Layer]| vec![true; layers.len()];
    let other = content::Store::open(&here._dir.path().join("content")).unwrap();
    let lease = other.lease().unwrap();
    assert!(other.has(&digest("base")));
    assert_eq!(here.store.drop_again(&all).unwrap(), 0);
    drop(lease);
    assert_eq!(here.store.drop_again(&all).unwrap(), 4);
    assert_eq!((here.has("base"), here.has("layer two")), (false, true), "the other was not to be dropped");
    assert_eq!(here.store.spared(&all).unwrap(), [digest("base"), digest("layer one")].into());

    // Who wants them kept has fetched them again; and what no image has any more is forgotten.
    here.store.keep_blobs(&two).unwrap();
    assert_eq!(here.store.dropped().unwrap(), [digest("layer one")].into());
    here.remove("one:1", false).unwrap();
    assert_eq!(here.store.dropped().unwrap(), [].into());
}
