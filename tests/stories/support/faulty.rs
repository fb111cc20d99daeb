//! A proxy before the real registry that spoils some of its answers: what a network, a busy server or an attacker
//! between does. It speaks just enough HTTP/1.1: one request for each connection, no bodies upwards.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use super::registry::registry;

/// What becomes of one answer.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The registry's own.
    None,
    /// This status line and these headers instead, with an error in the registry's form.
    Refuse(&'static str, &'static str),
    /// The registry's, cut after so many bytes of the body.
    Cut(usize),
    /// The registry's, with this byte of the body changed.
    Flip(usize),
    /// A page of HTML that means nothing.
    Page,
}

/// One request that arrived: its path and when.
pub type Seen = (String, Instant);

/// The proxy; it serves until the process ends.
pub struct Faulty {
    /// What stands before the slash of a reference.
    pub host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Faulty {
    /// Starts one. `decide` is told the path and how many requests for it came before.
    pub fn new(decide: impl Fn(&str, usize) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let upstream = registry().host.clone();
        let seen = Arc::new(Mutex::new(Vec::<Seen>::new()));
        let (decide, log) = (Arc::new(decide), seen.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (decide, log, upstream) = (decide.clone(), log.clone(), upstream.clone());
                // A client that hangs up early is part of the play.
                thread::spawn(move || serve(client, &upstream, &log, &*decide).ok());
            }
        });
        Self { host, seen }
    }

    /// The requests for paths that contain this, in order.
    pub fn requests(&self, part: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|(path, _)| path.contains(part)).cloned().collect()
    }
}

fn serve(
    mut client: TcpStream,
    upstream: &str,
    log: &Mutex<Vec<Seen>>,
    decide: &dyn Fn(&str, usize) -> Fault,
) -> io::Result<()> {
    let head = read_head(&mut BufReader::new(&client))?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|(seen, _)| *seen == path).count();
        log.push((path.clone(), Instant::now()));
        before
    };
    match decide(&path, before) {
        Fault::Refuse(status, headers) => {
            let body = r#"{"errors":[{"code":"DENIED","message":"said the proxy"}]}"#;
            answer(&mut client, status, &format!("{headers}Content-Type: application/json\r\n"), body.as_bytes())
        }
        Fault::Page => {
            answer(&mut client, "200 OK", "Content-Type: text/html\r\n", b"<html>Log in to the hotel's network</html>")
        }
        fault => {
            let mut server = TcpStream::connect(upstream)?;
            server.write_all(one_request(&head).as_bytes())?;
            let mut reader = BufReader::new(server);
            let head = read_head(&mut reader)?;
            client.write_all(one_request(&head).as_bytes())?;
            let mut body = Vec::new();
            reader.read_to_end(&mut body)?;
            match fault {
                Fault::Cut(length) => body.truncate(length),
                Fault::Flip(at) if at < body.len() => body[at] ^= 1,
                _ => {}
            }
            client.write_all(&body)
        }
    }
}

fn answer(client: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(client, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    client.write_all(body)
}

/// A request's or an answer's lines, to the empty one.
fn read_head(from: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The same head, for a connection that ends after it.
fn one_request(head: &str) -> String {
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:") && !line.is_empty());
    kept.chain(["Connection: close", ""]).map(|line| format!("{line}\r\n")).collect()
}
