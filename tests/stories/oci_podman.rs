//! podman with wherry as its runtime, through its monitor conmon: what a user of podman does and sees.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::support::Output;
use super::support::oci::{Oci, path};

/// A podman of its own, whose containers have no network and no limits that this machine may not raise.
pub struct Podman {
    oci: Oci,
    /// Short, because podman keeps sockets here.
    state: TempDir,
    runtime: PathBuf,
}

impl Podman {
    /// One with no containers and no images.
    pub fn new() -> Self {
        let oci = Oci::new();
        let state = tempfile::Builder::new().prefix("wherry-pod-").tempdir_in("/tmp").unwrap();
        let runtime = oci.work().join("wherry-oci");
        // podman hands its environment on to nobody, and compiled Wasm is to be kept here.
        let script = format!(
            "#!/bin/sh\nWHERRY_ROOT={} exec {} oci \"$@\"\n",
            path(&oci.work().join("data")),
            env!("CARGO_BIN_EXE_wherry")
        );
        fs::write(&runtime, script).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
        Self { oci, state, runtime }
    }

    /// Runs a command to its end.
    pub fn call(&self, args: &[&str]) -> Output {
        let state = |name: &str| path(&self.state.path().join(name)).to_owned();
        let mut command = Command::new("podman");
        command.args(["--runtime", path(&self.runtime), "--log-level", "error", "--events-backend", "none"]);
        command.args(["--root", &state("root"), "--runroot", &state("run"), "--tmpdir", &state("tmp")]);
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]).args(args);
        let output = command.output().expect("podman is installed");
        Output {
            command: format!("podman {}", args.join(" ")),
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A directory for the test's own files.
    pub fn work(&self) -> &Path {
        self.oci.work()
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let rootfs = self.oci.work().join("rootfs");
        let limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];
        let words = [&["run", "--network", "none"], &limits[..], options, &["--rootfs", path(&rootfs)], command];
        self.call(&words.concat())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["rm", "--force", "--all", "--time", "0"]);
        // Bind mounts of podman's own.
        for mount in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().rev() {
            if let Some(at) = mount.split(' ').nth(4).filter(|at| at.starts_with(path(self.state.path()))) {
                Command::new("umount").arg(at).status().ok();
            }
        }
    }
}

#[test]
fn a_container_of_podmans_runs_and_says_how_it_ended() {
    let podman = Podman::new();
    podman.run(&["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 7"]).expect(7).says("out\n");
    podman.run(&["--rm"], &["nope"]).expect(127).complains(&["executable file not found"]);
    podman.run(&["--rm"], &["/etc"]).expect(126);
    podman.run(&["--rm", "--tty"], &["sh", "-c", "test -t 1 && echo terminal"]).expect(0).says("terminal\r\n");
    podman.run(&["--rm", "--user", "1000:7"], &["id", "-u"]).expect(0).says("1000\n");
}

#[test]
fn podmans_security_options_hold() {
    let podman = Podman::new();
    let options = ["--rm", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"];
    let script =
        "touch /x 2>/dev/null || echo read-only; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'";
    let said = podman.run(&options, &["sh", "-c", script]).expect(0).stdout;
    assert_eq!(said, "read-only\nCapEff:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n");
}

#[test]
fn a_running_container_takes_commands_and_limits_and_is_stopped() {
    let podman = Podman::new();
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    podman
        .run(&["--detach", "--name", "one", "--memory", "64m", "--pids-limit", "50"], &["sh", "-c", script])
        .expect(0);
    podman.call(&["exec", "one", "sh", "-c", "echo inside; exit 5"]).expect(5).says("inside\n");
    podman.call(&["exec", "--user", "5:6", "one", "id", "-u"]).expect(0).says("5\n");
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
    podman.call(&["exec", "one", "sh", "-c", limit]).expect(0).says("67108864\n");
    podman.call(&["pause", "one"]).expect(0);
    podman.call(&["ps", "--filter", "status=paused", "--format", "{{.Names}}"]).expect(0).says("one\n");
    podman.call(&["unpause", "one"]).expect(0);
    podman.call(&["stop", "--time", "20", "one"]).expect(0);
    podman.call(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "one"]).expect(0).says("exited 3\n");
    let logs = podman.call(&["logs", "one"]).expect(0).stdout;
    assert_eq!(logs, "up\nbye\n");
    podman.call(&["start", "one"]).expect(0);
    podman.call(&["kill", "one"]).expect(0);
    podman.call(&["rm", "--force", "one"]).expect(0);
}
