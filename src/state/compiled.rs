//! The table of compiled code: which images a piece of it was made for. It goes with the last of them.

use rusqlite::{Connection, params};

use super::{Db, Result, failed};

/// The table of compiled code.
pub struct Compiled<'a> {
    pub(super) db: &'a Db,
}

impl Compiled<'_> {
    /// Notes that `code` is the program of `image`. Most often that is known, and nothing is written.
    pub fn note(&self, code: &str, image: &str) -> Result<()> {
        let intent = "note whose compiled code it is";
        let known = "SELECT EXISTS (SELECT 1 FROM compiled WHERE code = ?1 AND image = ?2)";
        let known = self.db.lock()?.query_row(known, [code, image], |row| row.get(0)).map_err(failed(intent))?;
        if known {
            return Ok(());
        }
        self.db.write(intent, |tx| {
            let sql = "INSERT OR IGNORE INTO compiled (code, image) VALUES (?1, ?2)";
            tx.execute(sql, [code, image]).map(drop).map_err(failed(intent))
        })
    }

    /// Forgets the images that are not there any more, and returns the code that belongs to no image now.
    pub fn forget(&self, is_there: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let intent = "forget compiled code";
        self.db.write(intent, |tx| forget(tx, is_there).map_err(failed(intent)))
    }
}

fn forget(tx: &Connection, is_there: impl Fn(&str) -> bool) -> rusqlite::Result<Vec<String>> {
    let mut rows = tx.prepare("SELECT code, image FROM compiled ORDER BY code")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (kept, gone): (Vec<(String, String)>, Vec<_>) =
        rows.collect::<rusqlite::Result<Vec<(String, String)>>>()?.into_iter().partition(|(_, image)| is_there(image));
    for (code, image) in &gone {
        tx.execute("DELETE FROM compiled WHERE code = ?1 AND image = ?2", params![code, image])?;
    }
    let mut codes: Vec<String> = gone.into_iter().map(|(code, _)| code).collect();
    codes.dedup();
    codes.retain(|code| kept.iter().all(|(other, _)| other != code));
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_goes_with_the_last_image_that_it_was_made_for() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
        for (code, image) in [("a", "one"), ("a", "two"), ("b", "one"), ("a", "one"), ("c", "three")] {
            db.compiled().note(code, image).unwrap();
        }
        assert_eq!(db.compiled().forget(|_| true).unwrap(), [""; 0]);
        assert_eq!(db.compiled().forget(|image| image != "one").unwrap(), ["b"]);
        assert_eq!(db.compiled().forget(|image| image == "three").unwrap(), ["a"]);
        assert_eq!(db.compiled().forget(|_| false).unwrap(), ["c"]);
        assert_eq!(db.compiled().forget(|_| false).unwrap(), [""; 0]);
    }
}
