//! Reading a line from a terminal without showing it.

use std::io::BufRead;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Result, named};

/// The longest line that is read.
const MAX_LINE: u64 = 64 << 10;

/// Reads a line from standard input, which is a terminal, while it shows nothing. However this ends, short of a kill, the
/// terminal is as before.
pub fn read_line() -> Result<String> {
    struct Restore(rustix::termios::Termios);
    impl Drop for Restore {
        fn drop(&mut self) {
            // A terminal that is gone needs no restoring.
            tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0).ok();
        }
    }
    let before = named(tcgetattr(std::io::stdin()), || "tcgetattr(0)".into())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    let _restore = Restore(before);
    named(tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden), || "tcsetattr(0)".into())?;
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), MAX_LINE);
    named(input.read_line(&mut line), || "read(0)".into())?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
