//! Ports of the host that lead to a container.
//!
//! There is no bridge network, and a server in WebAssembly needs none: whoever starts the container listens on the
//! host and hands the sockets over, so its process has no way to the host's network, and no packet is translated or
//! copied on its way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Container, Error, HostConfig, Status, io};
use crate::engine::Engine;
use crate::engine::wasm::grant::serve::DEFAULT_PORT;
use crate::sys;

/// What of the host leads to a port, in Docker's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    /// The address on the host; empty for all.
    pub host_ip: String,
    /// The port on the host; empty for any that is free.
    pub host_port: String,
}

/// Ports of a container, as `80/tcp`, and what leads to each.
pub type Ports = BTreeMap<String, Vec<PortBinding>>;

/// The most ports that are published: each is a socket, of each family of addresses, that goes to the container.
pub const MAX_PUBLISHED: usize = 16;

/// The file of a container's directory that says what leads to it since its last start.
const FILE: &str = "ports.json";

/// The ports of a server whose image exposes `exposed`.
pub(super) fn served<'a>(exposed: impl IntoIterator<Item = &'a String>) -> Vec<u16> {
    let tcp = exposed.into_iter().filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok());
    let ports: Vec<u16> = tcp.filter(|port| *port != 0).collect();
    if ports.is_empty() { vec![DEFAULT_PORT] } else { ports }
}

/// Refuses what is published and leads nowhere. `program` is what runs, and `serves` whether it is a server.
pub(super) fn check(
    host_config: &HostConfig,
    config: &Config,
    engine: Engine,
    serves: bool,
    program: &str,
) -> Result<(), Error> {
    if !host_config.publish_all_ports && host_config.port_bindings.is_empty() {
        return Ok(());
    }
    if engine == Engine::Linux {
        return Err(Error::PublishLinux);
    }
    if !serves {
        return Err(Error::PublishNoServer { program: program.to_owned() });
    }
    if host_config.port_bindings.values().map(Vec::len).sum::<usize>() > MAX_PUBLISHED {
        return Err(Error::PublishTooMany);
    }
    let served = served(config.exposed_ports.keys());
    for port in host_config.port_bindings.keys() {
        if !served.iter().any(|served| *port == format!("{served}/tcp")) {
            return Err(Error::PublishOther { port: port.clone(), served: served[0] });
        }
    }
    Ok(())
}

/// What is to be published: what was asked for, and with it, if all were, every port that is served.
fn wanted(host_config: &HostConfig, config: &Config) -> Ports {
    let mut ports = host_config.port_bindings.clone();
    if host_config.publish_all_ports {
        for port in served(config.exposed_ports.keys()).into_iter().take(MAX_PUBLISHED) {
            let any = || vec![PortBinding { host_ip: String::new(), host_port: String::new() }];
            ports.entry(format!("{port}/tcp")).or_insert_with(any);
        }
    }
    ports
}

/// Listens on the host's ports that lead to a program; which these are.
pub(super) fn open(host_config: &HostConfig, config: &Config) -> Result<(Vec<OwnedFd>, Ports), Error> {
    let (mut sockets, mut ports) = (Vec::new(), Ports::new());
    for (port, bindings) in wanted(host_config, config) {
        for binding in bindings {
            for (address, socket) in bind(&binding)? {
                let binding = PortBinding { host_ip: address.ip().to_string(), host_port: address.port().to_string() };
                ports.entry(port.clone()).or_default().push(binding);
                sockets.push(socket);
            }
        }
    }
    Ok((sockets, ports))
}

/// Writes down what leads to a container since this start.
pub(super) fn write_down(ports: &Ports, directory: &Path) -> Result<(), Error> {
    let file = directory.join(FILE);
    if ports.is_empty() && !file.exists() {
        return Ok(());
    }
    io("write", &file, std::fs::write(&file, serde_json::to_vec(ports).expect("plain data")))
}

/// How often another free port is looked for, when that of one family is taken in the other.
const ATTEMPTS: usize = 8;

fn bind(binding: &PortBinding) -> Result<Vec<(SocketAddr, OwnedFd)>, Error> {
    let port: u16 = if binding.host_port.is_empty() { 0 } else { binding.host_port.parse().unwrap_or_default() };
    let mut attempts = if port == 0 { ATTEMPTS } else { 1 };
    let ip = match binding.host_ip.as_str() {
        "" => None,
        ip => Some(ip.parse().map_err(|_| Error::PublishAddress { address: ip.to_owned() })?),
    };
    loop {
        attempts -= 1;
        match bind_all(ip, port) {
            Err(source) if attempts == 0 => return Err(taken(ip.unwrap_or(ANY), port, source)),
            Err(_) => {}
            Ok(sockets) => return Ok(sockets),
        }
    }
}

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Listens at one address, or at all of both families, where there are both.
fn bind_all(ip: Option<IpAddr>, port: u16) -> sys::Result<Vec<(SocketAddr, OwnedFd)>> {
    let listen = |ip: IpAddr, port: u16| {
        let socket = sys::socket::listen_tcp(SocketAddr::new(ip, port))?;
        let address = sys::socket::tcp_address(&socket)?;
        Ok((address, socket))
    };
    let first = listen(ip.unwrap_or(ANY), port)?;
    let port = first.0.port();
    let mut all = vec![first];
    if ip.is_none() {
        match listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) {
            Ok(second) => all.push(second),
            Err(error) if is_without_ipv6(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn is_without_ipv6(error: &sys::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.errno();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|without| errno == Some(without.raw_os_error()))
}

fn taken(ip: IpAddr, port: u16, call: sys::Error) -> Error {
    let address = SocketAddr::new(ip, port);
    let problem = match call.source.kind() {
        std::io::ErrorKind::AddrInUse => "port is already allocated".to_owned(),
        _ => call.source.to_string(),
    };
    Error::Bind { address, problem, call }
}

impl Container {
    /// What leads to its ports while it runs; a port with nothing is exposed and not published.
    pub fn ports(&self) -> Ports {
        if !matches!(self.status, Status::Running { .. }) {
            return Ports::new();
        }
        let file: PathBuf = self.directory.join(FILE);
        // A container that never published anything has no such file.
        let published = std::fs::read(file).ok().and_then(|json| serde_json::from_slice::<Ports>(&json).ok());
        let mut ports = published.unwrap_or_default();
        for port in self.record.config.exposed_ports.keys() {
            ports.entry(if port.contains('/') { port.clone() } else { format!("{port}/tcp") }).or_default();
        }
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_where_its_image_says() {
        let of = |ports: &[&str]| served(&ports.iter().map(|port| (*port).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), [8080]);
        assert_eq!(of(&["53/udp"]), [8080]);
        assert_eq!(of(&["80/tcp", "443", "53/udp"]), [80, 443]);
    }

    #[test]
    fn a_port_that_is_taken_is_told_as_docker_tells_it() {
        let mut any = PortBinding { host_ip: "127.0.0.1".into(), host_port: String::new() };
        let held = bind(&any).unwrap();
        any.host_port = held[0].0.port().to_string();
        let error = bind(&any).unwrap_err().to_string();
        assert_eq!(error, format!("Bind for 127.0.0.1:{} failed: port is already allocated", any.host_port));
    }
}
