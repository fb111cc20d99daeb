//! A registry that is after something: credentials, other machines, memory, patience.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::support::standin::{Reply, Request, Server, honest, refusal};
use crate::support::{Output, Wherry};

/// `user:secret`, which must never be seen where it does not belong.
const LOGIN: &str = "dXNlcjpzZWNyZXQ=";

fn pull(host: &str) -> (Wherry, Output) {
    let wherry = Wherry::new();
    let home = wherry.root().join(".docker");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config.json"), json!({"auths": {host: {"auth": LOGIN}}}).to_string()).unwrap();
    let output = wherry.call(["pull", "-q", &format!("{host}/some/app:1")]);
    (wherry, output)
}

fn is_secret(request: &Request) -> bool {
    ["authorization", "cookie", "proxy-authorization"].iter().any(|name| request.headers.contains_key(*name))
        || format!("{request:?}").contains("secret")
}

/// Manifests, blobs and tokens, each redirected in five ways to another port.
#[test]
fn authorization_never_follows_a_redirect() {
    let mut cases = 0;
    for status in [301, 302, 303, 307, 308] {
        for what in ["/manifests/", "/blobs/", "/token"] {
            let elsewhere = Server::new(|request, _| match request.path.as_str() {
                "/token" => Reply::new(200, json!({"token": "nobody"}).to_string()),
                _ => honest(request),
            });
            let other = elsewhere.host.clone();
            let registry = Server::new(move |request, host| {
                let away = || {
                    let target = format!("http://{other}{}?{}", request.path, request.query);
                    Reply::new(status, "").with("Location", target).with("Set-Cookie", "session=secret")
                };
                let challenge = || Reply::challenge(format!(r#"Bearer realm="http://{host}/token",service="s""#));
                match request.path.as_str() {
                    "/token" if what == "/token" => away(),
                    "/token" => Reply::new(200, json!({"token": "ours"}).to_string()),
                    path if request.authorization().starts_with("Bearer ") && path.contains(what) => away(),
                    _ if request.authorization().starts_with("Bearer ") => honest(request),
                    _ => challenge(),
                }
            });
            let (_wherry, output) = pull(&registry.host);
            assert_eq!(output.status, 0, "{status} {what}: {output}");
            let seen = elsewhere.seen();
            assert!(!seen.is_empty() && !seen.iter().any(is_secret), "{status} {what}: {seen:?}");
            cases += 1;
        }
    }
    println!("{cases} redirects");
}

/// Where a redirect, of a manifest or of a blob, must not lead, and what is said.
#[test]
fn redirects_to_where_a_stranger_has_no_business() {
    let mut cases = 0;
    for (target, words) in [
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("https://[fe80::1]/", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("file:///etc/passwd", "names no host"),
        ("ftp://localhost/x", "neither http nor https"),
        ("gopher://localhost:6379/x", "neither http nor https"),
        ("data:text/plain,x", "names no host"),
        ("http://user:secret@localhost/x", "a user or a password"),
        ("http://[", "not an address"),
    ] {
        for what in ["/manifests/", "/blobs/"] {
            let registry = Server::new(move |request, _| match request.path.contains(what) {
                true => Reply::new(307, "").with("Location", target),
                false => honest(request),
            });
            let (wherry, output) = pull(&registry.host);
            let output = output.expect(1).complains(&["redirects to", words]);
            assert!(!output.stderr.contains("root:"), "{output}");
            assert_eq!(wherry.ok(["images", "-q"]), "");
            cases += 1;
        }
    }
    println!("{cases} redirects");
}

#[test]
fn a_realm_is_not_any_address() {
    let listener = Server::new(|_, _| Reply::new(200, json!({"token": "x"}).to_string()));
    let stranger = format!("http://user:secret@{}/token", listener.host);
    let cases = [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("https://169.254.169.254/token", "link-local"),
        ("file:///etc/passwd", "names no host"),
        ("http://registry.invalid/token", "not https"),
        ("ftp://localhost/token", "neither http nor https"),
        ("/token", "not an address"),
        ("", "not an address"),
        (&stranger, "a user or a password"),
    ];
    for (realm, words) in cases {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        let registry = Server::new(move |_, _| Reply::challenge(&challenge));
        let (_wherry, output) = pull(&registry.host);
        output.expect(1).complains(&["credentials sent to", "refused", words]);
        assert!(!registry.seen().iter().any(is_secret), "{:?}", registry.seen());
    }
    assert!(listener.lines().is_empty());
}

#[test]
fn circles_end() {
    for target in ["/v2/some/app/manifests/1", "/v2/some/app/manifests/2"] {
        let registry = Server::new(move |_, _| Reply::new(302, "").with("Location", target));
        let (_wherry, output) = pull(&registry.host);
        output.expect(1).complains(&["redirects", "too many"]);
        assert!(registry.lines().len() < 20);
    }
    // One that never has enough tokens.
    let number = AtomicUsize::new(0);
    let registry = Server::new(move |request, host| match request.path.as_str() {
        "/token" => {
            Reply::new(200, json!({"token": format!("t{}", number.fetch_add(1, Ordering::SeqCst))}).to_string())
        }
        _ => {
            let scope = format!("repository:n{}:pull", number.load(Ordering::SeqCst));
            Reply::challenge(format!(
                r#"Bearer realm="http://{host}/token",scope="{scope}",error="insufficient_scope""#
            ))
        }
    });
    let (_wherry, output) = pull(&registry.host);
    output.expect(1).complains(&["pull access denied"]);
    assert!(registry.lines().len() <= 6, "{:?}", registry.lines());
}

/// Sends a beginning and then the same for ever; how many bytes were taken.
fn flood(beginning: &'static str, again: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = format!("localhost:{}", listener.local_addr().unwrap().port());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let count = count.clone();
            thread::spawn(move || {
                BufReader::new(&client).read_line(&mut String::new()).ok()?;
                client.write_all(beginning.as_bytes()).ok()?;
                let piece = again.repeat(1000);
                // It ends when the client hangs up; a gigabyte is the end of any doubt.
                while count.load(Ordering::SeqCst) < 1 << 30 {
                    client.write_all(piece.as_bytes()).ok()?;
                    count.fetch_add(piece.len(), Ordering::SeqCst);
                }
                Some(())
            });
        }
    });
    (host, taken)
}

