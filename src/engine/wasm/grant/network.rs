//! Whom a program may talk to: what was granted, and the decision about each address, purely.
//!
//! A grant is by name or by address. A name opens the addresses that our own resolver found for it, as long as they
//! are valid, and only those that are not special ([`address`]). What is granted by address is open whether or not a
//! name leads there.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::address::{self, Block};
use super::{Set, Word};

/// The words of this group.
pub(super) const WORDS: &[Word] = &[
    Word {
        name: "allow-net",
        value: "HOST:PORT,…",
        opens: "Let the program connect to HOST (a name, *.NAME, an address, a block of addresses, or *) at PORT (a \
                number, a range, or *)",
    },
    Word {
        name: "allow-listen",
        value: "[ADDRESS:]PORT,…",
        opens: "Let the program listen at PORT (a number, a range, or *), of every address or of one",
    },
];

/// The most hosts or ports of one word: each connection looks at all of them.
const MAX_GRANTS: usize = 1_000;
/// The longest name of a host (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
/// The longest part of it.
const MAX_LABEL: usize = 63;

/// Whom a program may talk to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    connect: Vec<Peer>,
    listen: Vec<Listen>,
}

/// Someone to connect to.
#[derive(Clone, Debug, PartialEq)]
struct Peer {
    host: Host,
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq)]
enum Host {
    Any,
    Name(Name),
    /// Every name below this one, and not itself.
    Below(Name),
    Addresses(Block),
}

/// Where to listen: at every address without one.
#[derive(Clone, Debug, PartialEq)]
struct Listen {
    address: Option<IpAddr>,
    ports: Ports,
}

/// A range of ports.
pub type Ports = RangeInclusive<u16>;

/// All of them.
const EVERY_PORT: Ports = 0..=u16::MAX;

