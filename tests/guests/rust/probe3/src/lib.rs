//! A command of WASI 0.3. Does one thing that a test asks for by name, through the interfaces of 0.3 alone.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use wasip3::cli::{environment, exit, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::random::random;
use wasip3::sockets::{ip_name_lookup, types as sockets};
use wasip3::{wit_bindgen, wit_stream};

wasip3::cli::command::export!(Probe);

struct Probe;

impl wasip3::exports::cli::run::Guest for Probe {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        let arg = |n: usize| args.get(n).map_or("", String::as_str);
        match args.get(1).map_or("hello", String::as_str) {
            "hello" => say("hello").await,
            "args" => say(&args.join("\n")).await,
            "env" => {
                let env = environment::get_environment();
                say(&env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")).await;
            }
            "exit" => exit::exit_with_code(arg(2).parse().unwrap()),
            "fail" => return Err(()),
            "both" => {
                say("to stdout").await;
                complain("to stderr\n").await;
            }
            "cat" => cat().await,
            "tty" => tty().await,
            "tick" => tick().await,
            "flood" => flood().await,
            "leave" => {
                wit_bindgen::spawn_local(async {
                    monotonic_clock::wait_for(1_000_000_000_000).await;
                });
                say("left").await;
            }
            "panic" => panic!("told to"),
            "files" => files(arg(2), arg(3)).await,
            "trap" => core::arch::wasm32::unreachable(),
            "spin" => {
                say("spinning").await;
                loop {
                    std::hint::black_box(());
                }
            }
            "sleep" => {
                say("sleeping").await;
                monotonic_clock::wait_for(arg(2).parse::<u64>().unwrap_or(1000) * 1_000_000_000).await;
            }
            "time" => say(&format!("{} {}", system_clock::now().seconds, monotonic_clock::now())).await,
            "random" => say(&random::get_random_bytes(16).iter().map(|b| format!("{b:02x}")).collect::<String>()).await,
            "read" => read(arg(2)).await,
            "write" => said(write(arg(2), arg(3)).await).await,
            "list" => list(arg(2)).await,
            "mkdir" => said(mkdir(arg(2)).await).await,
            "unlink" => said(unlink(arg(2)).await).await,
            "rename" => said(rename(arg(2), arg(3)).await).await,
            "connect" => said(connect(arg(2), arg(3)).await).await,
            "listen" => said(listen(arg(2))).await,
            "resolve" => said(resolve(arg(2)).await).await,
            other => {
                complain(&format!("probe3: nothing is called {other}\n")).await;
                exit::exit_with_code(99);
            }
        }
        Ok(())
    }
}

/// Writes a line to standard output, to its end.
async fn say(line: &str) {
    let (mut sender, receiver) = wit_stream::new();
    let written = stdout::write_via_stream(receiver);
    sender.write_all(format!("{line}\n").into_bytes()).await;
    drop(sender);
    written.await.ok();
}

async fn complain(text: &str) {
    let (mut sender, receiver) = wit_stream::new();
    let written = stderr::write_via_stream(receiver);
    sender.write_all(text.as_bytes().to_vec()).await;
    drop(sender);
    written.await.ok();
}

/// Says "ok", or the name of the error.
async fn said<E: std::fmt::Debug>(result: Result<(), E>) {
    match result {
        Ok(()) => say("ok").await,
        Err(error) => say(&format!("{error:?}")).await,
    }
}

/// Copies standard input to standard output as it comes.
async fn cat() {
    let (mut input, end) = stdin::read_via_stream();
    let (mut output, receiver) = wit_stream::new();
    let written = stdout::write_via_stream(receiver);
    loop {
        let (status, chunk) = input.read(Vec::with_capacity(65536)).await;
        if !output.write_all(chunk).await.is_empty() || status == wit_bindgen::StreamResult::Dropped {
            break;
        }
    }
    drop(output);
    written.await.unwrap();
    end.await.unwrap();
}

/// Which of the three streams are terminals.
async fn tty() {
    let input = terminal_stdin::get_terminal_stdin().is_some();
    let output = terminal_stdout::get_terminal_stdout().is_some();
    let error = terminal_stderr::get_terminal_stderr().is_some();
    say(&[input, output, error].map(|is| if is { "1" } else { "0" }).concat()).await;
}

/// A timer goes on while nothing comes from standard input; ends with the first line.
async fn tick() {
    let (mut input, _end) = stdin::read_via_stream();
    let tick = async {
        for n in 0..3 {
            monotonic_clock::wait_for(5_000_000).await;
            say(&format!("tick {n}")).await;
        }
    };
    let read = async {
        let (_, bytes) = input.read(Vec::with_capacity(100)).await;
        bytes
    };
    let ((), bytes) = both(tick, read).await;
    say(&format!("read {}", String::from_utf8_lossy(&bytes).trim_end())).await;
}

/// Both of two futures, in turn.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(move |context| {
        if of_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            of_a = Some(value);
        }
        if of_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            of_b = Some(value);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (left, right) => {
                (of_a, of_b) = (left, right);
                Poll::Pending
            }
        }
    })
    .await
}

/// Writes to standard output until nobody reads it; says why that was on standard error.
async fn flood() {
    let (mut sender, receiver) = wit_stream::new();
    let written = stdout::write_via_stream(receiver);
    while sender.write_all(vec![b'y'; 65536]).await.is_empty() {}
    drop(sender);
    complain(&format!("{:?}\n", written.await)).await;
}

