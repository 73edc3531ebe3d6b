//! Migrations: one file each, one transaction each, never two nodes at once.
//!
//! A file whose first line is `-- contract` takes something away that earlier programs need; all others only add. So nodes
//! of neighbouring versions run side by side: an earlier program starts on a later schema as long as nothing was taken away.

use tokio_postgres::Client;

use super::fault::Fault;
use super::pool::quoted;
use crate::StoreError;

/// Names and texts, in the order they are applied. A name is never used for another text.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_queue", include_str!("migrations/0001_queue.sql")),
    ("0010_digests", include_str!("migrations/0010_digests.sql")),
    ("0020_suppression", include_str!("migrations/0020_suppression.sql")),
    ("0030_batches", include_str!("migrations/0030_batches.sql")),
    ("0040_webhooks", include_str!("migrations/0040_webhooks.sql")),
    ("0050_returned", include_str!("migrations/0050_returned.sql")),
    ("0070_records", include_str!("migrations/0070_records.sql")),
    ("0080_search", include_str!("migrations/0080_search.sql")),
    ("0090_stretches", include_str!("migrations/0090_stretches.sql")),
    ("0100_shares", include_str!("migrations/0100_shares.sql")),
    ("0110_nodes", include_str!("migrations/0110_nodes.sql")),
];

fn checksum(sql: &str) -> String {
    blake3::hash(sql.as_bytes()).to_hex().to_string()
}

fn takes_away(sql: &str) -> bool {
    sql.starts_with("-- contract")
}

/// Number of the lock that migrations of a schema are made under.
fn lock(schema: &str) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(format!("pillarbox migration {schema}").as_bytes()).as_bytes()[..8]);
    i64::from_le_bytes(first)
}

/// Brings the schema to what this program writes, or says why not.
pub(super) async fn migrate(client: &Client, schema: &str, now_ms: i64) -> Result<(), Fault> {
    // Another node's migration may take long on large tables.
    client.batch_execute("SET statement_timeout TO 0; SET lock_timeout TO 0").await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&lock(schema)]).await?;
    let done = apply(client, schema, now_ms).await;
    client.execute("SELECT pg_advisory_unlock($1)", &[&lock(schema)]).await?;
    done
}

async fn apply(client: &Client, schema: &str, now_ms: i64) -> Result<(), Fault> {
    client
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {0};
             CREATE TABLE IF NOT EXISTS {0}.migration(
                 name text PRIMARY KEY, checksum text NOT NULL, takes_away boolean NOT NULL, applied bigint NOT NULL)",
            quoted(schema)
        ))
        .await?;
    let rows = client.query("SELECT name, checksum, takes_away FROM migration ORDER BY name", &[]).await?;
    let mut known = std::collections::HashSet::new();
    for row in rows {
        let (name, sum, takes_away): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        match MIGRATIONS.iter().find(|(own, _)| *own == name) {
            Some((_, sql)) if checksum(sql) == sum => {}
            Some(_) => {
                return Err(StoreError::Invalid(format!(
                    "the store's schema is not the one this program made (step {name})"
                ))
                .into());
            }
            None if takes_away => {
                return Err(StoreError::Invalid(format!(
                    "the store was changed by a newer version of this program (step {name}): use that version"
                ))
                .into());
            }
            None => tracing::info!(step = name, "the store knows more than this program; nothing it needs is gone"),
        }
        known.insert(name);
    }
    for (name, sql) in MIGRATIONS.iter().filter(|(name, _)| !known.contains(*name)) {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(sql).await?;
        client
            .execute(
                "INSERT INTO migration(name, checksum, takes_away, applied) VALUES ($1, $2, $3, $4)",
                &[name, &checksum(sql), &takes_away(sql), &now_ms],
            )
            .await?;
        client.batch_execute("COMMIT").await?;
    }
    Ok(())
}