/// A name of a host: lower-case ASCII, without a dot at the end, and not an address in some notation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// The name that `text` is. Letters beyond ASCII have to be in Punycode, as they are on the wire.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let fits = |label: &str| {
            let bytes = label.as_bytes();
            let letters = bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            letters && (1..=MAX_LABEL).contains(&bytes.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        if name.len() > MAX_NAME || !name.split('.').all(fits) {
            return Err(format!("{text:?} is neither a host's name nor an address"));
        }
        // Of such a name resolvers differ: `127.1`, `0x7f000001` and `2130706433` are 127.0.0.1 to some (WHATWG URL,
        // "ends in a number").
        let last = name.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{text:?} looks like an address in an unusual notation"));
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this machine whatever a resolver says (RFC 6761, 6.3).
    pub fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

impl Network {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Set {
        match name {
            "allow-net" => self.connect = each(value, peers)?,
            "allow-listen" => self.listen = each(value, |one| Ok(vec![listen(one)?]))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether there is anything that needs a network.
    pub fn is_granted(&self) -> bool {
        !self.connect.is_empty() || !self.listen.is_empty()
    }

    /// Whether names have to be resolved.
    pub fn has_names(&self) -> bool {
        self.connect.iter().any(|peer| !matches!(peer.host, Host::Addresses(_)))
    }

    /// The ports that may be connected to, for a wall that knows no more than ports.
    pub fn connect_ports(&self) -> impl Iterator<Item = Ports> {
        self.connect.iter().map(|peer| peer.ports.clone())
    }

    /// The ports that may be listened at.
    pub fn listen_ports(&self) -> impl Iterator<Item = Ports> {
        self.listen.iter().map(|listen| listen.ports.clone())
    }

    /// Whether `name` may be resolved: whether any port of it is granted.
    pub fn may_resolve(&self, name: &Name) -> bool {
        self.ports_of(name).next().is_some()
    }

    /// The ports at which the host called `name` may be connected to.
    fn ports_of<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Ports> {
        let matches = move |peer: &&Peer| match &peer.host {
            Host::Any => true,
            Host::Name(granted) => granted == name,
            Host::Below(above) => name.0.strip_suffix(&above.0).is_some_and(|rest| rest.ends_with('.')),
            Host::Addresses(_) => false,
        };
        self.connect.iter().filter(matches).map(|peer| &peer.ports)
    }

    /// Whether the host called `name` may be connected to at `port`, if its address may.
    pub fn may_name(&self, name: &Name, port: u16) -> bool {
        self.ports_of(name).any(|ports| ports.contains(&port))
    }

    /// Whether `peer` may be connected to, `names` being those that are known to lead there.
    pub fn may_connect<'a>(&self, peer: SocketAddr, names: impl IntoIterator<Item = &'a Name>) -> bool {
        let (address, port) = (peer.ip().to_canonical(), peer.port());
        if self.says(address, port) {
            return true;
        }
        if !self.is_ordinary(address, port) {
            return false;
        }
        let granted = |peer: &Peer| match &peer.host {
            Host::Any => true,
            Host::Addresses(block) => block.contains(address),
            Host::Name(_) | Host::Below(_) => false,
        };
        self.connect.iter().any(|peer| peer.ports.contains(&port) && granted(peer))
            || names.into_iter().any(|name| self.may_name(name, port))
    }

    /// Whether a special address is said, or lies in a block that has only such.
    fn says(&self, address: IpAddr, port: u16) -> bool {
        let said = |peer: &Peer| match peer.host {
            Host::Addresses(block) => {
                peer.ports.contains(&port) && block.contains(address) && address::says_special(block)
            }
            _ => false,
        };
        self.connect.iter().any(said)
    }

    /// Whether nothing is special about an address, nor about what it carries unless that is granted by itself.
    fn is_ordinary(&self, address: IpAddr, port: u16) -> bool {
        let carried = address::carried(address).map(IpAddr::V4);
        let harmless = |carried| address::special(carried).is_none() || self.says(carried, port);
        address::special(address).is_none() && carried.is_none_or(harmless)
    }

    /// Whether `at` may be listened at.
    pub fn may_listen(&self, at: SocketAddr) -> bool {
        let address = at.ip().to_canonical();
        let granted = |listen: &&Listen| listen.address.is_none_or(|granted| granted == address);
        self.listen.iter().filter(granted).any(|listen| listen.ports.contains(&at.port()))
    }

    /// Whether a socket may be given the local address `at`. What connects is bound by that, to any address and port:
    /// it hears only from where it may connect to.
    pub fn may_bind(&self, at: SocketAddr) -> bool {
        let any = at.ip().to_canonical().is_unspecified() && at.port() == 0;
        self.may_listen(at) || (any && self.is_granted())
    }

    /// Whether anybody may be heard: at a port that is listened at, who talks is not known before.
    pub fn hears_anybody(&self) -> bool {
        !self.listen.is_empty()
    }
}

/// The values of a list.
fn each<T>(value: &str, parse: impl Fn(&str) -> Result<Vec<T>, String>) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    for one in value.split(',') {
        all.extend(parse(one.trim())?);
        if all.len() > MAX_GRANTS {
            return Err(format!("there are more than {MAX_GRANTS}"));
        }
    }
    Ok(all)
}

/// A host and its ports. `localhost` is this machine's two addresses, said by a name that nobody else decides about.
fn peers(text: &str) -> Result<Vec<Peer>, String> {
    let (host, ports) = split(text).ok_or("it has to be HOST:PORT, as example.com:443 or [::1]:80")?;
    let ports = self::ports(ports)?;
    let peer = |host| Peer { host, ports: ports.clone() };
    let host = host_of(host)?;
    match &host {
        Host::Name(name) if name.is_localhost() => {
            let addresses = ["127.0.0.1", "::1"].map(|text| Block::parse(text).map(Host::Addresses).map(peer));
            let mut all = addresses.into_iter().collect::<Result<Vec<_>, _>>()?;
            all.push(peer(host));
            Ok(all)
        }
        _ => Ok(vec![peer(host)]),
    }
}

fn host_of(text: &str) -> Result<Host, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match (bracketed, text.strip_prefix("*.")) {
        (Some(address), _) => {
            let block = Block::parse(address)?;
            if address.contains(':') { Ok(Host::Addresses(block)) } else { Err("brackets are for IPv6".to_owned()) }
        }
        (None, Some(name)) => Name::parse(name).map(Host::Below),
        (None, None) if text == "*" => Ok(Host::Any),
        (None, None) if text.contains('/') || text.parse::<IpAddr>().is_ok() => Block::parse(text).map(Host::Addresses),
        (None, None) => Name::parse(text).map(Host::Name),
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    let Some((address, ports)) = split(text) else { return Ok(Listen { address: None, ports: self::ports(text)? }) };
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
    Ok(Listen { address: Some(address.to_canonical()), ports: self::ports(ports)? })
}

/// What stands before and after the last colon. IPv6 needs its brackets: without them a port could be a part of it.
fn split(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    (!host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']'))))
        .then_some((host, port))
}

