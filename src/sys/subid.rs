//! The ranges of ids that an administrator gives to ordinary users (subuid(5), subgid(5)), and the maps of a user
//! namespace that are made of them.
//!
//! ```text
//! alice:100000:65536        a name or a user's number, the first id, how many
//! ```
//!
//! newuidmap(1) looks at the same files and decides; what is asked of it here is only what it will allow.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::user::Range;
use super::{Result, named};

/// The largest file that is read: as many as 30,000 users with a range each.
pub const MAX_BYTES: u64 = 1 << 20;

/// How many ranges a map can have (UID_MAP_MAX_EXTENTS of linux/user_namespace.h), less the one for the user.
pub const MAX_RANGES: usize = 339;

/// The last id that can be mapped: the one after it means nobody (-1).
const LAST: u64 = u32::MAX as u64 - 1;

/// Reads one of these files, or /etc/passwd; one that is not there is empty.
pub(super) fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(text),
        opened => opened.and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)),
    };
    named(read, || format!("read({path:?})"))?;
    // What comes after the limit is not looked at, and a line that it cuts would be another.
    let whole = if text.len() as u64 == MAX_BYTES { text.rfind('\n').unwrap_or(0) } else { text.len() };
    text.truncate(whole);
    Ok(text)
}

/// The name of a user in the text of passwd(5).
pub(super) fn name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name).filter(|name| !name.is_empty())
    })
}

/// The map of a namespace in which `own` is 0, followed by all ids that the text gives to the user. With the first
/// range alone nothing is given.
pub(super) fn map(text: &str, name: Option<&str>, uid: u32, own: u32) -> Vec<Range> {
    let given = text.lines().filter_map(|line| range(line, name, uid)).collect();
    let free = without(disjoint(given), u64::from(own));
    let mut map = vec![(0, own, 1)];
    let mut inside = 1;
    for (first, end) in free.into_iter().take(MAX_RANGES) {
        let count = (end - first).min(LAST + 1 - inside);
        if count > 0 {
            map.push((inside as u32, first as u32, count as u32));
            inside += count;
        }
    }
    map
}

/// The ids of a line for this user: the first, and the one after the last. A line that makes no sense gives none.
fn range(line: &str, name: Option<&str>, uid: u32) -> Option<(u64, u64)> {
    let mut fields = line.trim().split(':');
    let owner = fields.next()?;
    if Some(owner) != name && owner.parse() != Ok(uid) {
        return None;
    }
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (first, count) = (number()?, number()?);
    let end = first.checked_add(count)?.min(LAST + 1);
    (fields.next().is_none() && first < end).then_some((first, end))
}

/// The same ids in ascending ranges of which no two meet: the kernel takes no id twice.
fn disjoint(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut all: Vec<(u64, u64)> = Vec::new();
    for (first, end) in ranges {
        match all.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(end),
            _ => all.push((first, end)),
        }
    }
    all
}

/// The ranges less one id.
fn without(ranges: Vec<(u64, u64)>, id: u64) -> Vec<(u64, u64)> {
    let split = |(first, end): (u64, u64)| match (first..end).contains(&id) {
        true => [(first, id), (id + 1, end)],
        false => [(first, end), (end, end)],
    };
    ranges.into_iter().flat_map(split).filter(|(first, end)| first < end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_is_given() {
        let alone = (0, 1000, 1);
        for (text, expected) in [
            ("", vec![alone]),
            ("alice:100000:65536\n", vec![alone, (1, 100_000, 65536)]),
            ("1000:100000:65536", vec![alone, (1, 100_000, 65536)]),
            ("bob:1:2\nalice:300000:10\nalicea:5:5\nalice:100000:5\n", vec![alone, (1, 100_000, 5), (6, 300_000, 10)]),
            // They meet, overlap and repeat each other.
            ("alice:100:10\nalice:110:10\n1000:105:30\nalice:100:10", vec![alone, (1, 100, 35)]),
            // The user's own id is 0 already.
            ("alice:999:3", vec![alone, (1, 999, 1), (2, 1001, 1)]),
            ("alice:1000:1", vec![alone]),
            // Nonsense, and lines that are not for sure about ids.
            ("alice", vec![alone]),
            ("alice:1", vec![alone]),
            ("alice::5\nalice:5:\nalice:-1:5\nalice:a:b\nalice:1:2:3\n:1:5\n", vec![alone]),
            ("alice:5:0", vec![alone]),
            ("alice:18446744073709551615:2", vec![alone]),
            ("alice:99999999999:2", vec![alone]),
            // No further than there are ids, outside and inside.
            ("alice:4294967290:100", vec![alone, (1, 4_294_967_290, 5)]),
            ("alice:0:4294967296", vec![alone, (1, 0, 1000), (1001, 1001, 4_294_966_294)]),
        ] {
            assert_eq!(map(text, Some("alice"), 1000, 1000), expected, "{text:?}");
        }
    }

    #[test]
    fn somebody_without_a_name_is_known_by_number_only() {
        assert_eq!(map(":1:5\n77:10:5", None, 77, 78), [(0, 78, 1), (1, 10, 5)]);
    }

    #[test]
    fn no_map_has_more_ranges_than_the_kernel_takes() {
        let line = |n: usize| format!("a:{}:1\n", n * 2);
        let of = |count: usize| map(&(1..=count).map(line).collect::<String>(), Some("a"), 1, 1).len();
        assert_eq!(of(MAX_RANGES), 1 + MAX_RANGES);
        assert_eq!(of(MAX_RANGES + 1), 1 + MAX_RANGES);
    }

    #[test]
    fn names_are_of_the_first_account() {
        let passwd = "root:x:0:0::/:\nbroken\nal:x:1000:1::/:\nalias:x:1000:1::/:\n:x:5:5::/:\n";
        assert_eq!(name(passwd, 1000), Some("al"));
        assert_eq!(name(passwd, 5), None);
        assert_eq!(name(passwd, 7), None);
    }

    #[test]
    fn a_file_is_read_up_to_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("subuid");
        assert_eq!(read(&path).unwrap(), "");
        let line = "alice:100000:65536\n";
        std::fs::write(&path, line.repeat(MAX_BYTES as usize / line.len() + 2)).unwrap();
        let text = read(&path).unwrap();
        assert!(text.len() as u64 <= MAX_BYTES && text.ends_with("65536"), "{}", text.len());
        std::fs::write(&path, line).unwrap();
        assert_eq!(read(&path).unwrap(), line);
    }
}
