//! An archive of images, of any bytes: loading it neither panics nor takes for ever, nothing appears outside of the store,
//! and what is said of it can be printed.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use wherry::error::chain;
use wherry::state::Db;
use wherry::{archive, content, image};

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a scratch directory");
    let store = dir.path().join("store");
    let content = content::Store::open(&store.join("content")).expect("a store");
    let judge = image::Judge { offers: |_| true, refuses: |_| None };
    let images = image::Store::new(Db::at(&store.join("db")), content.clone(), judge, wherry::trust::Guard::default());
    match archive::load(&images, &content, Box::new(std::io::Cursor::new(bytes.to_vec()))) {
        Ok(loaded) => assert!(!loaded.images.is_empty()),
        Err(error) => {
            let said = chain(&error);
            assert!(said.len() < 64 << 10, "{} bytes of an error", said.len());
        }
    }
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1, "something appeared beside the store");
});
