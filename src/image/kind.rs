//! What kind of image a manifest and its config make: pure, table-tested.
//!
//! Whatever the kind, what leaves here is the same: an image config, and layers that each know how they
//! become files. So nothing behind this file knows that Wasm artifacts exist.

use super::{Error, Result};
use crate::oci::{Digest, ImageConfig, Layer, LayerFormat, Manifest, MediaType, WasmConfig};

/// The largest config that is read. A config lists an image's history; real ones have some kilobytes,
/// and Docker's daemon stops at the same size.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// The config type of the older wasm-to-oci tool. Its content says nothing.
const WASM_TO_OCI: &str = "application/vnd.wasm.config.v1+json";

/// An image as its manifest and config describe it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// The digest that is its own and no other image's.
    pub id: Digest,
    pub config: ImageConfig,
    pub layers: Vec<Layer>,
    /// What its program imports, as far as it says.
    pub needs: Vec<String>,
}

/// Reads the config by its media type and fits the layers to it.
pub(super) fn describe(reference: &str, digest: &Digest, manifest: &Manifest, config: &[u8]) -> Result<Described> {
    let invalid = |source| Error::Config { reference: reference.to_owned(), source };
    refuse_foreign(reference, manifest)?;
    let id = manifest.config.digest.clone();
    match manifest.config.media_type.as_str() {
        MediaType::WASM_CONFIG => {
            let wasm: WasmConfig = serde_json::from_slice(config).map_err(invalid)?;
            let layer = only_wasm_layer(reference, manifest)?;
            if !wasm.layer_digests.is_empty() && wasm.layer_digests != [layer.diff_id.clone()] {
                return Err(Error::WasmDigest { reference: reference.to_owned() });
            }
            Ok(Described { needs: wasm.component.clone().unwrap_or_default().imports, ..artifact(id, &wasm, layer) })
        }
        // All of that tool's configs are equal, so only the manifest tells its images apart.
        WASM_TO_OCI => Ok(artifact(digest.clone(), &WasmConfig::default(), only_wasm_layer(reference, manifest)?)),
        _ if manifest.config.media_type.is_image_config() => {
            let config: ImageConfig = serde_json::from_slice(config).map_err(invalid)?;
            let layers = image_layers(reference, manifest, &config)?;
            Ok(Described { id, config: with_wasm_entry(reference, config, &layers)?, layers, needs: Vec::new() })
        }
        _ => {
            let media_type = manifest.config.media_type.clone();
            Err(Error::ConfigType { reference: reference.to_owned(), media_type })
        }
    }
}

fn artifact(id: Digest, wasm: &WasmConfig, layer: Layer) -> Described {
    Described {
        id,
        config: ImageConfig::of_wasm_artifact(wasm, &layer.diff_id),
        layers: vec![layer],
        needs: Vec::new(),
    }
}

/// What belongs to another host says so by its media types.
fn refuse_foreign(reference: &str, manifest: &Manifest) -> Result<()> {
    let blobs = [&manifest.config].into_iter().chain(&manifest.layers);
    match blobs.filter_map(|blob| blob.media_type.foreign_wasm()).next() {
        Some(why) => Err(Error::Foreign { reference: reference.to_owned(), why }),
        None => Ok(()),
    }
}

/// The one layer of an artifact. Several are refused, as the CNCF's text asks of its readers.
fn only_wasm_layer(reference: &str, manifest: &Manifest) -> Result<Layer> {
    match &manifest.layers[..] {
        [blob] if blob.media_type.layer_format() == Some(LayerFormat::Wasm) => {
            Ok(Layer { blob: blob.clone(), format: LayerFormat::Wasm, diff_id: blob.digest.clone() })
        }
        layers => Err(Error::WasmLayers { reference: reference.to_owned(), layers: layers.len() }),
    }
}

