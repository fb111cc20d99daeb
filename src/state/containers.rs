//! The table of containers: unique ids, unique names, and records that are changed in one
//! transaction, so that two processes never lose each other's update.

use rusqlite::{Connection, OptionalExtension, Row, params};

use serde::{Deserialize, Serialize};

use super::fleeting::Fleeting;
use super::{Db, Error, Result, failed};

/// How many ids an ambiguous prefix's error lists.
const LISTED_MATCHES: u32 = 10;

/// One container, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// The full id.
    pub id: String,
    /// The unique name.
    pub name: String,
    /// When it was created, in nanoseconds since 1970.
    pub created_unix_ns: i64,
    /// The container room's record, versioned JSON.
    pub record_json: String,
}

/// The table of containers.
pub struct Containers<'a> {
    pub(super) db: &'a Db,
}

impl Containers<'_> {
    /// Adds a container; fails if its name or id is taken.
    pub fn insert(&self, row: &ContainerRow) -> Result<()> {
        let intent = "add a container";
        refuse_fleeting_name(self.db, &row.name)?;
        self.db.write(intent, |tx| {
            refuse_taken_name(tx, &row.name)?;
            if by_id(tx, &row.id).map_err(failed(intent))?.is_some() {
                return Err(Error::IdTaken { id: row.id.clone() });
            }
            let sql = "INSERT INTO containers (id, name, created_unix_ns, record) VALUES (?1, ?2, ?3, ?4)";
            let values = params![row.id, row.name, row.created_unix_ns, row.record_json];
            tx.execute(sql, values).map(drop).map_err(failed(intent))
        })
    }

    /// Adds a container that is there only until it is removed at its end, without opening the database. Its name was
    /// made up: that it is unique is likely, and not looked at.
    pub fn insert_fleeting(&self, row: &ContainerRow) -> Result<()> {
        Fleeting::of(self.db).put(row)
    }

    /// Whether [`Self::insert_fleeting`] added the container of this full id.
    pub fn is_fleeting(&self, id: &str) -> Result<bool> {
        Ok(Fleeting::of(self.db).get(id)?.is_some())
    }

    /// The container of this full id.
    pub fn get(&self, id: &str) -> Result<Option<ContainerRow>> {
        match Fleeting::of(self.db).get(id)? {
            Some(row) => Ok(Some(row)),
            None => by_id(&*self.db.lock()?, id).map_err(failed("read a container")),
        }
    }

    /// The container of this full id, else of this name, else the only one whose id begins so.
    pub fn find(&self, name_or_id_prefix: &str) -> Result<Option<ContainerRow>> {
        let intent = "find a container";
        if let Some(row) = Fleeting::of(self.db).get(name_or_id_prefix)? {
            return Ok(Some(row));
        }
        let connection = self.db.lock()?;
        if let Some(row) = by_id(&connection, name_or_id_prefix).map_err(failed(intent))? {
            return Ok(Some(row));
        }
        if let Some(row) = by_name(&connection, name_or_id_prefix).map_err(failed(intent))? {
            return Ok(Some(row));
        }
        let fleeting = Fleeting::of(self.db).list()?;
        if let Some(row) = fleeting.iter().find(|row| row.name == name_or_id_prefix) {
            return Ok(Some(row.clone()));
        }
        let mut rows = by_prefix(&connection, name_or_id_prefix).map_err(failed(intent))?;
        let begins = |row: &ContainerRow| !name_or_id_prefix.is_empty() && row.id.starts_with(name_or_id_prefix);
        rows.extend(fleeting.into_iter().filter(begins));
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            _ => Err(Error::AmbiguousId {
                prefix: name_or_id_prefix.to_owned(),
                matches: rows.into_iter().map(|row| row.id).collect(),
            }),
        }
    }

    /// Replaces a container's record by what `change` makes of it. Other writers wait meanwhile, so
    /// `change` decides and does nothing slow; an error of its leaves the record as it was.
    pub fn update<E: From<Error>>(
        &self,
        id: &str,
        change: impl FnOnce(String) -> std::result::Result<String, E>,
    ) -> std::result::Result<(), E> {
        let intent = "update a container";
        let fleeting = Fleeting::of(self.db);
        if let Some(row) = fleeting.get(id)? {
            let record_json = change(row.record_json)?;
            return Ok(fleeting.put(&ContainerRow { record_json, ..row })?);
        }
        self.db.write(intent, |tx| {
            let row = by_id(tx, id).map_err(failed(intent))?;
            let row = row.ok_or_else(|| Error::NoContainer { id: id.to_owned() })?;
            let record = change(row.record_json)?;
            tx.execute("UPDATE containers SET record = ?2 WHERE id = ?1", params![id, record])
                .map_err(failed(intent))?;
            Ok(())
        })
    }

    /// Gives a container another name; fails if that is taken, by itself too.
    pub fn rename(&self, id: &str, new: &str) -> Result<()> {
        let intent = "rename a container";
        refuse_fleeting_name(self.db, new)?;
        let fleeting = Fleeting::of(self.db);
        if let Some(row) = fleeting.get(id)? {
            refuse_taken_name(&*self.db.lock()?, new)?;
            return fleeting.put(&ContainerRow { name: new.to_owned(), ..row });
        }
        self.db.write(intent, |tx| {
            refuse_taken_name(tx, new)?;
            let sql = "UPDATE containers SET name = ?2 WHERE id = ?1";
            match tx.execute(sql, params![id, new]).map_err(failed(intent))? {
                0 => Err(Error::NoContainer { id: id.to_owned() }),
                _ => Ok(()),
            }
        })
    }

    /// Removes a container; `false` if there was none.
    pub fn remove(&self, id: &str) -> Result<bool> {
        let intent = "remove a container";
        if Fleeting::of(self.db).remove(id)? {
            return Ok(true);
        }
        self.db.write(intent, |tx| {
            tx.execute("DELETE FROM containers WHERE id = ?1", [id]).map(|n| n > 0).map_err(failed(intent))
        })
    }

    /// All containers, newest first.
    pub fn list(&self) -> Result<Vec<ContainerRow>> {
        let sql = "SELECT id, name, created_unix_ns, record FROM containers ORDER BY created_unix_ns DESC, id";
        let mut rows = select(&*self.db.lock()?, sql, []).map_err(failed("list containers"))?;
        let fleeting = Fleeting::of(self.db).list()?;
        if !fleeting.is_empty() {
            rows.extend(fleeting);
            rows.sort_by(|a, b| (b.created_unix_ns, &a.id).cmp(&(a.created_unix_ns, &b.id)));
        }
        Ok(rows)
    }
}

