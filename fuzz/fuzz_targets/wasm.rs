//! A WebAssembly program of any bytes: telling what it is, compiling it and judging its imports neither panics nor
//! takes for ever, and says what is wrong in text that is fit to be printed.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use wherry::engine::wasm::{Source, compile_here, sniff};
use wherry::error::chain;

fn cache() -> &'static PathBuf {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| tempfile::tempdir().expect("there is room").keep().join("wasm"))
}

fuzz_target!(|bytes: &[u8]| {
    let judged = sniff(bytes).is_some();
    let compiled = Source::try_from(bytes.to_vec()).and_then(|source| compile_here(cache(), &source));
    match compiled {
        Ok(_) => assert!(judged, "compiled what is no program"),
        Err(error) => {
            let said = chain(&error);
            assert!(said.len() < 16 << 10 && !said.contains(char::is_control), "{said:?}");
        }
    }
});
