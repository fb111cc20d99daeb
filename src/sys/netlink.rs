//! Network interfaces by rtnetlink(7): which there are, their addresses, and moving one to another network namespace.
//!
//! A message is a header, a fixed part and attributes; the few kinds that are needed here are written and read by
//! hand, by the layouts of linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h. A socket belongs to the network
//! namespace that it was opened in for as long as it lives.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Result, named};

/// NLMSG_GOODSIZE and more: the kernel fills a dump's message up to 32 KiB when there is room (netlink(7)).
const BUFFER: usize = 32 << 10;

/// How often a list that changed while it was read is read again.
const MAX_TRIES: usize = 8;

/// IFNAMSIZ without the zero byte (linux/if.h).
pub const MAX_NAME: usize = 15;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name in its network namespace.
    pub name: String,
    /// `IFF_*`.
    pub flags: u32,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    scope: u8,
    flags: u32,
    /// Type and value of those attributes that make the address up.
    parts: Vec<(u16, Vec<u8>)>,
}

// The attributes of an address that are its own, and not its interface's or its moment's.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

impl Address {
    /// Whether somebody has set it to stay, for the whole network: what runtime-spec has a device keep.
    pub fn is_permanent_and_global(&self) -> bool {
        const PERMANENT: u32 = 0x80;
        const UNIVERSE: u8 = 0;
        self.flags & PERMANENT != 0 && self.scope == UNIVERSE
    }
}

