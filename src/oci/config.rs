//! The image configuration (image-spec config.md, with Docker's extensions), the configuration of a
//! CNCF Wasm artifact, and a layer as the two together describe it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descriptor::null_is_empty;
use super::{Descriptor, Digest, LayerFormat, Platform};

/// What an image says about itself and about the container to make of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// The processor's variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The defaults of a container.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: ExecConfig,
    /// The layers' uncompressed digests.
    #[serde(default)]
    pub rootfs: RootFs,
    /// How each layer came to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub history: Vec<History>,
}

/// The layers' uncompressed digests, base first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The digest of each layer's tar archive before compression.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
}

/// One step of the image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A free comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The defaults of a container: image-spec's `config` object, whose names are Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecConfig {
    /// `user[:group]`, names or numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port[/protocol]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    /// The arguments that a user's own replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// Paths that want a volume.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Where the program starts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// The author's key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Docker: how to tell whether it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: the shell of shell-form commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub shell: Vec<String>,
}

/// Docker's HEALTHCHECK; times in nanoseconds. As in Docker's own, what is the usual is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, or `CMD`/`CMD-SHELL` and the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub test: Vec<String>,
    /// Time between checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time a check may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time the program has to come up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between checks while it comes up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The configuration of a CNCF Wasm artifact, `application/vnd.wasm.config.v0+json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Always `wasm`.
    #[serde(default)]
    pub architecture: String,
    /// `wasip1` or `wasip2`.
    #[serde(default)]
    pub os: String,
    /// The layers' digests, in their order.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layer_digests: Vec<Digest>,
    /// What a component exports and imports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<WasmComponent>,
}

/// What the configuration of a CNCF Wasm artifact says of a component, so that it need not be fetched to be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WasmComponent {
    /// What it offers, such as `wasi:cli/run@0.2.0`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub exports: Vec<String>,
    /// What it needs.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub imports: Vec<String>,
    /// The world that it is made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl ImageConfig {
    /// The path at which a layer that is a WebAssembly binary appears in the root filesystem.
    pub const WASM_ENTRY: &str = "/app.wasm";

    /// The platform that the image says it is for.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }

    /// The configuration that a CNCF Wasm artifact amounts to: its one layer is the entry point.
    /// What the artifact says that it is for is kept where it is some WebAssembly; its bytes tell anyhow.
    pub fn of_wasm_artifact(wasm: &WasmConfig, layer: &Digest) -> Self {
        let says = Platform::new(&wasm.os, &wasm.architecture, None);
        Self {
            architecture: "wasm".to_owned(),
            os: if says.is_wasm() && !says.os.is_empty() { says.os } else { "wasi".to_owned() },
            created: wasm.created.clone(),
            author: wasm.author.clone(),
            config: ExecConfig { entrypoint: vec![Self::WASM_ENTRY.to_owned()], ..ExecConfig::default() },
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.clone()] },
            ..Self::default()
        }
    }
}

/// One layer: the blob to fetch, how it becomes files, and what those must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The blob, as the manifest names it.
    pub blob: Descriptor,
    /// How the blob becomes files.
    pub format: LayerFormat,
    /// The digest of the uncompressed bytes, as the config names it. A Wasm layer's is its blob's.
    pub diff_id: Digest,
}
