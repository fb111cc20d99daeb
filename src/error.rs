//! The classes of failure that every door understands.
//!
//! Each room has an error enum of its own, with named fields that say what was tried on what. A door
//! never looks into those enums: it asks for the [`Kind`] and maps that once, to an exit code, an
//! HTTP status or a ttrpc code, and prints the chain of sources and the hint.

/// What sort of failure an error is, for a door to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing named does not exist.
    NotFound,
    /// A thing of that name exists already.
    AlreadyExists,
    /// The caller's input cannot be meant.
    InvalidArgument,
    /// The input is fine, but not in the present state.
    FailedPrecondition,
    /// The kernel, a file mode or a registry refuses this caller.
    PermissionDenied,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// A disk, memory, rate or named limit is used up.
    ResourceExhausted,
    /// The other side cannot be reached now; trying again may help.
    Unavailable,
    /// This build, kernel or platform cannot do it.
    Unsupported,
    /// Bytes are not what their digest, size or format says.
    DataLoss,
    /// The user or a peer ended the work.
    Cancelled,
    /// A fault of ours, or of the kernel in a way nobody planned for.
    Internal,
}

/// An error of any room, as the doors see it.
pub trait Failure: std::error::Error + Send + Sync + 'static {
    /// The class of this failure.
    fn kind(&self) -> Kind;

    /// What the user can do about it, where that is known.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An error with its causes, in one line; a cause that the line ends with already is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let said = cause.to_string();
        if text.ends_with(&said) { text } else { format!("{text}: {said}") }
    })
}

/// Lets go of a result that nobody can act upon; the place that calls it says why.
pub fn tolerate<T, E>(_: Result<T, E>) {}

impl Kind {
    /// The class of an I/O error by its errno.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Self::NotFound,
            E::AlreadyExists => Self::AlreadyExists,
            E::PermissionDenied | E::ReadOnlyFilesystem => Self::PermissionDenied,
            E::InvalidInput => Self::InvalidArgument,
            E::StorageFull | E::QuotaExceeded | E::OutOfMemory | E::FileTooLarge => Self::ResourceExhausted,
            E::Unsupported => Self::Unsupported,
            E::InvalidData | E::UnexpectedEof => Self::DataLoss,
            E::TimedOut | E::ConnectionRefused | E::ConnectionReset | E::HostUnreachable | E::NetworkUnreachable => {
                Self::Unavailable
            }
            E::Interrupted => Self::Cancelled,
            _ => Self::Internal,
        }
    }
}
