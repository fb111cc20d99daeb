//! Tries what its arguments say, one after the other, through the interfaces of WASI 0.3 themselves: a line for each,
//! "ok", the name of an error, or "absent" for what 0.3 has no function for.
//!
//! An attempt is words with bars between: `read|/rw|../secret`. The first path is a directory that was given, the
//! second is passed on as it is.

use wasip3::cli::{environment, stdout};
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};
use wasip3::http::client;
use wasip3::http::types::{Fields, Request, Scheme};
use wasip3::random::random;
use wasip3::sockets::ip_name_lookup;
use wasip3::sockets::types::{
    ErrorCode as NetError, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket, UdpSocket,
};
use wasip3::{wit_future, wit_stream};

wasip3::cli::command::export!(Attempts);

struct Attempts;

impl wasip3::exports::cli::run::Guest for Attempts {
    async fn run() -> Result<(), ()> {
        let mut lines = String::new();
        for attempt in environment::get_arguments().into_iter().skip(1) {
            let words: Vec<&str> = attempt.split('|').collect();
            let line = match words[..] {
                ["time"] => {
                    let (now, start) = (system_clock::now(), monotonic_clock::now());
                    monotonic_clock::wait_for(20_000_000).await;
                    format!("{}.{:09} {}", now.seconds, now.nanoseconds, monotonic_clock::now() - start)
                }
                ["random"] => format!("{:?}", random::get_random_bytes(16)),
                _ => match perform(&words).await {
                    Some(Ok(())) => "ok".to_owned(),
                    Some(Err(error)) => error,
                    None => "absent".to_owned(),
                },
            };
            lines.push_str(&line);
            lines.push('\n');
        }
        let (mut sender, receiver) = wit_stream::new();
        let written = stdout::write_via_stream(receiver);
        sender.write_all(lines.into_bytes()).await;
        drop(sender);
        written.await.map_err(drop)
    }
}

async fn perform(words: &[&str]) -> Option<Result<(), String>> {
    Some(match *words {
        ["read" | "write" | "writer" | "create" | "truncate" | "size" | "list" | "mkdir" | "rmdir" | "unlink"
        | "readlink" | "stat" | "times", at, path] => file(words[0], at, path).await.map_err(text),
        ["rename", at, path, to, new] => match (given(at), given(to)) {
            (Ok(at), Ok(to)) => at.rename_at(path.into(), &to, new.into()).await.map_err(text),
            _ => Err("NoEntry".into()),
        },
        ["link", at, path, to, new] => match (given(at), given(to)) {
            (Ok(at), Ok(to)) => at.link_at(PathFlags::empty(), path.into(), &to, new.into()).await.map_err(text),
            _ => Err("NoEntry".into()),
        },
        ["symlink", target, at, path] => match given(at) {
            Ok(at) => at.symlink_at(target.into(), path.into()).await.map_err(text),
            Err(error) => Err(text(error)),
        },
        ["env", name] => {
            let known = environment::get_environment().into_iter().any(|(known, _)| known == name);
            if known { Ok(()) } else { Err("unset".into()) }
        }
        ["tcp", address] => connect(address).await.map_err(text),
        ["bind-tcp", address] => bind_tcp(address).map(drop).map_err(text),
        ["listen", address] => bind_tcp(address).and_then(|socket| socket.listen().map(drop)).map_err(text),
        ["udp", address] => send(address, false).await.map_err(text),
        ["udp-connect", address] => send(address, true).await.map_err(text),
        ["bind-udp", address] => bind_udp(address).map_err(text),
        ["resolve", name] => ip_name_lookup::resolve_addresses(name.into()).await.map(drop).map_err(text),
        ["http", url] => http(url).await,
        _ => return None,
    })
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

fn given(name: &str) -> Result<Descriptor, ErrorCode> {
    let found = preopens::get_directories().into_iter().find(|(_, known)| known == name);
    found.map(|(directory, _)| directory).ok_or(ErrorCode::NoEntry)
}

async fn file(what: &str, at: &str, path: &str) -> Result<(), ErrorCode> {
    let at = given(at)?;
    let follow = PathFlags::SYMLINK_FOLLOW;
    let open = async |how, rights| at.open_at(follow, path.into(), how, rights).await;
    let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
    let none = OpenFlags::empty();
    match what {
        "read" => {
            let (content, end) = open(none, read).await?.read_via_stream(0);
            content.collect().await;
            end.await
        }
        "write" => put(open(none, write).await?).await,
        "writer" => put(open(none, read).await?).await,
        "create" => open(OpenFlags::CREATE | OpenFlags::EXCLUSIVE, read | write).await.map(drop),
        "truncate" => open(OpenFlags::TRUNCATE, read).await.map(drop),
        "size" => open(none, read).await?.set_size(0).await,
        "list" => {
            let (entries, end) = open(OpenFlags::DIRECTORY, read).await?.read_directory();
            entries.collect().await;
            end.await
        }
        "mkdir" => at.create_directory_at(path.into()).await,
        "rmdir" => at.remove_directory_at(path.into()).await,
        "unlink" => at.unlink_file_at(path.into()).await,
        "readlink" => at.readlink_at(path.into()).await.map(drop),
        "stat" => at.stat_at(follow, path.into()).await.map(drop),
        _ => at.set_times_at(follow, path.into(), NewTimestamp::Now, NewTimestamp::Now).await,
    }
}

async fn put(file: Descriptor) -> Result<(), ErrorCode> {
    let (mut sender, receiver) = wit_stream::new();
    let written = file.write_via_stream(receiver, 0);
    sender.write_all(b"from the guest".to_vec()).await;
    drop(sender);
    written.await
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

async fn connect(address: &str) -> Result<(), NetError> {
    let address = parsed(address);
    TcpSocket::create(family(&address))?.connect(address).await
}

fn bind_tcp(address: &str) -> Result<TcpSocket, NetError> {
    let address = parsed(address);
    let socket = TcpSocket::create(family(&address))?;
    socket.bind(address)?;
    Ok(socket)
}

async fn send(address: &str, connected: bool) -> Result<(), NetError> {
    let address = parsed(address);
    let socket = UdpSocket::create(family(&address))?;
    if connected {
        socket.connect(address)?;
    }
    socket.send(b"x".to_vec(), (!connected).then_some(address)).await
}

fn bind_udp(address: &str) -> Result<(), NetError> {
    let address = parsed(address);
    UdpSocket::create(family(&address))?.bind(address)
}

async fn http(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let (_trailers, none) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, none, None);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(text)?;
    request.set_authority(Some(authority)).map_err(text)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(text)?;
    let response = client::send(request).await.map_err(text)?;
    if response.get_status_code() == 200 { Ok(()) } else { Err(format!("status {}", response.get_status_code())) }
}
