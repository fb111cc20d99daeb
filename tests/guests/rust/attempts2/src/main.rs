//! Tries what its arguments say, one after the other, through the interfaces of WASI 0.2 themselves: a line for each,
//! "ok", the name of an error, or "absent" for what 0.2 has no function for.
//!
//! An attempt is words with bars between: `read|/rw|../secret`. The first path is a directory that was given, the
//! second is passed on as it is.

use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};
use wasip2::sockets::network::{
    ErrorCode as NetError, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use wasip2::sockets::udp::OutgoingDatagram;
use wasip2::sockets::{instance_network, ip_name_lookup, tcp, tcp_create_socket, udp_create_socket};

fn main() {
    for attempt in std::env::args().skip(1) {
        let words: Vec<&str> = attempt.split('|').collect();
        match words[..] {
            ["time"] => {
                let (now, start) = (wall_clock::now(), monotonic_clock::now());
                monotonic_clock::subscribe_duration(20_000_000).block();
                let elapsed = monotonic_clock::now() - start;
                println!("{}.{:09} {elapsed}", now.seconds, now.nanoseconds);
            }
            ["random"] => println!("{:?}", wasip2::random::random::get_random_bytes(16)),
            _ => match perform(&words) {
                Some(Ok(())) => println!("ok"),
                Some(Err(error)) => println!("{error}"),
                None => println!("absent"),
            },
        }
    }
}

fn perform(words: &[&str]) -> Option<Result<(), String>> {
    match *words {
        ["read" | "write" | "writer" | "create" | "truncate" | "size" | "list" | "mkdir" | "rmdir" | "unlink"
        | "readlink" | "stat" | "times", at, path] => Some(file(words[0], at, path).map_err(text)),
        ["rename", at, path, to, new] => Some(two(at, to, |at, to| at.rename_at(path, to, new)).map_err(text)),
        ["link", at, path, to, new] => {
            Some(two(at, to, |at, to| at.link_at(PathFlags::empty(), path, to, new)).map_err(text))
        }
        ["symlink", target, at, path] => Some(given(at).and_then(|at| at.symlink_at(target, path)).map_err(text)),
        ["env", name] => Some(std::env::var(name).map(drop).map_err(text)),
        ["tcp", address] => Some(connect(address).map_err(text)),
        ["bind-tcp", address] => Some(bind_tcp(address).map(drop).map_err(text)),
        ["listen", address] => Some(listen(address).map_err(text)),
        ["udp", address] => Some(send(address, false).map_err(text)),
        ["udp-connect", address] => Some(send(address, true).map_err(text)),
        ["bind-udp", address] => Some(bind_udp(address).map_err(text)),
        ["resolve", name] => Some(resolve(name).map_err(text)),
        ["http", url] => Some(http(url)),
        _ => None,
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

fn given(name: &str) -> Result<Descriptor, ErrorCode> {
    let found = preopens::get_directories().into_iter().find(|(_, known)| known == name);
    found.map(|(directory, _)| directory).ok_or(ErrorCode::NoEntry)
}

fn two(
    at: &str,
    to: &str,
    change: impl FnOnce(&Descriptor, &Descriptor) -> Result<(), ErrorCode>,
) -> Result<(), ErrorCode> {
    change(&given(at)?, &given(to)?)
}

fn file(what: &str, at: &str, path: &str) -> Result<(), ErrorCode> {
    let at = given(at)?;
    let follow = PathFlags::SYMLINK_FOLLOW;
    let open = |how, rights| at.open_at(follow, path, how, rights);
    let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
    let none = OpenFlags::empty();
    match what {
        "read" => open(none, read)?.read(16, 0).map(drop),
        "write" => open(none, write)?.write(b"from the guest", 0).map(drop),
        "writer" => open(none, read)?.write(b"from the guest", 0).map(drop),
        "create" => open(OpenFlags::CREATE | OpenFlags::EXCLUSIVE, read | write).map(drop),
        "truncate" => open(OpenFlags::TRUNCATE, read).map(drop),
        "size" => open(none, read)?.set_size(0),
        "list" => open(OpenFlags::DIRECTORY, read)?.read_directory()?.read_directory_entry().map(drop),
        "mkdir" => at.create_directory_at(path),
        "rmdir" => at.remove_directory_at(path),
        "unlink" => at.unlink_file_at(path),
        "readlink" => at.readlink_at(path).map(drop),
        "stat" => at.stat_at(follow, path).map(drop),
        _ => at.set_times_at(follow, path, NewTimestamp::Now, NewTimestamp::Now),
    }
}

fn parsed(address: &str) -> IpSocketAddress {
    match address.parse().unwrap() {
        std::net::SocketAddr::V4(v4) => {
            let [a, b, c, d] = v4.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) })
        }
        std::net::SocketAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.ip().segments();
            let address = (a, b, c, d, e, f, g, h);
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port: v6.port(), flow_info: 0, address, scope_id: 0 })
        }
    }
}