#[test]
fn a_gigabyte_is_not_read() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    for (name, beginning, again) in [
        ("headers", "HTTP/1.1 200 OK\r\n", "X-Filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"),
        ("one header", "HTTP/1.1 200 OK\r\nX-Filler: ", "xxxxxxxxxxxxxxxxxxxxxxxx"),
        ("a status line", "HTTP/1.1 200 ", "OK OK OK "),
        ("a manifest", leak(format!("{ok}\r\n")), "                              "),
        ("an error", "HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP, HTTP, HTTP, HTTP, "),
        ("a refusal", "HTTP/1.1 404 Not Found\r\n\r\n", "not found, not found, "),
    ] {
        let (host, taken) = flood(beginning, again);
        let (_wherry, output) = pull(&host);
        let taken = taken.load(Ordering::SeqCst);
        assert!(output.status == 1 && taken < 256 << 20, "{name}: {taken} bytes: {output}");
        assert!(output.stderr.len() < 4096, "{name}: {output}");
        println!("{name}: at most {taken} bytes left the server");
    }
    // A token, by way of an honest registry.
    let (other, taken) = flood("HTTP/1.1 200 OK\r\n\r\n", "                                 ");
    let registry = Server::new(move |_, _| Reply::challenge(format!("Bearer realm=\"http://{other}/token\"")));
    let (_wherry, output) = pull(&registry.host);
    output.expect(1).complains(&["a token is larger than"]);
    assert!(taken.load(Ordering::SeqCst) < 256 << 20);
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn a_catalog_is_searched_and_one_without_end_is_not() {
    let wherry = Wherry::new();
    let catalog = Server::new(|request, _| match request.path.as_str() {
        "/v2/_catalog" if request.query.contains("last=") => {
            Reply::new(200, json!({"repositories": ["web/c", "db/d"]}).to_string())
        }
        "/v2/_catalog" => Reply::new(200, json!({"repositories": ["web/a", "db/b\u{1b}[2J"]}).to_string())
            .with("Link", "</v2/_catalog?last=x&n=1000>; rel=\"next\""),
        _ => refusal(404, "NOT_FOUND", "no such page"),
    });
    let host = &catalog.host;
    let found = wherry.ok(["search", "--format", "{{.Name}}", &format!("{host}/web")]);
    assert_eq!(found, format!("{host}/web/a\n{host}/web/c"));
    let all = wherry.ok(["search", "--no-trunc", "--limit", "3", &format!("{host}/")]);
    assert!(all.starts_with("NAME ") && all.lines().count() == 4 && !all.contains('\u{1b}'), "{all}");
    let endless = Server::new(|request, _| match request.path.as_str() {
        "/v2/_catalog" => {
            let next =
                request.query.bytes().map(u64::from).fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
            Reply::new(200, json!({"repositories": ["x"]}).to_string())
                .with("Link", format!("</v2/_catalog?last={next}>; rel=\"next\""))
        }
        _ => refusal(404, "NOT_FOUND", "no such page"),
    });
    wherry.call(["search", &format!("{}/web", endless.host)]).expect(1).complains(&["more than 100 pages"]);
    assert!(endless.lines().len() <= 102);
    let leading = Server::new(|request, _| match request.path.as_str() {
        "/v2/_catalog" => Reply::new(200, json!({"repositories": ["x"]}).to_string())
            .with("Link", "<http://169.254.169.254/latest>; rel=\"next\""),
        _ => refusal(404, "NOT_FOUND", "no such page"),
    });
    wherry.call(["search", &format!("{}/web", leading.host)]).expect(1).complains(&["link-local"]);
}

/// Hub's own form, from a stand-in.
#[test]
fn a_search_that_a_registry_offers_is_shown_as_docker_shows_it() {
    let hub = Server::new(|request, _| {
        assert_eq!(
            (request.path.as_str(), request.fields("q"), request.fields("n")),
            ("/v1/search", vec!["web".into()], vec!["25".into()])
        );
        let results = json!([
            {"name": "web", "description": "The official web.\nFor everybody, everywhere, always.", "star_count": 42, "is_official": true},
            {"name": "me/web", "description": "", "star_count": 1, "is_official": false, "is_automated": true},
        ]);
        Reply::new(200, json!({"num_results": 2, "results": results}).to_string())
    });
    let wherry = Wherry::new();
    let term = format!("{}/web", hub.host);
    let table = wherry.ok(["search", &term]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME ") && lines[0].ends_with("STARS     OFFICIAL"), "{table}");
    assert!(lines[1].ends_with("The official web. For everybody, everywhere,…   42        [OK]"), "{table}");
    let starred = wherry.ok(["search", "-f", "stars=2", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}", &term]);
    assert_eq!(starred, format!("{}/web 42 true", hub.host));
    wherry.call(["search", "--limit", "101", &term]).expect(1).complains(&["outside the range of [1, 100]"]);
}
