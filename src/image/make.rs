//! Images made here: a config and layers become a manifest, and that an image like one that was pulled.

use serde_json::Value;

use super::{Error, Image, MAX_CONFIG_BYTES, Ready, Result, Store};
use crate::oci::{Descriptor, Document, MAX_MANIFEST_BYTES, Manifest, MediaType};

const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

impl Store {
    /// The config of an image, with all that its makers wrote there.
    pub fn config_of(&self, image: &Image) -> Result<Value> {
        let manifest = self.manifest_of(image)?;
        if !manifest.config.media_type.is_image_config() {
            let media_type = manifest.config.media_type;
            return Err(Error::ConfigType { reference: image.id.to_string(), media_type });
        }
        let bytes = self.content.read(&manifest.config.digest, MAX_CONFIG_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Config { reference: image.id.to_string(), source })
    }

    /// Makes an image of this config, whose layers are those of `base` and, above them, `layer`, a blob that is here. The
    /// caller has a lease.
    pub fn make(&self, base: Option<&Image>, layer: Option<Descriptor>, config: &Value) -> Result<Ready> {
        let base = base.map(|image| Ok::<_, Error>((self.manifest_of(image)?, image))).transpose()?;
        let docker =
            base.as_ref().is_some_and(|(_, image)| image.manifest.media_type.as_str() == MediaType::DOCKER_MANIFEST);
        let (manifest_type, config_type) = match docker {
            true => (MediaType::DOCKER_MANIFEST, MediaType::DOCKER_CONFIG),
            false => (MediaType::MANIFEST, MediaType::CONFIG),
        };
        // A manifest of docker's has layers of docker's types.
        let layer = layer.map(|layer| match layer.media_type.as_str() {
            MediaType::LAYER_GZIP if docker => Descriptor { media_type: DOCKER_LAYER_GZIP.into(), ..layer },
            _ => layer,
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(manifest_type.into()),
            artifact_type: None,
            config: self.keep(config_type, &serde_json::to_vec(config).expect("plain data"))?,
            layers: base.map(|(manifest, _)| manifest.layers).into_iter().flatten().chain(layer).collect(),
            subject: None,
            annotations: Default::default(),
        };
        let descriptor = self.keep(manifest_type, &serde_json::to_vec(&manifest).expect("plain data"))?;
        let shown = descriptor.digest.to_string();
        let mut ready = self.ready(&shown, &descriptor)?;
        ready.pop().ok_or(Error::Incomplete { reference: shown, digest: descriptor.digest })
    }

    fn manifest_of(&self, image: &Image) -> Result<Manifest> {
        let digest = &image.manifest.digest;
        let bytes = self.content.read(digest, MAX_MANIFEST_BYTES as u64)?;
        let failed = |source| Error::Document { reference: image.id.to_string(), digest: digest.clone(), source };
        match Document::parse(&image.manifest.media_type, &bytes).map_err(failed)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(Error::Incomplete { reference: image.id.to_string(), digest: digest.clone() }),
        }
    }
}
