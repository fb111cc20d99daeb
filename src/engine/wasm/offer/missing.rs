//! What is said about an import that is not offered: whose it is, and what to do about it.

use super::{PREVIEW0, PREVIEW1, draft};

/// Whose names these are, by how they begin, and what to do for a program that imports them. The first that
/// fits is taken.
const FOREIGN: [(&str, &str, &str); 22] = [
    ("wasi::thread-spawn", "wasi-threads, which was given up", NO_THREADS),
    ("wasi:thread", "wasi-threads, which was given up", NO_THREADS),
    ("wasi_ephemeral_nn::", "wasi-nn, a proposal", NOT_WASI),
    ("wasi:nn/", "wasi-nn, a proposal", NOT_WASI),
    ("wasi:webgpu/", "wasi-webgpu, a proposal", NOT_WASI),
    ("wasi:gfx", "wasi-gfx, a proposal", NOT_WASI),
    ("wasi:messaging/", "wasi-messaging, a proposal", NOT_WASI),
    ("wasi:blobstore/", "wasi-blobstore, a proposal", NOT_WASI),
    ("wasi:logging/", "wasi-logging, a proposal", NOT_WASI),
    ("wasi:sql/", "wasi-sql, a proposal", NOT_WASI),
    ("wasi:i2c/", "wasi-i2c, a proposal", NOT_WASI),
    ("wasix_", "WASIX, of Wasmer", "build for WASI itself (wasm32-wasip1 or wasm32-wasip2)"),
    ("wasmedge", "WasmEdge", "build for WASI itself, without the extensions of WasmEdge"),
    ("wasi_ephemeral_sock::", "sockets of WasmEdge", "build for WASI 0.2 (wasm32-wasip2), which has sockets"),
    ("__wbindgen", "wasm-bindgen, for JavaScript", BROWSER),
    ("wbg::", "wasm-bindgen, for JavaScript", BROWSER),
    ("gojs::", "Go for JavaScript", "build it with GOOS=wasip1 instead of GOOS=js"),
    ("go::", "Go for JavaScript", "build it with GOOS=wasip1 instead of GOOS=js"),
    ("fermyon:", "Spin", "it runs in Spin: build it for WASI alone"),
    ("spin:", "Spin", "it runs in Spin: build it for WASI alone"),
    ("wasmcloud:", "wasmCloud", "it runs in wasmCloud: build it for WASI alone"),
    ("env::", "the compiler's own environment", "build it for WASI (wasm32-wasip1), and link what it calls"),
];

const NO_THREADS: &str = "WASI has no threads: build without them";
const NOT_WASI: &str = "no release of WASI has that: build without it";
const BROWSER: &str = "it is made for a browser: build it for WASI (wasm32-wasip1 or wasm32-wasip2)";

/// Whose `import` is: a version of WASI, or somebody else's.
pub(super) fn owner(import: &str) -> Option<String> {
    if let Some((_, owner, _)) = foreign(import) {
        return Some((*owner).into());
    }
    let (interface, version) = match import.split_once('@') {
        Some((interface, version)) => (interface, Some(version)),
        None => (import, None),
    };
    if [PREVIEW0, PREVIEW1].iter().any(|preview| interface.starts_with(&format!("{preview}::"))) {
        return Some("no function of WASI preview 1".into());
    }
    if !interface.starts_with("wasi:") {
        return None;
    }
    Some(match version {
        None => "no version of WASI".into(),
        Some(version) => match version.split_once('-') {
            Some((release, _)) => format!("a draft of WASI {release}"),
            None => format!("WASI {version}"),
        },
    })
}

/// What to do about a program that imports `imports`.
pub(in super::super) fn hint(imports: &[String]) -> Option<String> {
    if let Some((_, _, advice)) = imports.iter().find_map(|import| foreign(import)) {
        return Some((*advice).into());
    }
    let is_draft =
        |import: &String| import.starts_with("wasi:") && import.split_once('@').is_some_and(|(_, v)| v.contains('-'));
    if imports.iter().any(is_draft) {
        let offered: Vec<&str> = draft::all().collect();
        return Some(format!(
            "each draft is unlike the next, and only these are offered: {}; build with tools that know the release",
            offered.join(", ")
        ));
    }
    imports.iter().any(|import| import.starts_with("wasi:")).then(|| {
        "offered are WASI preview 1, and the interfaces of command and of HTTP server of WASI 0.2 and 0.3".into()
    })
}

fn foreign(import: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    FOREIGN.iter().find(|(start, _, _)| import.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_known_by_its_name() {
        for (import, said) in [
            ("env::magic_wand", Some("the compiler's own environment")),
            ("wasi::thread-spawn", Some("wasi-threads, which was given up")),
            ("wasi_snapshot_preview1::sock_open", Some("no function of WASI preview 1")),
            ("wasi_ephemeral_nn::load", Some("wasi-nn, a proposal")),
            ("wasi:nn/tensor@0.2.0-rc-2024-10-28", Some("wasi-nn, a proposal")),
            ("wasi:cli/stdout@0.3.0-rc-2025-09-16", Some("a draft of WASI 0.3.0")),
            ("wasi:cli/environment@0.2.0-rc-2023-11-10", Some("a draft of WASI 0.2.0")),
            ("wasi:cli/environment@0.4.1", Some("WASI 0.4.1")),
            ("wasi:cli/telepathy@0.2.0", Some("WASI 0.2.0")),
            ("wasi:cli/environment", Some("no version of WASI")),
            ("wbg::__wbindgen_throw", Some("wasm-bindgen, for JavaScript")),
            ("acme:store/api@1.0.0", None),
        ] {
            assert_eq!(owner(import).as_deref(), said, "{import}");
        }
    }

    #[test]
    fn what_to_do_is_said_for_what_is_known() {
        let of = |imports: &[&str]| hint(&imports.iter().map(|import| (*import).to_owned()).collect::<Vec<_>>());
        assert!(of(&["wasi:cli/stdout@0.3.0-rc-2026-03-15"]).unwrap().contains("tools that know the release"));
        assert!(of(&["acme:a/b", "wasi::thread-spawn"]).unwrap().contains("threads"));
        assert!(of(&["wasi:cli/environment@0.4.1"]).unwrap().contains("0.2 and 0.3"));
        assert_eq!(of(&["acme:store/api@1.0.0"]), None);
    }
}
