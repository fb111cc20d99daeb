//! Does what its arguments say with `wasi:config` and `wasi:keyvalue`, one after the other: a line for each, with what
//! came of it.

mod bindings {
    wit_bindgen::generate!({
        inline: r#"
            package test:given;

            world given {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
            }

            package wasi:config@0.2.0-rc.1 {
                interface store {
                    variant error { upstream(string), io(string) }
                    get: func(key: string) -> result<option<string>, error>;
                    get-all: func() -> result<list<tuple<string, string>>, error>;
                }
            }

            package wasi:keyvalue@0.2.0-draft {
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
            }
        "#,
        world: "test:given/given",
        generate_all,
    });
}

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::store::Error;
use bindings::wasi::keyvalue::{atomics, batch, store};

fn main() {
    for what in std::env::args().skip(1) {
        let words: Vec<&str> = what.split('|').collect();
        match words[..] {
            ["config"] => {
                let mut all = config::get_all().unwrap();
                all.sort();
                println!("{all:?}");
            }
            ["config", name] => println!("{:?}", config::get(name).unwrap()),
            _ => match keyvalue(&words) {
                Ok(said) => println!("{said}"),
                Err(error) => println!("{error:?}"),
            },
        }
    }
}

fn keyvalue(words: &[&str]) -> Result<String, Error> {
    let bucket = store::open(words[1])?;
    Ok(match *words {
        ["get", _, key] => bucket.get(key)?.map_or("none".into(), |value| String::from_utf8(value).unwrap()),
        ["set", _, key, value] => {
            bucket.set(key, value.as_bytes())?;
            "ok".into()
        }
        ["delete", _, key] => {
            bucket.delete(key)?;
            "ok".into()
        }
        ["exists", _, key] => bucket.exists(key)?.to_string(),
        ["keys", _] => format!("{:?}", bucket.list_keys(None)?.keys),
        ["add", _, key, delta] => atomics::increment(&bucket, key, delta.parse().unwrap())?.to_string(),
        ["many", _] => {
            batch::set_many(&bucket, &[("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())])?;
            let got = batch::get_many(&bucket, &["a".into(), "missing".into(), "b".into()])?;
            batch::delete_many(&bucket, &["a".into(), "b".into()])?;
            format!("{} {}", got.len(), got.iter().flatten().count())
        }
        ["large", _, bytes] => {
            bucket.set("large", &vec![0; bytes.parse().unwrap()])?;
            "ok".into()
        }
        _ => panic!("nothing is called {words:?}"),
    })
}
