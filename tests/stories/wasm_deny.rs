//! What a Wasm program was not granted it does not get: everything forbidden that can be tried from inside, by a program
//! of each version of WASI, and beside each denial the same with a grant, so that it is no accident.
//!
//! The programs are `tests/guests/rust/attempts1` to `3`. They call the functions of WASI themselves, past the library of
//! their language, and say of each attempt "ok", an error, or "absent" if their WASI has no such function.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::guests::{self, Target};
use crate::support::{Running, Wherry};

/// With `/rw` and `/ro` given, and nothing else. Around them is what [`around`] makes.
const FILES: [&str; 66] = [
    // Above and beside what was given.
    "read|/rw|../secret",
    "read|/rw|sub/../../secret",
    "read|/rw|../rw/../secret",
    "read|/rw|./../secret",
    "read|/rw|../ro/file",
    "stat|/rw|../secret",
    "stat|/rw|..",
    "list|/rw|..",
    "list|/rw|../",
    "list|/rw|sub/../..",
    "create|/rw|../new",
    "mkdir|/rw|../new",
    "mkdir|/rw|../new/",
    "rmdir|/rw|../empty",
    "unlink|/rw|../secret",
    "truncate|/rw|../secret",
    "write|/rw|../secret",
    "times|/rw|../secret",
    "rename|/rw|mine|/rw|../moved",
    "rename|/rw|../secret|/rw|taken",
    "link|/rw|../secret|/rw|taken",
    "link|/rw|mine|/rw|../linked",
    "symlink|mine|/rw|../symlink",
    "readlink|/rw|../link",
    // By absolute names.
    "read|/rw|/etc/passwd",
    "read|/rw|//etc/passwd",
    "read|/rw|/rw/mine",
    "stat|/rw|/",
    "create|/rw|/tmp/new",
    "symlink|/etc/passwd|/rw|absolute",
    // By links that lead out, with a slash at their end or without (GHSA-vqjp).
    "read|/rw|out",
    "read|/rw|out/",
    "read|/rw|chain",
    "read|/rw|above/secret",
    "read|/rw|passwd",
    "read|/rw|passwd/",
    "read|/rw|environ",
    "read|/rw|null",
    "list|/rw|above",
    "list|/rw|above/",
    "list|/rw|root",
    "list|/rw|root/",
    "write|/rw|out",
    "truncate|/rw|out",
    "times|/rw|out",
    "create|/rw|above/new",
    "mkdir|/rw|above/new/",
    "unlink|/rw|above/secret",
    "rename|/rw|mine|/rw|above/moved",
    // Directories that were not given.
    "read|/proc|self/environ",
    "read|/dev|null",
    "read|/|etc/passwd",
    // What is given to be read, alone and together with what is not (GHSA-4ch3, GHSA-2r75).
    "write|/ro|file",
    "create|/ro|new",
    "truncate|/ro|file",
    "size|/ro|file",
    "mkdir|/ro|new",
    "rmdir|/ro|empty",
    "unlink|/ro|file",
    "times|/ro|file",
    "symlink|file|/ro|new",
    "rename|/ro|file|/ro|new",
    "rename|/ro|file|/rw|taken",
    "rename|/rw|mine|/ro|mine",
    "link|/ro|file|/rw|taken",
    "link|/rw|mine|/ro|mine",
];

/// And what can be tried without a path.
const OTHERS: [&str; 14] = [
    "writer|/rw|mine",
    "writer|/ro|file",
    "env|SECRET",
    "env|PATH",
    "env|HOME",
    "env|WHERRY_ROOT",
    "descriptor|5",
    "descriptor|6",
    "descriptor|9",
    "descriptor|1000",
    "accept|0",
    "accept|3",
    "shutdown|0",
    "exec|/bin/sh",
];

