//! Which of several platforms' images is meant. Pure.

use super::{Error, Image, Result};
use crate::oci::{Descriptor, Index, Platform};

/// How many indexes may be nested. One is usual, two are met, and the rest are attacks.
pub const MAX_INDEX_DEPTH: usize = 4;

/// How many manifests an index may list. The largest in use, with attestations, list some dozens.
pub const MAX_INDEX_ENTRIES: usize = 1024;

/// BuildKit lists provenance and bills of materials beside the images, marked by this annotation.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// And this one says of which image they are.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// The images that an index lists.
pub(super) fn images<'a>(reference: &str, index: &'a Index) -> Result<Vec<&'a Descriptor>> {
    match index.manifests.len() {
        entries if entries > MAX_INDEX_ENTRIES => Err(Error::IndexEntries { reference: reference.to_owned(), entries }),
        _ => Ok(index.manifests.iter().filter(|entry| is_image(entry)).collect()),
    }
}

/// The entry of an index that is to be pulled: for `wanted`, or for the host's Linux, or else for Wasm.
pub(super) fn entry<'a>(reference: &str, index: &'a Index, wanted: Option<&Platform>) -> Result<&'a Descriptor> {
    let images = images(reference, index)?;
    let for_platform = |wanted: &Platform| {
        // The first of equals: their order is the author's preference.
        let fitting = images.iter().filter(|entry| entry.platform.as_ref().is_some_and(|p| p.satisfies(wanted)));
        fitting.min_by_key(|entry| distance(entry.platform.as_ref(), wanted)).copied()
    };
    let candidates = wanted.map_or_else(|| vec![Platform::host(), Platform::wasm()], |wanted| vec![wanted.clone()]);
    let found = candidates.iter().find_map(for_platform).or_else(|| only_unlabelled(&images));
    found.ok_or_else(|| Error::NoPlatform {
        reference: reference.to_owned(),
        wanted: Box::new(candidates[0].clone()),
        available: images.iter().filter_map(|entry| entry.platform.clone()).collect(),
    })
}

/// The image that is meant among those that one name holds.
pub(super) fn among(images: Vec<Image>, wanted: Option<&Platform>) -> Option<Image> {
    let fits = |wanted: &Platform| images.iter().position(|image| image.platform.satisfies(wanted));
    let position = match wanted {
        Some(wanted) => fits(wanted),
        None => fits(&Platform::host()).or_else(|| fits(&Platform::wasm())).or(Some(0)),
    };
    images.into_iter().nth(position?)
}

/// Whether an index's entry vouches for a manifest that is `needed`: for the one that it names, or for any of them.
pub(super) fn vouches(entry: &Descriptor, needed: impl Fn(&str) -> bool) -> bool {
    !is_image(entry) && entry.annotations.get(ATTESTED).is_none_or(|digest| needed(digest))
}

fn is_image(entry: &Descriptor) -> bool {
    let known = entry.media_type.is_manifest() || entry.media_type.is_index();
    let unknown = entry.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
    known && !unknown && !entry.annotations.contains_key(ATTESTATION)
}

/// An index that says nothing of its one image's platform leaves that to the image's config.
fn only_unlabelled<'a>(images: &[&'a Descriptor]) -> Option<&'a Descriptor> {
    match images {
        [one] if one.platform.is_none() => Some(one),
        _ => None,
    }
}

