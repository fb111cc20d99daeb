//! A platform, `os/architecture[/variant]`, in the normal form of containerd's `platforms` package,
//! and the several spellings under which registries file WebAssembly.

use serde::{Deserialize, Serialize};

/// An operating system and a processor, in Go's names for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOOS: `linux`, `windows`, `wasi`, …
    #[serde(default)]
    pub os: String,
    /// GOARCH: `amd64`, `arm64`, `wasm`, …
    #[serde(default)]
    pub architecture: String,
    /// The processor's variant, such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system's version, which only Windows images carry.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// Text that is not a platform, or not one that anything here is for.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPlatform {
    /// It is written in some other way.
    #[error("invalid platform {text:?}: expected os/architecture or os/architecture/variant, such as linux/arm64")]
    Text {
        /// What was typed.
        text: String,
    },
    /// WebAssembly for a host of another kind.
    #[error("platform {text}: {why}")]
    Foreign {
        /// What was typed.
        text: String,
        /// What it is for.
        why: &'static str,
    },
}

impl Platform {
    /// A platform in its normal form.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        // Both words are met in either place.
        let (os, architecture) = if is_turned(os, architecture) { ("wasi", "wasm") } else { (os, architecture) };
        let (architecture, variant) = normal_architecture(architecture, variant);
        Self { os: normal_os(os), architecture, variant, os_version: None }
    }

    /// Linux on this machine's processor: what an image is chosen for when nobody says otherwise,
    /// on every operating system.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// `wasi/wasm`, the name that Docker documents for WebAssembly.
    pub fn wasm() -> Self {
        Self::new("wasi", "wasm", None)
    }

    /// Whether this names WebAssembly for WASI, in any of the spellings that registries hold: `wasi/wasm`,
    /// `wasi/wasm32`, `wasi/wasm64`, `wasip1/wasm`, `wasip2/wasm`, `wasm/wasi`, `linux/wasm`.
    pub fn is_wasm(&self) -> bool {
        let known = ["wasi", "wasip1", "wasip2", "wasip3", "linux", ""];
        let os = known.iter().any(|known| self.os.eq_ignore_ascii_case(known));
        (self.is_some_wasm() && os) || is_turned(&self.os, &self.architecture)
    }

    /// Why an image for this platform cannot run here, nor anywhere else that is no browser say, where that can be
    /// told from its name.
    pub fn foreign(&self) -> Option<&'static str> {
        match self.os.to_ascii_lowercase().as_str() {
            _ if !self.is_some_wasm() || self.is_wasm() => None,
            "js" => Some(
                "it is WebAssembly for a JavaScript host, a browser or Node.js, whose functions are not offered; build it \
                 for WASI, which Go calls wasip1/wasm",
            ),
            _ => Some("it is WebAssembly for a host of another kind; build it for WASI"),
        }
    }

    fn is_some_wasm(&self) -> bool {
        ["wasm", "wasm32", "wasm64"].iter().any(|known| self.architecture.eq_ignore_ascii_case(known))
    }

    /// Whether an image for `self` can serve who asks for `wanted`. An asked-for variant must be
    /// equal or, on arm, an older one that the processor still runs.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        if wanted.is_wasm() {
            return self.is_wasm();
        }
        let me = Self::new(&self.os, &self.architecture, self.variant.as_deref());
        let same = me.os == wanted.os && me.architecture == wanted.architecture;
        same && match (&me.variant, &wanted.variant) {
            (None, _) | (_, None) => true,
            (Some(have), Some(want)) => have <= want,
        }
    }
}

/// `wasm/wasi`, the two words of the usual name in the other order.
fn is_turned(os: &str, architecture: &str) -> bool {
    os.eq_ignore_ascii_case("wasm") && architecture.eq_ignore_ascii_case("wasi")
}