fn family(address: &IpSocketAddress) -> IpAddressFamily {
    match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

/// Every address of the family, and a port that the kernel picks.
fn anywhere(address: &IpSocketAddress) -> IpSocketAddress {
    match address {
        IpSocketAddress::Ipv4(_) => parsed("0.0.0.0:0"),
        IpSocketAddress::Ipv6(_) => parsed("[::]:0"),
    }
}

fn network() -> Network {
    instance_network::instance_network()
}

/// Until it is done.
fn finished<T>(wait: impl Fn(), mut finish: impl FnMut() -> Result<T, NetError>) -> Result<T, NetError> {
    loop {
        match finish() {
            Err(NetError::WouldBlock) => wait(),
            done => return done,
        }
    }
}

fn connect(address: &str) -> Result<(), NetError> {
    let address = parsed(address);
    let socket = tcp_create_socket::create_tcp_socket(family(&address))?;
    socket.start_connect(&network(), address)?;
    finished(|| socket.subscribe().block(), || socket.finish_connect()).map(drop)
}

fn bind_tcp(address: &str) -> Result<tcp::TcpSocket, NetError> {
    let address = parsed(address);
    let socket = tcp_create_socket::create_tcp_socket(family(&address))?;
    socket.start_bind(&network(), address)?;
    finished(|| socket.subscribe().block(), || socket.finish_bind())?;
    Ok(socket)
}

fn listen(address: &str) -> Result<(), NetError> {
    let socket = bind_tcp(address)?;
    socket.start_listen()?;
    finished(|| socket.subscribe().block(), || socket.finish_listen())
}

fn send(address: &str, connected: bool) -> Result<(), NetError> {
    let address = parsed(address);
    let socket = udp_create_socket::create_udp_socket(family(&address))?;
    socket.start_bind(&network(), anywhere(&address))?;
    finished(|| socket.subscribe().block(), || socket.finish_bind())?;
    let (_incoming, outgoing) = socket.stream(connected.then_some(address))?;
    while outgoing.check_send()? == 0 {
        outgoing.subscribe().block();
    }
    let remote_address = (!connected).then_some(address);
    outgoing.send(&[OutgoingDatagram { data: b"x".to_vec(), remote_address }]).map(drop)
}

fn bind_udp(address: &str) -> Result<(), NetError> {
    let address = parsed(address);
    let socket = udp_create_socket::create_udp_socket(family(&address))?;
    socket.start_bind(&network(), address)?;
    finished(|| socket.subscribe().block(), || socket.finish_bind())
}

fn resolve(name: &str) -> Result<(), NetError> {
    let stream = ip_name_lookup::resolve_addresses(&network(), name)?;
    finished(|| stream.subscribe().block(), || stream.resolve_next_address()).map(drop)
}

fn http(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(text)?;
    request.set_authority(Some(authority)).map_err(text)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(text)?;
    let answer = outgoing_handler::handle(request, None).map_err(text)?;
    answer.subscribe().block();
    let response = answer.get().unwrap().unwrap().map_err(text)?;
    if response.status() == 200 { Ok(()) } else { Err(format!("status {}", response.status())) }
}