/// A socket to the part of the kernel that has the interfaces of one network namespace.
#[derive(Debug)]
pub struct Route {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl Route {
    /// Opens one in the network namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
        let socket = named(socket, || "socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)".into())?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// Opens one in `netns`. The calling thread goes there and comes back.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self> {
        const OURS: &str = "/proc/thread-self/ns/net";
        let ours = named(std::fs::File::open(OURS), || format!("open({OURS:?})"))?;
        let enter = |netns: BorrowedFd<'_>| {
            let entered = move_into_link_name_space(netns, Some(LinkNameSpaceType::Network));
            named(entered, || format!("setns({}, CLONE_NEWNET)", netns.as_raw_fd()))
        };
        enter(netns)?;
        let opened = Self::open();
        enter(ours.as_fd())?;
        opened
    }

    /// The interfaces.
    pub fn links(&self) -> Result<Vec<Link>> {
        const RTM_GETLINK: u16 = 18;
        let all = self.dump(RTM_GETLINK, &[0; 16], |message| {
            let name = attributes(message.get(16..)?).find(|(kind, _)| *kind == IFLA_IFNAME)?.1;
            let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
            Some(Link { index: number(message, 4)?, name, flags: number(message, 8)? })
        });
        named(all, || "RTM_GETLINK".into())
    }

    /// The addresses of an interface.
    pub fn addresses(&self, link: &Link) -> Result<Vec<Address>> {
        const RTM_GETADDR: u16 = 22;
        let all = self.dump(RTM_GETADDR, &[0; 8], |message| {
            let [family, prefix, flags, scope] = *message.first_chunk()?;
            if number(message, 4)? != link.index {
                return None;
            }
            let all: Vec<_> = attributes(message.get(8..)?).collect();
            let own = |kind: &u16| matches!(*kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST | IFA_RT_PRIORITY);
            let parts = all.iter().filter(|(kind, _)| own(kind)).map(|(kind, value)| (*kind, value.to_vec()));
            let wide = all.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, value)| number(value, 0));
            Some(Address { family, prefix, scope, flags: wide.unwrap_or(flags.into()), parts: parts.collect() })
        });
        named(all, || format!("RTM_GETADDR({:?})", link.name))
    }

    /// Moves an interface to `netns`, where it is called `name`; with `%d` in it, the kernel puts a number there.
    pub fn move_link(&self, link: &Link, name: &str, netns: BorrowedFd<'_>) -> Result<()> {
        let mut body = link_header(link.index, 0);
        attribute(&mut body, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        attribute(&mut body, IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
        named(self.order(RTM_NEWLINK, 0, &body), || {
            format!("RTM_NEWLINK({:?}, IFLA_IFNAME {name:?}, IFLA_NET_NS_FD {})", link.name, netns.as_raw_fd())
        })
    }

    /// Sets an interface up.
    pub fn set_up(&self, link: &Link) -> Result<()> {
        let body = link_header(link.index, libc::IFF_UP as u32);
        named(self.order(RTM_NEWLINK, 0, &body), || format!("RTM_NEWLINK({:?}, IFF_UP)", link.name))
    }

    /// Gives an interface an address.
    pub fn add_address(&self, link: &Link, address: &Address) -> Result<()> {
        const RTM_NEWADDR: u16 = 20;
        const NLM_F_EXCL: u16 = 0x200;
        const NLM_F_CREATE: u16 = 0x400;
        let Address { family, prefix, scope, flags, parts } = address;
        let mut body = vec![*family, *prefix, *flags as u8, *scope];
        body.extend(link.index.to_ne_bytes());
        parts.iter().for_each(|(kind, value)| attribute(&mut body, *kind, value));
        attribute(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
        named(self.order(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body), || {
            format!("RTM_NEWADDR({:?}, {parts:?}/{prefix})", link.name)
        })
    }

    fn dump<T>(&self, kind: u16, body: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> rustix::io::Result<Vec<T>> {
        const NLM_F_DUMP: u16 = 0x300;
        for _ in 0..MAX_TRIES {
            let mut found = Vec::new();
            match self.exchange(kind, NLM_F_DUMP, body, &mut |message| found.extend(read(message))) {
                Err(Errno::INTR) => {}
                done => return done.map(|()| found),
            }
        }
        Err(Errno::INTR)
    }

    fn order(&self, kind: u16, flags: u16, body: &[u8]) -> rustix::io::Result<()> {
        const NLM_F_ACK: u16 = 4;
        self.exchange(kind, NLM_F_ACK | flags, body, &mut |_| {})
    }

    /// Sends one request and takes the answers until the last. EINTR: what was listed changed meanwhile.
    fn exchange(&self, kind: u16, flags: u16, body: &[u8], each: &mut dyn FnMut(&[u8])) -> rustix::io::Result<()> {
        let sequence = self.sequence.get() + 1;
        self.sequence.set(sequence);
        rustix::net::send(&self.socket, &message(kind, flags, sequence, body), SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        let mut changed = false;
        loop {
            let (_, length) =
                rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC))?;
            if length > buffer.len() {
                return Err(Errno::MSGSIZE);
            }
            for Answer { kind, flags, sequence: of, body } in answers(&buffer[..length]) {
                if of != sequence {
                    continue; // an answer to a request that was given up
                }
                changed |= flags & NLM_F_DUMP_INTR != 0;
                match kind {
                    NLMSG_ERROR | NLMSG_DONE => return ended(body, changed),
                    _ => each(body),
                }
            }
        }
    }
}

const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// The length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// One message of the kernel's.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// What the last message says: an errno, negative, or nothing.
fn ended(body: &[u8], changed: bool) -> rustix::io::Result<()> {
    match number(body, 0).map_or(0, |errno| errno.cast_signed()) {
        0 if changed => Err(Errno::INTR),
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(-errno)),
    }
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    const NLM_F_REQUEST: u16 = 1;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes()); // the port: the kernel knows
    bytes.extend(body);
    bytes
}