/// How far a fitting platform is from the wanted one: the very one, then the general one, then the
/// newest variant that the processor still runs.
fn distance(platform: Option<&Platform>, wanted: &Platform) -> (bool, u8, std::cmp::Reverse<Option<String>>) {
    // All spellings of WebAssembly serve, and the one that was asked for serves best.
    let other_spelling =
        wanted.is_wasm() && platform.is_some_and(|p| Platform::new(&p.os, &p.architecture, None).os != wanted.os);
    let variant = platform.and_then(|p| Platform::new(&p.os, &p.architecture, p.variant.as_deref()).variant);
    let rank = match &variant {
        variant if *variant == wanted.variant => 0,
        None => 1,
        Some(_) => 2,
    };
    (other_spelling, rank, std::cmp::Reverse(variant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};

    fn index(platforms: &[&str]) -> Index {
        let entry = |text: &&str| {
            let mut entry = Descriptor::new(MediaType::MANIFEST.into(), Digest::sha256(text.as_bytes()), 1);
            let parts: Vec<&str> = text.split('/').collect();
            // Not normalised, as registries hold it.
            entry.platform = (!text.is_empty()).then(|| Platform {
                os: parts[0].to_owned(),
                architecture: parts[1].to_owned(),
                variant: parts.get(2).map(|v| (*v).to_owned()),
                os_version: None,
            });
            entry
        };
        Index {
            schema_version: 2,
            media_type: None,
            manifests: platforms.iter().map(entry).collect(),
            annotations: Default::default(),
        }
    }

    fn chosen(platforms: &[&str], wanted: Option<&str>) -> Option<String> {
        let wanted = wanted.map(|text| text.parse().unwrap());
        let index = index(platforms);
        let entry = entry("x", &index, wanted.as_ref()).ok()?;
        platforms.iter().find(|text| Digest::sha256(text.as_bytes()) == entry.digest).map(|text| (*text).to_owned())
    }

    #[test]
    fn the_hosts_linux_first_then_wasm() {
        let host = Platform::host().to_string();
        let both = ["wasi/wasm", "linux/riscv64", &host];
        assert_eq!(chosen(&both, None), Some(host.clone()));
        assert_eq!(chosen(&both, Some("wasi/wasm")).as_deref(), Some("wasi/wasm"));
        assert_eq!(chosen(&both[..2], None).as_deref(), Some("wasi/wasm"));
        for spelling in ["wasip1/wasm", "wasi/wasm32", "linux/wasm"] {
            assert_eq!(chosen(&[spelling, "linux/riscv64"], None).as_deref(), Some(spelling));
        }
        let several = ["wasip1/wasm", "wasip2/wasm"];
        for (wanted, got) in [("wasip2/wasm", 1), ("wasip1/wasm", 0), ("wasi/wasm", 0), ("wasm/wasi", 0)] {
            assert_eq!(chosen(&several, Some(wanted)).as_deref(), Some(several[got]), "{wanted}");
        }
        assert_eq!(chosen(&["linux/riscv64"], None), None);
        assert_eq!(chosen(&[""], None).as_deref(), Some(""), "the config will tell");
    }

    #[test]
    fn variants_by_nearness() {
        let arm = ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8"];
        for (wanted, got) in [("linux/arm", "linux/arm/v7"), ("linux/arm/v6", "linux/arm/v6")] {
            assert_eq!(chosen(&arm, Some(wanted)).as_deref(), Some(got));
        }
        assert_eq!(chosen(&arm[..2], Some("linux/arm/v7")).as_deref(), Some("linux/arm/v6"));
        // A plain amd64 wants the plain one, whatever comes first.
        let amd64 = ["linux/amd64/v3", "linux/amd64"];
        assert_eq!(chosen(&amd64, Some("linux/amd64")).as_deref(), Some("linux/amd64"));
        assert_eq!(chosen(&["linux/arm64/v8"], Some("linux/arm64")).as_deref(), Some("linux/arm64/v8"));
    }

    #[test]
    fn attestations_are_no_images_and_no_match_names_what_there_is() {
        let mut index = index(&["linux/s390x", "unknown/unknown", "linux/riscv64"]);
        index.manifests[2].annotations.insert(ATTESTATION.to_owned(), "attestation-manifest".to_owned());
        let error = entry("x:1", &index, Some(&"linux/riscv64".parse().unwrap())).unwrap_err();
        assert_eq!(error.to_string(), "no matching manifest for linux/riscv64 in x:1, which has linux/s390x");
    }

    #[test]
    fn entries_are_limited() {
        let host = Platform::host().to_string();
        assert!(entry("x", &index(&vec![host.as_str(); MAX_INDEX_ENTRIES]), None).is_ok());
        let error = entry("x", &index(&vec![host.as_str(); MAX_INDEX_ENTRIES + 1]), None).unwrap_err();
        assert!(matches!(error, Error::IndexEntries { .. }), "{error}");
    }
}