fn normal_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn normal_architecture(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let lower = architecture.to_ascii_lowercase();
    let variant = variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase);
    let (architecture, variant) = match (lower.as_str(), variant.as_deref()) {
        ("i386" | "x86", _) => ("386", None),
        ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64", _) => ("amd64", variant),
        ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
        ("aarch64", _) => ("arm64", variant),
        ("armhf", _) => ("arm", Some("v7".to_owned())),
        ("armel", _) => ("arm", Some("v6".to_owned())),
        ("arm", None | Some("7")) => ("arm", Some("v7".to_owned())),
        ("arm", Some(v @ ("5" | "6" | "8"))) => ("arm", Some(format!("v{v}"))),
        ("powerpc64", _) => ("ppc64le", None),
        _ => (lower.as_str(), variant),
    };
    (architecture.to_owned(), variant)
}

impl std::str::FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins = |p: &str| p.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let part = |p: &str| begins(p) && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|p| part(p)) {
            return Err(InvalidPlatform::Text { text: text.to_owned() });
        }
        let platform = match parts[..] {
            // As in containerd: one word is an operating system if it is a known one, else a processor.
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => Self::new(os, std::env::consts::ARCH, None),
            [os @ ("wasi" | "wasip1" | "wasip2" | "wasip3")] => Self::new(os, "wasm", None),
            [arch @ ("wasm" | "wasm32" | "wasm64")] => Self::new("wasi", arch, None),
            [arch] => Self::new("linux", arch, None),
            [os, arch] => Self::new(os, arch, None),
            [os, arch, variant] => Self::new(os, arch, Some(variant)),
            _ => return Err(InvalidPlatform::Text { text: text.to_owned() }),
        };
        match platform.foreign() {
            None => Ok(platform),
            Some(why) => Err(InvalidPlatform::Foreign { text: text.to_owned(), why }),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn normal_forms() {
        for (typed, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64/v8", "linux/arm64"),
            ("Linux/ARM64", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("wasm", "wasi/wasm"),
            ("wasip2", "wasip2/wasm"),
            ("wasm/wasi", "wasi/wasm"),
        ] {
            assert_eq!(platform(typed).to_string(), normal);
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64", "../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} must not parse");
        }
    }

    #[test]
    fn every_spelling_of_wasm_serves_every_other() {
        let spellings =
            ["wasi/wasm", "wasi/wasm32", "wasi/wasm64", "wasip1/wasm", "wasip2/wasm", "wasm/wasi", "linux/wasm"];
        for spelling in spellings.into_iter().chain(["WASI/Wasm", "wasip3/wasm32", "wasm", "wasi"]) {
            assert!(platform(spelling).satisfies(&Platform::wasm()), "{spelling}");
            assert!(Platform::wasm().satisfies(&platform(spelling)), "{spelling}");
        }
        // As they are in an index, which nobody has normalised.
        let raw = |os: &str, architecture: &str| Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: None,
            os_version: None,
        };
        assert!(raw("wasm", "wasi").satisfies(&Platform::wasm()) && raw("Wasi", "WASM32").is_wasm());
        assert!(!platform("linux/amd64").satisfies(&Platform::wasm()));
        assert!(!platform("linux/wasm").satisfies(&platform("linux/amd64")));
        assert!(!raw("js", "wasm").is_wasm() && !raw("wasi", "amd64").is_wasm());
    }

    #[test]
    fn wasm_for_another_host_is_refused_with_the_reason() {
        let error = "js/wasm".parse::<Platform>().unwrap_err().to_string();
        assert!(error.contains("js/wasm") && error.contains("JavaScript") && error.contains("wasip1/wasm"), "{error}");
        assert!("emscripten/wasm32".parse::<Platform>().is_err());
        assert_eq!(platform("linux/amd64").foreign().or(Platform::wasm().foreign()), None);
    }

    #[test]
    fn an_older_arm_serves_a_newer_one() {
        assert!(platform("linux/arm/v6").satisfies(&platform("linux/arm/v7")));
        assert!(!platform("linux/arm/v7").satisfies(&platform("linux/arm/v6")));
        assert!(platform("linux/arm64").satisfies(&platform("linux/arm64/v8")));
    }
}
