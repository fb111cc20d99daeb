//! What the program is and what it may do, decided from the specification before there is a child: the same for a
//! container's first program and for one that is executed in it later.

use std::ffi::CString;
use std::path::PathBuf;

use super::Error;
use super::label::{Labels, Modules};
use super::schedule::Schedule;
use super::seccomp::{self, Family, Filter};
use super::wall;
use crate::oci::capability_number;
use crate::oci::runtime::{Capabilities, LinuxSeccomp, PosixRlimitType, Process, Spec};
use crate::sys::caps::Set;

/// One program and its rights.
pub(super) struct ProcessPlan {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: u32,
    pub caps: Caps,
    pub no_new_privileges: bool,
    /// Whether there is a filter to come.
    pub filtered: bool,
    /// The filter, once it has come.
    pub filter: Option<Filter>,
    pub rlimits: Vec<(PosixRlimitType, u64, u64)>,
    pub oom_score_adj: Option<i32>,
    pub schedule: Schedule,
    pub labels: Labels,
    pub cwd: PathBuf,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
}

/// The five capability sets.
#[derive(Clone, Copy, Default)]
pub(super) struct Caps {
    pub bounding: Set,
    pub effective: Set,
    pub permitted: Set,
    pub inheritable: Set,
    pub ambient: Set,
}

impl ProcessPlan {
    /// The plan for `process`, under the system call filter of the container that `spec` describes.
    /// What hosts a Wasm program (`wasm`) has no rights at all, and a filter of the engine's instead of the one that
    /// is written for it.
    pub fn new(process: &Process, spec: &Spec, wasm: bool) -> Result<Self, Error> {
        let user = process.user();
        Ok(Self {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022),
            caps: if wasm { Caps::default() } else { caps(process) },
            no_new_privileges: wasm || process.no_new_privileges().unwrap_or(false),
            filtered: profile(spec).is_some_and(|profile| !(wasm && wall::is_ours(profile))),
            filter: None,
            rlimits: process.rlimits().iter().flatten().map(|r| (r.typ(), r.soft(), r.hard())).collect(),
            oom_score_adj: process.oom_score_adj(),
            schedule: Schedule::plan(process, spec.linux().as_ref())?,
            labels: Labels::plan(process, Modules::look(process))?,
            cwd: process.cwd().clone(),
            args: c_strings("process.args", process.args().iter().flatten())?,
            env: c_strings("process.env", process.env().iter().flatten())?,
        })
    }

    /// The value of an environment variable of the program, the last one given.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        let value = |v: &'_ CString| v.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::len);
        let (variable, length) = self.env.iter().rev().find_map(|v| value(v).map(|length| (v, length)))?;
        Some(&variable.as_bytes()[variable.as_bytes().len() - length..])
    }
}

pub(super) fn unsupported(field: &'static str, problem: impl Into<String>) -> Error {
    Error::Unsupported { field, problem: problem.into() }
}

fn caps(process: &Process) -> Caps {
    let Some(caps) = process.capabilities() else { return Caps::default() };
    let set = |names: &Option<Capabilities>| {
        Set(names.iter().flatten().fold(0, |bits, capability| bits | 1 << capability_number(*capability)))
    };
    Caps {
        bounding: set(caps.bounding()),
        effective: set(caps.effective()),
        permitted: set(caps.permitted()),
        inheritable: set(caps.inheritable()),
        ambient: set(caps.ambient()),
    }
}

fn profile(spec: &Spec) -> Option<&LinuxSeccomp> {
    spec.linux().as_ref()?.seccomp().as_ref()
}

/// Whether the specification wants system calls to be filtered.
pub(super) fn has_filter(spec: &Spec) -> bool {
    profile(spec).is_some()
}

/// The filter that the specification describes. It is compiled while the child makes its mounts, and sent after it.
pub(super) fn filter(spec: &Spec, wasm: bool) -> Result<Option<Filter>, Error> {
    let Some(profile) = profile(spec).filter(|profile| !(wasm && wall::is_ours(profile))) else { return Ok(None) };
    let family =
        Family::native().ok_or_else(|| unsupported("linux.seccomp", "there are no tables for this processor"))?;
    Ok(Some(seccomp::compile(profile, family)?))
}

fn c_strings<'a>(field: &'static str, strings: impl Iterator<Item = &'a String>) -> Result<Vec<CString>, Error> {
    strings.map(|s| CString::new(s.as_str()).map_err(|_| unsupported(field, "holds a NUL byte"))).collect()
}
