//! Why something about a control group failed, and what a user may do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Failure, Kind};
use crate::sys;

/// Why something about a control group failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy is mounted")]
    NotMounted,
    /// The path of a group would leave its hierarchy, or is the root.
    #[error("{path:?} is no path for a control group: it must name a group below the root, without \"..\"")]
    BadPath {
        /// The path given.
        path: PathBuf,
    },
    /// A group could not be made.
    #[error("cannot make the control group {path:?}")]
    Create {
        /// Where the group would be.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// This user may not make or change groups here.
    #[error("not permitted to manage the control group {path:?}")]
    NotDelegated {
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// The group has processes in it that this call did not put there.
    #[error("the control group {path:?} exists and {processes} processes are in it")]
    InUse {
        /// The group.
        path: PathBuf,
        /// How many.
        processes: usize,
    },
    /// A limit needs a controller that this machine does not have.
    #[error("{field} needs the cgroup controller {controller}, which is not available")]
    NoController {
        /// The field of `linux.resources`.
        field: String,
        /// The controller.
        controller: String,
    },
    /// The kernel has the controller, but not this limit of it.
    #[error("{field} needs {file} of the cgroup controller {controller}, which this kernel does not have")]
    NoFile {
        /// The field of `linux.resources`.
        field: String,
        /// The controller.
        controller: String,
        /// The control file, or files of which one would do.
        file: String,
    },
    /// A controller exists but cannot be switched on for a group.
    #[error("cannot switch on the cgroup controller {controller} below {path:?}")]
    Enable {
        /// The controller.
        controller: String,
        /// The group whose children would get it.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// No resctrl file system is mounted.
    #[error("linux.intelRdt needs a mounted resctrl, which this machine does not have")]
    NoRdt,
    /// resctrl refused.
    #[error("cannot {verb} {path:?}{status}")]
    Rdt {
        /// What was tried.
        verb: &'static str,
        /// The group, or its file.
        path: PathBuf,
        /// What resctrl says about it, in parentheses.
        status: String,
        /// The failed call.
        source: sys::Error,
    },
    /// The name of systemd's unit makes no sense.
    #[error("{name:?} names no scope of systemd: {reason}")]
    BadUnit {
        /// The cgroupsPath, or the slice.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An annotation that names a property of systemd makes no sense.
    #[error("the annotation {key} is {value:?}: {reason}")]
    BadAnnotation {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It is not known where a user's systemd is.
    #[error("no bus of a user's systemd is known: {reason}")]
    NoBus {
        /// Why not.
        reason: String,
    },
    /// systemd cannot be talked to.
    #[error("cannot talk to systemd at {socket:?}")]
    Bus {
        /// The socket.
        socket: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// systemd refused.
    #[error("systemd cannot {verb} {unit}: {reason}")]
    Systemd {
        /// What was asked of it.
        verb: &'static str,
        /// The unit.
        unit: String,
        /// What it says.
        reason: String,
    },
    /// systemd has a unit of that name.
    #[error("systemd has a unit {unit} already")]
    UnitExists {
        /// The unit.
        unit: String,
    },
    /// A limit makes no sense.
    #[error("{field} is {value}: {reason}")]
    BadLimit {
        /// The field of `linux.resources`.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The kernel refused a limit.
    #[error("cannot set {field} to {value}")]
    Limit {
        /// The field of `linux.resources`.
        field: String,
        /// What was written.
        value: String,
        /// The failed call.
        source: sys::Error,
    },
    /// The device rules could not be installed.
    #[error("cannot restrict the devices of the control group {path:?}")]
    Devices {
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// A process could not be put into a group.
    #[error("cannot put process {pid} into the control group {path:?}")]
    Attach {
        /// The process.
        pid: i32,
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// A group's state could not be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// Freezing, thawing or killing failed.
    #[error("cannot {verb} the control group {path:?}")]
    Control {
        /// What was tried.
        verb: &'static str,
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
    /// Processes did not do in time what they must.
    #[error("the control group {path:?} is not {state} after {} s", .after.as_secs())]
    Timeout {
        /// The group.
        path: PathBuf,
        /// The state waited for.
        state: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// A group could not be removed.
    #[error("cannot remove the control group {path:?}")]
    Remove {
        /// The group.
        path: PathBuf,
        /// The failed call.
        source: sys::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotMounted | Self::NoRdt | Self::NoController { .. } | Self::NoFile { .. } => Kind::Unsupported,
            Self::BadPath { .. } | Self::BadLimit { .. } | Self::BadUnit { .. } | Self::BadAnnotation { .. } => {
                Kind::InvalidArgument
            }
            Self::NoBus { .. } | Self::Systemd { .. } | Self::UnitExists { .. } => Kind::FailedPrecondition,
            Self::NotDelegated { .. } => Kind::PermissionDenied,
            Self::InUse { .. } => Kind::FailedPrecondition,
            Self::Timeout { .. } => Kind::Unavailable,
            Self::Create { source, .. }
            | Self::Enable { source, .. }
            | Self::Limit { source, .. }
            | Self::Devices { source, .. }
            | Self::Attach { source, .. }
            | Self::Read { source, .. }
            | Self::Bus { source, .. }
            | Self::Rdt { source, .. }
            | Self::Control { source, .. }
            | Self::Remove { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotDelegated { .. } => Some(
                "without root, run inside a delegated group: systemd-run --user --scope -p Delegate=yes …; \
                 limits then need controllers delegated to user@.service"
                    .into(),
            ),
            Self::NoBus { .. } | Self::Bus { .. } => Some(
                "systemd has to run, and its bus: for a user the package dbus-user-session; without systemd use cgroups \
                 directly"
                    .into(),
            ),
            Self::Enable { source, .. } if source.errno() == Some(libc::EBUSY) => Some(
                "that group has processes of its own, and a group with processes cannot hand controllers on: \
                 move them into a child group first"
                    .into(),
            ),
            Self::Enable { source, .. } | Self::Attach { source, .. } if source.errno() == Some(libc::EOPNOTSUPP) => {
                Some("a threaded group is on the way: its children cannot hold whole processes".into())
            }
            Self::Attach { source, .. } if source.errno() == Some(libc::EBUSY) => Some(
                "that group has handed controllers on to groups below, so it takes no process itself: go into one of those"
                    .into(),
            ),
            Self::Limit { field, source, .. }
                if field.ends_with("realtimeRuntime") && source.errno() == Some(libc::EINVAL) =>
            {
                Some("a group gets realtime out of what the group above has: set cpu.rt_runtime_us there first".into())
            }
            Self::Limit { source, .. } if source.errno() == Some(libc::EBUSY) => {
                Some("more than that is in use, and the kernel cannot take it back".into())
            }
            _ => None,
        }
    }
}

/// A refusal for want of rights is a matter of delegation; anything else is what `other` makes of it.
pub(super) fn refused(path: &Path, source: sys::Error, other: impl FnOnce(PathBuf, sys::Error) -> Error) -> Error {
    match source.errno() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Error::NotDelegated { path: path.into(), source },
        _ => other(path.into(), source),
    }
}
