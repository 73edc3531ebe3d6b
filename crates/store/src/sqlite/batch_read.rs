//! Batches, the readers' side: what is to be done, what became of each row, and how many are where.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::browse::bounded;
use super::encode;
use super::fault::Fault;
use super::operate::state;
use crate::StoreError;
use crate::engine::batched;
use crate::model::*;

const COLUMNS: &str =
    "id, sender, stream, label, state, why, created, start, spread, paused, paused_at, finished, test,
     total, fed, refused";

fn read_batch(row: &Row<'_>) -> Result<BatchView, rusqlite::Error> {
    Ok(BatchView {
        id: BatchId(row.get(0)?),
        sender: row.get(1)?,
        stream: row.get(2)?,
        label: row.get(3)?,
        state: batched::state(row.get(4)?),
        why: row.get(5)?,
        created_ms: row.get(6)?,
        start_ms: row.get(7)?,
        spread_ms: row.get(8)?,
        paused_ms: row.get(9)?,
        paused_at_ms: row.get(10)?,
        finished_ms: row.get(11)?,
        test: row.get(12)?,
        total: row.get(13)?,
        fed: row.get(14)?,
        refused: row.get(15)?,
    })
}

pub(super) fn view(connection: &Connection, id: BatchId) -> Result<BatchView, Fault> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM batch WHERE id = ?1 AND state BETWEEN 1 AND 4"))?
        .query_row([id.0], read_batch)
        .optional()?
        .ok_or(Fault::Command(StoreError::NotFound))
}

pub(super) fn list(
    connection: &Connection,
    sender: Option<&str>,
    before: Option<BatchId>,
    limit: u32,
) -> Result<Vec<BatchView>, Fault> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM batch WHERE id < ?1 AND state BETWEEN 1 AND 4 AND (?2 IS NULL OR sender = ?2)
             ORDER BY id DESC LIMIT ?3"
        ))?
        .query_map(params![before.map_or(i64::MAX, |id| id.0), sender, bounded(limit) as i64], read_batch)?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

pub(super) fn running(connection: &Connection, limit: u32) -> Result<Vec<BatchView>, Fault> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM batch INDEXED BY batch_state WHERE state = 1 ORDER BY id LIMIT ?1"
        ))?
        .query_map([bounded(limit) as i64], read_batch)?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

pub(super) fn body(connection: &Connection, id: BatchId) -> Result<String, Fault> {
    connection
        .prepare_cached("SELECT body FROM batch_body WHERE batch = ?1")?
        .query_row([id.0], |row| row.get(0))
        .optional()?
        .ok_or(Fault::Command(StoreError::NotFound))
}

pub(super) fn load(connection: &Connection, id: BatchId) -> Result<BatchLoad, Fault> {
    let found = connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(r.state <= 1 AND r.attempts = 0), 0), coalesce(sum(m.size), 0)
             FROM message m INDEXED BY message_batch CROSS JOIN recipient r ON r.message = m.id AND r.n = 0
             WHERE m.batch = ?1 AND m.pending > 0",
        )?
        .query_row([id.0], |row| {
            let (open, fresh, octets): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(BatchLoad { open: open as u64, fresh: fresh as u64, octets: octets as u64 })
        })?;
    Ok(found)
}

pub(super) fn next_rows(
    connection: &Connection,
    id: BatchId,
    after: Option<u32>,
    limit: u32,
) -> Result<Vec<BatchRow>, Fault> {
    let found = connection
        .prepare_cached(
            "SELECT n, data FROM batch_row WHERE batch = ?1 AND n > ?2 AND state = 0 AND data IS NOT NULL
             ORDER BY n LIMIT ?3",
        )?
        .query_map(params![id.0, after.map_or(-1, i64::from), bounded(limit) as i64], |row| {
            Ok(BatchRow { n: row.get(0)?, data: row.get(1)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

/// A row's state as one number: that of its recipient, or one of its own below 0.
const STATE: &str = "CASE WHEN b.state = 2 THEN -2
     WHEN b.state = 0 THEN iif(batch.state = 3, 6, -1)
     WHEN r.state IS NULL THEN -3 ELSE r.state END";
const FROM: &str = "FROM batch CROSS JOIN batch_row b ON b.batch = batch.id
     LEFT JOIN recipient r ON r.message = b.message AND r.n = 0";

fn row_state(number: i64) -> RowState {
    match number {
        -1 => RowState::Queued,
        -2 => RowState::Refused,
        number => u8::try_from(number).map_or(RowState::Gone, |number| RowState::Of(state(number))),
    }
}

pub(super) fn rows(
    connection: &Connection,
    id: BatchId,
    wanted: Option<RowState>,
    after: Option<u32>,
    limit: u32,
) -> Result<Vec<RowView>, Fault> {
    view(connection, id)?;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT b.n, b.address, {STATE} AS s, b.message, coalesce(r.attempts, 0), r.due, coalesce(b.why, r.why), r.cause
         {FROM} WHERE batch.id = ?1 AND b.n > ?2 AND (?3 IS NULL OR s = ?3) ORDER BY b.n LIMIT ?4"
    ))?;
    let after = after.map_or(-1, i64::from);
    let mut rows = statement.query(params![id.0, after, wanted.map(batched::row_number), bounded(limit) as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (address, cause): (String, Option<String>) = (row.get(1)?, row.get(7)?);
        found.push(RowView {
            n: row.get(0)?,
            address: encode::read_address(&address)?,
            state: row_state(row.get(2)?),
            message: row.get::<_, Option<i64>>(3)?.map(MessageId),
            attempts: row.get(4)?,
            due_ms: row.get(5)?,
            why: row.get(6)?,
            cause: encode::read_cause(cause.as_deref())?,
        });
    }
    Ok(found)
}

pub(super) fn counts(connection: &Connection, id: BatchId) -> Result<Vec<(RowState, u64)>, Fault> {
    view(connection, id)?;
    let found = connection
        .prepare_cached(&format!("SELECT {STATE} AS s, count(*) {FROM} WHERE batch.id = ?1 GROUP BY s ORDER BY s"))?
        .query_map([id.0], |row| {
            let (number, count): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok((row_state(number), count as u64))
        })?
        .collect::<Result<_, _>>()?;
    Ok(found)
}
