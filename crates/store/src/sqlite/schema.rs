//! The schema: numbered SQL files, one transaction each, with a checksum in the database.
//!
//! Forward only. A database written by a newer version is refused, never touched.

use rusqlite::{Connection, OptionalExtension, params};

use crate::StoreError;

/// All migrations, oldest first; the position is the version.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_queue", include_str!("migrations/0001_queue.sql")),
    ("0002_usage", include_str!("migrations/0002_usage.sql")),
    ("0040_webhooks", include_str!("migrations/0040_webhooks.sql")),
    ("0030_batches", include_str!("migrations/0030_batches.sql")),
    ("0020_suppression", include_str!("migrations/0020_suppression.sql")),
    ("0050_returned", include_str!("migrations/0050_returned.sql")),
    ("0010_digests", include_str!("migrations/0010_digests.sql")),
    ("0060_tls_reports", include_str!("migrations/0060_tls_reports.sql")),
    ("0070_records", include_str!("migrations/0070_records.sql")),
    ("0080_search", include_str!("migrations/0080_search.sql")),
    ("0090_stretches", include_str!("migrations/0090_stretches.sql")),
];

/// Version this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

fn internal(error: rusqlite::Error) -> StoreError {
    StoreError::Internal(format!("schema: {error}"))
}

fn checksum(sql: &str) -> String {
    blake3::hash(sql.as_bytes()).to_hex().to_string()
}

/// Version of a database.
pub(super) fn version(connection: &Connection) -> Result<i64, StoreError> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(internal)
}

/// Brings the database to [`VERSION`], or says why not.
pub(super) fn migrate(connection: &mut Connection, now_ms: i64) -> Result<(), StoreError> {
    let version = version(connection)?;
    if version > VERSION {
        return Err(StoreError::Invalid(format!(
            "the store was written by a newer version of this program (schema {version}, this program knows {VERSION}): use that version"
        )));
    }
    verify_checksums(connection, version)?;
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().skip(usize::try_from(version).unwrap_or(0)) {
        let number = index as i64 + 1;
        let transaction = connection.transaction().map_err(internal)?;
        transaction
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS migration(
                     number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied INTEGER NOT NULL)",
            )
            .map_err(internal)?;
        transaction.execute_batch(sql).map_err(internal)?;
        transaction
            .execute("INSERT INTO migration VALUES (?1, ?2, ?3, ?4)", params![number, name, checksum(sql), now_ms])
            .map_err(internal)?;
        transaction.pragma_update(None, "user_version", number).map_err(internal)?;
        transaction.commit().map_err(internal)?;
    }
    Ok(())
}

/// A migration that was edited after it ran would leave a database nobody ever tested.
fn verify_checksums(connection: &Connection, version: i64) -> Result<(), StoreError> {
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().take(usize::try_from(version).unwrap_or(0)) {
        let found: Option<String> = connection
            .query_row("SELECT checksum FROM migration WHERE number = ?1", [index as i64 + 1], |row| row.get(0))
            .optional()
            .map_err(internal)?;
        if found.as_deref() != Some(checksum(sql).as_str()) {
            return Err(StoreError::Invalid(format!(
                "the store's schema is not the one this program made (step {name})"
            )));
        }
    }
    Ok(())
}
