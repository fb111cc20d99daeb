//! Stories: what a user does with the command line, and what then is true on this machine.
//!
//! One file for each verb or theme, one binary. Every test has a data root of its own and real parts around it: Debian's
//! docker-registry on the loopback interface, images built by umoci and skopeo, the kernel as it is. When a
//! test's [`support::Wherry`] goes out of scope, nothing of its containers may be left.
//!
//! Containers take root, and so do these tests. They are for Linux; the rest of the engine is tested where it lives.
#![cfg(target_os = "linux")]

mod archive;
mod check;
mod events;
mod exec;
mod faults;
mod flags;
mod gc;
mod images;
mod isolation;
mod kill_images;
mod lifecycle;
mod login;
mod made;
mod manifest;
mod oci_attacks;
mod oci_checkpoint;
mod oci_exec;
mod oci_foreground;
mod oci_invalid;
mod oci_kill;
mod oci_lifecycle;
mod oci_limits;
mod oci_podman;
mod oci_ranges;
mod oci_rootless;
mod oci_spec;
mod oci_wasm;
mod oci_words;
mod pull;
mod pull_faults;
mod push;
mod quickstart;
mod registry_attacks;
mod registry_auth;
mod registry_hosts;
mod rootless;
mod roundtrip;
mod run;
mod stats;
mod storage;
mod support;
mod survive;
mod trust;
mod trust_keyless;
mod wasm;
mod wasm_direct;
// The attempts are system calls of x86_64, by number.
mod wasm_deny;
#[cfg(target_arch = "x86_64")]
mod wasm_escape;
mod wasm_given;
mod wasm_guests;
mod wasm_hostile;
mod wasm_packaging;
mod wasm_programs;
mod wasm_serve;
