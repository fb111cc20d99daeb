//! What somebody types as the name of an image: whatever parses is written back to the same reference, in both of its
//! forms, and can be printed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wherry::reference::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    for written in [reference.to_string(), reference.familiar()] {
        assert!(!written.contains(char::is_control), "{written:?}");
        assert_eq!(written.parse::<Reference>().as_ref(), Ok(&reference), "{written:?}");
    }
});