fn ports(text: &str) -> Result<Ports, String> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
        let number = plain.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port != 0);
        number.ok_or_else(|| format!("{text:?} is no port: 1 to 65535, a range as 8000-8999, or *"))
    };
    if text == "*" {
        return Ok(EVERY_PORT);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first <= last { Ok(first..=last) } else { Err(format!("{text:?} ends before it begins")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(value: &str) -> Network {
        let mut network = Network::default();
        assert!(network.set("allow-net", value).unwrap());
        network
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_granted_may_be_connected_to() {
        for (grant, peer, may) in [
            ("8.8.8.8:53", "8.8.8.8:53", true),
            ("8.8.8.8:53", "8.8.8.8:54", false),
            ("8.8.8.8:53", "8.8.4.4:53", false),
            ("8.8.8.8:50-60", "[::ffff:8.8.8.8]:60", true),
            ("*:443", "1.1.1.1:443", true),
            ("*:443", "[2606:4700::1111]:443", true),
            ("*:443", "1.1.1.1:80", false),
            ("0.0.0.0/0:*", "1.1.1.1:80", true),
            ("[2606:4700::/32]:443", "[2606:4700::1111]:443", true),
            ("[2606:4700::/32]:443", "1.1.1.1:443", false),
            ("example.com:443", "1.1.1.1:443", false),
        ] {
            assert_eq!(connect(grant).may_connect(at(peer), []), may, "{grant} {peer}");
        }
    }

    /// In every spelling that reaches them.
    #[test]
    fn special_addresses_have_to_be_said() {
        let special = [
            "127.0.0.1:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::127.0.0.1]:80",
            "169.254.169.254:80",
            "[fd00:ec2::254]:80",
            "[64:ff9b::7f00:1]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:7f00:1::1]:80",
            "10.0.0.1:80",
            "192.168.1.1:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "[fe80::1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[ff02::1]:80",
            "[2606:4700::5efe:7f00:1]:80",
        ];
        for grant in ["*:*", "0.0.0.0/0:*,[::/0]:*", "example.com:*"] {
            let network = connect(grant);
            let name = Name::parse("example.com").unwrap();
            for peer in special {
                assert!(!network.may_connect(at(peer), [&name]), "{grant} {peer}");
            }
        }
        for (grant, peer) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("127.0.0.0/8:80", "127.9.9.9:80"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost:80", "[::1]:80"),
            ("10.0.0.0/8:80", "10.1.2.3:80"),
            ("169.254.169.254:80", "169.254.169.254:80"),
            ("*:80,10.0.0.0/8:80", "[64:ff9b::a01:203]:80"),
        ] {
            assert!(connect(grant).may_connect(at(peer), []), "{grant} {peer}");
        }
        assert!(!connect("127.0.0.1:80").may_connect(at("127.0.0.2:80"), []));
    }

    #[test]
    fn a_name_opens_the_addresses_that_it_leads_to() {
        let (example, other) = (Name::parse("api.example.com").unwrap(), Name::parse("other.com").unwrap());
        for grant in ["api.example.com:443", "*.example.com:443", "*:443", "API.EXAMPLE.COM.:443"] {
            let network = connect(grant);
            assert!(network.may_resolve(&example) && network.may_name(&example, 443), "{grant}");
            assert!(network.may_connect(at("1.2.3.4:443"), [&example]), "{grant}");
            assert!(!network.may_connect(at("1.2.3.4:80"), [&example]), "{grant}");
            assert_eq!(network.may_resolve(&other), grant == "*:443");
        }
        let network = connect("*.example.com:443");
        for name in ["example.com", "badexample.com", "example.com.evil.com"] {
            assert!(!network.may_resolve(&Name::parse(name).unwrap()), "{name}");
        }
        assert!(!connect("1.2.3.4:443").may_resolve(&example));
    }

    #[test]
    fn listening() {
        let mut network = Network::default();
        network.set("allow-listen", "8080,127.0.0.1:9000-9009,[::1]:53").unwrap();
        for (address, may) in [
            ("0.0.0.0:8080", true),
            ("127.0.0.1:8080", true),
            ("127.0.0.1:9009", true),
            ("0.0.0.0:9000", false),
            ("[::1]:53", true),
            ("[::]:53", false),
            ("0.0.0.0:0", false),
            ("0.0.0.0:80", false),
        ] {
            assert_eq!(network.may_listen(at(address)), may, "{address}");
        }
        // What connects is bound first, by the kernel's choice.
        assert!(network.may_bind(at("0.0.0.0:0")) && connect("*:80").may_bind(at("[::]:0")));
        assert!(!connect("*:80").may_bind(at("0.0.0.0:80")) && !Network::default().may_bind(at("0.0.0.0:0")));
    }

    #[test]
    fn what_cannot_be_meant() {
        for bad in [
            "",
            "example.com",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "example.com:9-1",
            "example.com:http",
            ":80",
            "::1:80",
            "[1.2.3.4]:80",
            "127.1:80",
            "0x7f.0.0.1:80",
            "2130706433:80",
            "0177.0.0.1:80",
            "1.2.3.4.5:80",
            "a..b:80",
            "-a.com:80",
            "*.:80",
            "*.*.com:80",
            "http://example.com:80",
            "10.0.0.1/8:80",
            "exämple.com:80",
            "0x7f000001:80",
        ] {
            assert!(Network::default().set("allow-net", bad).is_err(), "{bad}");
        }
        let many = vec!["a.com:1"; MAX_GRANTS + 1].join(",");
        assert!(Network::default().set("allow-net", &many).unwrap_err().contains("more than"));
        for bad in ["", "x", "0", "host:80", "::1:80", "1-"] {
            assert!(Network::default().set("allow-listen", bad).is_err(), "{bad}");
        }
    }
}
