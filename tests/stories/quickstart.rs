//! README's first command, with the binary under test: what a newcomer sees must work.

use std::process::Command;

use crate::support::repository;

#[test]
fn the_quickstart_works() {
    let output = Command::new("bash")
        .arg(repository("examples/quickstart.sh"))
        .env("WHERRY", env!("CARGO_BIN_EXE_wherry"))
        .output()
        .expect("bash starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("hello from Linux") && stdout.contains("hello from WebAssembly"), "{stdout}");
    assert!(stdout.ends_with("quickstart: all done\n"), "{stdout}");
}
