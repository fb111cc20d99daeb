//! `wasi:keyvalue` 0.2.0-draft: stores of values that outlive the program, in directories that it was granted.
//!
//! A store that was not given by name does not exist. Each is a directory of files, one for each key ([`store`]), which
//! is why it lies in a volume. Wasmtime's own implementation keeps values in memory and forgets them.

#[cfg(unix)]
mod store;
#[cfg(not(unix))]
#[path = "nowhere.rs"]
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use wasmtime::component::{HasData, Resource, ResourceTable, ResourceTableError};

pub(super) use bindings::wasi::keyvalue::{atomics, batch, store as interface};
pub use store::{Failed, Store};

use super::{Error, Preopen};

/// The most keys of one call, in and out.
const MAX_BATCH: usize = 1_000;
/// The most bytes of the values of one call, out.
const MAX_BATCH_BYTES: usize = 64 << 20;

mod bindings {
    wasmtime::component::bindgen!({
        inline: r#"
            package wasi:keyvalue@0.2.0-draft;

            interface store {
                variant error { no-such-store, access-denied, other(string) }
                record key-response { keys: list<string>, cursor: option<u64> }
                open: func(identifier: string) -> result<bucket, error>;
                resource bucket {
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                    exists: func(key: string) -> result<bool, error>;
                    list-keys: func(cursor: option<u64>) -> result<key-response, error>;
                }
            }

            interface atomics {
                use store.{bucket, error};
                increment: func(bucket: borrow<bucket>, key: string, delta: u64) -> result<u64, error>;
            }

            interface batch {
                use store.{bucket, error};
                get-many: func(bucket: borrow<bucket>, keys: list<string>)
                    -> result<list<option<tuple<string, list<u8>>>>, error>;
                set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>) -> result<_, error>;
                delete-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>;
            }

            world imports {
                import store;
                import atomics;
                import batch;
            }
        "#,
        world: "wasi:keyvalue/imports",
        imports: { default: trappable },
        with: { "wasi:keyvalue/store.bucket": super::Store },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Failed },
    });
}

/// The stores of a program, by name.
pub(super) type Stores = BTreeMap<String, Store>;

/// Opens the stores in `directories`, each of which is in one of `preopens`.
pub(super) fn open(directories: &BTreeMap<String, PathBuf>, preopens: &[Preopen]) -> Result<Stores, Error> {
    let open = |(name, directory): (&String, &PathBuf)| {
        let failed = |source| Error::Store { name: name.clone(), directory: directory.clone(), source };
        let above = preopens.iter().filter(|preopen| directory.starts_with(&preopen.guest));
        let volume = above.max_by_key(|preopen| preopen.guest.len());
        let outside = || failed(std::io::Error::other("it is in none of the program's directories"));
        let volume = volume.ok_or_else(outside)?;
        let below = directory.strip_prefix(&volume.guest).map_err(|_| outside())?;
        Ok((name.clone(), Store::open(&volume.host, below, volume.readonly).map_err(failed)?))
    };
    directories.iter().map(open).collect()
}

/// Whose interfaces these are.
pub(super) struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = View<'a>;
}

/// What they work on.
pub(super) struct View<'a> {
    pub(super) stores: &'a Stores,
    pub(super) table: &'a mut ResourceTable,
}

impl From<ResourceTableError> for Failed {
    fn from(error: ResourceTableError) -> Self {
        Self::Other(error.to_string())
    }
}

impl interface::Host for View<'_> {
    fn open(&mut self, identifier: String) -> Result<Resource<Store>, Failed> {
        let store = self.stores.get(&identifier).ok_or(Failed::NoSuchStore)?;
        Ok(self.table.push(store.clone())?)
    }

    fn convert_error(&mut self, failed: Failed) -> wasmtime::Result<interface::Error> {
        Ok(match failed {
            Failed::NoSuchStore => interface::Error::NoSuchStore,
            Failed::Denied => interface::Error::AccessDenied,
            Failed::Other(why) => interface::Error::Other(why),
        })
    }
}

impl interface::HostBucket for View<'_> {
    fn get(&mut self, bucket: Resource<Store>, key: String) -> Result<Option<Vec<u8>>, Failed> {
        self.table.get(&bucket)?.get(&key)
    }

    fn set(&mut self, bucket: Resource<Store>, key: String, value: Vec<u8>) -> Result<(), Failed> {
        self.table.get(&bucket)?.set(&key, &value)
    }

    fn delete(&mut self, bucket: Resource<Store>, key: String) -> Result<(), Failed> {
        self.table.get(&bucket)?.delete(&key)
    }

    fn exists(&mut self, bucket: Resource<Store>, key: String) -> Result<bool, Failed> {
        self.table.get(&bucket)?.exists(&key)
    }

    fn list_keys(&mut self, bucket: Resource<Store>, cursor: Option<u64>) -> Result<interface::KeyResponse, Failed> {
        let all = self.table.get(&bucket)?.keys()?;
        let from = usize::try_from(cursor.unwrap_or_default()).unwrap_or(usize::MAX).min(all.len());
        let to = from.saturating_add(MAX_BATCH).min(all.len());
        Ok(interface::KeyResponse { keys: all[from..to].to_vec(), cursor: (to < all.len()).then_some(to as u64) })
    }

    fn drop(&mut self, bucket: Resource<Store>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    fn increment(&mut self, bucket: Resource<Store>, key: String, delta: u64) -> Result<u64, Failed> {
        self.table.get(&bucket)?.increment(&key, delta)
    }
}

fn check_batch(count: usize) -> Result<(), Failed> {
    let too_many = || Failed::Other(format!("more than {MAX_BATCH} keys in one call"));
    if count > MAX_BATCH { Err(too_many()) } else { Ok(()) }
}

impl batch::Host for View<'_> {
    fn get_many(
        &mut self,
        bucket: Resource<Store>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Failed> {
        check_batch(keys.len())?;
        let store = self.table.get(&bucket)?;
        let (mut values, mut bytes) = (Vec::new(), 0);
        for key in keys {
            let value = store.get(&key)?;
            bytes += value.as_ref().map_or(0, Vec::len);
            if bytes > MAX_BATCH_BYTES {
                return Err(Failed::Other(format!("the values are more than {MAX_BATCH_BYTES} bytes")));
            }
            values.push(value.map(|value| (key, value)));
        }
        Ok(values)
    }

    fn set_many(&mut self, bucket: Resource<Store>, values: Vec<(String, Vec<u8>)>) -> Result<(), Failed> {
        check_batch(values.len())?;
        let store = self.table.get(&bucket)?;
        values.iter().try_for_each(|(key, value)| store.set(key, value))
    }

    fn delete_many(&mut self, bucket: Resource<Store>, keys: Vec<String>) -> Result<(), Failed> {
        check_batch(keys.len())?;
        let store = self.table.get(&bucket)?;
        keys.iter().try_for_each(|key| store.delete(key))
    }
}