/// TCP and UDP stand for ports at which somebody listens on this machine.
const NETWORK: [&str; 30] = [
    "tcp|127.0.0.1:TCP",
    "tcp|0.0.0.0:TCP",
    "tcp|[::1]:TCP",
    "tcp|[::]:TCP",
    "tcp|169.254.169.254:80",
    "tcp|[fd00:ec2::254]:80",
    "tcp|192.0.2.1:443",
    "tcp|8.8.8.8:53",
    "udp|127.0.0.1:UDP",
    "udp|8.8.8.8:53",
    "udp|255.255.255.255:UDP",
    "udp|224.0.0.1:UDP",
    "udp-connect|127.0.0.1:UDP",
    "bind-tcp|0.0.0.0:8099",
    "bind-tcp|127.0.0.1:8099",
    "listen|127.0.0.1:8099",
    "bind-udp|0.0.0.0:8099",
    "bind-udp|127.0.0.1:8099",
    "resolve|localhost",
    "resolve|example.com",
    "resolve|metadata.google.internal",
    "resolve|secret-of-the-guest.example.com",
    "http|http://127.0.0.1:TCP/",
    "http|http://localhost:TCP/",
    "http|http://[::1]:TCP/",
    "http|http://[::ffff:127.0.0.1]:TCP/",
    "http|http://2130706433:TCP/",
    "http|http://0x7f000001:TCP/",
    "http|http://169.254.169.254/latest/meta-data/",
    "http|https://example.com/",
];

/// Where forbidden things are, and what leads there.
fn around(folder: &Path) {
    for directory in ["rw/sub", "ro/empty", "empty"] {
        fs::create_dir_all(folder.join(directory)).unwrap();
    }
    for (file, text) in [("secret", "secret"), ("rw/mine", "mine"), ("ro/file", "read only")] {
        fs::write(folder.join(file), text).unwrap();
    }
    for (target, link) in [
        ("secret", "link"),
        ("../secret", "rw/out"),
        ("sub/up", "rw/chain"),
        ("../../secret", "rw/sub/up"),
        ("..", "rw/above"),
        ("/", "rw/root"),
        ("/etc/passwd", "rw/passwd"),
        ("/proc/self/environ", "rw/environ"),
        ("/dev/null", "rw/null"),
    ] {
        symlink(target, folder.join(link)).unwrap();
    }
}

/// All that can be seen of a tree: what each thing is, what is in it, and when it was changed.
fn seen(folder: &Path) -> BTreeMap<String, (u32, u64, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let about = path.symlink_metadata().unwrap();
        let content = if about.is_file() {
            fs::read(&path).unwrap()
        } else if about.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        };
        let about = (about.mode(), about.nlink(), about.mtime(), about.mtime_nsec(), content);
        all.insert(path.strip_prefix(folder).unwrap().display().to_string(), about);
    }
    all
}

/// The program of each version of WASI, with the version.
fn programs() -> [(u8, String); 3] {
    [("attempts1", Target::P1), ("attempts2", Target::P2), ("attempts3", Target::P3)]
        .map(|(name, target)| (name.as_bytes()[8] - b'0', guests::rust(name, target).display().to_string()))
}

/// What a program says of its attempts.
fn tried(command: &mut Command, attempts: &[String]) -> Vec<String> {
    let output = Running::start(command.args(attempts).env("SECRET", "of the host")).finish().expect(0);
    let lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), attempts.len(), "{output}");
    lines
}

