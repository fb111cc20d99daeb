//! Media types, and what one says about a layer (image-spec media-types.md; the CNCF Wasm artifact;
//! the older layer types of runwasi, Spin and wasm-to-oci).

use serde::{Deserialize, Serialize};

/// A media type as it was sent. Unknown ones are kept: a copier must not refuse them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(pub String);

/// How a layer's bytes become files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerFormat {
    /// A tar archive of a filesystem change set.
    Tar(Compression),
    /// One WebAssembly binary, which is the file itself.
    Wasm,
}

/// How a layer's tar archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, possibly in several members.
    Gzip,
    /// RFC 8878, possibly in several frames.
    Zstd,
}

impl MediaType {
    /// An OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An OCI layer, tar and gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, compressed by zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// OCI layer, not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker's manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// The configuration of a CNCF Wasm artifact.
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
    /// The layer of a CNCF Wasm artifact: a module or a component.
    pub const WASM: &str = "application/wasm";

    /// The configuration of a Spin application.
    pub const SPIN_CONFIG: &str = "application/vnd.fermyon.spin.application.v1+config";
    /// The configuration of a plugin for Envoy, in the form of its own.
    pub const ENVOY_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";

    /// The text, as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::INDEX | Self::DOCKER_LIST)
    }

    /// Whether this is an image manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self.as_str(), Self::MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Whether this is a layer that its author does not want to be copied into other registries.
    pub fn is_foreign_layer(&self) -> bool {
        let text = self.as_str();
        text.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || text.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }

    /// Whether a config of this type is an OCI or Docker image configuration.
    pub fn is_image_config(&self) -> bool {
        matches!(self.as_str(), Self::CONFIG | Self::DOCKER_CONFIG)
    }

    /// What a config or layer of this type belongs to, if it is a WebAssembly of others that cannot run here.
    pub fn foreign_wasm(&self) -> Option<&'static str> {
        Some(match self.as_str() {
            Self::SPIN_CONFIG
            | "application/vnd.wasm.content.layer.v1+data"
            | "application/vnd.wasm.content.bundle.v1.tar+gzip" => {
                "it is a Spin application, whose components are put together and run by Spin itself"
            }
            Self::ENVOY_CONFIG | "application/vnd.module.wasm.content.layer.v1+wasm" => {
                "it is a plugin for Envoy or Istio (proxy-wasm), which runs inside of that proxy"
            }
            other if other.starts_with("application/vnd.wasmcloud.") => {
                "it is an archive of wasmCloud's, which runs in a wasmCloud host"
            }
            _ => return None,
        })
    }

    /// How a layer of this type becomes files; `None` when it does not.
    pub fn layer_format(&self) -> Option<LayerFormat> {
        use Compression::{Gzip, None as Plain, Zstd};
        Some(match self.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => LayerFormat::Tar(Plain),
            Self::LAYER_GZIP
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => LayerFormat::Tar(Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => LayerFormat::Tar(Zstd),
            Self::WASM
            | "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
            | "application/vnd.w3c.wasm.component.v1+wasm"
            | "application/vnd.w3c.wasm.module.v1+wasm"
            | "application/vnd.wasm.content.layer.v1+wasm" => LayerFormat::Wasm,
            _ => return None,
        })
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Display for MediaType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
