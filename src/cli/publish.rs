//! `--publish` as it is typed, and ports as they are shown, both as Docker has them.

use std::net::IpAddr;

use super::options::Invalid;
use crate::container::{PortBinding, Ports};

/// What `--publish` means: `[[HOSTIP:]HOSTPORT:]PORT[/tcp]`, in which the port of the host may be left out.
pub fn parse(typed: &[String]) -> Result<Ports, Invalid> {
    let mut ports = Ports::new();
    for text in typed {
        let (port, binding) = parse_one(text).map_err(|problem| Invalid::Publish { text: text.clone(), problem })?;
        ports.entry(format!("{port}/tcp")).or_default().push(binding);
    }
    Ok(ports)
}

/// The ports that `--expose` means: `PORT[-PORT][/PROTOCOL]`.
pub fn exposed(typed: &[String]) -> Result<Vec<String>, Invalid> {
    let one = |text: &String| exposed_one(text).map_err(|problem| Invalid::Publish { text: text.clone(), problem });
    Ok(typed.iter().map(one).collect::<Result<Vec<_>, _>>()?.concat())
}

fn exposed_one(text: &str) -> Result<Vec<String>, &'static str> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&&*protocol) {
        return Err("its protocol can be tcp, udp or sctp");
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err("the first port of a range is greater than its last");
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn parse_one(text: &str) -> Result<(u16, PortBinding), &'static str> {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => {}
        "udp" => return Err("an HTTP server of WebAssembly has no UDP ports"),
        "sctp" => return Err("an HTTP server of WebAssembly has no SCTP ports"),
        _ => return Err("its protocol can be tcp"),
    }
    let (rest, port) = text.rsplit_once(':').map_or((None, text), |(rest, port)| (Some(rest), port));
    let (ip, host) = match rest {
        None => ("", ""),
        Some(rest) => rest.rsplit_once(':').unwrap_or(("", rest)),
    };
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err("what it begins with is no IP address");
    }
    let host_port = if host.is_empty() { String::new() } else { number(host)?.to_string() };
    Ok((number(port)?, PortBinding { host_ip: ip.to_owned(), host_port }))
}

fn number(text: &str) -> Result<u16, &'static str> {
    if text.contains('-') {
        return Err("a range of ports is not offered by this version");
    }
    let number: Option<u16> = text.parse().ok();
    number.filter(|number| *number != 0).ok_or("a port is a number from 1 to 65535")
}

/// What of the host leads to a port.
pub fn address(binding: &PortBinding) -> String {
    let PortBinding { host_ip, host_port } = binding;
    if host_ip.contains(':') { format!("[{host_ip}]:{host_port}") } else { format!("{host_ip}:{host_port}") }
}

/// A container's ports in one line.
pub fn line(ports: &Ports) -> String {
    let one = |port: &String, bindings: &Vec<PortBinding>| match &bindings[..] {
        [] => port.clone(),
        bindings => {
            let all = bindings.iter().map(|binding| format!("{}->{port}", address(binding)));
            all.collect::<Vec<_>>().join(", ")
        }
    };
    ports.iter().map(|(port, bindings)| one(port, bindings)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        for (text, port, ip, host) in [
            ("8080", 8080, "", ""),
            ("80:8080", 8080, "", "80"),
            ("80:8080/tcp", 8080, "", "80"),
            ("127.0.0.1:80:8080", 8080, "127.0.0.1", "80"),
            ("127.0.0.1::8080", 8080, "127.0.0.1", ""),
            ("[::1]:80:8080", 8080, "::1", "80"),
        ] {
            let binding = PortBinding { host_ip: ip.to_owned(), host_port: host.to_owned() };
            assert_eq!(parse_one(text), Ok((port, binding)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        for text in [
            "",
            "x",
            "0",
            "70000",
            "80:",
            ":",
            "1.2.3:80:80",
            "80:80/udp",
            "80:80/x",
            "1-2:1-2",
            "-1",
            "localhost:80:80",
        ] {
            assert!(parse_one(text).is_err(), "{text}");
        }
    }

    #[test]
    fn as_docker_shows_them() {
        let binding = |ip: &str| PortBinding { host_ip: ip.into(), host_port: "80".into() };
        let ports = Ports::from([
            ("8080/tcp".to_owned(), vec![binding("0.0.0.0"), binding("::")]),
            ("9000/tcp".to_owned(), Vec::new()),
        ]);
        assert_eq!(line(&ports), "0.0.0.0:80->8080/tcp, [::]:80->8080/tcp, 9000/tcp");
    }
}