/// All of them are denied. What a version has no function for is as good, but only where that is so.
fn denied(version: u8, command: &mut Command, attempts: &[String]) {
    let faults: Vec<String> = tried(command, attempts)
        .iter()
        .zip(attempts)
        .filter(|(line, attempt)| {
            let word = attempt.split('|').next().unwrap();
            let has = match word {
                "exec" => false,
                "descriptor" | "accept" | "shutdown" => version == 1,
                "tcp" | "udp" | "udp-connect" | "bind-tcp" | "bind-udp" | "listen" | "resolve" | "http" => version != 1,
                _ => true,
            };
            *line == "ok" || (*line == "absent") == has
        })
        .map(|(line, attempt)| format!("0.{version}: {attempt}: {line}"))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

fn granted(version: u8, command: &mut Command, attempts: &[String]) {
    let lines = tried(command, attempts);
    let faults: Vec<_> = lines.iter().zip(attempts).filter(|(line, _)| *line != "ok").collect();
    assert!(faults.is_empty(), "0.{version}: {faults:#?}");
}

fn owned(attempts: &[&str]) -> Vec<String> {
    attempts.iter().map(|&attempt| attempt.to_owned()).collect()
}

#[test]
fn nothing_of_the_host_is_read_or_changed() {
    for (version, program) in programs() {
        let wherry = Wherry::new();
        let folder = wherry.folder("around");
        around(&folder);
        let before = seen(&folder);
        let (rw, ro) = (format!("{}/rw:/rw", folder.display()), format!("{}/ro:/ro:ro", folder.display()));
        let attempts = [owned(&FILES), owned(&OTHERS)].concat();
        denied(version, &mut wherry.command(["run", "--rm", "-v", &rw, "-v", &ro, &program]), &attempts);
        assert_eq!(seen(&folder), before, "0.{version}");
        assert!(!Path::new("/tmp/new").exists());
    }
}

#[test]
fn what_is_given_can_be_used() {
    let uses = owned(&[
        "read|/rw|mine",
        "write|/rw|mine",
        "stat|/rw|mine",
        "times|/rw|mine",
        "list|/rw|.",
        "list|/rw|sub/",
        "create|/rw|new",
        "rename|/rw|new|/rw|sub/moved",
        "read|/rw|sub/../sub/moved",
        "link|/rw|sub/moved|/rw|linked",
        "symlink|sub/moved|/rw|symlink",
        "read|/rw|symlink",
        "readlink|/rw|symlink",
        "unlink|/rw|symlink",
        "mkdir|/rw|directory",
        "rmdir|/rw|directory",
        "read|/ro|file",
        "stat|/ro|file",
        "list|/ro|.",
        "env|GIVEN",
    ]);
    for (version, program) in programs() {
        let wherry = Wherry::new();
        let folder = wherry.folder("around");
        around(&folder);
        let (rw, ro) = (format!("{}/rw:/rw", folder.display()), format!("{}/ro:/ro:ro", folder.display()));
        let args = ["run", "--rm", "-e", "GIVEN=1", "-v", &rw, "-v", &ro, &program];
        granted(version, &mut wherry.command(args), &uses);
        assert_eq!(fs::read_to_string(folder.join("rw/mine")).unwrap(), "from the guest", "0.{version}");
        // A container with an image's root filesystem and a supervisor is no different.
        denied(
            version,
            &mut wherry.command(["run", "--rm", "--name", "tried", "-v", &rw, "-v", &ro, &program]),
            &owned(&FILES),
        );
    }
}

/// Somebody on this machine who answers HTTP, and counts who comes.
struct Neighbour {
    tcp: u16,
    udp: u16,
    came: Arc<AtomicUsize>,
    datagrams: UdpSocket,
}

impl Neighbour {
    fn new() -> Self {
        let (listener, datagrams) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        datagrams.set_nonblocking(true).unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let (tcp, udp) = (listener.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
        let count = came.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                // Some only connect, and are gone before they are answered.
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok();
                }
            }
        });
        Self { tcp, udp, came, datagrams }
    }

    fn attempts(&self, attempts: &[&str]) -> Vec<String> {
        let port = |attempt: &&str| attempt.replace("TCP", &self.tcp.to_string()).replace("UDP", &self.udp.to_string());
        attempts.iter().map(port).collect()
    }

    /// How often somebody came since the last time.
    fn visits(&self) -> usize {
        let mut datagrams = 0;
        while self.datagrams.recv(&mut [0; 16]).is_ok() {
            datagrams += 1;
        }
        self.came.swap(0, Ordering::SeqCst) + datagrams
    }
}

#[test]
fn nobody_is_talked_to() {
    let (neighbour, wherry) = (Neighbour::new(), Wherry::new());
    let attempts = neighbour.attempts(&NETWORK);
    let everywhere = format!("*:*,0.0.0.0/0:*,[::/0]:*,127.0.0.1:{}", neighbour.tcp ^ 1);
    // What is not special is left out: it is granted, and not there.
    let special =
        |attempt: &&str| !["192.0.2.1", "8.8.8.8", "example.com", "google"].iter().any(|host| attempt.contains(host));
    let special: Vec<&str> =
        NETWORK.into_iter().filter(special).filter(|attempt| *attempt != "resolve|localhost").collect();
    for (version, program) in programs() {
        for network in ["none", "host"] {
            denied(version, &mut wherry.command(["run", "--rm", "--network", network, &program]), &attempts);
        }
        let special = neighbour.attempts(&special);
        denied(version, &mut wherry.command(["run", "--rm", "--allow-net", &everywhere, &program]), &special);
        assert_eq!(neighbour.visits(), 0, "0.{version}");
    }
}

