//! HTTP servers in WebAssembly, of both versions of `wasi:http`: what their clients see, and that none of them can do
//! harm to the others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use crate::support::guests::{self, Target};
use crate::support::{PATIENCE, Wherry, eventually, images};

/// A server that runs in the background, and where it is.
struct Served<'a> {
    wherry: &'a Wherry,
    name: &'static str,
    address: SocketAddr,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// Whether it was there as a whole.
    whole: bool,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }
}

impl<'a> Served<'a> {
    fn start(wherry: &'a Wherry, name: &'static str, guest: &Path, flags: &[&str]) -> Self {
        let guest = guest.display().to_string();
        let run = ["run", "-d", "--name", name, "-p", "127.0.0.1::8080"];
        wherry.ok(run.iter().chain(flags).copied().chain([guest.as_str()]));
        Self { wherry, name, address: address_of(wherry, name) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    /// The answer to a whole request.
    fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        let mut writing = stream.try_clone().unwrap();
        let request = request.to_vec();
        // A server that refuses a request does not read all of it.
        let writer = thread::spawn(move || writing.write_all(&request).ok());
        let answer = read(&mut BufReader::new(&mut stream));
        writer.join().unwrap();
        answer
    }

    fn is_well(&self) {
        let answer = self.get("/");
        assert_eq!((answer.status, answer.text()), (200, "hello".to_owned()), "{answer:?}");
    }

    fn says(&self) -> String {
        let output = self.wherry.call(["logs", self.name]);
        output.stdout + &output.stderr
    }
}

fn address_of(wherry: &Wherry, name: &str) -> SocketAddr {
    let ports = wherry.inspect(name)["NetworkSettings"]["Ports"]["8080/tcp"].clone();
    let text = |key: &str| ports[0][key].as_str().unwrap_or_else(|| panic!("{ports}")).to_owned();
    format!("{}:{}", text("HostIp"), text("HostPort")).parse().unwrap()
}

/// Reads one answer.
fn read(from: &mut impl BufRead) -> Answer {
    let mut answer = Answer { status: 0, head: String::new(), body: Vec::new(), whole: false };
    loop {
        let mut line = String::new();
        match from.read_line(&mut line) {
            Ok(1..) if line.trim_end().is_empty() => break,
            Ok(1..) => answer.head.push_str(&line.to_ascii_lowercase()),
            _ => return answer,
        }
    }
    answer.status = answer.head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    if answer.head.contains("transfer-encoding: chunked") {
        loop {
            let Some(chunk) = chunk(from) else { return answer };
            answer.whole = chunk.is_empty();
            if answer.whole {
                return answer;
            }
            answer.body.extend(chunk);
        }
    }
    let length =
        answer.head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    answer.whole = from.read_exact(&mut body).is_ok();
    answer.body = body;
    answer
}

fn chunk(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let length = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut chunk = vec![0; length + 2];
    from.read_exact(&mut chunk).ok()?;
    chunk.truncate(length);
    Some(chunk)
}

/// The same over HTTP/2, by a client that knows.
fn http2(address: SocketAddr, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    #[derive(Clone)]
    struct Here;
    impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Here {
        fn execute(&self, future: F) {
            tokio::spawn(future);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let io = wasmtime_wasi_http::io::TokioIo::new(stream);
        let (mut client, connection) = hyper::client::conn::http2::handshake(Here, io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://test{path}")).body(Full::new(Bytes::from(body))).unwrap();
        let answer = client.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
    })
}

fn both() -> [std::path::PathBuf; 2] {
    [guests::rust("http2", Target::P2), guests::rust("http3", Target::P3)]
}

#[test]
fn both_versions_answer_over_both_protocols() {
    let wherry = Wherry::new();
    for (name, guest) in ["two", "three"].into_iter().zip(both()) {
        let served = Served::start(&wherry, name, &guest, &[]);
        served.is_well();
        let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        assert!(served.post("/echo", &bytes).body == bytes, "{name}");
        assert_eq!(http2(served.address, "/", Vec::new()), (200, b"hello\n".to_vec()), "{name}");
        assert!(http2(served.address, "/echo", bytes.clone()) == (200, bytes), "{name}");
        assert_eq!(served.get("/status/404").status, 404, "{name}");
    }
}

#[test]
fn bodies_stream_both_ways_at_once() {
    let wherry = Wherry::new();
    for (name, guest) in ["two", "three"].into_iter().zip(both()) {
        let served = Served::start(&wherry, name, &guest, &[]);
        let mut writing = served.connect();
        let mut reading = BufReader::new(writing.try_clone().unwrap());
        writing.write_all(b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let mut line = String::new();
        for word in ["first", "other"] {
            writing.write_all(format!("5\r\n{word}\r\n").as_bytes()).unwrap();
            while line.is_empty() {
                // The head comes with the first of it.
                reading.read_line(&mut line).unwrap();
                while line.trim_end() != "" && !line.starts_with('5') {
                    line.clear();
                    reading.read_line(&mut line).unwrap();
                }
                if line.trim_end().is_empty() {
                    line.clear();
                }
            }
            line.clear();
            let mut echoed = [0; 7];
            reading.read_exact(&mut echoed).unwrap();
            assert_eq!(std::str::from_utf8(&echoed).unwrap().trim_end(), word, "{name}");
        }
        writing.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(chunk(&mut reading).as_deref(), Some(&[][..]), "{name}");
    }
}

#[test]
fn no_request_sees_what_another_left_unless_it_may() {
    let wherry = Wherry::new();
    for (name, again, guest) in
        [("two", "two-again", 0), ("three", "three-again", 1)].map(|(n, a, at)| (n, a, both()[at].clone()))
    {
        let served = Served::start(&wherry, name, &guest, &[]);
        for _ in 0..3 {
            assert_eq!(served.get("/counter").text(), "1", "{name}");
        }
        // Of one connection, so that it is one worker's instance.
        let served = Served::start(&wherry, again, &guest, &["--instance-reuse", "3"]);
        let mut stream = BufReader::new(served.connect());
        let counted = (0..5).map(|_| {
            stream.get_mut().write_all(b"GET /counter HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
            read(&mut stream).text()
        });
        assert_eq!(counted.collect::<Vec<_>>(), ["1", "2", "3", "1", "2"], "{name}");
    }
}

#[test]
fn a_request_that_is_too_much_is_refused() {
    let wherry = Wherry::new();
    let flags =
        ["--max-request-body", "10k", "--max-response-body", "20k", "--max-headers", "20", "--max-header-size", "8k"];
    let served = Served::start(&wherry, "limited", &both()[0], &flags);
    assert_eq!(served.post("/echo", &[0; 10 << 10]).status, 200);
    assert_eq!(served.post("/echo", &[0; (10 << 10) + 1]).status, 413);
    let long =
        [&b"POST /silent HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n8000\r\n"[..], &[b'x'; 0x8000]]
            .concat();
    // Nobody knows its length, and its guest does not read it.
    assert_eq!(served.send(&[&long[..], b"\r\n0\r\n\r\n"].concat()).status, 500);
    let headers = |count: usize, length: usize| {
        let fields: String = (0..count).map(|at| format!("x-{at}: {}\r\n", "a".repeat(length))).collect();
        served.send(format!("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{fields}\r\n").as_bytes()).status
    };
    assert_eq!((headers(10, 10), headers(25, 10), headers(10, 1000)), (200, 431, 431));
    assert!(served.get("/big/20480").whole);
    let cut = served.get("/big/200000");
    assert!(cut.status == 200 && !cut.whole && cut.body.len() <= 20480, "{} {}", cut.whole, cut.body.len());
    assert_eq!(served.send(b"GET / HTTP/1.1\r\n\r\n").status, 400);
    served.is_well();
}

#[test]
fn more_requests_than_allowed_are_told_to_come_again() {
    let wherry = Wherry::new();
    let served = Served::start(&wherry, "busy", &both()[0], &["--max-requests", "4"]);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let asking: Vec<_> = (0..12).map(|_| scope.spawn(|| served.get("/slow/1500"))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap().status).collect()
    });
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((count(200), count(503)), (4, 8), "{statuses:?}");
    served.is_well();
}

#[test]
fn two_hundred_at_once_are_served() {
    let wherry = Wherry::new();
    for (name, guest) in ["two", "three"].into_iter().zip(both()) {
        let served = Served::start(&wherry, name, &guest, &[]);
        let whole = thread::scope(|scope| {
            let asking: Vec<_> = (0..200).map(|_| scope.spawn(|| served.get("/slow/300"))).collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).filter(|a| a.text() == "slow").count()
        });
        assert_eq!(whole, 200, "{name}");
    }
}

#[test]
fn a_trap_ends_its_request_and_says_where() {
    let wherry = Wherry::new();
    for (name, guest) in ["two", "three"].into_iter().zip(both()) {
        let served = Served::start(&wherry, name, &guest, &[]);
        assert_eq!(served.get("/trap").status, 500, "{name}");
        eventually("the trap is in the log", || served.says().contains("unreachable").then_some(()));
        assert!(served.says().contains("backtrace"), "{}", served.says());
        assert_eq!(served.get("/print").status, 200);
        eventually("so is what it printed", || served.says().contains("to stdout").then_some(()));
        served.is_well();
    }
    let silent = Served::start(&wherry, "silent", &both()[0], &[]);
    assert_eq!(silent.get("/silent").status, 500);
}

#[test]
fn a_guest_without_an_end_is_ended_while_others_are_served() {
    let wherry = Wherry::new();
    for (name, guest) in ["two", "three"].into_iter().zip(both()) {
        let served = Served::start(&wherry, name, &guest, &["--request-timeout", "2s"]);
        thread::scope(|scope| {
            let looping: Vec<_> = (0..4).map(|_| scope.spawn(|| served.get("/loop"))).collect();
            while looping.iter().any(|one| !one.is_finished()) {
                served.is_well();
            }
            for one in looping {
                assert_eq!(one.join().unwrap().status, 504, "{name}");
            }
        });
        assert_eq!(served.get("/slow/60000").status, 504, "{name}");
    }
}

#[test]
fn a_client_that_is_too_slow_is_left() {
    let wherry = Wherry::new();
    let served = Served::start(&wherry, "patient", &both()[0], &["--client-timeout", "1s"]);
    let mut slow: Vec<TcpStream> = (0..50).map(|_| served.connect()).collect();
    let began = Instant::now();
    for (at, stream) in slow.iter_mut().enumerate() {
        let said: &[u8] = if at % 2 == 0 { b"GET / HTTP/1.1\r\nhost: te" } else { b"" };
        stream.write_all(said).unwrap();
    }
    served.is_well();
    for stream in &mut slow {
        // An answer that says so or none: the connection ends.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it is ended by the server");
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    served.is_well();
}

#[test]
fn streams_that_are_reset_at_once_cost_nobody_anything() {
    let wherry = Wherry::new();
    let served = Served::start(&wherry, "reset", &both()[0], &[]);
    let mut attacker = served.connect();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    attack.extend(frame(4, 0, 0, &[]));
    for stream in (1..20_000).step_by(2) {
        // GET http://x/loop, by the static table and two literals; then RST_STREAM (CVE-2023-44487).
        attack.extend(frame(1, 5, stream, b"\x82\x86\x04\x05/loop\x01\x01x"));
        attack.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
    }
    // It may be cut off before it has said everything.
    attacker.write_all(&attack).ok();
    for _ in 0..20 {
        served.is_well();
    }
    drop(attacker);
    assert_eq!(wherry.status("reset").as_deref(), Some("running"));
}

#[test]
fn stop_lets_requests_finish() {
    let wherry = Wherry::new();
    for (name, guest) in ["two", "three"].into_iter().zip(both()) {
        let served = Served::start(&wherry, name, &guest, &[]);
        let mut asking = BufReader::new(served.connect());
        asking.get_mut().write_all(b"GET /drip/12 HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        // The answer has begun, so the request is being served.
        asking.fill_buf().unwrap();
        wherry.ok(["stop", name]);
        let answer = read(&mut asking);
        assert!(answer.whole && answer.text().lines().count() == 12, "{answer:?}");
        assert_eq!(wherry.inspect(name)["State"]["ExitCode"], 0, "{name}");
        assert!(TcpStream::connect(served.address).is_err(), "{name}");
    }
}

#[test]
fn stop_does_not_wait_for_ever() {
    let wherry = Wherry::new();
    let served = Served::start(&wherry, "endless", &both()[0], &["--drain-timeout", "300ms"]);
    let mut asking = BufReader::new(served.connect());
    asking.get_mut().write_all(b"GET /drip/10000 HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    asking.fill_buf().unwrap();
    let began = Instant::now();
    wherry.ok(["stop", "endless"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(wherry.inspect("endless")["State"]["ExitCode"], 0);
    let killed = Served::start(&wherry, "killed", &both()[0], &[]);
    wherry.ok(["kill", killed.name]);
    wherry.until("killed", "exited");
    assert_eq!(wherry.inspect("killed")["State"]["ExitCode"], 137);
}

#[test]
fn ports_are_published_as_docker_publishes_them() {
    let wherry = Wherry::new();
    let guest = both()[0].clone();
    let served = Served::start(&wherry, "first", &guest, &[]);
    let port = served.address.port();
    let line = format!("127.0.0.1:{port}->8080/tcp");
    assert_eq!(wherry.ok(["ps", "--format", "{{.Ports}}"]), line);
    let file = guest.display().to_string();
    let taken = format!("127.0.0.1:{port}:8080");
    let second = wherry.call(["run", "-d", "--name", "second", "-p", &taken, &file]).expect(125);
    second.complains(&[&format!("Bind for 127.0.0.1:{port} failed: port is already allocated")]);
    wherry.ok(["stop", "first"]);
    assert!(!wherry.ok(["ps", "--all"]).contains(&line));
    // The port is free again, and a start takes it again, or another that is free.
    wherry.ok(["start", "second"]);
    assert_eq!(address_of(&wherry, "second").port(), port);
    wherry.ok(["start", "first"]);
    assert_ne!(address_of(&wherry, "first").port(), port);
    Served { wherry: &wherry, name: "first", address: address_of(&wherry, "first") }.is_well();
    wherry.ok(["run", "-d", "--name", "all", "-P", &file]);
    assert_eq!(wherry.inspect("all")["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostIp"], "0.0.0.0");
}

#[test]
fn what_cannot_be_published_is_refused() {
    let server = both()[0].display().to_string();
    let command = guests::rust("report", Target::P1).display().to_string();
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    for (publish, what, status, words) in [
        ("8080:8080/udp", &server, 125, "UDP"),
        ("8080-8090:8080", &server, 125, "range"),
        ("no.address:80:8080", &server, 125, "IP address"),
        ("8080:9999", &server, 125, "it is served on 8080"),
        ("8080:8080", &command, 125, "no server"),
        ("8080:8080", &image, 125, "not offered by this version"),
    ] {
        wherry.call(["run", "--rm", "-p", publish, what]).expect(status).complains(&[words]);
    }
    for flag in ["--max-headers=0", "--request-timeout=never", "--instance-reuse=0"] {
        wherry.call(["run", "--rm", flag, &server]).expect(125).complains(&["invalid value"]);
    }
}

#[test]
fn without_a_container_it_is_served_as_well() {
    let wherry = Wherry::new();
    let file = both()[1].display().to_string();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let running = wherry.start(["run", "--rm", "-p", &format!("127.0.0.1:{port}:8080"), &file]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("it listens", || TcpStream::connect(address).ok().map(drop));
    Served { wherry: &wherry, name: "", address }.is_well();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(running.child.id() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    running.finish().expect(0);
}
