//! Addresses: blocks of them, and which of them are special.
//!
//! A special address is one that means something else here than it means elsewhere, or is not a machine of the
//! internet at all: loopback, link-local with the metadata services of clouds, private networks, multicast and the
//! rest of IANA's registries. Such an address is opened by saying it, or a block that has nothing but
//! addresses of its kind; never by a name that resolves to it, and not by `*` or `0.0.0.0/0`.
//!
//! An address has several spellings. IPv6 can carry an IPv4 address within (mapped, translated, tunnelled): what
//! is within is judged too. What only looks like a name, such as `0x7f.1`, is not read as an address here
//! or anywhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses: an address and how many of its first bits matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    first: IpAddr,
    bits: u8,
}

impl Block {
    /// The block that has only `address`.
    pub const fn of(address: IpAddr) -> Self {
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { first: address, bits }
    }

    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(segments: [u16; 8], bits: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = segments;
        Self { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
    }

    /// An address, or a block as `10.0.0.0/8`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((address, bits)) = text.split_once('/') else {
            let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is no IP address"))?;
            return Ok(Self::of(address.to_canonical()));
        };
        let first: IpAddr = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
        let most = Self::of(first).bits;
        let plain = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = plain.then(|| bits.parse::<u8>().ok()).flatten().filter(|bits| *bits <= most);
        let bits = bits.ok_or_else(|| format!("{text:?} is no block of addresses: /0 to /{most}"))?;
        let block = Self { first, bits };
        if block.masked(first) != block.whole(first) {
            return Err(format!("{text:?} has bits set beyond its first {bits}"));
        }
        match first {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err("write an IPv4 block as IPv4".to_owned()),
            _ => Ok(block),
        }
    }

    fn whole(self, address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => v6.into(),
        }
    }

    fn masked(self, address: IpAddr) -> u128 {
        let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
        self.whole(address) & mask
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.masked(address) == self.masked(self.first)
    }

    /// Whether all of `other` is in it.
    fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.first)
    }
}

/// The special blocks and what each is: IANA's registries of special-purpose addresses, and the one metadata
/// service that has an address of the internet.
const SPECIAL: [(Block, &str); 28] = [
    (Block::v4(0, 0, 0, 0, 8), "unspecified"),
    (Block::v4(10, 0, 0, 0, 8), "private"),
    (Block::v4(100, 64, 0, 0, 10), "of a provider's own network"),
    (Block::v4(127, 0, 0, 0, 8), "loopback"),
    (Block::v4(168, 63, 129, 16, 32), "of a metadata service"),
    (Block::v4(169, 254, 0, 0, 16), "link-local"),
    (Block::v4(172, 16, 0, 0, 12), "private"),
    (Block::v4(192, 0, 0, 0, 24), "reserved"),
    (Block::v4(192, 0, 2, 0, 24), "for documentation"),
    (Block::v4(192, 88, 99, 0, 24), "a relay's"),
    (Block::v4(192, 168, 0, 0, 16), "private"),
    (Block::v4(198, 18, 0, 0, 15), "for benchmarks"),
    (Block::v4(198, 51, 100, 0, 24), "for documentation"),
    (Block::v4(203, 0, 113, 0, 24), "for documentation"),
    (Block::v4(224, 0, 0, 0, 4), "multicast"),
    (Block::v4(240, 0, 0, 0, 4), "reserved"),
    // With :: and ::1, and the IPv4-compatible ones that nothing uses any more.
    (Block::v6([0; 8], 96), "loopback, or unspecified"),
    (Block::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "of a translator's own network"),
    (Block::v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "for discarding"),
    // With Teredo, which carries an IPv4 address in disguise.
    (Block::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "for protocols"),
    (Block::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation"),
    (Block::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a tunnel's"),
    (Block::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
    (Block::v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "for segment routing"),
    (Block::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private"),
    (Block::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (Block::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (Block::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

/// What `address` is, if it is special.
pub fn special(address: IpAddr) -> Option<&'static str> {
    SPECIAL.into_iter().find(|(block, _)| block.contains(address)).map(|(_, what)| what)
}

/// Whether `block` is one that says a special address: a part of one of the special blocks.
pub fn says_special(block: Block) -> bool {
    SPECIAL.into_iter().any(|(special, _)| special.covers(block))
}

/// The IPv4 address that `address` carries, where the network would take it out: translators (NAT64, RFC 6052)
/// and tunnels (ISATAP, RFC 5214). Those of 6to4 and Teredo are special whatever they carry, and a mapped address is
/// the IPv4 address.
pub fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let segments = v6.segments();
    let translated = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let tunnelled = matches!(segments[4..6], [0 | 0x200, 0x5efe]);
    let last = (u32::from(segments[6]) << 16) | u32::from(segments[7]);
    (translated || tunnelled).then(|| last.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse::<IpAddr>().unwrap().to_canonical()
    }

    #[test]
    fn blocks() {
        let block = |text: &str| Block::parse(text).unwrap();
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "fe80::1", "8.8.8.8"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("::ffff:192.0.2.7", "192.0.2.7", "::1"),
            ("fd00::/8", "fdff::1", "fc00::1"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
        ] {
            assert!(block(text).contains(ip(inside)) && !block(text).contains(ip(outside)), "{text}");
        }
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10/8", "::/129", "x", "::ffff:0:0/96"] {
            assert!(Block::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_special() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2002:7f00:1::",
            "2001::7f00:1",
            "64:ff9b:1::7f00:1",
        ] {
            assert!(special(ip(text)).is_some(), "{text}");
        }
        for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"] {
            assert!(special(ip(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn what_an_address_carries() {
        assert_eq!(carried(ip("64:ff9b::169.254.169.254")), Some(Ipv4Addr::new(169, 254, 169, 254)));
        assert_eq!(carried(ip("2606:4700::5efe:127.0.0.1")), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(carried(ip("2606:4700::200:5efe:127.0.0.1")), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(carried(ip("2606:4700::1111")), None);
    }

    #[test]
    fn only_a_part_of_a_special_block_says_it() {
        for (text, says) in [
            ("127.0.0.1", true),
            ("127.0.0.0/8", true),
            ("10.1.0.0/16", true),
            ("0.0.0.0/0", false),
            ("126.0.0.0/7", false),
            ("::1", true),
            ("::/0", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(says_special(Block::parse(text).unwrap()), says, "{text}");
        }
    }
}
