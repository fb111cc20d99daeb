//! Making, starting and signalling one isolated process, whatever it runs.
//!
//! ```text
//!   Request ──create──▶ Running
//!                        the program, or the Wasm instance, as that process;
//!                        with a gate its init stage, which waits to be started
//! ```
//!
//! An engine takes an OCI bundle and knows neither images nor containers. The two engines are the same
//! up to the last step: [`Engine::Linux`] executes a program, [`Engine::Wasm`] runs a WebAssembly
//! instance in the process that the Linux engine isolated, so that there are two walls around it. Off
//! Linux there is one wall, and no process to make: `wasm` is then called directly.

#[cfg(target_os = "linux")]
pub mod linux;
pub mod wasm;

use serde::{Deserialize, Serialize};

use crate::oci::runtime::{Mount, Spec};

/// What the last step of a container's start does. Chosen once, at create, and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Execute a program of the root filesystem.
    Linux,
    /// Run a WebAssembly module or component.
    Wasm,
}

/// The engines of this build, by name.
#[cfg(target_os = "linux")]
pub const NAMES: &[&str] = &["linux", "wasm"];

/// The engines of this build, by name.
#[cfg(not(target_os = "linux"))]
pub const NAMES: &[&str] = &["wasm"];

impl Engine {
    /// The engine for an image of a platform that is or is not WebAssembly, whose entry point begins
    /// with `magic`. A module in a Linux image runs as what it is. An image for WebAssembly is never a way to
    /// execute a program: whatever else is in it is refused, with what it is instead.
    pub fn pick(wasm_platform: bool, magic: &[u8]) -> Self {
        if wasm_platform || wasm::begins(magic) { Self::Wasm } else { Self::Linux }
    }

    /// The engine's name in records and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Wasm => "wasm",
        }
    }
}

/// What a specification grants to a Wasm program: its arguments and environment, its bind mounts as
/// directories, and what its annotations say. They are under the same names inside and outside, for the program runs in the root
/// filesystem that they are mounted in.
pub fn grants(spec: &Spec) -> Result<wasm::Invocation, wasm::grant::Invalid> {
    let process = spec.process().as_ref();
    let env = process.and_then(|p| p.env().clone()).unwrap_or_default();
    let binds = spec.mounts().iter().flatten().filter(|mount| is_bind(mount) && is_granted(mount));
    let preopens = binds.map(|mount| wasm::Preopen {
        host: mount.destination().clone(),
        guest: mount.destination().to_string_lossy().into_owned(),
        readonly: mount.options().iter().flatten().any(|option| option == "ro" || option == "rro"),
    });
    let memory = spec.linux().as_ref().and_then(|l| l.resources().as_ref()?.memory().as_ref()?.limit());
    let annotations = spec.annotations().iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    Ok(wasm::Invocation {
        args: process.and_then(|p| p.args().clone()).unwrap_or_default(),
        env: env.iter().filter_map(|v| v.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        preopens: preopens.collect(),
        limits: wasm::Limits { memory: memory.and_then(|limit| u64::try_from(limit).ok()).map(for_program) },
        grants: wasm::grant::Grants::parse(annotations)?,
        names: wasm::Names::default(),
        listeners: Vec::new(),
    })
}

/// The most of a memory limit that the engine keeps for itself, and at the most an eighth of it: its own memory counts
/// against the limit too, and a program that comes to its part is told so instead of being killed.
const FOR_ENGINE: u64 = 8 << 20;

/// What linear memories may take of a limit on all memory.
fn for_program(limit: u64) -> u64 {
    limit - (limit / 8).min(FOR_ENGINE)
}

/// Whether a mount shows something of the host.
pub fn is_bind(mount: &Mount) -> bool {
    let by_option = || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    mount.typ().as_deref() == Some("bind") || by_option()
}

/// Where orchestrators mount things into every container by themselves, for the system that a Linux program expects:
/// no operator has granted those.
const NOT_GRANTED: [&str; 8] =
    ["/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets"];

/// Whether a bind mount is one that somebody wanted this program to have.
pub fn is_granted(mount: &Mount) -> bool {
    !NOT_GRANTED.iter().any(|place| mount.destination().starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decide_and_a_label_can_only_forbid() {
        for (wasm_platform, magic, engine) in [
            (false, &b"\x7fELF\x02"[..], Engine::Linux),
            (false, b"\0asm\x01\0\0\0", Engine::Wasm),
            (true, b"\0asm\x0d\0\x01\0", Engine::Wasm),
            (true, b"", Engine::Wasm),
            (true, b"#!/bin/sh", Engine::Wasm),
            (true, b"\x7fELF\x02\x01\x01\0", Engine::Wasm),
            (false, b"\x7fELF\x02\x01\x01\xc8", Engine::Wasm),
            (false, b"", Engine::Linux),
        ] {
            assert_eq!(Engine::pick(wasm_platform, magic), engine);
        }
    }
}
