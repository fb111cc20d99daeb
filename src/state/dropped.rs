//! Blobs that were dropped on purpose, once their layers were unpacked: where they came from, and what the files of the
//! layers were then.

use std::collections::HashMap;

use rusqlite::params;

use super::{Db, Result, failed};

/// The tables of dropped blobs and of sealed layers.
pub struct Dropped<'a> {
    pub(super) db: &'a Db,
}

/// What the files of a layer were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Which unpacking of the layer it is of.
    pub instance: String,
    /// The digest of its files.
    pub digest: String,
}

impl Dropped<'_> {
    /// Notes that these blobs may be dropped, and the repository that they came from. On the disk when it returns.
    pub fn add<'a>(&self, blobs: impl IntoIterator<Item = &'a str>, origin: &str) -> Result<()> {
        let intent = "note which blobs are dropped";
        self.db.write_durably(intent, |tx| {
            let mut insert =
                tx.prepare("INSERT OR REPLACE INTO dropped (blob, origin) VALUES (?1, ?2)").map_err(failed(intent))?;
            blobs.into_iter().try_for_each(|blob| insert.execute([blob, origin]).map(drop).map_err(failed(intent)))
        })
    }

    /// All of them, with where they came from.
    pub fn list(&self) -> Result<HashMap<String, String>> {
        let intent = "list dropped blobs";
        let connection = self.db.lock()?;
        let mut select = connection.prepare_cached("SELECT blob, origin FROM dropped").map_err(failed(intent))?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed(intent))?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed(intent))
    }

    /// Forgets those that are to be kept from now on, or that nobody needs any more.
    pub fn forget(&self, gone: impl Fn(&str) -> bool) -> Result<()> {
        let gone: Vec<String> = self.list()?.into_keys().filter(|blob| gone(blob)).collect();
        self.delete("forget dropped blobs", "DELETE FROM dropped WHERE blob = ?1", &gone)
    }

    /// Notes what the files of a layer are.
    pub fn seal(&self, layer: &str, seal: &Seal) -> Result<()> {
        let intent = "seal a layer";
        self.db.write(intent, |tx| {
            let sql = "INSERT OR REPLACE INTO seals (layer, instance, seal) VALUES (?1, ?2, ?3)";
            tx.execute(sql, params![layer, seal.instance, seal.digest]).map(drop).map_err(failed(intent))
        })
    }

    /// What is known of the files of layers.
    pub fn seals(&self) -> Result<HashMap<String, Seal>> {
        let intent = "list sealed layers";
        let connection = self.db.lock()?;
        let mut select =
            connection.prepare_cached("SELECT layer, instance, seal FROM seals").map_err(failed(intent))?;
        let seal = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Seal { instance: row.get(1)?, digest: row.get(2)? }));
        let rows = select.query_map([], seal).map_err(failed(intent))?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed(intent))
    }

    /// Forgets the layers that are not there any more.
    pub fn unseal(&self, gone: impl Fn(&str) -> bool) -> Result<()> {
        let gone: Vec<String> = self.seals()?.into_keys().filter(|layer| gone(layer)).collect();
        self.delete("forget sealed layers", "DELETE FROM seals WHERE layer = ?1", &gone)
    }

    /// Deletes a row for each key; without keys nothing is written.
    fn delete(&self, intent: &'static str, sql: &str, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.db.write(intent, |tx| {
            let mut delete = tx.prepare(sql).map_err(failed(intent))?;
            keys.iter().try_for_each(|key| delete.execute([key]).map(drop).map_err(failed(intent)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_and_sealed_is_known_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
        let dropped = db.dropped();
        dropped.add(["a", "b"], "r.io/x").unwrap();
        dropped.add(["b"], "r.io/y").unwrap();
        dropped.forget(|blob| blob == "a").unwrap();
        assert_eq!(dropped.list().unwrap(), HashMap::from([("b".to_owned(), "r.io/y".to_owned())]));
        let seal = |digest: &str| Seal { instance: "1".to_owned(), digest: digest.to_owned() };
        dropped.seal("l", &seal("one")).unwrap();
        dropped.seal("l", &seal("two")).unwrap();
        assert_eq!(dropped.seals().unwrap(), HashMap::from([("l".to_owned(), seal("two"))]));
        dropped.unseal(|layer| layer == "l").unwrap();
        assert!(dropped.seals().unwrap().is_empty());
    }
}