fn refuse_fleeting_name(db: &Db, name: &str) -> Result<()> {
    match Fleeting::of(db).list()?.into_iter().find(|row| row.name == name) {
        Some(row) => Err(Error::NameTaken { name: name.to_owned(), owner: row.id }),
        None => Ok(()),
    }
}

fn refuse_taken_name(connection: &Connection, name: &str) -> Result<()> {
    match by_name(connection, name).map_err(failed("look for a container's name"))? {
        Some(row) => Err(Error::NameTaken { name: name.to_owned(), owner: row.id }),
        None => Ok(()),
    }
}

fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<ContainerRow>> {
    let sql = "SELECT id, name, created_unix_ns, record FROM containers WHERE id = ?1";
    connection.prepare_cached(sql)?.query_row([id], row).optional()
}

fn by_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<ContainerRow>> {
    let sql = "SELECT id, name, created_unix_ns, record FROM containers WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([name], row).optional()
}

fn by_prefix(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<ContainerRow>> {
    // Ids are hex: anything else begins none, and `%` or `_` must not become wildcards.
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, name, created_unix_ns, record FROM containers WHERE id >= ?1 AND id < ?1 || 'g' LIMIT ?2";
    select(connection, sql, params![prefix, LISTED_MATCHES])
}

fn select(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<ContainerRow>> {
    connection.prepare_cached(sql)?.query_map(values, row)?.collect()
}

fn row(row: &Row<'_>) -> rusqlite::Result<ContainerRow> {
    Ok(ContainerRow { id: row.get(0)?, name: row.get(1)?, created_unix_ns: row.get(2)?, record_json: row.get(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db() -> (tempfile::TempDir, Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
        (dir, db)
    }

    fn container(id: &str, name: &str) -> ContainerRow {
        ContainerRow { id: id.to_owned(), name: name.to_owned(), created_unix_ns: 1, record_json: "0".to_owned() }
    }

    #[test]
    fn a_taken_name_tells_its_owner() {
        let (_dir, db) = db();
        db.containers().insert(&container("aaa1", "web")).unwrap();
        let error = db.containers().insert(&container("bbb1", "web")).unwrap_err();
        assert!(matches!(error, Error::NameTaken { ref owner, .. } if owner == "aaa1"), "{error}");
        let error = db.containers().insert(&container("aaa1", "other")).unwrap_err();
        assert!(matches!(error, Error::IdTaken { .. }), "{error}");
    }

    #[test]
    fn found_by_id_name_and_unique_prefix() {
        let (_dir, db) = db();
        // The second's name is the beginning of the first's id: the name wins.
        for (id, name) in [("abc123", "web"), ("abd456", "abc"), ("f00", "api")] {
            db.containers().insert(&container(id, name)).unwrap();
        }
        let find = |text: &str| db.containers().find(text).map(|row| row.map(|row| row.id));
        for (text, id) in [("abc123", "abc123"), ("web", "abc123"), ("abc", "abd456"), ("abc1", "abc123"), ("f", "f00")]
        {
            assert_eq!(find(text).unwrap().as_deref(), Some(id), "{text}");
        }
        for nobody in ["", "%", "_bc123", "abc1234", "nope"] {
            assert_eq!(find(nobody).unwrap(), None, "{nobody:?}");
        }
        let error = find("ab").unwrap_err();
        assert!(error.to_string().contains("abc123, abd456"), "{error}");
    }

    #[test]
    fn a_fleeting_container_is_one_like_others() {
        let (dir, db) = db();
        db.containers().insert(&container("abc1", "kept")).unwrap();
        let fleeting = ContainerRow { created_unix_ns: 2, ..container("abc2", "brisk_ferry_007") };
        db.containers().insert_fleeting(&fleeting).unwrap();
        assert!(db.containers().is_fleeting("abc2").unwrap() && !db.containers().is_fleeting("abc1").unwrap());
        let ids = || db.containers().list().unwrap().into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(), ["abc2", "abc1"], "newest first");
        for text in ["abc2", "brisk_ferry_007"] {
            assert_eq!(db.containers().find(text).unwrap().as_ref(), Some(&fleeting), "{text}");
        }
        assert!(matches!(db.containers().find("abc"), Err(Error::AmbiguousId { .. })));
        assert!(matches!(db.containers().find("../x"), Ok(None)));
        let error = db.containers().insert(&container("abc3", "brisk_ferry_007")).unwrap_err();
        assert!(matches!(error, Error::NameTaken { ref owner, .. } if owner == "abc2"), "{error}");
        assert!(matches!(db.containers().rename("abc2", "kept"), Err(Error::NameTaken { .. })));
        db.containers().rename("abc2", "other").unwrap();
        db.containers().update("abc2", |_| Ok::<_, Error>("1".to_owned())).unwrap();
        let row = db.containers().get("abc2").unwrap().unwrap();
        assert_eq!((&*row.name, &*row.record_json), ("other", "1"));
        // What a power cut left half-written is none.
        std::fs::write(dir.path().join("db.sqlite.fleeting/abc9"), "{").unwrap();
        assert_eq!(ids(), ["abc2", "abc1"]);
        assert!(db.containers().remove("abc2").unwrap() && !db.containers().remove("abc2").unwrap());
        assert_eq!(ids(), ["abc1"]);
    }

    #[test]
    fn a_fleeting_container_needs_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::at(&dir.path().join("db.sqlite"));
        db.containers().insert_fleeting(&container("abc", "x")).unwrap();
        assert!(db.containers().find("abc").unwrap().is_some());
        assert!(db.containers().remove("abc").unwrap());
        assert!(!dir.path().join("db.sqlite").exists());
    }

    #[test]
    fn concurrent_updates_are_all_kept() {
        let (dir, db) = db();
        db.containers().insert(&container("c1", "counter")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
                    for _ in 0..25 {
                        let plus_one = |n: String| Ok::<_, Error>((n.parse::<u32>().unwrap() + 1).to_string());
                        db.containers().update("c1", plus_one).unwrap();
                    }
                });
            }
        });
        assert_eq!(db.containers().get("c1").unwrap().unwrap().record_json, "200");
    }

    #[test]
    fn a_refused_update_changes_nothing() {
        let (_dir, db) = db();
        db.containers().insert(&container("c1", "x")).unwrap();
        let refuse = |_| Err(Error::NoContainer { id: "refused".to_owned() });
        assert!(db.containers().update::<Error>("c1", refuse).is_err());
        assert_eq!(db.containers().get("c1").unwrap().unwrap().record_json, "0");
        assert!(matches!(db.containers().update::<Error>("c2", Ok), Err(Error::NoContainer { .. })));
    }

    #[test]
    fn rename_and_remove() {
        let (_dir, db) = db();
        for (id, name) in [("a1", "a"), ("b1", "b")] {
            db.containers().insert(&container(id, name)).unwrap();
        }
        assert!(matches!(db.containers().rename("a1", "b"), Err(Error::NameTaken { .. })));
        assert!(matches!(db.containers().rename("zz", "z"), Err(Error::NoContainer { .. })));
        db.containers().rename("a1", "c").unwrap();
        assert_eq!(db.containers().find("c").unwrap().unwrap().id, "a1");
        assert!(db.containers().remove("a1").unwrap());
        assert!(!db.containers().remove("a1").unwrap());
        assert_eq!(db.containers().list().unwrap().len(), 1);
    }
}