/// What `work files` does, through streams.
async fn files(path: &str, what: &str) {
    let path = |name: String| format!("{path}/{name}");
    let mut sum = 0;
    if what != "small" {
        let piece: Vec<u8> = (0..65536).map(|i| (i * 31 + 7) as u8).collect();
        for n in 0..2 {
            fill(&path(format!("big{n}")), &piece, 1024).await.unwrap();
            sum += drain(&path(format!("big{n}"))).await.unwrap();
            unlink(&path(format!("big{n}"))).await.unwrap();
        }
    }
    if what != "big" {
        for n in 0..2000 {
            let text = format!("the content of file {n}\n");
            fill(&path(format!("small{n}")), text.as_bytes(), 1).await.unwrap();
        }
        for n in 0..2000 {
            sum += drain(&path(format!("small{n}"))).await.unwrap();
        }
        for n in 0..2000 {
            unlink(&path(format!("small{n}"))).await.unwrap();
        }
    }
    say(&sum.to_string()).await;
}

async fn fill(path: &str, piece: &[u8], pieces: usize) -> Result<(), ErrorCode> {
    let file = open(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE).await?;
    let (mut sender, receiver) = wit_stream::new();
    let written = file.write_via_stream(receiver, 0);
    for _ in 0..pieces {
        assert!(sender.write_all(piece.to_vec()).await.is_empty());
    }
    drop(sender);
    written.await
}

async fn drain(path: &str) -> Result<u64, ErrorCode> {
    let (mut content, end) = open(path, OpenFlags::empty(), DescriptorFlags::READ).await?.read_via_stream(0);
    let mut sum = 0;
    let mut buffer = Vec::with_capacity(65536);
    loop {
        buffer.clear();
        let (status, read) = content.read(buffer).await;
        sum += read.len() as u64;
        buffer = read;
        if status == wit_bindgen::StreamResult::Dropped {
            break;
        }
    }
    end.await?;
    Ok(sum)
}

/// The directory that was given for `path`, and what remains of it below.
fn find(path: &str) -> Result<(Descriptor, String), ErrorCode> {
    let given = preopens::get_directories();
    let below = |name: &str| {
        let rest = path.strip_prefix(name)?;
        (name.ends_with('/') || rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_owned())
    };
    let found = given.into_iter().filter_map(|(directory, name)| Some((name.len(), directory, below(&name)?)));
    let (_, directory, rest) = found.max_by_key(|(length, ..)| *length).ok_or(ErrorCode::NoEntry)?;
    Ok((directory, if rest.is_empty() { ".".into() } else { rest }))
}

async fn open(path: &str, how: OpenFlags, rights: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
    let (directory, rest) = find(path)?;
    directory.open_at(PathFlags::SYMLINK_FOLLOW, rest, how, rights).await
}

async fn read(path: &str) {
    match open(path, OpenFlags::empty(), DescriptorFlags::READ).await {
        Err(error) => say(&format!("{error:?}")).await,
        Ok(file) => {
            let (content, end) = file.read_via_stream(0);
            let written = stdout::write_via_stream(content);
            written.await.unwrap();
            end.await.unwrap();
        }
    }
}

async fn write(path: &str, text: &str) -> Result<(), ErrorCode> {
    let file = open(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE).await?;
    let (mut sender, receiver) = wit_stream::new();
    let written = file.write_via_stream(receiver, 0);
    sender.write_all(text.as_bytes().to_vec()).await;
    drop(sender);
    written.await
}

async fn list(path: &str) {
    match open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await {
        Err(error) => say(&format!("{error:?}")).await,
        Ok(directory) => {
            let (entries, end) = directory.read_directory();
            let mut names: Vec<String> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
            names.sort();
            say(&names.join("\n")).await;
            end.await.unwrap();
        }
    }
}

async fn mkdir(path: &str) -> Result<(), ErrorCode> {
    let (directory, rest) = find(path)?;
    directory.create_directory_at(rest).await
}

async fn unlink(path: &str) -> Result<(), ErrorCode> {
    let (directory, rest) = find(path)?;
    directory.unlink_file_at(rest).await
}

async fn rename(from: &str, to: &str) -> Result<(), ErrorCode> {
    let (old, from) = find(from)?;
    let (new, to) = find(to)?;
    old.rename_at(from, &new, to).await
}

/// `connect ADDRESS PORT`, of IPv4.
async fn connect(address: &str, port: &str) -> Result<(), sockets::ErrorCode> {
    let socket = sockets::TcpSocket::create(sockets::IpAddressFamily::Ipv4)?;
    socket.connect(ipv4(address, port)).await
}

/// `listen PORT`, on 127.0.0.1.
fn listen(port: &str) -> Result<(), sockets::ErrorCode> {
    let socket = sockets::TcpSocket::create(sockets::IpAddressFamily::Ipv4)?;
    socket.bind(ipv4("127.0.0.1", port))?;
    socket.listen().map(drop)
}

fn ipv4(address: &str, port: &str) -> sockets::IpSocketAddress {
    let [a, b, c, d] = address.parse::<std::net::Ipv4Addr>().unwrap().octets();
    sockets::IpSocketAddress::Ipv4(sockets::Ipv4SocketAddress { port: port.parse().unwrap(), address: (a, b, c, d) })
}

async fn resolve(name: &str) -> Result<(), ip_name_lookup::ErrorCode> {
    ip_name_lookup::resolve_addresses(name.into()).await.map(drop)
}
