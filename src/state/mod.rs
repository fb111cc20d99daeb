//! The embedded database: durable records and their transactions, for many processes at once.
//!
//! One SQLite file in WAL mode: readers never wait for a writer, writers queue for at most
//! `BUSY_TIMEOUT`, and a process killed at any point leaves the last commit. What a record *means*
//! is its room's business; here it is a row with the columns that are searched by and a JSON text
//! that carries its own version.
//!
//! ```text
//! db.sqlite        user_version = number of migrations applied
//!   images         (name, platform) → digests, size, record   one tag may hold a linux and a wasm image
//!   containers     id → name (unique), record
//!   compiled       (code, image)               whose program a piece of compiled code is
//!   lists          name → record               a manifest list that is being put together
//!   dropped        blob → where it came from       it was not kept once its layer was unpacked
//!   seals          layer → what its files are      of the layers of such blobs
//! db.sqlite.lock   held only while a schema is made or migrated
//! db.sqlite.fleeting/<id>     a container that is removed at its end and that nobody named: one file, no transaction
//! db.sqlite.known/<digest>    what was last answered to a question about images, as long as the database is as it was
//! db.sqlite.used/<image>      an empty file, whose time of change is when the image was last used
//! ```
//!
//! A container that runs for a moment is to cost little more than its program. Opening the database, reading its log and
//! writing to it twice is the larger part of what such a container costs; the last three kinds of file save it.
//!
//! Opening costs one read of the file's header when the schema is current, since every command pays
//! for it. A database that a newer wherry has migrated is refused, never guessed at.
//!
//! Commits are `synchronous=NORMAL`: atomic whatever happens, durable against a killed process, and
//! a power cut may undo the last of them. Registering an image is durable against that too, because
//! hours of download hang on it.

mod check;
mod compiled;
mod containers;
mod dropped;
mod fleeting;
mod images;
mod known;
mod lists;
mod used;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Failure, Kind};

pub use compiled::Compiled;
pub use containers::{ContainerRow, Containers};
pub use dropped::{Dropped, Seal};
pub use images::{ImageRow, Images};
pub use lists::Lists;
pub use used::Used;

/// How long a statement waits for another process's transaction. Transactions here last
/// milliseconds; ten seconds is a machine in trouble.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages in the write-ahead log that make a commit copy them into the database. A process that opens the
/// file alone reads the whole log first, so it is kept shorter than SQLite's thousand pages.
const CHECKPOINT_PAGES: u32 = 256;