/// `struct ifinfomsg`: those flags are changed that are set.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    [index, flags, flags].iter().for_each(|field| bytes.extend(field.to_ne_bytes()));
    bytes
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend((4 + value.len() as u16).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = number(bytes, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let half = |at| bytes.get(at..).and_then(|b| b.first_chunk()).map(|b| u16::from_ne_bytes(*b));
        let answer = Answer { kind: half(4)?, flags: half(6)?, sequence: number(bytes, 8)?, body };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    // NLA_TYPE_MASK: the two highest bits say how a value is ordered.
    const TYPE: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & TYPE, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Network namespaces and interfaces to try things on.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// A network namespace that lasts as long as its handle.
    pub fn namespace() -> OwnedFd {
        let make = || {
            crate::sys::process::unshare(libc::CLONE_NEWNET).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap().into()
        };
        std::thread::spawn(make).join().unwrap()
    }

    /// Makes the interface `name` and a peer that it is connected with, which is up, as `name` is then.
    pub fn add_veth(route: &Route, name: &str) -> Link {
        const NLM_F_CREATE: u16 = 0x400;
        const IFLA_LINKINFO: u16 = 18;
        const IFLA_INFO_KIND: u16 = 1;
        let (mut body, mut info) = (link_header(0, libc::IFF_UP as u32), Vec::new());
        attribute(&mut body, IFLA_IFNAME, name.as_bytes());
        attribute(&mut info, IFLA_INFO_KIND, b"veth");
        attribute(&mut body, IFLA_LINKINFO, &info);
        route.order(RTM_NEWLINK, NLM_F_CREATE, &body).unwrap();
        route.links().unwrap().into_iter().find(|link| link.name == name).unwrap()
    }

    /// An address to give; scope 0 is global.
    pub fn address(ip: std::net::IpAddr, prefix: u8, scope: u8) -> Address {
        let (family, bytes) = match ip {
            std::net::IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            std::net::IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        let parts = vec![(IFA_ADDRESS, bytes.clone()), (IFA_LOCAL, bytes)];
        Address { family: family as u8, prefix, scope, flags: 0x80, parts }
    }

    /// The addresses in words, those only that somebody gave.
    pub fn given(route: &Route, link: &Link) -> Vec<String> {
        let text = |bytes: &[u8]| match bytes.len() {
            4 => std::net::IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()).to_string(),
            _ => std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string(),
        };
        let all = route.addresses(link).unwrap();
        let all = all.iter().filter(|address| !(address.family == libc::AF_INET6 as u8 && address.scope != 0));
        all.map(|address| format!("{}/{}", text(&address.parts[0].1), address.prefix)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{add_veth, address, given, namespace};
    use super::*;

    #[test]
    fn a_new_namespace_has_its_loopback_only() {
        let links = Route::open_in(namespace().as_fd()).unwrap().links().unwrap();
        assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["lo"]);
        assert_eq!(links[0].flags & libc::IFF_UP as u32, 0);
    }

    #[test]
    fn the_thread_is_where_it_was_after_opening_elsewhere() {
        let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        Route::open_in(namespace().as_fd()).unwrap();
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
    }

    #[test]
    fn an_address_that_was_read_can_be_given() {
        let netns = namespace();
        let route = Route::open_in(netns.as_fd()).unwrap();
        let (one, other) = (add_veth(&route, "one"), add_veth(&route, "other"));
        route.add_address(&one, &address([10, 1, 2, 3].into(), 24, 0)).unwrap();
        let read = route.addresses(&one).unwrap();
        let read = read.iter().find(|address| address.is_permanent_and_global()).unwrap();
        route.add_address(&other, read).unwrap();
        assert_eq!(given(&route, &other), ["10.1.2.3/24"]);
    }

    #[test]
    fn a_refusal_names_the_interface() {
        let route = Route::open_in(namespace().as_fd()).unwrap();
        let gone = Link { index: 4711, name: "gone".into(), flags: 0 };
        let error = route.set_up(&gone).unwrap_err();
        assert_eq!((error.errno(), error.call.as_str()), (Some(libc::ENODEV), "RTM_NEWLINK(\"gone\", IFF_UP)"));
    }

    #[test]
    fn messages_that_end_too_early_are_read_to_there() {
        let whole = message(RTM_NEWLINK, 0, 7, &link_header(3, 1));
        assert_eq!(answers(&whole).map(|a| (a.kind, a.sequence, a.body.len())).collect::<Vec<_>>(), [(16, 7, 16)]);
        assert_eq!((0..whole.len()).map(|end| answers(&whole[..end]).count()).sum::<usize>(), 0);
        let mut list = Vec::new();
        attribute(&mut list, 3, b"abc\0");
        attribute(&mut list, 4, b"x");
        assert_eq!(attributes(&list).count(), 2);
        for end in 0..list.len() {
            assert!(attributes(&list[..end]).count() < 3);
        }
        assert_eq!(attributes(&[0; 8]).count(), 0, "a length of nothing is no attribute");
    }
}
