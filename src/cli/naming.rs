//! The flags that say what a container is called and whom it asks for names.

use std::net::IpAddr;

use super::options::Invalid;
use crate::container::HostConfig;

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Naming {
    /// Container host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Set custom DNS search domains; a point for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set DNS options
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

impl Naming {
    /// Writes them into what the host gives.
    pub fn apply(&self, to: &mut HostConfig) -> Result<(), Invalid> {
        for name in [("hostname", &self.hostname), ("domainname", &self.domainname)] {
            if let (flag, Some(text)) = name {
                host_name(flag, text)?;
            }
        }
        to.extra_hosts = self.add_host.iter().map(|text| extra_host(text)).collect::<Result<_, _>>()?;
        if let Some(bad) = self.dns.iter().find(|text| text.parse::<IpAddr>().is_err()) {
            return Err(Invalid::value("dns", bad, "it is not a valid IP address"));
        }
        let words = [("dns-search", &self.dns_search), ("dns-option", &self.dns_option)];
        for (flag, texts) in words {
            // Each becomes a word of a line.
            if let Some(bad) = texts.iter().find(|text| text.is_empty() || text.contains(char::is_whitespace)) {
                return Err(Invalid::value(flag, bad, "it is one word"));
            }
        }
        (to.dns, to.dns_search, to.dns_options) = (self.dns.clone(), self.dns_search.clone(), self.dns_option.clone());
        Ok(())
    }
}

/// The kernel takes 64 bytes of a host's name and of a domain's (uts(7), `__NEW_UTS_LEN`).
fn host_name(flag: &'static str, text: &str) -> Result<(), Invalid> {
    const MOST: usize = 64;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if text.is_empty() || text.len() > MOST || !text.bytes().all(known) {
        return Err(Invalid::value(flag, text, "it is at most 64 letters, digits, points, dashes and underscores"));
    }
    Ok(())
}

/// `host:ip` or `host=ip`, an address of the sixth version in brackets or not.
fn extra_host(text: &str) -> Result<String, Invalid> {
    let wrong = |problem| Invalid::value("add-host", text, problem);
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or(wrong("it is HOST:IP"))?;
    let address = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong("the name of the host is one word"));
    }
    if address == "host-gateway" {
        return Err(wrong("host-gateway is the address of a bridge, which this version does not have"));
    }
    let address: IpAddr = address.parse().map_err(|_| wrong("invalid IP address"))?;
    Ok(format!("{name}:{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        for (text, read) in [
            ("a:10.1.2.3", "a:10.1.2.3"),
            ("a=10.1.2.3", "a:10.1.2.3"),
            ("a:2001:db8::1", "a:2001:db8::1"),
            ("a:[2001:db8::1]", "a:2001:db8::1"),
        ] {
            assert_eq!(extra_host(text).unwrap(), read, "{text}");
        }
        for bad in ["a", "a:", ":10.1.2.3", "a:x", "a b:10.1.2.3", "a:host-gateway", "a:10.1.2.3\n"] {
            assert!(extra_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_what_a_host_can_be_called() {
        assert!(host_name("hostname", "a-b.c_1").is_ok());
        for bad in ["", "a b", "a\nb", &"x".repeat(65)] {
            assert!(host_name("hostname", bad).is_err(), "{bad}");
        }
    }
}
