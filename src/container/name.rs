//! Ids and names: random ones, and the check of typed ones.

use super::Error;

/// The longest name. Docker has no limit but its file system's; a name here is also a host name's part.
const MAX_NAME: usize = 128;

const HOW: [&str; 32] = [
    "agile", "amber", "ample", "bold", "brave", "breezy", "bright", "brisk", "calm", "cheery", "clever", "coastal",
    "crisp", "deft", "eager", "early", "fair", "fleet", "gentle", "golden", "hardy", "jolly", "keen", "lively",
    "merry", "nimble", "quiet", "ready", "sturdy", "swift", "tidal", "warm",
];

const WHAT: [&str; 32] = [
    "anchor", "barge", "beacon", "bosun", "buoy", "canoe", "capstan", "caravel", "clipper", "compass", "cutter",
    "dinghy", "ferry", "frigate", "galley", "harbor", "hawser", "helm", "jetty", "keel", "ketch", "lantern", "lugger",
    "mast", "packet", "pilot", "rudder", "schooner", "sextant", "sloop", "tender", "yawl",
];

/// A new id: 256 random bits, in hex.
pub fn new_id() -> String {
    random().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name for a container that got none.
pub(super) fn generated() -> String {
    let [a, b, c, d, ..] = random();
    let (how, what) = (HOW[usize::from(a) % HOW.len()], WHAT[usize::from(b) % WHAT.len()]);
    format!("{how}_{what}_{:03}", u16::from_le_bytes([c, d]) % 1000)
}

/// A typed name, as Docker allows it.
pub(super) fn check(name: &str) -> Result<String, Error> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let begins_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins_well && name.len() >= 2 && name.len() <= MAX_NAME && name.bytes().all(fine) {
        return Ok(name.to_owned());
    }
    Err(Error::InvalidName { name: name.to_owned() })
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // Up to 256 bytes come whole, and the call cannot fail once the pool is initialised (getrandom(2)).
    assert_eq!(filled, Ok(bytes.len()), "the kernel gives random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["web", "a1", "A_b.c-d", "/web"] {
            check(good).unwrap();
        }
        for bad in ["", "a", "-a", ".a", "a b", "a/b", "ä", "a\n", &"x".repeat(MAX_NAME + 1)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        check(&generated()).unwrap();
        assert_eq!(new_id().len(), 64);
        assert_ne!(new_id(), new_id());
    }
}
