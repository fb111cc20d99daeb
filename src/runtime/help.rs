//! The help and the version, as text made from the tables of options.

use std::ffi::OsString;

use super::options::Flag;
use super::{COMMANDS, Command, GLOBAL, OCI_VERSION};

/// What `--version` says. Engines read the first line and those after it by their first words.
pub fn version(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or(program).replace(' ', "-");
    format!("{name} version {}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

/// All commands and the options before them.
pub fn overview(program: &str) -> String {
    let commands: String = COMMANDS.iter().map(|c| format!("   {:<12}{}\n", c.name, c.about)).collect();
    format!(
        "Run containers from OCI bundles, as runc does\n\n\
         Usage: {program} [global options] command [command options] [arguments...]\n\n\
         Commands:\n{commands}   help        show the help of a command\n\n\
         Global options:\n{}",
        flags(&GLOBAL)
    )
}

/// One command.
pub fn command(program: &str, command: &Command) -> String {
    let Command { name, words, about, .. } = command;
    format!(
        "{about}\n\nUsage: {program} {name} [command options] {words}\n\nOptions:\n{}   --help, -h{:24}show this help\n",
        flags(command.flags),
        ""
    )
}

/// Whether the words, before those of another program, ask for help.
pub fn is_asked_for(command: &Command, words: &[OsString]) -> bool {
    let own = words.iter().take_while(|word| *word != "--");
    let mut own = own.take_while(|word| !command.stops || word.to_string_lossy().starts_with('-'));
    own.any(|word| word == "--help" || word == "-h" || word == "-help")
}

fn flags(flags: &[Flag]) -> String {
    flags.iter().filter(|flag| !flag.hidden).map(line).collect()
}

fn line(flag: &Flag) -> String {
    let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
    let short = flag.short.map(|short| format!(", -{short}{value}")).unwrap_or_default();
    format!("   {:<32}  {}\n", format!("--{}{value}{short}", flag.long), flag.help)
}
