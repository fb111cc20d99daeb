//! What is known about images without opening the database: the last answer to a question, with the state of the
//! database's files that it was true for.
//!
//! Every transaction writes to the database's log or to the database itself, which changes a file's size or its time of
//! change. Times have a grain, and a second transaction within it would not show: an answer is kept only when the
//! last transaction was some time ago. An answer that cannot be read or written is not known, and asked for again.

use std::fs::{self, Metadata};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Db, ImageRow};
use crate::error::tolerate;

/// The coarsest grain of a filesystem's times (FAT's).
const GRAIN: Duration = Duration::from_secs(2);

/// The state of a file: its size, and when it was written to.
type Shape = (u64, SystemTime);

/// The state of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp([Option<Shape>; 2]);

#[derive(Serialize, Deserialize)]
struct Answer {
    stamp: Stamp,
    rows: Vec<ImageRow>,
}

/// One question, and the file for its answer.
pub(super) struct Known {
    path: PathBuf,
    stamp: Option<Stamp>,
    settled: bool,
}

impl Known {
    /// The question, asked now.
    pub(super) fn about(db: &Db, question: &str, of: &str) -> Self {
        let digest = Sha256::new().chain_update(question).chain_update([0]).chain_update(of).finalize();
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let files = [db.0.path.clone(), db.beside("-wal")].map(|path| fs::metadata(path).ok());
        let shape = |file: &Metadata| file.modified().ok().map(|at| (file.len(), at));
        let shapes = files.map(|file| file.as_ref().and_then(shape));
        let settled = shapes.iter().flatten().all(|(_, at)| at.elapsed().is_ok_and(|age| age > GRAIN));
        let stamp = shapes[0].is_some().then_some(Stamp(shapes));
        Self { path: db.beside(".known").join(name), stamp, settled }
    }

    /// The answer, if it is known.
    pub(super) fn answer(&self) -> Option<Vec<ImageRow>> {
        let answer: Answer = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (Some(&answer.stamp) == self.stamp.as_ref()).then_some(answer.rows)
    }

    /// Keeps the answer that the database gave after the question was asked.
    pub(super) fn keep(&self, rows: &[ImageRow]) {
        let Some(stamp) = self.stamp.clone().filter(|_| self.settled) else { return };
        let json = serde_json::to_vec(&Answer { stamp, rows: rows.to_vec() }).expect("rows are plain data");
        let temporary = self.path.with_extension(std::process::id().to_string());
        let made = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        // Whoever cannot write here asks the database each time.
        tolerate(made.and_then(|()| fs::write(&temporary, json)).and_then(|()| fs::rename(&temporary, &self.path)));
    }
}

/// Forgets all answers, so that those about what is no longer there do not stay for ever.
pub(super) fn forget(db: &Db) {
    // None of them is believed any more anyway.
    tolerate(fs::remove_dir_all(db.beside(".known")));
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn row(name: &str) -> ImageRow {
        ImageRow {
            name: name.to_owned(),
            platform: "wasi/wasm".to_owned(),
            manifest: "sha256:m".to_owned(),
            index: None,
            config: "sha256:c".to_owned(),
            size: 1,
            pulled_unix_ns: 1,
            record_json: "{}".to_owned(),
        }
    }

    /// Makes the database look as if its last transaction was some time ago.
    fn age(db: &Db) {
        for path in [db.0.path.clone(), db.beside("-wal")] {
            let file = File::options().write(true).open(path).unwrap();
            let at = file.metadata().unwrap().modified().unwrap();
            file.set_modified(at - 2 * GRAIN).unwrap();
        }
    }

    #[test]
    fn an_answer_is_kept_until_the_database_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        let db = Db::open(&path).unwrap();
        db.images().put(&row("one"), |_| unreachable!()).unwrap();
        assert_eq!(db.images().named("one").unwrap(), [row("one")]);
        assert!(Known::about(&db, "named", "one").answer().is_none(), "what changed just now may change again");
        age(&db);
        assert_eq!(db.images().named("one").unwrap(), [row("one")]);
        let unopened = Db::at(&path);
        assert_eq!(unopened.images().named("one").unwrap(), [row("one")]);
        assert!(unopened.0.connection.get().is_none());
        assert!(Known::about(&db, "of config", "one").answer().is_none(), "another question");

        db.images().put(&row("two"), |_| unreachable!()).unwrap();
        assert!(Known::about(&db, "named", "one").answer().is_none());
        db.images().remove(&[("one", "wasi/wasm")]).unwrap();
        assert_eq!(Db::at(&path).images().named("one").unwrap(), []);
        assert!(!db.beside(".known").exists());
    }

    #[test]
    fn what_is_no_answer_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
        age(&db);
        let known = Known::about(&db, "named", "one");
        known.keep(&[row("one")]);
        assert_eq!(known.answer().unwrap(), [row("one")]);
        fs::write(&known.path, "{").unwrap();
        assert!(known.answer().is_none());
    }
}
