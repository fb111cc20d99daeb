//! `mounts`, and the id mappings that a mount or a user namespace has.
//!
//! A relative destination passes: it "MUST be interpreted as relative to /" (config.md). So does a mount on top of
//! another, on `/`, and a bind of a directory that holds the root filesystem, as `-v /:/host` is one.

use super::{Check, Namespaces, path, refuse, text, texts};
use crate::oci::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount};

/// `UID_GID_MAP_MAX_EXTENTS` of linux/user_namespace.h.
const MAX_MAPPINGS: usize = 340;

/// A mapping is written in one go, of less than a page (user_namespaces(7)).
const MAX_MAPPING_BYTES: usize = 4095;

pub(super) fn check(mounts: &[Mount], namespaces: Namespaces<'_>) -> Check {
    mounts.iter().enumerate().try_for_each(|(i, mount)| one(mount, &|name| format!("mounts[{i}].{name}"), namespaces))
}

fn one(mount: &Mount, field: &dyn Fn(&str) -> String, namespaces: Namespaces<'_>) -> Check {
    path(mount.destination(), || field("destination"))?;
    text(mount.typ().as_deref().unwrap_or_default(), || field("type"))?;
    texts(mount.options().as_deref(), &|i| field(&format!("options[{i}]")))?;
    let is_bind = mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    match mount.source() {
        Some(source) => path(source, || field("source"))?,
        None if is_bind => return refuse(field("source"), "is missing, and this is a bind mount"),
        None => {}
    }
    id_mapped(mount, field, namespaces)
}

fn id_mapped(mount: &Mount, field: &dyn Fn(&str) -> String, namespaces: Namespaces<'_>) -> Check {
    let asked = mount.options().iter().flatten().find(|option| *option == "idmap" || *option == "ridmap");
    match (mount.uid_mappings(), mount.gid_mappings(), asked) {
        (Some(_), None, _) => refuse(field("gidMappings"), "is missing beside uidMappings"),
        (None, Some(_), _) => refuse(field("uidMappings"), "is missing beside gidMappings"),
        (Some(uids), Some(gids), _) => {
            mappings(uids, &field("uidMappings"))?;
            mappings(gids, &field("gidMappings"))
        }
        (None, None, Some(option)) if !namespaces.has(LinuxNamespaceType::User) => {
            refuse(field("options"), format!("{option} needs mappings, and neither mount nor container has any"))
        }
        (None, None, _) => Ok(()),
    }
}

/// What the kernel takes as a mapping (`map_write` in kernel/user_namespace.c).
pub(super) fn mappings(list: &[LinuxIdMapping], field: &str) -> Check {
    if list.len() > MAX_MAPPINGS {
        return refuse(field, format!("has {} entries; the kernel takes {MAX_MAPPINGS}", list.len()));
    }
    for (i, map) in list.iter().enumerate() {
        if map.size() == 0 {
            return refuse(format!("{field}[{i}].size"), "is 0");
        }
        for (name, first) in [("containerID", map.container_id()), ("hostID", map.host_id())] {
            if first.checked_add(map.size()).is_none() {
                let problem = format!("{first} and the {} after it are more than there are", map.size() - 1);
                return refuse(format!("{field}[{i}].{name}"), problem);
            }
        }
    }
    if overlap(list, LinuxIdMapping::container_id) {
        return refuse(field, "maps an id of the container twice");
    }
    if overlap(list, LinuxIdMapping::host_id) {
        return refuse(field, "maps an id of the host twice");
    }
    let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()).len();
    match list.iter().map(line).sum::<usize>() {
        bytes if bytes > MAX_MAPPING_BYTES => {
            refuse(field, format!("is {bytes} bytes when written out; the kernel takes {MAX_MAPPING_BYTES}"))
        }
        _ => Ok(()),
    }
}

/// Whether the ranges that begin at `first` meet. None of them runs over.
fn overlap(list: &[LinuxIdMapping], first: impl Fn(&LinuxIdMapping) -> u32) -> bool {
    let mut ranges: Vec<(u32, u32)> = list.iter().map(|map| (first(map), first(map) + map.size())).collect();
    ranges.sort_unstable();
    ranges.windows(2).any(|pair| pair[0].1 > pair[1].0)
}

/// Whether the container's `id` is in a mapping.
pub(super) fn maps(list: &[LinuxIdMapping], id: u32) -> bool {
    list.iter().any(|map| id.checked_sub(map.container_id()).is_some_and(|offset| offset < map.size()))
}
