//! What the host's `ps` says of some processes: the lines of its listing that are theirs.

use std::ffi::OsString;

use crate::error::{Failure, Kind};
use crate::sys::{self, named};

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be executed.
    #[error("cannot list processes")]
    Sys(#[from] sys::Error),
    /// It refused its options.
    #[error("ps: {said}")]
    Refused {
        /// What it said.
        said: String,
    },
    /// Its listing has no column with the processes' numbers.
    #[error("Couldn't find PID field in ps output")]
    NoPid,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Sys(source) => source.kind(),
            Self::Refused { .. } | Self::NoPid => Kind::InvalidArgument,
        }
    }
}

/// The head of the listing and the lines of the processes `pids`; without options, those of `ps -ef`.
pub fn of(options: &[OsString], pids: &[i32]) -> Result<Vec<String>, Error> {
    let mut ps = std::process::Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef")
    } else {
        ps.args(options)
    };
    let output = named(ps.output(), || "execve(\"ps\")".into())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Refused { said });
    }
    filter(&String::from_utf8_lossy(&output.stdout), pids)
}

fn filter(listing: &str, pids: &[i32]) -> Result<Vec<String>, Error> {
    let mut lines = listing.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID").ok_or(Error::NoPid)?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(head).chain(lines.filter(ours)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_column_that_is_called_pid() {
        let listing = "UID   PID  PPID CMD\nroot    7    12 sleep 12\nroot   12     1 sh\n";
        assert_eq!(filter(listing, &[12]).unwrap(), ["UID   PID  PPID CMD", "root   12     1 sh"]);
        assert!(filter("A B\n1 2\n", &[1]).is_err());
    }
}
