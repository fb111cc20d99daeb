//! What a Wasm program is given beside files: settings, stores of values, and HTTP with the errors that WASI has for it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::Wherry;
use crate::support::guests::{self, Target};

fn lines(wherry: &Wherry, flags: &[&str], program: &str, words: &[&str]) -> Vec<String> {
    wherry.ok([&["run", "--rm"], flags, &[program], words].concat()).lines().map(str::to_owned).collect()
}

#[test]
fn settings_are_those_that_were_given() {
    let (wherry, program) = (Wherry::new(), guests::rust("given2", Target::P2).display().to_string());
    let words = ["config", "config|color", "config|missing"];
    assert_eq!(lines(&wherry, &[], &program, &words), ["[]", "None", "None"]);
    let flags = ["--config", "color=red=ish", "--config", "color.dark=", "--label", "wherry.config.size=1,2"];
    let said = lines(&wherry, &flags, &program, &words);
    assert_eq!(said[0], r#"[("color", "red=ish"), ("color.dark", ""), ("size", "1,2")]"#);
    assert_eq!(said[1..], [r#"Some("red=ish")"#, "None"]);
    wherry.call(["run", "--rm", "--config", "color", &program]).expect(125).complains(&["NAME=VALUE"]);
}

#[test]
fn a_store_is_kept_in_a_volume() {
    let (wherry, program) = (Wherry::new(), guests::rust("given2", Target::P2).display().to_string());
    let folder = wherry.folder("state");
    let volume = format!("{}:/state", folder.display());
    let store = ["-v", &volume, "--keyvalue", "=/state/default", "--keyvalue", "other=/state/other"];

    let said = lines(
        &wherry,
        &store,
        &program,
        &["set||../key|value", "get||../key", "exists||x", "many|other", "keys|other"],
    );
    assert_eq!(said, ["ok", "value", "false", "3 2", "[]"]);
    // Another container finds it, and counts on.
    let said = lines(&wherry, &store, &program, &["get||../key", "add||n|40", "add||n|2", "add||../key|1", "keys|"]);
    assert_eq!((&*said[0], &*said[1], &*said[2]), ("value", "40", "42"));
    assert!(said[3].contains("not a number") && said[4] == r#"["../key", "n"]"#, "{said:#?}");
    assert_eq!(fs::read_to_string(folder.join("default/v.n")).unwrap(), "42");

    // No store but those, nothing larger than the limit, and nothing written where it may only be read.
    let said =
        lines(&wherry, &store, &program, &["get|third|x", "large||16777216", "large||16777217", "delete||large"]);
    assert!(said[0].contains("NoSuchStore") && said[1] == "ok" && said[2].contains("larger"), "{said:#?}");
    assert_eq!(said[3], "ok");
    let readonly = format!("{volume}:ro");
    let flags = ["-v", &readonly, "--keyvalue", "=/state/default"];
    let said = lines(&wherry, &flags, &program, &["get||n", "set||n|1", "add||n|1", "delete||n"]);
    assert_eq!(said[0], "42");
    assert!(said[1..].iter().all(|line| line.contains("AccessDenied")), "{said:#?}");
    assert!(lines(&wherry, &[], &program, &["get||n"])[0].contains("NoSuchStore"));
    let outside = wherry.call(["run", "--rm", "-v", &volume, "--keyvalue", "=/elsewhere", &program]);
    outside.expect(125).complains(&["/elsewhere", "volumes", "-v"]);
}

/// A server that says this to everybody, and goes away.
fn server(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                // Whoever has heard enough hangs up.
                stream.write_all(&answer).ok();
            }
        }
    });
    port
}

#[test]
fn what_goes_wrong_with_a_request_is_told() {
    let wherry = Wherry::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let header = format!("HTTP/1.1 200 OK\r\nlarge: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec();
    let [plain, large, cut, redirecting] =
        [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(), header, b"HTTP/1.1 2".to_vec(), redirect]
            .map(server);
    let expected = [
        (format!("http|http://127.0.0.1:{plain}/"), "ok"),
        (format!("http|http://127.0.0.1:{closed}/"), "ConnectionRefused"),
        (format!("http|http://127.0.0.1:{large}/"), "HttpResponseHeaderSectionSize"),
        (format!("http|http://127.0.0.1:{cut}/"), "HttpResponseIncomplete"),
        (format!("http|https://127.0.0.1:{plain}/"), "TlsProtocolError"),
        (format!("http|http://127.0.0.1:{redirecting}/"), "status 302"),
        (format!("http|http://127.0.0.1:{plain}/{}", "x".repeat(40_000)), "HttpRequestUriTooLong"),
        ("http|http://127.0.0.2/".to_owned(), "HttpRequestDenied"),
    ];
    for (name, target) in [("attempts2", Target::P2), ("attempts3", Target::P3)] {
        let program = guests::rust(name, target).display().to_string();
        let attempts: Vec<&str> = expected.iter().map(|(attempt, _)| &**attempt).collect();
        let said = lines(&wherry, &["--allow-net", "127.0.0.1:*"], &program, &attempts);
        let faults: Vec<_> = said.iter().zip(&expected).filter(|(line, (_, code))| !line.contains(code)).collect();
        assert!(faults.is_empty() && said.len() == expected.len(), "{name}: {faults:#?}");
    }
}
