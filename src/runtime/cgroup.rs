//! Which cgroup a container gets, and finding it again.

use super::error::Error;
use super::store::{Entry, Place};
use super::{Context, Manager};
use crate::cgroup::{Cgroup, Hierarchies};
use crate::error::{Failure, Kind};
use crate::oci::runtime::{LinuxResources, Spec};

/// Where a container's cgroup will be: recorded before it is made.
pub fn place(manager: &Manager, id: &str, spec: &Spec) -> Option<Place> {
    let Manager::Made(manager) = manager else { return None };
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let path = given.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| manager.default_path(id));
    Some(Place { manager: manager.clone(), path, group: None })
}

/// Makes the container's cgroup with its limits.
pub fn make(context: &Context<'_>, entry: &Entry, spec: &Spec) -> Result<Option<Cgroup>, Error> {
    let Some(Place { manager, path, .. }) = &entry.record.cgroup else { return Ok(None) };
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    let annotations = spec.annotations().clone().unwrap_or_default();
    let made = Hierarchies::detect()
        .and_then(|hierarchies| Cgroup::prepare_by(manager, hierarchies, path, &resources, &annotations));
    match made {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(error) if entry.record.rootless && may_be_missing(&error, &resources) => {
            context.log.debug(|| format!("there is no cgroup: {}", crate::error::chain(&error)));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a container can do without the cgroup that could not be made: nobody asked for a limit, and it was only
/// a permission that was missing.
fn may_be_missing(error: &crate::cgroup::Error, resources: &LinuxResources) -> bool {
    let mut without_devices = resources.clone();
    without_devices.set_devices(None);
    let asked =
        serde_json::to_value(&without_devices).is_ok_and(|value| value.as_object().is_some_and(|o| !o.is_empty()));
    matches!(error.kind(), Kind::PermissionDenied | Kind::Unsupported) && !asked
}

/// What is done with the container's cgroup, made earlier; `None` when there is none.
pub fn with<T>(entry: &Entry, act: impl FnOnce(&Cgroup) -> Result<T, Error>) -> Result<Option<T>, Error> {
    let Some(place) = &entry.record.cgroup else { return Ok(None) };
    let opened;
    let group = match &place.group {
        Some(group) => group,
        // systemd makes a group around a process, and the group is written down before it has one.
        None if matches!(place.manager, crate::cgroup::Manager::Systemd(_)) => return Ok(None),
        // A create was killed before it could write down what it had made.
        None => {
            opened = Cgroup::open(Hierarchies::detect()?, &place.path)?;
            &opened
        }
    };
    if group.exists() { act(group).map(Some) } else { Ok(None) }
}

/// The same, for a command that cannot do without.
pub fn need<T>(entry: &Entry, act: impl FnOnce(&Cgroup) -> Result<T, Error>) -> Result<T, Error> {
    with(entry, act)?.ok_or_else(|| Error::refuse("this command", "the container has no cgroup"))
}

/// Whether the container is frozen. One that has no cgroup, or whose cgroup cannot be read, is not.
pub fn is_frozen(entry: &Entry) -> bool {
    with(entry, |group| Ok(group.is_frozen()?)).ok().flatten().unwrap_or(false)
}

/// Whether this process is in a user namespace other than the machine's, which maps all users to themselves.
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_whitespace().collect();
    !map.is_empty() && fields != ["0", "0", "4294967295"]
}

/// Whether nobody is in the group. A process that is just ending, as one does whose maker was killed, gets a moment.
pub fn is_deserted(cgroup: &Cgroup) -> Result<bool, Error> {
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 0] {
        if cgroup.procs()?.is_empty() {
            return Ok(true);
        }
        // There is no event for this on v1.
        std::thread::sleep(std::time::Duration::from_millis(pause));
    }
    Ok(false)
}

/// The group that a further process begins in: that of the container, or one below it that is there already.
pub fn for_exec(entry: &Entry, init: i32, words: &[&str]) -> Result<Option<Cgroup>, Error> {
    let Some(group) = entry.cgroup() else {
        return match words {
            [] => Ok(None),
            _ => Err(Error::refuse("--cgroup", "the container has no cgroup")),
        };
    };
    if words.is_empty() {
        return Ok(Some(group.of(init)?));
    }
    let (mut controllers, mut below) = (Vec::new(), None);
    for word in words {
        let (names, path) = word.split_once(':').map_or((None, *word), |(names, path)| (Some(names), path));
        match below {
            Some(before) if before != path => {
                return Err(Error::refuse("--cgroup", "different groups for different controllers are not supported"));
            }
            _ => below = Some(path),
        }
        controllers.extend(names.into_iter().flat_map(|names| names.split(',')));
    }
    Ok(Some(group.below(&controllers, std::path::Path::new(below.unwrap_or_default().trim_start_matches('/')))?))
}