fn image_layers(reference: &str, manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>> {
    let formats = manifest.layers.iter().enumerate().map(|(at, blob)| {
        blob.media_type.layer_format().ok_or_else(|| Error::LayerType {
            reference: reference.to_owned(),
            number: at + 1,
            media_type: blob.media_type.clone(),
        })
    });
    let formats = formats.collect::<Result<Vec<LayerFormat>>>()?;
    let (layers, described) = (formats.len(), config.rootfs.diff_ids.len());
    let wasm = formats.iter().filter(|format| **format == LayerFormat::Wasm).count();
    if wasm > 1 {
        return Err(Error::WasmLayers { reference: reference.to_owned(), layers });
    }
    // Wasm layers need no description: their files' digest is their blob's.
    if layers != described && !(described == 0 && wasm == layers) {
        return Err(Error::LayerCount { reference: reference.to_owned(), layers, described });
    }
    let layer = |(at, format): (usize, LayerFormat)| {
        let blob = manifest.layers[at].clone();
        let diff_id = match format {
            LayerFormat::Wasm => blob.digest.clone(),
            LayerFormat::Tar(_) => config.rootfs.diff_ids[at].clone(),
        };
        Layer { blob, format, diff_id }
    };
    Ok(formats.into_iter().enumerate().map(layer).collect())
}

/// In runwasi's images the first argument names nothing, since the layer is no file there; here it is
/// one. An image that has tar layers too may start something in them.
fn with_wasm_entry(reference: &str, mut config: ImageConfig, layers: &[Layer]) -> Result<ImageConfig> {
    let wasm = layers.iter().any(|layer| layer.format == LayerFormat::Wasm);
    let only_wasm = layers.iter().all(|layer| layer.format == LayerFormat::Wasm);
    let exec = &mut config.config;
    let starts_nothing = exec.entrypoint.is_empty() && exec.cmd.is_empty();
    if !wasm || !(only_wasm || starts_nothing) {
        return Ok(config);
    }
    if let Some(first) = exec.entrypoint.iter().chain(&exec.cmd).next().filter(|first| names_function(first)) {
        return Err(Error::Function { reference: reference.to_owned(), entry: first.clone() });
    }
    let entry = ImageConfig::WASM_ENTRY.to_owned();
    match (exec.entrypoint.first_mut(), exec.cmd.is_empty()) {
        (Some(first), _) => *first = entry,
        (None, false) => {
            exec.cmd.remove(0);
            exec.entrypoint.push(entry);
        }
        (None, true) => exec.entrypoint.push(entry),
    }
    Ok(config)
}

/// Whether runwasi would call another function of the program than the usual one.
fn names_function(first: &str) -> bool {
    first.split_once('#').is_some_and(|(_, function)| function != "_start")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Compression, Descriptor, Platform};

    const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn manifest(config: &str, layers: &[&str]) -> Manifest {
        let blob = |media_type: &&str| Descriptor::new((*media_type).into(), Digest::sha256(media_type.as_bytes()), 9);
        Manifest {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            config: blob(&config),
            layers: layers.iter().map(blob).collect(),
            subject: None,
            annotations: Default::default(),
        }
    }

    fn kind(manifest: &Manifest, config: &str) -> Result<Described> {
        describe("x:1", &Digest::sha256(b"manifest"), manifest, config.replace("OTHER", OTHER).as_bytes())
    }

    fn args(described: &Described) -> String {
        let exec = &described.config.config;
        [exec.entrypoint.join(" "), exec.cmd.join(" ")].join("|")
    }

    #[test]
    fn an_image() {
        let manifest = manifest(MediaType::DOCKER_CONFIG, &[MediaType::LAYER_GZIP]);
        let config = r#"{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]},
            "rootfs":{"type":"layers","diff_ids":["OTHER"]}}"#;
        let image = kind(&manifest, config).unwrap();
        assert_eq!(image.id, manifest.config.digest);
        assert_eq!(image.layers[0].format, LayerFormat::Tar(Compression::Gzip));
        assert_eq!(image.layers[0].diff_id.as_str(), OTHER);
        assert_eq!(args(&image), "|sh");
    }

    #[test]
    fn disagreements_about_layers_are_refused() {
        let one = manifest(MediaType::CONFIG, &[MediaType::LAYER_GZIP]);
        assert!(matches!(kind(&one, "{}"), Err(Error::LayerCount { layers: 1, described: 0, .. })));
        let none = manifest(MediaType::CONFIG, &[]);
        let config = r#"{"rootfs":{"diff_ids":["OTHER"]}}"#;
        assert!(matches!(kind(&none, config), Err(Error::LayerCount { layers: 0, described: 1, .. })));
        let strange = manifest(MediaType::CONFIG, &[MediaType::LAYER_GZIP, "text/html"]);
        assert!(matches!(kind(&strange, "{}"), Err(Error::LayerType { number: 2, .. })));
        let strange = manifest("application/vnd.cncf.helm.config.v1+json", &[]);
        assert!(matches!(kind(&strange, "{}"), Err(Error::ConfigType { .. })));
        assert!(matches!(kind(&one, "<html>"), Err(Error::Config { .. })));
    }

    #[test]
    fn a_cncf_artifact() {
        let artifact = manifest(MediaType::WASM_CONFIG, &[MediaType::WASM]);
        let image =
            kind(&artifact, r#"{"os":"wasip2","architecture":"wasm","created":"2024-09-25T12:00:00Z"}"#).unwrap();
        assert_eq!(args(&image), "/app.wasm|");
        assert_eq!(image.config.platform().to_string(), "wasip2/wasm");
        assert_eq!(image.needs, [""; 0]);
        let other = kind(&artifact, r#"{"os":"linux","architecture":"amd64"}"#).unwrap();
        assert_eq!(other.config.platform(), Platform::wasm());
        let needy = r#"{"os":"wasip2","architecture":"wasm","component":{"exports":null,"imports":["a:b/c@1.0.0"]}}"#;
        assert_eq!(kind(&artifact, needy).unwrap().needs, ["a:b/c@1.0.0"]);
        assert_eq!(image.layers[0].diff_id, image.layers[0].blob.digest);
        let digest = Digest::sha256(MediaType::WASM.as_bytes());
        assert!(kind(&artifact, &format!(r#"{{"layerDigests":["{digest}"]}}"#)).is_ok());
        assert!(matches!(kind(&artifact, r#"{"layerDigests":["OTHER"]}"#), Err(Error::WasmDigest { .. })));
        for layers in [&[][..], &[MediaType::WASM, MediaType::WASM], &[MediaType::LAYER_GZIP]] {
            let several = manifest(MediaType::WASM_CONFIG, layers);
            assert!(matches!(kind(&several, "{}"), Err(Error::WasmLayers { .. })), "{layers:?}");
        }
    }

    #[test]
    fn what_belongs_to_another_host_is_refused_by_name() {
        let said = |manifest: &Manifest| kind(manifest, "{}").unwrap_err().to_string();
        let spin = manifest(MediaType::SPIN_CONFIG, &["application/vnd.wasm.content.layer.v1+wasm"]);
        assert!(said(&spin).contains("Spin application"), "{}", said(&spin));
        let data = ["application/vnd.wasm.content.layer.v1+wasm", "application/vnd.wasm.content.layer.v1+data"];
        assert!(said(&manifest(MediaType::WASM_CONFIG, &data)).contains("Spin application"));
        let envoy = manifest(MediaType::ENVOY_CONFIG, &["application/vnd.module.wasm.content.layer.v1+wasm"]);
        assert!(said(&envoy).contains("proxy-wasm"));
        let actor = manifest("application/vnd.wasmcloud.actor.archive.config", &[]);
        assert!(said(&actor).contains("wasmCloud"));
    }

    #[test]
    fn a_function_of_runwasis_cannot_be_chosen() {
        let runwasi = manifest(MediaType::CONFIG, &["application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"]);
        let image = |first: &str| kind(&runwasi, &format!(r#"{{"config":{{"Entrypoint":["{first}"]}}}}"#));
        assert!(matches!(image("/x.wasm#go"), Err(Error::Function { .. })));
        assert_eq!(args(&image("/x.wasm#_start").unwrap()), "/app.wasm|");
    }

    #[test]
    fn a_wasm_to_oci_artifact_is_told_apart_by_its_manifest() {
        let image = kind(&manifest(WASM_TO_OCI, &["application/vnd.wasm.content.layer.v1+wasm"]), "{}").unwrap();
        assert_eq!((args(&image), image.id), ("/app.wasm|".to_owned(), Digest::sha256(b"manifest")));
    }

    #[test]
    fn a_runwasi_image_starts_its_layer() {
        let runwasi = manifest(MediaType::CONFIG, &["application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"]);
        for (exec, expected) in [
            ("{}", "/app.wasm|"),
            (r#"{"Entrypoint":["/x.wasm","a"],"Cmd":["b"]}"#, "/app.wasm a|b"),
            (r#"{"Cmd":["/x.wasm","b"]}"#, "/app.wasm|b"),
        ] {
            for diff_ids in ["", r#""OTHER""#] {
                let config = format!(r#"{{"config":{exec},"rootfs":{{"diff_ids":[{diff_ids}]}}}}"#);
                let image = kind(&runwasi, &config).unwrap();
                assert_eq!(args(&image), expected);
                assert_eq!(image.layers[0].diff_id, image.layers[0].blob.digest);
            }
        }
        let mixed = manifest(MediaType::CONFIG, &[MediaType::LAYER_GZIP, MediaType::WASM]);
        let config = r#"{"config":{"Entrypoint":["/bin/x"]},"rootfs":{"diff_ids":["OTHER","OTHER"]}}"#;
        assert_eq!(args(&kind(&mixed, config).unwrap()), "/bin/x|");
        let several = manifest(MediaType::CONFIG, &[MediaType::WASM, MediaType::WASM]);
        assert!(matches!(kind(&several, "{}"), Err(Error::WasmLayers { layers: 2, .. })));
    }
}
