//! One hermetic root of `wherry oci`, with busybox bundles. Dropping it deletes its containers and then looks whether
//! anything of them is left.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::wherry::Output;
use super::{LOOK_AGAIN, PATIENCE, Running, eventually, process, scratch};

/// The longest that a command which leaves a process behind may take.
const DETACH_LIMIT: Duration = Duration::from_secs(30);

/// What the bundles' busybox is called by.
const APPLETS: &[&str] = &[
    "awk", "cat", "chmod", "cut", "date", "dd", "echo", "env", "false", "find", "grep", "head", "hostname", "id",
    "kill", "ls", "mkdir", "mount", "nc", "printf", "ps", "pwd", "readlink", "rm", "sed", "seq", "sh", "sleep", "sort",
    "stat", "stty", "tail", "test", "touch", "tr", "true", "tty", "umount", "uname", "wc", "yes",
];

/// A runtime's root that nobody else uses.
pub struct Oci {
    /// Short, because it holds sockets.
    root: TempDir,
    /// The bundles, on the build's disk.
    work: TempDir,
}

/// What a command said that left a process behind, and where that process' output goes.
pub struct Left {
    /// The exit code, and what was in the file at the end of the command.
    pub output: Output,
    /// Standard output and standard error of the command and of what it left.
    pub file: PathBuf,
}

impl Oci {
    /// An empty one.
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "stories make containers: run them as root, or through .ci/check"
        );
        let oci = Self {
            root: tempfile::Builder::new().prefix("wherry-oci-").tempdir_in("/tmp").unwrap(),
            work: tempfile::Builder::new().prefix("oci-").tempdir_in(scratch()).unwrap(),
        };
        oci.make_rootfs();
        oci
    }

    fn make_rootfs(&self) {
        let rootfs = self.work.path().join("rootfs");
        for folder in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox is installed");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/:/bin/sh\n").unwrap();
    }

    /// Where the containers' state is.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A directory for the test's own files.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// A name that no other container on this machine has.
    pub fn id(&self, name: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// A bundle that runs this shell script, for the container `id`.
    pub fn bundle(&self, id: &str, script: &str) -> PathBuf {
        self.bundle_with(id, script, |_| {})
    }

    /// The same, with changes to its configuration.
    pub fn bundle_with(&self, id: &str, script: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let bundle = self.work.path().join(id);
        fs::create_dir(&bundle).unwrap();
        let mut config = config(id, &self.work.path().join("rootfs"), script);
        change(&mut config);
        fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config).unwrap()).unwrap();
        bundle
    }

    /// The command, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wherry"));
        command.arg("oci").arg("--root").arg(self.root.path()).args(args);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RUST_BACKTRACE", "1")
            // Compiled Wasm programs are kept there.
            .env("WHERRY_ROOT", self.work.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end. Not for one that leaves a process behind, which has its streams.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.start(args).finish()
    }

    /// Starts a command in the foreground and lets it run.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Runs a command that must succeed; its standard output without the last line's end.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.call(args).expect(0).stdout.trim_end().to_owned()
    }

    /// Runs a command that leaves a process behind.
    #[track_caller]
    pub fn leave<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Left {
        self.leave_by(&mut self.command(args))
    }

    /// The same, of a command that a test has made ready.
    #[track_caller]
    pub fn leave_by(&self, command: &mut Command) -> Left {
        let file = self.work.path().join(self.id("output"));
        let stream = File::create(&file).unwrap();
        command.stdout(stream.try_clone().unwrap()).stderr(stream);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut child = command.spawn().expect("wherry starts");
        assert!(process::gone_within(child.id(), DETACH_LIMIT), "{words:?} does not end");
        let status = child.wait().unwrap();
        let stdout = fs::read_to_string(&file).unwrap();
        let status = status.code().unwrap_or_else(|| panic!("{words:?} was killed: {status}"));
        Left { output: Output { command: words.join(" "), status, stdout, stderr: String::new() }, file }
    }

    /// Creates a container that must be made.
    #[track_caller]
    pub fn create(&self, id: &str, bundle: &Path) -> Left {
        let left = self.leave(["create", "--bundle", path(bundle), id]);
        assert_eq!(left.output.status, 0, "{}", left.output);
        left
    }

    /// What `state` says.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        let text = self.ok(["state", id]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("state says {error}: {text}"))
    }

    /// The container's status.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the container has this status.
    #[track_caller]
    pub fn until(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), || (self.status(id) == status).then_some(()));
    }

    /// The container's first process.
    #[track_caller]
    pub fn pid(&self, id: &str) -> u32 {
        self.state(id)["pid"].as_u64().unwrap().try_into().unwrap()
    }

    /// What is still there of these containers; a moment is given to what is just leaving.
    pub fn leaks(&self, ids: &[String]) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE / 4;
        loop {
            let mut found = process::at_work_on(&[self.root.path(), self.work.path()]);
            found.extend(process::cgroups_of(ids));
            found.extend(fs::read_dir(self.root.path()).unwrap().map(|entry| format!("{:?}", entry.unwrap().path())));
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Oci {
    fn drop(&mut self) {
        let failing = thread::panicking();
        let ids: Vec<String> = fs::read_dir(self.root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        for id in &ids {
            self.call(["delete", "--force", id]);
        }
        // Each bundle has the name of its container.
        let bundles = fs::read_dir(self.work.path()).unwrap().map(Result::unwrap);
        let bundles = bundles.filter(|entry| entry.path().join("config.json").exists());
        let names: Vec<String> = bundles.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let leaks = self.leaks(&names);
        if failing && !leaks.is_empty() {
            eprintln!("and it leaks: {leaks:#?}");
        } else {
            assert!(leaks.is_empty(), "nothing of a deleted container is left: {leaks:#?}");
        }
    }
}

/// A path as a word of a command line.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("tests' paths are UTF-8")
}

/// Waits until the file holds this text; all that it holds then.
#[track_caller]
pub fn until_written(file: &Path, text: &str) -> String {
    eventually(&format!("{file:?} holds {text:?}"), || {
        let found = fs::read_to_string(file).ok()?;
        found.contains(text).then_some(found)
    })
}

/// A container much like those of engines: its own namespaces, few capabilities, masks.
fn config(id: &str, rootfs: &Path, script: &str) -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, typ: &str, options: &[&str]| json!({"destination": destination, "type": typ, "source": typ, "options": options});
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|typ| json!({"type": typ}));
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin", "GREETING=hello"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": path(rootfs)},
        "hostname": "story",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "annotations": {"org.example.story": id},
        "linux": {
            "cgroupsPath": format!("/wherry/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}
