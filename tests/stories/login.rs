//! `wherry login` and `logout`, against Debian's docker-registry with passwords.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;

use crate::support::registry::private_registry;
use crate::support::{Wherry, images};

/// Runs wherry with a directory for its logins, and something on its standard input.
fn call(wherry: &Wherry, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = wherry.command(arguments);
    command.env("DOCKER_CONFIG", wherry.folder("docker"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_login_opens_a_private_registry_until_the_logout() {
    let host = private_registry("me", "s3cret");
    let image = images::busybox();
    let wherry = Wherry::with(&image);
    let name = format!("{host}/team/app:1");
    wherry.ok(["tag", &image, &name]);
    let (code, _, said) = call(&wherry, &["push", &name], "");
    assert!(code == 1 && said.contains("log in to the registry: wherry login"), "{said}");
    let (code, out, said) = call(&wherry, &["login", "-u", "me", "--password-stdin", &host], "wrong\n");
    assert!(code == 1 && out.is_empty() && said.contains("unauthorized"), "{said}");
    assert!(!wherry.folder("docker").join("config.json").exists(), "what was refused is not kept");
    let (code, out, said) = call(&wherry, &["login", "-u", "me", "--password-stdin", &host], "s3cret\n");
    assert_eq!((code, out.as_str()), (0, "Login Succeeded\n"), "{said}");
    assert!(said.contains("stored unencrypted"), "{said}");
    let path = wherry.folder("docker").join("config.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(file["auths"][&host]["auth"], "bWU6czNjcmV0");
    let (code, _, said) = call(&wherry, &["push", "-q", &name], "");
    assert_eq!(code, 0, "{said}");
    let fresh = Wherry::new();
    fs::copy(&path, fresh.folder("docker").join("config.json")).unwrap();
    assert_eq!(call(&fresh, &["pull", "-q", &name], "").0, 0);
    assert_eq!(fresh.ok(["run", "--rm", &name, "echo", "private"]), "private");
    assert_eq!(call(&fresh, &["logout", &host], "").1, format!("Removing login credentials for {host}\n"));
    assert_eq!(call(&fresh, &["logout", &host], "").1, format!("Not logged in to {host}\n"));
    fresh.ok(["rmi", &name]);
    let (code, _, said) = call(&fresh, &["pull", "-q", &name], "");
    assert!(code == 1 && said.contains("log in to the registry: wherry login"), "{said}");
}

#[test]
fn a_login_that_cannot_be_meant_is_refused() {
    let wherry = Wherry::new();
    for (arguments, says) in [
        (&["login", "--password-stdin", "x.io"][..], "Must provide --username with --password-stdin"),
        (&["login", "x.io"][..], "non TTY"),
        (&["login", "-u", "me", "--password-stdin", "x.io"][..], "password is empty"),
        (&["login", "-u", "me", "-p", "x", "--password-stdin", "x.io"][..], "cannot be used with"),
        (&["login", "-u", "me", "-p", "x", "not a host"][..], "is no registry"),
    ] {
        let (code, _, said) = call(&wherry, arguments, "\n");
        assert!(code != 0 && said.contains(says), "{arguments:?}: {said}");
    }
}
