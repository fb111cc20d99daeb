//! The specifications' data as types that cannot be wrong; parsing only, no I/O.
//!
//! | file | what | from |
//! |---|---|---|
//! | `digest` | a content digest, and the hasher that makes one | image-spec descriptor.md |
//! | `media_type` | media types and what they mean for a layer | image-spec media-types.md, CNCF Wasm artifact |
//! | `platform` | os/architecture/variant, normalised | image-spec image-index.md, containerd platforms |
//! | `descriptor`, `manifest`, `config` | what registries hand out | image-spec 1.1 |
//! | `capability` | the capabilities by number | linux/capability.h |
//! | `runtime` | the OCI runtime specification | the `oci-spec` crate |

mod capability;
mod config;
mod descriptor;
mod digest;
mod manifest;
mod media_type;
mod platform;

pub use capability::{CAPABILITIES, capability_number};
pub use config::{ExecConfig, Healthcheck, History, ImageConfig, Layer, RootFs, WasmComponent, WasmConfig};
pub use descriptor::Descriptor;
pub use digest::{Digest, Hasher, InvalidDigest};
pub use manifest::{Document, Index, InvalidDocument, MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest};
pub use media_type::{Compression, LayerFormat, MediaType};
pub use platform::{InvalidPlatform, Platform};

/// The OCI runtime specification, as the `oci-spec` crate types it.
pub use oci_spec::runtime;
