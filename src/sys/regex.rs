//! POSIX extended regular expressions, as the C library matches them (regex(3)).

#![expect(unsafe_code, reason = "regcomp(3) and regexec(3) have no safe wrapper")]

use std::ffi::CString;
use std::io;

use super::{Error, Result};

/// A compiled expression.
pub struct Regex {
    compiled: Box<libc::regex_t>,
}

impl Regex {
    /// Compiles `pattern`.
    pub fn new(pattern: &str) -> Result<Self> {
        let refuse =
            |why: &str| Error { call: format!("regcomp({pattern:?})"), source: io::Error::other(why.to_owned()) };
        let text = CString::new(pattern).map_err(|_| refuse("it has a NUL in it"))?;
        // SAFETY: regex_t is plain data for which zero is valid; regcomp fills it in.
        let mut compiled: Box<libc::regex_t> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: both pointers are valid for the call. On failure nothing is left to be freed.
        match unsafe { libc::regcomp(&raw mut *compiled, text.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) } {
            0 => Ok(Self { compiled }),
            _ => Err(refuse("it is not a regular expression")),
        }
    }

    /// Whether some part of `text`, which has no NUL, matches.
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: the expression was compiled; with no places for matches the null pointer is not used.
        unsafe { libc::regexec(&raw const *self.compiled, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: it was compiled, and is not used again.
        unsafe { libc::regfree(&raw mut *self.compiled) }
    }
}

#[cfg(test)]
mod tests {
    use super::Regex;

    #[test]
    fn expressions_are_posix_extended_ones() {
        let regex = Regex::new("^web-[0-9]+$").unwrap();
        assert!(regex.matches("web-12") && !regex.matches("web-") && !regex.matches("a web-1"));
        assert!(Regex::new("(").is_err() && Regex::new("a\0").is_err());
    }
}
