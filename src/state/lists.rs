//! The table of manifest lists that are being put together, each under the name that it is to be pushed to.

use rusqlite::OptionalExtension;

use super::{Db, Result, failed};

/// The table of manifest lists.
pub struct Lists<'a> {
    pub(super) db: &'a Db,
}

impl Lists<'_> {
    /// The record of the list of this name.
    pub fn get(&self, name: &str) -> Result<Option<String>> {
        get(&*self.db.lock()?, name)
    }

    /// Replaces a list by what `change` makes of it, `None` for none, and gives back what else it makes. Nobody else
    /// changes the list meanwhile, and the change is on the disk when this returns.
    pub fn change<T>(&self, name: &str, change: impl FnOnce(Option<String>) -> (Option<String>, T)) -> Result<T> {
        let intent = "change a manifest list";
        self.db.write_durably(intent, |tx| {
            let old = get(tx, name)?;
            let (new, made) = change(old.clone());
            let written = match &new {
                _ if new == old => Ok(0),
                Some(record) => {
                    tx.execute("INSERT OR REPLACE INTO lists (name, record) VALUES (?1, ?2)", [name, record])
                }
                None => tx.execute("DELETE FROM lists WHERE name = ?1", [name]),
            };
            written.map(|_| made).map_err(failed(intent))
        })
    }
}

fn get(connection: &rusqlite::Connection, name: &str) -> Result<Option<String>> {
    let mut read = connection.prepare_cached("SELECT record FROM lists WHERE name = ?1").map_err(failed(READ))?;
    read.query_row([name], |row| row.get(0)).optional().map_err(failed(READ))
}

const READ: &str = "read a manifest list";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_changed_by_one_at_a_time_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let db = Db::open(path).unwrap();
                    db.lists().change("x", |old| (Some(old.unwrap_or_default() + &n.to_string()), ())).unwrap();
                });
            }
        });
        let db = Db::open(&path).unwrap();
        assert_eq!(db.lists().get("x").unwrap().unwrap().len(), 8);
        assert_eq!(db.lists().change("x", |old| (None, old.map(|old| old.len()))).unwrap(), Some(8));
        assert_eq!(db.lists().get("x").unwrap(), None);
    }
}
