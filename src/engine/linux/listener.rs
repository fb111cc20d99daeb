//! Where the listener of a seccomp filter goes, and what is told about the container in hooks and to listeners.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::Error;
use crate::oci::runtime::{ContainerProcessState, ContainerState, SECCOMP_FD_NAME, Spec, State};
use crate::sys;

/// Who runs in which container: what hooks and listeners are told.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle's directory.
    pub bundle: &'a Path,
    /// The specification.
    pub spec: &'a Spec,
}

impl About<'_> {
    /// The state of the container, as runtime-spec runtime.md, "State", has it.
    pub fn state(&self, status: ContainerState, pid: Option<i32>) -> State {
        let mut state = State::default();
        state
            .set_version(self.spec.version().clone())
            .set_id(self.id.to_owned())
            .set_status(status)
            .set_pid(pid)
            .set_bundle(self.bundle.to_owned())
            .set_annotations(self.spec.annotations().clone());
        state
    }
}

/// Where a filter's listener is sent.
pub(super) struct Listener {
    path: PathBuf,
    metadata: Option<String>,
    state: State,
}

impl Listener {
    /// That of the container's filter, if it has one.
    pub fn of(about: &About<'_>) -> Option<Self> {
        let seccomp = about.spec.linux().as_ref()?.seccomp().as_ref()?;
        Some(Self {
            path: seccomp.listener_path().clone()?,
            metadata: seccomp.listener_metadata().clone(),
            state: about.state(ContainerState::Creating, None),
        })
    }

    /// Sends `listener`, of the process `pid`, to the agent that handles its requests (runtime-spec config-linux.md,
    /// "The Container Process State").
    pub fn deliver(mut self, listener: BorrowedFd<'_>, pid: i32) -> Result<(), Error> {
        self.state.set_pid(Some(pid));
        let mut message = ContainerProcessState::default();
        message
            .set_version(self.state.version().clone())
            .set_fds(vec![SECCOMP_FD_NAME.to_owned()])
            .set_pid(pid)
            .set_metadata(self.metadata)
            .set_state(self.state);
        let json = serde_json::to_vec(&message).expect("plain data");
        let sent = sys::socket::connect(&self.path)
            .and_then(|socket| sys::socket::send_with_fds(socket.as_fd(), &json, &[listener]));
        sent.map_err(|source| Error::Setup {
            what: format!("hand the seccomp listener to {}", self.path.display()),
            source,
        })
    }
}
