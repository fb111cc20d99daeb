//! The engine's settings. Compiled code fits only the settings it was compiled with, so compiling and
//! loading take them from here, and they are part of a cached entry's key.

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use wasmtime::WasmBacktraceDetails;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use super::{Error, cause};

/// How deep calls may nest, in bytes of stack. Twice wasmtime's default: interpreters compiled to
/// WebAssembly (CPython, QuickJS) recurse deeply. Going deeper traps.
pub(super) const MAX_WASM_STACK: usize = 1 << 20;

/// The stack on which a program and the host's functions that it calls run: what the host's functions
/// need comes on top. Mapped, not touched, until it is used.
const STACK: usize = MAX_WASM_STACK + (1 << 20);

/// What a program is for: it decides what has to be in its compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It runs once, alone in its process: ending the process ends it.
    Command,
    /// The same, with its instructions counted.
    Metered,
    /// It answers HTTP requests of WASI 0.2, each in an instance, many at a time in one process.
    Server2,
    /// The same, of WASI 0.3.
    Server3,
}

/// How many purposes there are.
const PURPOSES: usize = 4;

impl Purpose {
    /// Whether it is an HTTP server.
    pub(super) fn serves(self) -> bool {
        matches!(self, Self::Server2 | Self::Server3)
    }
}

/// The engine that compiles, made at its first use.
pub(super) fn compiler(purpose: Purpose) -> Result<&'static Engine, Error> {
    static ENGINES: [OnceLock<Engine>; PURPOSES] = [const { OnceLock::new() }; PURPOSES];
    once(&ENGINES[purpose as usize], || {
        let mut config = config(purpose);
        // Never Winch: it is quick to compile, and most sandbox escapes of recent years were in it.
        config.strategy(Strategy::Cranelift).parallel_compilation(true);
        config
    })
}

/// The engine that runs, made at its first use. There is no compiler in it, which saves setting one up
/// and leaves a program nothing to compile with.
pub(super) fn runner(purpose: Purpose) -> Result<&'static Engine, Error> {
    static ENGINES: [OnceLock<Engine>; PURPOSES] = [const { OnceLock::new() }; PURPOSES];
    once(&ENGINES[purpose as usize], || {
        let mut config = config(purpose);
        // A trap notes what a core dump is made of, which costs nothing before it.
        config.enable_compiler(false).coredump_on_trap(true);
        if purpose.serves() {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        }
        config
    })
}

/// The most instances of a server at a time. Each has a place of 4 GiB of addresses, of which there are 2^47.
pub(super) const MAX_INSTANCES: u32 = 1_000;
/// The most core modules in one server: its own, one for each language's adapter and the glue between them.
const MAX_MODULES: u32 = 16;
/// The most tables in one server, in all of its modules.
const MAX_TABLES: u32 = 8;
/// The most elements of a server's table: one for each function that can be called through a pointer. CPython has
/// 12,000, StarlingMonkey 20,000.
const MAX_ELEMENTS: usize = 100_000;
/// How much of an instance's memory stays in place for the next one, with what was written undone; the rest is
/// given back. Writing over a page is quicker than giving it back and faulting it in again.
const KEPT: usize = 4 << 20;

/// The places for a server's instances: reserved once, reused without asking the kernel.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES * MAX_MODULES)
        .max_core_instances_per_component(MAX_MODULES)
        .total_memories(MAX_INSTANCES)
        .max_memories_per_component(1)
        .total_tables(MAX_INSTANCES * MAX_TABLES)
        .max_tables_per_component(MAX_TABLES)
        .table_elements(MAX_ELEMENTS)
        .total_stacks(MAX_INSTANCES)
        .linear_memory_keep_resident(KEPT)
        .table_keep_resident(KEPT)
        .max_unused_warm_slots(MAX_INSTANCES)
        // Linux 6.7 tells which pages were written; before that the first KEPT bytes are all written over, so there
        // are fewer of them.
        .pagemap_scan(Enabled::Auto);
    pool
}

fn once(place: &'static OnceLock<Engine>, config: impl FnOnce() -> Config) -> Result<&'static Engine, Error> {
    if let Some(engine) = place.get() {
        return Ok(engine);
    }
    let engine = Engine::new(&config()).map_err(|error| Error::Engine { source: cause(error) })?;
    Ok(place.get_or_init(|| engine))
}

/// What compiling and running have in common, which is everything that shows in compiled code.
fn config(purpose: Purpose) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_init_cow(true)
        .max_wasm_stack(MAX_WASM_STACK)
        .async_stack_size(STACK)
        // A trap names the functions it went through, from the name section. Debug information in the
        // program is not read: it is a stranger's and its parser is large.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // Only native debuggers and profilers read it, and registering it costs at every start.
        .native_unwind_info(false)
        // There is no way to start a thread; shared memory would only widen what can go wrong.
        .wasm_threads(false)
        // What the standard leaves to the processor comes out the same on each, at the price of an instruction.
        .relaxed_simd_deterministic(true)
        // WASI 0.3 is made of it. A server that does without is called without the bookkeeping for it.
        .concurrency_support(purpose != Purpose::Server2)
        .wasm_component_model_async(purpose != Purpose::Server2)
        // A request that takes too long is ended, and one that computes for long lets others have their turn; a
        // command has its process to itself.
        .epoch_interruption(purpose.serves())
        // Counting costs some instructions in each block, so it is only there for who asked for it.
        .consume_fuel(purpose == Purpose::Metered);
    config
}

/// A digest of everything but the program's bytes that compiled code depends on: wasmtime's version,
/// these settings, the processor's features. Also of our own version, whose offer of imports was
/// compared with the program's before its code was kept.
pub(super) fn fingerprint(engine: &Engine) -> [u8; 32] {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    hasher.0.finalize().into()
}

/// SHA-256 where the standard library wants a [`Hasher`]: the result is the same in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        u64::from_le_bytes(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
    }
}
