//! `wherry oci` without root: an ordinary user has containers in a user namespace of that one user.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{copy_program, eventually, process};

/// Somebody without an account.
const USER: u32 = 4243;

/// A home of that user, with a copy of wherry and a bundle that it made.
struct Ordinary {
    home: TempDir,
}

impl Ordinary {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("wherry-oci-rootless-").tempdir_in("/tmp").unwrap();
        let at = |name: &str| home.path().join(name);
        copy_program(Path::new(env!("CARGO_BIN_EXE_wherry")), &at("wherry-oci"));
        fs::create_dir_all(at("bundle/rootfs/bin")).unwrap();
        fs::create_dir(at("run")).unwrap();
        copy_program(Path::new("/bin/busybox"), &at("bundle/rootfs/bin/busybox"));
        for applet in ["sh", "id", "cat", "sleep"] {
            symlink("busybox", at("bundle/rootfs/bin").join(applet)).unwrap();
        }
        let folders = ["", "run", "bundle", "bundle/rootfs", "bundle/rootfs/bin"];
        folders.iter().for_each(|name| chown(at(name), Some(USER), Some(USER)).unwrap());
        let user = Self { home };
        let made = user.call(&["spec", "--rootless", "--bundle", "bundle"]);
        assert!(made.status.success(), "{made:?}");
        user
    }

    fn runs(&self, script: &str) {
        let file = self.home.path().join("bundle/config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["process"]["env"] = json!(["PATH=/bin"]);
        fs::write(&file, config.to_string()).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        let user = USER.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command.arg(self.home.path().join("wherry-oci")).args(args);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"));
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    fn call(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("setpriv starts")
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }

    fn store(&self) -> std::path::PathBuf {
        self.home.path().join("run/wherry/oci")
    }
}

#[test]
fn an_ordinary_user_is_root_in_containers_of_its_own() {
    let user = Ordinary::new();
    user.runs("id -u; cat /proc/self/uid_map; exit 3");
    let run = user.call(&["run", "-b", "bundle", "short"]);
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(run.status.code(), Some(3), "{run:?}");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "0", &USER.to_string(), "1"]);

    user.runs("sleep 1000");
    let mut background = user.command(&["run", "-d", "-b", "bundle", "long"]);
    assert!(background.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let pid: u32 = user.state("long")["pid"].as_u64().unwrap().try_into().unwrap();
    assert_eq!(process::status(pid, "Uid").unwrap().split_whitespace().next(), Some(&*USER.to_string()));
    assert_eq!(user.ok(&["exec", "long", "id", "-u"]), "0\n");
    assert_eq!(user.call(&["exec", "long", "sh", "-c", "exit 9"]).status.code(), Some(9));
    user.ok(&["kill", "long", "KILL"]);
    eventually("it has ended", || (user.state("long")["status"] == "stopped").then_some(()));
    user.ok(&["delete", "long"]);
    assert_eq!(fs::read_dir(user.store()).unwrap().count(), 0);
    assert!(process::at_work_on(&[user.home.path()]).is_empty());
}
