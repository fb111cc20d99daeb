//! The binary: a door, or the stage that a container's supervisor is.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args_os().next().is_some_and(|name| name == wherry::task::SUPERVISE) {
        return supervise();
    }
    wherry::cli::main(std::env::args_os()).into()
}

/// The supervisor; what it leaves to be cleaned up is done by a command line of ours in its place.
#[cfg(target_os = "linux")]
fn supervise() -> ExitCode {
    match wherry::task::supervise() {
        None => ExitCode::SUCCESS,
        Some(arguments) => {
            wherry::cli::main(std::iter::once("wherry".into()).chain(arguments.into_iter().map(Into::into))).into()
        }
    }
}
