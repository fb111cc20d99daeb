//! `report IN OUT`: reads orders, a JSON file, and writes what each customer bought, most first. Says how much it read,
//! with its SHA-256. The same program is there in other languages.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, input, output] = &args[..] else {
        eprintln!("usage: report IN OUT");
        std::process::exit(1);
    };
    let bytes = fs::read(input).unwrap_or_else(|error| {
        eprintln!("report: {input}: {error}");
        std::process::exit(1);
    });
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let orders: Vec<Value> = serde_json::from_slice(&bytes).expect("orders");

    let mut cents = BTreeMap::<&str, u64>::new();
    for order in &orders {
        let bought = order["count"].as_u64().unwrap() * order["cents"].as_u64().unwrap();
        *cents.entry(order["customer"].as_str().unwrap()).or_default() += bought;
    }
    let mut customers: Vec<_> = cents.into_iter().collect();
    customers.sort_by_key(|(name, cents)| (u64::MAX - cents, *name));
    let report: Vec<Value> = customers.iter().map(|(name, cents)| json!({"cents": cents, "customer": name})).collect();
    fs::write(output, format!("{}\n", Value::from(report))).expect("the report is written");

    println!("{} orders, sha256 {hash}", orders.len());
    for (name, cents) in customers {
        println!("{name:<12}{:>12}", format!("{}.{:02}", cents / 100, cents % 100));
    }
}
