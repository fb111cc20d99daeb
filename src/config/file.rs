//! The configuration file: what the admin set about the store. Read strictly, since what is misspelt there would
//! otherwise remove images, or keep them for ever.
//!
//! ```toml
//! [gc]
//! unused-for = "7d"          # images that nobody has used for so long go
//! high-watermark = "85%"     # when more of the disk than this is used, the least recently used images go …
//! low-watermark = "80%"      # … until no more than this is
//! keep = ["registry.example.org/base/*"]
//!
//! [storage]
//! keep-blobs = false         # what a layer came as goes once it is unpacked
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::Place;
use crate::error::{Failure, Kind};

/// The largest file that is read: a thousand times what is written by hand.
const MAX_BYTES: u64 = 1 << 20;

/// The longest age: a century is a slip of the hand.
const MAX_AGE: Duration = Duration::from_secs(100 * 365 * 86400);

/// What the admin set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Preferences {
    /// Which images go by themselves.
    pub gc: Collection,
    /// What is kept of an image.
    pub storage: Storage,
}

/// What is kept of an image that is pulled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Storage {
    /// Whether a layer's blob is kept once it is unpacked.
    pub keep_blobs: bool,
}

impl Default for Storage {
    fn default() -> Self {
        Self { keep_blobs: true }
    }
}

/// Which images go by themselves: none, unless something is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Collection {
    /// Those that nobody has used for so long.
    pub unused_for: Option<Age>,
    /// The least recently used ones, when more of the disk is used than this.
    pub high_watermark: Option<Level>,
    /// And so many of them that no more is used than this.
    pub low_watermark: Option<Level>,
    /// But never one of a name that fits one of these patterns.
    pub keep: Vec<String>,
}

/// A duration: whole numbers of `w`, `d`, `h`, `m` and `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Age(pub Duration);

/// So much of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Level {
    /// Of its size, in hundredths.
    Percent(u8),
    /// In bytes.
    Bytes(u64),
}

/// The configuration file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the configuration {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too large to be one.
    #[error("the configuration {path:?} has more than {MAX_BYTES} bytes")]
    Size {
        /// The file.
        path: PathBuf,
    },
    /// It says something that means nothing.
    #[error("the configuration {path:?} cannot be understood: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What, and where.
        reason: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Size { .. } => Kind::ResourceExhausted,
            Self::Invalid { .. } => Kind::InvalidArgument,
        }
    }
}

