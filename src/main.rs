//! The binary: one of the doors, or a stage: a container's supervisor, or the compiler of a WebAssembly
//! program.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args_os().next().is_some_and(|name| name == wherry::task::SUPERVISE) {
        return supervise();
    }
    #[cfg(target_os = "linux")]
    if std::env::args_os().next().is_some_and(|name| name == wherry::engine::wasm::COMPILE) {
        return wherry::engine::wasm::compile_stage(std::env::args().skip(1)).into();
    }
    #[cfg(target_os = "linux")]
    if let Some(status) = runtime() {
        return status.into();
    }
    wherry::cli::main(std::env::args_os()).into()
}

/// runc's command line, if that is how the binary was called: as `wherry-oci`, or with `oci` as the first word.
#[cfg(target_os = "linux")]
fn runtime() -> Option<u8> {
    let mut words = std::env::args_os();
    let name = words.next()?;
    if std::path::Path::new(&name).file_name().is_some_and(|name| name == "wherry-oci") {
        return Some(wherry::runtime::main("wherry-oci", words));
    }
    (words.next()? == "oci").then(|| wherry::runtime::main("wherry oci", words))
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
