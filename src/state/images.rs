//! The table of images: one row for each platform that a name holds.

use rusqlite::{Connection, Row, params};

use serde::{Deserialize, Serialize};

use super::known::{self, Known};
use super::{Db, Result, failed};

/// One name's image for one platform, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// The full reference, such as `docker.io/library/alpine:latest`.
    pub name: String,
    /// The platform, such as `linux/amd64`.
    pub platform: String,
    /// The manifest's digest.
    pub manifest: String,
    /// The digest of the index that the name resolved to, if it was one.
    pub index: Option<String>,
    /// The config's digest: the image's id.
    pub config: String,
    /// Bytes of the blobs together.
    pub size: u64,
    /// When the name was given to this image, in nanoseconds since 1970.
    pub pulled_unix_ns: i64,
    /// The image room's record, versioned JSON.
    pub record_json: String,
}

/// The table of images.
pub struct Images<'a> {
    pub(super) db: &'a Db,
}

const COLUMNS: &str = "name, platform, manifest, index_digest, config, size, pulled_unix_ns, record";

impl Images<'_> {
    /// Gives `row`'s name to its image, for its platform. If another image had it, that one is kept
    /// under the name that `dangling` makes of its row, so that no image vanishes unasked. The change
    /// is on the disk when this returns.
    pub fn put(&self, row: &ImageRow, dangling: impl FnOnce(&ImageRow) -> String) -> Result<()> {
        let intent = "register an image";
        self.db.write_durably(intent, |tx| {
            let old = named(tx, &row.name).map_err(failed(intent))?;
            let old = old.into_iter().find(|old| old.platform == row.platform);
            if let Some(old) = old.filter(|old| old.manifest != row.manifest) {
                let name = dangling(&old);
                replace(tx, &ImageRow { name, ..old }).map_err(failed(intent))?;
            }
            replace(tx, row).map_err(failed(intent))
        })
    }

    /// Gives the name of `rows`, which all have the same, to their images, and takes it from all others, which are kept
    /// as [`Images::put`] keeps them. `gone` are rows that go away with it. All or nothing, and on the disk then.
    pub fn put_all(&self, rows: &[ImageRow], gone: &[ImageRow], dangling: impl Fn(&ImageRow) -> String) -> Result<()> {
        let intent = "name an image";
        let Some(name) = rows.first().map(|row| &row.name) else { return Ok(()) };
        self.db.write_durably(intent, |tx| {
            for old in named(tx, name).map_err(failed(intent))? {
                remove(tx, &old).map_err(failed(intent))?;
                if rows.iter().all(|row| row.platform != old.platform || row.manifest != old.manifest) {
                    replace(tx, &ImageRow { name: dangling(&old), ..old }).map_err(failed(intent))?;
                }
            }
            gone.iter().try_for_each(|row| remove(tx, row)).map_err(failed(intent))?;
            rows.iter().try_for_each(|row| replace(tx, row)).map_err(failed(intent))
        })
    }

    /// The images of this exact name, by platform.
    pub fn named(&self, name: &str) -> Result<Vec<ImageRow>> {
        let known = Known::about(self.db, "named", name);
        if let Some(rows) = known.answer() {
            return Ok(rows);
        }
        let rows = named(&*self.db.lock()?, name).map_err(failed("read an image"))?;
        known.keep(&rows);
        Ok(rows)
    }

    /// The rows of the image with this config digest.
    pub fn of_config(&self, config: &str) -> Result<Vec<ImageRow>> {
        let known = Known::about(self.db, "of config", config);
        if let Some(rows) = known.answer() {
            return Ok(rows);
        }
        let sql = format!("SELECT {COLUMNS} FROM images WHERE config = ?1 ORDER BY name, platform");
        let rows = select(&*self.db.lock()?, &sql, [config]).map_err(failed("read an image"))?;
        known.keep(&rows);
        Ok(rows)
    }

    /// The rows whose config's or manifest's digest begins with `prefix`, `sha256:…`.
    pub fn with_digest_prefix(&self, prefix: &str) -> Result<Vec<ImageRow>> {
        // `g` sorts after every hex digit.
        let sql = format!(
            "SELECT {COLUMNS} FROM images WHERE (config >= ?1 AND config < ?1 || 'g')
             OR (manifest >= ?1 AND manifest < ?1 || 'g') ORDER BY name, platform"
        );
        select(&*self.db.lock()?, &sql, [prefix]).map_err(failed("find an image"))
    }

    /// All rows, newest first.
    pub fn list(&self) -> Result<Vec<ImageRow>> {
        let sql = format!("SELECT {COLUMNS} FROM images ORDER BY pulled_unix_ns DESC, name, platform");
        select(&*self.db.lock()?, &sql, []).map_err(failed("list images"))
    }

    /// Removes these rows, given by name and platform, all or none. How many there were.
    pub fn remove(&self, keys: &[(&str, &str)]) -> Result<usize> {
        let intent = "remove an image";
        let removed = self.db.write(intent, |tx| {
            let mut delete =
                tx.prepare_cached("DELETE FROM images WHERE name = ?1 AND platform = ?2").map_err(failed(intent))?;
            keys.iter().try_fold(0, |sum, (name, platform)| {
                delete.execute([name, platform]).map(|n| sum + n).map_err(failed(intent))
            })
        });
        known::forget(self.db);
        removed
    }
}

