//! The three files that every Linux container gets from us: its host name, its hosts, its resolvers.

use std::path::Path;

use super::{Config, Error, HostConfig, Record, io};
use crate::bundle::Bind;

pub(super) const NAMES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Writes the files into the container's directory and says where they are to be seen.
pub(super) fn write(directory: &Path, record: &Record) -> Result<Vec<Bind>, Error> {
    let (config, given) = (&record.config, &record.host_config);
    // Whoever is on another's network is called what that one is called, and asks whom it asks.
    if let Some(other) = given.network_mode.strip_prefix("container:")
        && let Some(all) = directory.parent()
    {
        let of_other = |name: &&str| Bind {
            source: all.join(other).join(name),
            destination: Path::new("/etc").join(name),
            readonly: false,
        };
        return Ok(NAMES.iter().map(of_other).collect());
    }
    // On the host's network the host's names and resolvers are right. Without a network none is, and the files are
    // there for programs that insist on them.
    let of_host = given.network_mode == "host";
    let read = |path: &str| of_host.then(|| std::fs::read_to_string(path).ok()).flatten();
    let hosts = hosts(config, given, read("/etc/hosts"));
    let resolvers = resolvers(given, read("/etc/resolv.conf").unwrap_or_default());
    let contents = [format!("{}\n", config.hostname), hosts, resolvers];
    NAMES.iter().zip(contents).map(|(name, content)| write_one(directory, name, &content)).collect()
}

/// The host's file or Docker's, then what was asked for. A container without a network has its own name at the loopback,
/// so that programs that look themselves up find something.
fn hosts(config: &Config, given: &HostConfig, of_host: Option<String>) -> String {
    let own = of_host.is_none() && !config.hostname.is_empty();
    let mut text = of_host.unwrap_or_else(|| LOOPBACK.to_owned());
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for extra in &given.extra_hosts {
        // An address of the sixth version has colons of its own.
        if let Some((name, address)) = extra.split_once(':') {
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    if own {
        let domain = match (config.hostname.as_str(), config.domainname.as_str()) {
            (name, "") => name.to_owned(),
            (name, domain) => format!("{name}.{domain} {name}"),
        };
        text.push_str(&format!("127.0.1.1\t{domain}\n"));
    }
    text
}

/// The host's resolvers, each kind of line replaced by what was asked for.
fn resolvers(given: &HostConfig, of_host: String) -> String {
    let HostConfig { dns, dns_search, dns_options, .. } = given;
    if dns.is_empty() && dns_search.is_empty() && dns_options.is_empty() {
        return of_host;
    }
    let replaced = |line: &&str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        (word == "nameserver" && !dns.is_empty())
            || (matches!(word, "search" | "domain") && !dns_search.is_empty())
            || (word == "options" && !dns_options.is_empty())
    };
    let mut lines: Vec<String> = dns.iter().map(|address| format!("nameserver {address}")).collect();
    // A single point is how to say that there are none.
    if !dns_search.is_empty() && *dns_search != ["."] {
        lines.push(format!("search {}", dns_search.join(" ")));
    }
    if !dns_options.is_empty() {
        lines.push(format!("options {}", dns_options.join(" ")));
    }
    lines.extend(of_host.lines().filter(|line| !replaced(line)).map(str::to_owned));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn write_one(directory: &Path, name: &str, content: &str) -> Result<Bind, Error> {
    use std::os::unix::fs::PermissionsExt;
    let source = directory.join(name);
    // What the container made of it in an earlier life stays.
    if !source.exists() {
        io("write", &source, std::fs::write(&source, content))?;
        io("write", &source, std::fs::set_permissions(&source, PermissionsExt::from_mode(0o644)))?;
    }
    Ok(Bind { source, destination: Path::new("/etc").join(name), readonly: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_replaces_what_the_host_says() {
        let of = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let host = "# by hand\nnameserver 192.0.2.1\nsearch a.example\noptions edns0\n".to_owned();
        let given = HostConfig { dns: of(&["192.0.2.7"]), dns_search: of(&["."]), ..HostConfig::default() };
        assert_eq!(resolvers(&given, host.clone()), "nameserver 192.0.2.7\n# by hand\noptions edns0\n");
        assert_eq!(resolvers(&HostConfig::default(), host.clone()), host);
    }

    #[test]
    fn names_are_in_hosts() {
        let given = HostConfig { extra_hosts: vec!["six:2001:db8::1".to_owned()], ..HostConfig::default() };
        let config = Config { hostname: "foo".into(), domainname: "bar.example".into(), ..Config::default() };
        let text = hosts(&config, &given, None);
        assert!(text.contains("\n2001:db8::1\tsix\n") && text.ends_with("127.0.1.1\tfoo.bar.example foo\n"), "{text}");
        assert_eq!(hosts(&config, &HostConfig::default(), Some("x".into())), "x\n");
    }
}