/// Each step from one schema to the next; the database's `user_version` counts those applied.
/// Append only: released steps are in users' files.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE images (
        name            TEXT    NOT NULL,
        platform        TEXT    NOT NULL,
        manifest        TEXT    NOT NULL,
        index_digest    TEXT,
        config          TEXT    NOT NULL,
        size            INTEGER NOT NULL,
        pulled_unix_ns  INTEGER NOT NULL,
        record          TEXT    NOT NULL,
        PRIMARY KEY (name, platform)
    ) WITHOUT ROWID;
    CREATE INDEX images_by_config ON images (config);
    CREATE INDEX images_by_manifest ON images (manifest);
    CREATE TABLE containers (
        id              TEXT    NOT NULL PRIMARY KEY,
        name            TEXT    NOT NULL UNIQUE,
        created_unix_ns INTEGER NOT NULL,
        record          TEXT    NOT NULL
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE compiled (
        code            TEXT    NOT NULL,
        image           TEXT    NOT NULL,
        PRIMARY KEY (code, image)
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE lists (
        name            TEXT    NOT NULL PRIMARY KEY,
        record          TEXT    NOT NULL
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE dropped (
        blob            TEXT    NOT NULL PRIMARY KEY,
        origin          TEXT    NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE seals (
        layer           TEXT    NOT NULL PRIMARY KEY,
        instance        TEXT    NOT NULL,
        seal            TEXT    NOT NULL
    ) WITHOUT ROWID;
",
];

/// The schema this build makes and reads.
const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// The database, opened when it is first needed. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Db(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    connection: OnceLock<Mutex<Connection>>,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, or its directory cannot be made.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite refuses the file.
    #[error("cannot use the database {}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A newer wherry has been here.
    #[error("the database {} has schema {found}, and this wherry knows schemas up to {known}", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema this build knows.
        known: u32,
    },
    /// A query or transaction failed.
    #[error("cannot {intent} in the database")]
    Query {
        /// What was tried.
        intent: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file beside the database cannot be read or written.
    #[error("cannot {intent} {}", path.display())]
    File {
        /// What was tried.
        intent: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A container's name is taken.
    #[error("the container name {name:?} is already in use by container {owner}")]
    NameTaken {
        /// The name.
        name: String,
        /// The id of the container that has it.
        owner: String,
    },
    /// A container's id is taken.
    #[error("a container with the id {id} exists already")]
    IdTaken {
        /// The id.
        id: String,
    },
    /// No container of that id.
    #[error("no such container: {id}")]
    NoContainer {
        /// The id.
        id: String,
    },
    /// The beginning of an id fits several containers.
    #[error("{prefix:?} is the beginning of several containers' ids: {}", matches.join(", "))]
    AmbiguousId {
        /// What was typed.
        prefix: String,
        /// The ids that fit, at most a screenful.
        matches: Vec<String>,
    },
}

/// What this room returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Open { source, .. } | Self::File { source, .. } => Kind::of_io(source),
            Self::Unusable { source, .. } | Self::Query { source, .. } => kind_of_sqlite(source),
            Self::NewerSchema { .. } => Kind::FailedPrecondition,
            Self::NameTaken { .. } | Self::IdTaken { .. } => Kind::AlreadyExists,
            Self::NoContainer { .. } => Kind::NotFound,
            Self::AmbiguousId { .. } => Kind::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NewerSchema { .. } => Some("use the newer wherry that made it, or another --root".to_owned()),
            Self::NameTaken { .. } => Some("remove or rename that container, or choose another name".to_owned()),
            Self::AmbiguousId { .. } => Some("give more characters of the id".to_owned()),
            _ => None,
        }
    }
}

fn kind_of_sqlite(error: &rusqlite::Error) -> Kind {
    use rusqlite::ErrorCode as E;
    match error.sqlite_error_code() {
        Some(E::DatabaseBusy | E::DatabaseLocked) => Kind::Unavailable,
        Some(E::DiskFull | E::OutOfMemory | E::TooBig) => Kind::ResourceExhausted,
        Some(E::DatabaseCorrupt | E::NotADatabase) => Kind::DataLoss,
        Some(E::ReadOnly | E::PermissionDenied | E::CannotOpen) => Kind::PermissionDenied,
        _ => Kind::Internal,
    }
}

impl Db {
    /// Opens the database at `path`, making it and its directory if they are not there, and brings
    /// its schema up to date.
    pub fn open(path: &Path) -> Result<Self> {
        let db = Self::at(path);
        drop(db.lock()?);
        Ok(db)
    }

    /// The database at `path`, which is opened as [`Db::open`] does when something asks for what only it knows.
    pub fn at(path: &Path) -> Self {
        Self(Arc::new(Inner { path: path.to_owned(), connection: OnceLock::new() }))
    }

