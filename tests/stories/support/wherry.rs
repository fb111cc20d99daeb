//! One hermetic wherry: a data root and a run root of its own, no environment but what a test sets, and a limit on
//! every command. Dropping it removes its containers and then looks whether anything of them is left.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{LOOK_AGAIN, PATIENCE, eventually, process, scratch};

/// The longest that any one command may take; unpacking a Debian with an unoptimised build is the slowest.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);

/// A wherry that shares nothing with any other.
pub struct Wherry {
    /// On the build's disk: layers must lie where an overlay can.
    root: TempDir,
    /// Short, because it holds sockets.
    run: TempDir,
}

/// A command in the foreground that goes on.
pub struct Running {
    /// The process.
    pub child: Child,
    command: String,
}

/// What a finished command said.
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Its exit code.
    pub status: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Wherry {
    /// An empty one.
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "stories make containers: run them as root, or through .ci/check"
        );
        Self {
            root: tempfile::Builder::new().prefix("story-").tempdir_in(scratch()).unwrap(),
            run: tempfile::Builder::new().prefix("wherry-story-").tempdir_in("/tmp").unwrap(),
        }
    }

    /// One that holds this image already.
    pub fn with(image: &str) -> Self {
        let wherry = Self::new();
        wherry.ok(["pull", "-q", image]);
        wherry
    }

    /// Where its durable state is.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where its sockets are.
    pub fn run_root(&self) -> &Path {
        self.run.path()
    }

    /// A directory for the test's own files, on the same disk as the state and gone with it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.root.path().join("for-the-test").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Lets all later commands have this configuration file.
    pub fn configure(&self, text: &str) {
        fs::write(self.configuration(), text).unwrap();
    }

    fn configuration(&self) -> PathBuf {
        self.root.path().join("wherry.toml")
    }

    /// The command, not yet started, to which a test can add environment and streams.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wherry"));
        command.args(args);
        self.lend_environment(&mut command);
        command
    }

    /// Makes a command, say a script that calls wherry, one of this wherry's world.
    pub fn lend_environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.root.path())
            .env("RUST_BACKTRACE", "1")
            .env("WHERRY_ROOT", self.root.path())
            .env("WHERRY_RUN_ROOT", self.run.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.configuration().exists() {
            command.env("WHERRY_CONFIG", self.configuration());
        }
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.start(args).finish()
    }

    /// Runs a command that must succeed; its standard output without the last line's end.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.call(args).expect(0).stdout.trim_end().to_owned()
    }

    /// Starts a command in the foreground and lets it run.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        Running::start(&mut self.command(args))
    }

    /// What `inspect` says of a container, as a whole.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        let text = self.ok(["inspect", container]);
        let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("inspect says {error}: {text}"));
        all[0].clone()
    }

    /// The container's status word, once it exists.
    pub fn status(&self, container: &str) -> Option<String> {
        let output = self.call(["inspect", container]);
        let all: Value = serde_json::from_str(&output.stdout).ok()?;
        all[0]["State"]["Status"].as_str().map(str::to_owned)
    }

    /// Waits until the container has this status.
    #[track_caller]
    pub fn until(&self, container: &str, status: &str) {
        eventually(&format!("{container} is {status}"), || (self.status(container)? == status).then_some(()));
    }

    /// Waits until the container's log contains this text.
    #[track_caller]
    pub fn until_logged(&self, container: &str, text: &str) {
        eventually(&format!("{container} logs {text:?}"), || {
            self.call(["logs", container]).stdout.contains(text).then_some(())
        });
    }

    /// The process of a running container, as the host numbers it.
    #[track_caller]
    pub fn pid(&self, container: &str) -> u32 {
        let pid = self.inspect(container)["State"]["Pid"].as_u64().expect("a running container has a pid");
        pid.try_into().expect("a process id")
    }

    fn remove_containers(&self) -> Vec<String> {
        let all = self.call(["ps", "--all", "--quiet", "--no-trunc"]);
        let ids: Vec<String> = all.stdout.split_whitespace().map(str::to_owned).collect();
        for id in &ids {
            self.call(["rm", "--force", id]);
        }
        ids
    }

    /// What is still there of these containers; a moment is given to what is just leaving.
    fn leaks(&self, ids: &[String]) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE / 4;
        loop {
            let mut found = process::at_work_on(&[self.root.path(), self.run.path()]);
            found.extend(process::cgroups_of(ids));
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Wherry {
    fn drop(&mut self) {
        let failing = thread::panicking();
        let ids = self.remove_containers();
        let leaks = self.leaks(&ids);
        if failing && !leaks.is_empty() {
            eprintln!("and it leaks: {leaks:#?}");
        } else {
            assert!(leaks.is_empty(), "nothing of a removed container is left: {leaks:#?}");
        }
    }
}

impl Running {
    /// Starts a command that a test has made ready.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        Self {
            command: format!("{} {}", command.get_program().display(), words.join(" ")),
            child: command.spawn().expect("wherry starts"),
        }
    }

    /// Waits until the command has ended and everybody has closed its streams, within [`COMMAND_LIMIT`].
    #[track_caller]
    pub fn finish(self) -> Output {
        let Self { child, command } = self;
        let pid = child.id();
        let (done, finished) = mpsc::channel();
        // A supervisor that kept the streams of its command line would be found here.
        thread::spawn(move || done.send(child.wait_with_output()));
        let Ok(output) = finished.recv_timeout(COMMAND_LIMIT) else {
            if !process::gone_within(pid, Duration::ZERO) {
                process::kill(pid);
            }
            panic!("`{command}` did not end, or somebody kept its output open, for {COMMAND_LIMIT:?}");
        };
        let output = output.expect("a child can be waited for");
        Output {
            status: output.status.code().unwrap_or_else(|| panic!("`{command}` was killed: {}", output.status)),
            command,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Sends SIGKILL, which nobody can be ready for.
    pub fn kill(mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Output {
    /// Asserts the exit code.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "exit code of {self}");
        self
    }

    /// Asserts all of standard output.
    #[track_caller]
    pub fn says(self, stdout: &str) -> Self {
        assert_eq!(self.stdout, stdout, "standard output of {self}");
        self
    }

    /// Asserts that what was printed, wherever, contains each of these.
    #[track_caller]
    pub fn prints(self, words: &[&str]) -> Self {
        for word in words {
            assert!(format!("{}{}", self.stdout, self.stderr).contains(word), "it does not say {word:?}: {self}");
        }
        self
    }

    /// Asserts that standard error contains each of these.
    #[track_caller]
    pub fn complains(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "standard error lacks {word:?} in {self}");
        }
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "`{command}`: code {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}
