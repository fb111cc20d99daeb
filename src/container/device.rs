//! The devices of the host that a container is given: what was named is looked at when it starts.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Error, HostConfig, io};
use crate::bundle::{Device, OfDevice, Rule};

/// The most devices that one container is given: more than any machine has, and a directory may be what was named.
const MAX_DEVICES: usize = 4096;

/// Parts of `/dev` that a container has its own of, or that are no devices.
const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
/// What is made for every container.
const MADE: [&str; 2] = ["console", "ptmx"];

/// The devices of a container. A privileged one has all of the host's, which an ordinary user cannot give.
pub(super) fn find(given: &HostConfig, rootless: bool) -> Result<Vec<Device>, Error> {
    let mut devices = Vec::new();
    if given.privileged && !rootless {
        below(Path::new("/dev"), Path::new("/dev"), "rwm", &mut devices)?;
    }
    for mapping in &given.devices {
        let (host, inside) = (Path::new(&mapping.path_on_host), Path::new(&mapping.path_in_container));
        let metadata = std::fs::metadata(host).map_err(missing(host))?;
        if metadata.is_dir() {
            below(host, inside, &mapping.cgroup_permissions, &mut devices)?;
        } else {
            let device = device(&metadata, inside, &mapping.cgroup_permissions);
            devices.push(device.ok_or_else(|| Error::NotADevice { path: host.to_owned() })?);
        }
    }
    Ok(devices)
}

fn missing(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::NoDevice { path: path.to_owned(), source }
}

/// The devices in a directory of the host, and in the directories in it.
fn below(host: &Path, inside: &Path, access: &str, devices: &mut Vec<Device>) -> Result<(), Error> {
    for entry in io("read", host, std::fs::read_dir(host))? {
        let entry = io("read", host, entry)?;
        let (path, name) = (entry.path(), entry.file_name());
        let metadata = io("look at", &path, entry.metadata())?;
        let top = host == Path::new("/dev");
        if metadata.is_dir() {
            if !top || !OWN.iter().any(|own| name == *own) {
                below(&path, &inside.join(&name), access, devices)?;
            }
        } else if !(top && MADE.iter().any(|made| name == *made)) {
            devices.extend(device(&metadata, &inside.join(&name), access));
        }
        if devices.len() > MAX_DEVICES {
            return Err(Error::TooManyDevices { path: host.to_owned() });
        }
    }
    Ok(())
}

fn device(metadata: &Metadata, inside: &Path, access: &str) -> Option<Device> {
    let kind = metadata.file_type();
    (kind.is_block_device() || kind.is_char_device()).then(|| Device {
        path: inside.to_owned(),
        block: kind.is_block_device(),
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.permissions().mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    })
}

/// A limit for a device of the host.
pub(super) fn limit(path: &str, rate: u64) -> Result<OfDevice, Error> {
    let path = PathBuf::from(path);
    let metadata = std::fs::metadata(&path).map_err(missing(&path))?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::NotADevice { path });
    }
    let number = metadata.rdev();
    Ok(OfDevice { major: rustix::fs::major(number), minor: rustix::fs::minor(number), rate })
}

/// A rule as Docker has it: `a|b|c MAJOR:MINOR rwm`, either number `*` for all.
pub(super) fn rule(text: &str) -> Result<Rule, Error> {
    parse_rule(text).ok_or_else(|| Error::DeviceRule { rule: text.to_owned() })
}

fn parse_rule(text: &str) -> Option<Rule> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let block = match kind {
        "a" => None,
        "b" => Some(true),
        "c" => Some(false),
        _ => return None,
    };
    let known = words.next().is_none() && is_access(access);
    known.then_some(Rule { block, major: number(major)?, minor: number(minor)?, access: access.to_owned() })
}

/// Whether it is what may be done with a device: some of `rwm`, each once at most.
pub fn is_access(text: &str) -> bool {
    let once = |letter: char| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter) && once(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_docker_reads_them() {
        let rule = parse_rule("c 13:* rw").unwrap();
        assert_eq!(rule, Rule { block: Some(false), major: Some(13), minor: None, access: "rw".into() });
        assert_eq!(parse_rule("a *:* rwm").unwrap().block, None);
        for bad in ["", "c", "c 1:2", "x 1:2 r", "c 1 r", "c 1:2 x", "c 1:2 rr", "c 1:2 r w", "c -1:2 r"] {
            assert!(parse_rule(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_device_is_none() {
        let given = |path: &str| HostConfig {
            devices: vec![super::super::DeviceMapping {
                path_on_host: path.to_owned(),
                path_in_container: "/dev/x".to_owned(),
                cgroup_permissions: "r".to_owned(),
            }],
            ..HostConfig::default()
        };
        let found = find(&given("/dev/null"), false).unwrap();
        assert_eq!((found.len(), found[0].major, found[0].minor, &*found[0].access), (1, 1, 3, "r"));
        assert!(matches!(find(&given("/etc/passwd"), false), Err(Error::NotADevice { .. })));
        assert!(matches!(find(&given("/dev/no-such"), false), Err(Error::NoDevice { .. })));
    }
}
