//! What was asked for, as it is stored: Docker's `Config` and `HostConfig` in what they have so far, so that
//! an inspection and, later, the API show the same record.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::engine::Engine;
use crate::oci::Digest;
use crate::snapshot::{LayerId, Rootfs};
use crate::state::ContainerRow;

/// The version that is written. A newer one is refused, an older one is still read.
const VERSION: u32 = 1;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// The version of this shape.
    pub version: u32,
    /// The full id.
    pub id: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image as it was named.
    pub image: String,
    /// The image's id.
    pub image_id: Digest,
    /// The image's platform.
    pub platform: String,
    /// What runs it, chosen at create.
    pub engine: Engine,
    /// What the program sees.
    pub config: Config,
    /// What the host gives.
    pub host_config: HostConfig,
    /// Its root filesystem.
    pub rootfs: Rootfs,
    /// The layers under it, by chain id: what must not be swept.
    pub layers: Vec<LayerId>,
}

/// What the program sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The host name.
    pub hostname: String,
    /// Who it runs as, as typed.
    pub user: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is open.
    pub open_stdin: bool,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The ports that the image names, as `80/tcp`.
    pub exposed_ports: std::collections::BTreeMap<String, Empty>,
    /// The arguments after the entry point.
    pub cmd: Vec<String>,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// The image's labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The signal that asks it to end.
    pub stop_signal: String,
}

/// An object with nothing in it, as which Docker writes the values of what is a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// What the host gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `none` or `host`; empty until it is decided at create.
    pub network_mode: String,
    /// `source:destination[:ro]`.
    pub binds: Vec<String>,
    /// Whether it goes away with its end.
    pub auto_remove: bool,
    /// Whether its root filesystem cannot be written.
    pub readonly_rootfs: bool,
    /// Capabilities beyond the default.
    pub cap_add: Vec<String>,
    /// Capabilities of the default that it does not have.
    pub cap_drop: Vec<String>,
    /// `no-new-privileges`, `seccomp=unconfined`.
    pub security_opt: Vec<String>,
    /// The most memory, in bytes; 0 for no limit.
    pub memory: i64,
    /// The most memory and swap together, in bytes; 0 for no limit, -1 for no limit on swap.
    pub memory_swap: i64,
    /// Memory that it is pushed back to when there is little.
    pub memory_reservation: i64,
    /// Processors, in billionths; 0 for no limit.
    pub nano_cpus: i64,
    /// Its weight among others that want the processor; 0 for the usual.
    pub cpu_shares: u64,
    /// The processors that it may run on; empty for all.
    pub cpuset_cpus: String,
    /// The most processes and threads; 0 for no limit.
    pub pids_limit: i64,
    /// What of the host leads to which port.
    pub port_bindings: super::Ports,
    /// Whether something does to every port.
    pub publish_all_ports: bool,
    /// What the engine is told in the runtime specification: the grants of a Wasm program are among it.
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl Config {
    /// The program and all its arguments.
    pub fn command(&self) -> Vec<String> {
        [&self.entrypoint[..], &self.cmd].concat()
    }
}

impl Record {
    pub(super) fn parse(row: &ContainerRow) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Versioned {
            version: u32,
        }
        let failed = |source| Error::Record { id: row.id.clone(), source };
        let Versioned { version } = serde_json::from_str(&row.record_json).map_err(failed)?;
        if version > VERSION {
            return Err(Error::NewerRecord { id: row.id.clone(), version });
        }
        serde_json::from_str(&row.record_json).map_err(failed)
    }

    pub(super) fn row(&self, name: &str) -> ContainerRow {
        ContainerRow {
            id: self.id.clone(),
            name: name.to_owned(),
            created_unix_ns: self.created.as_nanosecond().try_into().unwrap_or(i64::MAX),
            record_json: serde_json::to_string(self).expect("a record is plain data"),
        }
    }

    /// The version that is written now.
    pub(super) const fn version() -> u32 {
        VERSION
    }

    /// The program and all its arguments.
    pub fn command(&self) -> Vec<String> {
        self.config.command()
    }

    /// The first twelve digits of the id, as shown.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }
}
