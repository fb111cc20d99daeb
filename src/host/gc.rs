//! Images that go by themselves, as the configuration says: those that nobody has used for long, and the least recently
//! used ones when the disk is nearly full, as the kubelet of Kubernetes does it.
//!
//! ```text
//! candidates   no container, no kept name, not the one just pulled ─ by the time of their last use
//! by age       all that are older than `unused-for`
//! by the disk  when more is used than the high watermark: the oldest, until the low one is reached
//! ```
//!
//! What is to go is decided once, from what blobs and layers take up, and not by looking at the disk after each removal:
//! filesystems give back room when it suits them. What turns out not to be enough goes the next time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::usage::Part;
use super::{Error, Host};
use crate::config::Collection;
use crate::event::{Actor, Event, Type};
use crate::image::{Image, Removed};
use crate::oci::Digest;
use crate::snapshot::LayerId;
use crate::sys::disk::Room;

/// What was used so lately stays however full the disk is: somebody may be about to make a container of it. The
/// kubelet's number; and longer than uses are apart that are written down.
const LEAST_AGE: Duration = Duration::from_secs(120);

/// Why an image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody has used it for so long.
    Unused(Duration),
    /// The disk is fuller than it should be, by so many bytes, and nobody has used it for so long.
    Disk {
        /// More than the low watermark.
        over: u64,
        /// Since its last use.
        unused: Duration,
    },
}

/// An image that goes, or went.
#[derive(Debug)]
pub struct Removal {
    /// The image.
    pub image: Image,
    /// Why.
    pub reason: Reason,
    /// Bytes that are freed with it, as far as blobs and layers say.
    pub size: u64,
}

/// What a collection did.
#[derive(Debug, Default)]
pub struct Collected {
    /// The images, in the order in which they went.
    pub removals: Vec<Removal>,
    /// Bytes that were freed.
    pub freed: u64,
    /// Bytes on the disk that are used more than the low watermark allows, and that no image could free.
    pub over: u64,
}

/// An image that may go.
#[derive(Debug)]
struct Candidate {
    /// Where it is in the list of images.
    at: usize,
    unused: Duration,
}

/// How much of the disk is used, and what the configuration says to that.
#[derive(Clone, Copy, Debug)]
struct Disk {
    used: u64,
    high: u64,
    low: u64,
}

impl Host {
    /// Removes the images that the configuration says should go, but never `except`. With `dry`, nothing is removed.
    pub fn collect_images(&self, policy: &Collection, except: Option<&Digest>, dry: bool) -> Result<Collected, Error> {
        if !policy.is_on() {
            return Ok(Collected::default());
        }
        if !dry && self.disk(policy)?.is_some_and(|disk| disk.used > disk.high) {
            // First of all what nobody misses.
            self.images()?.collect()?;
            self.sweep_layers()?;
        }
        let (images, counts) = (self.images()?.list()?, self.container_counts()?);
        let parts = images.iter().map(|image| self.parts(image)).collect::<Result<Vec<_>, _>>()?;
        let disk = self.disk(policy)?;
        let free = |image: &Image| !counts.contains_key(image.id()) && Some(image.id()) != except;
        let candidates = self.candidates(&images, &|image| free(image) && !is_kept(image, &policy.keep))?;
        let pinned = self.layers_of_containers()?;
        let plan = plan(policy, &candidates, &parts, &pinned, disk);
        let mut images: Vec<Option<Image>> = images.into_iter().map(Some).collect();
        let removal =
            |(at, reason, size): (usize, Reason, u64)| images[at].take().map(|image| Removal { image, reason, size });
        let removals = plan.chosen.into_iter().filter_map(removal).collect();
        self.remove_images(removals, plan.over, dry)
    }

    /// How full the disk is, if that matters.
    fn disk(&self, policy: &Collection) -> Result<Option<Disk>, Error> {
        let Some((high, low)) = policy.watermarks() else { return Ok(None) };
        let room = Room::of(&self.settings.root).map_err(|source| Error::Disk { source })?;
        Ok(Some(Disk { used: room.used(), high: high.of(room.total), low: low.of(room.total) }))
    }

