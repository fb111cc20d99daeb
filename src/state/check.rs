//! Whether the database is whole.

use rusqlite::Connection;

use super::{Db, Result, failed};

/// The most problems that are told of.
const MAX_PROBLEMS: usize = 20;

impl Db {
    /// What SQLite finds wrong with the database: nothing, if it is whole.
    pub fn problems(&self) -> Result<Vec<String>> {
        let connection = self.lock()?;
        let integrity = texts(&connection, &format!("PRAGMA integrity_check({MAX_PROBLEMS})"));
        let mut problems = integrity.map_err(failed("check"))?;
        problems.retain(|text| text != "ok");
        let foreign = texts(&connection, "PRAGMA foreign_key_check").map_err(failed("check references"))?;
        problems.extend(foreign.into_iter().map(|table| format!("a row of {table} refers to nothing")));
        problems.truncate(MAX_PROBLEMS);
        Ok(problems)
    }
}

fn texts(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_database_has_no_problems_and_a_damaged_one_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        let db = Db::open(&path).unwrap();
        assert_eq!(db.problems().unwrap(), [""; 0]);
        let corrupt = "PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET rootpage = 9999 WHERE name = 'images_by_config'";
        Connection::open(&path).unwrap().execute_batch(corrupt).unwrap();
        assert!(Db::at(&path).problems().map_or(true, |problems| !problems.is_empty()));
    }
}
