//! What a running program reaches of the network: its grants, and what its names have been found to mean.
//!
//! ```text
//!   sockets (0.2, 0.3) ──→ may_use ─┐
//!   ip-name-lookup ──→ resolve ─────┼─→ Access: the grants, the resolver, and what it found, while that is valid
//!   outgoing HTTP ──→ resolve ──────┘
//! ```
//!
//! The process of the engine has no files: the resolver's configuration is read before ([`Names::read`]).

pub(super) mod lookup;
mod names;
pub(super) mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime_wasi::sockets::SocketAddrUse;

pub use names::Names;
use names::Resolver;
pub(super) use names::Unresolved;

use super::grant::network::{Name, Network};

/// How long an address may be connected to after its name was looked up, even if the answer was not valid for as long:
/// a program looks up and then connects.
const SHORTEST: Duration = Duration::from_secs(30);
/// How long somebody who was heard may be answered: the kernel's own idea of a UDP exchange
/// (`nf_conntrack_udp_timeout_stream`).
const ANSWERABLE: Duration = Duration::from_secs(120);
/// The most addresses that are known at a time. A program that looks up more has some of them forgotten.
const MAX_KNOWN: usize = 10_000;

/// A program's access to the network. Clones share what they know.
#[derive(Clone, Default)]
pub(super) struct Access(Arc<Inner>);

#[derive(Default)]
struct Inner {
    network: Network,
    resolver: Resolver,
    known: Mutex<Known>,
}

impl Access {
    pub(super) fn new(network: &Network, names: &Names) -> Self {
        let resolver = Resolver::new(names.clone());
        Self(Arc::new(Inner { network: network.clone(), resolver, known: Mutex::default() }))
    }

    /// Whether there is any at all.
    pub(super) fn is_granted(&self) -> bool {
        self.0.network.is_granted()
    }

    /// Whether a socket may be used so.
    pub(super) fn may_use(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let network = &self.0.network;
        match purpose {
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => network.may_bind(address),
            SocketAddrUse::TcpListen => network.may_listen(address),
            // Whoever comes to a port that is listened at.
            SocketAddrUse::TcpAccept => network.hears_anybody(),
            SocketAddrUse::TcpConnect => self.may_connect(address),
            SocketAddrUse::UdpSend => self.may_connect(address) || self.known().was_heard(address, Instant::now()),
            SocketAddrUse::UdpReceive if self.may_connect(address) => true,
            SocketAddrUse::UdpReceive if network.hears_anybody() => {
                self.known().hear(address, Instant::now());
                true
            }
            SocketAddrUse::UdpReceive => false,
        }
    }

    /// Whether `peer` may be connected to, by what is known now.
    pub(super) fn may_connect(&self, peer: SocketAddr) -> bool {
        let known = self.known();
        let names = known.names_of(peer.ip().to_canonical(), Instant::now());
        self.0.network.may_connect(peer, names)
    }

    /// Whether the host called `name` is one to connect to at `port`.
    pub(super) fn may_name(&self, name: &Name, port: u16) -> bool {
        self.0.network.may_name(name, port)
    }

    /// The addresses of `name`, which may be connected to from now on, as far as they are not special.
    pub(super) async fn resolve(&self, name: &Name) -> Result<Vec<IpAddr>, Unresolved> {
        if !self.0.network.may_resolve(name) {
            return Err(Unresolved::Denied);
        }
        let (addresses, until) = self.0.resolver.resolve(name).await?;
        let now = Instant::now();
        let until = until.max(now + SHORTEST);
        let mut known = self.known();
        for address in &addresses {
            known.learn(*address, name, until, now);
        }
        Ok(addresses)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of addresses, and until when.
#[derive(Default)]
struct Known {
    names: HashMap<(IpAddr, Name), Instant>,
    heard: HashMap<SocketAddr, Instant>,
}

impl Known {
    fn learn(&mut self, address: IpAddr, name: &Name, until: Instant, now: Instant) {
        make_room(&mut self.names, now);
        self.names.insert((address, name.clone()), until);
    }

    fn names_of(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &Name> {
        let valid = move |((known, _), until): &(&(IpAddr, Name), &Instant)| *known == address && **until > now;
        self.names.iter().filter(valid).map(|((_, name), _)| name)
    }

    fn hear(&mut self, from: SocketAddr, now: Instant) {
        make_room(&mut self.heard, now);
        self.heard.insert(from, now + ANSWERABLE);
    }

    fn was_heard(&self, from: SocketAddr, now: Instant) -> bool {
        self.heard.get(&from).is_some_and(|until| *until > now)
    }
}

/// Makes room for one more: what is over goes first, and then whatever there is, so that nobody is let in for long by
/// filling it up.
fn make_room<K>(known: &mut HashMap<K, Instant>, now: Instant) {
    if known.len() >= MAX_KNOWN {
        known.retain(|_, until| *until > now);
    }
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wasm::grant::Grants;

    fn access(word: &str, value: &str) -> Access {
        Access::new(&Grants::parse([(word, value)]).unwrap().network, &Names::default())
    }

    #[test]
    fn what_is_known_of_an_address_ends_and_is_bounded() {
        let (mut known, now) = (Known::default(), Instant::now());
        let (address, name) = (IpAddr::from([1, 2, 3, 4]), Name::parse("example.com").unwrap());
        known.learn(address, &name, now + SHORTEST, now);
        assert_eq!(known.names_of(address, now).collect::<Vec<_>>(), [&name]);
        assert_eq!(known.names_of(address, now + SHORTEST).count(), 0);
        for n in 0..2 * MAX_KNOWN as u32 {
            known.learn(IpAddr::from(n.to_be_bytes()), &name, now + SHORTEST, now);
            assert!(known.names.len() <= MAX_KNOWN);
        }
    }

    #[test]
    fn who_was_heard_may_be_answered_where_one_listens() {
        let peer: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let server = access("wherry.allow-listen", "53");
        assert!(!server.may_use(peer, SocketAddrUse::UdpSend));
        assert!(server.may_use(peer, SocketAddrUse::UdpReceive) && server.may_use(peer, SocketAddrUse::UdpSend));
        let client = access("wherry.allow-net", "1.1.1.1:53");
        assert!(!client.may_use(peer, SocketAddrUse::UdpReceive) && !client.may_use(peer, SocketAddrUse::TcpAccept));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_granted_names_are_looked_up() {
        let access = access("wherry.allow-net", "localhost:80");
        let name = |text| Name::parse(text).unwrap();
        assert_eq!(access.resolve(&name("localhost")).await.unwrap().len(), 2);
        assert!(matches!(access.resolve(&name("example.com")).await, Err(Unresolved::Denied)));
    }
}
