//! Which namespaces a container is to have: that its modes make sense together, and whose they are when they are another
//! container's.

use super::{Config, Error, HostConfig, Store};
use crate::engine::Engine;

/// Before the id of another container.
const CONTAINER: &str = "container:";

impl Store {
    /// Names other containers by their ids, which do not change, and gives a container on another's network that one's
    /// names, as Docker does.
    pub(super) fn settle_modes(
        &self,
        config: &mut Config,
        given: &mut HostConfig,
        named: bool,
        engine: Engine,
    ) -> Result<(), Error> {
        check(given, named)?;
        if engine == Engine::Wasm {
            for_linux(given)?;
        }
        for mode in [&mut given.network_mode, &mut given.pid_mode] {
            let Some(name) = mode.strip_prefix(CONTAINER) else { continue };
            let id = self.find(name)?.record.id;
            *mode = format!("{CONTAINER}{id}");
        }
        if let Some(id) = given.network_mode.strip_prefix(CONTAINER) {
            let other = self.find(id)?.record.config;
            (config.hostname, config.domainname) = (other.hostname, other.domainname);
        }
        if given.uts_mode == "host" && !named {
            config.hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        Ok(())
    }
}

/// Refuses what contradicts itself. `named` is whether a host name was asked for.
fn check(given: &HostConfig, named: bool) -> Result<(), Error> {
    let conflict = |what| Err(Error::Conflict { what });
    let joined = given.network_mode.starts_with(CONTAINER);
    if named && joined {
        return conflict("hostname and the network mode");
    }
    if named && given.uts_mode == "host" {
        return conflict("hostname and the UTS mode");
    }
    if joined && !given.extra_hosts.is_empty() {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if joined && !(given.dns.is_empty() && given.dns_search.is_empty() && given.dns_options.is_empty()) {
        return conflict("dns and the network mode");
    }
    if given.network_mode != "none" && !given.network_mode.is_empty() {
        let net = given.sysctls.keys().any(|name| name.starts_with("net."));
        if net {
            return conflict("--sysctl net.* and a network that is not the container's own");
        }
    }
    Ok(())
}

/// Refuses what a Wasm program cannot have: it sees nothing of Linux.
fn for_linux(given: &HostConfig) -> Result<(), Error> {
    let own = |mode: &str| mode.is_empty() || mode == "private";
    let flags = [
        ("privileged", given.privileged),
        ("cap-add", !given.cap_add.is_empty()),
        ("device", !given.devices.is_empty()),
        ("device-cgroup-rule", !given.device_cgroup_rules.is_empty()),
        ("tmpfs", !given.tmpfs.is_empty()),
        ("shm-size", given.shm_size != 0),
        ("sysctl", !given.sysctls.is_empty()),
        ("group-add", !given.group_add.is_empty()),
        ("pid", !own(&given.pid_mode)),
        ("ipc", !own(&given.ipc_mode)),
        ("uts", !own(&given.uts_mode)),
        ("cgroupns", !own(&given.cgroupns_mode)),
        ("network container:", given.network_mode.starts_with(CONTAINER)),
        ("add-host", !given.extra_hosts.is_empty()),
        ("dns", !given.dns.is_empty()),
        ("dns-search", !given.dns_search.is_empty()),
        ("dns-option", !given.dns_options.is_empty()),
    ];
    match flags.into_iter().find(|(_, asked)| *asked) {
        Some((flag, _)) => Err(Error::FlagToWasm { flag }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_refused() {
        let joined = || HostConfig { network_mode: "container:x".into(), ..HostConfig::default() };
        assert!(check(&joined(), false).is_ok());
        assert!(check(&joined(), true).is_err());
        assert!(check(&HostConfig { dns: vec!["192.0.2.1".into()], ..joined() }, false).is_err());
        assert!(check(&HostConfig { uts_mode: "host".into(), ..HostConfig::default() }, true).is_err());
        let sysctls = [("net.ipv4.ip_forward".to_owned(), "0".to_owned())].into();
        let host = HostConfig { network_mode: "host".into(), sysctls, ..HostConfig::default() };
        assert!(check(&host, false).is_err());
        assert!(check(&HostConfig { network_mode: "none".into(), ..host }, false).is_ok());
    }

    #[test]
    fn a_wasm_program_has_nothing_of_linux() {
        assert!(for_linux(&HostConfig::default()).is_ok());
        let error = for_linux(&HostConfig { privileged: true, ..HostConfig::default() }).unwrap_err();
        assert!(error.to_string().contains("--privileged"));
    }
}
