//! `start`: the record becomes a bundle, the bundle a task.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::intent::Asked;
use super::{Container, Error, Status, Store, files, publish};
use crate::bundle::{self, Bind, Bundle, Intent};
use crate::engine::Engine;
use crate::sys::lock::FileLock;
use crate::sys::pty;
use crate::task::{self, Launched, Orders};

/// How a start is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Whether the caller stays attached.
    pub attached: bool,
    /// The size of the caller's terminal.
    pub size: Option<pty::Size>,
}

impl Store {
    /// Starts the container; when this returns, its program runs.
    pub fn start(&self, container: &Container, options: StartOptions) -> Result<Launched, Error> {
        self.start_by(task::prepare(&container.record.id)?, container, options)
    }

    /// The same by a supervisor that was prepared for it.
    pub fn start_by(
        &self,
        supervisor: task::Waiting,
        container: &Container,
        options: StartOptions,
    ) -> Result<Launched, Error> {
        let _lock = self.lock(container)?;
        match &self.find(&container.record.id)?.status {
            Status::Created { .. } | Status::Exited(_) => {}
            Status::Running { paused: true, .. } => return Err(container.wrong("start", Some("unpause it instead"))),
            Status::Running { .. } => return Err(container.wrong("start", None)),
            Status::Dead => return Err(container.wrong("start", Some("remove it: its directory is gone"))),
        }
        let record = &container.record;
        let prepared = match &container.prepared {
            Some(prepared) => prepared.clone(),
            None => Arc::new(self.prepare(record)?),
        };
        let files = self.files_of(container)?;
        let namespaces = self.namespaces(record)?;
        let asked = Asked::of(record, namespaces);
        let intent = self.places.intent(&asked, files, Some(prepared.root.as_fd()))?;
        let intent = Intent { cgroup: self.places.cgroup(&record.id)?, ..intent };
        Bundle::write(&container.directory, bundle::spec(&intent))?;
        let (sockets, ports) = publish::open(&record.host_config, &record.config)?;
        publish::write_down(&ports, &container.directory)?;
        let orders = Orders { sockets: sockets.len(), ..self.orders(container, options) };
        let files = task::Files {
            root: (record.engine == Engine::Linux).then(|| prepared.root.as_fd()),
            wasm: prepared.program.as_ref().map(AsFd::as_fd),
            sockets: sockets.iter().map(AsFd::as_fd).collect(),
        };
        let launched = supervisor.launch(&orders, &files);
        launched.map_err(|source| Error::Start { name: container.name.clone(), source })
    }

    /// One start or removal of a container at a time.
    pub(super) fn lock(&self, container: &Container) -> Result<FileLock, Error> {
        let lock = FileLock::exclusive(&container.directory.join("lock"));
        lock.map_err(|source| Error::Sys { what: "lock the container", source })
    }

    fn orders(&self, container: &Container, options: StartOptions) -> Orders {
        let record = &container.record;
        let id = &record.id;
        let cleanup = || [&self.places.arguments[..], &["rm".to_owned(), id.clone()]].concat();
        Orders {
            directory: container.directory.clone(),
            run: self.run_directory_of(id),
            engine: record.engine,
            terminal: record.config.tty.then(|| options.size.unwrap_or(pty::Size { rows: 24, columns: 80 })),
            stdin: record.config.open_stdin,
            attached: options.attached,
            journal: self.journal(),
            actor: container.actor(),
            sockets: 0,
            cleanup: record.host_config.auto_remove.then(cleanup),
        }
    }

    /// The files that a Linux container gets from us.
    fn files_of(&self, container: &Container) -> Result<Vec<Bind>, Error> {
        let record = &container.record;
        match record.engine {
            Engine::Linux => files::write(&container.directory, record),
            Engine::Wasm => Ok(Vec::new()),
        }
    }
}