impl Preferences {
    /// What is set in the file that is there, if any is.
    pub fn read(place: &Place) -> Result<Self, Error> {
        let (candidates, must) = match place {
            Place::Named(path) => (std::slice::from_ref(path), true),
            Place::Standard(paths) => (&paths[..], false),
        };
        for path in candidates {
            match read(path) {
                Err(Error::Read { source, .. }) if !must && source.kind() == std::io::ErrorKind::NotFound => {}
                read => return Self::parse(&read?).map_err(|reason| Error::Invalid { path: path.clone(), reason }),
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let parsed: Self = toml::from_str(text).map_err(|error| located(text, &error))?;
        parsed.gc.check().map(|()| parsed)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    file.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if text.len() as u64 > MAX_BYTES { Err(Error::Size { path: path.to_owned() }) } else { Ok(text) }
}

/// An error with its line, in one line.
fn located(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => format!("line {}: {message}", text[..span.start.min(text.len())].matches('\n').count() + 1),
        None => message,
    }
}

impl Collection {
    /// Whether anything is to go.
    pub fn is_on(&self) -> bool {
        self.unused_for.is_some() || self.watermarks().is_some()
    }

    /// The high one and the low one.
    pub fn watermarks(&self) -> Option<(Level, Level)> {
        self.high_watermark.zip(self.low_watermark)
    }

    fn check(&self) -> Result<(), String> {
        match (self.high_watermark, self.low_watermark) {
            (Some(Level::Percent(high)), Some(Level::Percent(low))) if low <= high => Ok(()),
            (Some(Level::Bytes(high)), Some(Level::Bytes(low))) if low <= high => Ok(()),
            (Some(Level::Percent(_)), Some(Level::Bytes(_))) | (Some(Level::Bytes(_)), Some(Level::Percent(_))) => {
                Err("gc.high-watermark and gc.low-watermark are both percentages or both sizes".to_owned())
            }
            (Some(_), Some(_)) => Err("gc.low-watermark is above gc.high-watermark".to_owned()),
            (Some(_), None) => Err("gc.high-watermark needs gc.low-watermark".to_owned()),
            (None, Some(_)) => Err("gc.low-watermark needs gc.high-watermark".to_owned()),
            (None, None) => Ok(()),
        }?;
        match self.keep.iter().find(|pattern| pattern.is_empty()) {
            Some(_) => Err("gc.keep has an empty pattern, which no name fits".to_owned()),
            None => Ok(()),
        }
    }
}

impl Level {
    /// In bytes, of a filesystem of so many.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Percent(percent) => (u128::from(total) * u128::from(percent) / 100) as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let seconds = seconds(&text).filter(|seconds| (1..=MAX_AGE.as_secs()).contains(seconds));
        let invalid = || format!("{text:?} is no time that something can be unused for: give 7d, 12h or 1d12h");
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(invalid)
    }
}

fn seconds(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit = match rest.as_bytes()[end] {
            b'w' => 7 * 86400,
            b'd' => 86400,
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        sum = sum.checked_add(rest[..end].parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &rest[end + 1..];
    }
    Some(sum)
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let percent =
            text.strip_suffix('%').map(|number| number.parse().ok().filter(|number| (1..=100).contains(number)));
        let level = match percent {
            Some(percent) => percent.map(Self::Percent),
            None => bytes(&text).filter(|bytes| *bytes > 0).map(Self::Bytes),
        };
        level.ok_or_else(|| format!("{text:?} is no part of a disk: give 85%, 40GB or 40GiB"))
    }
}

fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == &text[end..])?;
    text[..end].parse::<u64>().ok()?.checked_mul(*unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(text: &str) -> bool {
        Preferences::parse(text).unwrap().storage.keep_blobs
    }

    #[test]
    fn what_is_set_is_read() {
        let all = "[gc]\nunused-for = '1d12h'\nhigh-watermark = '85%'\nlow-watermark = '80%'\nkeep = ['a/*']\n";
        let gc = Preferences::parse(all).unwrap().gc;
        assert_eq!(gc.unused_for, Some(Age(Duration::from_secs(36 * 3600))));
        assert_eq!(gc.watermarks(), Some((Level::Percent(85), Level::Percent(80))));
        assert_eq!((gc.keep.len(), gc.is_on()), (1, true));
        let sizes = Preferences::parse("gc = { high-watermark = '2GiB', low-watermark = '2GB' }").unwrap().gc;
        assert_eq!(sizes.watermarks(), Some((Level::Bytes(2 << 30), Level::Bytes(2_000_000_000))));
        assert_eq!(Level::Percent(85).of(u64::MAX), u64::MAX / 100 * 85 + 12);
        assert!(keeps("") && !keeps("storage.keep-blobs = false"));
        for off in ["", "# nothing", "[gc]\nkeep = ['x']"] {
            assert!(!Preferences::parse(off).unwrap().gc.is_on(), "{off}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_line() {
        for (text, says) in [
            ("[gx]", "line 1: unknown field `gx`"),
            ("[gc]\nunused = '7d'", "line 2: unknown field `unused`"),
            ("[gc]\nunused-for = '7'", "is no time"),
            ("[gc]\nunused-for = '0s'", "is no time"),
            ("[gc]\nunused-for = '99999999999999w'", "is no time"),
            ("[gc]\nunused-for = 7", "line 2: invalid type"),
            ("[gc]\nhigh-watermark = '0%'\nlow-watermark = '0%'", "is no part of a disk"),
            ("[gc]\nhigh-watermark = '101%'", "is no part of a disk"),
            ("[gc]\nhigh-watermark = '5 GB'", "is no part of a disk"),
            ("[gc]\nhigh-watermark = '80%'", "needs gc.low-watermark"),
            ("[gc]\nlow-watermark = '80%'", "needs gc.high-watermark"),
            ("[gc]\nhigh-watermark = '80%'\nlow-watermark = '85%'", "is above"),
            ("[gc]\nhigh-watermark = '80%'\nlow-watermark = '8GB'", "both percentages or both sizes"),
            ("[gc]\nkeep = ['']", "empty pattern"),
            ("[storage]\nkeep-blobs = 'no'", "line 2: invalid type"),
            ("[gc", "line 1: "),
        ] {
            let error = Preferences::parse(text).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_first_file_that_is_there_counts_and_a_named_one_has_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("two"), "gc.unused-for = '1h'").unwrap();
        std::fs::write(at("three"), "nonsense").unwrap();
        let read = Preferences::read(&Place::Standard(vec![at("one"), at("two"), at("three")])).unwrap();
        assert!(read.gc.is_on());
        assert_eq!(Preferences::read(&Place::Standard(vec![at("one")])).unwrap(), Preferences::default());
        assert!(matches!(Preferences::read(&Place::Named(at("one"))), Err(Error::Read { .. })));
        assert!(matches!(Preferences::read(&Place::Named(at("three"))), Err(Error::Invalid { .. })));
        std::fs::write(at("large"), " ".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(matches!(Preferences::read(&Place::Named(at("large"))), Err(Error::Size { .. })));
    }
}
