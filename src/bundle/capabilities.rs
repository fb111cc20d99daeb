//! Which capabilities a container has: Docker's default, and what `--cap-add` and `--cap-drop` make of it.

use std::collections::HashSet;

use crate::error::{Failure, Kind};
use crate::oci::CAPABILITIES;
use crate::oci::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

/// The capabilities of a container when nobody says otherwise: Docker's fourteen (moby, oci/caps/defaults.go).
pub const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// A name that is no capability.
#[derive(Debug, thiserror::Error)]
#[error("invalid capability {name:?}: it is neither ALL nor a name of capabilities(7), such as NET_ADMIN")]
pub struct InvalidCapability {
    name: String,
}

impl Failure for InvalidCapability {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// The set that results from the default, `add` and `drop`, as Docker computes it: `ALL` on one side
/// makes the other side name the exceptions.
pub fn capabilities(add: &[String], drop: &[String]) -> Result<HashSet<Capability>, InvalidCapability> {
    let (all_added, add) = parse(add)?;
    let (all_dropped, drop) = parse(drop)?;
    let base: HashSet<Capability> = match (all_added, all_dropped) {
        (true, _) => CAPABILITIES.into(),
        (false, true) => HashSet::new(),
        (false, false) => DEFAULT_CAPABILITIES.into(),
    };
    let kept = base.into_iter().filter(|c| !drop.contains(c));
    Ok(kept.chain(add).collect())
}

/// The sets of a container: nothing is inheritable (CVE-2022-24769), nothing ambient.
pub(super) fn sets(capabilities: &HashSet<Capability>) -> LinuxCapabilities {
    LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities.clone())
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .expect("every field has a value")
}

fn parse(names: &[String]) -> Result<(bool, HashSet<Capability>), InvalidCapability> {
    let mut all = false;
    let mut set = HashSet::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            all = true;
        } else {
            set.insert(bare.parse().map_err(|_| InvalidCapability { name: name.clone() })?);
        }
    }
    Ok((all, set))
}