    /// The images that are free to go, the least recently used first.
    fn candidates(&self, images: &[Image], is_free: &dyn Fn(&Image) -> bool) -> Result<Vec<Candidate>, Error> {
        let (used, now) = (self.db()?.used(), SystemTime::now());
        let unused = |image: &Image| {
            let pulled = UNIX_EPOCH + Duration::from_nanos(image.pulled_unix_ns().unsigned_abs());
            let last = used.at(image.id().as_str()).map_or(pulled, |at| at.max(pulled));
            // What was used in the future was used now: somebody has set the clock.
            now.duration_since(last).unwrap_or_default()
        };
        let free = images.iter().enumerate().filter(|(_, image)| is_free(image));
        let mut candidates: Vec<Candidate> = free.map(|(at, image)| Candidate { at, unused: unused(image) }).collect();
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.unused));
        Ok(candidates)
    }

    fn remove_images(&self, removals: Vec<Removal>, over: u64, dry: bool) -> Result<Collected, Error> {
        let mut collected = Collected { over, ..Collected::default() };
        if dry {
            collected.freed = removals.iter().map(|removal| removal.size).sum();
            collected.removals = removals;
            return Ok(collected);
        }
        if removals.is_empty() {
            return Ok(collected);
        }
        let before = self.layer_bytes()?;
        for removal in removals {
            let id = removal.image.id();
            let still = || self.container_counts().is_ok_and(|counts| !counts.contains_key(id));
            // What somebody at work needs stays.
            let Some(pruned) = self.images()?.evict(&removal.image, &still)? else { continue };
            self.note_removed(&removal, &pruned.removed);
            collected.freed += pruned.freed;
            collected.removals.push(removal);
        }
        self.sweep_layers()?;
        self.sweep_code()?;
        collected.freed += before.saturating_sub(self.layer_bytes()?);
        Ok(collected)
    }

    /// Writes down which names and images went, and why.
    fn note_removed(&self, removal: &Removal, removed: &[Removed]) {
        let id = removal.image.id().to_string();
        let reason = match removal.reason {
            Reason::Unused(_) => "unused",
            Reason::Disk { .. } => "disk",
        };
        for one in removed {
            let (action, name) = match one {
                Removed::Untagged(name) => ("untag", name.clone()),
                Removed::Deleted(digest) if *digest == *removal.image.id() => ("delete", id.clone()),
                Removed::Deleted(_) => continue,
            };
            let actor = Actor { id: id.clone(), ..Actor::default() }.with("name", name).with("reason", reason);
            // That it could not be written down is no reason to stop half-way.
            crate::error::tolerate(self.journal().note(&Event::now(Type::Image, action, actor)));
        }
    }
}

/// What is to go: the places in the list of images, why, and what is freed with each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    chosen: Vec<(usize, Reason, u64)>,
    over: u64,
}

/// Decides. `candidates` are in the order in which they go; `parts` are those of all images, and `pinned` layers that
/// stay in any case.
fn plan(
    policy: &Collection,
    candidates: &[Candidate],
    parts: &[Vec<(Part, u64)>],
    pinned: &HashSet<LayerId>,
    disk: Option<Disk>,
) -> Plan {
    let mut users: HashMap<&Part, usize> = HashMap::new();
    for (part, _) in parts.iter().flat_map(|parts| distinct(parts)) {
        *users.entry(part).or_default() += 1;
    }
    // What goes with one more image: the parts that it was the last to have.
    let mut take = |at: usize| {
        let mut size = 0;
        for (part, bytes) in distinct(&parts[at]) {
            let left = users.get_mut(part).expect("every part was counted");
            *left -= 1;
            let stays = *left > 0 || matches!(part, Part::Layer(id) if pinned.contains(id));
            size += if stays { 0 } else { *bytes };
        }
        size
    };
    let mut plan = Plan::default();
    let too_old = |unused: Duration| policy.unused_for.is_some_and(|age| unused >= age.0);
    for candidate in candidates.iter().filter(|candidate| too_old(candidate.unused)) {
        plan.chosen.push((candidate.at, Reason::Unused(candidate.unused), take(candidate.at)));
    }
    let freed: u64 = plan.chosen.iter().map(|(_, _, size)| size).sum();
    let Some(disk) = disk.filter(|disk| disk.used.saturating_sub(freed) > disk.high) else { return plan };
    plan.over = disk.used.saturating_sub(freed).saturating_sub(disk.low);
    for candidate in candidates.iter().filter(|c| !too_old(c.unused) && c.unused >= LEAST_AGE) {
        if plan.over == 0 {
            break;
        }
        let (over, size) = (plan.over, take(candidate.at));
        plan.chosen.push((candidate.at, Reason::Disk { over, unused: candidate.unused }, size));
        plan.over = over.saturating_sub(size);
    }
    plan
}

/// An image may have the same layer twice.
fn distinct(parts: &[(Part, u64)]) -> impl Iterator<Item = &(Part, u64)> {
    let mut seen = HashSet::new();
    parts.iter().filter(move |(part, _)| seen.insert(part))
}

