//! A WebAssembly file of this machine as an image: one layer, which is the file.
//!
//! It has no name and no record; its blob and its layer stay until what no image needs is collected.

use super::{Image, Result, Store};
use crate::oci::{Descriptor, Digest, ImageConfig, Layer, LayerFormat, MediaType, Platform, WasmConfig};

impl Store {
    /// The image that the WebAssembly program `bytes` amounts to.
    pub fn of_wasm(&self, bytes: &[u8]) -> Result<Image> {
        let digest = Digest::sha256(bytes);
        let blob = Descriptor::new(MediaType::WASM.into(), digest.clone(), bytes.len() as u64);
        self.content.put(&blob, bytes)?;
        Ok(Image {
            names: Vec::new(),
            id: digest.clone(),
            manifest: blob.clone(),
            platform: Platform::wasm(),
            config: ImageConfig::of_wasm_artifact(&WasmConfig::default(), &digest),
            layers: vec![Layer { blob, format: LayerFormat::Wasm, diff_id: digest }],
            size: bytes.len() as u64,
            pulled_unix_ns: 0,
        })
    }
}
