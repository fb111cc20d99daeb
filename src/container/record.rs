//! What was asked for, as it is stored: Docker's `Config` and `HostConfig` in what they have so far, so that
//! an inspection and, later, the API show the same record.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, HostConfig};
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
    /// The domain that it is in.
    pub domainname: String,
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
    /// Seconds that it is given to end, if not the usual ten; -1 for as long as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

/// An object with nothing in it, as which Docker writes the values of what is a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

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