/// Whether one of an image's names fits one of the patterns: in full or as people write it, with its tag or without.
fn is_kept(image: &Image, patterns: &[String]) -> bool {
    let fits = |name: &str| patterns.iter().any(|pattern| fits(pattern, name));
    image.names().iter().any(|name| {
        let (full, familiar) = (name.reference.to_string(), name.reference.familiar());
        let bare = name.reference.name();
        let familiar_bare = familiar.get(..familiar.len().saturating_sub(full.len() - bare.len())).unwrap_or_default();
        [&full[..], &familiar, &bare, familiar_bare].into_iter().any(fits)
    })
}

/// Whether a name fits a pattern, in which `*` is any text, slashes and colons too, and `?` is any character.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut place) = (0, 0);
    // Where the last star is, and how much of the name it has taken: it takes more when nothing else fits.
    let mut star: Option<(usize, usize)> = None;
    while place < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[place] => (at, place) = (at + 1, place + 1),
            _ => {
                let Some((from, taken)) = star else { return false };
                star = Some((from, taken + 1));
                (at, place) = (from + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Age, Level};

    const HOUR: Duration = Duration::from_secs(3600);

    fn blob(name: &str, size: u64) -> (Part, u64) {
        (Part::Blob(Digest::sha256(name.as_bytes())), size)
    }

    fn policy(unused_for: Option<u32>, watermarks: bool) -> Collection {
        let level = |on: bool| on.then_some(Level::Percent(1));
        Collection {
            unused_for: unused_for.map(|hours| Age(HOUR * hours)),
            high_watermark: level(watermarks),
            low_watermark: level(watermarks),
            keep: Vec::new(),
        }
    }

    fn chosen(
        policy: &Collection,
        ages: &[u32],
        parts: &[Vec<(Part, u64)>],
        disk: Option<Disk>,
    ) -> (Vec<(usize, u64)>, u64) {
        let candidates: Vec<_> =
            ages.iter().enumerate().map(|(at, hours)| Candidate { at, unused: HOUR * *hours }).collect();
        let plan = plan(policy, &candidates, parts, &HashSet::new(), disk);
        (plan.chosen.iter().map(|(at, _, size)| (*at, *size)).collect(), plan.over)
    }

    #[test]
    fn what_is_too_old_goes_and_shared_parts_with_the_last_that_has_them() {
        let parts = [
            vec![blob("shared", 10), blob("a", 1)],
            vec![blob("shared", 10), blob("b", 2), blob("b", 2)],
            vec![blob("c", 4)],
        ];
        let age = policy(Some(24), false);
        assert_eq!(chosen(&age, &[48, 24, 23], &parts, None), (vec![(0, 1), (1, 12)], 0));
        assert_eq!(chosen(&age, &[48, 23, 1], &parts, None), (vec![(0, 1)], 0), "it is needed by another");
        assert_eq!(chosen(&policy(None, false), &[48, 24, 23], &parts, None), (vec![], 0));
    }

    #[test]
    fn a_disk_that_is_too_full_loses_the_oldest_until_it_is_not() {
        let parts = [vec![blob("a", 10)], vec![blob("b", 10)], vec![blob("c", 10)], vec![blob("d", 10)]];
        let disk = |used| Some(Disk { used, high: 100, low: 85 });
        let both = policy(Some(48), true);
        assert_eq!(chosen(&both, &[9, 8, 7, 6], &parts, disk(100)), (vec![], 0));
        assert_eq!(chosen(&both, &[9, 8, 7, 6], &parts, disk(101)), (vec![(0, 10), (1, 10)], 0));
        assert_eq!(chosen(&both, &[48, 8, 7, 6], &parts, disk(101)), (vec![(0, 10)], 0), "that was enough");
        assert_eq!(chosen(&both, &[48, 8, 7, 6], &parts, disk(111)), (vec![(0, 10), (1, 10), (2, 10)], 0));
        assert_eq!(chosen(&both, &[9, 8, 0, 0], &parts, disk(120)), (vec![(0, 10), (1, 10)], 15), "fresh ones stay");
    }

    #[test]
    fn layers_of_containers_free_nothing() {
        let layer: LayerId = serde_json::from_value(serde_json::json!(Digest::sha256(b"layer"))).unwrap();
        let parts = [vec![(Part::Layer(layer.clone()), 10), blob("a", 1)]];
        let candidates = [Candidate { at: 0, unused: HOUR }];
        let plan = plan(&policy(Some(1), false), &candidates, &parts, &HashSet::from([layer]), None);
        assert_eq!(plan.chosen, [(0, Reason::Unused(HOUR), 1)]);
    }

    #[test]
    fn patterns() {
        for (pattern, name, fit) in [
            ("a/*", "a/b/c:1", true),
            ("a/*", "b/a/c", false),
            ("*", "", true),
            ("**a", "bca", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("alpine", "alpine", true),
            ("alpine", "alpine:3", false),
            ("*:stable", "r/x:stable", true),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
