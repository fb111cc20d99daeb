//! containerd's way in. It will translate containerd's words to tasks and engines, and decide nothing.
//!
//! So far it only answers `-v`, in the shape of containerd's own shims. Everything else is refused: a shim that seemed
//! to start would leave containerd waiting for a socket.

use std::process::ExitCode;

const NAME: &str = "containerd-shim-wherry-v1";

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|flag| matches!(flag.as_str(), "-v" | "-version" | "--version")) {
        println!("{NAME}:\n  Version: {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    eprintln!("{NAME}: this version does not serve containerd yet; it only answers -v");
    ExitCode::FAILURE
}
