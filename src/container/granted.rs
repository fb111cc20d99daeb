//! What the grants to a program mean for its container: that they make sense for what runs it, and the network.
//!
//! There is no network of its own for a container yet, so a program that was granted some of the network is on the
//! host's. It reaches there what was granted and nothing else.

use super::{Error, HostConfig, parse_bind};
use crate::bundle::{Namespace, Namespaces};
use crate::engine::Engine;
use crate::engine::wasm::grant::Grants;

/// The network of a container for which none was asked.
const NONE: &str = "none";
/// The host's.
const HOST: &str = "host";

impl HostConfig {
    /// What is granted to a Wasm program.
    pub(super) fn grants(&self) -> Result<Grants, Error> {
        Ok(Grants::parse(self.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())))?)
    }
}

/// The namespaces of a program that runs without a container: all its own, but for the network that was settled.
pub(super) fn namespaces(host_config: &HostConfig) -> Namespaces {
    let network = if host_config.network_mode == HOST { Namespace::Host } else { Namespace::Own };
    Namespaces { network, ..Namespaces::default() }
}

/// Refuses grants that cannot be meant, and decides the network if it was left open.
pub(super) fn settle(host_config: &mut HostConfig, engine: Engine) -> Result<(), Error> {
    let grants = host_config.grants()?;
    if engine == Engine::Linux && grants != Grants::default() {
        return Err(Error::GrantsToLinux);
    }
    let binds: Vec<_> = host_config.binds.iter().map(|bind| parse_bind(bind)).collect();
    for (name, directory) in &grants.given.stores {
        if !binds.iter().any(|bind| directory.starts_with(&bind.destination)) {
            return Err(Error::StoreOutside { name: name.clone(), directory: directory.clone() });
        }
    }
    host_config.network_mode = match (&*host_config.network_mode, grants.network.is_granted()) {
        ("", true) => HOST.to_owned(),
        ("", false) => NONE.to_owned(),
        (NONE, true) => return Err(Error::GrantsWithoutNetwork),
        (typed, _) => typed.to_owned(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(network: &str, annotation: Option<(&str, &str)>, engine: Engine) -> Result<String, Error> {
        let annotations = annotation.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        let mut host_config = HostConfig { network_mode: network.to_owned(), annotations, ..HostConfig::default() };
        settle(&mut host_config, engine).map(|()| host_config.network_mode)
    }

    #[test]
    fn a_network_is_there_for_whom_it_was_granted() {
        let net = Some(("wherry.allow-net", "example.com:443"));
        for (typed, annotation, engine, network) in [
            ("", None, Engine::Linux, "none"),
            ("", None, Engine::Wasm, "none"),
            ("", net, Engine::Wasm, "host"),
            ("host", net, Engine::Wasm, "host"),
            ("host", None, Engine::Wasm, "host"),
        ] {
            assert_eq!(settled(typed, annotation, engine).unwrap(), network, "{typed} {annotation:?} {engine:?}");
        }
        assert!(matches!(settled("none", net, Engine::Wasm), Err(Error::GrantsWithoutNetwork)));
        assert!(matches!(settled("", net, Engine::Linux), Err(Error::GrantsToLinux)));
        assert!(matches!(settled("", Some(("wherry.no-such", "")), Engine::Wasm), Err(Error::Grant(_))));
        let store = Some(("wherry.keyvalue.x", "/data/x"));
        assert!(matches!(settled("", store, Engine::Wasm), Err(Error::StoreOutside { .. })));
    }
}
