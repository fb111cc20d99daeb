//! `wherry exec`: execute a command in a running container; for a Wasm container, a builtin view of its program.

pub mod view;

use std::io::{IsTerminal, stdin};
use std::path::PathBuf;

use super::options::environment;
use super::{Context, terminal_size};
use crate::container::{self, Exec};
use crate::engine::Engine;
use crate::error::{Failure, Kind};
use crate::sys::pty;
use crate::task::{self, Attachment, End, relay};

/// Execute a command in a running container, or look at a WebAssembly program
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Set environment variables: NAME=value, or NAME to take the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command: all capabilities, under the container's system call filter
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// User name or UID, with an optional group: name|uid[:group|gid]
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A name or an id, and after it the command and its arguments
    #[arg(value_name = "CONTAINER COMMAND [ARG...]", required = true, num_args = 2.., trailing_var_arg = true,
          allow_hyphen_values = true)]
    words: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  wherry exec web ls -l /
  wherry exec -it -u root web sh
  wherry exec -d -e LEVEL=debug web /usr/bin/collect

A WebAssembly container has no processes to execute: there is a builtin view of its program.
  wherry exec app top      how it does: time, memory, calls, requests
  wherry exec app help     all words: ps, env, mem, top, fds, mounts, grants";

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the input device is not a TTY")]
    NoTerminal,
    #[error("unknown flag: {text}")]
    Flag { text: String },
    #[error("{name} is a WebAssembly container: {flag} makes no sense, as nothing is executed in it")]
    Senseless { name: String, flag: &'static str },
    #[error("{name} is a WebAssembly container, which has no processes: there is no {word:?} to execute in it")]
    NoSuchView { name: String, word: String },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSuchView { .. } => Kind::NotFound,
            _ => Kind::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Senseless { .. } | Self::NoSuchView { .. } => {
                Some(format!("what can be looked at: {}", view::WORDS.map(|(word, _)| word).join(", ")))
            }
            Self::Flag { .. } => Some("see wherry exec --help".to_owned()),
            Self::NoTerminal => None,
        }
    }
}

/// The status and the reason with which it fails.
type Failed = (u8, Box<dyn Failure>);

/// Executes the command; its exit status, or 126, 127 where there was none.
pub fn run(args: Args, context: &Context) -> Result<u8, Failed> {
    let [name, command @ ..] = &args.words[..] else { unreachable!("the parser requires two") };
    if name.starts_with('-') {
        return Err((125, Error::Flag { text: name.clone() }.into()));
    }
    if args.tty && args.interactive && !args.detach && !stdin().is_terminal() {
        return Err((1, Error::NoTerminal.into()));
    }
    let containers = context.host().map_err(|e| (125, e.into()))?.containers().map_err(|e| (125, e.into()))?;
    let container = containers.find(name).map_err(|e| (1, e.into()))?;
    if container.record.engine == Engine::Wasm {
        let senseless = args.senseless();
        if let Some(flag) = senseless {
            return Err((126, Error::Senseless { name: name.clone(), flag }.into()));
        }
        return view::run(containers, &container, command, args.tty);
    }
    let exec = args.meaning(command).map_err(|e| (125, e))?;
    let mut launched = containers.exec(&container, exec).map_err(|error| (status(&error), error.into()))?;
    if args.detach {
        return Ok(0);
    }
    let attachment = Attachment { stdin: args.interactive, terminal: args.tty };
    match relay(&mut launched, attachment).map_err(|e| (1, e.into()))? {
        End::Exited(status) => Ok(status),
        End::Detached => Ok(0),
        End::Impatient => Ok(130),
    }
}

impl Args {
    fn meaning(&self, command: &[String]) -> Result<Exec, Box<dyn Failure>> {
        const STANDARD: pty::Size = pty::Size { rows: 24, columns: 80 };
        Ok(Exec {
            args: command.to_vec(),
            env: environment(&self.env_file, &self.env)?,
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            terminal: self.tty.then(|| terminal_size().unwrap_or(STANDARD)),
            stdin: self.interactive,
            privileged: self.privileged,
        })
    }

    /// A flag that says how a process is to be made, which a look does not make. `-i` and `-t` are let pass: they are
    /// typed out of habit, and change nothing but that `top` goes on.
    fn senseless(&self) -> Option<&'static str> {
        let given = [
            (self.detach, "--detach"),
            (!self.env.is_empty(), "--env"),
            (!self.env_file.is_empty(), "--env-file"),
            (self.privileged, "--privileged"),
            (self.user.is_some(), "--user"),
            (self.workdir.is_some(), "--workdir"),
        ];
        given.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }
}

/// Docker's exit status for a command that did not run.
fn status(error: &container::Error) -> u8 {
    match error {
        container::Error::Task(task::Error::Start(failure)) => failure.status,
        _ => 1,
    }
}
