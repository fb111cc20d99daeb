//! `exec`: a further program in a running container, and a look at a running Wasm program, which has no others.

use std::path::PathBuf;

use super::intent::environment;
use super::{Container, Error, Status, Store, name};
use crate::engine::wasm::view::Numbers;
use crate::sys::pty;
use crate::task::{self, Execution, Launched};

/// What is to be executed, where it differs from the container's own program.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`, over the container's.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Who it runs as.
    pub user: Option<String>,
    /// The terminal's size, if it is to have one.
    pub terminal: Option<pty::Size>,
    /// Whether its standard input is open.
    pub stdin: bool,
    /// Whether it has all capabilities.
    pub privileged: bool,
}

impl Store {
    /// Executes a program in the container; when this returns, it runs.
    pub fn exec(&self, container: &Container, exec: Exec) -> Result<Launched, Error> {
        if matches!(container.status, Status::Running { paused: true, .. }) {
            return Err(Error::Refused {
                name: container.name.clone(),
                problem: "is paused, unpause the container before exec",
            });
        }
        if !matches!(container.status, Status::Running { .. }) {
            return Err(Error::NotRunning { name: container.name.clone() });
        }
        let mut env = environment(&container.record.config, container.record.engine, exec.terminal.is_some(), None);
        for variable in exec.env {
            let name = |v: &str| v.split('=').next().unwrap_or_default().to_owned();
            match env.iter_mut().find(|known| name(known) == name(&variable)) {
                Some(known) => *known = variable,
                None => env.push(variable),
            }
        }
        let execution = Execution {
            id: name::new_id(),
            args: exec.args,
            env,
            cwd: exec.working_dir.map(PathBuf::from),
            user: exec.user.filter(|user| !user.is_empty()),
            terminal: exec.terminal,
            stdin: exec.stdin,
            privileged: exec.privileged,
        };
        Ok(task::execute(&self.run_directory_of(&container.record.id), &execution)?)
    }

    /// What the engine of a running Wasm container shows of its program; nothing for a Linux container.
    pub fn look(&self, container: &Container) -> Result<Option<Numbers>, Error> {
        match container.status {
            Status::Running { .. } => Ok(task::look(&self.run_directory_of(&container.record.id))?),
            _ => Err(Error::NotRunning { name: container.name.clone() }),
        }
    }
}
