//! What of memory and tables a program may have, all of its memories and all of its tables together, and which of
//! these limits it came to.
//!
//! Growing beyond a limit is no error: the program is told -1, as WebAssembly has it, and most then end in a trap that
//! says nothing of why. So the first refusal is kept, to be named when the program is over.

use wasmtime::ResourceLimiter;

use super::grant::limit::Limit;
use super::grant::quantity::shown;

/// The limits of one program, and how much of them is used.
#[derive(Debug, Default)]
pub(super) struct Ceiling {
    memory: Option<u64>,
    limit: Limit,
    used: u64,
    elements: usize,
    /// What the last growth that was allowed has added, in case it fails after all.
    last: u64,
    refused: Option<String>,
}

impl Ceiling {
    /// Limits, with `memory` bytes for all linear memories.
    pub fn new(memory: Option<u64>, limit: &Limit) -> Self {
        Self { memory, limit: limit.clone(), ..Self::default() }
    }

    /// The limit that the program came to, in words.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    fn refuse(&mut self, what: impl FnOnce() -> String) -> wasmtime::Result<bool> {
        self.refused.get_or_insert_with(what);
        Ok(false)
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let by = desired.saturating_sub(current) as u64;
        let used = self.used.saturating_add(by);
        self.last = 0;
        if let Some(limit) = self.memory.filter(|limit| used > *limit) {
            return self.refuse(|| format!("it was refused more linear memory than {} (--memory)", shown(limit)));
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        (self.used, self.last) = (used, by);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= std::mem::take(&mut self.last);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        let limit = self.limit.table_elements;
        if elements > limit {
            return self
                .refuse(|| format!("it was refused more than {limit} elements of tables (--max-table-elements)"));
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limit.instances
    }

    fn tables(&self) -> usize {
        self.limit.tables
    }

    fn memories(&self) -> usize {
        self.limit.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_together_are_limited_and_the_first_refusal_is_named() {
        let mut ceiling = Ceiling::new(Some(10 << 20), &Limit::default());
        assert!(ceiling.memory_growing(0, 6 << 20, None).unwrap());
        assert!(!ceiling.memory_growing(0, 6 << 20, None).unwrap(), "a second memory");
        assert!(ceiling.memory_growing(6 << 20, 10 << 20, None).unwrap());
        ceiling.memory_grow_failed(wasmtime::Error::msg("no room")).unwrap();
        assert!(ceiling.memory_growing(6 << 20, 10 << 20, None).unwrap(), "what failed is not counted");
        assert!(!ceiling.table_growing(0, 20_000_000, None).unwrap());
        assert!(ceiling.refused().unwrap().contains("10m (--memory)"));
    }

    #[test]
    fn what_the_program_declares_is_no_refusal_of_ours() {
        let mut ceiling = Ceiling::new(None, &Limit::default());
        assert!(!ceiling.memory_growing(0, 2 << 16, Some(1 << 16)).unwrap());
        assert!(!ceiling.table_growing(0, 2, Some(1)).unwrap());
        assert_eq!(ceiling.refused(), None);
    }
}
