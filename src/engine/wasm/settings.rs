//! The engine's settings. Compiled code fits only the settings it was compiled with, so compiling and
//! loading take them from here, and they are part of a cached entry's key.

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, Strategy, WasmBacktraceDetails};

use super::{Error, cause};

/// How deep calls may nest, in bytes of stack. Twice wasmtime's default: interpreters compiled to
/// WebAssembly (CPython, QuickJS) recurse deeply. Going deeper traps.
pub(super) const MAX_WASM_STACK: usize = 1 << 20;

/// The stack on which a program and the host's functions that it calls run: what the host's functions
/// need comes on top. Mapped, not touched, until it is used.
const STACK: usize = MAX_WASM_STACK + (1 << 20);

/// The engine that compiles, made at its first use.
pub(super) fn compiler() -> Result<&'static Engine, Error> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    once(&ENGINE, || {
        let mut config = config();
        // Never Winch: it is quick to compile, and most sandbox escapes of recent years were in it.
        config.strategy(Strategy::Cranelift).parallel_compilation(true);
        config
    })
}

/// The engine that runs, made at its first use. There is no compiler in it, which saves setting one up
/// and leaves a program nothing to compile with.
pub(super) fn runner() -> Result<&'static Engine, Error> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    once(&ENGINE, || {
        let mut config = config();
        // A trap notes what a core dump is made of, which costs nothing before it.
        config.enable_compiler(false).coredump_on_trap(true);
        config
    })
}

fn once(place: &'static OnceLock<Engine>, config: impl FnOnce() -> Config) -> Result<&'static Engine, Error> {
    if let Some(engine) = place.get() {
        return Ok(engine);
    }
    let engine = Engine::new(&config()).map_err(|error| Error::Engine { source: cause(error) })?;
    Ok(place.get_or_init(|| engine))
}

/// What compiling and running have in common, which is everything that shows in compiled code.
fn config() -> Config {
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
        // WASI 0.3 is made of it.
        .wasm_component_model_async(true);
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
