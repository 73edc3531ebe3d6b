//! Opening: the lock, the connections with their pragmas, and what is left over from the last run.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::Fault;
use super::{schema, segment};
use crate::StoreError;

/// File systems without the locks and the fsync that the store relies on: NFS, SMB, CIFS, SMB2, 9P, Ceph, AFS.
const NETWORK: [u32; 7] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f];
/// Pages of WAL at which a commit carries them over to the database: 16 MiB, a quarter of what the log may take.
const CHECKPOINT_PAGES: i64 = 4_096;

/// How often a lock that is taken is tried again, and after which pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

fn trouble(what: &str, path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Internal(format!("{what} {}: {error}", path.display()))
}

/// Creates the directories and takes the lock of the store in `dir`.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let in_use = || StoreError::Invalid(format!("the store in {} is in use by another process", dir.display()));
    try_lock(dir)?.ok_or_else(in_use)
}

/// The same; `None`: another process has it.
pub(super) fn try_lock(dir: &Path) -> Result<Option<File>, StoreError> {
    let segments = dir.join("segments");
    if !segments.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&segments)
            .map_err(|error| trouble("cannot create", &segments, error))?;
        segment::sync_dir(dir).map_err(|error| trouble("cannot sync", dir, error))?;
    }
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| trouble("cannot open", &path, error))?;
    let system = rustix::fs::fstatfs(&file).map_err(|error| trouble("cannot examine", dir, error))?;
    if NETWORK.contains(&(system.f_type as u32)) {
        return Err(StoreError::Invalid(format!(
            "{} is on a network file system, which cannot keep a queue safe: use a local one",
            dir.display()
        )));
    }
    let take = || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let mut taken = take();
    for _ in 0..TRIES {
        if taken != Err(rustix::io::Errno::WOULDBLOCK) {
            break;
        }
        // A process that we are just starting has our files for a moment, those of a store that was closed too.
        std::thread::sleep(PAUSE);
        taken = take();
    }
    match taken {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(trouble("cannot lock", &path, error)),
    }
}

fn tune(connection: &Connection, cache_kib: i64) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The writer's connection, tuned, checked and migrated.
pub(super) fn writer(database: &Path, now_ms: i64) -> Result<Connection, StoreError> {
    let open = || -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open(database)?;
        connection.pragma_update(None, "page_size", 4_096)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        tune(&connection, 8_192)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        Ok(connection)
    };
    let mut connection = open().map_err(|error| refused(database, error))?;
    for (pragma, wanted) in [("journal_mode", "wal"), ("synchronous", "2"), ("page_size", "4096")] {
        let found = connection
            .pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0))
            .map_err(|error| refused(database, error))?;
        let found = match found {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            _ => String::new(),
        };
        if found != wanted {
            return Err(StoreError::Internal(format!(
                "{} does not take {pragma} = {wanted}, it says {found}: the queue would not be durable",
                database.display()
            )));
        }
    }
    schema::migrate(&mut connection, now_ms)?;
    Ok(connection)
}

fn refused(database: &Path, error: rusqlite::Error) -> StoreError {
    match Fault::from(error) {
        Fault::Full => StoreError::Full,
        Fault::Broken(why) => StoreError::Unhealthy(format!("{}: {why}", database.display())),
        Fault::Command(error) => error,
    }
}

/// A reader's connection.
pub(super) fn read_only(database: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open_with_flags(database, flags)?;
        tune(&connection, 2_048)?;
        Ok(connection)
    };
    open().map_err(|error| refused(database, error))
}

/// Removes segments that nothing refers to; gives the number the next segment gets.
pub(super) fn tidy_segments(connection: &Connection, dir: &Path) -> Result<i64, StoreError> {
    let rows: Vec<(i64, i64)> = connection
        .prepare("SELECT id, live FROM segment")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()
        })
        .map_err(|error| StoreError::from(Fault::from(error)))?;
    let files = segment::list(dir).map_err(|error| trouble("cannot list", dir, error))?;
    let mut last = files.last().copied().unwrap_or(0);
    let mut live = std::collections::BTreeSet::new();
    for (id, count) in rows {
        last = last.max(id);
        if count > 0 {
            live.insert(id);
        } else {
            connection
                .execute("DELETE FROM segment WHERE id = ?1", [id])
                .map_err(|error| StoreError::from(Fault::from(error)))?;
        }
    }
    for id in files.difference(&live) {
        fs::remove_file(segment::path(dir, *id)).map_err(|error| trouble("cannot remove a segment in", dir, error))?;
    }
    Ok(last + 1)
}

/// Free octets for us on the file system of `dir`.
pub(super) fn free_bytes(dir: &Path) -> u64 {
    // Not knowing is no reason to refuse mail: the write itself will tell.
    rustix::fs::statvfs(dir).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Looks for structural damage, within bounds; the first problem if there is one.
pub(super) fn quick_check(connection: &mut Connection, steps: i32) -> Result<(), StoreError> {
    // The handler ends the check after `steps` virtual machine steps: a large database is checked in part.
    connection.progress_handler(steps, Some(|| true)).map_err(|error| StoreError::Internal(error.to_string()))?;
    let answer = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>).map_err(|error| StoreError::Internal(error.to_string()))?;
    match answer {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(problem) => Err(StoreError::Unhealthy(problem)),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(StoreError::Unhealthy(error.to_string())),
    }
}