    /// What is beside the database, under its name with this ending.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.0.path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    fn connect(path: &Path) -> Result<Connection> {
        let unusable = |source| Error::Unusable { path: path.to_owned(), source };
        let connection = match Connection::open(path) {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
                make_parent(path)?;
                Connection::open(path)
            }
            opened => opened,
        };
        let mut connection = connection.map_err(unusable)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(unusable)?;
        if schema(&connection).map_err(unusable)? != SCHEMA {
            migrate(&mut connection, path)?;
        }
        tune(&connection).map_err(unusable)?;
        Ok(connection)
    }

    /// The table of images.
    pub fn images(&self) -> Images<'_> {
        Images { db: self }
    }

    /// The table of containers.
    pub fn containers(&self) -> Containers<'_> {
        Containers { db: self }
    }

    /// The table of manifest lists that are being put together.
    pub fn lists(&self) -> Lists<'_> {
        Lists { db: self }
    }

    /// The tables of dropped blobs and of sealed layers.
    pub fn dropped(&self) -> Dropped<'_> {
        Dropped { db: self }
    }

    /// When images were last used.
    pub fn used(&self) -> Used {
        Used::beside(self)
    }

    /// The table of compiled code.
    pub fn compiled(&self) -> Compiled<'_> {
        Compiled { db: self }
    }

    fn lock(&self) -> Result<MutexGuard<'_, Connection>> {
        let connection = match self.0.connection.get() {
            Some(connection) => connection,
            None => {
                let opened = Self::connect(&self.0.path)?;
                self.0.connection.get_or_init(|| Mutex::new(opened))
            }
        };
        // A panic while the connection was held has rolled its transaction back; the rest is SQLite's.
        Ok(connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `body` in a transaction that owns the write lock from its start, so that it never has to
    /// be begun again because another process wrote in between.
    fn write<T, E: From<Error>>(
        &self,
        intent: &'static str,
        body: impl FnOnce(&Connection) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        write(&mut *self.lock()?, intent, body)
    }

    /// As [`Db::write`], and the commit is on the disk when it returns.
    fn write_durably<T>(&self, intent: &'static str, body: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.lock()?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed(intent))?;
        let value = write(&mut connection, intent, body);
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed(intent))?;
        value
    }
}

fn write<T, E: From<Error>>(
    connection: &mut Connection,
    intent: &'static str,
    body: impl FnOnce(&Connection) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(intent))?;
    let value = body(&transaction)?;
    transaction.commit().map_err(failed(intent))?;
    Ok(value)
}

fn tune(connection: &Connection) -> rusqlite::Result<()> {
    // A command writes twice or so and ends. The checkpoint that SQLite makes when the last connection
    // closes, and the new log that the next writer then begins, cost more than all else together: 15 ms
    // a command against 2.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn failed(intent: &'static str) -> impl Fn(rusqlite::Error) -> Error + Copy {
    move |source| Error::Query { intent, source }
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|source| Error::Open { path: path.to_owned(), source })
}

fn schema(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the schema up to date. One process at a time, by a lock of our own: switching to WAL wants
/// the file for itself and does not wait on SQLite's busy handler.
fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let unusable = |source| Error::Unusable { path: path.to_owned(), source };
    let _lock = migration_lock(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    let found = schema(connection).map_err(unusable)?;
    if found > SCHEMA {
        return Err(Error::NewerSchema { path: path.to_owned(), found, known: SCHEMA });
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(unusable)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unusable)?;
    for step in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(step).map_err(unusable)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA).map_err(unusable)?;
    transaction.commit().map_err(unusable)
}

fn migration_lock(path: &Path) -> std::io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(PathBuf::from(name))?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_openers_make_one_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/db.sqlite");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Db::open(&path).unwrap().containers().list().unwrap());
            }
        });
        let db = Db::open(&path).unwrap();
        assert_eq!(schema(&db.lock().unwrap()).unwrap(), SCHEMA);
        let mode: String = db.lock().unwrap().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        Db::open(&path).unwrap().lock().unwrap().pragma_update(None, "user_version", 999).unwrap();
        let error = Db::open(&path).unwrap_err();
        assert!(matches!(error, Error::NewerSchema { found: 999, .. }), "{error}");
        assert_eq!(schema(&Connection::open(&path).unwrap()).unwrap(), 999);
    }

    #[test]
    fn a_file_that_is_no_database_is_data_loss() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        std::fs::write(&path, "this is a text, and quite a long one, so that SQLite reads a header".repeat(40))
            .unwrap();
        assert_eq!(Db::open(&path).unwrap_err().kind(), Kind::DataLoss);
    }

    #[test]
    fn a_durable_write_leaves_the_connection_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db.sqlite")).unwrap();
        let level = || -> i64 { db.lock().unwrap().query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap() };
        let refused: Result<()> = db.write_durably("test", |_| Err(Error::NoContainer { id: "x".to_owned() }));
        assert!(refused.is_err());
        assert_eq!(level(), 1, "1 is NORMAL");
    }
}