#[test]
fn who_is_granted_is_talked_to_and_nobody_else() {
    let (neighbour, wherry) = (Neighbour::new(), Wherry::new());
    let (other, free) = (Neighbour::new(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let grant = format!("localhost:{},127.0.0.1:{}", neighbour.tcp, neighbour.udp);
    let listen = format!("127.0.0.1:{free}");
    let uses = neighbour.attempts(&[
        "tcp|127.0.0.1:TCP",
        "udp|127.0.0.1:UDP",
        "udp-connect|127.0.0.1:UDP",
        "resolve|localhost",
        "http|http://127.0.0.1:TCP/",
        "http|http://localhost:TCP/",
        &format!("bind-tcp|{listen}"),
        &format!("listen|{listen}"),
        &format!("bind-udp|{listen}"),
    ]);
    let others = other.attempts(&[
        "tcp|127.0.0.1:TCP",
        "udp|127.0.0.1:UDP",
        "http|http://localhost:TCP/",
        "listen|127.0.0.1:8099",
    ]);
    for (version, program) in &programs()[1..] {
        let args = ["run", "--rm", "--allow-net", &grant, "--allow-listen", &listen, program];
        granted(*version, &mut wherry.command(args), &uses);
        assert_eq!(neighbour.visits(), 5, "0.{version}");
        denied(*version, &mut wherry.command(args), &others);
        // An operator's label says the same, and so does an annotation.
        let label = format!("wherry.allow-net={grant}");
        for flag in ["--label", "--annotation"] {
            granted(*version, &mut wherry.command(["run", "--rm", flag, &label, program]), &uses[..2]);
            assert_eq!(neighbour.visits(), 2, "0.{version} {flag}");
        }
        let refused = wherry.call(["run", "--rm", "--network", "none", "--allow-net", &grant, program]);
        refused.expect(125).complains(&["without a network", "--network host"]);
    }
    assert_eq!(other.visits(), 0);
}

/// A resolver for the machine that wherry sees: it knows one name, which leads to this machine, and counts who asks.
fn resolver() -> (String, Arc<AtomicUsize>) {
    // An address of its own: the usual one may be taken, by the machine's resolver or by another run of this.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = format!("127.53.{high}.{low}");
    let socket = UdpSocket::bind((&*address, 53)).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            count.fetch_add(1, Ordering::SeqCst);
            let question = &packet[12..length];
            let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
            let known = question.starts_with(b"\x06rebind\x04test\x00\x00\x01");
            // An answer, authoritative; to whom it does not know there is no such name.
            let flags = if known { [0x84, 0x00] } else { [0x84, 0x03] };
            let mut answer = [&packet[..2], &flags, &[0, 1, 0, u8::from(known), 0, 0, 0, 0], &question[..end]].concat();
            if known {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    (address, asked)
}

/// Names are resolved by the host's configuration. What they lead to is judged all the same, and no name that was not
/// granted is asked for, so that none carries a secret out.
#[test]
fn a_name_does_not_lead_where_its_owner_likes() {
    let (neighbour, wherry, (address, asked)) = (Neighbour::new(), Wherry::new(), resolver());
    let folder = wherry.folder("etc");
    fs::write(folder.join("hosts"), "127.0.0.1 evil.test\n169.254.169.254 metadata.test\n").unwrap();
    let resolv = format!("nameserver {address}\noptions timeout:1 attempts:1\n");
    fs::write(folder.join("resolv.conf"), resolv).unwrap();
    let script = "mount --bind \"$0/hosts\" /etc/hosts; mount --bind \"$0/resolv.conf\" /etc/resolv.conf; exec \"$@\"";
    let run = |grant: &str, program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", script]).arg(&folder);
        command.args([env!("CARGO_BIN_EXE_wherry"), "run", "--rm", "--allow-net", grant, program]);
        wherry.lend_environment(&mut command);
        command
    };
    let names = "evil.test:*,metadata.test:*,rebind.test:*";
    let requests = neighbour.attempts(&[
        "http|http://evil.test:TCP/",
        "http|http://metadata.test/",
        "http|http://rebind.test:TCP/",
        "http|http://unknown.test:TCP/",
    ]);
    let resolved = owned(&["resolve|evil.test", "resolve|rebind.test"]);
    let and_after = [resolved.clone(), neighbour.attempts(&["tcp|127.0.0.1:TCP"])].concat();
    for (version, program) in &programs()[1..] {
        let said = tried(&mut run(names, program), &requests);
        for line in &said[..3] {
            assert!(line.contains("DestinationIpProhibited"), "0.{version}: {said:#?}");
        }
        assert!(said[3].contains("HttpRequestDenied"), "0.{version}: {said:#?}");
        let said = tried(&mut run(names, program), &and_after);
        assert!(said[0] == "ok" && said[1] == "ok" && said[2] != "ok", "0.{version}: {said:#?}");
        assert_eq!(neighbour.visits(), 0, "0.{version}");

        let both = format!("{names},127.0.0.1:{}", neighbour.tcp);
        granted(*version, &mut run(&both, program), &[&requests[..1], &requests[2..3], &resolved[..]].concat());
        assert_eq!(neighbour.visits(), 2, "0.{version}");

        asked.store(0, Ordering::SeqCst);
        let secret = owned(&["resolve|secret.rebind.test", "resolve|other.test", "http|http://secret.test/"]);
        denied(*version, &mut run(names, program), &secret);
        assert_eq!(asked.load(Ordering::SeqCst), 0, "0.{version}");
        let nowhere =
            tried(&mut run("*.test:80", program), &owned(&["http|http://nowhere.test/", "resolve|nowhere.test"]));
        assert!(
            nowhere[0].contains("DnsError") && nowhere[1].to_lowercase().replace('-', "").contains("nameunresolvable"),
            "0.{version}: {nowhere:#?}"
        );
        assert!(asked.load(Ordering::SeqCst) > 0, "0.{version}");
    }
}

#[test]
fn two_runs_can_be_the_same() {
    let wherry = Wherry::new();
    for (version, program) in programs() {
        let run = |flags: &[&str]| {
            let args = [&["run", "--rm"], flags, &[&program]].concat();
            tried(&mut wherry.command(args), &owned(&["time", "random", "time", "random"]))
        };
        let fixed = run(&["--deterministic"]);
        assert_eq!(fixed, run(&["--deterministic"]), "0.{version}");
        assert!(fixed[0].starts_with("946684800"), "0.{version}: {fixed:#?}");
        // Sleeping is seen: 20 ms, and what looking takes.
        let slept: u64 = fixed[0].split(' ').next_back().unwrap().parse().unwrap();
        assert!((20_000_000..20_100_000).contains(&slept), "0.{version}: {fixed:#?}");
        assert_ne!(run(&["--deterministic=7"])[1], fixed[1], "0.{version}");
        assert_ne!(run(&[]), run(&[]), "0.{version}");
    }
}

/// What an image asks for is shown and grants nothing.
#[test]
fn a_request_is_not_a_grant() {
    let wherry = Wherry::new();
    let (_, program) = &programs()[1];
    let label = "wherry.capabilities=allow-net=*:* everything";
    wherry.ok(["create", "--name", "tried", "--label", label, "--allow-net", "example.com:443", program]);
    let about = wherry.inspect("tried");
    assert_eq!(about["Capabilities"]["Requested"], serde_json::json!(["allow-net=*:*", "everything"]));
    assert_eq!(about["Capabilities"]["Granted"], serde_json::json!(["allow-net=example.com:443"]));
    assert_eq!(about["HostConfig"]["NetworkMode"], "host");
    let neighbour = Neighbour::new();
    let attempts = neighbour.attempts(&["tcp|127.0.0.1:TCP", "resolve|localhost", "http|http://localhost:TCP/"]);
    denied(2, &mut wherry.command(["run", "--rm", "--label", label, program]), &attempts);
    wherry.call(["run", "--rm", "--annotation", "wherry.everything=1", program]).expect(125).complains(&["everything"]);
}
