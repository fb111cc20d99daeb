//! Names of hosts, resolved by us: with the host's configuration, its hosts file, and the time to live that an
//! answer has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;

use super::super::grant::network::Name;

/// The most lookups at a time: each holds a socket. Others wait.
const MAX_LOOKUPS: usize = 16;
/// The most addresses of one name that are used: more than any answer over UDP has.
const MAX_ADDRESSES: usize = 64;
/// The most answers that are kept: each is some hundred bytes.
const MAX_ANSWERS: u64 = 1_000;
/// The longest that an answer is believed, as resolvers have it (RFC 8767, 4: a week is the cap that it names).
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the two addresses of this machine are those of this machine.
const ALWAYS: Duration = LONGEST;

/// How this machine finds the addresses of names.
#[derive(Clone, Debug, Default)]
pub struct Names(Option<Arc<Configuration>>);

#[derive(Debug)]
struct Configuration {
    servers: ResolverConfig,
    options: ResolverOpts,
    hosts: Arc<Hosts>,
}

impl Names {
    /// Reads the host's configuration. Without one, names are those of its hosts file.
    pub fn read() -> io::Result<Self> {
        let found = hickory_resolver::system_conf::read_system_conf();
        let none = || (ResolverConfig::from_parts(None, vec![], vec![]), ResolverOpts::default());
        let (servers, options) = found.unwrap_or_else(|_| none());
        let hosts = match Hosts::from_system() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Hosts::default(),
            hosts => hosts?,
        };
        Ok(Self(Some(Arc::new(Configuration { servers, options, hosts: Arc::new(hosts) }))))
    }
}

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Unresolved {
    /// It was not granted.
    Denied,
    /// There is no such name, or it has no address.
    NotFound,
    /// No answer now.
    Temporary,
    /// No answer ever.
    Permanent,
}

/// The resolver of one program, made when it is first asked.
#[derive(Default)]
pub(super) struct Resolver {
    names: Names,
    made: OnceLock<Option<TokioResolver>>,
    turns: Turns,
}

struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(MAX_LOOKUPS))
    }
}

impl Resolver {
    pub(super) fn new(names: Names) -> Self {
        Self { names, ..Self::default() }
    }

    /// The addresses of `name`, and until when they are.
    pub(super) async fn resolve(&self, name: &Name) -> Result<(Vec<IpAddr>, Instant), Unresolved> {
        if name.is_localhost() {
            // Never asked of anybody (RFC 6761, 6.3).
            return Ok((vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], Instant::now() + ALWAYS));
        }
        let resolver = self.made.get_or_init(|| make(&self.names)).as_ref().ok_or(Unresolved::Permanent)?;
        let _turn = self.turns.0.acquire().await.map_err(|_| Unresolved::Temporary)?;
        let found = resolver.lookup_ip(name.as_str()).await.map_err(|error| unresolved(&error))?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found.iter().map(|address| address.to_canonical()).take(MAX_ADDRESSES) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err(Unresolved::NotFound) } else { Ok((addresses, found.valid_until())) }
    }
}

fn make(names: &Names) -> Option<TokioResolver> {
    let Configuration { servers, options, hosts } = names.0.as_deref()?;
    let mut builder = TokioResolver::builder_with_config(servers.clone(), TokioRuntimeProvider::default());
    let ours = builder.options_mut();
    *ours = options.clone();
    ours.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    ours.use_hosts_file = ResolveHosts::Never;
    ours.cache_size = MAX_ANSWERS;
    ours.positive_max_ttl = Some(LONGEST);
    let mut resolver = builder.build().ok()?;
    resolver.set_hosts(hosts.clone());
    Some(resolver)
}

fn unresolved(error: &NetError) -> Unresolved {
    match error {
        error if error.is_no_records_found() => Unresolved::NotFound,
        NetError::Proto(_) => Unresolved::Permanent,
        _ => Unresolved::Temporary,
    }
}
