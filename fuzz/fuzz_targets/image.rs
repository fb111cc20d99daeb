//! The config of an image or of a Wasm artifact: it is read or refused, and what was read can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wherry::oci::{ImageConfig, WasmConfig};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(bytes) {
        config.platform().to_string();
        let written = serde_json::to_vec(&config).expect("plain data");
        let again: ImageConfig = serde_json::from_slice(&written).expect("what we wrote");
        assert_eq!(again, config);
    }
    if let Ok(config) = serde_json::from_slice::<WasmConfig>(bytes) {
        serde_json::to_vec(&config).expect("plain data");
    }
});