fn named(connection: &Connection, name: &str) -> rusqlite::Result<Vec<ImageRow>> {
    let sql = format!("SELECT {COLUMNS} FROM images WHERE name = ?1 ORDER BY platform");
    select(connection, &sql, [name])
}

fn select(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<ImageRow>> {
    connection.prepare_cached(sql)?.query_map(values, row)?.collect()
}

fn remove(connection: &Connection, row: &ImageRow) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM images WHERE name = ?1 AND platform = ?2")?;
    delete.execute([&row.name, &row.platform]).map(drop)
}

fn replace(connection: &Connection, row: &ImageRow) -> rusqlite::Result<()> {
    let sql = format!("INSERT OR REPLACE INTO images ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    let size = i64::try_from(row.size).unwrap_or(i64::MAX);
    connection.prepare_cached(&sql)?.execute(params![
        row.name,
        row.platform,
        row.manifest,
        row.index,
        row.config,
        size,
        row.pulled_unix_ns,
        row.record_json
    ])?;
    Ok(())
}

fn row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        name: row.get(0)?,
        platform: row.get(1)?,
        manifest: row.get(2)?,
        index: row.get(3)?,
        config: row.get(4)?,
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        pulled_unix_ns: row.get(6)?,
        record_json: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db() -> (tempfile::TempDir, Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
        (dir, db)
    }

    fn image(name: &str, platform: &str, digest: &str) -> ImageRow {
        ImageRow {
            name: name.to_owned(),
            platform: platform.to_owned(),
            manifest: format!("sha256:{digest}"),
            index: None,
            config: format!("sha256:c{digest}"),
            size: 7,
            pulled_unix_ns: 1,
            record_json: "{}".to_owned(),
        }
    }

    fn dangling(old: &ImageRow) -> String {
        format!("x@{}", old.manifest)
    }

    #[test]
    fn one_name_holds_several_platforms() {
        let (_dir, db) = db();
        db.images().put(&image("x:1", "linux/amd64", "aa"), dangling).unwrap();
        db.images().put(&image("x:1", "wasi/wasm", "bb"), dangling).unwrap();
        assert_eq!(db.images().named("x:1").unwrap().len(), 2);
        assert_eq!(db.images().remove(&[("x:1", "wasi/wasm"), ("y", "z")]).unwrap(), 1);
        assert_eq!(db.images().named("x:1").unwrap(), [image("x:1", "linux/amd64", "aa")]);
    }

    #[test]
    fn an_image_whose_name_moves_on_dangles() {
        let (_dir, db) = db();
        for digest in ["aa", "aa", "bb"] {
            db.images().put(&image("x:1", "linux/amd64", digest), dangling).unwrap();
        }
        let names: Vec<_> = db.images().list().unwrap().into_iter().map(|row| (row.name, row.manifest)).collect();
        let expected = [("x:1", "sha256:bb"), ("x@sha256:aa", "sha256:aa")];
        assert_eq!(names, expected.map(|(name, digest)| (name.to_owned(), digest.to_owned())));
    }

    #[test]
    fn found_by_config_and_by_the_beginning_of_a_digest() {
        let (_dir, db) = db();
        db.images().put(&image("x:1", "linux/amd64", "aa1"), dangling).unwrap();
        db.images().put(&image("y:1", "linux/amd64", "aa2"), dangling).unwrap();
        let count = |prefix| db.images().with_digest_prefix(prefix).unwrap().len();
        assert_eq!([count("sha256:aa"), count("sha256:aa1"), count("sha256:caa2"), count("sha256:b")], [2, 1, 1, 0]);
        assert_eq!(db.images().of_config("sha256:caa1").unwrap()[0].name, "x:1");
    }
}
