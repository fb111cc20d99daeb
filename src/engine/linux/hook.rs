//! Hooks: programs of the specification that are run at points in a container's life (runtime-spec config.md,
//! "POSIX-platform Hooks").
//!
//! A hook gets the container's state on its standard input, and the environment that the specification gives it, which
//! is none when that says nothing. It runs in the namespaces of whoever calls [`run_all`]: the supervisor for those
//! of the runtime namespace, the init stage for those of the container's. What a failure means, an end to the
//! container or a line in the log, is for the caller.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use crate::error::{Failure, Kind};
use crate::oci::runtime;
use crate::sys;
use crate::sys::command::{self, Ending, Program};

/// How much of the end of a hook's output is told when it fails: enough for a message, and small enough to cross
/// from the init stage in one.
pub const MAX_OUTPUT: usize = 4096;

/// The hooks of a container, by the point at which they run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// In the runtime namespace, before those of `create_runtime`; deprecated by the specification.
    pub prestart: Vec<Hook>,
    /// In the runtime namespace, when the container's namespaces and mounts are there, before pivot_root.
    pub create_runtime: Vec<Hook>,
    /// In the container namespace, after those of `create_runtime`, before pivot_root.
    pub create_container: Vec<Hook>,
    /// In the container namespace and root filesystem, before the program is executed.
    pub start_container: Vec<Hook>,
    /// In the runtime namespace, after the program was executed.
    pub poststart: Vec<Hook>,
    /// In the runtime namespace, after the container was deleted.
    pub poststop: Vec<Hook>,
}

/// One hook, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    path: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    timeout: Option<Duration>,
}

/// A hook that did not end well.
#[derive(Debug, thiserror::Error)]
#[error("hook {path:?} {why}{}", said(output))]
pub struct HookFailed {
    /// The hook's program.
    pub path: PathBuf,
    /// What became of it.
    pub why: Why,
    /// The end of what it wrote to its outputs.
    pub output: String,
}

/// What becomes of a hook that fails.
#[derive(Debug)]
pub enum Why {
    /// It could not be run.
    NotRun(sys::Error),
    /// It ended with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was killed after this time.
    TimeUp(Duration),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRun(error) => write!(f, "cannot be run: {}", crate::error::chain(error)),
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::TimeUp(after) => write!(f, "was killed when its {} s were up", after.as_secs()),
        }
    }
}

fn said(output: &str) -> String {
    if output.trim().is_empty() { String::new() } else { format!(", saying {:?}", output.trim()) }
}

impl Failure for HookFailed {
    fn kind(&self) -> Kind {
        match &self.why {
            Why::NotRun(error) => error.kind(),
            Why::Status(_) | Why::Signal(_) => Kind::FailedPrecondition,
            Why::TimeUp(_) => Kind::Cancelled,
        }
    }
}

impl Hooks {
    /// Understands the specification.
    pub fn plan(hooks: Option<&runtime::Hooks>) -> Result<Self, Error> {
        let Some(hooks) = hooks else { return Ok(Self::default()) };
        let list = |list: &Option<Vec<runtime::Hook>>| -> Result<Vec<Hook>, Error> {
            list.iter().flatten().map(Hook::parse).collect()
        };
        Ok(Self {
            prestart: list(hooks.prestart())?,
            create_runtime: list(hooks.create_runtime())?,
            create_container: list(hooks.create_container())?,
            start_container: list(hooks.start_container())?,
            poststart: list(hooks.poststart())?,
            poststop: list(hooks.poststop())?,
        })
    }
}

impl Hook {
    fn parse(hook: &runtime::Hook) -> Result<Self, Error> {
        let path = hook.path();
        let wrong = |what: String| Error::Unsupported { field: "hooks", problem: format!("the hook {path:?} {what}") };
        let args = hook.args().clone().unwrap_or_default();
        if !path.is_absolute() {
            return Err(wrong("has no absolute path".into()));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) || args.iter().any(|arg| arg.contains('\0')) {
            return Err(wrong("has a NUL byte in its path or arguments".into()));
        }
        let variable = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !text.contains('\0') => Ok((name.to_owned(), value.to_owned())),
            _ => Err(wrong(format!("has the variable {text:?}, which is not of the form NAME=value"))),
        };
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds) if seconds > 0 => Some(Duration::from_secs(seconds.unsigned_abs())),
            Some(seconds) => return Err(wrong(format!("has the timeout {seconds}, which is not greater than zero"))),
        };
        let env = hook.env().iter().flatten().map(variable).collect::<Result<_, _>>()?;
        Ok(Self { path: path.clone(), args, env, timeout })
    }

    /// Runs the hook to its end, with `state` to read.
    pub fn run(&self, state: &[u8]) -> Result<(), HookFailed> {
        let Self { path, args, env, timeout } = self;
        let program = Program { path, args, env, input: state, timeout: *timeout, keep: MAX_OUTPUT };
        let (why, output) = match command::run(&program) {
            Ok((Ending::Status(0), _)) => return Ok(()),
            Ok((Ending::Status(status), output)) => (Why::Status(status), output),
            Ok((Ending::Signal(signal), output)) => (Why::Signal(signal), output),
            Ok((Ending::TimeUp, output)) => (Why::TimeUp(timeout.unwrap_or_default()), output),
            Err(error) => (Why::NotRun(error), Vec::new()),
        };
        Err(HookFailed { path: path.clone(), why, output: String::from_utf8_lossy(&output).into_owned() })
    }
}

