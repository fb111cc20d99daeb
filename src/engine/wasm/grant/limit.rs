//! What a program may use up, and what may be used up to compile it.
//!
//! Every limit has a value without being asked for. That on time is off, as it is for other programs.

use std::time::Duration;

use super::quantity::{bytes, number, shown, time};
use super::{Set, Word};

/// The words of this group.
pub(super) const WORDS: &[Word] = &[
    Word { name: "fuel", value: "N", opens: "Instructions that the program may execute, about; it is then broken off" },
    Word { name: "timeout", value: "DURATION", opens: "Time that the program may take; it then ends with 124" },
    Word { name: "max-memories", value: "N", opens: "Linear memories of a program (default 100)" },
    Word { name: "max-tables", value: "N", opens: "Tables of a program (default 1000)" },
    Word {
        name: "max-table-elements",
        value: "N",
        opens: "Elements of all tables of a program together (default 10000000)",
    },
    Word { name: "max-instances", value: "N", opens: "Module instances of a program (default 1000)" },
    Word {
        name: "max-handles",
        value: "N",
        opens: "Files, streams, sockets and what else a program has open at a time (default 100000)",
    },
    Word { name: "max-random", value: "BYTES", opens: "Random bytes of one call (default 64m)" },
    Word {
        name: "max-host-copy",
        value: "BYTES",
        opens: "What one call copies from the program to the engine: lists, strings, paths (default 128m)",
    },
    Word {
        name: "max-fields",
        value: "BYTES",
        opens: "Header fields of one HTTP message that the program makes (default 128k)",
    },
    Word { name: "compile-timeout", value: "DURATION", opens: "Time in which a program is compiled (default 5m)" },
    Word { name: "compile-memory", value: "BYTES", opens: "Memory in which a program is compiled (default 4g)" },
];

/// What a program may use up.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How many instructions it may execute, as the engine counts them; they are counted only if this is asked for.
    pub fuel: Option<u64>,
    /// Its linear memories. Each reserves 4 GiB of addresses, of which there are 2^47.
    pub memories: usize,
    /// Its tables: a component has a few for each of the modules in it.
    pub tables: usize,
    /// The elements of all its tables, of which browsers allow one table ten million (WebAssembly JavaScript interface,
    /// "Implementation-defined limits"). They lie outside of linear memory, so the limit on that does not count them.
    pub table_elements: usize,
    /// Its module instances.
    pub instances: usize,
    /// Its open files, streams, sockets and pollables at a time.
    pub handles: usize,
    /// The random bytes that one call asks for.
    pub random: u64,
    /// What one call copies from the program to us.
    pub host_copy: usize,
    /// The header fields of one HTTP message.
    pub fields: usize,
    /// Its compilation.
    pub compile: Compile,
}

/// What compiling one program may use up. It is the bytes, which are a stranger's, that decide what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compile {
    /// The time.
    pub timeout: Duration,
    /// The memory of the compiling process.
    pub memory: u64,
    /// Whether the code is to count the program's instructions.
    pub metered: bool,
}

impl Default for Compile {
    /// Ten times what CPython with its standard library takes: 26 MB of WebAssembly.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(300), memory: 4 << 30, metered: false }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            timeout: None,
            fuel: None,
            memories: 100,
            tables: 1_000,
            table_elements: 10_000_000,
            instances: 1_000,
            handles: 100_000,
            random: 64 << 20,
            host_copy: 128 << 20,
            fields: 128 << 10,
            compile: Compile::default(),
        }
    }
}

/// The least memory that a compiler is given: what it takes for an empty module, with all of its threads.
const LEAST_COMPILE_MEMORY: u64 = 32 << 20;

impl Limit {
    /// Takes one word; whether it is one of this group.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Set {
        match name {
            "timeout" => self.timeout = Some(nonzero(time(value)?)?),
            "fuel" => {
                self.fuel = Some(number(value)?);
                self.compile.metered = true;
            }
            "max-memories" => self.memories = fit(number(value)?)?,
            "max-tables" => self.tables = fit(number(value)?)?,
            "max-table-elements" => self.table_elements = fit(number(value)?)?,
            "max-instances" => self.instances = fit(number(value)?)?,
            "max-handles" => self.handles = fit(number(value)?)?,
            "max-random" => self.random = bytes(value)?,
            "max-host-copy" => self.host_copy = fit(bytes(value)?)?,
            "max-fields" => self.fields = fit(bytes(value)?)?,
            "compile-timeout" => self.compile.timeout = nonzero(time(value)?)?,
            "compile-memory" => self.compile.memory = enough(bytes(value)?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn nonzero(time: Duration) -> Result<Duration, String> {
    if time.is_zero() { Err("nothing can be done in no time".into()) } else { Ok(time) }
}

fn enough(memory: u64) -> Result<u64, String> {
    let refused = || format!("the compiler needs {} at least", shown(LEAST_COMPILE_MEMORY));
    if memory < LEAST_COMPILE_MEMORY { Err(refused()) } else { Ok(memory) }
}

fn fit(value: u64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| "it is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_sets_its_limit() {
        for word in WORDS {
            let value = match word.value {
                "BYTES" => "33m",
                "DURATION" => "1500ms",
                _ => "7",
            };
            let mut limit = Limit::default();
            assert_eq!(limit.set(word.name, value), Ok(true), "{}", word.name);
            assert_ne!(limit, Limit::default(), "{}", word.name);
            assert!(limit.set(word.name, "x").is_err() && limit.set(word.name, "").is_err(), "{}", word.name);
        }
        assert_eq!(Limit::default().set("another", "1"), Ok(false));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (name, value) in [("timeout", "0"), ("compile-timeout", "0ms"), ("compile-memory", "1m")] {
            assert!(Limit::default().set(name, value).is_err(), "{name} {value}");
        }
    }
}
