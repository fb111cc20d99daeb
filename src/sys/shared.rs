//! A page of numbers that a process shares with the children that it forks afterwards, and with nobody else: it has
//! no name and no descriptor, and an execve(2) ends it.

#![expect(unsafe_code, reason = "mmap(2) has no safe form")]

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::{Result, named};

/// How many numbers there are: 4 KiB.
pub const WORDS: usize = 512;

/// The page.
#[derive(Debug)]
pub struct Page(NonNull<[AtomicU64; WORDS]>);

// SAFETY: what is behind the pointer is atomic, and stays mapped for as long as there is a `Page`.
unsafe impl Send for Page {}
// SAFETY: the same.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros.
    pub fn new() -> Result<Self> {
        const SIZE: usize = size_of::<[AtomicU64; WORDS]>();
        // SAFETY: a new mapping where the kernel wants it touches nothing that exists.
        let mapped =
            unsafe { mmap_anonymous(std::ptr::null_mut(), SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) };
        let mapped = named(mapped, || format!("mmap({SIZE}, MAP_SHARED | MAP_ANONYMOUS)"))?;
        Ok(Self(NonNull::new(mapped.cast()).expect("the kernel maps nothing at 0")))
    }

    /// The numbers. Another process may change them at any time, to anything.
    pub fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: mapped, of this size, aligned to a page, zeroed by the kernel, for which every bit pattern is valid;
        // and unmapped only when there is no `Page` to borrow from.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new` with this size, and nobody can refer to it any more.
        let unmapped = unsafe { munmap(self.0.as_ptr().cast(), size_of::<[AtomicU64; WORDS]>()) };
        debug_assert!(unmapped.is_ok(), "munmap of what was mapped");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::sys::ending::alone;

    #[test]
    fn what_a_child_writes_is_seen() {
        let page = Page::new().unwrap();
        assert!(page.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert!(alone(|| {
            page.words()[WORDS - 1].fetch_add(7, Ordering::Relaxed);
            true
        }));
        assert_eq!(page.words()[WORDS - 1].load(Ordering::Relaxed), 7);
    }
}
