//! Without root: an ordinary user runs Wasm files and Linux images, in a user namespace of that one user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::images;

/// Somebody without an account.
const USER: u32 = 4242;

/// A home of that user, with a copy of wherry that it can reach.
struct Ordinary {
    home: TempDir,
}

impl Ordinary {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("wherry-rootless-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        chown(home.path(), Some(USER), Some(USER)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_wherry"), home.path().join("wherry")).unwrap();
        Self { home }
    }

    fn own(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        chown(&path, Some(USER), Some(USER)).unwrap();
        path
    }

    fn call(&self, args: &[&str]) -> Output {
        Command::new("setpriv")
            .args(["--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups", "--"])
            .arg(self.home.path().join("wherry"))
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .output()
            .expect("setpriv starts")
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_wasm_file_runs_and_leaves_nothing() {
    let user = Ordinary::new();
    let guest = user.own("guest.wasm", &fs::read(images::guest_module()).unwrap());
    let guest = guest.to_str().unwrap();
    assert_eq!(user.ok(&["run", "--rm", guest, "args", "one", "two"]), "args\none\ntwo\n");
    assert_eq!(user.call(&["run", "--rm", guest, "exit", "7"]).status.code(), Some(7));
    assert_eq!(user.ok(&["ps", "-aq"]), "");
}

#[test]
fn what_a_wasm_program_writes_is_the_users() {
    use std::os::unix::fs::MetadataExt;
    let user = Ordinary::new();
    let guest = user.own("guest.wasm", &fs::read(images::guest_module()).unwrap());
    let data = user.home.path().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(USER), Some(USER)).unwrap();
    user.ok(&["run", "--rm", "-v", "./data:/data", guest.to_str().unwrap(), "write", "/data/new", "text"]);
    assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "text\n");
    assert_eq!(fs::metadata(data.join("new")).unwrap().uid(), USER);
}

#[test]
fn a_linux_image_runs_as_root_of_its_own_namespace_only() {
    let image = images::busybox();
    let user = Ordinary::new();
    let script = "id -u; cat /proc/self/uid_map; cat /proc/self/status";
    let said = user.ok(&["run", "--rm", &image, "sh", "-c", script]);
    let map: Vec<&str> = said.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((said.lines().next(), &map[..]), (Some("0"), &["0", USER.to_string().as_str(), "1"][..]));
    assert!(said.contains("Seccomp:\t2"), "{said}");
    assert_eq!(user.ok(&["ps", "-aq"]), "");
}