/// Runs `hooks` in their order, until one fails. `state` is the container's, in JSON (runtime-spec runtime.md,
/// "State"). Where a failure ends nothing, as with `poststop`, [`Hook::run`] each.
pub fn run_all(hooks: &[Hook], state: &[u8]) -> Result<(), HookFailed> {
    hooks.iter().try_for_each(|hook| hook.run(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(hook: &str) -> Result<Hook, String> {
        let hooks: runtime::Hooks = serde_json::from_str(&format!(r#"{{"createRuntime":[{hook}]}}"#)).unwrap();
        Hooks::plan(Some(&hooks)).map(|mut hooks| hooks.create_runtime.remove(0)).map_err(|error| error.to_string())
    }

    fn shell(script: &str, more: &str) -> Hook {
        let script = serde_json::to_string(script).unwrap();
        plan(&format!(r#"{{"path":"/bin/sh","args":["sh","-c",{script}]{more}}}"#)).unwrap()
    }

    #[test]
    fn each_hook_is_at_its_point() {
        let hook = |name: &str| format!(r#""{name}":[{{"path":"/{name}"}}]"#);
        let points = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
        let json = format!("{{{}}}", points.map(hook).join(","));
        let hooks = Hooks::plan(Some(&serde_json::from_str(&json).unwrap())).unwrap();
        let lists = [
            &hooks.prestart,
            &hooks.create_runtime,
            &hooks.create_container,
            &hooks.start_container,
            &hooks.poststart,
            &hooks.poststop,
        ];
        assert_eq!(lists.map(|list| list[0].path.to_str().unwrap()), points.map(|name| format!("/{name}")));
        assert_eq!(Hooks::plan(None).unwrap(), Hooks::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (hook, wanted) in [
            (r#"{"path":"bin/x"}"#, "\"bin/x\" has no absolute path"),
            (r#"{"path":"/x","timeout":0}"#, "timeout 0"),
            (r#"{"path":"/x","timeout":-1}"#, "timeout -1"),
            (r#"{"path":"/x","env":["NAME"]}"#, "\"NAME\""),
            (r#"{"path":"/x","env":["=x"]}"#, "\"=x\""),
            (r#"{"path":"/x","args":["a\u0000b"]}"#, "NUL byte"),
        ] {
            let error = plan(hook).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn hooks_run_in_order_with_the_state_and_their_environment_only() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let note = |word: &str| {
            let script =
                format!("read -r state; echo {word} \"$state\" \"$A\" \"${{HOME-none}}\" >> {}", log.display());
            shell(&script, r#","env":["A=1=2"]"#)
        };
        run_all(&[note("first"), note("second")], b"{\"id\":\"c\"}").unwrap();
        let wanted = "first {\"id\":\"c\"} 1=2 none\nsecond {\"id\":\"c\"} 1=2 none\n";
        assert_eq!(std::fs::read_to_string(&log).unwrap(), wanted);
    }

    #[test]
    fn a_failure_names_the_hook_and_its_last_words_and_ends_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let hooks = [shell("echo no such bridge >&2; exit 3", ""), shell(&format!("> {}", mark.display()), "")];
        let failed = run_all(&hooks, b"{}").unwrap_err();
        assert_eq!(failed.to_string(), "hook \"/bin/sh\" ended with status 3, saying \"no such bridge\"");
        assert!(!mark.exists());
    }

    #[test]
    fn a_failure_says_what_became_of_the_hook() {
        let slow = shell("exec /bin/sleep 100", r#","timeout":1"#);
        let gone = plan(r#"{"path":"/no/such/hook"}"#).unwrap();
        for (hook, wanted) in [
            (shell("kill -USR1 $$", ""), "hook \"/bin/sh\" was ended by signal 10"),
            (slow, "hook \"/bin/sh\" was killed when its 1 s were up"),
            (
                gone,
                "hook \"/no/such/hook\" cannot be run: execve(\"/no/such/hook\"): No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(hook.run(b"{}").unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn the_last_words_are_bounded() {
        let hook = shell("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 1", "");
        let output = hook.run(b"").unwrap_err().output;
        assert_eq!((output.len(), output.ends_with("line 1999\n")), (MAX_OUTPUT, true));
    }
}
