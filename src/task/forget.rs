//! What a supervisor that was killed could not tidy up.
//!
//! Its container ends with it, for the kernel kills the init process of a supervisor that dies; the cgroup stays.

use std::path::Path;

use super::Error;
use crate::bundle::Bundle;
use crate::cgroup::{Cgroup, Hierarchies};

/// Removes the cgroup of the container in `directory`, and whoever may still be in it.
pub fn forget(directory: &Path) -> Result<(), Error> {
    let bundle = Bundle::read(directory)?;
    let linux = bundle.spec().linux().clone().unwrap_or_default();
    let Some(path) = linux.cgroups_path() else { return Ok(()) };
    let cgroup = Cgroup::open(Hierarchies::detect()?, path)?;
    if cgroup.exists() {
        cgroup.kill()?;
        cgroup.remove()?;
    }
    Ok(())
}
