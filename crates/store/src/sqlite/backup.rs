//! A consistent copy of a running store: point a data directory at it and it opens.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::fault::Fault;
use super::segment;
use super::shared::Shared;
use crate::StoreError;

fn trouble(what: &str, path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Internal(format!("backup: cannot {what} {}: {error}", path.display()))
}

/// Copies the store to `to`; gives the octets written.
///
/// Segments are kept from before the database is copied until they are copied themselves, so that every content the
/// copy refers to is in it. The database is copied in one reading transaction: shorter steps would begin anew whenever
/// a message is accepted.
pub(super) fn backup(connection: &Connection, shared: &Arc<Shared>, to: &Path) -> Result<u64, StoreError> {
    prepare(to)?;
    let _pin = shared.pin();
    let database = to.join("queue.db");
    copy_database(connection, &database)?;
    let mut bytes = fs::metadata(&database).map_err(|error| trouble("read", &database, error))?.len();
    for id in referenced(&database)? {
        let (from, into) = (segment::path(&shared.segments(), id), segment::path(&to.join("segments"), id));
        bytes += fs::copy(&from, &into).map_err(|error| trouble("copy", &from, error))?;
        File::open(&into).and_then(|file| file.sync_all()).map_err(|error| trouble("sync", &into, error))?;
    }
    for dir in [&to.join("segments"), to] {
        segment::sync_dir(dir).map_err(|error| trouble("sync", dir, error))?;
    }
    Ok(bytes)
}

fn prepare(to: &Path) -> Result<(), StoreError> {
    if to.exists() {
        let mut entries = fs::read_dir(to).map_err(|error| trouble("list", to, error))?;
        if entries.next().is_some() {
            return Err(StoreError::Invalid(format!("{} is not empty", to.display())));
        }
    }
    let segments = to.join("segments");
    DirBuilder::new().recursive(true).mode(0o700).create(&segments).map_err(|error| trouble("create", &segments, error))
}

fn copy_database(connection: &Connection, database: &Path) -> Result<(), StoreError> {
    let copy = || -> Result<(), rusqlite::Error> {
        let mut target = Connection::open(database)?;
        target.pragma_update(None, "synchronous", "FULL")?;
        Backup::new(connection, &mut target)?.run_to_completion(i32::MAX, Duration::from_millis(50), None)
    };
    copy().map_err(|error| StoreError::from(Fault::from(error)))?;
    File::open(database).and_then(|file| file.sync_all()).map_err(|error| trouble("sync", database, error))
}

/// Segments that the copy refers to.
fn referenced(database: &Path) -> Result<Vec<i64>, StoreError> {
    let list = || -> Result<Vec<i64>, rusqlite::Error> {
        // Opened for writing: a copy of a WAL database cannot be read without its side files.
        let copy = Connection::open(database)?;
        let mut statement = copy.prepare("SELECT id FROM segment WHERE live > 0 ORDER BY id")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    list().map_err(|error| StoreError::from(Fault::from(error)))
}
