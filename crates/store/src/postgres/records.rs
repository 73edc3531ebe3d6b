//! Records: rows of JSON by kind and name.
//!
//! Whoever adds records, or changes several, holds the row of their counter until the commit: so numbers become visible in
//! their order, and of a kind and name at most one is open without anybody having to try again. A single change or removal
//! that opens nothing takes its row alone.

use super::ask::Ask;
use super::fault::Fault;
use super::tx::{Tx, Value};
use super::unit::clean;
use crate::engine::bounded;
use crate::engine::recorded::{Encoded, read_body};
use crate::model::*;

/// Does all of these, in their order.
pub(super) async fn write(tx: &Tx, list: &[Encoded]) -> Result<Vec<RecordWritten>, Fault> {
    let adds = list.iter().filter(|write| matches!(write, Encoded::Add { .. })).count() as i64;
    let opens = list.iter().any(|write| matches!(write, Encoded::Change { open: true, .. }));
    let mut next = 0;
    if adds > 0 || opens || list.len() > 1 {
        let sql = "UPDATE counter SET value = value + $1 WHERE name = 'record' RETURNING value";
        next = tx.query_one(sql, &[&adds]).await?.try_get::<_, i64>(0)? - adds + 1;
    }
    let mut written = Vec::with_capacity(list.len());
    let is_plain = |write: &Encoded| matches!(write, Encoded::Add { open: false, .. });
    for run in list.chunk_by(|a, b| is_plain(a) && is_plain(b)) {
        if is_plain(&run[0]) {
            add_closed(tx, run, next).await?;
            written.extend((next..).take(run.len()).map(RecordWritten::Added));
            next += run.len() as i64;
            continue;
        }
        for write in run {
            written.push(write_one(tx, write, next).await?);
            next += i64::from(matches!(write, Encoded::Add { .. }));
        }
    }
    Ok(written)
}

/// Adds records that are over, the first of them being number `first`.
async fn add_closed(tx: &Tx, run: &[Encoded], first: i64) -> Result<(), Fault> {
    let (mut kinds, mut names, mut times, mut bodies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for write in run {
        if let Encoded::Add { kind, name, at_ms, body, .. } = write {
            kinds.push(kind.as_str());
            names.push(clean(name));
            times.push(*at_ms);
            bodies.push(body.as_str());
        }
    }
    let ids: Vec<i64> = (first..).take(kinds.len()).collect();
    tx.execute(
        "INSERT INTO record(id, kind, name, open, at, version, body)
         SELECT r.id, r.kind, r.name, FALSE, r.at, 1, r.body
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[]) AS r(id, kind, name, at, body)",
        &[&ids, &kinds, &names, &times, &bodies],
    )
    .await?;
    Ok(())
}

async fn write_one(tx: &Tx, write: &Encoded, id: i64) -> Result<RecordWritten, Fault> {
    match write {
        Encoded::Add { kind, name, open, at_ms, body } => {
            if *open && let Some(there) = open_record(tx, *kind, name).await? {
                return Ok(RecordWritten::There(there));
            }
            tx.execute(
                "INSERT INTO record(id, kind, name, open, at, version, body) VALUES ($1, $2, $3, $4, $5, 1, $6)",
                &[&id, &kind.as_str(), &clean(name), open, at_ms, body],
            )
            .await?;
            Ok(RecordWritten::Added(id))
        }
        Encoded::Change { kind, id, version, open, body } => {
            let found = tx
                .query_opt(
                    "SELECT version, name FROM record WHERE id = $1 AND kind = $2 FOR UPDATE",
                    &[id, &kind.as_str()],
                )
                .await?;
            let Some(row) = found else { return Ok(RecordWritten::Missing) };
            let (now, name): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            if version.is_some_and(|version| version != now) {
                return Ok(RecordWritten::Stale);
            }
            if *open && let Some(other) = open_record(tx, *kind, &name).await?.filter(|other| other != id) {
                return Ok(RecordWritten::There(other));
            }
            tx.execute(
                "UPDATE record SET version = $2, open = $3, body = $4 WHERE id = $1",
                &[id, &(now + 1), open, body],
            )
            .await?;
            Ok(RecordWritten::Changed(now + 1))
        }
        Encoded::Remove { kind, id } => {
            let removed = tx.execute("DELETE FROM record WHERE id = $1 AND kind = $2", &[id, &kind.as_str()]).await?;
            Ok(if removed == 0 { RecordWritten::Missing } else { RecordWritten::Removed })
        }
    }
}

async fn open_record(tx: &Tx, kind: RecordKind, name: &str) -> Result<Option<i64>, Fault> {
    let sql = "SELECT id FROM record WHERE kind = $1 AND name = $2 AND open";
    let row = tx.query_opt(sql, &[&kind.as_str(), &clean(name)]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Forgets old closed records, but never the newest of a name.
pub(super) async fn prune(tx: &Tx, kind: RecordKind, before_ms: i64, keep: u32) -> Result<u64, Fault> {
    tx.execute(
        "DELETE FROM record WHERE id IN
             (SELECT old.id FROM record AS old
              WHERE old.kind = $1 AND NOT old.open AND old.at < $2 AND $3 <=
                  (SELECT count(*) FROM (SELECT 1 FROM record AS newer
                       WHERE newer.kind = $1 AND newer.name = old.name AND newer.id > old.id LIMIT $3) AS newest)
              ORDER BY old.at, old.id LIMIT $4)",
        &[&kind.as_str(), &before_ms, &i64::from(keep), &(MOST_RECORDS as i64)],
    )
    .await
}

/// Records that match.
pub(super) async fn list(tx: &Tx, query: &RecordQuery) -> Result<Vec<Record>, Fault> {
    let kind = query.kind.as_str();
    let name = query.name.as_deref().map(clean);
    let limit = bounded(query.limit) as i64;
    let first: Value<'_> = &kind;
    let mut ask = Ask::new("SELECT id, name, open, at, version, body FROM record WHERE kind = $1".to_owned(), first);
    ask.maybe("name = ?", name.as_ref());
    ask.maybe("open = ?", query.open.as_ref());
    ask.maybe("at >= ?", query.since_ms.as_ref());
    ask.maybe("at < ?", query.until_ms.as_ref());
    ask.maybe("id = ?", query.id.as_ref());
    ask.maybe("id < ?", query.before.as_ref());
    ask.maybe("id > ?", query.after.as_ref());
    ask.tail(if query.after.is_some() { "ORDER BY id LIMIT ?" } else { "ORDER BY id DESC LIMIT ?" }, &limit);
    let rows = tx.query(&ask.sql, &ask.values).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.try_get(0)?;
        found.push(Record {
            id,
            kind: query.kind,
            name: row.try_get(1)?,
            open: row.try_get(2)?,
            at_ms: row.try_get(3)?,
            version: row.try_get(4)?,
            body: read_body(id, row.try_get(5)?)?,
        });
    }
    Ok(found)
}
