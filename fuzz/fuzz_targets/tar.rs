//! The tar reader on any bytes: it neither panics, nor loops, nor yields more data than there is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wherry::snapshot::tar::Reader;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    let mut data = 0;
    while let Some(Ok(_)) = reader.next() {
        while let Ok(chunk) = reader.chunk() {
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len();
            data += length;
            reader.consume(length);
        }
    }
    assert!(data <= bytes.len());
});
